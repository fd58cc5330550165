//! The way to a committer: many push, one takes everything at once.
//!
//! Two vectors change places, so that pushing and taking allocate nothing in the steady state, and the
//! committer is woken only when it sleeps.

use crate::sync::{Condvar, Mutex};

/// Jobs for one thread.
pub struct JobQueue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    jobs: Vec<T>,
    sleeping: bool,
    closed: bool,
}

impl<T> Default for JobQueue<T> {
    fn default() -> Self {
        JobQueue {
            state: Mutex::new(State { jobs: Vec::new(), sleeping: false, closed: false }),
            ready: Condvar::new(),
        }
    }
}

impl<T> JobQueue<T> {
    /// Adds a job; gives it back after `close`.
    pub fn push(&self, job: T) -> Result<(), T> {
        let wake = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(job);
            }
            state.jobs.push(job);
            std::mem::take(&mut state.sleeping)
        };
        if wake {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Waits for jobs and takes all into `jobs`, which is empty. `false`: closed, and nothing is left.
    pub fn take(&self, jobs: &mut Vec<T>) -> bool {
        let mut state = self.state.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return false;
            }
            state.sleeping = true;
            self.ready.wait(&mut state);
        }
        state.sleeping = false;
        std::mem::swap(&mut state.jobs, jobs);
        true
    }

    /// Takes no more jobs; those that wait are still taken.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_all();
    }

    /// Takes no more jobs and drops those that wait, for a thread that is gone.
    pub fn abandon(&self) {
        let jobs = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.jobs)
        };
        drop(jobs);
    }
}
