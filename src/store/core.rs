//! What the store's threads and handles share: the lanes' queues and shards, what is held for all of them, and the end.
//!
//! A transaction's way begins here ([`Core::submit`]): bodies in the large lane are made durable first, then the home
//! lane's committer gets it. [`Home::view`] is the way of every reader: it shows everything that was answered before.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use super::commit::{Done, Transaction};
use super::compaction::CompactCounters;
use super::export::Exports;
use super::format::Format;
use super::gather::Arrivals;
use super::housekeeper::Housekeeper;
use super::id::Lane;
use super::index::redb::IndexCounters;
use super::index::slot::Slot;
use super::index::{IndexView, slot};
use super::lane::{LaneSetting, LogCounters, SpareRoom, Tail};
use super::large::{LargeJob, LargeLane};
use super::maintenance::Maintenance;
use super::model::Change;
use super::opening::spawn;
use super::options::OpenOptions;
use super::queue::JobQueue;
use super::recovery::RecoveryReport;
use super::scrub::ScrubCounters;
use super::segment::Segment;
use super::shelf::Shelf;
use super::shown::Shown;
use super::space::{SpaceGauge, SpaceLevel};
use super::state::{Conditions, Scrubbed};
use super::ticket::Ticket;
use super::{body, commit, compaction};
use crate::error::{Error, Kind, Result};
use crate::sync::Mutex;
use crate::time::Clock;
use crate::vfs::{Fs, Lock};

/// How long a reader waits for a shard that is being repaired.
pub(super) const READER_PATIENCE: Duration = Duration::from_secs(5);

/// How often it looks.
pub(super) const READER_SLICE: Duration = Duration::from_millis(100);

/// Numbers of messages in an epoch, half of which may be gone before the next one is reserved.
pub(super) const EPOCH_MESSAGES: u64 = 1 << 32;

/// What the store's threads and handles share.
pub struct Core {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) dir: PathBuf,
    pub(super) options: OpenOptions,
    pub(super) format: Mutex<Format>,
    pub(super) uuid: [u8; 16],
    pub(super) homes: Vec<Home>,
    pub(super) large: Arc<LargeLane>,
    pub(super) settings: Vec<Arc<LaneSetting>>,
    pub(super) rooms: Vec<Arc<SpareRoom>>,
    pub(super) housekeeper: Housekeeper,
    pub(super) exports: Exports,
    pub(super) counters: Arc<LogCounters>,
    pub(super) index_counters: Arc<IndexCounters>,
    pub(super) shelf: Shelf,
    /// Held by the one who compacts.
    pub(super) compacting: Mutex<compaction::Kept>,
    pub(super) compact_counters: CompactCounters,
    pub(super) scrub_counters: ScrubCounters,
    /// The last scrub that came to its end.
    pub(super) scrubbed: Mutex<Option<Scrubbed>>,
    pub(super) maintenance: Maintenance,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) conditions: Conditions,
    pub(super) space: Arc<SpaceGauge>,
    pub(super) closing: AtomicBool,
    /// Held while the store is being closed.
    pub(super) ending: Mutex<()>,
    pub(super) threads: Mutex<Threads>,
    /// The threads above, which cannot wait for themselves.
    pub(super) own: Mutex<Vec<ThreadId>>,
    pub(super) lock: Mutex<Option<Box<dyn Lock>>>,
    pub(super) report: RecoveryReport,
}

#[derive(Default)]
pub(super) struct Threads {
    pub(super) large: Option<JoinHandle<()>>,
    pub(super) homes: Vec<JoinHandle<()>>,
    pub(super) housekeeper: Option<JoinHandle<()>>,
    pub(super) maintenance: Option<JoinHandle<()>>,
    pub(super) exports: Option<JoinHandle<()>>,
}

/// An ordinary lane with its shard of the index, as its committer and its readers share it.
pub(super) struct Home {
    pub(super) jobs: JobQueue<Transaction>,
    pub(super) index: Slot,
    /// How far the index shows what was answered.
    pub(super) shown: Shown,
    /// Messages whose bytes are coming in.
    pub(super) arrivals: Arrivals,
    /// Epoch and counter of the next message id, the epoch in the upper half.
    pub(super) next_id: AtomicU64,
    /// Where the log ends, as far as it is durable and applied.
    pub(super) tail: Mutex<Tail>,
    /// LSN up to which a verified export of the shard is durable; 0: none.
    pub(super) exported: AtomicU64,
}

impl Home {
    /// A snapshot of the index that shows everything answered so far. Not for the committer's thread.
    ///
    /// # Errors
    /// `Rebuilding` when the shard is being repaired and that takes longer than a reader waits; what stands in the
    /// way when it cannot be repaired.
    pub(super) fn view(&self) -> Result<Box<dyn IndexView>> {
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

pub(super) fn stopped() -> Error {
    Error::new(Kind::Stopped, "the store is closed")
}

pub(super) fn damaged_row(what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("index: a {what} row is damaged"))
}

impl Core {
    pub(super) fn home(&self, lane: Lane) -> Option<&Home> {
        self.homes.get(usize::from(lane.0))
    }

    pub(super) fn lanes(&self) -> usize {
        self.homes.len()
    }

    pub(super) fn large_lane(&self) -> Lane {
        Lane(u8::try_from(self.homes.len()).unwrap_or(u8::MAX))
    }

    pub(super) fn home_or_refuse(&self, lane: Lane) -> Result<&Home> {
        self.home(lane).ok_or_else(|| {
            Error::new(Kind::InvalidArgument, format!("there is no lane {}", lane.0))
        })
    }

    /// Hands a transaction to a committer; answered with `Stopped` after the end.
    pub(super) fn push(&self, lane: Lane, transaction: Transaction) -> Result<()> {
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
    pub(super) fn submit(self: &Arc<Self>, lane: Lane, changes: Vec<Change>, done: Done) {
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
    pub(super) fn damaged(&self, finding: &str) {
        if self.conditions.damaged(finding) {
            self.housekeeper.look();
        }
    }

    /// Waits until every lane has done what was handed to it before.
    pub(super) fn pass_all_lanes(&self) -> Result<()> {
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
    pub(super) fn segment(&self, lane: Lane, number: u64) -> Result<Option<Arc<Segment>>> {
        self.shelf.segment(lane.0, number)
    }

    pub(super) fn make_spare(&self, lane: usize, bytes: u64) -> Result<()> {
        match (self.settings.get(lane), self.rooms.get(lane)) {
            (Some(setting), Some(room)) if !room.is_full() => {
                setting.make_spare(room, bytes, &mut || self.housekeeper.pause())
            }
            _ => Ok(()),
        }
    }

    /// Makes the next epoch ours when message numbers of this one run low.
    pub(super) fn reserve_epoch(&self) {
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
    pub(super) fn close(self: &Arc<Self>) -> Result<()> {
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
    pub(super) fn end(&self) -> Result<()> {
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

/// When a committer ends, by order or by a defect, nobody waits for it any more.
pub(super) struct Abandon<'a, T>(pub(super) &'a JobQueue<T>);

impl<T> Drop for Abandon<'_, T> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Nor does a reader wait for what a committer that is gone has promised. One that ended by a defect
/// may not have shown it: the index says so.
pub(super) struct Released<'a>(pub(super) &'a Home);

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
