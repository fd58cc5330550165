//! Compaction: gives back the space of messages that nothing refers to any more.
//!
//! # Method
//! The index counts the live bytes of each segment. A segment that is left for good and holds less than half (an
//! option) of live bytes is read once. Its live messages are copied to the end of their lane by ordinary
//! transactions: a COPY record with the body of the first one, byte for byte; chunks of large messages are copied
//! within the large lane and synced, then a LOC record in the message's own lane says where they are. The planner drops
//! what is not live at the place where it was found, so a COPY in the log is always of a live message.
//!
//! A segment is then freed, when all of this holds:
//! - nothing in it is live by an index that shows everything answered before, and no body on its way in has a
//!   chunk in it;
//! - for an ordinary lane, a durable checkpoint and a verified export of the lane's index cover its last record. For the
//!   large lane, the records that moved its messages are durable in their lanes;
//! - nobody holds it ([`super::shelf`]).
//!
//! Its file becomes a spare of the lane or is removed, and the directory is synced. The segment with the highest number
//! of a lane is never freed, so numbers are never used again.
//!
//! # Failure
//! A crash at any place leaves the old copy or the new one, both valid. A record that cannot be read is not copied, so
//! its segment keeps live bytes, is never freed, and is named in the report. What fails is tried again by the next pass.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::body::{InFlight, LargeBody, chunk_record_len};
use super::commit::{Done, Transaction};
use super::export;
use super::index::row::{self, Place};
use super::index::{IndexView, Space};
use super::large::LargeJob;
use super::record::{ChunkPlace, HEADER_LEN, Header, MessageMeta, Record, Type};
use super::segment::{self, Found, HEADER_BYTES, Scanner, Segment, SegmentHeader};
use super::ticket::Ticket;
use super::{Change, Core, Lane, MessageId};
use crate::error::{Error, Kind, Result};
use crate::vfs::Open;

/// Bytes of copied records in a transaction, if there is more than one.
const TRANSACTION_BYTES: u64 = 1 << 20;
/// Bytes of a segment that are read with one snapshot of the index.
const VIEW_BYTES: u64 = 4 << 20;
/// Bytes of chunks that are copied before their lanes are told.
const CHUNKS_BYTES: u64 = 16 << 20;
/// Live bytes of the segments that are compacted before any of them is freed.
const ROUND_BYTES: u64 = 128 << 20;
/// Below this much free space compaction by itself knows no limits.
const NEARLY_FULL: u64 = 1 << 30;
/// Findings that are listed; what is beyond is counted in one line.
const FINDINGS: usize = 1000;

/// How [`super::Store::compact`] runs.
#[derive(Clone, Debug, Default)]
pub struct CompactOptions {
    /// A segment of whose bytes less than this part of a hundred is live is compacted. 0: as the store was opened.
    pub below_percent: u8,
    /// Bytes a second that are copied at most; 0: no limit.
    pub bytes_per_second: u64,
}

/// What a pass of compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactReport {
    /// Segments looked at.
    pub segments: u64,
    /// Segments freed.
    pub freed: u64,
    /// Bytes of their files.
    pub freed_bytes: u64,
    /// Messages moved; a large one counts once for each time some of its chunks were moved.
    pub moved: u64,
    /// Bytes of records copied.
    pub moved_bytes: u64,
    /// Segments without live bytes that could not be freed yet, because somebody holds them.
    pub held: u64,
    /// One line for each damaged record that keeps its segment, naming file and offset, and for what failed.
    pub findings: Vec<String>,
}

/// Counters of compaction.
#[derive(Debug, Default)]
pub struct CompactCounters {
    /// Segments freed.
    pub freed: AtomicU64,
    /// Bytes of their files.
    pub freed_bytes: AtomicU64,
    /// Messages moved.
    pub moved: AtomicU64,
    /// Bytes of records copied.
    pub moved_bytes: AtomicU64,
}

/// A message on its way to another place. Only compaction makes one.
pub struct Relocation(Moving);

/// What is moved.
pub(super) enum Moving {
    /// A message's record.
    Record {
        /// What the record says.
        meta: MessageMeta,
        /// Where it was found.
        segment: u64,
        /// Offset of its header.
        offset: u64,
        /// Its body.
        body: Vec<u8>,
        /// CRC32C of that.
        crc: u32,
    },
    /// Chunks of a large message.
    Chunks {
        /// The message.
        message: MessageId,
        /// The places of all its chunks before.
        from: Vec<ChunkPlace>,
        /// Numbers of those that were copied.
        moved: Vec<usize>,
        /// Their copies, in this order.
        copied: Arc<LargeBody>,
    },
}

impl Relocation {
    /// What is moved.
    pub(super) fn into_moving(self) -> Moving {
        self.0
    }

    /// The message.
    pub(super) fn message(&self) -> MessageId {
        match &self.0 {
            Moving::Record { meta, .. } => meta.id,
            Moving::Chunks { message, .. } => *message,
        }
    }

    /// At least as many bytes as its records take.
    pub(super) fn estimate(&self) -> u64 {
        match &self.0 {
            // A list of chunks may follow, of which there are not more than when it came.
            Moving::Record { meta, body, .. } => body.len() as u64 + meta.chunks.len() as u64 * 20,
            Moving::Chunks { from, .. } => from.len() as u64 * 20,
        }
    }
}

/// How fast a pass may be, and whether it must end.
pub(super) trait Pace {
    /// So many bytes were read or copied. `false`: the store closes.
    fn spend(&mut self, bytes: u64) -> bool;
}

/// What a pass is to do.
pub(super) struct Plan<'a> {
    /// Compacts segments with less live bytes.
    pub below_percent: u8,
    /// Makes an export whenever a segment waits for one; otherwise only when it gives back more than it costs.
    pub thorough: bool,
    /// How fast.
    pub pace: &'a mut dyn Pace,
}

/// A segment's file and its live bytes.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    number: u64,
    len: u64,
    live: i64,
}

/// One pass over all lanes. One at a time.
pub(super) fn pass(core: &Core, plan: &mut Plan<'_>) -> Result<CompactReport> {
    let mut kept = core.compacting.lock();
    if core.closing.load(Ordering::Acquire) {
        return Err(super::stopped());
    }
    if plan.thorough {
        kept.segments.clear();
    }
    let report = CompactReport::default();
    let mut pass = Pass { core, plan, kept: &mut kept, report, beyond: 0 };
    let lanes = u8::try_from(core.lanes()).unwrap_or(u8::MAX);
    let mut failed = None;
    for lane in 0..=lanes {
        match pass.lane(Lane(lane)) {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) if e.kind() == Kind::Stopped => return Err(e),
            // The others get their space back all the same.
            Err(e) => {
                let e = e.within(format!("compaction of lane {lane}"));
                tracing::error!("{e}");
                failed = failed.or(Some(e));
            }
        }
    }
    if pass.beyond > 0 {
        pass.report.findings.push(format!("and {} more findings", pass.beyond));
    }
    failed.map_or(Ok(pass.report), Err)
}

/// Whether the disk is so full that no limit makes sense.
pub(super) fn nearly_full(core: &Core) -> bool {
    core.space.level() != super::SpaceLevel::Ample
        || core.fs.space(&core.dir).is_ok_and(|space| space.free < NEARLY_FULL)
}

/// What compaction remembers from one pass to the next.
#[derive(Default)]
pub(super) struct Kept {
    /// Segments with live bytes that could not be moved: they are not read again until somebody asks.
    segments: BTreeSet<(Lane, u64)>,
}

struct Pass<'a, 'p> {
    core: &'a Core,
    plan: &'a mut Plan<'p>,
    kept: &'a mut Kept,
    report: CompactReport,
    beyond: u64,
}

impl Pass<'_, '_> {
    fn finding(&mut self, line: String) {
        tracing::error!("{line}");
        if self.report.findings.len() < FINDINGS {
            self.report.findings.push(line);
        } else {
            self.beyond = self.beyond.saturating_add(1);
        }
    }

    /// Compacts a lane; `false` when the store closes.
    fn lane(&mut self, lane: Lane) -> Result<bool> {
        let candidates = candidates(self.core, lane)?;
        self.report.segments = self.report.segments.saturating_add(candidates.len() as u64);
        let percent = u64::from(self.plan.below_percent);
        let mut victims: Vec<Candidate> = candidates
            .into_iter()
            .filter(|c| {
                let bytes = c.len.saturating_sub(HEADER_BYTES);
                let live = u64::try_from(c.live).unwrap_or(0);
                let few = live.saturating_mul(100) < bytes.saturating_mul(percent);
                c.live == 0 || (few && !self.kept.segments.contains(&(lane, c.number)))
            })
            .collect();
        // Those that are dead, or nearly so, give the space that the others need.
        victims.sort_by_key(|victim| victim.live);
        let mut round: Vec<Candidate> = Vec::new();
        let mut bytes = 0_u64;
        let mut victims = victims.into_iter().peekable();
        while let Some(victim) = victims.next() {
            if victim.live > 0 {
                let done = if lane == self.core.large_lane() {
                    self.move_chunks(victim.number)
                } else {
                    self.move_records(lane, victim.number)
                };
                match done {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    // A place of the disk that cannot be read keeps its segment and no other one.
                    Err(e) if e.kind() == Kind::Io && !self.core.conditions.any_failing() => {
                        self.kept.segments.insert((lane, victim.number));
                        let path = segment::path(&self.core.dir, lane.0, victim.number);
                        self.finding(format!("{}: {e}; it is kept", path.display()));
                        continue;
                    }
                    Err(e) => return Err(e),
                }
            }
            bytes = bytes.saturating_add(u64::try_from(victim.live).unwrap_or(0));
            round.push(victim);
            let dead_end = victim.live <= 0 && victims.peek().is_some_and(|next| next.live > 0);
            if bytes >= ROUND_BYTES || dead_end {
                self.free(lane, &std::mem::take(&mut round))?;
                bytes = 0;
            }
        }
        self.free(lane, &round)?;
        Ok(!self.core.closing.load(Ordering::Acquire))
    }

    /// Copies the live messages of an ordinary lane's segment.
    fn move_records(&mut self, lane: Lane, number: u64) -> Result<bool> {
        let Some(segment) = self.open(lane, number)? else { return Ok(true) };
        let home = self.core.home_or_refuse(lane)?;
        let mut scan = Scan::new(&segment)?;
        let mut view = home.view()?;
        let mut seen = 0_u64;
        let mut batch: Vec<Change> = Vec::new();
        let mut bytes = 0_u64;
        while let Some((at, header)) = scan.next(&segment)? {
            if !self.plan.pace.spend(header.record_len()) {
                return Ok(false);
            }
            seen = seen.saturating_add(header.record_len());
            if seen > VIEW_BYTES {
                // A snapshot that is held for long makes the index grow.
                (view, seen) = (home.view()?, 0);
            }
            if !Type::is_message(header.kind) {
                continue;
            }
            let body = scan.body(&segment, at, &header)?;
            let Ok((_, meta)) = MessageMeta::decode(body) else { continue };
            let place = place_of(view.as_ref(), meta.id)?;
            let live = place.is_some_and(|place| (place.segment, place.offset) == (number, at));
            if !live {
                continue;
            }
            let len = header.record_len();
            if !batch.is_empty() && bytes.saturating_add(len) > TRANSACTION_BYTES {
                self.commit(lane, std::mem::take(&mut batch), std::mem::take(&mut bytes))?;
                view = home.view()?;
            }
            let (body, crc) = (body.to_vec(), header.body_crc);
            let moving = Moving::Record { meta, segment: number, offset: at, body, crc };
            batch.push(Change::Relocate(Relocation(moving)));
            bytes = bytes.saturating_add(len);
        }
        drop(view);
        self.commit(lane, batch, bytes)?;
        self.damage(&segment, scan.damage);
        Ok(true)
    }

    /// Copies the live chunks of a segment of the large lane.
    fn move_chunks(&mut self, number: u64) -> Result<bool> {
        let large = self.core.large_lane();
        let Some(segment) = self.open(large, number)? else { return Ok(true) };
        let mut scan = Scan::new(&segment)?;
        let mut messages: BTreeSet<MessageId> = BTreeSet::new();
        while let Some((at, header)) = scan.next(&segment)? {
            if !self.plan.pace.spend(header.record_len()) {
                return Ok(false);
            }
            let body = scan.body(&segment, at, &header)?;
            if let Ok(Record::Chunk(head)) = Record::decode(&header, body) {
                messages.insert(head.message);
            }
        }
        self.damage(&segment, scan.damage);
        let mut waiting: Vec<(Moving, Ticket<()>)> = Vec::new();
        let mut bytes = 0_u64;
        for message in messages {
            let Some(home) = self.core.home(message.lane()) else { continue };
            let view = home.view()?;
            let Some(place) = place_of(view.as_ref(), message)? else { continue };
            drop(view);
            let (copied, len) = match self.copy_chunks(message, &place, &segment)? {
                Copied::Chunks(copied, len) => (*copied, len),
                Copied::Nothing => continue,
                Copied::Closing => return Ok(false),
            };
            waiting.push(copied);
            bytes = bytes.saturating_add(len);
            if bytes >= CHUNKS_BYTES {
                self.tell(&mut waiting, std::mem::take(&mut bytes))?;
            }
        }
        self.tell(&mut waiting, bytes)?;
        Ok(true)
    }

    /// Copies those chunks of a message that are in a segment to the end of the large lane.
    fn copy_chunks(
        &mut self,
        message: MessageId,
        place: &Place,
        segment: &Segment,
    ) -> Result<Copied> {
        let body = self.core.large.begin();
        // No buffer is kept for blocks to come.
        body.end();
        let mut moved = Vec::new();
        let mut bytes = 0_u64;
        let mut left = place.size;
        let mut record = Vec::new();
        for (index, chunk) in place.chunks.iter().enumerate() {
            let (len, rest) = chunk_record_len(left);
            left = rest;
            if chunk.segment != segment.number {
                continue;
            }
            let header = match segment.read_record(chunk.offset, len, &mut record) {
                Ok(header) => header,
                Err(e) if e.kind() == Kind::Corrupt => {
                    // The message stays where it is, with all its chunks.
                    self.finding(format!("message {message}, chunk {index}: {e}"));
                    return Ok(Copied::Nothing);
                }
                Err(e) => return Err(e),
            };
            let end = HEADER_LEN.saturating_add(header.body_len as usize);
            let head = Record::decode(&header, record.get(HEADER_LEN..end).unwrap_or_default());
            if !matches!(head, Ok(Record::Chunk(head)) if head.message == message) {
                let at = chunk.offset;
                self.finding(format!(
                    "{}",
                    segment
                        .damaged(at, &format!("chunk {index} of message {message} is not there"))
                ));
                return Ok(Copied::Nothing);
            }
            record.truncate(end);
            // One chunk is on its way while the next one is read.
            while let Some(ticket) = body.landing() {
                ticket.wait()?;
            }
            let (record, body_crc) = (std::mem::take(&mut record), header.body_crc);
            let chunk = InFlight::new(&body);
            self.core.large.push(LargeJob::Chunk { record, body_crc, chunk })?;
            moved.push(index);
            bytes = bytes.saturating_add(len);
            if !self.plan.pace.spend(len) {
                return Ok(Copied::Closing);
            }
        }
        if moved.is_empty() {
            return Ok(Copied::Nothing);
        }
        let (completion, ticket) = Ticket::new();
        let then = Box::new(move |result| completion.complete(result));
        self.core.large.push(LargeJob::Sync { body: body.clone(), then })?;
        let from = place.chunks.clone();
        let moving = Moving::Chunks { message, from, moved, copied: body };
        Ok(Copied::Chunks(Box::new((moving, ticket)), bytes))
    }

    /// Waits until chunks are durable, and tells the lanes of their messages.
    fn tell(&mut self, waiting: &mut Vec<(Moving, Ticket<()>)>, mut bytes: u64) -> Result<()> {
        let mut lanes: BTreeMap<Lane, Vec<Change>> = BTreeMap::new();
        for (moving, ticket) in waiting.drain(..) {
            ticket.wait()?;
            let relocation = Relocation(moving);
            let lane = relocation.message().lane();
            lanes.entry(lane).or_default().push(Change::Relocate(relocation));
        }
        for (lane, changes) in lanes {
            self.commit(lane, changes, std::mem::take(&mut bytes))?;
        }
        Ok(())
    }

    fn commit(&mut self, lane: Lane, changes: Vec<Change>, bytes: u64) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let count = changes.len() as u64;
        let (completion, ticket) = Ticket::new();
        let transaction = Transaction::new(changes, Done::Ticket(completion));
        // When this fails, the ticket has been answered.
        let _ = self.core.push(lane, transaction);
        ticket.wait()?;
        let counters = &self.core.compact_counters;
        counters.moved.fetch_add(count, Ordering::Relaxed);
        counters.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.report.moved = self.report.moved.saturating_add(count);
        self.report.moved_bytes = self.report.moved_bytes.saturating_add(bytes);
        Ok(())
    }

    fn open(&mut self, lane: Lane, number: u64) -> Result<Option<Arc<Segment>>> {
        match self.core.segment(lane, number) {
            Err(e) if e.kind() == Kind::Corrupt => {
                self.finding(format!("{e}; it is kept"));
                Ok(None)
            }
            other => other,
        }
    }

    fn damage(&mut self, segment: &Segment, damage: Vec<(u64, &'static str)>) {
        for (at, why) in damage {
            self.finding(format!("{} at offset {at}: {why}", segment.path.display()));
        }
    }

    /// Frees what is dead of these segments of a lane.
    fn free(&mut self, lane: Lane, round: &[Candidate]) -> Result<()> {
        if round.is_empty() {
            return Ok(());
        }
        let core = self.core;
        let large = lane == core.large_lane();
        // What was on its way before has reached its lane behind this, or fails.
        let on_their_way = if large { core.large.on_their_way() } else { BTreeSet::new() };
        if large {
            core.pass_all_lanes()?;
        }
        let live = live_bytes(core, lane)?;
        let mut dead: Vec<Candidate> = Vec::new();
        for candidate in round {
            match live.get(&candidate.number) {
                // Less was moved than there was, or a body on its way arrived: the next pass sees to it.
                Some(bytes) if *bytes != candidate.live => {}
                Some(bytes) => {
                    self.kept.segments.insert((lane, candidate.number));
                    let path = segment::path(&core.dir, lane.0, candidate.number);
                    self.finding(format!(
                        "{}: {bytes} bytes of messages in it could not be moved; it is kept",
                        path.display()
                    ));
                }
                None if on_their_way.contains(&candidate.number) => {}
                None => dead.push(*candidate),
            }
        }
        if dead.is_empty() {
            return Ok(());
        }
        if !large && !self.cover(lane, &dead)? {
            return Ok(());
        }
        // From the last one on: each tells where the one before it ends, and that file is cut off there.
        dead.sort_by_key(|candidate| std::cmp::Reverse(candidate.number));
        let mut taken = Vec::new();
        for candidate in &dead {
            if core.closing.load(Ordering::Acquire) {
                return Err(super::stopped());
            }
            if !self.end_before(lane, candidate.number)? {
                continue;
            }
            if core.shelf.take_away(lane.0, candidate.number) {
                taken.push(candidate.number);
            } else {
                self.report.held = self.report.held.saturating_add(1);
            }
        }
        let place = usize::from(lane.0);
        let (Some(setting), Some(room)) = (core.settings.get(place), core.rooms.get(place)) else {
            return Ok(());
        };
        let freed = setting.retire(room, &taken);
        let gone = freed.as_ref().map_or(&[][..], Vec::as_slice);
        for number in taken.iter().filter(|number| !gone.contains(number)) {
            core.shelf.put_back(lane.0, *number);
        }
        let len = |number: &u64| dead.iter().find(|c| c.number == *number).map_or(0, |c| c.len);
        let bytes = gone.iter().fold(0_u64, |sum, number| sum.saturating_add(len(number)));
        core.compact_counters.freed.fetch_add(gone.len() as u64, Ordering::Relaxed);
        core.compact_counters.freed_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.report.freed = self.report.freed.saturating_add(gone.len() as u64);
        self.report.freed_bytes = self.report.freed_bytes.saturating_add(bytes);
        freed.map(|_| ())
    }

    /// Sees to a checkpoint and an export that cover these segments of an ordinary lane. `false`: not yet.
    fn cover(&mut self, lane: Lane, dead: &[Candidate]) -> Result<bool> {
        let core = self.core;
        let home = core.home_or_refuse(lane)?;
        let last = dead.iter().map(|c| c.number).max().unwrap_or(0);
        // All of them are behind the shown end, so a checkpoint made now covers them.
        let shown = home.tail.lock().lsn;
        let last = match next_header(core, lane, last)? {
            Some(next) => next.first_lsn.saturating_sub(1).min(shown),
            None => shown,
        };
        export::prove(core, lane)?;
        if home.exported.load(Ordering::Acquire) < last {
            let bytes = dead.iter().fold(0_u64, |sum, c| sum.saturating_add(c.len));
            let worth = bytes >= core.exports.last_bytes(usize::from(lane.0)).saturating_mul(2);
            if !self.plan.thorough && !worth && !nearly_full(core) {
                return Ok(false);
            }
            export::export_lane(core, lane)?;
            if home.exported.load(Ordering::Acquire) < last {
                return Ok(false);
            }
        }
        if let Err(e) = home.index.shard()?.checkpoint() {
            // Its committer repairs it.
            home.jobs.call();
            return Err(e);
        }
        Ok(true)
    }

    /// Sees to it that the segment before this one ends by itself where this one says that it ends, since nobody will
    /// know it otherwise: a group that failed behind that end is cut off, as are zeros. `false`, and this one stays, when
    /// its header cannot be read, when it is all that makes a segment void, or when records stand behind that end which
    /// may have been acknowledged, because what stands in front of them is damaged.
    fn end_before(&mut self, lane: Lane, number: u64) -> Result<bool> {
        let core = self.core;
        let path = segment::path(&core.dir, lane.0, number);
        let reading = |e: std::io::Error| Error::io("read", &path, &e);
        let file = match core.fs.open(&path, Open::Read) {
            Ok(file) => file,
            // A lane removes a segment that was given up with nothing in it.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io("open", &path, &e)),
        };
        let Some(header) = SegmentHeader::read(file.as_ref(), &core.uuid).map_err(reading)? else {
            self.finding(format!("{}: the header is damaged; it is kept", path.display()));
            return Ok(false);
        };
        let directory = core.dir.join(segment::DIRECTORY);
        let entries =
            core.fs.read_dir(&directory).map_err(|e| Error::io("list", &directory, &e))?;
        let mut names = entries.iter().filter_map(|e| segment::parse_name(&e.name, ".phl"));
        if names.any(|(of, n)| of == lane.0 && header.previous < n && n < number) {
            // It was given up and could not be removed. It goes first, or what failed there would come back.
            return Ok(false);
        }
        let before = segment::path(&core.dir, lane.0, header.previous);
        let cutting = |e: std::io::Error| Error::io("cut off", &before, &e);
        let file = match core.fs.open(&before, Open::ReadWrite) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
            Err(e) => return Err(cutting(e)),
        };
        let end = header.previous_end;
        if file.len().map_err(cutting)? <= end {
            // Its lane cut it off when it was left, but did not make that durable.
            file.sync_all().map_err(cutting)?;
            return Ok(true);
        }
        let Some(title) = SegmentHeader::read(file.as_ref(), &core.uuid).map_err(cutting)? else {
            // Nothing of it is ever read.
            return Ok(true);
        };
        let mut scanner = Scanner::new(file.as_ref(), title.salt, u64::MAX).map_err(cutting)?;
        let found = scanner.record(end).map_err(cutting)?;
        let nothing = match found {
            // Recovery would have taken it: the lane knew that its group failed.
            Found::Record(h) => h.lsn == header.previous_lsn.saturating_add(1),
            Found::Blank | Found::Bad(_) => {
                if let Some((at, _)) = scanner.search(end, 0).map_err(cutting)? {
                    self.finding(format!(
                        "{}: bytes {end} to {at} cannot be read and records stand behind them; {} is kept",
                        before.display(),
                        path.display()
                    ));
                    return Ok(false);
                }
                found == Found::Blank
            }
        };
        drop(scanner);
        if nothing {
            file.set_len(end).map_err(cutting)?;
            file.sync_all().map_err(cutting)?;
        }
        Ok(true)
    }
}

enum Copied {
    Chunks(Box<(Moving, Ticket<()>)>, u64),
    Nothing,
    Closing,
}

fn place_of(view: &dyn IndexView, message: MessageId) -> Result<Option<Place>> {
    match view.get(Space::Place, &row::message_key(message))? {
        Some(value) => Ok(Some(Place::decode(&value).map_err(|_| super::damaged_row("place"))?)),
        None => Ok(None),
    }
}

/// Live bytes of a lane's segments, by all that was answered before. One that is not named has none.
fn live_bytes(core: &Core, lane: Lane) -> Result<BTreeMap<u64, i64>> {
    let large = lane == core.large_lane();
    let mut live: BTreeMap<u64, i64> = BTreeMap::new();
    let homes = (0_u8..).zip(&core.homes).filter(|(home, _)| large || Lane(*home) == lane);
    let mut damaged = false;
    for (_, home) in homes {
        let view = home.view()?;
        let (from, to) = (row::live_key(lane.0, 0), row::live_key(lane.0, u64::MAX));
        let range = (Bound::Included(from.as_slice()), Bound::Included(to.as_slice()));
        view.range(Space::Live, range.0, range.1, &mut |key, value| {
            match (row::live_of(key), row::decode_live(value)) {
                (Ok((_, segment)), Ok(bytes)) => {
                    let sum = live.entry(segment).or_default();
                    *sum = sum.saturating_add(bytes);
                }
                _ => damaged = true,
            }
            true
        })?;
    }
    if damaged { Err(super::damaged_row("segment")) } else { Ok(live) }
}

/// Live bytes of all segments, as far as they are shown; `None` when an index cannot be read now.
pub(super) fn live_bytes_now(core: &Core) -> Option<u64> {
    let mut sum = 0_i64;
    let mut damaged = false;
    for home in &core.homes {
        let view = home.index.shard().and_then(|shard| shard.view()).ok()?;
        let all = (Bound::Unbounded, Bound::Unbounded);
        view.range(Space::Live, all.0, all.1, &mut |_, value| {
            match row::decode_live(value) {
                Ok(bytes) => sum = sum.saturating_add(bytes),
                Err(_) => damaged = true,
            }
            true
        })
        .ok()?;
    }
    if damaged { None } else { Some(u64::try_from(sum).unwrap_or(0)) }
}

/// A lane's segments that nobody writes to any more, with their live bytes.
fn candidates(core: &Core, lane: Lane) -> Result<Vec<Candidate>> {
    // Read before the index is: what was written to a segment that was left before this is shown by then.
    let active = match core.home(lane) {
        Some(home) => {
            // The tail is where the index ends: it is behind the log's until what was put off is shown.
            drop(home.view()?);
            home.tail.lock().segment
        }
        None => match core.settings.get(usize::from(lane.0)) {
            Some(setting) => setting.active.load(Ordering::Acquire),
            None => 0,
        },
    };
    let live = live_bytes(core, lane)?;
    let directory = core.dir.join(segment::DIRECTORY);
    let entries = core.fs.read_dir(&directory).map_err(|e| Error::io("list", &directory, &e))?;
    let mut candidates = Vec::new();
    for entry in entries {
        let Some((of, number)) = segment::parse_name(&entry.name, ".phl") else { continue };
        if of == lane.0 && number < active {
            let live = live.get(&number).copied().unwrap_or(0);
            candidates.push(Candidate { number, len: entry.len, live });
        }
    }
    Ok(candidates)
}

/// The header of the lane's segment with the next higher number.
fn next_header(core: &Core, lane: Lane, number: u64) -> Result<Option<SegmentHeader>> {
    let directory = core.dir.join(segment::DIRECTORY);
    let entries = core.fs.read_dir(&directory).map_err(|e| Error::io("list", &directory, &e))?;
    let numbers = entries.iter().filter_map(|e| segment::parse_name(&e.name, ".phl"));
    let next = numbers.filter(|(of, n)| *of == lane.0 && *n > number).map(|(_, n)| n).min();
    let Some(next) = next else { return Ok(None) };
    let path = segment::path(&core.dir, lane.0, next);
    let file = core.fs.open(&path, Open::Read).map_err(|e| Error::io("open", &path, &e))?;
    SegmentHeader::read(file.as_ref(), &core.uuid).map_err(|e| Error::io("read", &path, &e))
}

/// Reads a segment's records one after another, and steps over what cannot be read.
struct Scan<'a> {
    scanner: Scanner<'a>,
    at: u64,
    /// Where something could not be read.
    damage: Vec<(u64, &'static str)>,
}

impl<'a> Scan<'a> {
    fn new(segment: &'a Segment) -> Result<Scan<'a>> {
        let scanner = Scanner::new(segment.file.as_ref(), segment.salt, u64::MAX)
            .map_err(|e| Error::io("read", &segment.path, &e))?;
        Ok(Scan { scanner, at: HEADER_BYTES, damage: Vec::new() })
    }

    fn next(&mut self, segment: &Segment) -> Result<Option<(u64, Header)>> {
        let reading = |e: std::io::Error| Error::io("read", &segment.path, &e);
        let why = match self.scanner.record(self.at).map_err(reading)? {
            Found::Record(header) => {
                let at = self.at;
                self.at = at.saturating_add(header.record_len());
                return Ok(Some((at, header)));
            }
            Found::Blank => "records are missing",
            Found::Bad(why) => why,
        };
        let from = self.at;
        match self.scanner.search(from.saturating_add(8), 0).map_err(reading)? {
            Some((at, header)) => {
                self.damage.push((from, why));
                self.at = at.saturating_add(header.record_len());
                Ok(Some((at, header)))
            }
            // What the last group left unfinished, or what was allocated; a damaged last record keeps its live bytes.
            None => Ok(None),
        }
    }

    fn body(&mut self, segment: &Segment, at: u64, header: &Header) -> Result<&[u8]> {
        self.scanner.body(at, header).map_err(|e| Error::io("read", &segment.path, &e))
    }
}
