//! How long a committer waits for company.
//!
//! A sync costs the same for one transaction and for fifty. Under load senders come back soon after
//! their answer, but rarely all within the time of the next sync, so a committer that always goes at
//! once makes many small groups, and the machine spends itself on syncs. This decides, from what the
//! last groups showed, how many transactions to expect and how long to wait for them.
//!
//! - *Expected*: those answered with the last group, who will come back if they are in a loop, and those
//!   that came while it was synced, who are others. A lone sender is expected alone and never waits.
//! - *Patience*: a wait that brought at least half of those who were missing makes the next one longer,
//!   up to a limit; any other halves it. When it has come down to nothing, waiting is tried again after some
//!   groups. So senders that think between their messages are not held up for those that do not come.

use std::time::Duration;

/// Longest wait. A client's round trip over a network takes longer.
const MOST: Duration = Duration::from_micros(2000);
/// A wait below this is not worth two context switches.
const LEAST: Duration = Duration::from_micros(50);
/// Groups without waiting before it is tried again.
const RESTING_GROUPS: u32 = 32;

/// What a committer knows of its senders.
#[derive(Debug)]
pub struct Gathering {
    answered: usize,
    patience: Duration,
    resting: u32,
}

impl Default for Gathering {
    fn default() -> Self {
        Gathering { answered: 0, patience: LEAST * 4, resting: 0 }
    }
}

impl Gathering {
    /// A group of so many transactions was answered.
    pub fn answered(&mut self, transactions: usize) {
        self.answered = transactions;
    }

    /// With so many transactions there: how many to wait for, and how long.
    pub fn wish(&mut self, there: usize) -> Option<(usize, Duration)> {
        let expected = self.answered.saturating_add(there);
        if self.answered == 0 || expected < 3 {
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
        Some((expected, self.patience))
    }

    /// A wait for `expected` began with `before` transactions and ended with `after`.
    pub fn waited(&mut self, before: usize, expected: usize, after: usize) {
        let missing = expected.saturating_sub(before);
        let came = after.saturating_sub(before);
        if came.saturating_mul(2) >= missing {
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
    fn a_lone_sender_never_waits() {
        let mut gathering = Gathering::default();
        for _ in 0..1000 {
            assert_eq!(gathering.wish(1), None);
            gathering.answered(1);
        }
    }

    #[test]
    fn senders_in_a_loop_end_up_in_one_group() {
        let mut gathering = Gathering::default();
        let mut group = 4;
        for _ in 0..10 {
            gathering.answered(group);
            // Four others came meanwhile, of sixteen in all; the first four come back while we wait.
            let there = 4.min(16 - group);
            let Some((expected, _)) = gathering.wish(there.max(1)) else { panic!("no wish") };
            let after = expected.min(16);
            gathering.waited(there.max(1), expected, after);
            group = after;
        }
        assert_eq!(group, 16);
        assert_eq!(gathering.patience, MOST);
    }

    #[test]
    fn waiting_in_vain_ends_soon_and_is_tried_again_seldom() {
        let mut gathering = Gathering::default();
        let mut waits = 0;
        for _ in 0..RESTING_GROUPS * 10 {
            gathering.answered(2);
            if let Some((expected, patience)) = gathering.wish(1) {
                assert!(patience <= LEAST * 4);
                gathering.waited(1, expected, 1);
                waits += 1;
            }
        }
        assert!((3..=15).contains(&waits), "{waits}");
    }
}
