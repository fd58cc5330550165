//! Many transactions in flight from one thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use posthouse::store::{Committed, Ticket};

use crate::Outcome;

/// Places whose ticket has its answer.
#[derive(Default)]
struct Ready {
    places: Mutex<Vec<usize>>,
    some: Condvar,
}

impl Ready {
    fn add(&self, place: usize) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let first = places.is_empty();
        places.push(place);
        drop(places);
        if first {
            self.some.notify_one();
        }
    }

    /// Waits until there are some, and takes them all.
    fn take(&self, into: &mut Vec<usize>) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        while places.is_empty() {
            places = self.some.wait(places).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut *places, into);
    }
}

struct Waiter {
    place: usize,
    ready: Arc<Ready>,
}

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        self.ready.add(self.place);
    }
}

/// Keeps up to `writers` transactions in flight. `next(place)` begins one, or says that there are no more;
/// `answered(place, answer)` hears of each. Returns when all are answered.
///
/// # Errors
/// The first error of `next`, or of a transaction.
pub fn fly(
    writers: usize,
    mut next: impl FnMut(usize) -> Outcome<Option<Ticket<Committed>>>,
    mut answered: impl FnMut(usize, Committed),
) -> Outcome<()> {
    let ready = Arc::new(Ready::default());
    let wakers: Vec<Waker> = (0..writers)
        .map(|place| Waker::from(Arc::new(Waiter { place, ready: Arc::clone(&ready) })))
        .collect();
    let mut tickets: Vec<Option<Ticket<Committed>>> = (0..writers).map(|_| None).collect();
    let mut free: Vec<usize> = (0..writers).collect();
    let mut flying = 0_usize;
    loop {
        for place in free.drain(..) {
            let (Some(ticket), Some(waker)) = (tickets.get_mut(place), wakers.get(place)) else {
                continue;
            };
            loop {
                if ticket.is_none() {
                    match next(place)? {
                        Some(new) => {
                            *ticket = Some(new);
                            flying += 1;
                        }
                        None => break,
                    }
                }
                let Some(waiting) = ticket else { break };
                match Pin::new(waiting).poll(&mut Context::from_waker(waker)) {
                    Poll::Pending => break,
                    Poll::Ready(answer) => {
                        *ticket = None;
                        flying -= 1;
                        answered(place, answer?);
                    }
                }
            }
        }
        if flying == 0 {
            return Ok(());
        }
        ready.take(&mut free);
    }
}
