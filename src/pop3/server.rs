//! The POP3 server machine (RFC 1939, RFC 2449, RFC 2595, RFC 3206, RFC 5034).
//!
//! # Method
//! [`Server`] is a [`Session`]: [`Server::step`](Session::step) takes lines off the caller's input, appends replies to
//! the caller's output and stops with an [`Event`] where it needs a verdict. A verdict method only notes the answer;
//! the next step writes the reply. The exceptions are the body methods, which write the message straight into the
//! caller's output.
//!
//! ```text
//! Connect -> AUTHORIZATION <-> STLS, AUTH exchange
//!                 | login, maildrop locked
//!            TRANSACTION <-> LIST and UIDL listings, bodies
//!                 | QUIT
//!              UPDATE -> closed
//! ```
//!
//! # Invariants
//! - Messages are removed by QUIT in the TRANSACTION state and by nothing else: not by the end of the connection, a
//!   time-out, too many errors, or a stop (RFC 1939 3, 6). [`Event::Update`] is told once, or never.
//! - The maildrop is what it was at login. Numbers, sizes and UIDLs do not change until the end.
//! - A UIDL is the mailbox's UIDVALIDITY and the message's UID, both in hexadecimal: 17 characters, the same in every
//!   session, and never given to another message (RFC 1939 7).
//! - The machine holds no octets of lines or messages. A line waits whole in the caller's buffer; what is longer than
//!   its limit, or has a bare CR or LF, is refused once and dropped up to its CR LF.
//! - Output stays near [`Limits::output_bytes`]: listings and bodies stop there and go on when it was written.
//! - The outcome does not depend on how the input is cut, nor on how far commands are pipelined (RFC 2449 6.6).
//!   Only what follows STLS is different: it must not be there yet (RFC 2595 4), and whoever sends it is cut off.
//! - Passwords live in memory that is wiped, from the command to the verdict.
//!
//! # Time
//! Only whole commands put the end of a session off, and so does output that the peer has read; octets that trickle
//! in do not. While the caller owes a verdict there is no deadline. At the deadline the session ends without a
//! reply and without removing anything (RFC 1939 3).

use std::sync::Arc;

use super::command;
use super::maildrop::Marks;
use super::reply::{code, line};
use crate::codec::line::{Fault, Frame, Framer};
use crate::sasl::{self, Choice, Exchange, Mechanism, Verdict};
use crate::session::{Next, Session, Step};
use crate::time::Time;

mod authorization;
#[cfg(test)]
mod tests;
mod transaction;

pub use super::maildrop::{Entry, Maildrop};

use authorization::Login;

use transaction::{Body, Listing};

/// What is the same for all connections of a listener.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Our name in the greeting.
    pub hostname: String,
    /// Every bound, by name.
    pub limits: Limits,
}

/// Every bound of a POP3 session, by name.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest command line in octets, CR LF included (RFC 2449 4: 255, which long passwords and initial responses
    /// of real clients do not keep to). Over: `-ERR`, and the line is dropped.
    pub command_line: usize,
    /// Longest line of an AUTH exchange, CR LF included. Over: `-ERR`, and the exchange is over.
    pub auth_line: usize,
    /// Most failed commands. One more: `-ERR`, and the connection is closed.
    pub errors: u32,
    /// Wrong logins after which the connection is closed.
    pub login_failures: u32,
    /// Output above which `step` answers `Blocked`.
    pub output_bytes: usize,
    /// Milliseconds without a command before the session ends without deleting (RFC 1939 3: at least 10 minutes).
    pub idle_millis: u64,
    /// The same before authentication.
    pub login_millis: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            command_line: 512,
            auth_line: 12288,
            errors: 20,
            login_failures: 5,
            output_bytes: 64 << 10,
            idle_millis: 600_000,
            login_millis: 60_000,
        }
    }
}

/// What is known of this connection when it begins, and again after TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// TLS is on.
    pub tls: bool,
    /// STLS may be offered.
    pub stls: bool,
    /// Logging in is allowed.
    pub login: bool,
}

/// Why a login did not open the maildrop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Wrong login name or password: `-ERR [AUTH]` (RFC 3206).
    Credentials,
    /// Another session holds the maildrop: `-ERR [IN-USE]` (RFC 2449 8.1.2).
    InUse,
    /// Something of ours does not work now: `-ERR [SYS/TEMP]` (RFC 3206).
    Temporary,
}

/// What a POP3 session tells its caller.
#[derive(Debug)]
pub enum Event<'a> {
    /// The connection begins. *Pauses* for [`Server::accept`] or [`Server::refuse`].
    Connect,
    /// The answer to STLS stands in the output: write it out, make the handshake, then call
    /// [`Server::tls_started`]. *Pauses*.
    StartTls,
    /// Who is it? *Pauses* for [`Server::opened`] or [`Server::denied`]: the answer includes the maildrop,
    /// locked for this session.
    Auth(sasl::Question<'a>),
    /// Bytes of a message are needed. *Pauses* for [`Server::body`], [`Server::body_end`] or
    /// [`Server::body_failed`].
    NeedBody {
        /// Position in [`Maildrop::entries`].
        index: usize,
        /// Where to begin.
        offset: u64,
        /// Give at most this many bytes at once.
        max: usize,
    },
    /// QUIT in the TRANSACTION state: remove these messages (positions in [`Maildrop::entries`], sorted, perhaps none)
    /// and release the lock. *Pauses* for [`Server::updated`].
    Update {
        /// What to remove.
        deleted: &'a [usize],
    },
}

/// A server session: one POP3 connection's protocol.
pub struct Server {
    config: Arc<ServerConfig>,
    offer: Offer,
    state: State,
    framer: Framer,
    /// The last sign of life: a whole command, or output that was read.
    active: Time,
    /// The name that USER gave, until PASS.
    user: Option<Box<str>>,
    choice: Choice,
    failures: u32,
    login_failures: u32,
    maildrop: Maildrop,
    marks: Marks,
    /// What [`Event::Update`] shows.
    deleted: Vec<usize>,
    ended: bool,
    stopping: bool,
}

/// Where the conversation stands.
enum State {
    /// Nothing was told yet.
    Connect,
    /// The verdict on `Connect` is awaited.
    AwaitAccept,
    /// Accepted: the greeting is due.
    Greet,
    /// Turned away with this text.
    Refused(Box<str>),
    /// AUTHORIZATION (RFC 1939 4): a command is awaited.
    Authorization,
    /// The client's next line in an AUTH exchange is awaited (RFC 5034 4).
    Exchange(Box<Exchange>),
    /// The caller answered a question of the exchange: its next challenge is due.
    Challenge(Box<Exchange>),
    /// The verdict on a login is awaited.
    AwaitLogin(Box<Login>),
    /// The maildrop is open: the reply is due.
    Opened,
    /// The login failed: the reply is due.
    Denied(Denial),
    /// The handshake is awaited.
    AwaitTls,
    /// TLS is on: the client speaks first.
    Secured,
    /// Clear text stood behind STLS.
    Injected,
    /// TRANSACTION (RFC 1939 5): a command is awaited.
    Transaction,
    /// A listing goes on at this position.
    Listing(Listing, usize),
    /// A message is being sent.
    Body(Body),
    /// UPDATE (RFC 1939 6): its outcome is awaited.
    AwaitUpdate,
    /// Whether all was removed: the reply is due.
    Updated(bool),
    /// The end.
    Closed,
}

/// An event without what it borrows.
enum Signal {
    Connect,
    StartTls,
    Login,
    NeedBody { index: usize, offset: u64, max: usize },
    Update,
}

/// How [`Server::advance`] ends.
type Advance = Next<Signal>;

/// Longest text of a refusal, so that the line stays within 512 octets (RFC 1939 3).
const REFUSAL_MAX: usize = 500;

impl Server {
    /// A session for a new connection.
    pub fn new(config: Arc<ServerConfig>, offer: Offer, now: Time) -> Server {
        Server {
            config,
            offer,
            state: State::Connect,
            framer: Framer::default(),
            active: now,
            user: None,
            choice: Choice::default(),
            failures: 0,
            login_failures: 0,
            maildrop: Maildrop::default(),
            marks: Marks::default(),
            deleted: Vec::new(),
            ended: false,
            stopping: false,
        }
    }

    /// Greets. The answer to [`Event::Connect`]; without that event it has no effect.
    pub fn accept(&mut self) {
        if matches!(self.state, State::AwaitAccept) {
            self.set_state(State::Greet);
        }
    }

    /// Turns the peer away with `-ERR` and this text. The other answer to [`Event::Connect`].
    pub fn refuse(&mut self, text: &str) {
        if matches!(self.state, State::AwaitAccept) {
            let line: String = text.chars().filter(|c| !c.is_control()).collect();
            let end = line.floor_char_boundary(REFUSAL_MAX);
            self.set_state(State::Refused(line.get(..end).unwrap_or_default().into()));
        }
    }

    /// TLS is on; see the SMTP session's method of the same name. Everything known before is forgotten
    /// (RFC 2595 4). `unread` is what came in clear behind STLS: when it is not empty the session ends.
    pub fn tls_started(&mut self, offer: Offer, unread: &[u8]) {
        if matches!(self.state, State::AwaitTls) {
            self.offer = offer;
            self.framer = Framer::default();
            self.choice.forget_channel();
            self.set_state(if unread.is_empty() { State::Secured } else { State::Injected });
        }
    }

    /// The login is right and the maildrop is locked for this session. An answer to [`Event::Auth`], when its question
    /// [decides](sasl::Question); to another question it is as [`Denial::Temporary`], and to an outcome that is a failure
    /// as [`Denial::Credentials`].
    pub fn opened(&mut self, mut maildrop: Maildrop) {
        if matches!(self.state, State::AwaitLogin(_)) {
            if let Some(denial) = self.objection() {
                self.set_state(State::Denied(denial));
                return;
            }
            maildrop.entries.shrink_to_fit();
            self.marks = Marks::of(&maildrop.entries);
            self.maildrop = maildrop;
            self.set_state(State::Opened);
        }
    }

    /// The login does not open a maildrop. An answer to [`Event::Auth`].
    pub fn denied(&mut self, denial: Denial) {
        if !matches!(self.state, State::AwaitLogin(_)) {
            return;
        }
        match denial {
            // A token that is refused is told in one more challenge.
            Denial::Credentials => self.bring(Verdict::Refuse, denial),
            Denial::InUse | Denial::Temporary => self.set_state(State::Denied(denial)),
        }
    }

    /// Some bytes of the message: appended to `out` with dots stuffed. An answer to [`Event::NeedBody`]; may be
    /// called again, and [`Server::body_end`] after it, before the next step.
    pub fn body(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let State::Body(body) = &mut self.state else { return };
        body.start(out);
        body.asked = false;
        body.offset = body.offset.saturating_add(bytes.len() as u64);
        out.reserve(bytes.len());
        body.writer.write(bytes, out);
        if body.writer.has_enough() {
            self.body_end(out);
        }
    }

    /// The message has no more bytes. An answer to [`Event::NeedBody`].
    pub fn body_end(&mut self, out: &mut Vec<u8>) {
        let State::Body(body) = &mut self.state else { return };
        body.start(out);
        body.writer.finish(out);
        self.set_state(State::Transaction);
    }

    /// The bytes cannot be read. Before the first byte: `-ERR [SYS/PERM]`; later the connection is closed
    /// without the final dot, so that the client cannot take a part for the whole.
    pub fn body_failed(&mut self, out: &mut Vec<u8>) {
        let State::Body(body) = &self.state else { return };
        if body.started {
            self.set_state(State::Closed);
        } else {
            self.set_state(State::Transaction);
            self.fail(code::PERMANENT, "the message cannot be read", out);
        }
    }

    /// The answer to [`Event::Update`]: whether all was removed.
    pub fn updated(&mut self, all_removed: bool) {
        if matches!(self.state, State::AwaitUpdate) {
            self.set_state(State::Updated(all_removed));
        }
    }

    /// The engine stops: `-ERR [SYS/TEMP]` and `Closed` at the next place where a reply may stand. Deletes nothing,
    /// except that an UPDATE that has begun comes to its end.
    pub fn shutdown(&mut self) {
        self.stopping = true;
    }

    /// The one place where the state changes.
    fn set_state(&mut self, state: State) {
        match state {
            // What was known of a login is forgotten.
            State::AwaitLogin(_) | State::AwaitTls => self.user = None,
            State::Closed => {
                self.user = None;
                self.maildrop.entries = Vec::new();
                self.marks = Marks::default();
            }
            _ => {}
        }
        self.state = state;
    }

    /// Everything of a step but the borrowing: consumes from `input`, counts it in `consumed`.
    fn advance(
        &mut self,
        now: Time,
        input: &[u8],
        out: &mut Vec<u8>,
        consumed: &mut usize,
    ) -> Advance {
        loop {
            match &mut self.state {
                State::Connect => {
                    self.set_state(State::AwaitAccept);
                    return Next::Event(Signal::Connect);
                }
                State::AwaitAccept
                | State::AwaitLogin(_)
                | State::AwaitTls
                | State::AwaitUpdate
                | State::Body(Body { asked: true, .. }) => return Next::NeedInput,
                State::Greet => {
                    self.active = now;
                    self.set_state(State::Authorization);
                    if !self.stopping {
                        line(out, format_args!("+OK {} POP3 ready", self.config.hostname));
                    }
                }
                State::Refused(text) => {
                    line(out, format_args!("-ERR {text}"));
                    self.set_state(State::Closed);
                }
                State::Secured => {
                    self.active = now;
                    self.set_state(State::Authorization);
                }
                State::Injected => {
                    line(out, format_args!("-ERR commands were sent in clear behind STLS"));
                    self.set_state(State::Closed);
                }
                State::Opened => {
                    self.active = now;
                    let Marks { count, octets, .. } = self.marks;
                    line(out, format_args!("+OK {count} messages ({octets} octets)"));
                    self.set_state(State::Transaction);
                }
                State::Denied(denial) => {
                    let denial = *denial;
                    self.active = now;
                    self.set_state(State::Authorization);
                    self.deny(denial, out);
                }
                State::Challenge(_) => {
                    self.active = now;
                    let State::Challenge(exchange) =
                        std::mem::replace(&mut self.state, State::Authorization)
                    else {
                        continue;
                    };
                    self.set_state(State::Exchange(exchange));
                    self.challenge(out);
                }
                State::Updated(all_removed) => {
                    match all_removed {
                        true => line(out, format_args!("+OK bye")),
                        false => line(
                            out,
                            format_args!("-ERR [SYS/TEMP] some deleted messages were not removed"),
                        ),
                    }
                    self.set_state(State::Closed);
                }
                State::Closed => return Next::Closed,
                State::Listing(..) | State::Body(_) => {
                    if out.len() >= self.config.limits.output_bytes {
                        return self.blocked(now);
                    }
                    self.active = now;
                    if let Some(signal) = self.send(out) {
                        return Next::Event(signal);
                    }
                }
                State::Authorization | State::Exchange(_) | State::Transaction => {
                    if self.stopping {
                        line(
                            out,
                            format_args!("-ERR [SYS/TEMP] the server is stopping, try again later"),
                        );
                        self.set_state(State::Closed);
                        continue;
                    }
                    if out.len() >= self.config.limits.output_bytes {
                        return self.blocked(now);
                    }
                    let rest = input.get(*consumed..).unwrap_or_default();
                    let limit = match self.state {
                        State::Exchange(_) => self.config.limits.auth_line,
                        _ => self.config.limits.command_line,
                    };
                    match self.framer.next(rest, limit) {
                        Frame::Line { length, end } => {
                            self.active = now;
                            *consumed += length + end;
                            let text = rest.get(..length).unwrap_or_default();
                            if let Some(signal) = self.line(text, out) {
                                return Next::Event(signal);
                            }
                        }
                        Frame::Skipped { skip } => *consumed += skip,
                        Frame::Refused(fault) => {
                            if matches!(self.state, State::Exchange(_)) {
                                self.set_state(State::Authorization);
                            }
                            let text = match fault {
                                Fault::TooLong => "the line is too long",
                                Fault::BareCr | Fault::BareLf => "lines end in CR LF",
                            };
                            self.fail(code::NONE, text, out);
                        }
                        Frame::Incomplete { skip } => {
                            *consumed += skip;
                            if !self.ended && !self.is_late(now) {
                                return Next::NeedInput;
                            }
                            self.set_state(State::Closed);
                        }
                    }
                }
            }
        }
    }

    /// The output is full. A peer that reads nothing until the deadline is let go.
    fn blocked(&mut self, now: Time) -> Advance {
        if self.is_late(now) {
            self.set_state(State::Closed);
            return Next::Closed;
        }
        Next::Blocked
    }

    fn is_late(&self, now: Time) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// A whole line, without its CR LF.
    fn line(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Signal> {
        if let State::Exchange(_) = self.state {
            return self.response(text, out);
        }
        let command = match command::parse(text) {
            Ok(command) => command,
            Err(fault) => {
                self.fail(code::NONE, fault.text(), out);
                return None;
            }
        };
        if let State::Transaction = self.state {
            self.transaction(command, out)
        } else {
            self.authorization(command, out)
        }
    }

    /// `-ERR`; the connection is closed when there were too many.
    fn fail(&mut self, code: &str, text: &str, out: &mut Vec<u8>) {
        self.failures = self.failures.saturating_add(1);
        if self.failures > self.config.limits.errors {
            line(out, format_args!("-ERR too many failed commands"));
            self.set_state(State::Closed);
        } else {
            line(out, format_args!("-ERR {code}{text}"));
        }
    }

    fn offers_stls(&self) -> bool {
        self.offer.stls && !self.offer.tls
    }

    /// CAPA (RFC 2449 5, 6). USER and SASL stand only where they would be accepted.
    fn capabilities(&self, out: &mut Vec<u8>) {
        line(out, format_args!("+OK capabilities follow"));
        for name in ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER"] {
            line(out, format_args!("{name}"));
        }
        if self.offer.login {
            line(out, format_args!("USER"));
            let mechanisms = self.choice.mechanisms();
            if !mechanisms.is_empty() {
                line(out, format_args!("SASL {}", mechanisms.names()));
            }
        }
        // Only where it is valid (RFC 2595 4).
        if self.offers_stls() && !matches!(self.state, State::Transaction) {
            line(out, format_args!("STLS"));
        }
        line(out, format_args!("IMPLEMENTATION Posthouse"));
        line(out, format_args!("."));
    }
}

impl Session for Server {
    type Event<'a> = Event<'a>;

    fn step<'a>(&'a mut self, now: Time, input: &'a [u8], out: &mut Vec<u8>) -> Step<Event<'a>> {
        let mut consumed = 0;
        let next = match self.advance(now, input, out, &mut consumed) {
            Next::NeedInput => Next::NeedInput,
            Next::Blocked => Next::Blocked,
            Next::Closed => Next::Closed,
            Next::Event(signal) => match self.event(signal) {
                Some(event) => Next::Event(event),
                None => Next::NeedInput,
            },
        };
        Step { consumed, next }
    }

    fn eof(&mut self, now: Time) {
        let _ = now;
        self.ended = true;
    }

    fn deadline(&self) -> Option<Time> {
        let limits = &self.config.limits;
        match self.state {
            State::Authorization | State::Exchange(_) => {
                Some(self.active.after(limits.login_millis))
            }
            State::Transaction | State::Listing(..) | State::Body(Body { asked: false, .. }) => {
                Some(self.active.after(limits.idle_millis))
            }
            _ => None,
        }
    }
}

impl Server {
    /// The event of a signal. `None` would be a signal that does not fit the state, which no path makes.
    fn event(&self, signal: Signal) -> Option<Event<'_>> {
        Some(match signal {
            Signal::Connect => Event::Connect,
            Signal::StartTls => Event::StartTls,
            Signal::NeedBody { index, offset, max } => Event::NeedBody { index, offset, max },
            Signal::Update => Event::Update { deleted: &self.deleted },
            Signal::Login => {
                let State::AwaitLogin(login) = &self.state else { return None };
                Event::Auth(match login.as_ref() {
                    Login::Password { login, password } => sasl::Question::Verify {
                        mechanism: Mechanism::Login,
                        authorization: "",
                        login,
                        password,
                    },
                    Login::Sasl(exchange) => exchange.question()?,
                })
            }
        })
    }
}
