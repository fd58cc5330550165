//! What a store cannot do at the moment, and who is told.
//!
//! A lane that cannot write is **read-only**: transactions are refused with the cause, reads go on. Not before
//! `retry_millis` after a failure it is tried again, with the next transaction or by the housekeeper's probe; the
//! first success makes it writable. Only a lane's own committer changes the lane's condition.
//!
//! Changes are collected and told by the housekeeper's thread, one after the other, under no lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Lane;
use super::space::SpaceLevel;
use crate::error::{Error, Kind};
use crate::sync::Mutex;
use crate::time::{Clock, Time};

/// What the index of a lane does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// It serves.
    Fine,
    /// It is being opened again or made anew from the log; readers wait or are told to come again.
    Rebuilding,
}

/// The condition of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneState {
    /// The lane; the last one holds the bytes of large messages and has no index.
    pub lane: Lane,
    /// Why nothing can be written; `None`: the lane is writable.
    pub read_only: Option<ReadOnly>,
    /// Its index.
    pub index: IndexState,
}

/// Since when and why a lane is read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOnly {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub since: u64,
    /// The first error, in words.
    pub reason: String,
}

/// The condition of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreState {
    /// Every lane.
    pub lanes: Vec<LaneState>,
    /// The room on the disk.
    pub space: SpaceLevel,
    /// Bytes free when it was last looked at.
    pub free_bytes: u64,
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// Damage to acknowledged data that was met since the store was opened, by opening it, by scrubs, by repairs of the
    /// index, by exports: one line each, each line once, at most [`DAMAGE_LINES`].
    pub damage: Vec<String>,
    /// Findings beyond those.
    pub more_damage: u64,
    /// The last scrub that came to its end since the store was opened.
    pub scrubbed: Option<Scrubbed>,
    /// When the last export of an index was made, in milliseconds since 1970; 0: none since the store was opened.
    pub exported: u64,
}

/// What the log of a store takes on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Segments of all lanes.
    pub segments: u64,
    /// Bytes of their files, with what is allocated ahead.
    pub log_bytes: u64,
    /// Bytes of files that are kept ready for segments.
    pub spare_bytes: u64,
    /// Bytes of segments that messages need which somebody refers to; `None` while an index is being repaired.
    pub live_bytes: Option<u64>,
}

/// A scrub that came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// When, in milliseconds since 1970-01-01T00:00:00Z.
    pub ended: u64,
    /// What it found.
    pub findings: u64,
}

/// Most lines of damage that are kept and told.
pub const DAMAGE_LINES: usize = 1000;

/// Whether mail can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Every lane can be written, and none is repairing its index.
    pub writable: bool,
    /// There is room for messages.
    pub room: bool,
}

/// A change of a store's condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChange {
    /// A lane can write no more.
    ReadOnly {
        /// The lane.
        lane: Lane,
        /// Why, in words.
        reason: String,
    },
    /// A lane can write again.
    Writable {
        /// The lane.
        lane: Lane,
    },
    /// There is more or less room.
    Space(SpaceLevel),
    /// Acknowledged data was found to be damaged. The rest is served.
    Damage {
        /// What and where, in words.
        finding: String,
    },
    /// The index of a lane had failed and serves again: nothing is lost by that.
    IndexRepaired {
        /// The lane.
        lane: Lane,
        /// What had failed, in words.
        reason: String,
    },
}

/// Called for every change, on the housekeeper's thread, under no lock. Must be short and must not close the store.
pub type StateSink = Arc<dyn Fn(&StoreChange) + Send + Sync>;

/// The condition of a store, as its threads keep it.
pub struct Conditions {
    lanes: Vec<Condition>,
    /// Lanes that are read-only.
    failing: AtomicUsize,
    /// Lanes whose index is being repaired.
    rebuilding: AtomicUsize,
    clock: Arc<dyn Clock>,
    retry_millis: u64,
    telling: Mutex<Telling>,
    damage: Mutex<Damage>,
}

/// What is to be told, and to whom. Held over each change and its telling, so that a sink that comes meanwhile hears of
/// it once: among what is not well already, or as news.
#[derive(Default)]
struct Telling {
    untold: VecDeque<StoreChange>,
    sink: Option<StateSink>,
    space: SpaceLevel,
}

impl Telling {
    /// The room was measured. Tells it when it is news.
    fn space(&mut self, level: SpaceLevel) {
        if std::mem::replace(&mut self.space, level) == level {
            return;
        }
        match level {
            SpaceLevel::Ample => tracing::warn!("there is ample space again: mail is taken"),
            SpaceLevel::Low => tracing::warn!("space is low: mail is refused"),
            SpaceLevel::Full => tracing::error!("the disk is full: mail is refused"),
        }
        self.untold.push_back(StoreChange::Space(level));
    }
}

#[derive(Default)]
struct Damage {
    lines: Vec<String>,
    more: u64,
}

#[derive(Default)]
struct Condition {
    failing: Mutex<Option<Failing>>,
    rebuilding: AtomicBool,
}

struct Failing {
    since: u64,
    error: Error,
    again: Time,
}

impl Conditions {
    /// All is well with this many lanes.
    pub fn new(lanes: usize, clock: Arc<dyn Clock>, retry_millis: u64) -> Conditions {
        Conditions {
            lanes: (0..lanes).map(|_| Condition::default()).collect(),
            failing: AtomicUsize::new(0),
            rebuilding: AtomicUsize::new(0),
            clock,
            retry_millis,
            telling: Mutex::default(),
            damage: Mutex::default(),
        }
    }

    /// Damage was met. Tells it when it is news; whether it is.
    pub fn damaged(&self, finding: &str) -> bool {
        let mut telling = self.telling.lock();
        let mut damage = self.damage.lock();
        if damage.lines.iter().any(|line| line == finding) {
            return false;
        }
        if damage.lines.len() >= DAMAGE_LINES {
            // Whether it is news cannot be told any more, and nobody reads on here.
            damage.more = damage.more.saturating_add(1);
            return false;
        }
        damage.lines.push(finding.to_owned());
        telling.untold.push_back(StoreChange::Damage { finding: finding.to_owned() });
        true
    }

    /// The damage that was met, and how much there is beyond.
    pub fn damage(&self) -> (Vec<String>, u64) {
        let damage = self.damage.lock();
        (damage.lines.clone(), damage.more)
    }

    /// A lane's index serves again.
    pub fn repaired(&self, lane: Lane, reason: &Error) {
        let reason = reason.message().to_owned();
        self.telling.lock().untold.push_back(StoreChange::IndexRepaired { lane, reason });
    }

    /// Whether any lane is read-only.
    pub fn any_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire) > 0
    }

    /// Whether any lane's index is being repaired.
    pub fn any_rebuilding(&self) -> bool {
        self.rebuilding.load(Ordering::Acquire) > 0
    }

    /// Why a lane refuses, as long as it is not to try again.
    pub fn refusal(&self, lane: Lane) -> Option<Error> {
        if !self.any_failing() {
            return None;
        }
        let failing = self.lanes.get(usize::from(lane.0))?.failing.lock();
        let failing = failing.as_ref()?;
        let wait = self.clock.now() < failing.again;
        wait.then(|| read_only(lane, &failing.error))
    }

    /// Whether a lane is read-only.
    pub fn is_failing(&self, lane: Lane) -> bool {
        self.any_failing()
            && self.lanes.get(usize::from(lane.0)).is_some_and(|l| l.failing.lock().is_some())
    }

    /// A lane cannot write. Tells it when it is news.
    pub fn failed(&self, lane: Lane, error: &Error) {
        let Some(condition) = self.lanes.get(usize::from(lane.0)) else { return };
        let again = self.clock.now().after(self.retry_millis);
        let mut telling = self.telling.lock();
        {
            let mut failing = condition.failing.lock();
            if let Some(failing) = failing.as_mut() {
                failing.again = again;
                return;
            }
            let since = self.clock.unix_millis();
            *failing = Some(Failing { since, error: error.clone(), again });
        }
        self.failing.fetch_add(1, Ordering::AcqRel);
        tracing::error!("lane {} is read-only: {error}", lane.0);
        let reason = error.message().to_owned();
        telling.untold.push_back(StoreChange::ReadOnly { lane, reason });
    }

    /// A lane has written. Tells it when it is news; whether it was.
    pub fn healed(&self, lane: Lane) -> bool {
        if !self.any_failing() {
            return false;
        }
        let Some(condition) = self.lanes.get(usize::from(lane.0)) else { return false };
        let mut telling = self.telling.lock();
        if condition.failing.lock().take().is_none() {
            return false;
        }
        self.failing.fetch_sub(1, Ordering::AcqRel);
        tracing::warn!("lane {} is writable again", lane.0);
        telling.untold.push_back(StoreChange::Writable { lane });
        true
    }

    /// A lane's index is being made again, or serves.
    pub fn rebuilding(&self, lane: Lane, on: bool) {
        if let Some(condition) = self.lanes.get(usize::from(lane.0))
            && condition.rebuilding.swap(on, Ordering::AcqRel) != on
        {
            match on {
                true => self.rebuilding.fetch_add(1, Ordering::AcqRel),
                false => self.rebuilding.fetch_sub(1, Ordering::AcqRel),
            };
        }
    }

    /// The room was measured. Tells it when it is news.
    pub fn space(&self, level: SpaceLevel) {
        self.telling.lock().space(level);
    }

    /// Who is told from now on; at once of everything that is not well.
    pub fn tell_to(&self, sink: Option<StateSink>, space: SpaceLevel) {
        let mut telling = self.telling.lock();
        let news = sink.is_some();
        *telling = Telling { sink, ..Telling::default() };
        if !news {
            telling.space = space;
            return;
        }
        for state in self.lanes() {
            if let Some(ReadOnly { reason, .. }) = state.read_only {
                telling.untold.push_back(StoreChange::ReadOnly { lane: state.lane, reason });
            }
        }
        let damage = self.damage().0.into_iter().map(|finding| StoreChange::Damage { finding });
        telling.untold.extend(damage);
        telling.space(space);
    }

    /// Tells what has changed. On the housekeeper's thread.
    pub fn tell_all(&self) {
        loop {
            let (change, sink) = {
                let mut telling = self.telling.lock();
                let Some(change) = telling.untold.pop_front() else { return };
                (change, telling.sink.clone())
            };
            if let Some(sink) = sink {
                sink(&change);
            }
        }
    }

    /// Every lane.
    pub fn lanes(&self) -> Vec<LaneState> {
        let lanes = (0_u8..).map(Lane).zip(&self.lanes);
        lanes
            .map(|(lane, condition)| {
                let read_only = condition.failing.lock().as_ref().map(|failing| ReadOnly {
                    since: failing.since,
                    reason: failing.error.message().to_owned(),
                });
                let index = match condition.rebuilding.load(Ordering::Acquire) {
                    true => IndexState::Rebuilding,
                    false => IndexState::Fine,
                };
                LaneState { lane, read_only, index }
            })
            .collect()
    }
}

/// What a transaction of a read-only lane is answered with.
fn read_only(lane: Lane, error: &Error) -> Error {
    Error::new(Kind::ReadOnly, format!("lane {} is read-only: {error}", lane.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SystemClock;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_sink_that_comes_while_something_changes_hears_of_it_once() {
        for round in 0..3_000 {
            let conditions = Arc::new(Conditions::new(1, Arc::new(SystemClock::new()), 1));
            let other = conditions.clone();
            let changing = std::thread::spawn(move || {
                other.space(SpaceLevel::Low);
                other.failed(Lane(0), &Error::new(Kind::Io, "no"));
                other.damaged("here");
                other.tell_all();
            });
            let heard = Arc::new(Mutex::new(Vec::new()));
            let sink = heard.clone();
            conditions.tell_to(
                Some(Arc::new(move |change: &StoreChange| sink.lock().push(change.clone()))),
                SpaceLevel::Low,
            );
            changing.join().unwrap();
            conditions.tell_all();
            let heard = heard.lock();
            assert_eq!(heard.len(), 3, "round {round}: {heard:?}");
            assert!(heard.contains(&StoreChange::Space(SpaceLevel::Low)), "round {round}");
        }
    }
}
