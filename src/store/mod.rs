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
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Kind, Result};
use crate::vfs;

pub mod body;
pub mod check;
pub mod commit;
pub mod compaction;
pub mod core;
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
pub mod opening;
pub mod options;
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
pub use core::Core;
pub use export::Exported;
pub use id::{AccountId, Lane, MailboxId, MessageId};
pub use lane::Preparation;
pub use model::*;
pub use options::{CreateOptions, OpenOptions};
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

use commit::Done;
use core::{Home, damaged_row, stopped};
use encoding::Malformed;
use index::{Space, row};

/// Most ordinary lanes.
pub const MAX_LANES: u8 = 16;
/// Name of the lock file.
pub const LOCK_FILE: &str = "LOCK";
/// Name of the index's directory.
pub const INDEX_DIRECTORY: &str = "index";
/// Bodies up to this many bytes may be kept in memory and in one record, whatever is asked for.
const LARGE_BODY_LIMIT: usize = 4 << 20;
/// How often a reader looks for the new place of a message that was moved.
const PLACES: u32 = 16;

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

impl Store {
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
