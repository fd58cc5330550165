//! The shelf: segments that are open for reading, who holds them, and which are gone.
//!
//! Whoever reads a segment has its `Arc`, and a held `Arc` is a pin: the segment's file is neither removed nor
//! used again while it lives. [`Shelf::take_away`] marks a segment as gone under the lock that gives `Arc`s out,
//! and only when nobody has one; from then on nobody gets one. A reader that is told so looks the message's place up
//! again in a fresh view of the index: a message that something refers to has a new place by then.
//!
//! The number of open files is bounded: what was used longest ago is closed when nobody holds it. A segment that
//! somebody holds is remembered all the same, so a pin is never lost sight of. A [`Hold`] forbids taking away
//! anything, for instance while a backup copies the files.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use super::segment::Segment;
use crate::error::Result;
use crate::sync::Mutex;
use crate::vfs::Fs;

/// Segments that are kept open though nobody reads them.
const OPEN: usize = 256;

/// A lane and a number.
type Key = (u8, u64);

/// The segments of a store that are open for reading.
pub struct Shelf {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    uuid: [u8; 16],
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    open: HashMap<Key, Slot>,
    gone: HashSet<Key>,
    /// Who forbids taking away.
    holds: Vec<Arc<str>>,
    /// Counts uses, to know which was longest ago.
    clock: u64,
}

struct Slot {
    /// What keeps it open; `None` when only those who hold it do.
    kept: Option<Arc<Segment>>,
    held: Weak<Segment>,
    used: u64,
}

/// While it lives no segment of the store is removed or used again.
pub struct Hold {
    state: Arc<Mutex<State>>,
    name: Arc<str>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let Some(at) = state.holds.iter().position(|name| Arc::ptr_eq(name, &self.name)) {
            state.holds.swap_remove(at);
        }
    }
}

impl State {
    fn get(&mut self, key: Key) -> Option<Arc<Segment>> {
        self.clock = self.clock.saturating_add(1);
        let now = self.clock;
        let slot = self.open.get_mut(&key)?;
        let segment = slot.held.upgrade()?;
        slot.used = now;
        slot.kept = Some(segment.clone());
        Some(segment)
    }

    /// Closes what was used longest ago until there is room for one more.
    fn make_room(&mut self) {
        while self.open.values().filter(|slot| slot.kept.is_some()).count() >= OPEN {
            let oldest = self.open.values_mut().filter(|s| s.kept.is_some()).min_by_key(|s| s.used);
            if let Some(slot) = oldest {
                slot.kept = None;
            }
        }
        self.open.retain(|_, slot| slot.held.strong_count() > 0);
    }
}

impl Shelf {
    /// The shelf of a store's segments.
    pub fn new(fs: Arc<dyn Fs>, dir: PathBuf, uuid: [u8; 16]) -> Shelf {
        Shelf { fs, dir, uuid, state: Arc::default() }
    }

    /// A segment, held as long as the `Arc` lives; `None` when it is gone.
    ///
    /// # Errors
    /// `Corrupt` when its header is damaged, or what the system reports.
    pub fn segment(&self, lane: u8, number: u64) -> Result<Option<Arc<Segment>>> {
        let key = (lane, number);
        {
            let mut state = self.state.lock();
            if state.gone.contains(&key) {
                return Ok(None);
            }
            if let Some(segment) = state.get(key) {
                return Ok(Some(segment));
            }
        }
        let opened = Segment::open(self.fs.as_ref(), &self.dir, &self.uuid, lane, number);
        let mut state = self.state.lock();
        // It may have been taken away, and its file may be another segment by now.
        if state.gone.contains(&key) {
            return Ok(None);
        }
        if let Some(segment) = state.get(key) {
            return Ok(Some(segment));
        }
        let segment = Arc::new(opened?);
        state.make_room();
        let (held, used) = (Arc::downgrade(&segment), state.clock);
        state.open.insert(key, Slot { kept: Some(segment.clone()), held, used });
        Ok(Some(segment))
    }

    /// Marks a segment as gone. `false`, and nothing is changed, while somebody holds it or a [`Hold`] lives.
    pub fn take_away(&self, lane: u8, number: u64) -> bool {
        let key = (lane, number);
        let mut state = self.state.lock();
        if !state.holds.is_empty() {
            return false;
        }
        if let Some(slot) = state.open.get_mut(&key) {
            slot.kept = None;
            if slot.held.strong_count() > 0 {
                return false;
            }
        }
        state.open.remove(&key);
        state.gone.insert(key);
        true
    }

    /// Takes `take_away` back: the segment's file is still there.
    pub fn put_back(&self, lane: u8, number: u64) {
        self.state.lock().gone.remove(&(lane, number));
    }

    /// Forbids taking away until what is returned is dropped.
    pub fn hold(&self, name: &str) -> Hold {
        let name: Arc<str> = name.into();
        self.state.lock().holds.push(name.clone());
        Hold { state: self.state.clone(), name }
    }

    /// The names of those who forbid taking away.
    pub fn holders(&self) -> Vec<String> {
        self.state.lock().holds.iter().map(|name| name.to_string()).collect()
    }

    /// Closes everything that nobody holds.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        for slot in state.open.values_mut() {
            slot.kept = None;
        }
        state.open.retain(|_, slot| slot.held.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::segment::{self, SegmentHeader};
    use crate::vfs::Open;
    use crate::vfs::sim::Disk;

    fn shelf(count: u64) -> Shelf {
        let fs = Disk::new();
        let dir = PathBuf::from("/s");
        fs.create_dir_all(&dir.join(segment::DIRECTORY)).unwrap();
        for number in 1..=count {
            let header = SegmentHeader {
                uuid: [1; 16],
                lane: 0,
                number,
                first_lsn: 1,
                epoch: 1,
                salt: 5,
                previous: number - 1,
                previous_end: 4096,
                previous_lsn: 0,
                capacity: 4096,
            };
            let file = fs.open(&segment::path(&dir, 0, number), Open::Create).unwrap();
            file.write_at(&header.encode(), 0).unwrap();
        }
        Shelf::new(Arc::new(fs), dir, [1; 16])
    }

    #[test]
    fn what_somebody_holds_is_not_taken_away_and_what_was_taken_away_is_not_given_out() {
        let shelf = shelf(1);
        let reader = shelf.segment(0, 1).unwrap().unwrap();
        assert!(!shelf.take_away(0, 1));
        // A refused attempt changes nothing.
        assert!(Arc::ptr_eq(&reader, &shelf.segment(0, 1).unwrap().unwrap()));
        drop(reader);
        assert!(shelf.take_away(0, 1));
        assert!(shelf.segment(0, 1).unwrap().is_none());
        shelf.put_back(0, 1);
        assert!(shelf.segment(0, 1).unwrap().is_some());
    }

    #[test]
    fn a_hold_forbids_everything_until_it_is_dropped() {
        let shelf = shelf(1);
        let (first, second) = (shelf.hold("backup"), shelf.hold("backup"));
        drop(first);
        assert!(!shelf.take_away(0, 1));
        assert_eq!(shelf.holders(), vec!["backup".to_owned()]);
        drop(second);
        assert!(shelf.take_away(0, 1));
    }

    #[test]
    fn a_pin_is_known_after_its_segment_was_put_out_of_the_cache() {
        let count = OPEN as u64 + 20;
        let shelf = shelf(count);
        let reader = shelf.segment(0, 1).unwrap().unwrap();
        for number in 2..=count {
            shelf.segment(0, number).unwrap().unwrap();
        }
        {
            let state = shelf.state.lock();
            assert!(state.open.values().filter(|slot| slot.kept.is_some()).count() <= OPEN);
            assert!(state.open.len() <= OPEN + 1);
            assert!(state.open[&(0, 1)].kept.is_none());
        }
        assert!(!shelf.take_away(0, 1));
        drop(reader);
        assert!(shelf.take_away(0, 1));
        assert!(shelf.take_away(0, 2));
    }
}
