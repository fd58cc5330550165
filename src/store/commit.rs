//! The committer of an ordinary lane.
//!
//! It takes everything that waits, plans it, lays the records into one buffer, and makes one write and
//! one sync for all. Then it answers the tickets. The index is changed afterwards, for several groups
//! together; who reads before that nudges the committer and waits until it is done, so that whoever was answered
//! sees what was answered. While a sync runs, the next group gathers, and under load for a moment longer
//! (`gather.rs`). A group holds at most 4 MiB or one transaction, and never crosses from one segment
//! into the next.
//!
//! # Failure
//! When the write or the sync fails, the segment is given up, and the same group is written to a new one, with the
//! same LSNs. Only when that fails too is everybody answered with the error, and the lane becomes read-only
//! ([`super::state`]). From then on transactions are refused at once, but for one now and then that is the next try;
//! without any, the housekeeper calls and the try is a record that says nothing (`SEAL`) in a new segment.
//!
//! When the index fails, the groups that it does not show are on disk and were answered for. So the committer takes
//! the shard out, opens it again, which replays what it does not have of the log or makes it anew from the log,
//! and puts it back; readers wait meanwhile. Nothing else happens in the lane before that has succeeded.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::body::{Body, Stored};
use super::gather::Gathering;
use super::index::apply::{Applier, Position};
use super::index::redb::Redb;
use super::index::slot;
use super::index::{Batch, Changes, IndexView, Space, Tails, row};
use super::lane::{Log, Start, put_header};
use super::plan::Planner;
use super::queue::Taken;
use super::record::{
    FLAG_BEGIN, FLAG_END, FLAG_MUST_UNDERSTAND, HEADER_LEN, Header, Record, record_len,
};
use super::recovery::{self, Recovery, RecoveryReport, Shard};
use super::space::SpaceLevel;
use super::ticket::Completion;
use super::{Change, Committed, Core, Home, Lane};
use crate::error::{Error, Kind, Result};

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

    /// Whether compaction moves messages by it. Those are committed in groups of their own: what a group before them
    /// removed is known to the planner then, so that nothing dead is copied and comes back.
    fn relocates(&self) -> bool {
        matches!(self.changes.first(), Some(Change::Relocate(_)))
    }
}

impl Transaction {
    fn has_message(&self) -> bool {
        has_message(&self.changes)
    }
}

/// Whether a message is among the changes: those are what is refused when space is low.
pub fn has_message(changes: &[Change]) -> bool {
    changes.iter().any(|change| matches!(change, Change::Message(_)))
}

/// At least as many bytes as a change's records take.
fn estimate(change: &Change) -> u64 {
    let recipients = |list: &[super::QueueRecipient]| {
        list.iter().fold(0_u64, |sum, r| {
            let texts = r.address.len() + r.parameters.len() + r.answer.len();
            sum.saturating_add(48).saturating_add(texts as u64)
        })
    };
    let rest = match change {
        Change::Message(new) => {
            let body = match &new.body.stored {
                Stored::Small { blocks, .. } => blocks.len() as u64,
                Stored::Large(_) => (new.body.len / super::body::CHUNK_BYTES as u64 + 1) * 20,
                Stored::Copied { body, .. } => body.len() as u64,
            };
            body.saturating_add(recipients(&new.queue))
                .saturating_add(new.deliver.len() as u64 * 32)
                .saturating_add((new.envelope.from.len() + new.envelope.parameters.len()) as u64)
        }
        Change::Queue { recipients: list, .. } => recipients(list),
        Change::CreateMailbox { name, .. } => name.len() as u64,
        Change::Relocate(relocation) => relocation.estimate(),
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
    let mut committer = Committer {
        core,
        lane,
        log,
        buffer: Vec::new(),
        blocks: Vec::new(),
        unshown: None,
        owed: Vec::new(),
        log_failed: false,
    };
    loop {
        match home.jobs.take(&mut jobs, &mut gathering, committer.unshown.is_some()) {
            Taken::Jobs => {}
            Taken::Pause => {
                committer.show();
                committer.mend();
                continue;
            }
            Taken::Closed => break,
        }
        // Who is not answered does not come back.
        let answered = jobs.iter().filter(|job| !matches!(job.done, Done::Silent)).count();
        gathering.answered(answered);
        let mut waiting: VecDeque<Transaction> = jobs.drain(..).collect();
        while !waiting.is_empty() {
            // A reader that came during the last group is not made to wait for this one's sync.
            if committer.unshown.is_some() && home.jobs.was_nudged() {
                committer.show();
            }
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

/// A record in the buffer, and what its header says. The header is filled in when its place is known.
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
    /// Blocks of bodies that are in the buffer.
    blocks: Vec<Vec<u8>>,
    unshown: Option<Unshown>,
    /// Messages of other lanes that are to be let go when the index shows why.
    owed: Vec<(super::MessageId, u32)>,
    /// The last try to write failed.
    log_failed: bool,
}

/// What is on disk and not in the index yet: changes over a snapshot.
struct Unshown {
    view: Box<dyn IndexView>,
    changes: Changes,
    /// Where mailboxes end with the changes.
    tails: Tails,
    /// Messages of other lanes that nobody here holds any more.
    released: Vec<(super::MessageId, u32)>,
    records: usize,
    bytes: u64,
}

/// As many records are shown together: a change of the index costs as much for one as for many. A reader does not wait
/// for them to come together, and without work they are shown after [`super::queue::PAUSE`].
const SHOWN_TOGETHER: usize = 256;
/// As many bytes of them at most.
const SHOWN_BYTES: u64 = 8 << 20;

impl Committer<'_> {
    /// Makes one group of what waits, at least of the first transaction.
    fn group(&mut self, waiting: &mut VecDeque<Transaction>) {
        let Some(home) = self.core.home(self.lane) else { return };
        if let Some(e) = self.core.conditions.refusal(self.lane) {
            self.show();
            return self.refuse_all(waiting, &e);
        }
        if let Err(e) = self.repair_if_broken() {
            return self.refuse_all(waiting, &e);
        }
        let mut unshown = match self.unshown.take().map_or_else(|| Unshown::new(home), Ok) {
            Ok(unshown) => unshown,
            Err(e) => {
                let _ = self.repair_if_broken();
                return self.refuse_all(waiting, &e);
            }
        };
        let need = waiting.front().map_or(0, |first| first.bytes);
        // A segment that cannot be begun is a failure as any other: it is tried twice.
        let start = match self.log.start(need).or_else(|e| self.start_again(need, &e)) {
            Ok(start) => start,
            Err(e) => {
                self.unshown = (unshown.records > 0).then_some(unshown);
                self.show();
                // That there is no room for a message does not mean that there is none for a deletion.
                if e.kind() == Kind::DiskFull
                    && waiting.front().is_some_and(Transaction::has_message)
                    && let Some(message) = waiting.pop_front()
                {
                    return self.refuse(vec![(message.done, e)]);
                }
                self.failed(&e);
                return self.refuse_all(waiting, &e);
            }
        };
        let changes = std::mem::take(&mut unshown.changes);
        let mut batch = Batch::over(unshown.view.as_ref(), changes)
            .with_tails(std::mem::take(&mut unshown.tails));
        let room = usize::try_from(start.room).unwrap_or(usize::MAX);
        let mut planner = Planner::new(&batch, self.lane);
        let mut members: Vec<Member> = Vec::with_capacity(waiting.len());
        let mut refused: Vec<(Done, Error)> = Vec::new();
        let mut records: Vec<(Record, Position)> = Vec::with_capacity(waiting.len());
        let mut laid: Vec<Laid> = Vec::with_capacity(waiting.len());
        let mut messages = 0;
        self.buffer.clear();
        let relocates = waiting.front().is_some_and(Transaction::relocates);
        while let Some(next) = waiting.front() {
            if next.relocates() != relocates {
                break;
            }
            let after =
                self.buffer.len().saturating_add(usize::try_from(next.bytes).unwrap_or(usize::MAX));
            if after > room || (!members.is_empty() && after > GROUP_BYTES) {
                break;
            }
            let Some(transaction) = waiting.pop_front() else { break };
            // What the ballast has given up is not for messages, also not for those that waited already.
            if self.core.space.level() == SpaceLevel::Full
                && transaction.has_message()
                && let Err(e) = self.core.space.admit_message()
            {
                refused.push((transaction.done, e));
                continue;
            }
            let Transaction { changes, done, .. } = transaction;
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
                let record_laid = self.lay(&record, body, flags);
                let len = self.buffer.len().saturating_sub(record_laid.at) as u64;
                laid.push(record_laid);
                self.log.take_lsn();
                // Where it stands is known when it is placed.
                records.push((record, Position { segment: 0, offset: 0, len }));
            }
            let committed = Committed { lsn: self.log.last_lsn(), uids: planned.uids };
            members.push(Member { done, committed });
        }
        self.core.large.spare_blocks.give_back(&mut self.blocks);
        let lsns = self.log.last_lsn();
        self.log.return_lsns(lsns.saturating_sub(laid.len() as u64));
        let written = match self.write(&laid, &mut records, start) {
            Err(e) => self.write_elsewhere(&laid, &mut records, &e),
            done => done,
        };
        match written {
            Ok(()) => {
                self.written(!records.is_empty());
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
                (unshown.changes, unshown.tails) = batch.into_parts();
                unshown.records = unshown.records.saturating_add(records.len());
                unshown.bytes = unshown.bytes.saturating_add(self.buffer.len() as u64);
                match applied {
                    Ok(released) => unshown.released.extend(released),
                    Err(e) => {
                        self.unshown = Some(unshown);
                        home.index.take_out();
                        let _ = self.repair(&e);
                        return self.refuse(refused);
                    }
                }
            }
            Err(e) => {
                (unshown.changes, unshown.tails) = batch.into_parts();
                self.failed(&e);
                for member in members {
                    member.done.answer(Err(e.clone()));
                }
            }
        }
        if unshown.records > 0 {
            self.unshown = Some(unshown);
        }
        let enough =
            |unshown: &Unshown| unshown.records >= SHOWN_TOGETHER || unshown.bytes >= SHOWN_BYTES;
        if self.unshown.as_ref().is_some_and(enough) {
            self.show();
        }
        // Planning reads the index.
        if !refused.is_empty() {
            let _ = self.repair_if_broken();
        }
        self.refuse(refused);
    }

    /// Answers all that wait with an error. Those that would write nothing are answered that they are done.
    fn refuse_all(&self, waiting: &mut VecDeque<Transaction>, error: &Error) {
        for transaction in waiting.drain(..) {
            if transaction.changes.is_empty() {
                let committed = Committed { lsn: self.log.tail().lsn, uids: Vec::new() };
                transaction.done.answer(Ok(committed));
            } else {
                transaction.done.answer(Err(error.clone()));
            }
        }
    }

    /// A group was written, or was empty.
    fn written(&mut self, anything: bool) {
        if !anything {
            return;
        }
        self.log_failed = false;
        if self.core.conditions.healed(self.lane) {
            self.core.housekeeper.look();
        }
    }

    /// Nothing can be written: the lane is read-only.
    fn failed(&mut self, error: &Error) {
        self.log_failed = true;
        self.core.conditions.failed(self.lane, error);
        self.core.housekeeper.look();
    }

    /// Begins a segment once more after a failure.
    fn start_again(&mut self, need: u64, error: &Error) -> Result<Start> {
        tracing::warn!("lane {}: {error}; it is tried again", self.lane.0);
        if error.kind() == Kind::DiskFull && !self.core.space.relieve() {
            return Err(error.clone());
        }
        self.log.start(need)
    }

    /// The group goes to a new segment, because it failed to be written where it was to go.
    fn write_elsewhere(
        &mut self,
        laid: &[Laid],
        records: &mut [(Record, Position)],
        error: &Error,
    ) -> Result<()> {
        tracing::warn!("lane {}: {error}; the group goes to a new segment", self.lane.0);
        if error.kind() == Kind::DiskFull {
            self.core.space.relieve();
        }
        let start = self.log.start(self.buffer.len() as u64)?;
        self.write(laid, records, start)
    }

    /// Called by the housekeeper or by a reader: tries what failed before, when it is time.
    fn mend(&mut self) {
        if self.core.conditions.refusal(self.lane).is_some() || self.repair_if_broken().is_err() {
            return;
        }
        if !self.log_failed {
            return;
        }
        let Some(home) = self.core.home(self.lane) else { return };
        self.buffer.clear();
        let laid = [self.lay(&Record::Seal, None, FLAG_BEGIN | FLAG_END)];
        let need = self.buffer.len() as u64;
        let start = match self.log.start(need) {
            Ok(start) => start,
            Err(e) => return self.failed(&e),
        };
        let mut records = [(Record::Seal, Position { segment: 0, offset: 0, len: need })];
        match self.write(&laid, &mut records, start) {
            Ok(()) => {
                // The position in the log moves.
                self.unshown = self.unshown.take().or_else(|| Unshown::new(home).ok());
                self.show();
                self.written(true);
            }
            Err(e) => self.failed(&e),
        }
    }

    /// Answers what was refused, and sees to the next segment.
    fn refuse(&self, refused: Vec<(Done, Error)>) {
        for (done, error) in refused {
            done.answer(Err(error));
        }
        if self.core.space.is_stale() {
            self.core.housekeeper.look();
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
        let mut whole = false;
        match body.map(|body| body.stored) {
            Some(Stored::Small { blocks, crc: of_bytes }) => {
                for bytes in blocks.iter() {
                    self.buffer.extend_from_slice(bytes);
                }
                self.blocks.push(blocks.into_last());
                crc = of_bytes;
                tail = self.buffer.len();
            }
            Some(Stored::Copied { body, crc: of_body }) => {
                self.buffer.extend_from_slice(&body);
                crc = of_body;
                tail = self.buffer.len();
                whole = true;
            }
            Some(Stored::Large(_)) | None => {}
        }
        if !whole {
            record.encode(&mut self.buffer);
        }
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

    /// Makes the group in the buffer durable at this place, and says where its records are. On an error its
    /// segment is given up, and the LSNs are as before.
    fn write(
        &mut self,
        laid: &[Laid],
        records: &mut [(Record, Position)],
        start: Start,
    ) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let durable = self.log.tail().lsn;
        for (laid, (_, position)) in laid.iter().zip(records) {
            let lsn = self.log.take_lsn();
            self.fill_in(laid, lsn, durable, start.salt);
            position.segment = start.segment;
            position.offset = start.offset.saturating_add(laid.at as u64);
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
        drop(view);
        let done = home.index.shard().and_then(|shard| shard.apply(&changes));
        self.owed.extend(released);
        if let Err(e) = done {
            home.index.take_out();
            let _ = self.repair(&e);
            return;
        }
        *home.tail.lock() = tail;
        self.core.housekeeper.wrote(usize::from(self.lane.0), bytes);
        self.core.exports.wrote(usize::from(self.lane.0), bytes);
        home.shown.keep(tail.lsn);
        self.settle_debts();
    }

    /// Lets messages of other lanes go that nobody here holds any more.
    fn settle_debts(&mut self) {
        for (message, count) in self.owed.drain(..) {
            let changes = vec![Change::Unreference { message, count }];
            // Refused only when the store closes: the count is then too high, never too low.
            let _ = self.core.push(message.lane(), Transaction::new(changes, Done::Silent));
        }
    }

    /// Repairs the shard if it has failed, whoever met it.
    fn repair_if_broken(&mut self) -> Result<()> {
        let Some(home) = self.core.home(self.lane) else { return Ok(()) };
        if home.index.is_usable() {
            return Ok(());
        }
        let why = home.index.shard().err().unwrap_or_else(slot::rebuilding);
        home.index.take_out();
        self.repair(&why)
    }

    /// Opens the shard again, which is taken out, and shows all of the log in it.
    fn repair(&mut self, why: &Error) -> Result<()> {
        let Some(home) = self.core.home(self.lane) else { return Ok(()) };
        tracing::error!("lane {}: {why}; the index is opened again", self.lane.0);
        // The log has what is not shown. The snapshot is of the old shard.
        if let Some(Unshown { view, released, .. }) = self.unshown.take() {
            drop(view);
            self.owed.extend(released);
        }
        self.core.conditions.rebuilding(self.lane, true);
        if why.kind() == Kind::DiskFull {
            self.core.space.relieve();
        }
        let made = match self.open_shard() {
            Err(e) if e.kind() == Kind::DiskFull && self.core.space.relieve() => self.open_shard(),
            other => other,
        };
        match made {
            Ok(shard) => {
                let tail = self.log.tail();
                *home.tail.lock() = tail;
                home.index.put(shard);
                home.shown.keep(tail.lsn);
                self.core.conditions.rebuilding(self.lane, false);
                tracing::warn!("lane {}: the index serves again", self.lane.0);
                self.core.conditions.repaired(self.lane, why);
                self.core.housekeeper.look();
                if !self.log_failed && self.core.conditions.healed(self.lane) {
                    self.core.housekeeper.look();
                }
                self.settle_debts();
                Ok(())
            }
            Err(e) => {
                let e = e.within("the index cannot be repaired");
                self.core.conditions.failed(self.lane, &e);
                self.core.housekeeper.look();
                home.index.fail(e.clone());
                Err(e)
            }
        }
    }

    fn open_shard(&self) -> Result<Redb> {
        let (core, lane) = (self.core, self.lane);
        // It may need all of the log.
        let _hold = core.shelf.hold("repair of an index");
        let mut chain = recovery::survey_lane(core.fs.as_ref(), &core.dir, &core.uuid, lane)?;
        chain.end_at(self.log.tail());
        let mut report = RecoveryReport::default();
        let (fs, dir, large) = (core.fs.as_ref(), core.dir.as_path(), core.large_lane());
        let mut recovery = Recovery { fs, dir, lane, large, report: &mut report };
        let shard = Shard { dir, uuid: &core.uuid, lane, counters: &core.index_counters };
        let made = recovery.open_shard(&core.fs, &shard, &chain);
        // The report is that of the opening; what is found later goes to the state, and is told.
        for line in &report.damage {
            core.damaged(line);
        }
        if report.rebuilt > 0 || made.is_err() {
            // Exports that are damaged were set aside: what they showed is needed again.
            super::export::rely_on_newest(core, lane)?;
        }
        Ok(made?.0)
    }

    /// Applies records to changes that are not shown yet.
    fn apply(
        &self,
        records: &[(Record, Position)],
        batch: &mut Batch<'_>,
    ) -> Result<Vec<(super::MessageId, u32)>> {
        let large = self.core.large_lane();
        let mut applier =
            Applier { batch, lane: self.lane, large, released: Vec::new(), salvage: false };
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
        let laid = [self.lay(&Record::Seal, None, FLAG_BEGIN | FLAG_END)];
        let len = self.buffer.len() as u64;
        let mut records = [(Record::Seal, Position { segment: 0, offset: 0, len })];
        // Nobody waits for this: without it the next opening is only less certain of the last group.
        if self.write(&laid, &mut records, start).is_ok() && self.unshown.is_none() {
            // The position in the log moves all the same.
            self.unshown = Unshown::new(home).ok();
        }
    }
}

impl Unshown {
    /// Nothing yet.
    fn new(home: &Home) -> Result<Unshown> {
        let view = home.index.shard()?.view()?;
        let (changes, tails, released) = (Changes::new(), Tails::new(), Vec::new());
        Ok(Unshown { view, changes, tails, released, records: 0, bytes: 0 })
    }
}
