//! AUTH (RFC 4954): the command, the lines of its exchange, and the answers to its questions.
//!
//! Which mechanisms are offered is the caller's word ([`Server::set_mechanisms`]); SCRAM-SHA-256-PLUS needs the
//! channel's data besides. A question of a mechanism pauses; [`Server::auth`] answers it, and what follows is another
//! line of the exchange or its end: 235, 535 5.7.8 (the same for a name that nobody has and a wrong password), 454 4.7.0.

use super::phrase::{NOT_BASE64, OUT_OF_PLACE};
use super::{Dialect, Pause, Server, Signal, State};
use crate::codec::base64;
use crate::sasl::{self, Bindings, Choice, Mechanism, Mechanisms, Progress, Verdict};
use crate::smtp::Reply;
use crate::smtp::command;

pub(super) const AUTHENTICATED: Reply<'static> = Reply::new(235, 7, 0, "Authenticated");
pub(super) const CANNOT_TELL: Reply<'static> =
    Reply::new(454, 7, 0, "Cannot authenticate now, try again later");
const WRONG: Reply<'static> = Reply::new(535, 7, 8, "Wrong login name or password");

impl Server {
    /// Which mechanisms AUTH offers, where AUTH is offered at all; PLAIN and LOGIN when this is not called. Call it before
    /// the first step; with TLS that begins later, after [`Server::tls_started`] again, since what binds a channel
    /// is forgotten with it. SCRAM-SHA-256-PLUS is offered only with `bindings` of the TLS channel.
    pub fn set_mechanisms(&mut self, mechanisms: Mechanisms, bindings: Option<Bindings>) {
        self.choice = Choice::new(mechanisms, bindings);
    }

    /// The answer to [`Event::Auth`](super::Event::Auth).
    pub fn auth(&mut self, verdict: Verdict) {
        if self.pause != Pause::Auth {
            return;
        }
        let progress = self.exchange.as_mut().map(|exchange| exchange.answer(verdict));
        match progress {
            Some(Progress::Challenge) => {
                self.pause = Pause::None;
                self.deadline = None;
                self.challenge();
            }
            Some(Progress::Accepted) => self.settle_auth(true, AUTHENTICATED),
            Some(Progress::Refused) => self.settle_auth(false, WRONG),
            _ => self.settle_auth(false, CANNOT_TELL),
        }
    }

    /// A reply of the caller's own to a mechanism's question. One of class 2 stands for `Accept`.
    pub(super) fn reply_to_auth(&mut self, reply: Option<Reply<'_>>, accepted: bool) {
        if !accepted {
            return self.settle_auth(false, reply.unwrap_or(CANNOT_TELL));
        }
        match self.exchange.as_mut().map(|exchange| exchange.answer(Verdict::Accept)) {
            Some(Progress::Accepted) => self.settle_auth(true, reply.unwrap_or(AUTHENTICATED)),
            Some(Progress::Refused) => self.settle_auth(false, WRONG),
            _ => self.settle_auth(false, CANNOT_TELL),
        }
    }

    fn settle_auth(&mut self, accepted: bool, reply: Reply<'_>) {
        self.pause = Pause::None;
        self.deadline = None;
        self.exchange = None;
        self.authenticated |= accepted;
        self.refuse(reply);
    }

    pub(super) fn authenticate(
        &mut self,
        argument: &[u8],
    ) -> Result<Option<Signal>, Reply<'static>> {
        if self.authenticated {
            return Err(Reply::new(503, 5, 1, "Authenticated already"));
        }
        if self.transaction.open {
            return Err(OUT_OF_PLACE);
        }
        if !self.offer.auth {
            return Err(if self.offer.starttls && !self.offer.tls {
                Reply::new(538, 7, 11, "Authentication needs TLS: send STARTTLS first")
            } else {
                Reply::new(502, 5, 1, "AUTH is not offered")
            });
        }
        if !(self.greeted && self.extended) {
            return Err(match self.config.dialect {
                // HELO announces nothing (RFC 4954 3).
                Dialect::Smtp | Dialect::Submission => Reply::new(503, 5, 1, "EHLO comes first"),
                Dialect::Lmtp => self.hello_first(),
            });
        }
        let (name, initial) = command::auth(argument)?;
        let offered = Mechanism::from_name(name).filter(|m| self.choice.mechanisms().contains(*m));
        let Some(mechanism) = offered else {
            return Err(Reply::new(504, 5, 4, "Authentication mechanism not offered"));
        };
        let mut exchange = Box::new(sasl::Exchange::new(mechanism, self.choice.bindings()));
        let progress = match initial {
            None => exchange.start(),
            Some(b"=") => exchange.respond(b""),
            Some(text) => exchange.respond(&base64::decode(text).ok_or(NOT_BASE64)?),
        };
        self.exchange = Some(exchange);
        Ok(self.progress(progress))
    }

    pub(super) fn response(&mut self, line: &[u8]) -> Option<Signal> {
        self.state = State::Command;
        if line == b"*" {
            self.exchange = None;
            self.refuse(Reply::new(501, 7, 0, "Authentication cancelled"));
            return None;
        }
        let Some(response) = base64::decode(line) else {
            self.exchange = None;
            self.refuse(NOT_BASE64);
            return None;
        };
        let progress = self.exchange.as_mut().map(|exchange| exchange.respond(&response));
        self.progress(progress.unwrap_or(Progress::Malformed))
    }

    /// What follows from what the client sent.
    fn progress(&mut self, progress: Progress) -> Option<Signal> {
        match progress {
            Progress::Challenge => {
                self.challenge();
                None
            }
            Progress::Ask => {
                self.pause = Pause::Auth;
                Some(Signal::Auth)
            }
            Progress::Malformed | Progress::Accepted => {
                self.exchange = None;
                self.refuse(Reply::new(501, 5, 2, "The response does not fit the mechanism"));
                None
            }
            Progress::Refused => {
                self.settle_auth(false, WRONG);
                None
            }
            Progress::Unavailable => {
                self.settle_auth(false, CANNOT_TELL);
                None
            }
        }
    }

    fn challenge(&mut self) {
        let text = self.exchange.as_ref().map_or(&[][..], |exchange| exchange.challenge());
        let mut line = String::from("334 ");
        base64::encode(text, &mut line);
        line.push_str("\r\n");
        self.pending.extend_from_slice(line.as_bytes());
        self.state = State::Response;
    }
}
