//! Check: every record of the log and every reference of the index, while mail flows.
//!
//! First the log, lane by lane: headers, chains, both checksums of each record, LSNs without a gap, bodies
//! that make sense, up to the end that was durable when the check came to the lane. Then the index: every
//! message that something refers to has a record at its place, chunks included; every queue entry and
//! every mailbox row has a message; a mailbox's figures fit its rows; no message counts fewer references
//! than mailboxes hold it.
//!
//! Mail that comes and goes during the check can make a reference look wrong for a moment. So what looks
//! wrong is looked at again, after a transaction of each lane has passed, and only what still is wrong
//! then is a problem. A count that is too high is none: it costs space until the next scrub, no mail.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::body::chunk_record_len;
use super::index::row::{self, Place};
use super::index::{IndexView, Space};
use super::record::{ChunkPlace, MessageMeta, Record, Type};
use super::recovery::{self, Chain};
use super::segment::{self, Found, HEADER_BYTES, Scanner, SegmentHeader};
use super::{
    CheckReport, Core, DamagedRange, Lane, LostMessage, MessageId, RecipientState, export,
};
use crate::error::{Error, Kind, Result};
use crate::vfs::Open;

/// Problems that are listed; what is beyond is counted in one line.
const PROBLEMS: usize = 1000;

/// Checks a store.
pub fn check(core: &Core, progress: &mut dyn FnMut(u64, u64)) -> Result<CheckReport> {
    let mut check = Check { core, report: CheckReport::default(), beyond: 0 };
    check.log(progress)?;
    let mut suspects = check.references(None)?;
    for _ in 0..3 {
        if suspects.is_empty() {
            break;
        }
        core.pass_all_lanes()?;
        let again = check.references(Some(&suspects))?;
        suspects.retain(|line, _| again.contains_key(line));
    }
    let mut lost = BTreeMap::new();
    for (line, suspect) in suspects {
        match suspect {
            Some(message) => {
                lost.insert(message.message, message);
            }
            None => check.problem(line),
        }
    }
    check.name_holders(&mut lost)?;
    for message in lost.into_values() {
        check.problem(message.to_string());
        check.report.lost.push(message);
    }
    if check.beyond > 0 {
        let line = format!("and {} more problems", check.beyond);
        check.report.problems.push(line);
    }
    Ok(check.report)
}

/// What looks wrong, as lines, with the message whose bytes are not there where that is what is wrong.
type Suspects = BTreeMap<String, Option<LostMessage>>;

struct Check<'a> {
    core: &'a Core,
    report: CheckReport,
    beyond: u64,
}

impl Check<'_> {
    fn problem(&mut self, line: String) {
        if self.report.problems.len() < PROBLEMS {
            self.report.problems.push(line);
        } else {
            self.beyond = self.beyond.saturating_add(1);
        }
    }

    fn damaged(&mut self, path: &Path, from: u64, to: u64, why: &str) {
        self.problem(format!("{}: bytes {from} to {to}: {why}", path.display()));
        self.report.damaged.push(DamagedRange { file: path.to_path_buf(), from, to });
    }

    /// Says of each lost message who holds it.
    fn name_holders(&self, lost: &mut BTreeMap<MessageId, LostMessage>) -> Result<()> {
        if lost.is_empty() {
            return Ok(());
        }
        for home in &self.core.homes {
            let view = home.view()?;
            view.range(Space::Pack, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
                if let (Ok((account, mailbox)), Ok(rows)) =
                    (row::mailbox_of(key), row::decode_pack(value))
                {
                    for row in rows {
                        if let Some(lost) = lost.get_mut(&row.message) {
                            lost.mailboxes.push((account, mailbox, row.uid));
                        }
                    }
                }
                true
            })?;
            view.range(Space::Queue, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
                if let Ok(id) = row::message_of(key)
                    && let Some(lost) = lost.get_mut(&id)
                {
                    lost.queued = true;
                    lost.sender = row::decode_queue(id, value).ok().map(|e| e.envelope.from);
                }
                true
            })?;
        }
        Ok(())
    }

    /// Verifies the exports of all lanes.
    fn exports(&mut self, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let core = self.core;
        for lane in (0_u8..).take(core.lanes()).map(Lane) {
            for lsn in export::list(core.fs.as_ref(), &core.dir, lane)? {
                match export::verify(core.fs.as_ref(), &core.dir, &core.uuid, lane, lsn, progress) {
                    Ok(_) => self.report.exports = self.report.exports.saturating_add(1),
                    // A newer one has taken its place meanwhile.
                    Err(e) if e.kind() == Kind::PathNotFound => {}
                    Err(e) => self.problem(e.to_string()),
                }
            }
        }
        Ok(())
    }

    fn log(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let core = self.core;
        // Ends first: what is written while we look lies behind them.
        let mut ends: Vec<_> = core.homes.iter().map(|home| *home.tail.lock()).collect();
        ends.push(*core.large.tail.lock());
        let chains = recovery::survey(core.fs.as_ref(), &core.dir, &core.uuid, core.lanes() + 1)?;
        let total = chains.iter().fold(0_u64, |sum, chain| sum.saturating_add(chain.bytes()));
        let total = total.saturating_add(export::bytes(core.fs.as_ref(), &core.dir)?);
        let mut done = 0_u64;
        progress(0, total);
        for (number, chain) in (0_u8..).zip(&chains) {
            let end = ends.get(usize::from(number)).map(|tail| (tail.segment, tail.end));
            self.lane(Lane(number), chain, end, &mut |bytes| {
                done = done.saturating_add(bytes);
                progress(done.min(total), total);
            })?;
        }
        self.exports(&mut |bytes| {
            done = done.saturating_add(bytes);
            progress(done.min(total), total);
        })
    }

    /// Verifies a lane up to `end` (segment, offset).
    fn lane(
        &mut self,
        lane: Lane,
        chain: &Chain,
        end: Option<(u64, u64)>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut lsn = 0;
        // Segments up to here may have been freed. What lives in the large lane is known by reference.
        let freed = match self.core.home(lane) {
            Some(home) => home.exported.load(Ordering::Acquire),
            None => u64::MAX,
        };
        for found in &chain.segments {
            let path = segment::path(&self.core.dir, lane.0, found.number);
            self.report.segments = self.report.segments.saturating_add(1);
            // Held while it is read; what was freed since the survey has nothing to say.
            let held = match self.core.segment(lane, found.number) {
                Ok(None) => {
                    progress(found.len);
                    continue;
                }
                Ok(Some(segment)) => Some(segment),
                Err(_) => None,
            };
            let Some(header) = found.header else {
                self.damaged(&path, 0, found.len, "both copies of the header are damaged");
                progress(found.len);
                continue;
            };
            // Behind the end as it was when the check began.
            if end.is_some_and(|(segment, _)| segment < found.number) {
                progress(found.len);
                continue;
            }
            if header.previous_lsn > lsn.max(freed) {
                let (a, b) = (lsn.max(freed).saturating_add(1), header.previous_lsn);
                self.problem(format!(
                    "{}: records {a} to {b} before it are missing",
                    path.display()
                ));
            }
            lsn = header.first_lsn.saturating_sub(1);
            let limit = match end {
                Some((segment, offset)) if segment == found.number => Some(offset),
                _ => found.end,
            };
            let reading = |e: std::io::Error| Error::io("read", &path, &e);
            let file =
                self.core.fs.open(&path, Open::Read).map_err(|e| Error::io("open", &path, &e))?;
            for (copy, from) in SegmentHeader::copies(file.as_ref(), &self.core.uuid)
                .map_err(reading)?
                .iter()
                .zip([0, HEADER_BYTES / 2])
            {
                if copy.is_none() {
                    let to = from.saturating_add(HEADER_BYTES / 2);
                    self.damaged(&path, from, to, "one of the header's two copies is damaged");
                }
            }
            let mut scanner = Scanner::new(file.as_ref(), header.salt, limit.unwrap_or(u64::MAX))
                .map_err(reading)?;
            let mut at = HEADER_BYTES;
            let mut reported = at;
            while limit.is_none_or(|limit| at < limit) {
                let why = match scanner.record(at).map_err(reading)? {
                    Found::Record(h) if h.lsn == lsn.saturating_add(1) => {
                        let body = scanner.body(at, &h).map_err(reading)?;
                        match Record::decode(&h, body) {
                            Ok(_) => {
                                self.report.records = self.report.records.saturating_add(1);
                                lsn = h.lsn;
                                at = at.saturating_add(h.record_len());
                                if at.saturating_sub(reported) > 1 << 20 {
                                    progress(at.saturating_sub(reported));
                                    reported = at;
                                }
                                continue;
                            }
                            Err(_) => "the record does not make sense",
                        }
                    }
                    Found::Record(_) => "a record is out of order",
                    Found::Blank => "records are missing",
                    Found::Bad(why) => why,
                };
                if limit.is_none() && at >= scanner.end() {
                    // The segment that said where this one ends was freed, and this one cut off there before.
                    break;
                }
                match scanner
                    .search(at.saturating_add(8), lsn.saturating_add(1))
                    .map_err(reading)?
                {
                    Some((next, h)) => {
                        let records = h.lsn.saturating_sub(lsn).saturating_sub(1);
                        self.damaged(&path, at, next, &format!("{why} ({records} records)"));
                        lsn = h.lsn.saturating_sub(1);
                        at = next;
                    }
                    // The segment that told where this one ends was freed or cannot be read, which is named. What is old in a
                    // file that is used again is no damage; the messages in it are verified by reference.
                    None if limit.is_none() => break,
                    None => {
                        let end = limit.unwrap_or(scanner.end());
                        self.damaged(&path, at, end, why);
                        break;
                    }
                }
            }
            drop(held);
            progress(found.len.saturating_sub(reported));
        }
        Ok(())
    }

    /// Verifies the references; with `again`, only tells which of its lines are still true.
    fn references(&mut self, again: Option<&Suspects>) -> Result<Suspects> {
        let mut suspects = Suspects::new();
        let views: Vec<Box<dyn IndexView>> =
            self.core.homes.iter().map(|home| home.view()).collect::<Result<_>>()?;
        let mut held: BTreeMap<MessageId, i64> = BTreeMap::new();
        let mut crossing: BTreeMap<MessageId, i64> = BTreeMap::new();
        let mut queued: BTreeSet<MessageId> = BTreeSet::new();
        let mut gone: Vec<LostMessage> = Vec::new();
        let mut suspect = |line: String| {
            suspects.insert(line, None);
        };
        for (lane, view) in (0_u8..).zip(&views) {
            let mut figures: BTreeMap<Vec<u8>, (u64, u64, u32)> = BTreeMap::new();
            view.range(Space::Pack, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
                let (Ok((account, mailbox)), Ok(rows)) = (row::mailbox_of(key), row::decode_pack(value))
                else {
                    suspect(format!("index of lane {lane}: a message row is damaged"));
                    return true;
                };
                let sum = figures.entry(row::mailbox_key(account, mailbox)).or_default();
                for row in rows {
                    if row.uid <= sum.2 {
                        let (account, mailbox, uid) = (account.0, mailbox.0, row.uid);
                        suspect(format!(
                            "account {account}, mailbox {mailbox}: UID {uid} is not above the one before"
                        ));
                    }
                    *sum = (sum.0.saturating_add(1), sum.1.saturating_add(row.size), row.uid);
                    *held.entry(row.message).or_default() += 1;
                }
                true
            })?;
            view.range(Space::Head, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
                let (Ok((account, mailbox)), Ok(head)) = (row::mailbox_of(key), row::Head::decode(value))
                else {
                    suspect(format!("index of lane {lane}: a mailbox row is damaged"));
                    return true;
                };
                let (messages, bytes, uid) = figures.remove(key).unwrap_or_default();
                if (messages, bytes) != (head.messages, head.bytes) || head.uid_next <= uid {
                    suspect(format!(
                        "account {}, mailbox {}: {messages} messages with {bytes} bytes up to UID {uid}, \
                         its figures say {} with {} and next {}",
                        account.0, mailbox.0, head.messages, head.bytes, head.uid_next
                    ));
                }
                true
            })?;
            for key in figures.into_keys() {
                if let Ok((account, mailbox)) = row::mailbox_of(&key) {
                    suspect(format!(
                        "account {} has messages in mailbox {}, which is not there",
                        account.0, mailbox.0
                    ));
                }
            }
            view.range(Space::Queue, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
                match row::message_of(key).and_then(|id| row::decode_queue(id, value)) {
                    Ok(entry) => {
                        let locals = entry
                            .recipients
                            .iter()
                            .filter(|r| matches!(r.state, RecipientState::Local(..)))
                            .count();
                        crossing.insert(entry.message, i64::try_from(locals).unwrap_or(i64::MAX));
                        queued.insert(entry.message);
                        if entry.recipients.is_empty() {
                            suspect(format!("queue entry {} has no recipient", entry.message));
                        }
                    }
                    Err(_) => suspect(format!("index of lane {lane}: a queue row is damaged")),
                }
                true
            })?;
        }
        let (messages, entries) =
            (held.keys().chain(&queued).collect::<BTreeSet<_>>().len(), queued.len());
        for (lane, view) in (0_u8..).zip(&views) {
            let mut places: Vec<(MessageId, Place)> = Vec::new();
            view.range(Space::Place, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
                match (row::message_of(key), Place::decode(value)) {
                    (Ok(id), Ok(place)) => places.push((id, place)),
                    _ => suspect(format!("index of lane {lane}: a place row is damaged")),
                }
                true
            })?;
            for (id, place) in places {
                let rows = held.remove(&id).unwrap_or(0);
                let moving = crossing.get(&id).copied().unwrap_or(0);
                if place.references.saturating_add(moving) < rows {
                    suspect(format!(
                        "message {id}: {rows} mailboxes hold it, {} are counted",
                        place.references
                    ));
                }
                if place.queued != queued.remove(&id) {
                    let line = if place.queued {
                        "its queue entry is missing"
                    } else {
                        "it is not known to be queued"
                    };
                    suspect(format!("message {id}: {line}"));
                }
                // What lies at its place does not change: looking once is enough, unless it looked wrong.
                if again.is_none_or(|again| again.contains_key(&line_of(id)))
                    && let Err((why, ranges)) = self.stands(id, &place)
                {
                    gone.push(lost(id, why, ranges));
                }
            }
        }
        for id in held.into_keys() {
            gone.push(lost(id, "a mailbox holds it, its record is not known".into(), Vec::new()));
        }
        for id in queued {
            gone.push(lost(id, "the queue holds it, its record is not known".into(), Vec::new()));
        }
        for message in gone {
            suspects.insert(line_of(message.message), Some(message));
        }
        if again.is_none() {
            self.report.messages = messages as u64;
            self.report.queue_entries = entries as u64;
        }
        Ok(suspects)
    }

    /// Whether a message's record, and each of its chunks, is where the index says; else why not, and where.
    fn stands(
        &self,
        id: MessageId,
        place: &Place,
    ) -> std::result::Result<(), (String, Vec<DamagedRange>)> {
        let mut buffer = Vec::new();
        let mut flaws: Vec<(String, DamagedRange)> = Vec::new();
        let range = |lane: Lane, segment: u64, from: u64, len: u64| DamagedRange {
            file: segment::path(&self.core.dir, lane.0, segment),
            from,
            to: from.saturating_add(len),
        };
        if let Err(why) = self.record_stands(id, place, &mut buffer) {
            flaws.push((why, range(id.lane(), place.segment, place.offset, place.len)));
        }
        let large = self.core.large_lane();
        let mut left = place.size;
        for (index, chunk) in (0_u32..).zip(&place.chunks) {
            let (len, rest) = chunk_record_len(left);
            left = rest;
            if let Err(why) = self.chunk_stands(id, index, chunk, len, &mut buffer) {
                flaws.push((why, range(large, chunk.segment, chunk.offset, len)));
            }
        }
        let Some((why, _)) = flaws.first() else { return Ok(()) };
        let why = match flaws.len() {
            1 => why.clone(),
            n => format!("{why}, and {} more places", n - 1),
        };
        Err((why, flaws.into_iter().map(|(_, range)| range).collect()))
    }

    fn record_stands(
        &self,
        id: MessageId,
        place: &Place,
        buffer: &mut Vec<u8>,
    ) -> std::result::Result<(), String> {
        let segment = self
            .core
            .segment(id.lane(), place.segment)
            .map_err(|e| e.to_string())?
            .ok_or("its segment is gone")?;
        let header =
            segment.read_record(place.offset, place.len, buffer).map_err(|e| e.to_string())?;
        let body = buffer.get(super::record::HEADER_LEN..).unwrap_or_default();
        let body = body.get(..header.body_len as usize).unwrap_or_default();
        let fits = match MessageMeta::decode(body) {
            Ok((bytes, meta)) => {
                let whole =
                    !place.chunks.is_empty() || blake3::hash(bytes).as_bytes() == &meta.hash;
                Type::is_message(header.kind) && meta.id == id && meta.size == place.size && whole
            }
            Err(_) => false,
        };
        if fits {
            Ok(())
        } else {
            Err(segment.damaged(place.offset, "another record is at its place").to_string())
        }
    }

    fn chunk_stands(
        &self,
        id: MessageId,
        index: u32,
        chunk: &ChunkPlace,
        len: u64,
        buffer: &mut Vec<u8>,
    ) -> std::result::Result<(), String> {
        let segment = self
            .core
            .segment(self.core.large_lane(), chunk.segment)
            .map_err(|e| e.to_string())?
            .ok_or("its segment is gone")?;
        let header = segment.read_record(chunk.offset, len, buffer).map_err(|e| e.to_string())?;
        let body = buffer.get(super::record::HEADER_LEN..).unwrap_or_default();
        let body = body.get(..header.body_len as usize).unwrap_or_default();
        match Record::decode(&header, body) {
            Ok(Record::Chunk(head)) if head.message == id && head.index == index => Ok(()),
            _ => Err(segment
                .damaged(chunk.offset, &format!("chunk {index} is not at its place"))
                .to_string()),
        }
    }
}

/// The line by which a lost message is known from one look to the next.
fn line_of(id: MessageId) -> String {
    format!("message {id}: lost")
}

fn lost(message: MessageId, why: String, ranges: Vec<DamagedRange>) -> LostMessage {
    let (mailboxes, queued, sender) = (Vec::new(), false, None);
    LostMessage { message, mailboxes, queued, sender, why, ranges }
}
