//! How far a lane's index shows what was answered.
//!
//! A committer answers as soon as a group is on disk and applies it to the index afterwards. A reader
//! that was answered, or heard from one who was, must find what was answered. So the committer first
//! promises (before it answers), then applies, then keeps; a reader waits until everything promised before
//! it began is kept. A committer may put applying off for some groups; a reader that has to wait nudges it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sync::{Condvar, Mutex};

/// Promised and kept, as LSNs.
#[derive(Debug, Default)]
pub struct Shown {
    promised: AtomicU64,
    kept: AtomicU64,
    waiting: Mutex<u32>,
    moved: Condvar,
}

impl Shown {
    /// Everything up to this record is going to be shown.
    pub fn promise(&self, lsn: u64) {
        self.promised.fetch_max(lsn, Ordering::AcqRel);
    }

    /// Everything up to this record is shown.
    pub fn keep(&self, lsn: u64) {
        self.kept.fetch_max(lsn, Ordering::AcqRel);
        // Under the lock: a reader that saw the old figure is counted already, or sees the new one.
        if *self.waiting.lock() > 0 {
            self.moved.notify_all();
        }
    }

    /// Whether what was `promised` is kept.
    pub fn is_kept_to(&self, promised: u64) -> bool {
        self.kept.load(Ordering::Acquire) >= promised
    }

    /// What is promised now.
    pub fn promised(&self) -> u64 {
        self.promised.load(Ordering::Acquire)
    }

    /// Waits until what was `promised` is kept, at most so long; whether it is. Not for the committer's own
    /// thread.
    pub fn wait(&self, promised: u64, most: Duration) -> bool {
        if self.kept.load(Ordering::Acquire) >= promised {
            return true;
        }
        let mut waiting = self.waiting.lock();
        *waiting = waiting.saturating_add(1);
        let mut timed_out = false;
        while self.kept.load(Ordering::Acquire) < promised && !timed_out {
            timed_out = self.moved.wait_for(&mut waiting, most).timed_out();
        }
        *waiting = waiting.saturating_sub(1);
        self.kept.load(Ordering::Acquire) >= promised
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_reader_waits_for_what_was_promised_and_for_no_more() {
        let shown = Arc::new(Shown::default());
        const LONG: Duration = Duration::from_secs(60);
        assert!(shown.wait(shown.promised(), LONG));
        shown.promise(5);
        assert!(!shown.wait(5, Duration::from_millis(1)));
        let reader = {
            let shown = Arc::clone(&shown);
            std::thread::spawn(move || {
                assert!(shown.wait(shown.promised(), LONG));
                shown.kept.load(Ordering::Acquire)
            })
        };
        // It waits for 5 only if it began before 9 was promised.
        while *shown.waiting.lock() == 0 {
            std::thread::yield_now();
        }
        shown.keep(4);
        shown.promise(9);
        shown.keep(7);
        assert!(reader.join().unwrap() >= 5);
        shown.keep(9);
        assert!(shown.wait(9, LONG));
    }
}
