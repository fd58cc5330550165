//! The committer of an ordinary lane.
//!
//! It takes everything that waits, plans it, lays the records into one buffer, and makes one write and
//! one sync for all. Then it answers the tickets. The index is changed afterwards, for several small groups
//! together; who reads before that nudges the committer and waits until it is done, so that whoever was answered
//! sees what was answered. While a sync runs, the next group gathers, and under load for a moment longer
//! (`gather.rs`). A group holds at most 4 MiB or one transaction, and never crosses from one segment
//! into the next.
//!
//! When the write or the sync fails, every transaction of the group is answered with the error and the
//! lane goes on in a fresh segment. When the index cannot be changed, the group is on disk and was answered
//! for, but cannot be shown: the lane refuses everything until the store is opened again, which
//! rebuilds the index.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::body::{Body, Stored};
use super::gather::Gathering;
use super::index::apply::{Applier, Position};
use super::index::{Batch, Changes, IndexView, Space, row};
use super::lane::{Log, put_header};
use super::plan::Planner;
use super::queue::Taken;
use super::record::{
    FLAG_BEGIN, FLAG_END, FLAG_MUST_UNDERSTAND, HEADER_LEN, Header, Record, record_len,
};
use super::ticket::Completion;
use super::{Change, Committed, Core, Home, Lane};
use crate::error::{Error, Result};

/// Most bytes of a group of more than one transaction.
const GROUP_BYTES: usize = 4 << 20;
/// The group's buffer is given back when it has grown beyond this.
const BUFFER_BYTES: usize = 8 << 20;

/// Who wants to know.
pub enum Done {
    /// Nobody.
    Silent,
    /// A ticket.
    Ticket(Completion<Committed>),
    /// A function, called on the committer's thread: it must be short and must neither block nor read the
    /// store, whose index may not show the transaction yet.
    Call(Box<dyn FnOnce(Result<Committed>) + Send>),
}

impl Done {
    /// Answers.
    pub fn answer(self, result: Result<Committed>) {
        match self {
            Done::Silent => {}
            Done::Ticket(completion) => completion.complete(result),
            Done::Call(call) => call(result),
        }
    }
}

/// A transaction on its way to a committer.
pub struct Transaction {
    /// What to do.
    pub changes: Vec<Change>,
    /// At least as many bytes as its records take.
    pub bytes: u64,
    /// Who wants to know.
    pub done: Done,
}

impl Transaction {
    /// A transaction of these changes.
    pub fn new(mut changes: Vec<Change>, done: Done) -> Transaction {
        for change in &mut changes {
            if let Change::Message(new) = change {
                // It has come.
                new.body.coming = None;
            }
        }
        let bytes = changes.iter().fold(0_u64, |sum, change| sum.saturating_add(estimate(change)));
        Transaction { changes, bytes, done }
    }
}

/// At least as many bytes as a change's records take.
fn estimate(change: &Change) -> u64 {
    let recipients = |list: &[super::QueueRecipient]| {
        list.iter().fold(0_u64, |sum, r| {
            sum.saturating_add(32).saturating_add((r.address.len() + r.parameters.len()) as u64)
        })
    };
    let rest = match change {
        Change::Message(new) => {
            let body = match &new.body.stored {
                Stored::Small { blocks, .. } => blocks.len() as u64,
                Stored::Large(_) => (new.body.len / super::body::CHUNK_BYTES as u64 + 1) * 20,
            };
            body.saturating_add(recipients(&new.queue))
                .saturating_add(new.deliver.len() as u64 * 32)
                .saturating_add((new.envelope.from.len() + new.envelope.parameters.len()) as u64)
        }
        Change::Queue { recipients: list, .. } => recipients(list),
        Change::CreateMailbox { name, .. } => name.len() as u64,
        Change::Expunge { uids, .. } | Change::Flags { uids, .. } => uids.len() as u64 * 6,
        Change::Move { uids, .. } => uids.len() as u64 * 12,
        Change::Row { key, value, .. } => (key.len() + value.as_ref().map_or(0, Vec::len)) as u64,
        Change::Deliver { .. }
        | Change::Forget { .. }
        | Change::RemoveMailboxes { .. }
        | Change::Unreference { .. } => 0,
    };
    rest.saturating_add(192)
}

/// The committer's loop; returns when the queue is closed and empty.
pub fn run(core: &Core, lane: Lane, log: &mut Log) {
    let Some(home) = core.home(lane) else { return };
    let mut jobs = Vec::new();
    let mut gathering = Gathering::new(home.arrivals.clone());
    let mut committer = Committer { core, lane, log, buffer: Vec::new(), unshown: None };
    loop {
        match home.jobs.take(&mut jobs, &mut gathering, committer.unshown.is_some()) {
            Taken::Jobs => {}
            Taken::Pause => {
                committer.show();
                continue;
            }
            Taken::Closed => break,
        }
        // Who is not answered does not come back.
        let answered = jobs.iter().filter(|job| !matches!(job.done, Done::Silent)).count();
        gathering.answered(answered);
        let mut waiting: VecDeque<Transaction> = jobs.drain(..).collect();
        while !waiting.is_empty() {
            committer.group(&mut waiting);
            if committer.buffer.capacity() > BUFFER_BYTES {
                committer.buffer = Vec::new();
            }
        }
    }
    committer.seal();
    committer.show();
    committer.log.close();
}

/// A record in the buffer whose header is not filled in yet.
struct Laid {
    at: usize,
    body_len: usize,
    body_crc: u32,
    kind: u8,
    flags: u16,
}

/// A transaction of the running group.
struct Member {
    done: Done,
    committed: Committed,
}

struct Committer<'a> {
    core: &'a Core,
    lane: Lane,
    log: &'a mut Log,
    buffer: Vec<u8>,
    unshown: Option<Unshown>,
}

/// What is on disk and not in the index yet: changes over a snapshot.
struct Unshown {
    view: Box<dyn IndexView>,
    changes: Changes,
    /// Messages of other lanes that nobody here holds any more.
    released: Vec<(super::MessageId, u32)>,
    records: usize,
    bytes: u64,
}

/// As many records are shown together. A change of the index costs as much for one as for many, about a fifth of
/// what a lone sender waits for.
const SHOWN_TOGETHER: usize = 16;

impl Committer<'_> {
    /// Makes one group of what waits, at least of the first transaction.
    fn group(&mut self, waiting: &mut VecDeque<Transaction>) {
        let Some(home) = self.core.home(self.lane) else { return };
        let mut unshown = match self.unshown.take().map_or_else(|| Unshown::new(home), Ok) {
            Ok(unshown) => unshown,
            Err(e) => return fail_all(waiting, &e),
        };
        let need = waiting.front().map_or(0, |first| first.bytes);
        let start = match self.log.start(need) {
            Ok(start) => start,
            Err(e) => {
                self.unshown = Some(unshown);
                self.show();
                return fail_all(waiting, &e);
            }
        };
        let mut batch = Batch::over(unshown.view.as_ref(), std::mem::take(&mut unshown.changes));
        let room = usize::try_from(start.room).unwrap_or(usize::MAX);
        let mut planner = Planner::new(&batch, self.lane);
        let mut members: Vec<Member> = Vec::with_capacity(waiting.len());
        let mut refused: Vec<(Done, Error)> = Vec::new();
        let mut records: Vec<(Record, Position)> = Vec::with_capacity(waiting.len());
        let durable = self.log.tail().lsn;
        let mut messages = 0;
        self.buffer.clear();
        while let Some(next) = waiting.front() {
            let after =
                self.buffer.len().saturating_add(usize::try_from(next.bytes).unwrap_or(usize::MAX));
            if after > room || (!members.is_empty() && after > GROUP_BYTES) {
                break;
            }
            let Some(Transaction { changes, done, .. }) = waiting.pop_front() else { break };
            let planned = match planner.plan(changes) {
                Ok(planned) => planned,
                Err(e) => {
                    refused.push((done, e));
                    continue;
                }
            };
            let last = planned.records.len().saturating_sub(1);
            for (index, (record, body)) in planned.records.into_iter().enumerate() {
                let mut flags = FLAG_MUST_UNDERSTAND;
                if index == 0 {
                    flags |= FLAG_BEGIN;
                }
                if index == last {
                    flags |= FLAG_END;
                }
                if matches!(record, Record::Message(_)) {
                    messages += 1;
                }
                let laid = self.lay(&record, body, flags);
                let len = self.buffer.len().saturating_sub(laid.at) as u64;
                let offset = start.offset.saturating_add(laid.at as u64);
                let lsn = self.log.take_lsn();
                self.fill_in(&laid, lsn, durable, start.salt);
                records.push((record, Position { segment: start.segment, offset, len }));
            }
            let committed = Committed { lsn: self.log.last_lsn(), uids: planned.uids };
            members.push(Member { done, committed });
        }
        match self.write(&records) {
            Ok(()) => {
                let counters = &self.core.counters;
                counters.transactions.fetch_add(members.len() as u64, Ordering::Relaxed);
                counters.messages.fetch_add(messages, Ordering::Relaxed);
                // What writes nothing shows nothing, and keeps no promise.
                if !records.is_empty() {
                    home.shown.promise(self.log.tail().lsn);
                }
                for member in members {
                    member.done.answer(Ok(member.committed));
                }
                let applied = self.apply(&records, &mut batch);
                unshown.changes = batch.into_changes();
                unshown.records = unshown.records.saturating_add(records.len());
                unshown.bytes = unshown.bytes.saturating_add(self.buffer.len() as u64);
                match applied {
                    Ok(released) => unshown.released.extend(released),
                    Err(e) => {
                        self.stand_still(&e);
                        return self.refuse(refused);
                    }
                }
            }
            Err(e) => {
                unshown.changes = batch.into_changes();
                for member in members {
                    member.done.answer(Err(e.clone()));
                }
            }
        }
        if unshown.records > 0 {
            self.unshown = Some(unshown);
        }
        if self.unshown.as_ref().is_some_and(|unshown| unshown.records >= SHOWN_TOGETHER) {
            self.show();
        }
        self.refuse(refused);
    }

    /// Answers what was refused, and sees to the next segment.
    fn refuse(&self, refused: Vec<(Done, Error)>) {
        for (done, error) in refused {
            done.answer(Err(error));
        }
        self.core.housekeeper.look_at(usize::from(self.lane.0), self.log.wants_spare());
    }

    /// Lays a record into the buffer, with room for its header.
    fn lay(&mut self, record: &Record, body: Option<Body>, flags: u16) -> Laid {
        let at = self.buffer.len();
        let front = at.saturating_add(HEADER_LEN);
        self.buffer.resize(front, 0);
        let mut crc = 0;
        let mut tail = front;
        if let Some(Body { stored: Stored::Small { blocks, crc: of_bytes }, .. }) = body {
            for bytes in blocks.iter() {
                self.buffer.extend_from_slice(bytes);
            }
            tail = self.buffer.len();
            crc = of_bytes;
        }
        record.encode(&mut self.buffer);
        crc = crc32c::crc32c_append(crc, self.buffer.get(tail..).unwrap_or_default());
        let body_len = self.buffer.len().saturating_sub(front);
        let end = at.saturating_add(usize::try_from(record_len(body_len)).unwrap_or(0));
        self.buffer.resize(end, 0);
        Laid { at, body_len, body_crc: crc, kind: record.kind(), flags }
    }

    fn fill_in(&mut self, laid: &Laid, lsn: u64, durable: u64, salt: u32) {
        let header = Header {
            body_len: u32::try_from(laid.body_len).unwrap_or(u32::MAX),
            kind: laid.kind,
            version: 1,
            flags: laid.flags,
            body_crc: laid.body_crc,
            lsn,
            durable_delta: u32::try_from(lsn.saturating_sub(durable)).unwrap_or(u32::MAX),
        };
        if let Some(record) = self.buffer.get_mut(laid.at..) {
            put_header(record, &header, salt);
        }
    }

    /// Makes the buffer durable.
    fn write(&mut self, records: &[(Record, Position)]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.log.write(&self.buffer)?;
        self.log.sync()?;
        self.core.counters.groups.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Shows what was put off in the index, and lets messages of other lanes go that nobody here holds any more.
    fn show(&mut self) {
        let Some(home) = self.core.home(self.lane) else { return };
        let Some(unshown) = self.unshown.take() else { return };
        let tail = self.log.tail();
        let Unshown { view, mut changes, released, bytes, .. } = unshown;
        let applied = row::Applied { lsn: tail.lsn, segment: tail.segment, offset: tail.end };
        changes.insert((Space::Meta, row::APPLIED.to_vec()), Some(applied.encode()));
        if let Err(e) = home.index.apply(&changes) {
            return self.stand_still(&e);
        }
        drop(view);
        *home.tail.lock() = tail;
        self.core.housekeeper.wrote(usize::from(self.lane.0), bytes);
        self.core.exports.wrote(usize::from(self.lane.0), bytes);
        home.shown.keep(tail.lsn);
        for (message, count) in released {
            let changes = vec![Change::Unreference { message, count }];
            // Refused only when the store closes: the count is then too high, never too low.
            let _ = self.core.push(message.lane(), Transaction::new(changes, Done::Silent));
        }
    }

    /// The index cannot be changed: the lane refuses everything from here on.
    fn stand_still(&self, error: &Error) {
        let Some(home) = self.core.home(self.lane) else { return };
        tracing::error!(
            "lane {}: the index cannot be changed, the lane stands still until the store is opened again: {error}",
            self.lane.0
        );
        home.index.poison();
        // Who waits learns it from the index.
        home.shown.keep(self.log.tail().lsn);
    }

    /// Applies records to changes that are not shown yet.
    fn apply(
        &self,
        records: &[(Record, Position)],
        batch: &mut Batch<'_>,
    ) -> Result<Vec<(super::MessageId, u32)>> {
        let large = self.core.large_lane();
        let mut applier = Applier { batch, lane: self.lane, large, released: Vec::new() };
        for (record, position) in records {
            applier.apply(record, *position)?;
        }
        Ok(applier.released)
    }

    /// Ends the lane in order: a last record tells recovery that all before it was durable. After a
    /// failure it stands in a new segment, so that what was refused does not come back.
    fn seal(&mut self) {
        let tail = self.log.tail();
        let Some(home) = self.core.home(self.lane) else { return };
        let wanted = tail.lsn > 0 && self.log.fits(record_len(0));
        if !wanted && !self.log.failed_behind_tail() {
            return;
        }
        let Ok(start) = self.log.start(record_len(0)) else { return };
        self.buffer.clear();
        let laid = self.lay(&Record::Seal, None, FLAG_BEGIN | FLAG_END);
        let lsn = self.log.take_lsn();
        self.fill_in(&laid, lsn, tail.lsn, start.salt);
        // Nobody waits for this: without it the next opening is only less certain of the last group.
        let len = self.buffer.len() as u64;
        let position = Position { segment: start.segment, offset: start.offset, len };
        let records = [(Record::Seal, position)];
        if self.write(&records).is_ok() && self.unshown.is_none() {
            // The position in the log moves all the same.
            self.unshown = Unshown::new(home).ok();
        }
    }
}

impl Unshown {
    /// Nothing yet.
    fn new(home: &Home) -> Result<Unshown> {
        let (changes, released) = (Changes::new(), Vec::new());
        Ok(Unshown { view: home.index.view()?, changes, released, records: 0, bytes: 0 })
    }
}

fn fail_all(waiting: &mut VecDeque<Transaction>, error: &Error) {
    for transaction in waiting.drain(..) {
        transaction.done.answer(Err(error.clone()));
    }
}
