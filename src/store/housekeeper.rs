//! The housekeeper: one thread for what must not delay a group.
//!
//! It makes durable checkpoints of the index, `checkpoint_millis` apart while there is work, or earlier
//! after `checkpoint_bytes` of log; it keeps a spare segment ready for each lane; and it reserves the
//! next epoch before a lane runs out of message numbers in this one. Every `retry_millis` (and after each new
//! segment) it measures the room on the disk, calls lanes that are read-only to try again, and lanes whose shard
//! has failed to repair it. It tells the host what has changed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Core;
use super::index::slot;
use crate::sync::{Condvar, Mutex};

/// What the housekeeper is asked for.
pub struct Housekeeper {
    wanted: Mutex<Wanted>,
    ready: Condvar,
    /// Shards that changed since their last checkpoint.
    dirty: Vec<AtomicBool>,
    /// Log bytes since the last checkpoint.
    bytes: AtomicU64,
    bytes_limit: u64,
}

struct Wanted {
    spares: Vec<Option<u64>>,
    checkpoint: bool,
    /// The disk or a lane is to be looked at.
    look: bool,
    closing: bool,
}

impl Housekeeper {
    /// A housekeeper of this many lanes, the large one included.
    pub fn new(lanes: usize, bytes_limit: u64) -> Housekeeper {
        let spares = vec![None; lanes];
        Housekeeper {
            wanted: Mutex::new(Wanted { spares, checkpoint: false, look: true, closing: false }),
            ready: Condvar::new(),
            dirty: (0..lanes).map(|_| AtomicBool::new(false)).collect(),
            bytes: AtomicU64::new(0),
            bytes_limit,
        }
    }

    /// A lane's shard changed by a group of this many log bytes.
    pub fn wrote(&self, lane: usize, bytes: u64) {
        if let Some(dirty) = self.dirty.get(lane) {
            dirty.store(true, Ordering::Release);
        }
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before < self.bytes_limit && before.saturating_add(bytes) >= self.bytes_limit {
            self.wanted.lock().checkpoint = true;
            self.ready.notify_one();
        }
    }

    /// A lane wants a spare segment, or does not.
    pub fn look_at(&self, lane: usize, wants: Option<u64>) {
        if wants.is_none() {
            return;
        }
        let mut wanted = self.wanted.lock();
        if let Some(spare) = wanted.spares.get_mut(lane)
            && spare.is_none()
        {
            *spare = wants;
            drop(wanted);
            self.ready.notify_one();
        }
    }

    /// Something has changed that is to be looked at, or told.
    pub fn look(&self) {
        self.wanted.lock().look = true;
        self.ready.notify_one();
    }

    /// Ends the thread.
    pub fn close(&self) {
        self.wanted.lock().closing = true;
        self.ready.notify_all();
    }
}

/// What is to be done next.
enum Task {
    Spare(usize, u64),
    Look,
    Checkpoint,
}

/// The housekeeper's loop; returns after `close`.
pub fn run(core: &Core) {
    let housekeeper = &core.housekeeper;
    let pause = core.options.checkpoint_millis.min(core.options.retry_millis).max(1);
    // Milliseconds since the last of each, as far as was waited.
    let (mut unchecked, mut unlooked) = (0_u64, 0_u64);
    loop {
        let task = {
            let mut wanted = housekeeper.wanted.lock();
            loop {
                if wanted.closing {
                    return;
                }
                if wanted.look || unlooked >= core.options.retry_millis.max(1) {
                    wanted.look = false;
                    unlooked = 0;
                    break Task::Look;
                }
                let mut spares = wanted.spares.iter().enumerate();
                if let Some((lane, bytes)) =
                    spares.find_map(|(lane, spare)| spare.map(|bytes| (lane, bytes)))
                {
                    break Task::Spare(lane, bytes);
                }
                if wanted.checkpoint || unchecked >= core.options.checkpoint_millis.max(1) {
                    wanted.checkpoint = false;
                    unchecked = 0;
                    break Task::Checkpoint;
                }
                let before = core.clock.now();
                let most = Duration::from_millis(pause);
                let waited = if housekeeper.ready.wait_for(&mut wanted, most).timed_out() {
                    pause
                } else {
                    core.clock.now().since(before)
                };
                unchecked = unchecked.saturating_add(waited);
                unlooked = unlooked.saturating_add(waited);
            }
        };
        match task {
            Task::Look => look(core),
            Task::Spare(lane, bytes) => {
                if let Err(e) = core.make_spare(lane, bytes) {
                    // The lane makes its segment itself when it needs one, and reports what stands in the way.
                    tracing::warn!("no spare segment for lane {lane}: {e}");
                }
                if let Some(spare) = housekeeper.wanted.lock().spares.get_mut(lane) {
                    *spare = None;
                }
            }
            Task::Checkpoint => {
                checkpoint(core);
                core.reserve_epoch();
            }
        }
        core.conditions.tell_all();
    }
}

/// Looks at the disk and at the lanes.
fn look(core: &Core) {
    let _ = core.space.is_stale();
    core.conditions.space(core.space.measure());
    for state in core.conditions.lanes() {
        let home = core.home(state.lane);
        let broken = home.is_some_and(|home| !home.index.is_usable());
        if state.read_only.is_none() && !broken {
            continue;
        }
        match home {
            Some(home) => home.jobs.call(),
            None => core.large.jobs.call(),
        }
    }
}

/// Makes the changed shards durable. A shard that fails is repaired by its lane's committer.
pub fn checkpoint(core: &Core) {
    core.housekeeper.bytes.store(0, Ordering::Relaxed);
    for (home, dirty) in core.homes.iter().zip(&core.housekeeper.dirty) {
        if !dirty.swap(false, Ordering::AcqRel) {
            continue;
        }
        let slot::Shown::Shard(shard) = home.index.get() else { continue };
        if let Err(e) = shard.checkpoint() {
            tracing::error!("no checkpoint: {e}");
            if e.kind() == crate::Kind::DiskFull {
                core.space.relieve();
            }
            home.jobs.call();
        }
    }
}
