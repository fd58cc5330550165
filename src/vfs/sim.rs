//! A simulated disk, for tests: it loses power, fills up and fails as disks do.
//!
//! # Method
//! A [`Disk`] is a file system in memory that knows what is durable and what is not. Each file has its
//! durable bytes and length, and the list of writes and length changes since its last sync; each
//! directory its durable names, and the list of name operations since its last `sync_dir`. Bytes are
//! held in shared pages of 4 KiB, so that copying a whole disk costs a reference per file: hundreds of
//! thousands of disks are made in a test.
//!
//! An [`Image`] is the state of a disk: what is durable, and what is pending. [`Image::power_cut`] makes
//! of it one of the disks that a power cut may leave, as a [`Lot`] decides:
//! - of each unsynced 512-byte sector, any of the versions it had since the sync, or a torn mixture of
//!   two of them;
//! - of each file, any length it had since the sync, zeros where the data did not come;
//! - of each directory, any subset of the pending operations. A rename is one operation. One that makes
//!   no sense without another that was lost (a rename of a file whose creation was lost) is lost too.
//!
//! Files and directories are independent of each other, so everything is reordered across them.
//!
//! A disk on which [`Disk::start_trace`] was called records every change, and the marks that a test
//! sets; [`Trace::walk`] goes through them again and shows the image before each sync.
//!
//! # Faults
//! A [`Fault`] makes the n-th operation that it concerns fail, once or from then on. After a failed sync
//! what was unsynced is lost: the program still reads it, no later sync makes it durable, and by lot
//! some of its sectors are on the disk all the same. A hook sees every operation before it happens, and
//! may make it fail or take its time.
//!
//! # Invariants
//! The disk gives no other guarantee than `vfs` names, but for one: a directory made directly under the
//! root is durable at once, because no test can sync the root's parent.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Entry, File, Fs, Lock, Open, Space};
use crate::sync::Mutex;

/// Bytes that a disk writes at once, or tears.
pub const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// What a file system is asked to do, as the hook and the faults see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening a file, existing or new.
    Open,
    /// Reading bytes or a directory.
    Read,
    /// Writing bytes.
    Write,
    /// `sync_data` or `sync_all`.
    Sync,
    /// `set_len` or `allocate`.
    Resize,
    /// Making a directory.
    CreateDir,
    /// Renaming or linking.
    Rename,
    /// Removing a file or directory.
    Remove,
    /// `sync_dir`.
    SyncDir,
    /// `try_lock`.
    Lock,
}

/// A generator of numbers from one seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number().checked_rem(limit).unwrap_or(0)
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Any operation fails with EIO.
    Io,
    /// What takes space fails with ENOSPC.
    Full,
    /// A write fails after part of its bytes.
    Short,
    /// A sync, of a file or a directory, fails with EIO.
    Sync,
    /// A read answers with one bit changed.
    Flip,
    /// Other threads go first.
    Slow,
}

/// Trouble at a certain operation.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What goes wrong.
    pub trouble: Trouble,
    /// With the how manieth operation that it concerns, from 1.
    pub nth: u64,
    /// Whether it stays so.
    pub forever: bool,
    /// For what is left to chance.
    pub seed: u64,
}

impl Trouble {
    fn concerns(self, operation: Operation) -> bool {
        use Operation::*;
        match self {
            Trouble::Io | Trouble::Slow => true,
            Trouble::Full => matches!(operation, Open | Write | Resize | CreateDir | Rename),
            Trouble::Short => operation == Write,
            Trouble::Sync => matches!(operation, Sync | SyncDir),
            Trouble::Flip => operation == Read,
        }
    }
}

/// A fault at work.
struct Running {
    fault: Fault,
    seen: u64,
    hits: u64,
    rng: Rng,
}

/// Bytes in shared pages. A page that is not there is zeros.
#[derive(Clone, Default)]
struct Content {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    len: u64,
}

impl Content {
    fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = buffer.len().min(left);
        let mut done = 0;
        while done < n {
            let at = offset + done as u64;
            let within = (at % PAGE as u64) as usize;
            let part = (PAGE - within).min(n - done);
            match self.pages.get(&(at / PAGE as u64)) {
                Some(page) => {
                    buffer[done..done + part].copy_from_slice(&page[within..within + part]);
                }
                None => buffer[done..done + part].fill(0),
            }
            done += part;
        }
        n
    }

    /// Whether these bytes stand there already.
    fn has(&self, bytes: &[u8], offset: u64) -> bool {
        let mut there = [0; SECTOR];
        let there = &mut there[..bytes.len().min(SECTOR)];
        self.len >= offset + bytes.len() as u64
            && self.read(there, offset) == bytes.len()
            && there == bytes
    }

    fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = (at % PAGE as u64) as usize;
            let part = (PAGE - within).min(bytes.len() - done);
            let page = self.pages.entry(at / PAGE as u64).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + part].copy_from_slice(&bytes[done..done + part]);
            done += part;
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    fn resize(&mut self, len: u64) {
        if len < self.len {
            let within = (len % PAGE as u64) as usize;
            let keep = len.div_ceil(PAGE as u64);
            self.pages.split_off(&keep);
            if within > 0
                && let Some(page) = self.pages.get_mut(&(len / PAGE as u64))
            {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes } => self.write(bytes, *offset),
            Change::Resize(len) => self.resize(*len),
        }
    }
}

/// A change of a file that is not synced.
#[derive(Clone)]
enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    Resize(u64),
}

#[derive(Clone, Default)]
struct Inode {
    live: Content,
    durable: Content,
    pending: Vec<Change>,
    /// A sync failed: what a program reads may never come to the disk.
    lost: bool,
}

impl Inode {
    fn of(content: Content) -> Inode {
        Inode { durable: content.clone(), live: content, ..Inode::default() }
    }

    fn sync(&mut self) {
        if !self.lost {
            self.durable = self.live.clone();
            self.pending.clear();
            return;
        }
        for change in std::mem::take(&mut self.pending) {
            self.durable.apply(&change);
        }
        self.durable.resize(self.live.len);
    }

    /// What a power cut leaves of it.
    fn power_cut(&self, lot: &mut Lot, hash: &mut DefaultHasher) -> Content {
        let mut content = self.durable.clone();
        if self.pending.is_empty() {
            return content;
        }
        let mut lengths = vec![content.len];
        for change in &self.pending {
            let last = lengths.last().copied().unwrap_or(0);
            lengths.push(match change {
                Change::Write { offset, bytes } => last.max(offset + bytes.len() as u64),
                Change::Resize(len) => *len,
            });
        }
        let sectors = self.pending.iter().fold(0, |sum, change| match change {
            Change::Write { offset, bytes } => sum + sectors(*offset, bytes.len()),
            Change::Resize(_) => sum,
        });
        lot.begin_file(sectors);
        // Lengths that differ only in when they were had are one choice.
        let mut different: Vec<usize> = Vec::new();
        for (index, len) in lengths.iter().enumerate() {
            if !different.iter().any(|other| lengths[*other] == *len) {
                different.push(index);
            }
        }
        let shrinks = lengths.windows(2).any(|pair| pair[1] < pair[0]);
        let chosen = if shrinks {
            lot.length(lengths.len())
        } else {
            different.get(lot.length(different.len())).copied().unwrap_or(0)
        };
        let len = lengths.get(chosen).copied().unwrap_or(0);
        let mut touched = BTreeSet::new();
        let mut frozen = BTreeSet::new();
        for (index, change) in (1..).zip(&self.pending) {
            match change {
                Change::Resize(len) if index <= chosen => {
                    if *len < content.len {
                        content.resize(*len);
                    }
                }
                Change::Resize(_) => {}
                Change::Write { offset, bytes } => {
                    let mut at = *offset;
                    let mut rest: &[u8] = bytes;
                    while !rest.is_empty() {
                        let room = SECTOR - (at % SECTOR as u64) as usize;
                        let (part, later) = rest.split_at(room.min(rest.len()));
                        let sector = at / SECTOR as u64;
                        touched.insert(sector);
                        // What lies behind the length is lost with it.
                        if !frozen.contains(&sector) && at < len && !content.has(part, at) {
                            let whole = lot.sector(part, at, &mut content);
                            if !whole {
                                frozen.insert(sector);
                            }
                        }
                        at += part.len() as u64;
                        rest = later;
                    }
                }
            }
        }
        content.resize(len);
        len.hash(hash);
        let mut bytes = [0; SECTOR];
        for sector in touched {
            let n = content.read(&mut bytes, sector * SECTOR as u64);
            bytes[..n].hash(hash);
        }
        content
    }
}

fn sectors(offset: u64, len: usize) -> u64 {
    (offset + len as u64).div_ceil(SECTOR as u64) - offset / SECTOR as u64
}

/// Decides what a power cut leaves.
pub enum Lot {
    /// Everything that was pending.
    All,
    /// Nothing of it.
    Nothing,
    /// By chance.
    Chance(Chance),
    /// One after the other, see [`Lot::each`].
    Each(Each),
}

/// Chance from a seed.
pub struct Chance {
    rng: Rng,
    /// Of 256 sectors so many are torn.
    torn: u64,
    /// Of 256 names so many are kept.
    names: u64,
    file: Mode,
}

/// How the sectors of a file come to the disk.
enum Mode {
    All,
    Nothing,
    /// In order, so many.
    First(u64),
    /// Of 256, so many.
    Some(u64),
}

/// Every possibility once, with two ways of tearing a sector.
#[derive(Default)]
pub struct Each {
    /// What was chosen, of how many.
    choices: Vec<(u32, u32)>,
    at: usize,
}

impl Each {
    fn choose(&mut self, options: u32) -> u32 {
        if options < 2 {
            return 0;
        }
        if self.at == self.choices.len() {
            self.choices.push((0, options));
        }
        let chosen = self.choices.get(self.at).map_or(0, |(chosen, _)| *chosen);
        self.at += 1;
        chosen
    }
}

impl Lot {
    /// The chance of a seed.
    pub fn chance(seed: u64) -> Lot {
        let mut rng = Rng::new(seed);
        let torn = [0, 0, 8, 64][rng.below(4) as usize];
        let names = [0, 128, 128, 256][rng.below(4) as usize];
        Lot::Chance(Chance { rng, torn, names, file: Mode::All })
    }

    /// A lot that goes through all possibilities: use it, then [`Lot::go_on`], until that says `false`.
    pub fn each() -> Lot {
        Lot::Each(Each::default())
    }

    /// Moves to the next possibility; `false` when there is none.
    pub fn go_on(&mut self) -> bool {
        let Lot::Each(each) = self else { return false };
        each.at = 0;
        while let Some((chosen, options)) = each.choices.pop() {
            if chosen + 1 < options {
                each.choices.push((chosen + 1, options));
                return true;
            }
        }
        false
    }

    fn begin_file(&mut self, sectors: u64) {
        let Lot::Chance(chance) = self else { return };
        chance.file = match chance.rng.below(6) {
            0 => Mode::All,
            1 => Mode::Nothing,
            2 => Mode::First(chance.rng.below(sectors + 1)),
            3 => Mode::Some(240),
            4 => Mode::Some(16),
            _ => Mode::Some(128),
        };
    }

    /// Whether a pending name operation is kept.
    fn name(&mut self) -> bool {
        match self {
            Lot::All => true,
            Lot::Nothing => false,
            Lot::Chance(chance) => chance.rng.below(256) < chance.names,
            Lot::Each(each) => each.choose(2) == 1,
        }
    }

    /// Which of so many lengths, the durable one first.
    fn length(&mut self, lengths: usize) -> usize {
        match self {
            Lot::All => lengths.saturating_sub(1),
            Lot::Nothing => 0,
            Lot::Chance(chance) => match chance.rng.below(4) {
                0 => 0,
                1 => chance.rng.below(lengths as u64) as usize,
                _ => lengths.saturating_sub(1),
            },
            Lot::Each(each) => each.choose(u32::try_from(lengths).unwrap_or(u32::MAX)) as usize,
        }
    }

    /// Brings one write's part of a sector to the disk, or not; `false` when it, or what comes after it,
    /// is not there as it was written.
    fn sector(&mut self, part: &[u8], at: u64, content: &mut Content) -> bool {
        enum Fate {
            Kept,
            Lost,
            Torn(usize),
            Mixed(u64),
        }
        let fate = match self {
            Lot::All => Fate::Kept,
            Lot::Nothing => Fate::Lost,
            Lot::Each(each) => match each.choose(4) {
                0 => Fate::Lost,
                1 => Fate::Kept,
                2 => Fate::Torn(part.len() / 2),
                _ => Fate::Mixed(0x5555_5555),
            },
            Lot::Chance(chance) => {
                let kept = match &mut chance.file {
                    Mode::All => true,
                    Mode::Nothing => false,
                    Mode::First(left) => {
                        let kept = *left > 0;
                        *left = left.saturating_sub(1);
                        kept
                    }
                    Mode::Some(of_256) => chance.rng.below(256) < *of_256,
                };
                if chance.torn > 0 && chance.rng.below(256) < chance.torn {
                    match chance.rng.below(2) {
                        0 => Fate::Torn(chance.rng.below(part.len() as u64) as usize),
                        _ => Fate::Mixed(chance.rng.number()),
                    }
                } else if kept {
                    Fate::Kept
                } else {
                    Fate::Lost
                }
            }
        };
        match fate {
            Fate::Kept => content.write(part, at),
            Fate::Lost => return false,
            Fate::Torn(n) => {
                content.write(&part[..n.min(part.len())], at);
                return false;
            }
            Fate::Mixed(seed) => {
                let mut mixture = vec![0; part.len()];
                content.read(&mut mixture, at);
                let mut rng = Rng::new(seed);
                for (target, new) in mixture.chunks_mut(8).zip(part.chunks(8)) {
                    if rng.number() & 1 == 1 {
                        target.copy_from_slice(new);
                    }
                }
                content.write(&mixture, at);
                return false;
            }
        }
        true
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Node {
    Directory,
    File(u64),
}

/// A name operation that is not synced.
#[derive(Clone, Debug)]
enum Naming {
    Set(Arc<Path>, Node),
    Remove(Arc<Path>, Node),
    Rename(Arc<Path>, Arc<Path>, Node),
}

impl Naming {
    fn directory(&self) -> Option<&Path> {
        match self {
            Naming::Set(path, _) | Naming::Remove(path, _) | Naming::Rename(_, path, _) => {
                path.parent()
            }
        }
    }

    fn node(&self) -> Node {
        match self {
            Naming::Set(_, node) | Naming::Remove(_, node) | Naming::Rename(_, _, node) => *node,
        }
    }

    /// Does it, if it makes sense.
    fn apply(&self, names: &mut Names) {
        match self {
            Naming::Set(path, node) => {
                names.entry(path.clone()).or_insert(*node);
            }
            Naming::Remove(path, node) => {
                let filled = *node == Node::Directory
                    && names.keys().any(|child| child.parent() == Some(path));
                if names.get(path) == Some(node) && !filled {
                    names.remove(path);
                }
            }
            Naming::Rename(from, to, node) => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                    names.insert(to.clone(), *node);
                }
            }
        }
    }
}

type Names = BTreeMap<Arc<Path>, Node>;

/// The state of a disk: what a program sees, what is durable, and what is pending.
#[derive(Clone, Default)]
pub struct Image {
    files: BTreeMap<u64, Arc<Inode>>,
    live: Names,
    durable: Names,
    pending: Vec<Naming>,
    next_file: u64,
}

/// A change of a disk.
#[derive(Clone)]
enum Event {
    Write {
        file: u64,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    Resize {
        file: u64,
        len: u64,
    },
    Sync {
        file: u64,
        name: Arc<Path>,
    },
    /// A sync that failed; the seed tells what is on the disk all the same, 0: nothing.
    SyncFailed {
        file: u64,
        seed: u64,
    },
    NewFile {
        file: u64,
    },
    Name(Naming),
    SyncDir(Arc<Path>),
    Mark(u64),
}

impl Image {
    /// Bytes of all files that have a name.
    fn used(&self) -> u64 {
        let named: BTreeSet<u64> = self
            .live
            .values()
            .filter_map(|node| match node {
                Node::File(file) => Some(*file),
                Node::Directory => None,
            })
            .collect();
        named
            .iter()
            .filter_map(|file| self.files.get(file))
            .fold(0, |sum, inode| sum.saturating_add(inode.live.len))
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Write { file, offset, bytes } => {
                if let Some(inode) = self.files.get_mut(file).map(Arc::make_mut) {
                    inode.live.write(bytes, *offset);
                    inode.pending.push(Change::Write { offset: *offset, bytes: bytes.clone() });
                }
            }
            Event::Resize { file, len } => {
                if let Some(inode) = self.files.get_mut(file).map(Arc::make_mut) {
                    inode.live.resize(*len);
                    inode.pending.push(Change::Resize(*len));
                }
            }
            Event::Sync { file, .. } => {
                if let Some(inode) = self.files.get_mut(file).map(Arc::make_mut) {
                    inode.sync();
                }
            }
            Event::SyncFailed { file, seed } => {
                if let Some(inode) = self.files.get_mut(file).map(Arc::make_mut) {
                    if *seed != 0 {
                        let mut unused = DefaultHasher::new();
                        inode.durable = inode.power_cut(&mut Lot::chance(*seed), &mut unused);
                    }
                    inode.pending.clear();
                    inode.lost = true;
                }
            }
            Event::NewFile { file } => {
                self.files.insert(*file, Arc::default());
                self.next_file = self.next_file.max(file + 1);
            }
            Event::Name(naming) => {
                if let Naming::Rename(_, to, _) = naming {
                    self.live.remove(to);
                }
                naming.apply(&mut self.live);
                let top = naming.directory().is_none_or(|directory| {
                    directory == Path::new("/") || directory.as_os_str().is_empty()
                });
                if top && naming.node() == Node::Directory {
                    naming.apply(&mut self.durable);
                } else {
                    self.pending.push(naming.clone());
                }
            }
            Event::SyncDir(path) => {
                let (durable, pending) = (&mut self.durable, &mut self.pending);
                pending.retain(|naming| {
                    let here = naming.directory() == Some(path);
                    if here {
                        naming.apply(durable);
                    }
                    !here
                });
            }
            Event::Mark(_) => {}
        }
    }

    /// Forgets files without a name that nobody has open.
    fn sweep(&mut self, open: &BTreeMap<u64, usize>) {
        let mut named: BTreeSet<u64> = open.keys().copied().collect();
        let nodes = self.live.values().chain(self.durable.values()).copied();
        for node in nodes.chain(self.pending.iter().map(Naming::node)) {
            if let Node::File(file) = node {
                named.insert(file);
            }
        }
        self.files.retain(|file, _| named.contains(file));
    }

    /// A disk in this state, without locks, hook and faults.
    pub fn disk(&self) -> Disk {
        let state = State { image: self.clone(), ..State::default() };
        Disk { shared: Arc::new(Shared { state: Mutex::new(state), ..Shared::default() }) }
    }

    /// One of the states that a power cut now may leave, and a hash that tells it from others of this image.
    pub fn power_cut(&self, lot: &mut Lot) -> (Image, u64) {
        let mut hash = DefaultHasher::new();
        let mut names = self.durable.clone();
        for naming in &self.pending {
            if lot.name() {
                naming.apply(&mut names);
            }
        }
        let mut reached: Names = BTreeMap::new();
        for (path, node) in names {
            let parent =
                path.parent().filter(|p| !p.as_os_str().is_empty() && *p != Path::new("/"));
            if parent.is_none_or(|parent| reached.get(parent) == Some(&Node::Directory)) {
                path.hash(&mut hash);
                node.hash(&mut hash);
                reached.insert(path, node);
            }
        }
        let image = Image { next_file: self.next_file, ..Image::default() };
        let mut image = Image { live: reached.clone(), durable: reached, ..image };
        for node in image.live.values() {
            if let Node::File(file) = node
                && !image.files.contains_key(file)
                && let Some(inode) = self.files.get(file)
            {
                let left = if inode.pending.is_empty() && !inode.lost {
                    inode.clone()
                } else {
                    Arc::new(Inode::of(inode.power_cut(lot, &mut hash)))
                };
                image.files.insert(*file, left);
            }
        }
        (image, hash.finish())
    }
}

/// What happened to a disk since [`Disk::start_trace`].
#[derive(Clone)]
pub struct Trace {
    base: Image,
    events: Vec<Event>,
}

/// A place of a trace where the power may fail.
pub struct Point<'a> {
    /// Its number, from 0.
    pub number: usize,
    /// What is about to be synced; `None` at the end of the trace.
    pub syncing: Option<&'a Path>,
    /// The state.
    pub image: &'a Image,
    /// The marks set so far.
    pub marks: &'a [u64],
}

impl Trace {
    /// Shows the state before each sync, and at the end.
    pub fn walk(&self, visit: &mut dyn FnMut(Point<'_>)) {
        let mut image = self.base.clone();
        let mut marks = Vec::new();
        let mut number = 0;
        for event in &self.events {
            let syncing = match event {
                Event::Sync { name, .. } => Some(name),
                Event::SyncDir(path) => Some(path),
                Event::Mark(mark) => {
                    marks.push(*mark);
                    None
                }
                _ => None,
            };
            if let Some(path) = syncing {
                visit(Point { number, syncing: Some(path), image: &image, marks: &marks });
                number += 1;
            }
            image.apply(event);
        }
        visit(Point { number, syncing: None, image: &image, marks: &marks });
    }

    /// How often something was synced.
    pub fn syncs(&self) -> usize {
        let sync = |event: &&Event| matches!(event, Event::Sync { .. } | Event::SyncDir(_));
        self.events.iter().filter(sync).count()
    }
}

type Hook = Box<dyn FnMut(Operation, &Path) -> io::Result<()> + Send>;

/// A simulated disk. Cloning gives another handle to the same one. Any thread may call.
#[derive(Clone, Default)]
pub struct Disk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
    locks: Mutex<BTreeSet<PathBuf>>,
    /// Bytes that all files may have together; 0: no bound.
    capacity: AtomicU64,
}

/// What a disk without a bound says of its room.
const ENDLESS: u64 = 1 << 40;

#[derive(Default)]
struct State {
    image: Image,
    /// Handles of each file.
    open: BTreeMap<u64, usize>,
    trace: Option<Trace>,
    fault: Option<Running>,
}

impl State {
    fn change(&mut self, event: Event) {
        self.image.apply(&event);
        if let Some(trace) = &mut self.trace {
            trace.events.push(event);
        }
    }

    /// The fault's doing with this operation, if it is its turn.
    fn trouble(&mut self, operation: Operation) -> Option<(Trouble, u64)> {
        let running = self.fault.as_mut()?;
        let Fault { trouble, nth, forever, .. } = running.fault;
        if !trouble.concerns(operation) {
            return None;
        }
        running.seen += 1;
        let now = running.seen == nth || (forever && running.seen > nth);
        now.then(|| {
            running.hits += 1;
            (trouble, running.rng.number())
        })
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) else {
            return Ok(());
        };
        match self.image.live.get(parent) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None if parent == Path::new("/") => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.image.live.get(path) {
            Some(Node::File(file)) => Ok(*file),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        match self.image.live.get(path) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None if path == Path::new("/") => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn new_file(&mut self, path: &Path) -> u64 {
        let file = self.image.next_file;
        self.change(Event::NewFile { file });
        self.change(Event::Name(Naming::Set(path.into(), Node::File(file))));
        file
    }

    fn entry(&self, path: &Path) -> io::Result<Entry> {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match self.image.live.get(path) {
            Some(Node::Directory) => Ok(Entry { name, is_dir: true, len: 0 }),
            Some(Node::File(file)) => {
                let len = self.image.files.get(file).map_or(0, |inode| inode.live.len);
                Ok(Entry { name, is_dir: false, len })
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// EIO, as the system would report it.
fn io_error() -> io::Error {
    io::Error::other("input/output error (simulated)")
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Disk {
        Disk::default()
    }

    /// Calls `hook` before every operation from now on; its error becomes the operation's.
    pub fn on_operation(
        &self,
        hook: impl FnMut(Operation, &Path) -> io::Result<()> + Send + 'static,
    ) {
        *self.shared.hook.lock() = Some(Box::new(hook));
    }

    /// From now on all files may have so many bytes together; what would need more fails with `StorageFull`. 0:
    /// no bound.
    pub fn limit_to(&self, bytes: u64) {
        self.shared.capacity.store(bytes, Ordering::Release);
    }

    /// Bytes of all files that have a name.
    fn used(&self) -> u64 {
        self.shared.state.lock().image.used()
    }

    /// Whether files may become so much longer.
    fn room_for(&self, more: u64) -> io::Result<()> {
        let total = self.shared.capacity.load(Ordering::Acquire);
        if total != 0 && more != 0 && self.used().saturating_add(more) > total {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Removes the hook.
    pub fn forget_hook(&self) {
        *self.shared.hook.lock() = None;
    }

    /// Sets a fault in place of the one before.
    pub fn set_fault(&self, fault: Fault) {
        let rng = Rng::new(fault.seed);
        self.shared.state.lock().fault = Some(Running { fault, seen: 0, hits: 0, rng });
    }

    /// Ends the fault: how often it struck.
    pub fn clear_fault(&self) -> u64 {
        self.shared.state.lock().fault.take().map_or(0, |running| running.hits)
    }

    /// The disk's state now.
    pub fn image(&self) -> Image {
        self.shared.state.lock().image.clone()
    }

    /// What a running program sees now, as a disk of its own without locks, hook and faults, all durable.
    pub fn copy(&self) -> Disk {
        let image = self.image();
        let files = image.files.into_iter();
        let files = files.map(|(file, inode)| (file, Arc::new(Inode::of(inode.live.clone()))));
        Image {
            files: files.collect(),
            durable: image.live.clone(),
            live: image.live,
            pending: Vec::new(),
            next_file: image.next_file,
        }
        .disk()
    }

    /// What a power cut now leaves at worst: synced bytes under synced names, and nothing else.
    pub fn after_power_cut(&self) -> Disk {
        self.image().power_cut(&mut Lot::Nothing).0.disk()
    }

    /// Records every change from now on.
    pub fn start_trace(&self) {
        let mut state = self.shared.state.lock();
        state.trace = Some(Trace { base: state.image.clone(), events: Vec::new() });
    }

    /// What was recorded, and no more recording.
    pub fn take_trace(&self) -> Option<Trace> {
        self.shared.state.lock().trace.take()
    }

    /// Puts a mark into the trace: something was acknowledged.
    pub fn mark(&self, mark: u64) {
        self.shared.state.lock().change(Event::Mark(mark));
    }

    /// Asks hook and fault.
    fn ask(&self, operation: Operation, path: &Path) -> io::Result<Option<(Trouble, u64)>> {
        if let Some(hook) = self.shared.hook.lock().as_mut() {
            hook(operation, path)?;
        }
        let trouble = self.shared.state.lock().trouble(operation);
        match trouble {
            Some((Trouble::Slow, seed)) => {
                for _ in 0..seed % 64 {
                    std::thread::yield_now();
                }
                Ok(None)
            }
            Some((Trouble::Io, _)) if operation != Operation::Sync => Err(io_error()),
            Some((Trouble::Sync, _)) if operation == Operation::SyncDir => Err(io_error()),
            // An open that makes no file takes no space.
            Some((Trouble::Full, _)) if operation != Operation::Open => {
                Err(io::ErrorKind::StorageFull.into())
            }
            other => Ok(other),
        }
    }
}

impl Fs for Disk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let trouble = self.ask(Operation::Open, path)?;
        let mut state = self.shared.state.lock();
        let file = match (state.file(path), how) {
            (Ok(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(file), _) => file,
            (Err(e), Open::Create | Open::CreateNew) if e.kind() == io::ErrorKind::NotFound => {
                if matches!(trouble, Some((Trouble::Full, _))) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                state.parent_exists(path)?;
                state.new_file(path)
            }
            (Err(e), _) => return Err(e),
        };
        *state.open.entry(file).or_default() += 1;
        drop(state);
        Ok(Arc::new(DiskFile {
            disk: self.clone(),
            path: path.into(),
            file,
            writable: how != Open::Read,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::CreateDir, path)?;
        let mut state = self.shared.state.lock();
        let mut missing = Vec::new();
        for ancestor in path.ancestors().filter(|p| !p.as_os_str().is_empty()) {
            match state.image.live.get(ancestor) {
                Some(Node::Directory) => break,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None if ancestor == Path::new("/") => break,
                None => missing.push(ancestor),
            }
        }
        for directory in missing.into_iter().rev() {
            state.change(Event::Name(Naming::Set(directory.into(), Node::Directory)));
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.ask(Operation::Read, path)?;
        let state = self.shared.state.lock();
        state.directory(path)?;
        let mut entries = Vec::new();
        for child in state.image.live.keys().filter(|child| child.parent() == Some(path)) {
            entries.push(state.entry(child)?);
        }
        entries.sort();
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<Entry> {
        self.ask(Operation::Read, path)?;
        self.shared.state.lock().entry(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Operation::Rename, from)?;
        let mut state = self.shared.state.lock();
        let file = state.file(from)?;
        state.parent_exists(to)?;
        if matches!(state.image.live.get(to), Some(Node::Directory)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        state.change(Event::Name(Naming::Rename(from.into(), to.into(), Node::File(file))));
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Operation::Rename, from)?;
        let mut state = self.shared.state.lock();
        let file = state.file(from)?;
        state.parent_exists(to)?;
        if state.image.live.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.change(Event::Name(Naming::Set(to.into(), Node::File(file))));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::Remove, path)?;
        let mut state = self.shared.state.lock();
        let file = state.file(path)?;
        state.change(Event::Name(Naming::Remove(path.into(), Node::File(file))));
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::Remove, path)?;
        let mut state = self.shared.state.lock();
        state.directory(path)?;
        if state.image.live.keys().any(|child| child.parent() == Some(path)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.change(Event::Name(Naming::Remove(path.into(), Node::Directory)));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::SyncDir, path)?;
        let mut state = self.shared.state.lock();
        if !path.as_os_str().is_empty() {
            state.directory(path)?;
        }
        state.change(Event::SyncDir(path.into()));
        let State { image, open, .. } = &mut *state;
        image.sweep(open);
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.ask(Operation::Lock, path)?;
        {
            let mut state = self.shared.state.lock();
            state.parent_exists(path)?;
            if !state.image.live.contains_key(path) {
                state.new_file(path);
            }
        }
        if !self.shared.locks.lock().insert(path.to_path_buf()) {
            return Ok(None);
        }
        Ok(Some(Box::new(DiskLock { disk: self.clone(), path: path.to_path_buf() })))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let total = self.shared.capacity.load(Ordering::Acquire);
        if total == 0 {
            return Ok(Space { free: ENDLESS, total: ENDLESS });
        }
        Ok(Space { free: total.saturating_sub(self.used()), total })
    }
}

struct DiskLock {
    disk: Disk,
    path: PathBuf,
}

impl Lock for DiskLock {}

impl Drop for DiskLock {
    fn drop(&mut self) {
        self.disk.shared.locks.lock().remove(&self.path);
    }
}

struct DiskFile {
    disk: Disk,
    path: Arc<Path>,
    file: u64,
    writable: bool,
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        let mut state = self.disk.shared.state.lock();
        if let Some(count) = state.open.get_mut(&self.file) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&self.file);
            }
        }
    }
}

impl DiskFile {
    fn ask_to_change(&self, operation: Operation) -> io::Result<Option<(Trouble, u64)>> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.disk.ask(operation, &self.path)
    }

    fn sync(&self) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let answer = self.disk.ask(Operation::Sync, &self.path);
        let file = self.file;
        let mut state = self.disk.shared.state.lock();
        match answer {
            Ok(Some((_, seed))) => {
                state.change(Event::SyncFailed { file, seed: seed | 1 });
                Err(io_error())
            }
            Ok(None) => {
                state.change(Event::Sync { file, name: self.path.clone() });
                Ok(())
            }
            Err(e) => {
                state.change(Event::SyncFailed { file, seed: 0 });
                Err(e)
            }
        }
    }
}

impl File for DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let trouble = self.disk.ask(Operation::Read, &self.path)?;
        let state = self.disk.shared.state.lock();
        let Some(inode) = state.image.files.get(&self.file) else { return Ok(0) };
        let n = inode.live.read(buffer, offset);
        if let Some((Trouble::Flip, seed)) = trouble {
            let mut rng = Rng::new(seed);
            let at = usize::try_from(rng.below(n as u64)).unwrap_or(0);
            if let Some(byte) = buffer[..n].get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let trouble = self.ask_to_change(Operation::Write)?;
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > i64::MAX as u64) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let (bytes, answer) = match trouble {
            Some((Trouble::Short, seed)) => {
                let n = Rng::new(seed).below(bytes.len() as u64);
                (&bytes[..usize::try_from(n).unwrap_or(0)], Err(io::ErrorKind::StorageFull.into()))
            }
            _ => (bytes, Ok(())),
        };
        let end = offset.saturating_add(bytes.len() as u64);
        self.disk.room_for(end.saturating_sub(self.len()?))?;
        if !bytes.is_empty() {
            let event = Event::Write { file: self.file, offset, bytes: bytes.into() };
            self.disk.shared.state.lock().change(event);
        }
        answer
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.ask_to_change(Operation::Resize)?;
        if len > i64::MAX as u64 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.disk.room_for(len.saturating_sub(self.len()?))?;
        self.disk.shared.state.lock().change(Event::Resize { file: self.file, len });
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.set_len(len) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.shared.state.lock();
        Ok(state.image.files.get(&self.file).map_or(0, |inode| inode.live.len))
    }
}
