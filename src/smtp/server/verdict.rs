//! Verdicts and replies: what follows from a caller's answer, and how the session speaks.
//!
//! [`Server::answer`] is the one place where a verdict changes the state. Everything the session says goes through
//! [`Server::refuse`] when its code may count or close, and through [`Server::say`] when it cannot.

use std::mem;
use std::sync::Arc;

use super::phrase::{OK, TOO_MANY_ERRORS};
use super::{Pause, Server, State, Transaction};
use crate::codec::body::Decoder;
use crate::smtp::{Reply, reply};

impl Server {
    pub(super) fn answer(&mut self, reply: Option<Reply<'_>>) {
        let pause = mem::replace(&mut self.pause, Pause::None);
        self.deadline = None;
        let class = if matches!(pause, Pause::Data | Pause::Chunk) { 3 } else { 2 };
        let accepted = reply.is_none_or(|r| r.class() == class);
        // What cannot stand here must not go out as a success.
        let reply = reply.map(|r| match r.class() {
            4 | 5 => r,
            c if c == class => r,
            _ => Reply { code: 451, enhanced: Some((4, 3, 0)), text: r.text },
        });
        let spoken = |own: Reply<'static>| reply.unwrap_or(own);
        match pause {
            Pause::None => {}
            Pause::StartTls => self.pause = pause,
            Pause::Connect => {
                self.state = State::Command;
                let reply = Reply { enhanced: None, ..spoken(Reply::bare(220, "ESMTP ready")) };
                if accepted {
                    self.say_with_host(reply);
                } else {
                    self.turned_away = true;
                    self.refuse(reply);
                    if reply.class() == 4 {
                        self.leave();
                    }
                }
            }
            Pause::Hello => {
                self.greeted = accepted;
                if accepted {
                    self.say_hello();
                } else {
                    self.refuse(Reply { enhanced: None, ..spoken(OK) });
                }
            }
            Pause::Auth => {
                self.reply_to_auth(reply, accepted);
            }
            Pause::Mail => {
                if accepted {
                    self.transaction.open = true;
                    self.transactions = self.transactions.saturating_add(1);
                }
                self.refuse(spoken(Reply::new(250, 1, 0, "Ok")));
                if !accepted {
                    self.transaction = Transaction::default();
                }
            }
            Pause::Rcpt => {
                if accepted {
                    self.transaction.recipients = self.transaction.recipients.saturating_add(1);
                } else {
                    self.transaction.refused = true;
                }
                self.refuse(spoken(Reply::new(250, 1, 5, "Ok")));
            }
            Pause::Data => {
                if accepted {
                    self.state = State::Data(Decoder::new());
                } else {
                    self.abandon();
                }
                self.refuse(spoken(Reply::bare(
                    354,
                    "Send the message, then a line with a single dot",
                )));
            }
            Pause::Chunk => {
                if accepted {
                    self.transaction.chunked = true;
                } else {
                    self.abandon();
                    self.refuse_chunk(spoken(OK));
                }
            }
            Pause::DataEnd => {
                self.transaction = Transaction::default();
                // The sender must learn what became of its message, whatever its budget.
                let reply = spoken(OK);
                self.say(reply);
                if reply.code == 421 {
                    self.leave();
                } else if reply.class() == 5 {
                    self.errors = self.errors.saturating_add(1);
                    if self.errors > self.config.limits.errors {
                        self.say_with_host(TOO_MANY_ERRORS);
                        self.leave();
                    }
                }
            }
        }
    }

    pub(super) fn say(&mut self, reply: Reply<'_>) {
        let utf8 = self.transaction.parameters.smtputf8;
        reply::write(&mut self.pending, &reply, "", utf8);
    }

    pub(super) fn say_with_host(&mut self, reply: Reply<'_>) {
        reply::write(&mut self.pending, &reply, &self.config.hostname, false);
    }

    /// Says any reply, and draws what follows from its code: an error counts, 421 ends the session.
    pub(super) fn refuse(&mut self, reply: Reply<'_>) {
        if reply.class() == 5 {
            self.errors = self.errors.saturating_add(1);
            if self.errors > self.config.limits.errors {
                self.say_with_host(TOO_MANY_ERRORS);
                self.leave();
                return;
            }
        }
        if reply.code == 421 {
            self.say_with_host(reply);
            self.leave();
        } else {
            self.say(reply);
        }
    }

    /// The chunk that begins now is refused: it is eaten first, then the reply is sent.
    pub(super) fn refuse_chunk(&mut self, reply: Reply<'_>) {
        let left = if let State::Chunk { left, .. } = self.state { left } else { 0 };
        self.hold = true;
        self.state = State::Refused { left };
        self.refuse(reply);
        if left > self.config.limits.swallowed_bytes() {
            self.leave();
        }
    }

    fn say_hello(&mut self) {
        let config = Arc::clone(&self.config);
        let line = |pending: &mut Vec<u8>, mark: &[u8], text: &[u8]| {
            pending.extend_from_slice(b"250");
            pending.extend_from_slice(mark);
            pending.extend_from_slice(text);
            pending.extend_from_slice(b"\r\n");
        };
        let out = &mut self.pending;
        if !self.extended {
            line(out, b" ", config.hostname.as_bytes());
            return;
        }
        line(out, b"-", config.hostname.as_bytes());
        line(out, b"-", b"PIPELINING");
        line(out, b"-", format!("SIZE {}", config.limits.message_bytes).as_bytes());
        line(out, b"-", b"8BITMIME");
        line(out, b"-", b"SMTPUTF8");
        if config.chunking {
            line(out, b"-", b"CHUNKING");
        }
        if self.offer.starttls && !self.offer.tls {
            line(out, b"-", b"STARTTLS");
        }
        if self.offer.auth && !self.choice.mechanisms().is_empty() {
            line(out, b"-", format!("AUTH {}", self.choice.mechanisms().names()).as_bytes());
        }
        line(out, b" ", b"ENHANCEDSTATUSCODES");
    }
}
