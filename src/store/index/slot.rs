//! The shard that a lane's readers see now: it may be taken out, repaired and put back while they wait.
//!
//! A shard that failed is poisoned: nothing is read from it or written to it any more, and snapshots taken from
//! it fail from then on. The lane's committer takes it out ([`Slot::take_out`]), and puts a new one in
//! ([`Slot::put`]) or says why there is none ([`Slot::fail`]).

use std::sync::Arc;
use std::time::Duration;

use super::IndexKv;
use crate::error::{Error, Kind};
use crate::sync::{Condvar, Mutex, RwLock};

/// What is in the slot.
#[derive(Clone)]
pub enum Shown {
    /// A shard, which may be poisoned.
    Shard(Arc<dyn IndexKv>),
    /// Nothing yet: it is being repaired.
    Repairing,
    /// Nothing: it could not be repaired.
    Failed(Error),
}

/// A lane's place for its shard.
pub struct Slot {
    shown: RwLock<Shown>,
    gate: Mutex<()>,
    changed: Condvar,
}

impl Slot {
    /// With this shard in it.
    pub fn new(shard: impl IndexKv + 'static) -> Slot {
        Slot {
            shown: RwLock::new(Shown::Shard(Arc::new(shard))),
            gate: Mutex::new(()),
            changed: Condvar::new(),
        }
    }

    /// What is in it.
    pub fn get(&self) -> Shown {
        self.shown.read().clone()
    }

    /// The shard, or why there is none.
    pub fn shard(&self) -> Result<Arc<dyn IndexKv>, Error> {
        match self.get() {
            Shown::Shard(shard) => Ok(shard),
            Shown::Repairing => Err(rebuilding()),
            Shown::Failed(e) => Err(e),
        }
    }

    /// Whether it can serve.
    pub fn is_usable(&self) -> bool {
        matches!(&*self.shown.read(), Shown::Shard(shard) if !shard.is_poisoned())
    }

    /// Waits for a change, at most so long.
    pub fn wait(&self, most: Duration) {
        let mut gate = self.gate.lock();
        if !self.is_usable() {
            self.changed.wait_for(&mut gate, most);
        }
    }

    /// Takes out what is in it; the old shard writes to its file no more.
    pub fn take_out(&self) {
        let before = std::mem::replace(&mut *self.shown.write(), Shown::Repairing);
        if let Shown::Shard(shard) = before {
            shard.abandon();
        }
    }

    /// Puts a shard in.
    pub fn put(&self, shard: impl IndexKv + 'static) {
        self.set(Shown::Shard(Arc::new(shard)));
    }

    /// There is no shard for now.
    pub fn fail(&self, error: Error) {
        self.set(Shown::Failed(error));
    }

    fn set(&self, shown: Shown) {
        *self.shown.write() = shown;
        let _gate = self.gate.lock();
        self.changed.notify_all();
    }
}

/// What a reader is told that has waited long enough.
pub fn rebuilding() -> Error {
    Error::new(Kind::Rebuilding, "the index is being repaired, try again later")
}
