//! Bodies: DATA (RFC 5321 4.1.1.4) and BDAT (RFC 3030 2), accepted or swallowed.
//!
//! A message that fails ends its transaction at once; its octets still come and are thrown away, and the reply stands
//! where the message's (for BDAT: the chunk's) own reply would stand. In LMTP it stands there once for each recipient.

use super::phrase::{NO_MAIL, OK, TOO_LARGE};
use super::{Failure, Pause, Server, Signal, State};
use crate::codec::body::{Decoder, Part};
use crate::smtp::Reply;
use crate::smtp::command;
use crate::smtp::parameter::Body;
use crate::time::Time;

impl Server {
    pub(super) fn data(&mut self) -> Result<Option<Signal>, Reply<'static>> {
        if self.transaction.chunked {
            return Err(Reply::new(503, 5, 1, "The message comes by BDAT"));
        }
        if self.transaction.parameters.body == Body::Binary {
            return Err(Reply::new(503, 5, 1, "A BINARYMIME message comes by BDAT"));
        }
        self.body_may_come()?;
        self.pause = Pause::Data;
        Ok(Some(Signal::DataStart))
    }

    pub(super) fn text(
        &mut self,
        now: Time,
        input: &[u8],
        mut decoder: Decoder,
    ) -> (usize, Option<Signal>) {
        if self.shutting && self.transaction.open {
            self.fail(Failure::Shutdown);
            return (0, None);
        }
        if input.is_empty() {
            return (0, self.wait(now));
        }
        let part = decoder.next(input);
        self.state = State::Data(decoder);
        match part {
            Part::Incomplete => (0, self.wait(now)),
            Part::Text { skip, length } => {
                self.deadline = None;
                if self.transaction.failure.is_some() {
                    self.swallow(skip + length);
                    return (skip + length, None);
                }
                let taken = self.take(length);
                let signal = (taken > 0).then_some(Signal::Text { skip, length: taken });
                (skip + length, signal)
            }
            Part::LineEnd { skip } => {
                self.deadline = None;
                if self.transaction.failure.is_some() {
                    self.swallow(skip);
                    return (skip, None);
                }
                // Half a line's end is none.
                let taken = self.take(2) == 2;
                (skip, taken.then_some(Signal::LineEnd))
            }
            Part::Fault { skip, fault } => {
                self.deadline = None;
                self.fail(fault.into());
                self.swallow(skip);
                (skip, None)
            }
            Part::End { skip } => {
                self.deadline = None;
                self.state = State::Command;
                let signal = self.message_end();
                (skip, signal)
            }
        }
    }

    /// Counts octets of the message; answers how many of them it still takes.
    fn take(&mut self, length: usize) -> usize {
        let room = self.config.limits.message_bytes.saturating_sub(self.transaction.size);
        let taken = usize::try_from(room).unwrap_or(usize::MAX).min(length);
        self.transaction.size = self.transaction.size.saturating_add(taken as u64);
        if taken < length {
            self.fail(Failure::TooLarge);
        }
        taken
    }

    /// Counts octets that are thrown away, and stops doing so beyond the limit.
    fn swallow(&mut self, octets: usize) {
        let swallowed = self.transaction.swallowed.saturating_add(octets as u64);
        self.transaction.swallowed = swallowed;
        if swallowed > self.config.limits.swallowed_bytes() {
            let failure = self.transaction.failure.unwrap_or(Failure::TooLarge);
            self.refuse_message(failure.reply(), self.transaction.recipients);
            self.leave();
        }
    }

    fn message_end(&mut self) -> Option<Signal> {
        if let Some(failure) = self.transaction.failure {
            let recipients = self.transaction.recipients;
            self.close_transaction();
            match failure {
                Failure::Shutdown => self.stop_message(recipients),
                _ => self.refuse_message(failure.reply(), recipients),
            }
            return None;
        }
        if self.shutting {
            self.stop_message(self.transaction.recipients);
            return None;
        }
        self.pause = Pause::DataEnd;
        Some(Signal::DataEnd)
    }

    pub(super) fn bdat(&mut self, argument: &[u8]) -> Option<Signal> {
        let Some((size, last)) = command::bdat(argument) else {
            self.refuse(Reply::new(
                501,
                5,
                4,
                "Syntax: BDAT octets [LAST]; closing the connection",
            ));
            self.leave();
            return None;
        };
        self.state = State::Chunk { left: size, last };
        if let lost @ 1.. = self.lost_recipients {
            if last {
                self.lost_recipients = 0;
            }
            self.refuse_chunk(NO_MAIL, lost);
            return None;
        }
        let mut owed = 0;
        let total = self.transaction.size.checked_add(size);
        let refusal = if self.turned_away || !self.greeted {
            Some(self.hello_first())
        } else if !self.config.extensions.chunking {
            Some(Reply::new(502, 5, 1, "CHUNKING is not offered"))
        } else if let Err(reply) = self.body_may_come() {
            Some(reply)
        } else if total.is_none_or(|total| total > self.config.limits.message_bytes) {
            owed = self.transaction.recipients;
            self.abandon();
            Some(TOO_LARGE)
        } else {
            None
        };
        if let Some(reply) = refusal {
            self.refuse_chunk(reply, owed);
            return None;
        }
        if self.transaction.chunked {
            return None;
        }
        self.pause = Pause::Chunk;
        Some(Signal::DataStart)
    }

    pub(super) fn chunk(
        &mut self,
        now: Time,
        input: &[u8],
        left: u64,
        last: bool,
    ) -> (usize, Option<Signal>) {
        if self.shutting && self.transaction.open {
            self.abandon();
            self.state = State::Refused { left };
            return (0, None);
        }
        if left == 0 {
            return (0, self.chunk_end(last));
        }
        let room = usize::try_from(left).unwrap_or(usize::MAX);
        let input = input.get(..room).unwrap_or(input);
        if input.is_empty() {
            return (0, self.wait(now));
        }
        self.deadline = None;
        let (good, fault) = self.transaction.exact.check(input);
        let left = left.saturating_sub(good as u64);
        self.state = State::Chunk { left, last };
        self.transaction.size = self.transaction.size.saturating_add(good as u64);
        if let Some(fault) = fault {
            let recipients = self.transaction.recipients;
            self.abandon();
            self.refuse_chunk(Failure::from(fault).reply(), recipients);
        }
        (good, (good > 0).then_some(Signal::Text { skip: 0, length: good }))
    }

    fn chunk_end(&mut self, last: bool) -> Option<Signal> {
        self.state = State::Command;
        if !last {
            self.say(OK);
            return None;
        }
        if let Some(fault) = self.transaction.exact.end() {
            let recipients = self.transaction.recipients;
            self.abandon();
            self.refuse_message(Failure::from(fault).reply(), recipients);
            return None;
        }
        self.message_end()
    }

    pub(super) fn refused(
        &mut self,
        now: Time,
        input: &[u8],
        left: u64,
    ) -> (usize, Option<Signal>) {
        if left == 0 {
            self.hold = false;
            self.state = State::Command;
            return (0, None);
        }
        let eaten = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        if eaten == 0 {
            return (0, self.wait(now));
        }
        self.deadline = None;
        self.state = State::Refused { left: left.saturating_sub(eaten as u64) };
        (eaten, None)
    }
}
