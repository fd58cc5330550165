//! Exports: a lane's shard of the index in a file of our own format, at one place of the log.
//!
//! # Method
//! An export is made from one snapshot, which names the record that it shows last. The rows stand in the
//! order of table and key, in blocks with a checksum each; a footer counts them and has a checksum over
//! everything. It is written as `.new`, synced, renamed, the directory synced, read back and verified; only
//! then are the lane's older exports removed, and only then does [`Home::exported`](super::Home) say that log
//! up to its LSN is no longer needed for anything but message bytes. Writing and reading hold one block in
//! memory. The same state gives the same bytes.
//!
//! When an index is lost, damaged or of another version, recovery imports the newest export that verifies,
//! and replays the log behind it.
//!
//! # When
//! [`run`] is a thread of its own: it makes an export of a lane when the lane's log has grown since the last one
//! by `export_bytes`, and by `export_factor` times the bytes of the last export. [`export_lane`] makes one now.
//!
//! # Invariants
//! - What is exported agrees with itself (each row decodes, the figures of mailboxes and of the queue fit): an index that
//!   was damaged behind redb's back does not become the truth.
//! - A file with the final name that does not verify is damaged. It is set aside under `.bad` by recovery, and
//!   is used for nothing.
//!
//! # Failure
//! An export that cannot be made changes nothing; it is tried again after a minute, or when it is asked for.

use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::encoding::{Malformed, Reader, put_number};
use super::index::row::{self, Applied, Head, Place};
use super::index::{self, Changes, IndexKv, IndexView, Space};
use super::segment::parse_name;
use super::{Core, Lane, stopped};
use crate::error::{Error, Kind, Result};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::vfs::{self, File, Fs, Open};

/// Name of the directory.
pub const DIRECTORY: &str = "export";
/// How the name of an export ends.
const SUFFIX: &str = ".phx";
/// How the name of one in preparation ends.
const NEW: &str = ".new";

const MAJOR: u16 = 1;
const MINOR: u16 = 0;
const MAGIC: &[u8; 8] = b"PHEXPORT";
const END_MAGIC: &[u8; 8] = b"PHEXPEND";
const HEADER_LEN: usize = 128;
const FOOTER_LEN: usize = 80;
const BLOCK_HEADER_LEN: usize = 16;
/// A block is written when its rows have this many bytes.
const BLOCK_BYTES: usize = 64 << 10;
/// Most bytes of a block's rows: one row can be large. A length beyond it is damage.
const BLOCK_LIMIT: usize = 32 << 20;
/// Rows are imported in transactions of this many bytes.
const IMPORT_BYTES: usize = 4 << 20;
/// After this many bytes an import is made durable, so that the index's engine holds no more.
const IMPORT_DURABLE_BYTES: usize = 32 << 20;
/// An export that failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// An export of a lane's shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The lane.
    pub lane: Lane,
    /// LSN of the last record that it shows; 0: the lane is empty, and there is no export.
    pub lsn: u64,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What an export says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Title {
    /// The store's identity.
    pub uuid: [u8; 16],
    /// The lane.
    pub lane: Lane,
    /// Up to where the log is applied.
    pub applied: Applied,
    /// Version of keys and values.
    pub rows_version: u32,
}

impl Title {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&MAJOR.to_le_bytes());
        out.extend_from_slice(&MINOR.to_le_bytes());
        out.extend_from_slice(&[self.lane.0, 0, 0, 0]);
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&self.applied.lsn.to_le_bytes());
        out.extend_from_slice(&self.applied.segment.to_le_bytes());
        out.extend_from_slice(&self.applied.offset.to_le_bytes());
        out.extend_from_slice(&self.rows_version.to_le_bytes());
        // Feature bits: a reader that does not know one that is set must not use the export.
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.resize(HEADER_LEN - 4, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// What these bytes say of an export at `path`.
    fn decode(bytes: &[u8], path: &Path) -> Result<Title> {
        let cut = || damaged(path, "the header is cut off");
        let broken = |_: Malformed| cut();
        let (fields, crc) = bytes.split_last_chunk::<4>().ok_or_else(cut)?;
        let mut reader = Reader::new(fields);
        if &reader.array::<8>().map_err(broken)? != MAGIC
            || crc32c::crc32c(fields) != u32::from_le_bytes(*crc)
        {
            return Err(damaged(path, "the header fails its checksum"));
        }
        let (major, minor) = (reader.u16().map_err(broken)?, reader.u16().map_err(broken)?);
        let [lane, ..] = reader.array::<4>().map_err(broken)?;
        let title = Title {
            lane: Lane(lane),
            uuid: reader.array().map_err(broken)?,
            applied: Applied {
                lsn: reader.u64().map_err(broken)?,
                segment: reader.u64().map_err(broken)?,
                offset: reader.u64().map_err(broken)?,
            },
            rows_version: reader.u32().map_err(broken)?,
        };
        let features = reader.u32().map_err(broken)?;
        if major > MAJOR || features != 0 {
            return Err(super::format::newer(path, (major, minor), &[features]));
        }
        if title.rows_version > index::VERSION {
            let (path, version) = (path.display(), title.rows_version);
            let text = format!(
                "{path} has rows of version {version}, this version reads up to {}",
                index::VERSION
            );
            return Err(Error::new(Kind::FormatNewer, text));
        }
        Ok(title)
    }
}

/// What an export's end says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Footer {
    rows: u64,
    blocks: u64,
    /// Bytes of the file before the footer.
    bytes: u64,
    hash: [u8; 32],
    lsn: u64,
}

impl Footer {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_LEN);
        out.extend_from_slice(END_MAGIC);
        for number in [self.rows, self.blocks, self.bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.hash);
        out.extend_from_slice(&self.lsn.to_le_bytes());
        out.resize(FOOTER_LEN - 4, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> std::result::Result<Footer, &'static str> {
        let broken = |_: Malformed| "the footer is cut off";
        let (fields, crc) = bytes.split_last_chunk::<4>().ok_or("the footer is cut off")?;
        let mut reader = Reader::new(fields);
        if &reader.array::<8>().map_err(broken)? != END_MAGIC
            || crc32c::crc32c(fields) != u32::from_le_bytes(*crc)
        {
            return Err("the footer fails its checksum");
        }
        Ok(Footer {
            rows: reader.u64().map_err(broken)?,
            blocks: reader.u64().map_err(broken)?,
            bytes: reader.u64().map_err(broken)?,
            hash: reader.array().map_err(broken)?,
            lsn: reader.u64().map_err(broken)?,
        })
    }
}

/// The path of an export.
pub fn path(dir: &Path, lane: Lane, lsn: u64) -> PathBuf {
    dir.join(DIRECTORY).join(format!("{:02x}-{lsn:016x}{SUFFIX}", lane.0))
}

/// LSNs of a lane's exports as the names tell them, the newest first.
pub fn list(fs: &dyn Fs, dir: &Path, lane: Lane) -> Result<Vec<u64>> {
    let mut found: Vec<u64> = entries(fs, dir)?
        .iter()
        .filter_map(|entry| parse_name(&entry.name, SUFFIX))
        .filter(|(of, _)| *of == lane.0)
        .map(|(_, lsn)| lsn)
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

fn entries(fs: &dyn Fs, dir: &Path) -> Result<Vec<vfs::Entry>> {
    let directory = dir.join(DIRECTORY);
    match fs.read_dir(&directory) {
        Ok(entries) => Ok(entries),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io("list", &directory, &e)),
    }
}

/// Bytes of all exports.
pub fn bytes(fs: &dyn Fs, dir: &Path) -> Result<u64> {
    let entries = entries(fs, dir)?;
    let exports = entries.iter().filter(|entry| entry.name.ends_with(SUFFIX));
    Ok(exports.fold(0, |sum, entry| sum.saturating_add(entry.len)))
}

/// Refuses a store that has an export of a later version: its log may be gone, and it must not be set aside. Reads
/// the headers only, and changes nothing.
///
/// # Errors
/// `FormatNewer`, or what the system reports.
pub fn survey(fs: &dyn Fs, dir: &Path, uuid: &[u8; 16]) -> Result<()> {
    for entry in entries(fs, dir)? {
        if parse_name(&entry.name, SUFFIX).is_none() || entry.len < HEADER_LEN as u64 {
            continue;
        }
        let path = dir.join(DIRECTORY).join(&entry.name);
        let file = fs.open(&path, Open::Read).map_err(|e| Error::io("open", &path, &e))?;
        let mut bytes = [0; HEADER_LEN];
        vfs::read_exact_at(file.as_ref(), &mut bytes, 0)
            .map_err(|e| Error::io("read", &path, &e))?;
        match Title::decode(&bytes, &path) {
            // The identity keeps its place.
            Err(e) if e.kind() == Kind::FormatNewer && bytes.get(16..32) == Some(&uuid[..]) => {
                return Err(e);
            }
            // What is damaged is told by whoever needs it.
            _ => {}
        }
    }
    Ok(())
}

/// Removes what an earlier opening prepared and did not finish.
pub fn sweep(fs: &dyn Fs, dir: &Path) -> Result<()> {
    for entry in entries(fs, dir)? {
        if entry.name.ends_with(NEW) && !entry.is_dir {
            let path = dir.join(DIRECTORY).join(&entry.name);
            fs.remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?;
        }
    }
    Ok(())
}

/// Sets a damaged export aside, so that nobody takes it for a good one. It goes with the lane's next export.
pub fn set_aside(fs: &dyn Fs, dir: &Path, lane: Lane, lsn: u64) -> Result<()> {
    let path = path(dir, lane, lsn);
    fs.rename(&path, &path.with_extension("bad")).map_err(|e| Error::io("rename", &path, &e))?;
    let directory = dir.join(DIRECTORY);
    fs.sync_dir(&directory).map_err(|e| Error::io("sync", &directory, &e))
}

/// The newest export of a lane whose header and footer fit; its rows are not read.
pub fn newest(fs: &dyn Fs, dir: &Path, uuid: &[u8; 16], lane: Lane) -> Result<Option<Exported>> {
    for lsn in list(fs, dir, lane)? {
        match Export::open(fs, dir, uuid, lane, lsn) {
            Ok(export) => {
                let (rows, bytes) = (export.footer.rows, export.len);
                return Ok(Some(Exported { lane, lsn, rows, bytes }));
            }
            Err(e) if e.kind() == Kind::Corrupt => tracing::error!("{e}; it is not used"),
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// An export that is open for reading.
pub struct Export {
    file: Arc<dyn File>,
    path: PathBuf,
    /// What it says of itself.
    pub title: Title,
    footer: Footer,
    len: u64,
}

impl Export {
    /// Opens an export; its header and footer are verified, nothing else.
    ///
    /// # Errors
    /// `Corrupt` when they do not fit, or what the system reports.
    pub fn open(fs: &dyn Fs, dir: &Path, uuid: &[u8; 16], lane: Lane, lsn: u64) -> Result<Export> {
        let path = path(dir, lane, lsn);
        let file = fs.open(&path, Open::Read).map_err(|e| Error::io("open", &path, &e))?;
        let export = Export::of_file(file, path)?;
        let title = &export.title;
        if &title.uuid != uuid || title.lane != lane || title.applied.lsn != lsn {
            return Err(export.damaged("it is another store's, or another lane's"));
        }
        Ok(export)
    }

    /// As [`Export::open`], of any file.
    pub fn of_file(file: Arc<dyn File>, path: PathBuf) -> Result<Export> {
        let reading = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => damaged(&path, "the file is cut off"),
            _ => Error::io("read", &path, &e),
        };
        let len = file.len().map_err(reading)?;
        let end = len
            .checked_sub(FOOTER_LEN as u64)
            .filter(|end| *end >= HEADER_LEN as u64)
            .ok_or_else(|| damaged(&path, "the file is cut off"))?;
        let mut bytes = vec![0; HEADER_LEN];
        vfs::read_exact_at(file.as_ref(), &mut bytes, 0).map_err(reading)?;
        let title = Title::decode(&bytes, &path)?;
        bytes.resize(FOOTER_LEN, 0);
        let bytes = bytes.get_mut(..FOOTER_LEN).unwrap_or_default();
        vfs::read_exact_at(file.as_ref(), bytes, end).map_err(reading)?;
        let footer = Footer::decode(bytes).map_err(|why| damaged(&path, why))?;
        if footer.bytes != end || footer.lsn != title.applied.lsn {
            return Err(damaged(&path, "header and footer do not belong together"));
        }
        Ok(Export { file, path, title, footer, len })
    }

    fn damaged(&self, why: &str) -> Error {
        damaged(&self.path, why)
    }

    /// Reads all rows in their order, one block in memory, and verifies everything. What `visit` was given counts
    /// only when this answers `Ok`. `progress` is called with the bytes of each block. The number of rows.
    ///
    /// # Errors
    /// `Corrupt` with the offset, what the system reports, or what `visit` answers.
    pub fn read(
        &self,
        progress: &mut dyn FnMut(u64),
        visit: &mut dyn FnMut(Space, &[u8], &[u8]) -> Result<()>,
    ) -> Result<u64> {
        let reading = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("the file is cut off"),
            _ => Error::io("read", &self.path, &e),
        };
        let mut hash = blake3::Hasher::new();
        hash.update(&self.title.encode());
        let mut at = HEADER_LEN as u64;
        let (mut rows, mut blocks) = (0_u64, 0_u64);
        let mut block = Vec::new();
        let mut last: Option<(Space, Vec<u8>)> = None;
        while at < self.footer.bytes {
            let flaw = |why: &str| self.damaged(&format!("offset {at}: {why}"));
            let left = self.footer.bytes.saturating_sub(at);
            let mut header = [0; BLOCK_HEADER_LEN];
            vfs::read_exact_at(self.file.as_ref(), &mut header, at).map_err(reading)?;
            let mut reader = Reader::new(&header);
            let broken = |_: Malformed| flaw("a block's header is cut off");
            let crc = reader.u32().map_err(broken)?;
            let len = reader.u32().map_err(broken)? as usize;
            let count = reader.u32().map_err(broken)?;
            let number = reader.u32().map_err(broken)?;
            let whole = (BLOCK_HEADER_LEN as u64).saturating_add(len as u64);
            if len > BLOCK_LIMIT || whole > left {
                return Err(flaw("a block has an impossible length"));
            }
            block.clear();
            block.resize(len, 0);
            vfs::read_exact_at(self.file.as_ref(), &mut block, at + BLOCK_HEADER_LEN as u64)
                .map_err(reading)?;
            let sum = crc32c::crc32c(header.get(4..).unwrap_or_default());
            if crc32c::crc32c_append(sum, &block) != crc {
                return Err(flaw("a block fails its checksum"));
            }
            if u64::from(number) != blocks & u64::from(u32::MAX) {
                return Err(flaw("a block is out of order"));
            }
            hash.update(&header);
            hash.update(&block);
            let mut reader = Reader::new(&block);
            let broken = |_: Malformed| flaw("a row does not make sense");
            for _ in 0..count {
                let space = Space::from_number(reader.byte().map_err(broken)?)
                    .ok_or_else(|| broken(Malformed))?;
                let key = reader.bytes().map_err(broken)?;
                let value = reader.bytes().map_err(broken)?;
                let after = match &mut last {
                    Some((before, at)) => {
                        let after = (*before, at.as_slice()) < (space, key);
                        *before = space;
                        at.clear();
                        at.extend_from_slice(key);
                        after
                    }
                    none => {
                        *none = Some((space, key.to_vec()));
                        true
                    }
                };
                if !after {
                    return Err(flaw("a row is out of order"));
                }
                visit(space, key, value)?;
            }
            reader.end().map_err(broken)?;
            rows = rows.saturating_add(u64::from(count));
            blocks = blocks.saturating_add(1);
            at = at.saturating_add(whole);
            progress(whole);
        }
        if rows != self.footer.rows
            || blocks != self.footer.blocks
            || hash.finalize().as_bytes() != &self.footer.hash
        {
            return Err(self.damaged("the footer does not fit what stands before it"));
        }
        Ok(rows)
    }

    /// Puts all rows into an index that is empty. Its owner and its position are put last, so that one that was not
    /// finished is known. The number of rows.
    ///
    /// # Errors
    /// As [`Export::read`], or what the index reports. The index is then worth nothing.
    pub fn import(&self, index: &dyn IndexKv, owner: &[u8]) -> Result<u64> {
        let mut changes = Changes::new();
        let (mut waiting, mut undurable) = (0_usize, 0_usize);
        let rows = self.read(&mut |_| {}, &mut |space, key, value| {
            waiting = waiting.saturating_add(key.len()).saturating_add(value.len());
            changes.insert((space, key.to_vec()), Some(value.to_vec()));
            if waiting >= IMPORT_BYTES {
                index.apply(&changes)?;
                changes.clear();
                undurable = undurable.saturating_add(waiting);
                waiting = 0;
                if undurable >= IMPORT_DURABLE_BYTES {
                    index.checkpoint()?;
                    undurable = 0;
                }
            }
            Ok(())
        })?;
        changes.insert((Space::Meta, row::APPLIED.to_vec()), Some(self.title.applied.encode()));
        changes.insert((Space::Meta, row::OWNER.to_vec()), Some(owner.to_vec()));
        index.apply(&changes)?;
        Ok(rows)
    }
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::new(Kind::Corrupt, format!("{}: {why}", path.display()))
}

/// Verifies every byte of an export.
pub fn verify(
    fs: &dyn Fs,
    dir: &Path,
    uuid: &[u8; 16],
    lane: Lane,
    lsn: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Exported> {
    let export = Export::open(fs, dir, uuid, lane, lsn)?;
    let mut proof = Proof::default();
    let rows = export.read(progress, &mut |space, key, value| {
        proof.row(space, key, value).map_err(|why| export.damaged(why))
    })?;
    proof.end().map_err(|why| export.damaged(why))?;
    Ok(Exported { lane, lsn, rows, bytes: export.len })
}

/// Looks whether rows, in their order, agree with one another. Holds a few numbers only.
#[derive(Default)]
struct Proof {
    queued: u64,
    entries: u64,
    /// Messages and bytes as the mailboxes' figures say.
    figures: (u64, u64),
    /// And as the messages themselves do.
    messages: (u64, u64),
    mailbox: Vec<u8>,
    uid: u32,
}

impl Proof {
    fn row(
        &mut self,
        space: Space,
        key: &[u8],
        value: &[u8],
    ) -> std::result::Result<(), &'static str> {
        match space {
            Space::Meta | Space::Row => Ok(()),
            Space::Place => {
                let place = Place::decode(value).map_err(|_| "a place row is damaged")?;
                row::message_of(key).map_err(|_| "a place row is damaged")?;
                self.queued = self.queued.saturating_add(u64::from(place.queued));
                Ok(())
            }
            Space::Queue => {
                row::message_of(key)
                    .and_then(|id| row::decode_queue(id, value))
                    .map_err(|_| "a queue row is damaged")?;
                self.entries = self.entries.saturating_add(1);
                Ok(())
            }
            Space::Head => {
                row::mailbox_of(key).map_err(|_| "a mailbox row is damaged")?;
                let head = Head::decode(value).map_err(|_| "a mailbox row is damaged")?;
                self.figures.0 = self.figures.0.saturating_add(head.messages);
                self.figures.1 = self.figures.1.saturating_add(head.bytes);
                Ok(())
            }
            Space::Pack => {
                let mailbox = key.get(..8).ok_or("a message row is damaged")?;
                if self.mailbox != mailbox {
                    self.mailbox.clear();
                    self.mailbox.extend_from_slice(mailbox);
                    self.uid = 0;
                }
                for row in row::decode_pack(value).map_err(|_| "a message row is damaged")? {
                    if row.uid <= self.uid {
                        return Err("the UIDs of a mailbox are out of order");
                    }
                    self.uid = row.uid;
                    self.messages.0 = self.messages.0.saturating_add(1);
                    self.messages.1 = self.messages.1.saturating_add(row.size);
                }
                Ok(())
            }
            Space::Delivered => match key.len() {
                16 => Ok(()),
                _ => Err("a delivery's row is damaged"),
            },
            Space::Live => {
                Reader::new(value).signed().map(|_| ()).map_err(|_| "a segment's row is damaged")
            }
        }
    }

    fn end(&self) -> std::result::Result<(), &'static str> {
        if self.queued != self.entries {
            return Err("places and queue do not agree");
        }
        if self.figures != self.messages {
            return Err("mailboxes and messages do not agree");
        }
        Ok(())
    }
}

/// Writes an export, block by block.
struct Writer<'a> {
    file: &'a dyn File,
    path: &'a Path,
    hash: blake3::Hasher,
    at: u64,
    block: Vec<u8>,
    count: u32,
    rows: u64,
    blocks: u64,
}

impl<'a> Writer<'a> {
    fn new(file: &'a dyn File, path: &'a Path, title: &Title) -> Result<Writer<'a>> {
        let mut writer = Writer {
            file,
            path,
            hash: blake3::Hasher::new(),
            at: 0,
            block: vec![0; BLOCK_HEADER_LEN],
            count: 0,
            rows: 0,
            blocks: 0,
        };
        writer.write(&title.encode())?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_at(bytes, self.at).map_err(|e| Error::io("write", self.path, &e))?;
        self.hash.update(bytes);
        self.at = self.at.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn row(&mut self, space: Space, key: &[u8], value: &[u8]) -> Result<()> {
        self.block.push(space as u8);
        put_number(&mut self.block, key.len() as u64);
        self.block.extend_from_slice(key);
        put_number(&mut self.block, value.len() as u64);
        self.block.extend_from_slice(value);
        self.count = self.count.saturating_add(1);
        if self.block.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let len = self.block.len().saturating_sub(BLOCK_HEADER_LEN);
        if len > BLOCK_LIMIT {
            return Err(Error::new(Kind::Limit, "a row of the index is too large to export"));
        }
        let mut block = std::mem::take(&mut self.block);
        let mut header = Vec::with_capacity(BLOCK_HEADER_LEN);
        header.extend_from_slice(&[0; 4]);
        for number in [len as u32, self.count, self.blocks as u32] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        if let Some(front) = block.first_chunk_mut::<BLOCK_HEADER_LEN>() {
            front.copy_from_slice(&header);
        }
        let crc = crc32c::crc32c(block.get(4..).unwrap_or_default());
        if let Some(front) = block.first_chunk_mut::<4>() {
            *front = crc.to_le_bytes();
        }
        self.write(&block)?;
        block.truncate(BLOCK_HEADER_LEN);
        self.block = block;
        self.rows = self.rows.saturating_add(u64::from(self.count));
        self.count = 0;
        self.blocks = self.blocks.saturating_add(1);
        Ok(())
    }

    fn end(mut self, lsn: u64) -> Result<()> {
        self.flush()?;
        let footer = Footer {
            rows: self.rows,
            blocks: self.blocks,
            bytes: self.at,
            hash: *self.hash.finalize().as_bytes(),
            lsn,
        };
        self.write(&footer.encode())
    }
}

/// Writes all rows of a snapshot that belong into an export: all but the owner and the position, which have places of
/// their own. `go_on` is asked for each row.
fn write(
    fs: &dyn Fs,
    path: &Path,
    title: &Title,
    view: &dyn IndexView,
    go_on: &dyn Fn() -> bool,
) -> Result<()> {
    let opening = |e: io::Error| Error::io("create", path, &e);
    let file = fs.open(path, Open::Create).map_err(opening)?;
    file.set_len(0).map_err(opening)?;
    let mut writer = Writer::new(file.as_ref(), path, title)?;
    let mut proof = Proof::default();
    let mut failed = None;
    for space in Space::ALL {
        view.range(space, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
            if space == Space::Meta && (key == row::OWNER || key == row::APPLIED) {
                return true;
            }
            let done = if go_on() {
                proof
                    .row(space, key, value)
                    .map_err(|why| disagrees(title.lane, why))
                    .and_then(|()| writer.row(space, key, value))
            } else {
                Err(stopped())
            };
            failed = done.err();
            failed.is_none()
        })?;
        if let Some(e) = failed {
            return Err(e);
        }
    }
    proof.end().map_err(|why| disagrees(title.lane, why))?;
    writer.end(title.applied.lsn)?;
    file.sync_all().map_err(|e| Error::io("sync", path, &e))
}

fn disagrees(lane: Lane, why: &str) -> Error {
    Error::new(Kind::Corrupt, format!("index of lane {}: {why}; it is not exported", lane.0))
}

/// What the store knows of its exports, and the wish for new ones.
pub struct Exports {
    lanes: Vec<LaneExports>,
    wanted: Mutex<Wanted>,
    ready: Condvar,
    bytes: u64,
    factor: u64,
    /// Exports made since the opening, their bytes, and those that failed.
    pub made: AtomicU64,
    /// See `made`.
    pub written: AtomicU64,
    /// See `made`.
    pub failed: AtomicU64,
    /// When the last one was made, in milliseconds since 1970; 0: none since the opening.
    pub last: AtomicU64,
}

#[derive(Default)]
struct LaneExports {
    /// Held while an export of the lane is made.
    alone: Mutex<()>,
    /// Log bytes since the last export.
    since: AtomicU64,
    /// Rows and bytes of the last export.
    rows: AtomicU64,
    bytes: AtomicU64,
    /// LSN of the export that was verified since the opening.
    proven: AtomicU64,
}

#[derive(Default)]
struct Wanted {
    export: bool,
    closing: bool,
}

impl Exports {
    /// Of this many ordinary lanes. An export is due after `bytes` of log, and `factor` times the last export's bytes.
    pub fn new(lanes: usize, bytes: u64, factor: u64) -> Exports {
        Exports {
            lanes: (0..lanes).map(|_| LaneExports::default()).collect(),
            wanted: Mutex::default(),
            ready: Condvar::new(),
            bytes: bytes.max(1),
            factor,
            made: AtomicU64::new(0),
            written: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// What the opening found: the lane's newest export, and the log bytes behind it.
    pub fn found(&self, lane: usize, exported: Option<Exported>, since: u64) {
        let Some(room) = self.lanes.get(lane) else { return };
        if let Some(exported) = exported {
            room.rows.store(exported.rows, Ordering::Relaxed);
            room.bytes.store(exported.bytes, Ordering::Relaxed);
        }
        self.wrote(lane, since);
    }

    /// A lane's log has grown.
    pub fn wrote(&self, lane: usize, bytes: u64) {
        let Some(room) = self.lanes.get(lane) else { return };
        let before = room.since.fetch_add(bytes, Ordering::Relaxed);
        let limit = self.limit(room);
        if before < limit && before.saturating_add(bytes) >= limit {
            self.wanted.lock().export = true;
            self.ready.notify_one();
        }
    }

    fn limit(&self, room: &LaneExports) -> u64 {
        self.bytes.max(self.factor.saturating_mul(room.bytes.load(Ordering::Relaxed)))
    }

    fn is_due(&self, room: &LaneExports) -> bool {
        room.since.load(Ordering::Relaxed) >= self.limit(room)
    }

    /// Bytes of a lane's last export.
    pub fn last_bytes(&self, lane: usize) -> u64 {
        self.lanes.get(lane).map_or(0, |room| room.bytes.load(Ordering::Relaxed))
    }

    /// Ends the thread.
    pub fn close(&self) {
        self.wanted.lock().closing = true;
        self.ready.notify_all();
    }

    /// Waits until nobody makes or verifies an export; nobody begins while what is returned lives.
    pub fn wait(&self) -> Vec<MutexGuard<'_, ()>> {
        self.lanes.iter().map(|lane| lane.alone.lock()).collect()
    }
}

/// The loop of the thread that makes exports when they are due; returns after `close`.
pub fn run(core: &Core) {
    let exports = &core.exports;
    loop {
        {
            let mut wanted = exports.wanted.lock();
            while !wanted.closing && !wanted.export {
                // What failed is still due, and tried again when the time is over.
                if exports.ready.wait_for(&mut wanted, AGAIN).timed_out() {
                    break;
                }
            }
            if wanted.closing {
                return;
            }
            wanted.export = false;
        }
        for (number, room) in (0_u8..).zip(&exports.lanes) {
            if exports.is_due(room)
                && let Err(e) = export_lane(core, Lane(number))
                && e.kind() != Kind::Stopped
            {
                tracing::error!("no export of lane {number}: {e}");
            }
        }
    }
}

/// Makes an export of a lane's shard now, durable and verified on return. When nothing changed since the last one, that
/// one is answered. Not for a committer's thread.
///
/// # Errors
/// `Corrupt` when the index does not agree with itself or the file reads back wrong, `Stopped`, or what the system
/// reports. Older exports are then still there.
pub(super) fn export_lane(core: &Core, lane: Lane) -> Result<Exported> {
    let done = attempt(core, lane);
    let counter = match &done {
        Err(e) if e.kind() != Kind::Stopped => &core.exports.failed,
        _ => return done,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    if let Err(e) = &done
        && e.kind() == Kind::Corrupt
    {
        // Nothing of the lane's log is freed any more until this is mended.
        core.damaged(e.message());
    }
    done
}

fn attempt(core: &Core, lane: Lane) -> Result<Exported> {
    let home = core.home_or_refuse(lane)?;
    let Some(room) = core.exports.lanes.get(usize::from(lane.0)) else { return Err(stopped()) };
    let _alone = room.alone.lock();
    if core.closing.load(Ordering::Acquire) {
        return Err(stopped());
    }
    let since = room.since.load(Ordering::Relaxed);
    let view = home.view()?;
    let applied = match view.get(Space::Meta, row::APPLIED)? {
        Some(value) => Applied::decode(&value).map_err(|_| super::damaged_row("position"))?,
        None => Applied::default(),
    };
    let lsn = applied.lsn;
    if lsn == home.exported.load(Ordering::Acquire) {
        room.since.fetch_sub(since, Ordering::Relaxed);
        let rows = room.rows.load(Ordering::Relaxed);
        return Ok(Exported { lane, lsn, rows, bytes: room.bytes.load(Ordering::Relaxed) });
    }
    let fs = core.fs.as_ref();
    let title = Title { uuid: core.uuid, lane, applied, rows_version: index::VERSION };
    let last = path(&core.dir, lane, lsn);
    let new = last.with_extension(NEW.trim_start_matches('.'));
    let go_on = || !core.closing.load(Ordering::Acquire);
    if let Err(e) = write(fs, &new, &title, view.as_ref(), &go_on) {
        // Swept at the next opening at the latest.
        let _ = fs.remove_file(&new);
        return Err(e);
    }
    drop(view);
    let directory = core.dir.join(DIRECTORY);
    fs.rename(&new, &last).map_err(|e| Error::io("rename", &last, &e))?;
    fs.sync_dir(&directory).map_err(|e| Error::io("sync", &directory, &e))?;
    let exported = match verify(fs, &core.dir, &core.uuid, lane, lsn, &mut |_| {}) {
        Ok(exported) => exported,
        Err(e) => {
            if e.kind() == Kind::Corrupt {
                let _ = fs.remove_file(&last);
            }
            return Err(e);
        }
    };
    room.rows.store(exported.rows, Ordering::Relaxed);
    room.bytes.store(exported.bytes, Ordering::Relaxed);
    room.proven.store(lsn, Ordering::Release);
    room.since.fetch_sub(since, Ordering::Relaxed);
    core.exports.made.fetch_add(1, Ordering::Relaxed);
    core.exports.written.fetch_add(exported.bytes, Ordering::Relaxed);
    home.exported.store(lsn, Ordering::Release);
    core.exports.last.store(core.clock.unix_millis(), Ordering::Relaxed);
    // What remains of older ones is only space; the next export removes it.
    for entry in entries(fs, &core.dir)? {
        let old = [SUFFIX, ".bad"].iter().find_map(|suffix| parse_name(&entry.name, suffix));
        let path = directory.join(&entry.name);
        if old.is_some_and(|(of, _)| of == lane.0)
            && path != last
            && let Err(e) = fs.remove_file(&path)
        {
            tracing::warn!("{}: {e}", path.display());
        }
    }
    Ok(exported)
}

/// Verifies the export that a lane relies on, unless that was done since the opening. One that is damaged is set
/// aside, and nothing relies on it any more. Not for a committer's thread.
///
/// # Errors
/// What the system reports.
pub(super) fn prove(core: &Core, lane: Lane) -> Result<()> {
    let home = core.home_or_refuse(lane)?;
    let Some(room) = core.exports.lanes.get(usize::from(lane.0)) else { return Err(stopped()) };
    let _alone = room.alone.lock();
    if core.closing.load(Ordering::Acquire) {
        return Err(stopped());
    }
    loop {
        let lsn = home.exported.load(Ordering::Acquire);
        if lsn == 0 || room.proven.load(Ordering::Acquire) == lsn {
            return Ok(());
        }
        match verify(core.fs.as_ref(), &core.dir, &core.uuid, lane, lsn, &mut |_| {}) {
            Ok(_) => room.proven.store(lsn, Ordering::Release),
            Err(e) if e.kind() == Kind::Corrupt => {
                tracing::error!("{e}; the export is not used");
                give_up(core, lane, lsn)?;
            }
            Err(e) => {
                // It may have been removed by hand.
                rely_on_newest(core, lane)?;
                if home.exported.load(Ordering::Acquire) == lsn {
                    return Err(e);
                }
            }
        }
    }
}

/// Sets an export aside that was found to be damaged; another one is made soon. Not for a committer's thread.
///
/// # Errors
/// What the system reports.
pub(super) fn distrust(core: &Core, lane: Lane, lsn: u64) -> Result<()> {
    let Some(room) = core.exports.lanes.get(usize::from(lane.0)) else { return Err(stopped()) };
    let _alone = room.alone.lock();
    if core.closing.load(Ordering::Acquire) {
        return Err(stopped());
    }
    // Another one may have taken its name meanwhile.
    match verify(core.fs.as_ref(), &core.dir, &core.uuid, lane, lsn, &mut |_| {}) {
        Err(e) if e.kind() == Kind::Corrupt => give_up(core, lane, lsn),
        _ => Ok(()),
    }
}

fn give_up(core: &Core, lane: Lane, lsn: u64) -> Result<()> {
    set_aside(core.fs.as_ref(), &core.dir, lane, lsn)?;
    rely_on_newest(core, lane)?;
    if let Some(room) = core.exports.lanes.get(usize::from(lane.0)) {
        core.exports.wrote(usize::from(lane.0), core.exports.limit(room));
    }
    Ok(())
}

/// What a lane relies on is the newest export that is there, if any.
///
/// # Errors
/// What the system reports.
pub(super) fn rely_on_newest(core: &Core, lane: Lane) -> Result<()> {
    let home = core.home_or_refuse(lane)?;
    let newest = newest(core.fs.as_ref(), &core.dir, &core.uuid, lane)?;
    home.exported.store(newest.map_or(0, |exported| exported.lsn), Ordering::Release);
    Ok(())
}
