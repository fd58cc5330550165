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

use std::fmt::Write as _;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::body::Writer;
use super::command::{self, Command};
use crate::codec::base64;
use crate::codec::line::{Fault, Frame, Framer};
use crate::sasl::{self, Exchange, Mechanism, Progress};
use crate::session::{Next, Session, Step};
use crate::time::Time;

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

/// One message of a maildrop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Octets as RETR sends them, without dot-stuffing and without the final `.` line (RFC 1939 11).
    pub octets: u64,
    /// Its UID; with the maildrop's validity it makes the UIDL.
    pub uid: u32,
}

/// A maildrop as it stands when the session enters the TRANSACTION state. Frozen for the session.
#[derive(Clone, Debug, Default)]
pub struct Maildrop {
    /// UIDVALIDITY of the mailbox; part of every UIDL.
    pub validity: u32,
    /// The messages; message number n is at n - 1.
    pub entries: Vec<Entry>,
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

/// What a login is verified with.
enum Login {
    /// USER and PASS. To the verifier the same as the LOGIN mechanism, which copies them.
    Password { login: Box<str>, password: Zeroizing<String> },
    /// AUTH.
    Sasl(Exchange),
}

/// The listings of many lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listing {
    Sizes,
    Ids,
}

/// A message on its way to the client.
#[derive(Clone, Copy)]
struct Body {
    index: usize,
    offset: u64,
    writer: Writer,
    /// For RETR the octets to announce.
    octets: Option<u64>,
    /// The first line of the reply stands in the output.
    started: bool,
    /// The caller was asked and has not answered.
    asked: bool,
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

/// Codes of RFC 2449 8 and RFC 3206, with the space behind them.
mod code {
    pub(super) const NONE: &str = "";
    pub(super) const AUTH: &str = "[AUTH] ";
    pub(super) const IN_USE: &str = "[IN-USE] ";
    pub(super) const TEMPORARY: &str = "[SYS/TEMP] ";
    pub(super) const PERMANENT: &str = "[SYS/PERM] ";
}

/// The least that is asked for at once, so that a nearly full output does not lead to tiny reads.
const BODY_MIN: usize = 4096;

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
            self.set_state(if unread.is_empty() { State::Secured } else { State::Injected });
        }
    }

    /// The login is right and the maildrop is locked for this session. An answer to [`Event::Auth`].
    pub fn opened(&mut self, mut maildrop: Maildrop) {
        if matches!(self.state, State::AwaitLogin(_)) {
            maildrop.entries.shrink_to_fit();
            self.marks = Marks::of(&maildrop.entries);
            self.maildrop = maildrop;
            self.set_state(State::Opened);
        }
    }

    /// The login does not open a maildrop. An answer to [`Event::Auth`].
    pub fn denied(&mut self, denial: Denial) {
        if matches!(self.state, State::AwaitLogin(_)) {
            self.set_state(State::Denied(denial));
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
                        Frame::Line { length } => {
                            self.active = now;
                            *consumed += length + 2;
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

    /// A command in the AUTHORIZATION state.
    fn authorization(&mut self, command: Command<'_>, out: &mut Vec<u8>) -> Option<Signal> {
        match command {
            Command::Capa => self.capabilities(out),
            Command::Quit => {
                line(out, format_args!("+OK bye"));
                self.set_state(State::Closed);
            }
            Command::Stls => {
                if self.offers_stls() {
                    line(out, format_args!("+OK begin the TLS handshake"));
                    self.set_state(State::AwaitTls);
                    return Some(Signal::StartTls);
                }
                let text =
                    if self.offer.tls { "TLS is on already" } else { "TLS is not available" };
                self.fail(code::NONE, text, out);
            }
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } if !self.offer.login => {
                let text = if self.offers_stls() {
                    "logging in needs TLS: use STLS first"
                } else {
                    "logging in is not allowed on this connection"
                };
                self.fail(code::NONE, text, out);
            }
            Command::User(name) => {
                self.user = Some(name.into());
                // The same for every name: whether it exists is not told.
                line(out, format_args!("+OK now the password"));
            }
            Command::Pass(password) => {
                let Some(login) = self.user.take() else {
                    self.fail(code::NONE, "USER comes before PASS", out);
                    return None;
                };
                let password = Zeroizing::new(password.to_owned());
                self.set_state(State::AwaitLogin(Box::new(Login::Password { login, password })));
                return Some(Signal::Login);
            }
            Command::Auth { mechanism: None, .. } => {
                line(out, format_args!("+OK mechanisms follow"));
                for mechanism in Mechanism::ALL {
                    line(out, format_args!("{}", mechanism.name()));
                }
                line(out, format_args!("."));
            }
            Command::Auth { mechanism: Some(name), initial } => {
                let Some(mechanism) = Mechanism::from_name(name.as_bytes()) else {
                    self.fail(code::NONE, "unknown mechanism", out);
                    return None;
                };
                let exchange = Exchange::new(mechanism);
                let challenge = exchange.challenge();
                self.set_state(State::Exchange(Box::new(exchange)));
                match initial {
                    // A single equals sign is an empty response (RFC 5034 4).
                    Some("=") => return self.response(b"", out),
                    Some(text) => return self.response(text.as_bytes(), out),
                    None => return self.progress(challenge, out),
                }
            }
            _ => self.fail(code::NONE, "log in first", out),
        }
        None
    }

    /// The client's line in an AUTH exchange.
    fn response(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Signal> {
        if text == b"*" {
            self.set_state(State::Authorization);
            self.fail(code::NONE, "authentication was cancelled", out);
            return None;
        }
        let Some(response) = base64::decode(text) else {
            self.set_state(State::Authorization);
            self.fail(code::NONE, "the response is not Base64", out);
            return None;
        };
        let State::Exchange(exchange) = &mut self.state else { return None };
        let progress = exchange.respond(&response);
        self.progress(progress, out)
    }

    fn progress(&mut self, progress: Progress, out: &mut Vec<u8>) -> Option<Signal> {
        match progress {
            Progress::Challenge(text) => {
                let mut challenge = String::new();
                base64::encode(text.as_bytes(), &mut challenge);
                line(out, format_args!("+ {challenge}"));
                None
            }
            Progress::Malformed => {
                self.set_state(State::Authorization);
                self.fail(code::NONE, "the response does not have the mechanism's form", out);
                None
            }
            Progress::Ask => {
                let State::Exchange(exchange) =
                    std::mem::replace(&mut self.state, State::Authorization)
                else {
                    return None;
                };
                self.set_state(State::AwaitLogin(Box::new(Login::Sasl(*exchange))));
                Some(Signal::Login)
            }
        }
    }

    /// A command in the TRANSACTION state.
    fn transaction(&mut self, command: Command<'_>, out: &mut Vec<u8>) -> Option<Signal> {
        match command {
            Command::Capa => self.capabilities(out),
            Command::Stat => {
                line(out, format_args!("+OK {} {}", self.marks.count, self.marks.octets));
            }
            Command::List(None) => {
                let Marks { count, octets, .. } = self.marks;
                line(out, format_args!("+OK {count} messages ({octets} octets)"));
                self.set_state(State::Listing(Listing::Sizes, 0));
            }
            Command::Uidl(None) => {
                line(out, format_args!("+OK unique ids follow"));
                self.set_state(State::Listing(Listing::Ids, 0));
            }
            Command::List(Some(number)) => {
                if let Some((_, entry)) = self.message(number, out) {
                    line(out, format_args!("+OK {number} {}", entry.octets));
                }
            }
            Command::Uidl(Some(number)) => {
                if let Some((_, entry)) = self.message(number, out) {
                    let id = UniqueId(self.maildrop.validity, entry.uid);
                    line(out, format_args!("+OK {number} {id}"));
                }
            }
            Command::Retr(number) => {
                if let Some((index, entry)) = self.message(number, out) {
                    let body = Body::new(index, Writer::whole(), Some(entry.octets));
                    self.set_state(State::Body(body));
                }
            }
            Command::Top(number, lines) => {
                if let Some((index, _)) = self.message(number, out) {
                    self.set_state(State::Body(Body::new(index, Writer::top(lines), None)));
                }
            }
            Command::Dele(number) => {
                if let Some((index, entry)) = self.message(number, out) {
                    self.marks.delete(index, entry);
                    line(out, format_args!("+OK message {number} is marked as deleted"));
                }
            }
            Command::Rset => {
                self.marks = Marks::of(&self.maildrop.entries);
                let Marks { count, octets, .. } = self.marks;
                line(out, format_args!("+OK {count} messages ({octets} octets)"));
            }
            Command::Noop => line(out, format_args!("+OK")),
            Command::Quit => {
                let marks = &self.marks;
                self.deleted =
                    (0..self.maildrop.entries.len()).filter(|n| marks.is_deleted(*n)).collect();
                self.set_state(State::AwaitUpdate);
                return Some(Signal::Update);
            }
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } | Command::Stls => {
                self.fail(code::NONE, "you are logged in already", out);
            }
        }
        None
    }

    /// The message of this number unless it is marked as deleted. Otherwise the reply says what is wrong.
    fn message(&mut self, number: u32, out: &mut Vec<u8>) -> Option<(usize, Entry)> {
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        match index.and_then(|index| Some((index, *self.maildrop.entries.get(index)?))) {
            Some((index, _)) if self.marks.is_deleted(index) => {
                self.fail(code::NONE, "the message is marked as deleted", out);
                None
            }
            Some(found) => Some(found),
            None => {
                self.fail(code::NONE, "no such message", out);
                None
            }
        }
    }

    /// Goes on with a listing or a body, at most until the output is full.
    fn send(&mut self, out: &mut Vec<u8>) -> Option<Signal> {
        let full = self.config.limits.output_bytes;
        match &mut self.state {
            State::Body(body) => {
                body.asked = true;
                let max = full.saturating_sub(out.len()).max(BODY_MIN);
                return Some(Signal::NeedBody { index: body.index, offset: body.offset, max });
            }
            State::Listing(listing, next) => {
                while out.len() < full {
                    let index = *next;
                    let Some(entry) = self.maildrop.entries.get(index) else {
                        line(out, format_args!("."));
                        self.set_state(State::Transaction);
                        return None;
                    };
                    *next += 1;
                    if self.marks.is_deleted(index) {
                        continue;
                    }
                    let number = index + 1;
                    match listing {
                        Listing::Sizes => line(out, format_args!("{number} {}", entry.octets)),
                        Listing::Ids => {
                            let id = UniqueId(self.maildrop.validity, entry.uid);
                            line(out, format_args!("{number} {id}"));
                        }
                    }
                }
            }
            _ => {}
        }
        None
    }

    /// The reply to a login that failed.
    fn deny(&mut self, denial: Denial, out: &mut Vec<u8>) {
        match denial {
            Denial::Credentials => {
                self.login_failures = self.login_failures.saturating_add(1);
                self.fail(code::AUTH, "wrong login name or password", out);
                if self.login_failures >= self.config.limits.login_failures {
                    self.set_state(State::Closed);
                }
            }
            Denial::InUse => {
                self.fail(code::IN_USE, "another session has the maildrop open", out);
            }
            Denial::Temporary => {
                self.fail(
                    code::TEMPORARY,
                    "the maildrop cannot be opened now, try again later",
                    out,
                );
            }
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
            out.extend_from_slice(b"SASL");
            for mechanism in Mechanism::ALL {
                out.push(b' ');
                out.extend_from_slice(mechanism.name().as_bytes());
            }
            out.extend_from_slice(b"\r\n");
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

impl Body {
    fn new(index: usize, writer: Writer, octets: Option<u64>) -> Body {
        Body { index, offset: 0, writer, octets, started: false, asked: false }
    }

    /// The first line of the reply, once it is known that there are bytes.
    fn start(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.started, true) {
            match self.octets {
                Some(octets) => line(out, format_args!("+OK {octets} octets")),
                None => line(out, format_args!("+OK the top of the message follows")),
            }
        }
    }
}

/// Which messages are marked as deleted, and the sums of the others.
#[derive(Default)]
struct Marks {
    /// A bit for each message; empty while none is marked.
    bits: Vec<u64>,
    entries: usize,
    /// Messages not marked.
    count: usize,
    /// Their octets.
    octets: u64,
}

impl Marks {
    /// No marks.
    fn of(entries: &[Entry]) -> Marks {
        Marks {
            bits: Vec::new(),
            entries: entries.len(),
            count: entries.len(),
            octets: entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.octets)),
        }
    }

    fn is_deleted(&self, index: usize) -> bool {
        self.bits.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    fn delete(&mut self, index: usize, entry: Entry) {
        self.bits.resize(self.entries.div_ceil(64), 0);
        if let Some(word) = self.bits.get_mut(index / 64) {
            *word |= 1 << (index % 64);
            self.count = self.count.saturating_sub(1);
            self.octets = self.octets.saturating_sub(entry.octets);
        }
    }
}

/// What UIDL shows: UIDVALIDITY and UID.
struct UniqueId(u32, u32);

impl std::fmt::Display for UniqueId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}.{:08x}", self.0, self.1)
    }
}

/// Appends a line and CR LF.
fn line(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    struct Sink<'o>(&'o mut Vec<u8>);
    impl std::fmt::Write for Sink<'_> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    // Writing into memory does not fail.
    let _ = Sink(out).write_fmt(text);
    out.extend_from_slice(b"\r\n");
}
