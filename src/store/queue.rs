//! The way to a committer: many push, one takes everything at once.
//!
//! Two vectors change places, so that pushing and taking allocate nothing in the steady state, and the
//! committer is woken only when it sleeps and as many jobs are there as it waits for.

use std::time::Duration;

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
    /// Somebody needs the taker to finish what it has put off.
    nudged: bool,
    /// The taker is wanted whether it has put something off or not.
    called: bool,
    closed: bool,
}

/// What [`JobQueue::take`] came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Jobs.
    Jobs,
    /// Before any jobs: it is time to finish what was put off, or to look around.
    Pause,
    /// The queue is closed and empty.
    Closed,
}

/// A taker that has put something off comes back after so long without a job.
pub const PAUSE: Duration = Duration::from_millis(2);

impl<T> Default for JobQueue<T> {
    fn default() -> Self {
        JobQueue {
            state: Mutex::new(State {
                jobs: Vec::new(),
                wanted: 0,
                nudged: false,
                called: false,
                closed: false,
            }),
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

    /// Asks the taker to finish what it has put off, before it takes another job.
    pub fn nudge(&self) {
        let mut state = self.state.lock();
        state.nudged = true;
        state.wanted = 0;
        drop(state);
        self.ready.notify_one();
    }

    /// Whether somebody has nudged since the taker last looked.
    pub fn was_nudged(&self) -> bool {
        std::mem::take(&mut self.state.lock().nudged)
    }

    /// Wakes the taker even if it has put nothing off: `take` comes back with a pause.
    pub fn call(&self) {
        let mut state = self.state.lock();
        state.called = true;
        state.wanted = 0;
        drop(state);
        self.ready.notify_one();
    }

    /// Waits for jobs, for a moment also for company, and takes all into `jobs`, which is empty. With something
    /// `put_off`, comes back early when nudged, or when no job comes for a while.
    pub fn take(&self, jobs: &mut Vec<T>, gathering: &mut Gathering, put_off: bool) -> Taken {
        let mut state = self.state.lock();
        loop {
            let nudged = std::mem::take(&mut state.nudged) && put_off;
            if std::mem::take(&mut state.called) || nudged {
                state.wanted = 0;
                return Taken::Pause;
            }
            if !state.jobs.is_empty() {
                break;
            }
            if state.closed {
                return Taken::Closed;
            }
            state.wanted = 1;
            if !put_off {
                self.ready.wait(&mut state);
            } else if self.ready.wait_for(&mut state, PAUSE).timed_out() && state.jobs.is_empty() {
                state.nudged = false;
                state.wanted = 0;
                return Taken::Pause;
            }
        }
        if let Some(mut wait) = gathering.begin(state.jobs.len()) {
            while let Some((wanted, slice)) = gathering.slice(&mut wait, state.jobs.len())
                && !state.closed
                && !(state.nudged && put_off)
            {
                state.wanted = wanted;
                if !self.ready.wait_for(&mut state, slice).timed_out() {
                    Gathering::early(&mut wait, slice);
                }
            }
            gathering.end(&wait, state.jobs.len());
            // A reader came while we waited: it is not made to wait for a sync as well.
            if std::mem::take(&mut state.nudged) && put_off {
                state.wanted = 0;
                return Taken::Pause;
            }
        }
        state.wanted = 0;
        std::mem::swap(&mut state.jobs, jobs);
        Taken::Jobs
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
