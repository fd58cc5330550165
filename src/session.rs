//! The shape that every protocol machine has.
//!
//! A session is a deterministic function of its state, the time and its input. It owns no socket,
//! file, thread, clock or random source. The caller owns the input buffer and the output buffer.
//!
//! **Law: call `step` until it answers `NeedInput`, `Blocked` or `Closed`. When it answers an event
//! that pauses, give the verdict that the event asks for before the next `step`. Then write out
//! `out`, and wait for input, for the deadline, or for your own answer.**
//!
//! What `step` did not consume stays with the caller and comes again at the front of the next input.
//! That is how pipelined commands wait while a verdict is awaited, and how plaintext sent behind
//! STARTTLS is seen and refused. The result is the same however the input is cut.

use crate::time::Time;

/// A protocol conversation without input or output of its own.
pub trait Session {
    /// What the machine tells its caller. Borrows from the session and from the input.
    type Event<'a>
    where
        Self: 'a;

    /// Consumes a prefix of `input` and appends bytes for the peer to `out`.
    ///
    /// Never fails: what a peer does wrong is answered on the wire, and ends in `Closed` when the
    /// conversation cannot go on.
    fn step<'a>(
        &'a mut self,
        now: Time,
        input: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Step<Self::Event<'a>>;

    /// The peer will send nothing more. Call `step` afterwards.
    fn eof(&mut self, now: Time);

    /// When to call `step` even without input, if ever.
    fn deadline(&self) -> Option<Time>;
}

/// The answer of one `step`.
#[derive(Debug)]
pub struct Step<E> {
    /// Bytes of the input that are done with. The caller drops them before the next step.
    pub consumed: usize,
    /// What comes next.
    pub next: Next<E>,
}

/// What comes next after a step.
#[derive(Debug)]
pub enum Next<E> {
    /// Something happened that the caller must know of, and perhaps answer.
    Event(E),
    /// All input is used up, or what is left is not a whole unit yet.
    NeedInput,
    /// Output stands above its high-water mark: write it out, then step again.
    Blocked,
    /// The conversation is over: write out what is pending and close the connection.
    Closed,
}
