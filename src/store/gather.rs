//! How long a committer waits for company.
//!
//! A sync costs the same for one transaction and for fifty. Under load a committer that always goes at
//! once makes many small groups, and the machine spends itself on syncs while those who could have
//! shared one wait for the processor. So a committer waits a moment when it knows that others are on their
//! way: messages of its lane whose bytes are coming in ([`Coming`]).
//!
//! - With fewer than four transactions there and coming, nobody waits: a sync is then as quick as the wait.
//! - The wait ends as soon as everybody who was coming is there and nobody new is.
//! - *Patience* bounds it. A wait that brought at least a quarter of those expected makes the next one longer, up
//!   to a limit; any other halves it, and when it has come down to nothing, waiting is tried again after some
//!   groups. So a peer that stands still in the middle of its message does not hold up the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Longest wait for a group.
const MOST: Duration = Duration::from_micros(4000);
/// A wait below this is not worth two context switches.
const LEAST: Duration = Duration::from_micros(50);
/// The first wait.
const FIRST: Duration = Duration::from_micros(500);
/// A wait is taken in slices, after each of which the committer looks who is still coming.
const SLICE: Duration = Duration::from_micros(500);
/// Transactions, there and coming, for which waiting is worth it.
const WORTH: usize = 4;
/// As many are enough for a group: with more senders than these, the next group comes together while the sync of
/// this one runs, and waiting for everybody would leave the disk and the processors idle in turn.
const ENOUGH: usize = 48;
/// Groups without waiting before it is tried again.
const RESTING_GROUPS: u32 = 64;

/// Messages of a lane whose bytes are coming in. Cloning shares the count.
#[derive(Clone, Debug, Default)]
pub struct Arrivals(Arc<AtomicUsize>);

/// One message whose bytes are coming in; dropping it ends that.
#[derive(Debug)]
pub struct Coming(Arrivals);

impl Arrivals {
    /// A message begins to come in.
    pub fn begin(&self) -> Coming {
        self.0.fetch_add(1, Ordering::Relaxed);
        Coming(self.clone())
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a committer knows of its senders.
#[derive(Debug)]
pub struct Gathering {
    arrivals: Arrivals,
    /// Transactions of the last group.
    answered: usize,
    patience: Duration,
    resting: u32,
}

/// A wait for company.
#[derive(Debug)]
pub struct Wait {
    left: Duration,
    before: usize,
    expected: usize,
}

impl Gathering {
    /// For a lane with these arrivals.
    pub fn new(arrivals: Arrivals) -> Gathering {
        Gathering { arrivals, answered: 0, patience: FIRST, resting: 0 }
    }

    /// With so many transactions there: whether to wait at all.
    pub fn begin(&mut self, there: usize) -> Option<Wait> {
        let expected = self.expected(there);
        if expected <= there || expected.saturating_add(self.answered) < WORTH {
            return None;
        }
        if self.patience < LEAST {
            self.resting = self.resting.saturating_add(1);
            if self.resting < RESTING_GROUPS {
                return None;
            }
            self.resting = 0;
            self.patience = LEAST;
        }
        Some(Wait { left: self.patience, before: there, expected })
    }

    /// As many as are going to be there, as far as is known.
    fn expected(&self, there: usize) -> usize {
        there.saturating_add(self.arrivals.count()).max(self.answered).min(ENOUGH)
    }

    /// A group of so many transactions was answered.
    pub fn answered(&mut self, transactions: usize) {
        self.answered = transactions;
    }

    /// How many to wait for now, and how long; `None`: go.
    pub fn slice(&self, wait: &mut Wait, there: usize) -> Option<(usize, Duration)> {
        let expected = self.expected(there);
        if expected <= there || wait.left.is_zero() {
            return None;
        }
        let slice = wait.left.min(SLICE);
        wait.left -= slice;
        Some((expected, slice))
    }

    /// A slice ended early: what it did not take is still there to be waited.
    pub fn early(wait: &mut Wait, slice: Duration) {
        wait.left += slice / 2;
    }

    /// The wait is over with so many transactions.
    pub fn end(&mut self, wait: &Wait, there: usize) {
        let missing = wait.expected.saturating_sub(wait.before);
        let came = there.saturating_sub(wait.before);
        if came.saturating_mul(4) >= missing {
            self.patience = (self.patience * 2).clamp(LEAST, MOST);
        } else {
            self.patience /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_sender_never_waits_and_neither_do_few() {
        let arrivals = Arrivals::default();
        let mut gathering = Gathering::new(arrivals.clone());
        assert!(gathering.begin(100).is_none());
        let _two = (arrivals.begin(), arrivals.begin());
        assert!(gathering.begin(1).is_none());
        assert!(gathering.begin(2).is_some());
    }

    #[test]
    fn a_group_that_is_large_enough_goes_although_others_are_coming() {
        let mut gathering = Gathering::new(Arrivals::default());
        gathering.answered(ENOUGH * 4);
        assert!(gathering.begin(ENOUGH).is_none());
        let mut wait = gathering.begin(ENOUGH - 1).unwrap();
        assert_eq!(gathering.slice(&mut wait, ENOUGH - 1).unwrap().0, ENOUGH);
        assert!(gathering.slice(&mut wait, ENOUGH).is_none());
    }

    #[test]
    fn a_wait_ends_when_nobody_is_coming_any_more() {
        let arrivals = Arrivals::default();
        let mut gathering = Gathering::new(arrivals.clone());
        let coming: Vec<Coming> = (0..10).map(|_| arrivals.begin()).collect();
        let mut wait = gathering.begin(2).unwrap();
        assert_eq!(gathering.slice(&mut wait, 2).unwrap().0, 12);
        drop(coming);
        assert!(gathering.slice(&mut wait, 12).is_none());
        gathering.end(&wait, 12);
        assert_eq!(gathering.patience, FIRST * 2);
    }

    #[test]
    fn those_who_stand_still_are_soon_waited_for_no_more() {
        let arrivals = Arrivals::default();
        let mut gathering = Gathering::new(arrivals.clone());
        let _still: Vec<Coming> = (0..10).map(|_| arrivals.begin()).collect();
        let mut waited = Duration::ZERO;
        for _ in 0..RESTING_GROUPS * 10 {
            if let Some(mut wait) = gathering.begin(1) {
                while let Some((_, slice)) = gathering.slice(&mut wait, 1) {
                    waited += slice;
                }
                gathering.end(&wait, 1);
            }
        }
        assert!(waited < FIRST * 4, "{waited:?}");
    }
}
