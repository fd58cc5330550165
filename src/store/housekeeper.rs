//! The housekeeper: one thread for what must not delay a group.
//!
//! It makes durable checkpoints of the index, `checkpoint_millis` apart while there is work, or earlier
//! after `checkpoint_bytes` of log; it keeps a spare segment ready for each lane; and it reserves the
//! next epoch before a lane runs out of message numbers in this one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Core;
use crate::sync::{Condvar, Mutex};

/// Between two slices of a segment that is written in advance.
const PAUSE: Duration = Duration::from_millis(4);

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
    closing: bool,
}

impl Housekeeper {
    /// A housekeeper of this many lanes, the large one included.
    pub fn new(lanes: usize, bytes_limit: u64) -> Housekeeper {
        let spares = vec![None; lanes];
        Housekeeper {
            wanted: Mutex::new(Wanted { spares, checkpoint: false, closing: false }),
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

    /// Between two slices of work that must not disturb; `false` when the thread is to end.
    pub fn pause(&self) -> bool {
        let mut wanted = self.wanted.lock();
        if !wanted.closing {
            self.ready.wait_for(&mut wanted, PAUSE);
        }
        !wanted.closing
    }

    /// Ends the thread.
    pub fn close(&self) {
        self.wanted.lock().closing = true;
        self.ready.notify_all();
    }
}

/// The housekeeper's loop; returns after `close`.
pub fn run(core: &Core, checkpoint_millis: u64) {
    let housekeeper = &core.housekeeper;
    loop {
        let spare = {
            let mut wanted = housekeeper.wanted.lock();
            if wanted.closing {
                return;
            }
            let spare = wanted
                .spares
                .iter()
                .enumerate()
                .find_map(|(lane, spare)| spare.map(|bytes| (lane, bytes)));
            if spare.is_none() && !wanted.checkpoint {
                let pause = Duration::from_millis(checkpoint_millis.max(1));
                let waited = housekeeper.ready.wait_for(&mut wanted, pause);
                if wanted.closing {
                    return;
                }
                if !waited.timed_out() && !wanted.checkpoint {
                    continue;
                }
            }
            // A spare comes first; the checkpoint stays wanted.
            if spare.is_none() {
                wanted.checkpoint = false;
            }
            spare
        };
        match spare {
            Some((lane, bytes)) => {
                if let Err(e) = core.make_spare(lane, bytes) {
                    // The lane makes its segment itself when it needs one, and reports what stands in the way.
                    tracing::warn!("no spare segment for lane {lane}: {e}");
                }
                if let Some(spare) = housekeeper.wanted.lock().spares.get_mut(lane) {
                    *spare = None;
                }
            }
            None => {
                checkpoint(core);
                core.reserve_epoch();
            }
        }
    }
}

/// Makes the changed shards durable.
pub fn checkpoint(core: &Core) {
    core.housekeeper.bytes.store(0, Ordering::Relaxed);
    for (home, dirty) in core.homes.iter().zip(&core.housekeeper.dirty) {
        if dirty.swap(false, Ordering::AcqRel)
            && let Err(e) = home.index.checkpoint()
        {
            tracing::error!("no checkpoint: {e}");
        }
    }
}
