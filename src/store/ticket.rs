//! Tickets: answers that a committer gives later.
//!
//! A ticket is a future and can also be waited for by a thread; it needs no runtime. The other end is
//! a [`Completion`], which answers exactly once: dropped without an answer, it answers `Stopped`, so
//! nobody waits for ever for a thread that is gone.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Kind, Result};
use crate::sync::{Condvar, Mutex};

struct Slot<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    answer: Option<Result<T>>,
    waker: Option<Waker>,
}

/// The answer to something that a committer does later: a future, and a call that waits. Dropping it
/// does not stop the work.
pub struct Ticket<T> {
    inner: Inner<T>,
}

enum Inner<T> {
    Ready(Option<Result<T>>),
    Later(Arc<Slot<T>>),
}

// The answer is never pinned in place.
impl<T> Unpin for Ticket<T> {}

impl<T> Ticket<T> {
    /// A ticket whose answer is there already.
    pub fn ready(answer: Result<T>) -> Ticket<T> {
        Ticket { inner: Inner::Ready(Some(answer)) }
    }

    /// A ticket and the end that answers it.
    pub fn new() -> (Completion<T>, Ticket<T>) {
        let slot = Arc::new(Slot {
            state: Mutex::new(State { answer: None, waker: None }),
            ready: Condvar::new(),
        });
        (Completion { slot: Some(slot.clone()) }, Ticket { inner: Inner::Later(slot) })
    }

    /// Blocks this thread until the answer is there.
    pub fn wait(self) -> Result<T> {
        match self.inner {
            Inner::Ready(answer) => answer.unwrap_or_else(|| Err(spent())),
            Inner::Later(slot) => {
                let mut state = slot.state.lock();
                loop {
                    if let Some(answer) = state.answer.take() {
                        return answer;
                    }
                    slot.ready.wait(&mut state);
                }
            }
        }
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T>;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.get_mut();
        let answer = match &mut this.inner {
            Inner::Ready(answer) => answer.take().unwrap_or_else(|| Err(spent())),
            Inner::Later(slot) => {
                let mut state = slot.state.lock();
                match state.answer.take() {
                    Some(answer) => answer,
                    None => {
                        match &mut state.waker {
                            Some(waker) => waker.clone_from(context.waker()),
                            None => state.waker = Some(context.waker().clone()),
                        }
                        return Poll::Pending;
                    }
                }
            }
        };
        this.inner = Inner::Ready(None);
        Poll::Ready(answer)
    }
}

fn spent() -> Error {
    Error::new(Kind::State, "the ticket has given its answer already")
}

/// The end of a ticket that answers.
pub struct Completion<T> {
    slot: Option<Arc<Slot<T>>>,
}

impl<T> Completion<T> {
    /// Answers, and wakes who waits.
    pub fn complete(mut self, answer: Result<T>) {
        self.answer(answer);
    }

    fn answer(&mut self, answer: Result<T>) {
        let Some(slot) = self.slot.take() else { return };
        let waker = {
            let mut state = slot.state.lock();
            state.answer = Some(answer);
            state.waker.take()
        };
        slot.ready.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.answer(Err(Error::new(Kind::Stopped, "the store stopped before it could answer")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_completion_answers_stopped() {
        let (completion, ticket) = Ticket::<()>::new();
        drop(completion);
        assert_eq!(ticket.wait().map_err(|e| e.kind()), Err(Kind::Stopped));
    }

    #[test]
    fn a_waiting_thread_gets_the_answer() {
        let (completion, ticket) = Ticket::new();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(move || ticket.wait());
            completion.complete(Ok(5));
            assert_eq!(waiter.join().map(|r| r.ok()).ok().flatten(), Some(5));
        });
    }

    #[test]
    fn a_polled_ticket_is_woken() {
        let (completion, mut ticket) = Ticket::new();
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut ticket).poll(&mut context).is_pending());
        completion.complete(Ok(()));
        assert!(matches!(Pin::new(&mut ticket).poll(&mut context), Poll::Ready(Ok(()))));
        assert!(matches!(Pin::new(&mut ticket).poll(&mut context), Poll::Ready(Err(_))));
    }
}
