//! Scrub: finds damage before somebody reads it, and counts references again.
//!
//! # Method
//! A run goes over every segment that is left for good, verifies both checksums of each record and that it makes
//! sense, then over every export, and last counts how many mailboxes hold each message. It goes step by step
//! (a segment, an export, a part of the messages), so that who runs it can do something else in between and keep a
//! rate. [`super::maintenance`] makes a run now and then by itself; where it stands is only in memory.
//!
//! # Recount
//! A message's count may be wrong after a crash between two lanes. A count that is too high keeps dead mail on
//! the disk; one that is too low would lose mail and never happens as far as we know. What looks wrong at first is
//! looked at again: rows of all mailboxes first, then, after everything that was committed in any lane before has
//! reached every other lane, the counts, then the rows again. Messages on their way between lanes (a queue entry with a
//! local recipient) are left out, and so is what changed between the looks. So at the second look a count is the
//! rows, plus what mailboxes have let go since the first, plus the error. The error is taken off by an ordinary
//! record, relative to the count, so that whatever happens meanwhile stays right. What has reached zero is dropped, and
//! compaction frees it.
//!
//! A change that is to put rows of one lane's messages into mailboxes of another lane (an IMAP COPY between accounts) must
//! keep to what deliveries do: as long as its rows and the count may differ, something in the message's lane says so and
//! [`look`] takes the message for one on its way. A queue entry with a local recipient is the only such mark today. A
//! COPY within one lane changes rows and count in one transaction and needs none; one of a message that lives in another
//! lane needs a mark, made durable there before the first row, which also reserves the reference: without it the last
//! mailbox may let the message go in between.
//!
//! # Failure
//! What is damaged is a finding: a line in the report, in the statistics and for the sink; the run goes on. A damaged
//! export is set aside, so that nothing relies on it, and another one is made. Nothing else but counts is changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::commit::{Done, Transaction};
use super::compaction::Pace;
use super::export;
use super::index::row::{self, Place};
use super::index::{IndexView, Space};
use super::record::Record;
use super::segment::{self, Found, HEADER_BYTES, Scanner};
use super::{Change, Core, Lane, MessageId, RecipientState, Scrubbed, Ticket, recovery};
use crate::error::{Kind, Result};

/// Messages whose references are counted at once.
const MESSAGES: u64 = 500_000;
/// Findings that are listed; what is beyond is counted in one line.
const FINDINGS: usize = 1000;

/// How [`super::Store::scrub`] runs.
#[derive(Clone, Debug, Default)]
pub struct ScrubOptions {
    /// Bytes a second that are read at most; 0: no limit.
    pub bytes_per_second: u64,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Segments verified.
    pub segments: u64,
    /// Records verified.
    pub records: u64,
    /// Exports verified.
    pub exports: u64,
    /// Bytes read of both.
    pub bytes: u64,
    /// Messages whose references were counted.
    pub messages: u64,
    /// Messages whose count was wrong and is right now.
    pub corrected: u64,
    /// One line a finding, each naming file and offset or a message. Empty: all is well.
    pub findings: Vec<String>,
}

/// Where findings of a scrub go, line by line, when they are found. The function is called on the thread that scrubs; it
/// must be short and must not call the store.
#[derive(Clone)]
pub struct ScrubSink(Arc<dyn Fn(&str) + Send + Sync>);

impl ScrubSink {
    /// A sink that calls this function.
    pub fn new(call: impl Fn(&str) + Send + Sync + 'static) -> ScrubSink {
        ScrubSink(Arc::new(call))
    }
}

impl fmt::Debug for ScrubSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScrubSink")
    }
}

/// Counters of scrubs.
#[derive(Debug, Default)]
pub struct ScrubCounters {
    /// Runs that came to their end.
    pub runs: AtomicU64,
    /// Bytes verified.
    pub bytes: AtomicU64,
    /// Findings.
    pub findings: AtomicU64,
    /// Counts of references that were corrected.
    pub corrected: AtomicU64,
}

/// What is still to be done.
enum Step {
    /// A segment: lane, number, and where its records end when that is known.
    Segment(Lane, u64, Option<u64>),
    Exports(Lane),
    /// A part of all messages: its number, of how many.
    Recount(u64, u64),
}

/// A run of the scrub.
pub(super) struct Run {
    todo: Vec<Step>,
    total: u64,
    /// What is found.
    pub report: ScrubReport,
    beyond: u64,
    /// Called between the looks of a recount.
    #[cfg(test)]
    pub between: Option<Box<dyn FnMut(u32) + Send>>,
}

impl Run {
    /// A new run over what is there now.
    pub fn new(core: &Core) -> Result<Run> {
        let active: Vec<u64> =
            core.settings.iter().map(|setting| setting.active.load(Ordering::Acquire)).collect();
        let chains = recovery::survey(core.fs.as_ref(), &core.dir, &core.uuid, core.lanes() + 1)?;
        let mut todo = Vec::new();
        let mut total = 0_u64;
        for ((lane, chain), active) in (0_u8..).zip(&chains).zip(active) {
            for found in chain.segments.iter().filter(|found| found.number < active) {
                todo.push(Step::Segment(Lane(lane), found.number, found.end));
                total = total.saturating_add(found.end.unwrap_or(found.len));
            }
        }
        for lane in (0_u8..).take(core.lanes()) {
            todo.push(Step::Exports(Lane(lane)));
        }
        let parts = messages(core)? / MESSAGES + 1;
        todo.extend((0..parts).map(|part| Step::Recount(part, parts)));
        todo.reverse();
        Ok(Run {
            todo,
            total,
            report: ScrubReport::default(),
            beyond: 0,
            #[cfg(test)]
            between: None,
        })
    }

    /// Does the next step, `false` when all is done. `progress(done, total)` counts bytes.
    pub fn step(
        &mut self,
        core: &Core,
        pace: &mut dyn Pace,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<bool> {
        match self.todo.pop() {
            None => return Ok(false),
            Some(Step::Segment(lane, number, end)) => {
                self.segment(core, pace, (lane, number, end), progress)?;
            }
            Some(Step::Exports(lane)) => self.exports(core, pace, lane)?,
            Some(Step::Recount(part, parts)) => self.recount(core, part, parts)?,
        }
        if core.closing.load(Ordering::Acquire) {
            return Err(super::stopped());
        }
        if self.todo.is_empty() {
            core.scrub_counters.runs.fetch_add(1, Ordering::Relaxed);
            let findings = (self.report.findings.len() as u64).saturating_add(self.beyond);
            *core.scrubbed.lock() = Some(Scrubbed { ended: core.clock.unix_millis(), findings });
            if self.beyond > 0 {
                self.report.findings.push(format!("and {} more findings", self.beyond));
            }
        }
        Ok(!self.todo.is_empty())
    }

    /// The place of a look in a recount, for tests.
    fn between(&mut self, _look: u32) {
        #[cfg(test)]
        if let Some(call) = &mut self.between {
            call(_look);
        }
    }

    fn finding(&mut self, core: &Core, line: String) {
        tracing::error!("scrub: {line}");
        core.scrub_counters.findings.fetch_add(1, Ordering::Relaxed);
        if let Some(ScrubSink(call)) = &core.options.on_scrub {
            call(&line);
        }
        core.damaged(&line);
        if self.report.findings.len() < FINDINGS {
            self.report.findings.push(line);
        } else {
            self.beyond = self.beyond.saturating_add(1);
        }
    }

    fn segment(
        &mut self,
        core: &Core,
        pace: &mut dyn Pace,
        (lane, number, end): (Lane, u64, Option<u64>),
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        // Held while it is read.
        let segment = match core.segment(lane, number) {
            Ok(Some(segment)) => segment,
            Ok(None) => return Ok(()),
            Err(e) => {
                self.finding(core, e.message().to_owned());
                return Ok(());
            }
        };
        let path = segment::path(&core.dir, lane.0, number);
        let mut scanner =
            match Scanner::new(segment.file.as_ref(), segment.salt, end.unwrap_or(u64::MAX)) {
                Ok(scanner) => scanner,
                Err(e) => {
                    self.finding(core, format!("{}: {e}", path.display()));
                    return Ok(());
                }
            };
        let limit = end.unwrap_or(scanner.end());
        self.report.segments = self.report.segments.saturating_add(1);
        let mut at = HEADER_BYTES;
        while at < limit {
            let (next, why) = match read(&mut scanner, at) {
                Ok(Some(len)) => {
                    self.report.records = self.report.records.saturating_add(1);
                    (at.saturating_add(len), None)
                }
                Ok(None) => match scanner.search(at.saturating_add(8), 0) {
                    Ok(Some((next, _))) => (next, Some("damaged".to_owned())),
                    // Nobody knows where it ends: what is behind was never acknowledged, as far as one can tell.
                    Ok(None) if end.is_none() => (limit, None),
                    Ok(None) => (limit, Some("damaged".to_owned())),
                    Err(e) => (limit, Some(e.to_string())),
                },
                Err(e) => (limit, Some(e.to_string())),
            };
            if let Some(why) = why {
                self.finding(core, format!("{}: bytes {at} to {next}: {why}", path.display()));
            }
            let bytes = next.saturating_sub(at);
            self.report.bytes = self.report.bytes.saturating_add(bytes);
            core.scrub_counters.bytes.fetch_add(bytes, Ordering::Relaxed);
            progress(self.report.bytes.min(self.total), self.total);
            at = next;
            if !pace.spend(bytes) {
                return Err(super::stopped());
            }
        }
        Ok(())
    }

    fn exports(&mut self, core: &Core, pace: &mut dyn Pace, lane: Lane) -> Result<()> {
        let fs = core.fs.as_ref();
        for lsn in export::list(fs, &core.dir, lane)? {
            let verified = export::verify(fs, &core.dir, &core.uuid, lane, lsn, &mut |bytes| {
                // A store that closes is noticed behind the export.
                let _ = pace.spend(bytes);
            });
            match verified {
                Ok(exported) => {
                    self.report.exports = self.report.exports.saturating_add(1);
                    self.report.bytes = self.report.bytes.saturating_add(exported.bytes);
                    core.scrub_counters.bytes.fetch_add(exported.bytes, Ordering::Relaxed);
                }
                // A newer one has taken its place.
                Err(_) if fs.metadata(&export::path(&core.dir, lane, lsn)).is_err() => {}
                Err(e) => {
                    self.finding(core, e.message().to_owned());
                    if e.kind() == Kind::Corrupt {
                        export::distrust(core, lane, lsn)?;
                    }
                }
            }
            if core.closing.load(Ordering::Acquire) {
                return Err(super::stopped());
            }
        }
        Ok(())
    }

    /// Counts the references of a part of all messages.
    fn recount(&mut self, core: &Core, part: u64, parts: u64) -> Result<()> {
        let mine = |id: MessageId| id.0 % parts == part;
        let held = match look(core, &mine) {
            Err(e) if e.kind() == Kind::Corrupt => {
                self.finding(core, format!("{}; references are not counted", e.message()));
                return Ok(());
            }
            other => other?,
        };
        let mut suspects: HashSet<MessageId> = HashSet::new();
        let mut count = 0_u64;
        for_places(core, &mine, &mut |id, place| {
            count = count.saturating_add(1);
            if place.references != held.rows_of(id) || (place.references <= 0 && !place.queued) {
                suspects.insert(id);
            }
        })?;
        self.report.messages = self.report.messages.saturating_add(count);
        drop(held);
        if suspects.is_empty() {
            return Ok(());
        }
        let mine = |id: MessageId| suspects.contains(&id);
        let before = look(core, &mine)?;
        self.between(1);
        // Who let a message go has told its lane behind the first pass, and the lane knows it behind the second.
        core.pass_all_lanes()?;
        core.pass_all_lanes()?;
        let counted = places(core, &mine)?;
        self.between(2);
        let after = look(core, &mine)?;
        // What was let go before the last look is off the count behind this.
        core.pass_all_lanes()?;
        core.pass_all_lanes()?;
        let again = places(core, &mine)?;
        let mut changes: BTreeMap<Lane, Vec<Change>> = BTreeMap::new();
        for (message, place) in &counted {
            let rows = before.rows_of(*message);
            let steady = again.get(message).is_some_and(|now| now.references == place.references)
                && rows == after.rows_of(*message)
                && !before.moving.contains(message)
                && !after.moving.contains(message);
            let excess = place.references.saturating_sub(rows);
            if !steady || (excess == 0 && (place.references > 0 || place.queued)) {
                continue;
            }
            let message = *message;
            let difference = u32::try_from(excess.unsigned_abs()).unwrap_or(u32::MAX);
            let change = if excess >= 0 {
                tracing::info!(
                    "message {message}: {rows} mailboxes hold it, {} were counted",
                    place.references
                );
                Change::Unreference { message, count: difference }
            } else {
                let line = format!(
                    "message {message}: {rows} mailboxes hold it, only {} were counted",
                    place.references
                );
                self.finding(core, line);
                if place.queued {
                    // Its recipients may change at any time; it is not forgotten while it is queued.
                    continue;
                }
                Change::Queue { message, recipients: Vec::new(), references: difference }
            };
            changes.entry(message.lane()).or_default().push(change);
        }
        for (lane, changes) in changes {
            let count = changes.len() as u64;
            let (completion, ticket) = Ticket::new();
            // When this fails, the ticket has been answered.
            let _ = core.push(lane, Transaction::new(changes, Done::Ticket(completion)));
            ticket.wait()?;
            self.report.corrected = self.report.corrected.saturating_add(count);
            core.scrub_counters.corrected.fetch_add(count, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The length of the record at an offset, verified; `None` when it is damaged.
fn read(scanner: &mut Scanner<'_>, at: u64) -> std::io::Result<Option<u64>> {
    let Found::Record(header) = scanner.record(at)? else { return Ok(None) };
    let body = scanner.body(at, &header)?;
    Ok(Record::decode(&header, body).is_ok().then(|| header.record_len()))
}

/// What the mailboxes and the queue hold.
struct Held {
    rows: HashMap<MessageId, i64>,
    /// On their way between lanes.
    moving: BTreeSet<MessageId>,
}

impl Held {
    fn rows_of(&self, message: MessageId) -> i64 {
        self.rows.get(&message).copied().unwrap_or(0)
    }
}

/// Counts the rows of some messages in the mailboxes of all lanes.
fn look(core: &Core, wanted: &dyn Fn(MessageId) -> bool) -> Result<Held> {
    let mut held = Held { rows: HashMap::new(), moving: BTreeSet::new() };
    let mut damaged = None;
    for home in &core.homes {
        let view = home.view()?;
        all(core, view.as_ref(), Space::Queue, &mut |key, value| {
            let entry = row::message_of(key).and_then(|id| row::decode_queue(id, value));
            match entry {
                Ok(entry) => {
                    let local =
                        |r: &super::QueueRecipient| matches!(r.state, RecipientState::Local(..));
                    if wanted(entry.message) && entry.recipients.iter().any(local) {
                        held.moving.insert(entry.message);
                    }
                }
                Err(_) => damaged = Some("queue"),
            }
        })?;
    }
    // Behind the queue: what is not on its way by then has reached all its mailboxes, so their rows are seen here.
    for home in &core.homes {
        let view = home.view()?;
        all(core, view.as_ref(), Space::Pack, &mut |_, value| match row::decode_pack(value) {
            Ok(rows) => {
                for row in rows.into_iter().filter(|row| wanted(row.message)) {
                    *held.rows.entry(row.message).or_default() += 1;
                }
            }
            Err(_) => damaged = Some("message"),
        })?;
    }
    damaged.map_or(Ok(held), |what| Err(super::damaged_row(what)))
}

/// Visits all rows of a table, in one snapshot: a message that is moved meanwhile is neither missed nor seen twice. Ends
/// at once when the store closes.
fn all(
    core: &Core,
    view: &dyn IndexView,
    space: Space,
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<()> {
    let closing = || core.closing.load(Ordering::Acquire);
    view.range(space, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
        visit(key, value);
        !closing()
    })?;
    if closing() { Err(super::stopped()) } else { Ok(()) }
}

fn for_places(
    core: &Core,
    wanted: &dyn Fn(MessageId) -> bool,
    visit: &mut dyn FnMut(MessageId, Place),
) -> Result<()> {
    let mut damaged = false;
    for home in &core.homes {
        all(core, home.view()?.as_ref(), Space::Place, &mut |key, value| match (
            row::message_of(key),
            Place::decode(value),
        ) {
            (Ok(id), Ok(place)) if wanted(id) => visit(id, place),
            (Ok(_), Ok(_)) => {}
            _ => damaged = true,
        })?;
    }
    if damaged { Err(super::damaged_row("place")) } else { Ok(()) }
}

fn places(core: &Core, wanted: &dyn Fn(MessageId) -> bool) -> Result<HashMap<MessageId, Place>> {
    let mut places = HashMap::new();
    for_places(core, wanted, &mut |id, place| {
        places.insert(id, place);
    })?;
    Ok(places)
}

fn messages(core: &Core) -> Result<u64> {
    let mut count = 0_u64;
    for home in &core.homes {
        all(core, home.view()?.as_ref(), Space::Place, &mut |_, _| {
            count = count.saturating_add(1)
        })?;
    }
    Ok(count)
}

/// A whole run now.
pub(super) fn scrub(
    core: &Core,
    pace: &mut dyn Pace,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ScrubReport> {
    let mut run = Run::new(core)?;
    progress(0, run.total);
    while run.step(core, pace, progress)? {}
    progress(run.total, run.total);
    Ok(run.report)
}
