//! Opening a lane: where its log ends, and an index that shows all of it.
//!
//! **Chain.** Segments are put in the order of their numbers. One that a later header leaves out (its
//! `previous` is a lower number) is void and removed. A segment's records end where the next header
//! says.
//!
//! **Scan.** From the position that the index was last made durable at (from the first segment when the
//! index is new), records must follow one another without a gap in their LSNs, with both checksums
//! right. Only whole transactions are applied.
//!
//! **A place that cannot be read** is judged by what stands behind it. If the segment is not the lane's
//! last, or if any later valid record says that records up to this one were durable, then acknowledged
//! data is damaged: the range is reported, what follows is applied from the next beginning of a
//! transaction, and all mailboxes of the lane skip as many UIDs as records were lost, so that no UID can
//! be given twice. Otherwise it is the torn end of a group that nobody was told of, and the log ends
//! before it. Nothing is ever cut off on disk: the lane's next segment names the end.
//!
//! **An index** that is missing, damaged, unfinished, or of another owner or version is made again: from the newest
//! export that verifies, set aside if none of its rows can be trusted, and from the log behind it. Segments
//! that were freed leave gaps; one that lies behind the position that the scan starts at is damage.
//!
//! Records found behind the last checkpoint are made durable before they are applied, because a process
//! that died may have written them without a sync, or with one that failed: those that no later record
//! tells to be durable are written again, and the segment is synced. Running this again gives the same result.

use std::collections::{HashMap, VecDeque};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::Lane;
use super::export::{self, Export};
use super::index::apply::{Applier, Position};
use super::index::redb::{IndexCounters, Redb, Verify, mark_of};
use super::index::{self, Batch, IndexKv, Space, row};
use super::lane::Tail;
use super::record::{ALIGN, FLAG_BEGIN, FLAG_END, Header, Record};
use super::segment::{self, Found, HEADER_BYTES, Scanner, SegmentHeader};
use crate::error::{Error, Kind, Result};
use crate::vfs::{Fs, Open};
use std::sync::Arc;

/// Changes that are collected before they are applied together.
const BATCH: usize = 4096;
/// Bytes that are written again at once.
const REWRITE: usize = 1 << 20;

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Records that were applied again because the index did not have them.
    pub replayed: u64,
    /// Shards whose index was made again, from an export and the log or from the log alone.
    pub rebuilt: u32,
    /// Rows of the index that came from exports.
    pub imported: u64,
    /// One line for each thing that was wrong and is mended, or that no acknowledged data was lost by: exports that are
    /// damaged, an index that was made again.
    pub notes: Vec<String>,
    /// One line for each damaged place of acknowledged data, naming file, offsets and records.
    pub damage: Vec<String>,
}

/// A segment of a lane as it was found.
pub struct FoundSegment {
    /// Its number.
    pub number: u64,
    /// Bytes of the file.
    pub len: u64,
    /// Its header; `None` when it is damaged.
    pub header: Option<SegmentHeader>,
    /// Where its records end, when the next segment says it.
    pub end: Option<u64>,
}

/// The segments of a lane in the order of the log.
#[derive(Default)]
pub struct Chain {
    /// Those that count.
    pub segments: Vec<FoundSegment>,
    /// Numbers of those that do not.
    pub void: Vec<u64>,
}

impl Chain {
    /// The number of the next segment.
    pub fn next_number(&self) -> u64 {
        let last = self.segments.last().map_or(0, |s| s.number);
        let void = self.void.iter().copied().max().unwrap_or(0);
        last.max(void).saturating_add(1)
    }

    /// Bytes of the log's segments that begin behind a record, up to the tail.
    pub fn bytes_behind(&self, lsn: u64, tail: Tail) -> u64 {
        let behind = self.segments.iter().filter(|s| s.header.is_none_or(|h| h.first_lsn > lsn));
        behind.fold(0, |sum, s| {
            let end = if s.number == tail.segment { Some(tail.end) } else { s.end };
            sum.saturating_add(end.unwrap_or(s.len))
        })
    }

    /// Ends the chain where a running lane says that its log ends: what stands behind was never answered.
    pub fn end_at(&mut self, tail: Tail) {
        for found in self.segments.iter_mut().filter(|s| s.number >= tail.segment) {
            let end = if found.number == tail.segment { tail.end } else { HEADER_BYTES };
            found.end = Some(end);
        }
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().fold(0, |sum, s| sum.saturating_add(s.len))
    }
}

/// Reads the headers of all segments of `lanes` lanes, the large one included. Changes nothing.
///
/// # Errors
/// `FormatNewer` for a segment of a later version, or what the system reports.
pub fn survey(fs: &dyn Fs, dir: &Path, uuid: &[u8; 16], lanes: usize) -> Result<Vec<Chain>> {
    survey_some(fs, dir, uuid, lanes, &|_| true)
}

/// As [`survey`], for one lane, while the others work.
pub fn survey_lane(fs: &dyn Fs, dir: &Path, uuid: &[u8; 16], lane: Lane) -> Result<Chain> {
    let lanes = usize::from(lane.0).saturating_add(1);
    let chains = survey_some(fs, dir, uuid, lanes, &|number| number == lane.0)?;
    Ok(chains.into_iter().last().unwrap_or_default())
}

fn survey_some(
    fs: &dyn Fs,
    dir: &Path,
    uuid: &[u8; 16],
    lanes: usize,
    wanted: &dyn Fn(u8) -> bool,
) -> Result<Vec<Chain>> {
    let directory = dir.join(segment::DIRECTORY);
    let entries = fs.read_dir(&directory).map_err(|e| Error::io("list", &directory, &e))?;
    let mut chains: Vec<Chain> = (0..lanes).map(|_| Chain::default()).collect();
    for entry in entries {
        let Some((lane, number)) = segment::parse_name(&entry.name, ".phl") else { continue };
        if !wanted(lane) {
            continue;
        }
        let Some(chain) = chains.get_mut(usize::from(lane)) else { continue };
        let path = segment::path(dir, lane, number);
        let file = match fs.open(&path, Open::Read) {
            Ok(file) => file,
            // It was freed since the directory was read; a lane that works removes what is void, too.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("open", &path, &e)),
        };
        let reading = |e: std::io::Error| Error::io("read", &path, &e);
        let header = SegmentHeader::read(file.as_ref(), uuid)
            .map_err(reading)?
            .filter(|header| header.lane == lane && header.number == number);
        if header.is_none()
            && let Some(demand) = SegmentHeader::later(file.as_ref(), uuid).map_err(reading)?
        {
            return Err(demand.refuse(&path));
        }
        let len = file.len().map_err(|e| Error::io("read", &path, &e))?;
        chain.segments.push(FoundSegment { number, len, header, end: None });
    }
    for chain in &mut chains {
        link(chain);
    }
    Ok(chains)
}

/// Leaves out void segments and fills in the ends.
fn link(chain: &mut Chain) {
    chain.segments.sort_by_key(|s| s.number);
    let mut ends = HashMap::new();
    // Of the headers with a higher number: the lowest number that one of them names as the one before it.
    let mut named = u64::MAX;
    let mut kept = Vec::with_capacity(chain.segments.len());
    for mut found in chain.segments.drain(..).rev() {
        let number = found.number;
        let void = named < number;
        if let Some(header) = found.header {
            named = named.min(header.previous);
            // The lowest of those that name a segment comes last and stays.
            ends.insert(header.previous, header.previous_end);
        }
        if void {
            chain.void.push(number);
        } else {
            found.end = ends.get(&number).copied();
            kept.push(found);
        }
    }
    kept.reverse();
    chain.void.reverse();
    chain.segments = kept;
}

/// Removes void segments. Answers lane, number and path of each segment in preparation that an earlier opening
/// left; their names are durable.
pub fn sweep(fs: &dyn Fs, dir: &Path, chains: &[Chain]) -> Result<Vec<(u8, u64, PathBuf)>> {
    let directory = dir.join(segment::DIRECTORY);
    let entries = fs.read_dir(&directory).map_err(|e| Error::io("list", &directory, &e))?;
    let mut prepared = Vec::new();
    for entry in entries {
        let path = directory.join(&entry.name);
        match segment::parse_name(&entry.name, ".new") {
            Some((lane, number)) if usize::from(lane) < chains.len() => {
                prepared.push((lane, number, path));
            }
            Some(_) => fs.remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?,
            None => {}
        }
    }
    for (lane, chain) in chains.iter().enumerate() {
        for number in &chain.void {
            let path = segment::path(dir, u8::try_from(lane).unwrap_or(u8::MAX), *number);
            fs.remove_file(&path).map_err(|e| Error::io("remove", &path, &e))?;
        }
    }
    // What is found is going to be relied upon: a segment that the index refers to keeps its name from here on, also if
    // the lane that made it died before it could sync the name; and one that became a spare is none again.
    fs.sync_dir(&directory).map_err(|e| Error::io("sync", &directory, &e))?;
    Ok(prepared)
}

/// Where a lane goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The end of the log.
    pub tail: Tail,
    /// No LSN up to this one may be given again.
    pub last_lsn: u64,
    /// Nothing that can be read stands behind the end: the file may be cut off there.
    pub clean: bool,
}

/// What a scan works on.
pub struct Recovery<'a> {
    /// The file system.
    pub fs: &'a dyn Fs,
    /// The store's directory.
    pub dir: &'a Path,
    /// The lane.
    pub lane: Lane,
    /// The lane of large bodies.
    pub large: Lane,
    /// What is found.
    pub report: &'a mut RecoveryReport,
}

/// Which shard of the index.
pub struct Shard<'a> {
    /// The store's directory.
    pub dir: &'a Path,
    /// The store's identity.
    pub uuid: &'a [u8; 16],
    /// Its lane.
    pub lane: Lane,
    /// Counters of the store.
    pub counters: &'a Arc<IndexCounters>,
}

impl Shard<'_> {
    fn path(&self) -> PathBuf {
        self.dir.join(super::INDEX_DIRECTORY).join(format!("{:02x}.redb", self.lane.0))
    }

    /// What the shard's file says of itself.
    fn owner(&self) -> Vec<u8> {
        let mut owner = self.uuid.to_vec();
        owner.push(self.lane.0);
        owner.extend_from_slice(&index::VERSION.to_le_bytes());
        owner
    }
}

/// Opens a shard that is there and of use; `None` when it has to be made anew, and why.
fn existing_index(
    fs: &Arc<dyn Fs>,
    path: &Path,
    owner: &[u8],
    counters: &Arc<IndexCounters>,
) -> Result<std::result::Result<Redb, &'static str>> {
    if fs.metadata(&mark_of(path)).is_ok() {
        return Ok(Err("it is marked as damaged"));
    }
    match fs.metadata(path) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Err("it is missing")),
        Err(e) => return Err(Error::io("look at", path, &e)),
    }
    let opened = Redb::open(fs, path, counters, Verify::Everything)
        .and_then(|index| Ok((index.view()?.get(Space::Meta, row::OWNER)?, index)));
    match opened {
        Ok((found, index)) if found.as_deref() == Some(owner) => Ok(Ok(index)),
        // The owner is durable before anything else of it counts.
        Ok((None, _)) => Ok(Err("it was not finished")),
        Ok(_) => Ok(Err("it is another store's or of another version")),
        Err(e) if e.kind() == Kind::Corrupt => Ok(Err("it is damaged")),
        Err(e) => Err(e),
    }
}

/// Marks every shard as damaged, so that it is made again.
pub fn mark_all(fs: &dyn Fs, dir: &Path, lanes: u8) -> Result<()> {
    let directory = dir.join(super::INDEX_DIRECTORY);
    for lane in 0..lanes {
        let mark = mark_of(&directory.join(format!("{lane:02x}.redb")));
        fs.open(&mark, Open::Create)
            .and_then(|file| file.sync_all())
            .map_err(|e| Error::io("create", &mark, &e))?;
    }
    fs.sync_dir(&directory).map_err(|e| Error::io("sync", &directory, &e))
}

/// Removes a shard's file, and then its mark.
fn remove_index(fs: &dyn Fs, path: &Path, mark: &Path) -> Result<()> {
    for (name, last) in [(path, false), (mark, true)] {
        match fs.remove_file(name) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", name, &e));
            }
            // The file is gone for good before its mark is.
            Ok(()) if !last => {
                let directory = path.parent().unwrap_or(path);
                fs.sync_dir(directory).map_err(|e| Error::io("sync", directory, &e))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn own(index: &Redb, owner: &[u8]) -> Result<()> {
    let mut changes = index::Changes::new();
    changes.insert((Space::Meta, row::OWNER.to_vec()), Some(owner.to_vec()));
    index.apply(&changes)
}

impl Recovery<'_> {
    /// Finds the end of the large lane. Its records change no index.
    pub fn large_tail(&mut self, chain: &Chain) -> Result<Outcome> {
        self.scan(chain, row::Applied::default(), None, chain.segments.len().saturating_sub(1))
    }

    /// Opens a lane's shard of the index and applies what it does not have of the log. A shard that cannot be used, or
    /// that breaks while it is, is made again: from the newest export that verifies, else from the log alone.
    pub fn open_shard(
        &mut self,
        fs: &Arc<dyn Fs>,
        shard: &Shard<'_>,
        chain: &Chain,
    ) -> Result<(Redb, Outcome)> {
        let (path, owner) = (shard.path(), shard.owner());
        let before = self.report.clone();
        let why = match existing_index(fs, &path, &owner, shard.counters)? {
            Ok(index) => match self.replay(chain, &index) {
                Ok(outcome) => return Ok((index, outcome)),
                Err(e) if e.kind() == Kind::Corrupt => "it is damaged",
                Err(e) => return Err(e),
            },
            Err(why) => why,
        };
        let mut notes = Vec::new();
        for lsn in export::list(fs.as_ref(), self.dir, self.lane)? {
            self.report.clone_from(&before);
            let from = export::path(self.dir, self.lane, lsn);
            let made = self.anew(fs, shard, chain, |index| {
                let export = Export::open(fs.as_ref(), shard.dir, shard.uuid, shard.lane, lsn)?;
                export.import(index, &owner)
            });
            match made {
                Ok((made, rows)) => {
                    self.report.rebuilt = self.report.rebuilt.saturating_add(1);
                    self.report.imported = self.report.imported.saturating_add(rows);
                    notes.push(format!(
                        "{}: {why}; made again from {rows} rows of {} and {} records behind it",
                        path.display(),
                        from.display(),
                        self.report.replayed.saturating_sub(before.replayed)
                    ));
                    self.note(notes);
                    return Ok(made);
                }
                Err(e) if e.kind() == Kind::Corrupt => {
                    notes.push(format!("{e}; the export is not used"));
                    export::set_aside(fs.as_ref(), self.dir, self.lane, lsn)?;
                }
                Err(e) => return Err(e),
            }
        }
        self.report.clone_from(&before);
        let (made, ()) = self.anew(fs, shard, chain, |index| own(index, &owner))?;
        if !chain.segments.is_empty() {
            notes.push(format!(
                "{}: {why}; made again from {} records of the log",
                path.display(),
                self.report.replayed.saturating_sub(before.replayed)
            ));
        }
        self.note(notes);
        Ok(made)
    }

    /// Makes a shard anew: empty, filled, and what the log has behind that applied.
    fn anew<T>(
        &mut self,
        fs: &Arc<dyn Fs>,
        shard: &Shard<'_>,
        chain: &Chain,
        fill: impl FnOnce(&Redb) -> Result<T>,
    ) -> Result<((Redb, Outcome), T)> {
        let path = shard.path();
        remove_index(fs.as_ref(), &path, &mark_of(&path))?;
        let index = Redb::open(fs, &path, shard.counters, Verify::Nothing)?;
        let filled = fill(&index)?;
        let outcome = self.replay(chain, &index)?;
        Ok(((index, outcome), filled))
    }

    fn note(&mut self, lines: Vec<String>) {
        for line in lines {
            tracing::warn!("{line}");
            self.report.notes.push(line);
        }
    }

    /// Applies what the index of an ordinary lane does not have.
    fn replay(&mut self, chain: &Chain, index: &dyn IndexKv) -> Result<Outcome> {
        let stored = index.view()?.get(Space::Meta, row::APPLIED)?;
        let applied = match stored {
            Some(value) => row::Applied::decode(&value).map_err(|_| {
                Error::new(Kind::Corrupt, "index: its position in the log is damaged")
            })?,
            None => row::Applied::default(),
        };
        if applied.lsn == 0 && !chain.segments.is_empty() {
            self.report.rebuilt = self.report.rebuilt.saturating_add(1);
        }
        let from = chain.segments.iter().position(|s| s.number >= applied.segment);
        let from = match from {
            Some(from) => from,
            None if applied.lsn == 0 => 0,
            None => {
                self.damage(format!(
                    "lane {}: the log ends before record {}, which the index shows",
                    self.lane.0, applied.lsn
                ));
                chain.segments.len()
            }
        };
        let outcome = self.scan(chain, applied, Some(index), from)?;
        if applied.lsn > 0 || outcome.last_lsn > 0 {
            index.checkpoint()?;
        }
        Ok(outcome)
    }

    fn damage(&mut self, line: String) {
        tracing::error!("{line}");
        self.report.damage.push(line);
    }

    fn scan(
        &mut self,
        chain: &Chain,
        applied: row::Applied,
        index: Option<&dyn IndexKv>,
        from: usize,
    ) -> Result<Outcome> {
        let mut state = State {
            tail: Tail { segment: applied.segment, end: applied.offset, lsn: applied.lsn },
            last_lsn: applied.lsn,
            floor: 0,
            lost: 0,
            clean: false,
            unknown: 0,
            transactions: Vec::new(),
            index,
        };
        if index.is_none() {
            // Only the last segment of the large lane is read: what is before it ends where its header says, and may be
            // freed.
            let lsn = chain.segments.get(from).and_then(|s| s.header).map_or(0, |h| h.previous_lsn);
            state.last_lsn = lsn;
            if let Some(before) = from.checked_sub(1).and_then(|i| chain.segments.get(i)) {
                state.tail =
                    Tail { segment: before.number, end: before.end.unwrap_or(before.len), lsn };
            }
        }
        for (place, found) in chain.segments.iter().enumerate().skip(from) {
            let last = place + 1 == chain.segments.len();
            let path = segment::path(self.dir, self.lane.0, found.number);
            let Some(header) = found.header else {
                // Its name came after its header was synced. How many records it held nobody knows; no
                // record is shorter than its header.
                let most = found.len / 32;
                state.unknown = state.unknown.saturating_add(most);
                state.tail.segment = found.number;
                state.tail.end = found.len;
                self.damage(format!(
                    "{}: the header is damaged, nothing of it is read",
                    path.display()
                ));
                continue;
            };
            let begin = if found.number == applied.segment { applied.offset } else { HEADER_BYTES };
            if begin == HEADER_BYTES && header.previous_lsn > state.last_lsn {
                let (a, b) = (state.last_lsn.saturating_add(1), header.previous_lsn);
                // Now it is known how many.
                state.unknown = 0;
                state.lost = state.lost.saturating_add(b.saturating_sub(state.last_lsn));
                self.damage(format!(
                    "{}: records {a} to {b} before it are missing",
                    path.display()
                ));
            }
            if found.number != applied.segment {
                state.floor = state.floor.max(state.last_lsn);
                state.last_lsn = header.first_lsn.saturating_sub(1);
                state.tail.segment = found.number;
                state.tail.end = HEADER_BYTES;
            } else if found.len < applied.offset {
                self.damage(format!(
                    "{}: the file has {} bytes, {} were written",
                    path.display(),
                    found.len,
                    applied.offset
                ));
            }
            // Where the end is known, nothing before it can be a torn group.
            let last = last && found.end.is_none();
            self.scan_segment(found, &header, begin, last, &path, &mut state)?;
        }
        state.lost = state.lost.saturating_add(state.unknown);
        state.last_lsn = state.last_lsn.saturating_add(state.unknown).max(state.floor);
        state.settle(self, true)?;
        if state.lost > 0
            && let Some(index) = index
        {
            skip_uids(index, state.lost)?;
        }
        Ok(Outcome { tail: state.tail, last_lsn: state.last_lsn, clean: state.clean })
    }

    fn scan_segment(
        &mut self,
        found: &FoundSegment,
        header: &SegmentHeader,
        begin: u64,
        last: bool,
        path: &Path,
        state: &mut State<'_>,
    ) -> Result<()> {
        let reading = |e: std::io::Error| Error::io("read", path, &e);
        let file = self.fs.open(path, Open::Read).map_err(|e| Error::io("open", path, &e))?;
        let mut scanner = Scanner::new(file.as_ref(), header.salt, found.end.unwrap_or(u64::MAX))
            .map_err(reading)?;
        let mut at = begin;
        let mut pending: Vec<(Record, Position)> = Vec::new();
        let mut synced = false;
        loop {
            if found.end.is_some_and(|end| at >= end) {
                break;
            }
            let expected = state.last_lsn.saturating_add(1);
            let mut blank = false;
            let why = match scanner.record(at).map_err(reading)? {
                Found::Record(h) if h.lsn == expected => {
                    let body = scanner.body(at, &h).map_err(reading)?;
                    match Record::decode(&h, body) {
                        Ok(record) => {
                            if last && !synced {
                                self.make_durable(path, &mut scanner, at, expected)?;
                                synced = true;
                            }
                            self.take(record, &h, at, found.number, &mut pending, state)?;
                            at = at.saturating_add(h.record_len());
                            continue;
                        }
                        Err(_) => "a record does not make sense",
                    }
                }
                Found::Record(_) => "a record is out of order",
                Found::Blank => {
                    blank = true;
                    "records are missing"
                }
                Found::Bad(why) => why,
            };
            // What stands behind decides.
            let mut witness = None;
            let mut resume = None;
            let mut found_behind = false;
            let mut search = at.saturating_add(8);
            while let Some((place, h)) = scanner.search(search, expected).map_err(reading)? {
                found_behind = true;
                if resume.is_none() && h.flags & FLAG_BEGIN != 0 && h.lsn > expected {
                    resume = Some((place, h));
                }
                if h.durable_lsn() >= expected {
                    witness = Some(h.lsn);
                    if resume.is_some() {
                        break;
                    }
                }
                search = place.saturating_add(h.record_len());
            }
            state.last_lsn = state.last_lsn.max(witness.unwrap_or(0));
            if last && witness.is_none() {
                state.clean = blank && !found_behind;
                break;
            }
            if !last && found.end.is_none() && resume.is_none() {
                // The next header, which would tell the end, is damaged and reported.
                break;
            }
            pending.clear();
            match resume {
                Some((place, h)) => {
                    let lost = h.lsn.saturating_sub(expected);
                    state.lost = state.lost.saturating_add(lost);
                    self.damage(format!(
                        "{}: bytes {at} to {place}: {why}; records {expected} to {} are lost",
                        path.display(),
                        h.lsn.saturating_sub(1)
                    ));
                    state.last_lsn = h.lsn.saturating_sub(1);
                    at = place;
                }
                None => {
                    // A later header counts those that are lost behind the last one known of here.
                    let lost = state.last_lsn.saturating_add(1).saturating_sub(expected);
                    state.lost = state.lost.saturating_add(lost);
                    let end = found.end.unwrap_or(scanner.end());
                    self.damage(format!("{}: bytes {at} to {end}: {why}", path.display()));
                    break;
                }
            }
        }
        state.settle(self, false)
    }

    /// Takes a record; at the end of its transaction it counts.
    fn take(
        &mut self,
        record: Record,
        header: &Header,
        at: u64,
        segment: u64,
        pending: &mut Vec<(Record, Position)>,
        state: &mut State<'_>,
    ) -> Result<()> {
        if header.flags & FLAG_BEGIN != 0 {
            pending.clear();
        }
        let len = header.record_len();
        pending.push((record, Position { segment, offset: at, len }));
        state.last_lsn = header.lsn;
        if header.flags & FLAG_END != 0 {
            self.report.replayed = self.report.replayed.saturating_add(pending.len() as u64);
            if state.index.is_some() {
                state.transactions.append(pending);
            } else {
                pending.clear();
            }
            state.tail = Tail { segment, end: at.saturating_add(len), lsn: header.lsn };
        }
        if state.transactions.len() >= BATCH { state.settle(self, false) } else { Ok(()) }
    }

    /// Makes the records from `at` on, of which the first is `lsn`, durable before they count. Those that no later
    /// record tells to be durable are written again: after a sync that failed, the system may hold them in memory
    /// alone and take them for written.
    fn make_durable(
        &self,
        path: &Path,
        scanner: &mut Scanner<'_>,
        at: u64,
        lsn: u64,
    ) -> Result<()> {
        let reading = |e: std::io::Error| Error::io("read", path, &e);
        let (mut end, mut next) = (at, lsn);
        // No longer than a group, or what a large body writes between two syncs.
        let mut uncertain: VecDeque<(u64, Header)> = VecDeque::new();
        while let Found::Record(h) = scanner.record(end).map_err(reading)?
            && h.lsn == next
        {
            uncertain.push_back((end, h));
            while uncertain.front().is_some_and(|(_, first)| first.lsn <= h.durable_lsn()) {
                uncertain.pop_front();
            }
            end = end.saturating_add(h.record_len());
            next = next.saturating_add(1);
        }
        let file = self.fs.open(path, Open::ReadWrite).map_err(|e| Error::io("open", path, &e))?;
        let mut from = uncertain.front().map_or(end, |(at, _)| *at);
        let mut again = Vec::new();
        let last = uncertain.len().saturating_sub(1);
        for (index, (at, header)) in uncertain.iter().enumerate() {
            let Some(bytes) = scanner.whole(*at, header).map_err(reading)? else {
                let why = format!("{} at offset {at}: each reading differs", path.display());
                return Err(Error::new(Kind::Io, why));
            };
            again.extend_from_slice(bytes);
            again.resize(again.len().next_multiple_of(ALIGN as usize), 0);
            if again.len() >= REWRITE || index == last {
                file.write_at(&again, from).map_err(|e| Error::io("write", path, &e))?;
                from = from.saturating_add(again.len() as u64);
                again.clear();
            }
        }
        file.sync_data().map_err(|e| Error::io("sync", path, &e))
    }
}

/// Where a scan stands.
struct State<'a> {
    /// Behind the last whole transaction.
    tail: Tail,
    /// The last LSN seen or known of where the scan is.
    last_lsn: u64,
    /// The last LSN known of before that; a segment's header may begin below it after damage.
    floor: u64,
    /// Records that are lost.
    lost: u64,
    /// The log ends where nothing is behind it that could be read: the rest of the file holds nothing.
    clean: bool,
    /// Records that segments without a header may have held, most, until the next header tells.
    unknown: u64,
    /// Records of whole transactions that are not applied yet.
    transactions: Vec<(Record, Position)>,
    index: Option<&'a dyn IndexKv>,
}

impl State<'_> {
    fn settle(&mut self, recovery: &Recovery<'_>, end: bool) -> Result<()> {
        let Some(index) = self.index else { return Ok(()) };
        if self.transactions.is_empty() && !end {
            return Ok(());
        }
        let view = index.view()?;
        let mut batch = Batch::new(view.as_ref());
        let (lane, large) = (recovery.lane, recovery.large);
        let salvage = self.lost > 0;
        let mut applier = Applier { batch: &mut batch, lane, large, released: Vec::new(), salvage };
        for (record, position) in self.transactions.drain(..) {
            applier.apply(&record, position)?;
        }
        // Messages of other lanes that were let go: their lanes were told, or count too many until the
        // next scrub.
        let applied =
            row::Applied { lsn: self.tail.lsn, segment: self.tail.segment, offset: self.tail.end };
        batch.put(Space::Meta, row::APPLIED.to_vec(), applied.encode());
        index.apply(&batch.into_changes())
    }
}

/// Lets every mailbox of a shard skip UIDs that lost records may have used.
fn skip_uids(index: &dyn IndexKv, lost: u64) -> Result<()> {
    let view = index.view()?;
    let mut heads = Vec::new();
    view.range(Space::Head, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
        heads.push((key.to_vec(), value.to_vec()));
        true
    })?;
    let mut changes = index::Changes::new();
    for (key, value) in heads {
        let Ok(mut head) = row::Head::decode(&value) else { continue };
        head.uid_next = head.uid_next.saturating_add(u32::try_from(lost).unwrap_or(u32::MAX));
        head.highest_modseq = head.highest_modseq.saturating_add(lost);
        changes.insert((Space::Head, key), Some(head.encode()));
    }
    index.apply(&changes)
}
