//! Locks and channels: the one place that names who provides them.
//!
//! Rooms take their locks from here, so that a model checker can put its own in their place and a
//! change of provider is one edit.

pub use crossbeam::channel;
pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
