//! Maintenance: one thread for work that takes long and can wait, at a limited rate.
//!
//! It scrubs a step at a time when a scrub is due and mail leaves time for it. It compacts when a lane has left a segment since it last looked, and now and then without a reason. The
//! housekeeper, which must be quick, does none of this. What runs here pauses between its steps so that it stays below
//! its rate, and ends within a step when the store closes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Core;
use super::compaction::{self, Pace, Plan};
use super::scrub::Run;
use crate::error::Kind;
use crate::sync::{Condvar, Mutex};
use crate::time::{Clock, Time};

/// How often the thread looks whether there is something to do.
const LOOK_MILLIS: u64 = 500;
/// Compaction looks at all lanes at least this often.
const COMPACT_MILLIS: u64 = 60_000;
/// The first scrub begins so long after the opening.
const SCRUB_DELAY_MILLIS: u64 = 60_000;
/// More transactions than this between two looks: there is something better to do than to scrub.
const BUSY_TRANSACTIONS: u64 = 100;
/// But not more often in a row than this.
const MOST_PUT_OFF: u32 = 10;
/// A pause is made when it has become this long.
const PAUSE_MILLIS: u64 = 10;
/// Longest pause at once; the clock is looked at again then.
const LONGEST_PAUSE_MILLIS: u64 = 200;
/// How much may be done at once after a time without work, as milliseconds of the rate.
const CREDIT_MILLIS: u64 = 100;

/// Whether the thread is to end.
#[derive(Default)]
pub struct Maintenance {
    closing: Mutex<bool>,
    moved: Condvar,
}

impl Maintenance {
    /// Ends the thread, and every pass that runs.
    pub fn close(&self) {
        *self.closing.lock() = true;
        self.moved.notify_all();
    }

    /// Sleeps; `false` when the store closes.
    fn pause(&self, millis: u64) -> bool {
        let mut closing = self.closing.lock();
        if !*closing {
            self.moved.wait_for(&mut closing, Duration::from_millis(millis));
        }
        !*closing
    }

    fn is_closing(&self) -> bool {
        *self.closing.lock()
    }

    /// A pace of so many bytes a second; 0: as fast as it goes.
    pub(super) fn pace<'a>(&'a self, core: &'a Core, bytes_per_second: u64) -> Throttle<'a> {
        Throttle {
            maintenance: self,
            clock: &core.clock,
            rate: bytes_per_second,
            free: None,
            due: core.clock.now(),
            owed: 0,
        }
    }
}

/// Keeps work below a rate.
pub(super) struct Throttle<'a> {
    maintenance: &'a Maintenance,
    clock: &'a Arc<dyn Clock>,
    rate: u64,
    /// Says now and then whether the rate does not count.
    free: Option<&'a dyn Fn() -> bool>,
    /// When what was spent so far is paid for.
    due: Time,
    /// Bytes that are not in `due` yet.
    owed: u64,
}

impl<'a> Throttle<'a> {
    /// The rate does not count while this says so.
    fn free_while(mut self, free: &'a dyn Fn() -> bool) -> Throttle<'a> {
        self.free = Some(free);
        self
    }
}

impl Pace for Throttle<'_> {
    fn spend(&mut self, bytes: u64) -> bool {
        if self.rate == 0 {
            return !self.maintenance.is_closing();
        }
        self.owed = self.owed.saturating_add(bytes);
        let millis = self.owed.saturating_mul(1000) / self.rate;
        if millis < PAUSE_MILLIS {
            return true;
        }
        self.owed = 0;
        if self.free.is_some_and(|free| free()) {
            self.due = self.clock.now();
            return !self.maintenance.is_closing();
        }
        let earliest = Time(self.clock.now().0.saturating_sub(CREDIT_MILLIS));
        self.due = self.due.max(earliest).after(millis);
        loop {
            let left = self.due.since(self.clock.now());
            if left == 0 {
                return !self.maintenance.is_closing();
            }
            if !self.maintenance.pause(left.min(LONGEST_PAUSE_MILLIS)) {
                return false;
            }
        }
    }
}

/// The thread's loop; returns after `close`.
pub fn run(core: &Core) {
    let maintenance = &core.maintenance;
    let mut scrubs = Scrubs::new(core);
    let mut left = left_behind(core);
    let mut looked = core.clock.now();
    while maintenance.pause(LOOK_MILLIS) {
        let now = core.clock.now();
        let behind = left_behind(core);
        if core.options.compact_bytes_per_second > 0
            && (behind != left || now.since(looked) >= COMPACT_MILLIS)
        {
            (left, looked) = (behind, now);
            compact(core);
        }
        scrubs.look(core);
    }
}

/// The scrub that the thread makes by itself.
struct Scrubs {
    run: Option<Run>,
    /// When the next one may begin.
    next: Time,
    /// Transactions at the last look.
    transactions: u64,
    /// Looks in a row at which there was too much to do.
    put_off: u32,
}

impl Scrubs {
    fn new(core: &Core) -> Scrubs {
        let next = core.clock.now().after(SCRUB_DELAY_MILLIS);
        Scrubs { run: None, next, transactions: 0, put_off: 0 }
    }

    /// Makes a step when there is one to make and mail leaves time for it.
    fn look(&mut self, core: &Core) {
        let rate = core.options.scrub_bytes_per_second;
        if rate == 0 {
            return;
        }
        let transactions = core.counters.transactions.load(Ordering::Relaxed);
        let busy = transactions.saturating_sub(self.transactions) > BUSY_TRANSACTIONS;
        self.transactions = transactions;
        if busy && self.put_off < MOST_PUT_OFF {
            self.put_off = self.put_off.saturating_add(1);
            return;
        }
        self.put_off = 0;
        let now = core.clock.now();
        if self.run.is_none() && now >= self.next {
            self.next = now.after(core.options.scrub_millis);
            match Run::new(core) {
                Ok(run) => self.run = Some(run),
                Err(e) => tracing::error!("scrub: {e}"),
            }
        }
        let Some(run) = &mut self.run else { return };
        let mut pace = core.maintenance.pace(core, rate);
        match run.step(core, &mut pace, &mut |_, _| {}) {
            Ok(true) => {}
            Ok(false) => {
                let report = &run.report;
                tracing::info!(
                    "scrub: {} segments and {} exports, {} counts corrected, {} findings",
                    report.segments,
                    report.exports,
                    report.corrected,
                    report.findings.len()
                );
                self.run = None;
            }
            Err(e) => {
                if e.kind() != Kind::Stopped {
                    tracing::error!("scrub: {e}");
                }
                self.run = None;
            }
        }
    }
}

/// The segment that each lane writes to.
fn left_behind(core: &Core) -> Vec<u64> {
    core.settings.iter().map(|setting| setting.active.load(Ordering::Acquire)).collect()
}

/// A pass of compaction as the thread makes it.
pub(super) fn compact(core: &Core) {
    let free = || compaction::nearly_full(core);
    let rate = core.options.compact_bytes_per_second;
    let mut pace = core.maintenance.pace(core, rate).free_while(&free);
    let below_percent = core.options.compact_below_percent;
    let mut plan = Plan { below_percent, thorough: false, pace: &mut pace };
    match compaction::pass(core, &mut plan) {
        Ok(_) => {}
        Err(e) if e.kind() == Kind::Stopped => {}
        Err(e) => tracing::error!("compaction: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    /// A clock that runs a hundred times faster than a machine's.
    struct Quick(crate::time::SystemClock);

    impl Clock for Quick {
        fn now(&self) -> Time {
            Time(self.0.now().0 * 100)
        }
        fn unix_millis(&self) -> u64 {
            0
        }
    }

    fn clock() -> Arc<dyn Clock> {
        Arc::new(Quick(crate::time::SystemClock::new()))
    }

    fn throttle<'a>(
        maintenance: &'a Maintenance,
        clock: &'a Arc<dyn Clock>,
        rate: u64,
    ) -> Throttle<'a> {
        Throttle { maintenance, clock, rate, free: None, due: clock.now(), owed: 0 }
    }

    #[test]
    fn work_stays_below_its_rate_whatever_its_pieces() {
        for piece in [1_000, 50_000, 3_000_000] {
            let (maintenance, clock) = (Maintenance::default(), clock());
            let mut pace = throttle(&maintenance, &clock, 1_000_000);
            let begin = clock.now();
            for _ in 0..6_000_000 / piece {
                assert!(pace.spend(piece));
            }
            // What is saved up, and what is not yet paid for, is little.
            let took = clock.now().since(begin);
            assert!(took >= 6_000 - CREDIT_MILLIS - PAUSE_MILLIS, "{piece}: {took}");
        }
    }

    #[test]
    fn a_rest_is_not_saved_up() {
        let (maintenance, clock) = (Maintenance::default(), clock());
        let mut pace = throttle(&maintenance, &clock, 1_000_000);
        while clock.now().since(pace.due) < 3_000 {
            assert!(maintenance.pause(1));
        }
        let begin = clock.now();
        assert!(pace.spend(2_000_000));
        assert!(clock.now().since(begin) >= 2_000 - CREDIT_MILLIS);
    }

    #[test]
    fn no_rate_counts_while_the_disk_is_nearly_full_and_a_close_ends_the_longest_pause() {
        let (maintenance, clock) = (Maintenance::default(), clock());
        let full = AtomicBool::new(true);
        let asked = AtomicU64::new(0);
        let free = || {
            asked.fetch_add(1, Ordering::Relaxed);
            full.load(Ordering::Relaxed)
        };
        let mut pace = throttle(&maintenance, &clock, 1).free_while(&free);
        // Centuries, at this rate.
        assert!((0..1000).all(|_| pace.spend(1 << 30)));
        assert_eq!(asked.load(Ordering::Relaxed), 1000);
        full.store(false, Ordering::Relaxed);
        maintenance.close();
        assert!(!pace.spend(1 << 30));
        full.store(true, Ordering::Relaxed);
        assert!(!pace.spend(1 << 30));
        pace.rate = 0;
        assert!(!pace.spend(1));
    }
}
