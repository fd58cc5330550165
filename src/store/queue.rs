//! The way to a committer: many push, one takes everything at once.
//!
//! Two vectors change places, so that pushing and taking allocate nothing in the steady state, and the
//! committer is woken only when it sleeps and as many jobs are there as it waits for.

use super::gather::Gathering;
use crate::sync::{Condvar, Mutex};

/// Jobs for one thread.
pub struct JobQueue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    jobs: Vec<T>,
    /// How many jobs wake the sleeper; 0: nobody sleeps.
    wanted: usize,
    closed: bool,
}

impl<T> Default for JobQueue<T> {
    fn default() -> Self {
        JobQueue {
            state: Mutex::new(State { jobs: Vec::new(), wanted: 0, closed: false }),
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
            let wake = state.wanted > 0 && state.jobs.len() >= state.wanted;
            if wake {
                state.wanted = 0;
            }
            wake
        };
        if wake {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Waits for jobs, for a moment also for company, and takes all into `jobs`, which is empty. `false`:
    /// closed, and nothing is left.
    pub fn take(&self, jobs: &mut Vec<T>, gathering: &mut Gathering) -> bool {
        let mut state = self.state.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return false;
            }
            state.wanted = 1;
            self.ready.wait(&mut state);
        }
        if let Some(mut wait) = gathering.begin(state.jobs.len()) {
            while let Some((wanted, slice)) = gathering.slice(&mut wait, state.jobs.len())
                && !state.closed
            {
                state.wanted = wanted;
                if !self.ready.wait_for(&mut state, slice).timed_out() {
                    Gathering::early(&mut wait, slice);
                }
            }
            gathering.end(&wait, state.jobs.len());
        }
        state.wanted = 0;
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
