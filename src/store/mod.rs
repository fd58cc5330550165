//! The store: an append-only message log with group commit, and an index derived from it.
//!
//! # What is kept
//! Messages (envelope and bytes, once), the queue, mailboxes (heads and packed rows of messages) and a
//! few small tables for the directory. The log is the truth; the index can be made from it again.
//! `docs/format.md` draws the files byte by byte.
//!
//! # Method
//! A store has 1 to 16 ordinary **lanes**, each a log of its own ([`segment`], [`record`]) with one
//! committer thread ([`commit`]) and one shard of the index ([`index`]), and one large lane for the bytes
//! of large messages ([`large`]). An account's records live in one lane. A transaction belongs to one
//! lane: all of it becomes durable, or nothing. The committer writes what waits as one group: one
//! write, one sync, then the index, then the answers. A lane's shard is made durable now and then by the
//! [`housekeeper`]. What is decided for a transaction (UIDs, MODSEQs) is decided by the committer
//! ([`plan`]) and written down, so that [`recovery`] gets the same index from the same log.
//!
//! What nothing refers to any more is dead bytes of a segment; [`compaction`] copies what is live out of segments that
//! are mostly dead and frees them, while [`shelf`] knows who still reads them. [`maintenance`] runs it by itself.
//!
//! # Invariants
//! - **A ticket that answers `Ok` means: synced to the log, and visible in the index.** Nothing that
//!   was answered so is lost by a crash at any instant, nor changed by a later failure.
//! - What was not answered is, after a crash, absent or whole.
//! - The log is never written behind a place that failed; the next segment says where the last one
//!   ended, so nothing void comes back.
//! - Message ids, LSNs and UIDs are never given twice.
//! - `references` of a message is never lower than the mailboxes that hold it, once the deliveries
//!   between lanes are finished; after a crash it may be higher, which costs space and no mail.
//!
//! # Failure
//! A write or sync that fails is answered to nobody: the segment is given up, and the same group is written
//! to a new one. When that fails too, the group is answered with the system's error and the lane is
//! read-only until a later try succeeds ([`state`]); reads go on. A disk that fills up refuses messages first
//! ([`space`]). An index that fails is opened again, or made anew from the log, by its lane's committer
//! while the store is open ([`commit`]). Damage to acknowledged data is reported by [`Store::recovery_report`],
//! [`Store::check`] and by the read that meets it; it is never cut away, and the rest is served.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::sync::Mutex;
use crate::time::Clock;
use crate::vfs::{self, Fs, Lock, Open};

pub mod body;
pub mod check;
pub mod commit;
pub mod compaction;
pub mod encoding;
pub mod export;
pub mod format;
pub mod gather;
pub mod housekeeper;
pub mod id;
pub mod index;
pub mod lane;
pub mod large;
pub mod maintenance;
pub mod model;
pub mod plan;
pub mod queue;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod repair;
pub mod scrub;
pub mod segment;
pub mod shelf;
pub mod shown;
pub mod space;
pub mod state;
pub mod ticket;

#[cfg(test)]
mod compaction_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod scrub_tests;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod trust_tests;

pub use body::{Body, BodyWriter, PIECE_BYTES};
pub use compaction::{CompactOptions, CompactReport, Relocation};
pub use export::Exported;
pub use id::{AccountId, Lane, MailboxId, MessageId};
pub use lane::Preparation;
pub use model::*;
pub use reader::MessageReader;
pub use recovery::RecoveryReport;
pub use repair::{RepairOptions, RepairReport};
pub use scrub::{ScrubOptions, ScrubReport, ScrubSink};
pub use shelf::Hold;
pub use space::SpaceLevel;
pub use state::{
    Admission, IndexState, LaneState, ReadOnly, Scrubbed, StateSink, StoreChange, StoreState, Usage,
};
pub use ticket::{Completion, Ticket};

use commit::{Done, Transaction};
use compaction::CompactCounters;
use encoding::Malformed;
use export::Exports;
use format::Format;
use gather::Arrivals;
use housekeeper::Housekeeper;
use index::redb::IndexCounters;
use index::slot::{self, Slot};
use index::{IndexView, Space, row};
use lane::{LaneSetting, Log, LogCounters, SpareRoom, Tail};
use large::{LargeJob, LargeLane};
use maintenance::Maintenance;
use queue::JobQueue;
use recovery::{Recovery, Shard};
use scrub::ScrubCounters;
use segment::Segment;
use shelf::Shelf;
use shown::Shown;
use space::{SpaceGauge, SpaceSetting};
use state::Conditions;

/// Most ordinary lanes.
pub const MAX_LANES: u8 = 16;
/// Most ordinary lanes that a new store gets without being asked for more.
const MAX_DEFAULT_LANES: usize = 4;
/// Name of the lock file.
pub const LOCK_FILE: &str = "LOCK";
/// Name of the index's directory.
pub const INDEX_DIRECTORY: &str = "index";
/// Bodies up to this many bytes may be kept in memory and in one record, whatever is asked for.
const LARGE_BODY_LIMIT: usize = 4 << 20;
/// Smallest segment.
const SEGMENT_LIMIT: u64 = 64 << 10;
/// How often a reader looks for the new place of a message that was moved.
const PLACES: u32 = 16;
/// How long a reader waits for a shard that is being repaired.
const READER_PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
const READER_SLICE: Duration = Duration::from_millis(100);
/// Numbers of messages in an epoch, half of which may be gone before the next one is reserved.
const EPOCH_MESSAGES: u64 = 1 << 32;

/// How a store is made. Fixed in FORMAT.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Independent logs; accounts are spread over them. 1 to 16.
    pub lanes: u8,
}

impl Default for CreateOptions {
    /// A lane for two processors of this machine, 1 to 4: a second lane halves the groups, so that each message costs
    /// twice the syncs, and gains only where a processor is left for it (`docs/performance.md`).
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        let lanes = u8::try_from((processors / 2).clamp(1, MAX_DEFAULT_LANES)).unwrap_or(1);
        CreateOptions { lanes }
    }
}

/// How a store is opened. May differ from one opening to the next.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Bytes of a segment of an ordinary lane.
    pub segment_bytes: u64,
    /// Bytes of a segment of the large lane.
    pub large_segment_bytes: u64,
    /// Bodies above this many bytes go to the large lane in chunks.
    pub large_body_bytes: usize,
    /// Most milliseconds between durable checkpoints of the index while there is work.
    pub checkpoint_millis: u64,
    /// Most log bytes between durable checkpoints of the index.
    pub checkpoint_bytes: u64,
    /// Freed segments that each lane keeps for its next ones, at most.
    pub recycled_segments: u8,
    /// A segment of whose bytes less than this part of a hundred is live is compacted.
    pub compact_below_percent: u8,
    /// Bytes a second that compaction by itself copies at most; 0: it does nothing by itself. While the disk is
    /// nearly full there is no limit.
    pub compact_bytes_per_second: u64,
    /// Bytes a second that scrubbing by itself reads at most; 0: it does nothing by itself.
    pub scrub_bytes_per_second: u64,
    /// Milliseconds from the beginning of one scrub by itself to that of the next at least. The first begins a minute
    /// after the opening.
    pub scrub_millis: u64,
    /// Gets what scrubs find, line by line.
    pub on_scrub: Option<ScrubSink>,
    /// How a segment is prepared that records are going to be written to.
    pub preparation: Preparation,
    /// A lane's index is exported when its log has grown by this many bytes since the last export,
    pub export_bytes: u64,
    /// and by this many times the bytes of the last export.
    pub export_factor: u64,
    /// Least milliseconds between a failure to write and the next try; also between two looks at the disk's
    /// room.
    pub retry_millis: u64,
    /// Messages are refused when less than these hundredths of the file system are free, or
    pub low_space_percent: u64,
    /// less than so many bytes, whichever is less.
    pub low_space_bytes: u64,
    /// Most bytes of the ballast, which is removed when the disk is full; at most 1/64 of the file system. 0: none.
    pub ballast_bytes: u64,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            segment_bytes: 64 << 20,
            large_segment_bytes: 256 << 20,
            large_body_bytes: 256 << 10,
            checkpoint_millis: 1000,
            checkpoint_bytes: 64 << 20,
            recycled_segments: 2,
            compact_below_percent: 50,
            compact_bytes_per_second: 32 << 20,
            scrub_bytes_per_second: 10_000_000,
            scrub_millis: 7 * 24 * 3_600_000,
            on_scrub: None,
            preparation: Preparation::default(),
            export_bytes: 256 << 20,
            export_factor: 16,
            retry_millis: 1000,
            low_space_percent: 5,
            low_space_bytes: 1 << 30,
            ballast_bytes: 64 << 20,
        }
    }
}

/// An open store. Cloning gives another handle to the same store; dropping the last one closes it. Any
/// thread may call.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.core.close();
    }
}

/// What the store's threads and handles share.
pub struct Core {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: OpenOptions,
    format: Mutex<Format>,
    uuid: [u8; 16],
    homes: Vec<Home>,
    large: Arc<LargeLane>,
    settings: Vec<Arc<LaneSetting>>,
    rooms: Vec<Arc<SpareRoom>>,
    housekeeper: Housekeeper,
    exports: Exports,
    counters: Arc<LogCounters>,
    index_counters: Arc<IndexCounters>,
    shelf: Shelf,
    /// Held by the one who compacts.
    compacting: Mutex<compaction::Kept>,
    compact_counters: CompactCounters,
    scrub_counters: ScrubCounters,
    /// The last scrub that came to its end.
    scrubbed: Mutex<Option<Scrubbed>>,
    maintenance: Maintenance,
    clock: Arc<dyn Clock>,
    conditions: Conditions,
    space: Arc<SpaceGauge>,
    closing: AtomicBool,
    /// Held while the store is being closed.
    ending: Mutex<()>,
    threads: Mutex<Threads>,
    /// The threads above, which cannot wait for themselves.
    own: Mutex<Vec<ThreadId>>,
    lock: Mutex<Option<Box<dyn Lock>>>,
    report: RecoveryReport,
}

#[derive(Default)]
struct Threads {
    large: Option<JoinHandle<()>>,
    homes: Vec<JoinHandle<()>>,
    housekeeper: Option<JoinHandle<()>>,
    maintenance: Option<JoinHandle<()>>,
    exports: Option<JoinHandle<()>>,
}

/// An ordinary lane with its shard of the index, as its committer and its readers share it.
struct Home {
    jobs: JobQueue<Transaction>,
    index: Slot,
    /// How far the index shows what was answered.
    shown: Shown,
    /// Messages whose bytes are coming in.
    arrivals: Arrivals,
    /// Epoch and counter of the next message id, the epoch in the upper half.
    next_id: AtomicU64,
    /// Where the log ends, as far as it is durable and applied.
    tail: Mutex<Tail>,
    /// LSN up to which a verified export of the shard is durable; 0: none.
    exported: AtomicU64,
}

impl Home {
    /// A snapshot of the index that shows everything answered so far. Not for the committer's thread.
    ///
    /// # Errors
    /// `Rebuilding` when the shard is being repaired and that takes longer than a reader waits; what stands in the
    /// way when it cannot be repaired.
    fn view(&self) -> Result<Box<dyn IndexView>> {
        let mut patience = READER_PATIENCE;
        let promised = self.shown.promised();
        loop {
            let shard = match self.index.get() {
                slot::Shown::Shard(shard) if !shard.is_poisoned() => shard,
                slot::Shown::Failed(e) => return Err(e),
                _ => {
                    if patience.is_zero() {
                        return Err(slot::rebuilding());
                    }
                    // Nobody else may have seen it yet.
                    self.jobs.call();
                    self.index.wait(READER_SLICE);
                    patience = patience.saturating_sub(READER_SLICE);
                    continue;
                }
            };
            if !self.shown.is_kept_to(promised) {
                self.jobs.nudge();
                if !self.shown.wait(promised, READER_SLICE) {
                    continue;
                }
                // It may have been replaced meanwhile: the old one is poisoned then.
            }
            match shard.view() {
                Err(_) if shard.is_poisoned() => {}
                other => return other,
            }
        }
    }
}

fn stopped() -> Error {
    Error::new(Kind::Stopped, "the store is closed")
}

fn damaged_row(what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("index: a {what} row is damaged"))
}

impl Core {
    fn home(&self, lane: Lane) -> Option<&Home> {
        self.homes.get(usize::from(lane.0))
    }

    fn lanes(&self) -> usize {
        self.homes.len()
    }

    fn large_lane(&self) -> Lane {
        Lane(u8::try_from(self.homes.len()).unwrap_or(u8::MAX))
    }

    fn home_or_refuse(&self, lane: Lane) -> Result<&Home> {
        self.home(lane).ok_or_else(|| {
            Error::new(Kind::InvalidArgument, format!("there is no lane {}", lane.0))
        })
    }

    /// Hands a transaction to a committer; answered with `Stopped` after the end.
    fn push(&self, lane: Lane, transaction: Transaction) -> Result<()> {
        let Some(home) = self.home(lane) else {
            let error = Error::new(Kind::InvalidArgument, format!("there is no lane {}", lane.0));
            transaction.done.answer(Err(error.clone()));
            return Err(error);
        };
        match home.jobs.push(transaction) {
            Ok(()) => Ok(()),
            Err(transaction) => {
                transaction.done.answer(Err(stopped()));
                Err(stopped())
            }
        }
    }

    /// Hands over changes; bodies in the large lane are made durable first.
    fn submit(self: &Arc<Self>, lane: Lane, changes: Vec<Change>, done: Done) {
        if self.closing.load(Ordering::Acquire) {
            return done.answer(Err(stopped()));
        }
        if commit::has_message(&changes)
            && let Err(e) = self.space.admit_message()
        {
            return done.answer(Err(e));
        }
        let mut ends: Vec<LargeJob> = Vec::new();
        let mut bodies = Vec::new();
        for change in &changes {
            if let Change::Message(new) = change
                && let body::Stored::Large(shared) = &new.body.stored
            {
                bodies.push((new.id, new.body.len, new.body.hash, shared.clone()));
            }
        }
        let transaction = Transaction::new(changes, done);
        let Some((message, size, hash, last)) = bodies.pop() else {
            // The answer has been given when this fails.
            let _ = self.push(lane, transaction);
            return;
        };
        for (message, size, hash, body) in bodies {
            let then = Box::new(|_| {});
            ends.push(LargeJob::End { message, size, hash, body, then });
        }
        let core = self.clone();
        let then = Box::new(move |result: Result<()>| match result {
            // Planning looks at each body again, so one that failed fails the transaction.
            Ok(()) => {
                let _ = core.push(lane, transaction);
            }
            Err(e) => transaction.done.answer(Err(e)),
        });
        ends.push(LargeJob::End { message, size, hash, body: last, then });
        for end in ends {
            if let Err(LargeJob::End { then, .. }) = self.large.jobs.push(end) {
                then(Err(stopped()));
            }
        }
    }

    /// Damage was met: it is kept, and told.
    fn damaged(&self, finding: &str) {
        if self.conditions.damaged(finding) {
            self.housekeeper.look();
        }
    }

    /// Waits until every lane has done what was handed to it before.
    fn pass_all_lanes(&self) -> Result<()> {
        let tickets: Vec<_> = (0_u8..)
            .take(self.lanes())
            .map(|lane| {
                let (completion, ticket) = Ticket::new();
                let transaction = Transaction::new(Vec::new(), Done::Ticket(completion));
                let _ = self.push(Lane(lane), transaction);
                ticket
            })
            .collect();
        tickets.into_iter().try_for_each(|ticket| ticket.wait().map(|_| ()))
    }

    /// A segment for reading, which is not freed while the `Arc` lives; `None` when it is gone.
    fn segment(&self, lane: Lane, number: u64) -> Result<Option<Arc<Segment>>> {
        self.shelf.segment(lane.0, number)
    }

    fn make_spare(&self, lane: usize, bytes: u64) -> Result<()> {
        match (self.settings.get(lane), self.rooms.get(lane)) {
            (Some(setting), Some(room)) if !room.is_full() => {
                setting.make_spare(room, bytes, &mut || self.housekeeper.pause())
            }
            _ => Ok(()),
        }
    }

    /// Makes the next epoch ours when message numbers of this one run low.
    fn reserve_epoch(&self) {
        let mut format = self.format.lock();
        let reserved = u64::from(format.epoch);
        let low = self.homes.iter().any(|home| {
            let next = home.next_id.load(Ordering::Relaxed);
            next >= reserved.saturating_mul(EPOCH_MESSAGES).saturating_add(EPOCH_MESSAGES / 2)
        });
        if low {
            let mut next = *format;
            next.epoch = next.epoch.saturating_add(1);
            match next.write(self.fs.as_ref(), &self.dir) {
                Ok(()) => *format = next,
                Err(e) => tracing::error!("cannot reserve message numbers: {e}"),
            }
        }
    }

    /// Ends everything in order: new work is refused, what waits is done, a last checkpoint is made, the lock is
    /// released. One of the store's own threads, which may drop the last handle in a function that it calls, only
    /// begins this: a thread made for it does the rest.
    fn close(self: &Arc<Self>) -> Result<()> {
        self.closing.store(true, Ordering::Release);
        let own = std::thread::current().id();
        if !self.own.lock().contains(&own) {
            return self.end();
        }
        let core = self.clone();
        let ending = spawn("posthouse-close".into(), move || {
            if let Err(e) = core.end() {
                tracing::error!("closing the store: {e}");
            }
        });
        ending.map(|_| ()).inspect_err(|e| {
            // The lanes end all the same; the lock goes with the process.
            tracing::error!("closing the store: {e}");
            self.large.jobs.close();
            self.homes.iter().for_each(|home| home.jobs.close());
        })
    }

    /// As [`Core::close`], on a thread that is none of the store's own.
    fn end(&self) -> Result<()> {
        // A second caller waits for the first: the lock is released only when no thread writes any more.
        let _alone = self.ending.lock();
        let join = |thread: JoinHandle<()>| {
            let _ = thread.join();
        };
        let mut threads = std::mem::take(&mut *self.threads.lock());
        self.maintenance.close();
        threads.maintenance.take().map(join);
        self.large.jobs.close();
        threads.large.take().map(join);
        for home in &self.homes {
            home.jobs.close();
        }
        threads.homes.drain(..).for_each(join);
        self.housekeeper.close();
        threads.housekeeper.take().map(join);
        self.exports.close();
        threads.exports.take().map(join);
        // Nor does anybody else who was asked to compact or to export; who comes later is refused.
        let _compacting = self.compacting.lock();
        let _exporting = self.exports.wait();
        // One may have been made after its lane ended.
        for (setting, room) in self.settings.iter().zip(&self.rooms) {
            setting.drop_spares(room, false);
        }
        let Some(lock) = self.lock.lock().take() else { return Ok(()) };
        let mut result = Ok(());
        for home in &self.homes {
            // One that could not be repaired is mended by the next opening.
            if let slot::Shown::Shard(shard) = home.index.get() {
                if let Err(e) = shard.checkpoint() {
                    result = Err(e);
                }
                shard.close();
            } else {
                home.index.fail(stopped());
            }
        }
        self.shelf.clear();
        self.conditions.tell_to(None, SpaceLevel::Ample);
        drop(lock);
        result
    }
}

fn lane_setting(
    core: (&Arc<dyn Fs>, &Path),
    format: &Format,
    lane: u8,
    (segment_bytes, preparation): (u64, Preparation),
    recycled: u8,
    counters: &Arc<LogCounters>,
    space: &Arc<SpaceGauge>,
) -> LaneSetting {
    LaneSetting {
        fs: core.0.clone(),
        dir: core.1.to_path_buf(),
        uuid: format.uuid,
        lane,
        epoch: format.epoch,
        segment_bytes: segment_bytes.max(SEGMENT_LIMIT),
        preparation,
        counters: counters.clone(),
        prepared: AtomicU64::new(1),
        active: AtomicU64::new(0),
        held: AtomicU64::new(0),
        recycled: usize::from(recycled),
        space: space.clone(),
    }
}

/// Starts a thread of the store: the one place where it does.
#[allow(clippy::disallowed_methods)] // committers block in syncs; they belong to the store, not to a runtime
fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(run)
        .map_err(|e| Error::io("start thread", Path::new(&name), &e))
}

/// Takes the lock and writes our process id into it.
fn take_lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn Lock>> {
    let path = dir.join(LOCK_FILE);
    match fs.try_lock(&path) {
        Ok(Some(lock)) => {
            // The number is for people; a lock without it is a lock all the same.
            if let Ok(file) = fs.open(&path, Open::ReadWrite) {
                let text = format!("{}\n", std::process::id());
                let _ = file.set_len(0).and_then(|()| file.write_at(text.as_bytes(), 0));
            }
            Ok(lock)
        }
        Ok(None) => {
            let holder = vfs::read_small(fs, &path, 64)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .and_then(|text| text.trim().parse::<u32>().ok());
            let who = match holder {
                Some(pid) => format!("process {pid}"),
                None => "another process".into(),
            };
            Err(Error::new(Kind::Locked, format!("{} is in use by {who}", dir.display())))
        }
        Err(e) => Err(Error::io("lock", &path, &e)),
    }
}

impl Store {
    /// Makes a store in `dir` (which exists, and has no FORMAT). FORMAT is written last.
    ///
    /// # Errors
    /// `Exists` when there is a FORMAT, `InvalidArgument`, `Locked`, or what the system reports.
    pub fn create(fs: &Arc<dyn Fs>, dir: &Path, options: &CreateOptions) -> Result<()> {
        if !(1..=MAX_LANES).contains(&options.lanes) {
            let text = format!("{} lanes: a store has 1 to {MAX_LANES}", options.lanes);
            return Err(Error::new(Kind::InvalidArgument, text));
        }
        fs.metadata(dir).map_err(|e| Error::io("open", dir, &e))?;
        let path = dir.join(format::FILE);
        let free = || match fs.metadata(&path) {
            Ok(_) => {
                let text = format!("{} holds an instance already", dir.display());
                Err(Error::new(Kind::Exists, text))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io("look at", &path, &e)),
        };
        free()?;
        let _lock = take_lock(fs.as_ref(), dir)?;
        free()?;
        for name in [segment::DIRECTORY, INDEX_DIRECTORY, export::DIRECTORY] {
            let path = dir.join(name);
            fs.create_dir_all(&path).map_err(|e| Error::io("create", &path, &e))?;
            fs.sync_dir(&path).map_err(|e| Error::io("sync", &path, &e))?;
        }
        // A FORMAT never stands without them, whatever the disk does first.
        fs.sync_dir(dir).map_err(|e| Error::io("sync", dir, &e))?;
        let mut uuid = [0; 16];
        getrandom::fill(&mut uuid)
            .map_err(|e| Error::new(Kind::Internal, format!("no random numbers: {e}")))?;
        // Version 4, variant 1 (RFC 9562 5.4).
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        Format::new(options.lanes, uuid).write(fs.as_ref(), dir)
    }

    /// Takes the lock, recovers, starts one committer thread a lane and the housekeeper.
    ///
    /// # Errors
    /// `NotAnInstance` without FORMAT, `Corrupt` when FORMAT is damaged, `FormatNewer` (both versions
    /// named) for FORMAT, a segment or an export, `Locked` (with the holder's process id when LOCK tells it). Nothing is changed on disk then.
    pub fn open(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: OpenOptions,
    ) -> Result<Store> {
        Store::open_with(fs, clock, dir, options, false)
    }

    /// As [`Store::open`], with every shard of the index made again.
    fn open_anew(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: OpenOptions,
    ) -> Result<Store> {
        Store::open_with(fs, clock, dir, options, true)
    }

    fn open_with(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: OpenOptions,
        anew: bool,
    ) -> Result<Store> {
        Format::read(fs.as_ref(), dir)?;
        let lock = take_lock(fs.as_ref(), dir)?;
        let mut format = Format::read(fs.as_ref(), dir)?;
        format.epoch = format.epoch.saturating_add(1);
        let (major, minor) = (format::MAJOR, format::MINOR);
        if (format.major, format.minor) < (major, minor) {
            (format.major, format.minor) = (major, minor);
        }
        let lanes = usize::from(format.lanes);
        let index_directory = dir.join(INDEX_DIRECTORY);
        // FORMAT, written below, makes their names durable.
        for path in [&index_directory, &dir.join(export::DIRECTORY)] {
            fs.create_dir_all(path).map_err(|e| Error::io("create", path, &e))?;
        }
        let chains = recovery::survey(fs.as_ref(), dir, &format.uuid, lanes + 1)?;
        export::survey(fs.as_ref(), dir, &format.uuid)?;
        format.write(fs.as_ref(), dir)?;
        let prepared = recovery::sweep(fs.as_ref(), dir, &chains)?;
        export::sweep(fs.as_ref(), dir)?;
        if anew {
            recovery::mark_all(fs.as_ref(), dir, format.lanes)?;
        }

        let space = Arc::new(SpaceGauge::new(
            fs.clone(),
            dir,
            SpaceSetting {
                percent: options.low_space_percent,
                bytes: options.low_space_bytes,
                ballast: options.ballast_bytes,
            },
        ));
        let counters = Arc::new(LogCounters::default());
        let index_counters = Arc::new(IndexCounters::default());
        let mut report = RecoveryReport::default();
        let large_lane = Lane(format.lanes);
        let mut homes = Vec::with_capacity(lanes);
        let mut logs = Vec::with_capacity(lanes + 1);
        let (mut settings, mut rooms) = (Vec::new(), Vec::new());
        let large = Arc::new(LargeLane::default());
        let exports = Exports::new(lanes, options.export_bytes, options.export_factor);
        for (number, chain) in (0_u8..).zip(&chains) {
            let lane = Lane(number);
            let mut recovery =
                Recovery { fs: fs.as_ref(), dir, lane, large: large_lane, report: &mut report };
            let (outcome, segment_bytes) = if lane == large_lane {
                let outcome = recovery.large_tail(chain)?;
                *large.tail.lock() = outcome.tail;
                (outcome, options.large_segment_bytes)
            } else {
                let shard = Shard { dir, uuid: &format.uuid, lane, counters: &index_counters };
                let (index, outcome) = recovery.open_shard(&fs, &shard, chain)?;
                let exported = export::newest(fs.as_ref(), dir, &format.uuid, lane)?;
                let lsn = exported.map_or(0, |exported| exported.lsn);
                exports.found(usize::from(number), exported, chain.bytes_behind(lsn, outcome.tail));
                homes.push(Home {
                    jobs: JobQueue::default(),
                    index: Slot::new(index),
                    shown: Shown::default(),
                    arrivals: Arrivals::default(),
                    next_id: AtomicU64::new(u64::from(format.epoch) * EPOCH_MESSAGES),
                    tail: Mutex::new(outcome.tail),
                    exported: AtomicU64::new(lsn),
                });
                (outcome, options.segment_bytes)
            };
            let recycled = options.recycled_segments;
            let (core, bytes) = ((&fs, dir), (segment_bytes, options.preparation));
            let setting = lane_setting(core, &format, number, bytes, recycled, &counters, &space);
            setting.active.store(outcome.tail.segment, Ordering::Relaxed);
            // What was allocated behind the end is given back when the lane moves on.
            let last = chain.segments.last().filter(|s| s.number == outcome.tail.segment);
            let unused = last.map_or(0, |s| s.len.saturating_sub(outcome.tail.end));
            setting.held.store(chain.bytes().saturating_sub(unused), Ordering::Relaxed);
            let room = Arc::new(SpareRoom::default());
            let mine = prepared.iter().filter(|(lane, _, _)| *lane == number);
            let next = mine.clone().map(|(_, n, _)| n.saturating_add(1)).max().unwrap_or(1);
            setting.prepared.store(next, Ordering::Relaxed);
            mine.for_each(|(_, _, path)| setting.adopt(&room, path));
            let setting = Arc::new(setting);
            logs.push(Log::new(
                setting.clone(),
                room.clone(),
                outcome.tail,
                outcome.last_lsn,
                // The index may know of segments that are lost.
                chain.next_number().max(outcome.tail.segment.saturating_add(1)),
                outcome.clean && unused > 0,
            ));
            settings.push(setting);
            rooms.push(room);
        }
        // A shard whose name is lost with the power is made again from the whole log.
        fs.sync_dir(&index_directory).map_err(|e| Error::io("sync", &index_directory, &e))?;
        let core = Arc::new(Core {
            shelf: Shelf::new(fs.clone(), dir.to_path_buf(), format.uuid),
            compacting: Mutex::default(),
            compact_counters: CompactCounters::default(),
            scrub_counters: ScrubCounters::default(),
            scrubbed: Mutex::default(),
            maintenance: Maintenance::default(),
            fs,
            dir: dir.to_path_buf(),
            housekeeper: Housekeeper::new(lanes + 1, options.checkpoint_bytes),
            exports,
            conditions: Conditions::new(lanes + 1, clock.clone(), options.retry_millis),
            clock,
            space,
            options,
            format: Mutex::new(format),
            uuid: format.uuid,
            homes,
            large,
            settings,
            rooms,
            counters,
            index_counters,
            closing: AtomicBool::new(false),
            ending: Mutex::default(),
            threads: Mutex::default(),
            own: Mutex::default(),
            lock: Mutex::new(Some(lock)),
            report,
        });
        for line in &core.report.damage {
            core.conditions.damaged(line);
        }
        // From here on dropping the handle ends what was started.
        let store = Store { handle: Arc::new(Handle { core: core.clone() }) };
        for (number, mut log) in (0_u8..).zip(logs) {
            let lane = Lane(number);
            let worker = core.clone();
            if lane == large_lane {
                let thread = spawn("posthouse-large".into(), move || {
                    let _ended = Abandon(&worker.large.jobs);
                    large::run(&worker, &mut log);
                })?;
                core.own.lock().push(thread.thread().id());
                core.threads.lock().large = Some(thread);
            } else {
                let thread = spawn(format!("posthouse-lane{number}"), move || {
                    let Some(home) = worker.home(lane) else { return };
                    let _ended = Abandon(&home.jobs);
                    let _kept = Released(home);
                    commit::run(&worker, lane, &mut log);
                })?;
                core.own.lock().push(thread.thread().id());
                core.threads.lock().homes.push(thread);
            }
        }
        let worker = core.clone();
        let thread = spawn("posthouse-house".into(), move || housekeeper::run(&worker))?;
        core.own.lock().push(thread.thread().id());
        core.threads.lock().housekeeper = Some(thread);
        let worker = core.clone();
        let thread = spawn("posthouse-maint".into(), move || maintenance::run(&worker))?;
        core.own.lock().push(thread.thread().id());
        core.threads.lock().maintenance = Some(thread);
        let worker = core.clone();
        let thread = spawn("posthouse-export".into(), move || export::run(&worker))?;
        core.own.lock().push(thread.thread().id());
        core.threads.lock().exports = Some(thread);
        Ok(store)
    }

    /// Commits what is pending, makes a last checkpoint, ends the threads, releases the lock. Later
    /// calls on any handle answer `Stopped`. Calling it twice is allowed. When a function that the store calls on one of
    /// its own threads calls this, or drops the last handle, it returns at once and the store ends soon afterwards.
    pub fn close(&self) -> Result<()> {
        self.handle.core.close()
    }

    /// The lane of an account's records.
    pub fn lane_of(&self, account: AccountId) -> Lane {
        // A multiplicative hash (the golden ratio in 32 bits): neighbours go to different lanes. On disk:
        // it can never change.
        let hash = account.0.wrapping_mul(0x9e37_79b9) >> 16;
        Lane(u8::try_from(hash % u32::from(self.lanes().max(1))).unwrap_or(0))
    }

    /// The number of ordinary lanes.
    pub fn lanes(&self) -> u8 {
        self.handle.core.large_lane().0
    }

    /// A new message id of this lane, never given before and never again, also after a crash.
    pub fn new_message_id(&self, lane: Lane) -> MessageId {
        let next = match self.handle.core.home(lane) {
            Some(home) => home.next_id.fetch_add(1, Ordering::Relaxed),
            None => 0,
        };
        MessageId::new(lane, (next >> 32) as u32, next as u32)
    }

    /// Starts a message's bytes.
    pub fn body(&self, id: MessageId) -> BodyWriter {
        let core = &self.handle.core;
        let limit = core.options.large_body_bytes.min(LARGE_BODY_LIMIT);
        let coming = core.home(id.lane()).map(|home| home.arrivals.begin());
        BodyWriter::new(id, core.large.clone(), limit, coming, core.space.clone())
    }

    /// Hands a transaction to its lane's committer. All of it becomes durable, or nothing. The ticket
    /// answers after the group's sync and after the index shows the changes. Changes take effect in their
    /// order, each on what those before it have left.
    ///
    /// # Errors
    /// `NotFound` when a message is for, or moves to, a mailbox that does not exist, `InvalidArgument` for a
    /// change of another lane or UIDs that do not rise, `Limit`, `Stopped`, or what the disk reports (`DiskFull`, `Io`). The transaction is
    /// then not in the store; after a crash that follows it may be, as a whole.
    pub fn commit(&self, lane: Lane, changes: Vec<Change>) -> Ticket<Committed> {
        let (completion, ticket) = Ticket::new();
        self.handle.core.submit(lane, changes, Done::Ticket(completion));
        ticket
    }

    /// As `commit`; the function is called on the committer's thread and must be short.
    pub(crate) fn commit_then(
        &self,
        lane: Lane,
        changes: Vec<Change>,
        then: impl FnOnce(Result<Committed>) + Send + 'static,
    ) {
        self.handle.core.submit(lane, changes, Done::Call(Box::new(then)));
    }

    /// A handle that does not keep the store open, for functions that committers call.
    pub(crate) fn submitter(&self) -> Submitter {
        Submitter { core: self.handle.core.clone() }
    }

    /// Opens a message's bytes for reading.
    ///
    /// # Errors
    /// `NotFound` when nothing refers to the message (any more), `Corrupt` when its record is damaged.
    pub fn read(&self, id: MessageId) -> Result<MessageReader> {
        let core = &self.handle.core;
        let missing = || Error::new(Kind::NotFound, format!("no message {id}"));
        let home = core.home(id.lane()).ok_or_else(missing)?;
        for _ in 0..PLACES {
            let value = home.view()?.get(Space::Place, &row::message_key(id))?;
            let place = row::Place::decode(&value.ok_or_else(missing)?)
                .map_err(|_| damaged_row("place"))?;
            // A segment that is gone was freed after the message had got a new place.
            if let Some(reader) = MessageReader::open(core, id, place)? {
                return Ok(reader);
            }
        }
        let text = format!("message {id}: its segment was freed, and it has no other place");
        Err(Error::new(Kind::Corrupt, text))
    }

    /// A queue entry.
    pub fn queue_entry(&self, id: MessageId) -> Result<Option<QueueEntry>> {
        let Some(home) = self.handle.core.home(id.lane()) else { return Ok(None) };
        match home.view()?.get(Space::Queue, &row::message_key(id))? {
            Some(value) => {
                row::decode_queue(id, &value).map(Some).map_err(|_| damaged_row("queue"))
            }
            None => Ok(None),
        }
    }

    /// Up to `limit` queue entries in the order of their ids, those after `after` only.
    pub fn queue_scan(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<QueueEntry>> {
        let mut entries = Vec::new();
        let mut damaged = false;
        for (lane, home) in (0_u8..).zip(&self.handle.core.homes) {
            let from = match after {
                Some(after) if after.lane() > Lane(lane) => continue,
                Some(after) if after.lane() == Lane(lane) => Some(row::message_key(after)),
                _ => None,
            };
            if entries.len() >= limit {
                break;
            }
            let from = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            home.view()?.range(Space::Queue, from, Bound::Unbounded, &mut |key, value| {
                if entries.len() >= limit {
                    return false;
                }
                let entry = row::message_of(key).and_then(|id| row::decode_queue(id, value));
                match entry {
                    Ok(entry) => entries.push(entry),
                    Err(_) => damaged = true,
                }
                true
            })?;
        }
        if damaged { Err(damaged_row("queue")) } else { Ok(entries) }
    }

    /// The mailboxes of an account.
    pub fn mailboxes(&self, account: AccountId) -> Result<Vec<MailboxHead>> {
        let home = self.handle.core.home_or_refuse(self.lane_of(account))?;
        let prefix = row::account_key(account);
        let mut heads = Vec::new();
        let mut damaged = false;
        let view = home.view()?;
        view.range(Space::Head, Bound::Included(&prefix), Bound::Unbounded, &mut |key, value| {
            if !key.starts_with(&prefix) {
                return false;
            }
            match (row::mailbox_of(key), row::Head::decode(value)) {
                (Ok((_, mailbox)), Ok(head)) => heads.push(head.public(mailbox)),
                _ => damaged = true,
            }
            true
        })?;
        if damaged { Err(damaged_row("mailbox")) } else { Ok(heads) }
    }

    /// Up to `limit` messages of a mailbox in the order of UIDs, those after `after` only.
    pub fn mailbox_scan(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        after: u32,
        limit: usize,
    ) -> Result<Vec<MessageRow>> {
        let mut rows = Vec::new();
        self.visit_packs(account, mailbox, after, &mut |pack| {
            row::visit_pack(pack, |row| {
                if row.uid > after {
                    rows.push(row);
                }
            })?;
            Ok(rows.len() < limit)
        })?;
        rows.truncate(limit);
        Ok(rows)
    }

    /// UIDs and system flags of all messages of a mailbox with a UID above `after`, in the order of UIDs: eight bytes
    /// a message, and nothing is allocated for each.
    ///
    /// # Errors
    /// `Corrupt` when a row is damaged.
    pub fn mailbox_uids_and_flags(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        after: u32,
    ) -> Result<UidsAndFlags> {
        let mut columns = UidsAndFlags::default();
        self.visit_packs(account, mailbox, after, &mut |pack| {
            row::visit_pack(pack, |row| {
                if row.uid > after {
                    columns.uids.push(row.uid);
                    columns.flags.push(row.flags);
                }
            })?;
            Ok(true)
        })?;
        Ok(columns)
    }

    /// Visits the packs that hold a mailbox's messages with a UID above `after`, and perhaps some below, until
    /// `visit` answers `false`.
    fn visit_packs(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        after: u32,
        visit: &mut dyn FnMut(&[u8]) -> std::result::Result<bool, Malformed>,
    ) -> Result<()> {
        let home = self.handle.core.home_or_refuse(self.lane_of(account))?;
        let prefix = row::mailbox_key(account, mailbox);
        let view = home.view()?;
        // The first message after `after` may be in the pack that starts at or before it.
        let from = view
            .last_at_or_before(Space::Pack, &row::pack_key(account, mailbox, after))?
            .map(|(key, _)| key)
            .filter(|key| key.starts_with(&prefix))
            .unwrap_or_else(|| prefix.clone());
        let mut damaged = false;
        view.range(Space::Pack, Bound::Included(&from), Bound::Unbounded, &mut |key, value| {
            key.starts_with(&prefix)
                && visit(value).unwrap_or_else(|Malformed| {
                    damaged = true;
                    false
                })
        })?;
        if damaged { Err(damaged_row("message")) } else { Ok(()) }
    }

    /// Deliveries between lanes that are still remembered: message, account, mailbox.
    pub(crate) fn delivered_scan(&self) -> Result<Vec<(MessageId, AccountId, MailboxId)>> {
        let mut found = Vec::new();
        for home in &self.handle.core.homes {
            let view = home.view()?;
            view.range(Space::Delivered, Bound::Unbounded, Bound::Unbounded, &mut |key, _| {
                if let Some((id, rest)) = key.split_first_chunk::<8>()
                    && let Ok((account, mailbox)) = row::mailbox_of(rest)
                {
                    found.push((MessageId(u64::from_be_bytes(*id)), account, mailbox));
                }
                true
            })?;
        }
        Ok(found)
    }

    /// What opening the store found: what was applied again, and damage to acknowledged data.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.handle.core.report
    }

    /// Counters since the store was opened.
    pub fn stats(&self) -> StoreStats {
        let core = &self.handle.core;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreStats {
            transactions: get(&core.counters.transactions),
            messages: get(&core.counters.messages),
            groups: get(&core.counters.groups),
            log_syncs: get(&core.counters.syncs),
            index_syncs: get(&core.index_counters.syncs),
            log_bytes: get(&core.counters.bytes),
            index_bytes: get(&core.index_counters.bytes),
            segments_freed: get(&core.compact_counters.freed),
            freed_bytes: get(&core.compact_counters.freed_bytes),
            messages_moved: get(&core.compact_counters.moved),
            moved_bytes: get(&core.compact_counters.moved_bytes),
            scrubs: get(&core.scrub_counters.runs),
            scrubbed_bytes: get(&core.scrub_counters.bytes),
            scrub_findings: get(&core.scrub_counters.findings),
            counts_corrected: get(&core.scrub_counters.corrected),
            exports: get(&core.exports.made),
            export_bytes: get(&core.exports.written),
            export_failures: get(&core.exports.failed),
        }
    }

    /// Makes a durable checkpoint of the index now.
    pub fn checkpoint(&self) -> Result<()> {
        for home in &self.handle.core.homes {
            let done = home.index.shard()?.checkpoint();
            if done.is_err() {
                home.jobs.call();
            }
            done?;
        }
        Ok(())
    }

    /// Exports every shard that changed since its last export, durable and verified on return. Any thread
    /// may call, but no function that a committer calls.
    ///
    /// # Errors
    /// `Corrupt` when an index does not agree with itself, `Stopped`, `DiskFull`, or what the system reports; shards that
    /// were exported before stay so.
    pub fn export(&self) -> Result<Vec<Exported>> {
        self.export_each().collect()
    }

    fn export_each(&self) -> impl Iterator<Item = Result<Exported>> {
        let core = &self.handle.core;
        (0..self.lanes()).map(|lane| export::export_lane(core, Lane(lane)))
    }

    /// Gives back the space of what nothing refers to any more: one full pass over all lanes now, while mail flows.
    /// Not for a committer's thread.
    ///
    /// # Errors
    /// What the disk or the index reports, `Stopped`. What was freed until then stays freed.
    pub fn compact(&self, options: &CompactOptions) -> Result<CompactReport> {
        let core = &self.handle.core;
        let below_percent = match options.below_percent {
            0 => core.options.compact_below_percent,
            percent => percent.min(100),
        };
        let mut pace = core.maintenance.pace(core, options.bytes_per_second);
        let mut plan = compaction::Plan { below_percent, thorough: true, pace: &mut pace };
        let report = compaction::pass(core, &mut plan)?;
        if core.closing.load(Ordering::Acquire) { Err(stopped()) } else { Ok(report) }
    }

    /// Verifies every checksum of the segments that are left for good and of the exports, and counts the references of
    /// all messages again, while mail flows. `progress(done, total)` counts bytes. Not for a committer's thread.
    ///
    /// # Errors
    /// What the disk or the index reports beside damage, which is a finding; `Stopped`.
    pub fn scrub(
        &self,
        options: &ScrubOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ScrubReport> {
        let core = &self.handle.core;
        let mut pace = core.maintenance.pace(core, options.bytes_per_second);
        scrub::scrub(core, &mut pace, progress)
    }

    /// While what is returned lives, no segment is removed or used again, for instance because its file is copied.
    pub fn hold(&self, name: &str) -> Hold {
        self.handle.core.shelf.hold(name)
    }

    /// What the store can and cannot do at the moment.
    pub fn state(&self) -> StoreState {
        let core = &self.handle.core;
        let mut figures = core.space.figures();
        if figures == (u64::MAX, u64::MAX)
            && let Ok(vfs::Space { free, total }) = core.fs.space(&core.dir)
        {
            // The housekeeper has not looked yet.
            figures = (free, total);
        }
        let (free_bytes, total_bytes) = figures;
        let (lanes, space) = (core.conditions.lanes(), core.space.level());
        let (damage, more_damage) = core.conditions.damage();
        StoreState {
            lanes,
            space,
            free_bytes,
            total_bytes,
            damage,
            more_damage,
            scrubbed: *core.scrubbed.lock(),
            exported: core.exports.last.load(Ordering::Relaxed),
        }
    }

    /// What the log takes on the disk now. Lists a directory and reads a few rows of each index; waits for none that is
    /// being repaired.
    ///
    /// # Errors
    /// What the system reports.
    pub fn usage(&self) -> Result<Usage> {
        let core = &self.handle.core;
        let directory = core.dir.join(segment::DIRECTORY);
        let entries =
            core.fs.read_dir(&directory).map_err(|e| Error::io("list", &directory, &e))?;
        let mut usage = Usage { live_bytes: compaction::live_bytes_now(core), ..Usage::default() };
        for entry in &entries {
            if segment::parse_name(&entry.name, ".phl").is_some() {
                usage.segments = usage.segments.saturating_add(1);
                usage.log_bytes = usage.log_bytes.saturating_add(entry.len);
            } else {
                usage.spare_bytes = usage.spare_bytes.saturating_add(entry.len);
            }
        }
        Ok(usage)
    }

    /// Whether mail can be taken now. Costs two reads of memory.
    pub fn admission(&self) -> Admission {
        let core = &self.handle.core;
        Admission {
            writable: !core.conditions.any_failing() && !core.conditions.any_rebuilding(),
            room: core.space.level() == SpaceLevel::Ample,
        }
    }

    /// Who is told when the state changes; at once of everything that is not well. Replaces an earlier one. The
    /// function runs on the store's housekeeper's thread and must be short.
    pub fn on_state(&self, sink: impl Fn(&StoreChange) + Send + Sync + 'static) {
        let core = &self.handle.core;
        core.conditions.tell_to(Some(Arc::new(sink)), core.space.level());
        core.housekeeper.look();
    }

    /// Verifies every record of the log and every reference of the index, while mail flows.
    /// `progress(done, total)` counts bytes of segments.
    pub fn check(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<CheckReport> {
        check::check(&self.handle.core, progress)
    }
}

/// Commits without keeping the store open.
#[derive(Clone)]
pub(crate) struct Submitter {
    core: Arc<Core>,
}

impl Submitter {
    /// As [`Store::commit_then`].
    pub(crate) fn commit_then(
        &self,
        lane: Lane,
        changes: Vec<Change>,
        then: impl FnOnce(Result<Committed>) + Send + 'static,
    ) {
        self.core.submit(lane, changes, Done::Call(Box::new(then)));
    }

    /// As [`Store::commit`] for those who do not wait for the answer.
    pub(crate) fn commit_silently(&self, lane: Lane, changes: Vec<Change>) {
        self.core.submit(lane, changes, Done::Silent);
    }
}

/// When a committer ends, by order or by a defect, nobody waits for it any more.
struct Abandon<'a, T>(&'a JobQueue<T>);

impl<T> Drop for Abandon<'_, T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Nor does a reader wait for what a committer that is gone has promised. One that ended by a defect
/// may not have shown it: the index says so.
struct Released<'a>(&'a Home);

impl Drop for Released<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.index.take_out();
            let text = "the lane's thread ended by a defect";
            self.0.index.fail(Error::new(Kind::Internal, text));
        }
        self.0.shown.keep(u64::MAX);
    }
}

impl Rows for Store {
    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        let change = Change::Row { table, key: key.to_vec(), value: Some(value.to_vec()) };
        self.commit(Lane(0), vec![change]).wait().map(|_| ())
    }

    fn delete(&self, table: Table, key: &[u8]) -> Result<()> {
        let change = Change::Row { table, key: key.to_vec(), value: None };
        self.commit(Lane(0), vec![change]).wait().map(|_| ())
    }

    fn scan(&self, table: Table) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let home = self.handle.core.home_or_refuse(Lane(0))?;
        let prefix = row::table_key(table, b"");
        let mut pairs = Vec::new();
        let view = home.view()?;
        view.range(Space::Row, Bound::Included(&prefix), Bound::Unbounded, &mut |key, value| {
            let Some(key) = key.strip_prefix(prefix.as_slice()) else { return false };
            pairs.push((key.to_vec(), value.to_vec()));
            true
        })?;
        Ok(pairs)
    }
}

/// Small durable tables for the rooms above: key and value are theirs. Kept in lane 0.
///
/// `put` and `delete` return after the sync. Any thread may call.
pub trait Rows: Send + Sync {
    /// Sets a value.
    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()>;
    /// Removes a key; removing what is not there is no error.
    fn delete(&self, table: Table, key: &[u8]) -> Result<()>;
    /// All pairs of a table, in the order of keys.
    fn scan(&self, table: Table) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
}
