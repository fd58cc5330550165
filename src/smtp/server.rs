//! The SMTP server machine: RFC 5321, with PIPELINING (2920), SIZE (1870), 8BITMIME (6152), SMTPUTF8 (6531),
//! ENHANCEDSTATUSCODES (2034, 3463), CHUNKING (3030), STARTTLS (3207) and AUTH (4954).
//!
//! # Method
//! `step` takes one unit from the front of the input: a command line, a piece of a message, a part of a chunk. What
//! the machine can answer by itself it answers; what needs a judgement becomes an event, and the machine pauses until
//! the verdict. Replies gather in the session and move to `out` with the next step, in order, so a pipelined group is
//! answered in one write. Nothing of the input is kept: a line that is not whole stays with the caller, whose buffer
//! must be able to hold [`Limits::longest_line`]; a message passes through as borrowed pieces.
//!
//! # Invariants
//! - Only CR LF ends a line, only CR LF `.` CR LF ends DATA. A bare CR or LF in a command line is answered 500 as
//!   soon as it is seen and everything up to the next CR LF is dropped: nothing behind it is ever a command. A bare
//!   CR, a bare LF or a NUL in a message (DATA or BDAT) drops the message: its end is still looked for by the one
//!   rule, then the answer is 554 5.6.0 and the session goes on. The connection stays open because nothing of such a
//!   body can become a command (CVE-2023-51764).
//! - A message over its limit is swallowed to its end and answered 552 5.3.4. Swallowing has an end too
//!   ([`Limits::swallowed_bytes`]); beyond it the connection is closed.
//! - BDAT eats its chunk whatever the answer, and the answer comes after it. A BDAT whose size cannot be told is
//!   answered 501 and the connection closed, because the octets behind it could be anything.
//! - After STARTTLS nothing is known of what came before. Plaintext that was sent behind STARTTLS closes the
//!   session without a word: an answer inside TLS would be an answer to what an attacker may have put in.
//! - A transaction that MAIL opened ends in exactly one of: `DataEnd` with its verdict, or `Reset`.
//! - Everything that is counted has a limit in [`Limits`]. A reply of class 5 beyond the budget is replaced by
//!   421 (the verdict on a message is said first), and so is the wait beyond a time-out.
//! - Same octets, same events, same output, however the input is cut.
//!
//! # Choices where the RFCs leave one
//! HELO or EHLO must come before MAIL. AUTH, STARTTLS and MAIL are refused inside a transaction. DATA refused by the
//! caller ends the transaction; DATA without an accepted recipient does not. The RCPT limit counts accepted
//! recipients. 8-bit text passes without BODY=8BITMIME. A refused greeting (5yz) leaves a session that answers QUIT,
//! and 503 to all else (RFC 5321 3.1); a greeting of 421 closes.

use std::mem;
use std::sync::Arc;

use crate::codec::address::Address;
use crate::codec::base64;
use crate::codec::body::{Decoder, Exact, Part};
use crate::codec::line::{Fault, Frame, Framer};
use crate::sasl;
use crate::session::{Next, Session, Step};
use crate::smtp::Reply;
use crate::smtp::command::{self, Verb};
use crate::smtp::reply;
use crate::time::Time;

/// Which rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Mail from other servers (RFC 5321).
    Smtp,
    /// Mail from users' programs: AUTH is needed before MAIL (RFC 6409).
    Submission,
}

/// What is the same for all connections of a listener.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Our name in greeting and EHLO reply.
    pub hostname: String,
    /// Which rules apply.
    pub dialect: Dialect,
    /// Every bound, by name.
    pub limits: Limits,
    /// Offer CHUNKING (RFC 3030).
    pub chunking: bool,
}

/// Every bound of a server session, by name.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest command line in octets, CR LF included, extensions' allowances included. Over: 500 5.5.2.
    pub command_line: usize,
    /// Longest line of an AUTH exchange (RFC 4954 4: 12288). Over: 500 5.5.6.
    pub auth_line: usize,
    /// Most octets of a message; announced in SIZE. Over: 552 5.3.4.
    pub message_bytes: u64,
    /// Most recipients of a transaction. Over: 452 4.5.3.
    pub recipients: u32,
    /// Most replies of class 5 or protocol errors before 421.
    pub errors: u32,
    /// Most transactions of a connection before 421.
    pub transactions: u32,
    /// Output above which `step` answers `Blocked`.
    pub output_bytes: usize,
    /// Milliseconds that the peer may take for its next command (RFC 5321 4.5.3.2.7: 5 minutes).
    pub command_millis: u64,
    /// Milliseconds that the peer may take for the next block of data (RFC 5321 4.5.3.2.5: 3 minutes).
    pub data_millis: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            command_line: 4096,
            auth_line: 12288,
            message_bytes: 50 << 20,
            recipients: 1000,
            errors: 20,
            transactions: 10_000,
            output_bytes: 16 << 10,
            command_millis: 300_000,
            data_millis: 180_000,
        }
    }
}

impl Limits {
    /// The longest line in octets, CR LF included: what the caller's input buffer must be able to hold.
    pub fn longest_line(&self) -> usize {
        self.command_line.max(self.auth_line)
    }

    /// Octets of a refused message that are swallowed before the connection is closed instead: four times what is
    /// accepted, and at least 16 MiB.
    pub fn swallowed_bytes(&self) -> u64 {
        self.message_bytes.saturating_mul(4).max(16 << 20)
    }
}

/// What is known of this connection when it begins, and again after TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// TLS is on.
    pub tls: bool,
    /// STARTTLS may be offered (never together with `tls`).
    pub starttls: bool,
    /// AUTH may be offered.
    pub auth: bool,
}

/// What a server session tells its caller. Those marked *pauses* need a verdict before the next step:
/// [`Server::accept`] for the machine's own positive reply, or [`Server::reply`].
#[derive(Debug)]
pub enum Event<'a> {
    /// The connection begins; nothing was sent yet. *Pauses*; a reply of 421 or 554 turns the peer away.
    Connect,
    /// HELO or EHLO. *Pauses*.
    Hello {
        /// What the peer calls itself.
        name: &'a [u8],
        /// EHLO.
        extended: bool,
    },
    /// The 220 stands in the output: write it out, make the TLS handshake, then call
    /// [`Server::tls_started`]. *Pauses*.
    StartTls,
    /// A mechanism asks. *Pauses* for [`Server::auth`].
    Auth(sasl::Question<'a>),
    /// MAIL. *Pauses*.
    Mail {
        /// The reverse-path; `None` is the null path `<>`.
        from: Option<&'a Address>,
        /// Its parameters.
        parameters: &'a MailParameters,
    },
    /// RCPT. *Pauses*.
    Rcpt {
        /// The forward-path.
        to: &'a Address,
    },
    /// DATA, or the first BDAT: the body is about to begin. *Pauses*; `accept` begins it.
    DataStart,
    /// A piece of the message: dots removed, CR LF kept. Borrowed from the input.
    DataChunk(&'a [u8]),
    /// The message is whole. *Pauses*: `accept`, or a reply, after it is safe.
    DataEnd {
        /// Its octets.
        size: u64,
    },
    /// The transaction is over without a message (RSET, EHLO, QUIT, an error, the end of the connection):
    /// forget what MAIL, RCPT and DataChunk brought. Does not pause.
    Reset,
    /// QUIT; the reply stands in the output. Does not pause.
    Quit,
}

/// MAIL's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// SIZE (RFC 1870), 0 when not given.
    pub size: u64,
    /// BODY=8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
}

/// A server session: one SMTP connection's protocol.
///
/// An idle session holds a few hundred octets; see `an_idle_session_is_small` in the tests.
pub struct Server {
    config: Arc<ServerConfig>,
    offer: Offer,
    state: State,
    pause: Pause,
    framer: Framer,
    /// Replies that stand in no output yet.
    pending: Vec<u8>,
    /// `pending` answers a chunk that is not eaten yet.
    hold: bool,
    hello: Vec<u8>,
    greeted: bool,
    extended: bool,
    authenticated: bool,
    /// The greeting was a refusal.
    turned_away: bool,
    exchange: Option<Box<sasl::Exchange>>,
    transaction: Transaction,
    sender: Address,
    recipient: Address,
    errors: u32,
    transactions: u32,
    /// Set when the machine waits for the peer, cleared when the peer made progress.
    deadline: Option<Time>,
    reset_owed: bool,
    shutting: bool,
    eof: bool,
}

/// What the next octets of the input are.
#[derive(Clone, Copy, Debug)]
enum State {
    /// The connection was not announced yet.
    Begin,
    /// A command line.
    Command,
    /// A response in an AUTH exchange.
    Response,
    /// DATA's text.
    Data(Decoder),
    /// A chunk of BDAT.
    Chunk { left: u64, last: bool },
    /// A refused chunk.
    Refused { left: u64 },
    /// Nobody reads them any more.
    Leaving,
}

/// Which verdict is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    None,
    Connect,
    Hello,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    Chunk,
    DataEnd,
}

/// A mail transaction, from MAIL to its end.
#[derive(Clone, Debug, Default)]
struct Transaction {
    open: bool,
    null_sender: bool,
    parameters: MailParameters,
    recipients: u32,
    /// A recipient was refused.
    refused: bool,
    /// The body comes by BDAT and has begun.
    chunked: bool,
    exact: Exact,
    /// Octets of the message so far.
    size: u64,
    /// Octets thrown away since the message failed.
    swallowed: u64,
    failure: Option<Failure>,
}

/// Why a message is thrown away although its octets still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    TooLarge,
    LineEnds,
    Nul,
    Shutdown,
}

impl Failure {
    fn reply(self) -> Reply<'static> {
        match self {
            Failure::TooLarge => TOO_LARGE,
            Failure::LineEnds => {
                Reply::new(554, 6, 0, "Message holds a bare CR or LF; lines end with CR LF")
            }
            Failure::Nul => Reply::new(554, 6, 0, "Message holds a NUL"),
            Failure::Shutdown => SHUTDOWN,
        }
    }
}

impl From<crate::codec::body::Fault> for Failure {
    fn from(fault: crate::codec::body::Fault) -> Failure {
        use crate::codec::body::Fault;
        match fault {
            Fault::BareCr | Fault::BareLf => Failure::LineEnds,
            Fault::Nul => Failure::Nul,
        }
    }
}

/// What a step found, without the borrows of an [`Event`].
#[derive(Clone, Copy, Debug)]
enum Signal {
    Connect,
    Hello,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    DataStart,
    /// A piece of the message: where it stands in what this unit consumed.
    Text {
        skip: usize,
        length: usize,
    },
    DataEnd,
    Reset,
    Quit,
    NeedInput,
    Blocked,
    Closed,
}

const OK: Reply<'static> = Reply::new(250, 0, 0, "Ok");
const TOO_LARGE: Reply<'static> = Reply::new(552, 3, 4, "Message is larger than this server takes");
const SHUTDOWN: Reply<'static> = Reply::new(421, 3, 2, "Shutting down, try again later");
const OUT_OF_PLACE: Reply<'static> = Reply::new(503, 5, 1, "Not now: a transaction is open");
const HELLO_FIRST: Reply<'static> = Reply::new(503, 5, 1, "EHLO or HELO comes first");
const NO_ARGUMENT: Reply<'static> = Reply::new(501, 5, 4, "This command takes no argument");
const NO_MAIL: Reply<'static> = Reply::new(503, 5, 1, "MAIL comes first");
const NO_RECIPIENT: Reply<'static> = Reply::new(503, 5, 1, "RCPT comes first");
const NO_VALID_RECIPIENT: Reply<'static> = Reply::new(554, 5, 1, "No valid recipients");
const NEEDS_SMTPUTF8: Reply<'static> =
    Reply::new(553, 6, 7, "An address beyond ASCII needs SMTPUTF8");

/// Octets of reply memory that a session keeps between steps.
const KEPT_OCTETS: usize = 128;

impl Server {
    /// A session for a new connection.
    pub fn new(config: Arc<ServerConfig>, offer: Offer, now: Time) -> Server {
        let deadline = now.after(config.limits.command_millis);
        Server {
            config,
            offer,
            state: State::Begin,
            pause: Pause::None,
            framer: Framer::default(),
            pending: Vec::new(),
            hold: false,
            hello: Vec::new(),
            greeted: false,
            extended: false,
            authenticated: false,
            turned_away: false,
            exchange: None,
            transaction: Transaction::default(),
            sender: Address::unset(),
            recipient: Address::unset(),
            errors: 0,
            transactions: 0,
            deadline: Some(deadline),
            reset_owed: false,
            shutting: false,
            eof: false,
        }
    }

    /// The machine's own positive answer to the event that pauses. Without such an event: no effect.
    pub fn accept(&mut self) {
        self.answer(None);
    }

    /// A reply to the event that pauses. A code of class 2 (3 for `DataStart`) accepts; every other refuses.
    ///
    /// A code that cannot stand in this place (354 to RCPT, 99, 250 to DATA) becomes 451. A 421 closes the session
    /// after it. When HELLO is accepted the machine's own text is sent, because it announces the extensions; when the
    /// first BDAT is accepted nothing is sent yet.
    pub fn reply(&mut self, reply: Reply<'_>) {
        self.answer(Some(reply));
    }

    /// The answer to [`Event::Auth`].
    pub fn auth(&mut self, verdict: sasl::Verdict) {
        if self.pause != Pause::Auth {
            return;
        }
        match verdict {
            sasl::Verdict::Accept => self.accept(),
            sasl::Verdict::Refuse => {
                self.reply(Reply::new(535, 7, 8, "Wrong login name or password"));
            }
            sasl::Verdict::Unavailable => {
                self.reply(Reply::new(454, 7, 0, "Cannot authenticate now, try again later"));
            }
        }
    }

    /// TLS is on: everything known before is forgotten (RFC 3207 4.2). `unread` is plaintext that came after
    /// STARTTLS in the clear and was not consumed: when it is not empty the session refuses to go on.
    ///
    /// The caller drops `unread`; the next step gets only what came through TLS.
    pub fn tls_started(&mut self, offer: Offer, unread: &[u8]) {
        if self.pause != Pause::StartTls {
            return;
        }
        self.pause = Pause::None;
        self.offer = Offer { tls: true, starttls: false, auth: offer.auth };
        self.framer = Framer::default();
        self.hello = Vec::new();
        self.greeted = false;
        self.extended = false;
        self.authenticated = false;
        self.exchange = None;
        self.deadline = None;
        if !unread.is_empty() {
            self.leave();
        }
    }

    /// The engine stops: 421 at the next place where a reply may stand, then `Closed`. A message whose
    /// end was already reported still gets its verdict first.
    ///
    /// A message that is still on its way is thrown away (`Reset` comes at once) and 421 stands at its end.
    pub fn shutdown(&mut self) {
        self.shutting = true;
    }

    /// Whether the peer is authenticated.
    pub fn authenticated(&self) -> bool {
        self.authenticated
    }

    /// What the peer called itself in its last HELO or EHLO; empty before.
    pub fn hello_name(&self) -> &[u8] {
        &self.hello
    }

    /// The keyword for `with` in a Received line: SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, UTF8SMTP...
    /// (RFC 3848, RFC 6531 4.3).
    pub fn with_keyword(&self) -> &'static str {
        let utf8 = self.transaction.parameters.smtputf8;
        match (self.extended, utf8, self.offer.tls, self.authenticated) {
            (_, true, false, false) => "UTF8SMTP",
            (_, true, true, false) => "UTF8SMTPS",
            (_, true, false, true) => "UTF8SMTPA",
            (_, true, true, true) => "UTF8SMTPSA",
            (false, ..) => "SMTP",
            (true, _, false, false) => "ESMTP",
            (true, _, true, false) => "ESMTPS",
            (true, _, false, true) => "ESMTPA",
            (true, _, true, true) => "ESMTPSA",
        }
    }

    /// What TLS and AUTH are on this connection now.
    pub fn offer(&self) -> Offer {
        self.offer
    }

    // ---- verdicts

    fn answer(&mut self, reply: Option<Reply<'_>>) {
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
                self.exchange = None;
                self.authenticated |= accepted;
                self.refuse(spoken(Reply::new(235, 7, 0, "Authenticated")));
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

    // ---- replies

    fn say(&mut self, reply: Reply<'_>) {
        let utf8 = self.transaction.parameters.smtputf8;
        reply::write(&mut self.pending, &reply, "", utf8);
    }

    fn say_with_host(&mut self, reply: Reply<'_>) {
        reply::write(&mut self.pending, &reply, &self.config.hostname, false);
    }

    /// Says any reply, and draws what follows from its code: an error counts, 421 ends the session.
    fn refuse(&mut self, reply: Reply<'_>) {
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
    fn refuse_chunk(&mut self, reply: Reply<'_>) {
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
        if self.offer.auth {
            let names: Vec<_> = sasl::Mechanism::ALL.iter().map(|m| m.name()).collect();
            line(out, b"-", format!("AUTH {}", names.join(" ")).as_bytes());
        }
        line(out, b" ", b"ENHANCEDSTATUSCODES");
    }

    // ---- transitions

    /// The session ends: what stands in `pending` is still sent, nothing is read any more.
    fn leave(&mut self) {
        self.state = State::Leaving;
        self.deadline = None;
        self.hold = false;
        self.exchange = None;
        self.abandon();
    }

    /// The transaction, if there is one, ends without a message.
    fn abandon(&mut self) {
        if self.transaction.open {
            self.reset_owed = true;
            self.transaction = Transaction::default();
        }
    }

    /// The message fails while its octets still come.
    fn fail(&mut self, failure: Failure) {
        if self.transaction.failure.is_none() {
            self.abandon();
            self.transaction.failure = Some(failure);
        }
    }

    /// The peer must act now: until when?
    fn wait(&mut self, now: Time) -> Option<Signal> {
        if self.eof {
            self.leave();
            return None;
        }
        let limits = &self.config.limits;
        let millis = match self.state {
            State::Data(_) | State::Chunk { .. } | State::Refused { .. } => limits.data_millis,
            _ => limits.command_millis,
        };
        let deadline = *self.deadline.get_or_insert(now.after(millis));
        if now < deadline {
            return Some(Signal::NeedInput);
        }
        self.time_out();
        None
    }

    fn time_out(&mut self) {
        if self.hold {
            self.pending.clear();
        }
        self.say_with_host(Reply::new(421, 4, 2, "Waited too long, closing the connection"));
        self.leave();
    }

    fn stop(&mut self) {
        self.say_with_host(SHUTDOWN);
        self.leave();
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        if !self.hold && !self.pending.is_empty() {
            out.extend_from_slice(&self.pending);
            self.pending.clear();
            if self.pending.capacity() > KEPT_OCTETS {
                self.pending = Vec::new();
            }
        }
    }

    /// Takes units from the input until one needs the caller. Answers what was consumed, and where in the input the
    /// signal's unit begins.
    fn run(&mut self, now: Time, input: &[u8], out: &mut Vec<u8>) -> (usize, usize, Signal) {
        let mut at = 0;
        loop {
            self.flush(out);
            if mem::take(&mut self.reset_owed) {
                return (at, at, Signal::Reset);
            }
            if self.pause != Pause::None {
                return (at, at, Signal::NeedInput);
            }
            if matches!(self.state, State::Leaving) {
                return (input.len(), input.len(), Signal::Closed);
            }
            if out.len() >= self.config.limits.output_bytes {
                let deadline = now.after(self.config.limits.command_millis);
                if now < *self.deadline.get_or_insert(deadline) {
                    return (at, at, Signal::Blocked);
                }
                self.time_out();
                continue;
            }
            let rest = input.get(at..).unwrap_or_default();
            let (consumed, signal) = self.unit(now, rest);
            let begin = at;
            at += consumed;
            if let Some(signal) = signal {
                self.flush(out);
                return (at, begin, signal);
            }
        }
    }

    /// Takes one unit.
    fn unit(&mut self, now: Time, input: &[u8]) -> (usize, Option<Signal>) {
        match self.state {
            State::Begin => {
                self.deadline = None;
                if self.shutting {
                    self.stop();
                    return (0, None);
                }
                self.pause = Pause::Connect;
                (0, Some(Signal::Connect))
            }
            State::Command => self.line(now, input),
            State::Response => self.line(now, input),
            State::Data(decoder) => self.text(now, input, decoder),
            State::Chunk { left, last } => self.chunk(now, input, left, last),
            State::Refused { left } => self.refused(now, input, left),
            State::Leaving => (0, Some(Signal::Closed)),
        }
    }

    // ---- lines

    fn line(&mut self, now: Time, input: &[u8]) -> (usize, Option<Signal>) {
        if self.shutting {
            self.stop();
            return (0, None);
        }
        let limits = &self.config.limits;
        let response = matches!(self.state, State::Response);
        let auth = self.offer.auth
            && input.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        let limit = if response || auth { limits.longest_line() } else { limits.command_line };
        match self.framer.next(input, limit) {
            Frame::Line { length } => {
                self.deadline = None;
                let line = input.get(..length).unwrap_or_default();
                let signal = if response { self.response(line) } else { self.command(line) };
                match signal {
                    // The transaction ends first; the command comes again.
                    Some(Signal::Reset) => (0, Some(Signal::Reset)),
                    signal => (length + 2, signal),
                }
            }
            Frame::Skipped { skip } => {
                self.deadline = None;
                (skip, None)
            }
            Frame::Incomplete { skip } => (skip, self.wait(now)),
            Frame::Refused(fault) => {
                if response {
                    self.exchange = None;
                    self.state = State::Command;
                }
                self.refuse(match fault {
                    Fault::TooLong if response || auth => {
                        Reply::new(500, 5, 6, "Authentication exchange line is too long")
                    }
                    Fault::TooLong => Reply::new(500, 5, 2, "Line too long"),
                    Fault::BareCr => Reply::new(500, 5, 2, "Bare CR; lines end with CR LF"),
                    Fault::BareLf => Reply::new(500, 5, 2, "Bare LF; lines end with CR LF"),
                });
                (0, None)
            }
        }
    }

    fn command(&mut self, line: &[u8]) -> Option<Signal> {
        if line.iter().any(|b| *b < b' ' || *b == 0x7f) {
            self.refuse(Reply::new(500, 5, 2, "Control character in a command line"));
            return None;
        }
        let (verb, argument) = command::split(line);
        if self.turned_away && !matches!(verb, Verb::Quit | Verb::Bdat) {
            self.refuse(Reply::new(503, 5, 1, "No service here; only QUIT is answered"));
            return None;
        }
        match self.dispatch(verb, argument) {
            Ok(signal) => signal,
            Err(reply) => {
                self.refuse(reply);
                None
            }
        }
    }

    fn dispatch(&mut self, verb: Verb, argument: &[u8]) -> Result<Option<Signal>, Reply<'static>> {
        let bare = || if argument.is_empty() { Ok(()) } else { Err(NO_ARGUMENT) };
        match verb {
            Verb::Ehlo | Verb::Helo => return self.hello(argument, verb == Verb::Ehlo),
            Verb::Mail => return self.mail(argument),
            Verb::Rcpt => return self.rcpt(argument),
            Verb::Data => {
                bare()?;
                return self.data();
            }
            Verb::Bdat => return Ok(self.bdat(argument)),
            Verb::StartTls => {
                bare()?;
                return self.start_tls();
            }
            Verb::Auth => return self.authenticate(argument),
            Verb::Rset | Verb::Quit => {
                bare()?;
                if self.transaction.open {
                    self.transaction = Transaction::default();
                    return Ok(Some(Signal::Reset));
                }
                if verb == Verb::Quit {
                    self.say_with_host(Reply::new(221, 0, 0, "closing the connection"));
                    self.leave();
                    return Ok(Some(Signal::Quit));
                }
                self.say(OK);
            }
            Verb::Noop => self.say(OK),
            Verb::Vrfy if argument.is_empty() => {
                return Err(Reply::new(501, 5, 4, "Syntax: VRFY address"));
            }
            Verb::Vrfy => {
                self.say(Reply::new(252, 0, 0, "Not told here; send mail to find out"));
            }
            Verb::Help => self.say(Reply::new(
                214,
                0,
                0,
                "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH",
            )),
            Verb::Withheld => return Err(Reply::new(502, 5, 1, "Command not available here")),
            Verb::Unknown => return Err(Reply::new(500, 5, 1, "Command not recognized")),
        }
        Ok(None)
    }

    fn hello(&mut self, argument: &[u8], extended: bool) -> Result<Option<Signal>, Reply<'static>> {
        let name = command::hello(argument)?;
        if self.transaction.open {
            self.transaction = Transaction::default();
            return Ok(Some(Signal::Reset));
        }
        self.hello.clear();
        self.hello.extend_from_slice(name);
        self.extended = extended;
        self.pause = Pause::Hello;
        Ok(Some(Signal::Hello))
    }

    fn start_tls(&mut self) -> Result<Option<Signal>, Reply<'static>> {
        if self.offer.tls {
            return Err(Reply::new(503, 5, 1, "TLS is on already"));
        }
        if !self.offer.starttls {
            return Err(Reply::new(502, 5, 1, "STARTTLS is not offered"));
        }
        if !self.greeted {
            return Err(HELLO_FIRST);
        }
        if self.transaction.open {
            return Err(OUT_OF_PLACE);
        }
        self.say(Reply::new(220, 0, 0, "Ready to start TLS"));
        self.pause = Pause::StartTls;
        Ok(Some(Signal::StartTls))
    }

    // ---- AUTH (RFC 4954 4)

    fn authenticate(&mut self, argument: &[u8]) -> Result<Option<Signal>, Reply<'static>> {
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
            return Err(Reply::new(503, 5, 1, "EHLO comes first"));
        }
        let (mechanism, initial) = command::auth(argument)?;
        let mut exchange = Box::new(sasl::Exchange::new(mechanism));
        let progress = match initial {
            None => exchange.challenge(),
            Some(b"=") => exchange.respond(b""),
            Some(text) => exchange.respond(&base64::decode(text).ok_or(NOT_BASE64)?),
        };
        self.exchange = Some(exchange);
        Ok(self.progress(progress))
    }

    fn response(&mut self, line: &[u8]) -> Option<Signal> {
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
        self.progress(progress.unwrap_or(sasl::Progress::Malformed))
    }

    fn progress(&mut self, progress: sasl::Progress) -> Option<Signal> {
        match progress {
            sasl::Progress::Challenge(text) => {
                let mut line = String::from("334 ");
                base64::encode(text.as_bytes(), &mut line);
                line.push_str("\r\n");
                self.pending.extend_from_slice(line.as_bytes());
                self.state = State::Response;
                None
            }
            sasl::Progress::Ask => {
                self.pause = Pause::Auth;
                Some(Signal::Auth)
            }
            sasl::Progress::Malformed => {
                self.exchange = None;
                self.refuse(Reply::new(501, 5, 2, "The response does not fit the mechanism"));
                None
            }
        }
    }

    // ---- the envelope

    fn mail(&mut self, argument: &[u8]) -> Result<Option<Signal>, Reply<'static>> {
        if !self.greeted {
            return Err(HELLO_FIRST);
        }
        if self.transaction.open {
            return Err(OUT_OF_PLACE);
        }
        if self.config.dialect == Dialect::Submission && !self.authenticated {
            return Err(Reply::new(530, 7, 0, "Authentication required"));
        }
        if self.transactions >= self.config.limits.transactions {
            return Err(Reply::new(421, 7, 0, "Too many messages on one connection"));
        }
        let mail = command::mail(argument)?;
        let utf8 = mail.parameters.smtputf8;
        let null_sender = mail.mailbox.is_empty();
        if !null_sender && !self.sender.set(mail.mailbox, utf8) {
            return Err(refusal(mail.mailbox, utf8, command::BAD_SENDER));
        }
        if !null_sender && self.sender.domain().is_none() {
            return Err(command::BAD_SENDER);
        }
        if mail.parameters.size > self.config.limits.message_bytes {
            return Err(TOO_LARGE);
        }
        self.transaction =
            Transaction { null_sender, parameters: mail.parameters, ..Transaction::default() };
        self.pause = Pause::Mail;
        Ok(Some(Signal::Mail))
    }

    fn rcpt(&mut self, argument: &[u8]) -> Result<Option<Signal>, Reply<'static>> {
        if !self.transaction.open {
            return Err(NO_MAIL);
        }
        if self.transaction.chunked {
            return Err(OUT_OF_PLACE);
        }
        let mailbox = command::rcpt(argument)?;
        let utf8 = self.transaction.parameters.smtputf8;
        if !self.recipient.set(mailbox, utf8) {
            self.transaction.refused = true;
            return Err(refusal(mailbox, utf8, command::BAD_RECIPIENT));
        }
        if self.transaction.recipients >= self.config.limits.recipients {
            return Err(Reply::new(452, 5, 3, "Too many recipients"));
        }
        self.pause = Pause::Rcpt;
        Ok(Some(Signal::Rcpt))
    }

    /// Whether a body may come.
    fn body_may_come(&self) -> Result<(), Reply<'static>> {
        match &self.transaction {
            t if !t.open => Err(NO_MAIL),
            t if t.recipients > 0 => Ok(()),
            t if t.refused => Err(NO_VALID_RECIPIENT),
            _ => Err(NO_RECIPIENT),
        }
    }

    // ---- DATA

    fn data(&mut self) -> Result<Option<Signal>, Reply<'static>> {
        if self.transaction.chunked {
            return Err(Reply::new(503, 5, 1, "The message comes by BDAT"));
        }
        self.body_may_come()?;
        self.pause = Pause::Data;
        Ok(Some(Signal::DataStart))
    }

    fn text(&mut self, now: Time, input: &[u8], mut decoder: Decoder) -> (usize, Option<Signal>) {
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
            Part::Fault { skip, fault } => {
                self.deadline = None;
                self.fail(fault.into());
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
            self.refuse(failure.reply());
            self.leave();
        }
    }

    fn message_end(&mut self) -> Option<Signal> {
        if let Some(failure) = self.transaction.failure {
            self.transaction = Transaction::default();
            match failure {
                Failure::Shutdown => self.stop(),
                _ => self.refuse(failure.reply()),
            }
            return None;
        }
        if self.shutting {
            self.stop();
            return None;
        }
        self.pause = Pause::DataEnd;
        Some(Signal::DataEnd)
    }

    // ---- BDAT (RFC 3030 2)

    fn bdat(&mut self, argument: &[u8]) -> Option<Signal> {
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
        let total = self.transaction.size.checked_add(size);
        let refusal = if self.turned_away || !self.greeted {
            Some(HELLO_FIRST)
        } else if !self.config.chunking {
            Some(Reply::new(502, 5, 1, "CHUNKING is not offered"))
        } else if let Err(reply) = self.body_may_come() {
            Some(reply)
        } else if total.is_none_or(|total| total > self.config.limits.message_bytes) {
            self.abandon();
            Some(TOO_LARGE)
        } else {
            None
        };
        if let Some(reply) = refusal {
            self.refuse_chunk(reply);
            return None;
        }
        if self.transaction.chunked {
            return None;
        }
        self.pause = Pause::Chunk;
        Some(Signal::DataStart)
    }

    fn chunk(&mut self, now: Time, input: &[u8], left: u64, last: bool) -> (usize, Option<Signal>) {
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
            self.abandon();
            self.refuse_chunk(Failure::from(fault).reply());
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
            self.abandon();
            self.refuse(Failure::from(fault).reply());
            return None;
        }
        self.message_end()
    }

    fn refused(&mut self, now: Time, input: &[u8], left: u64) -> (usize, Option<Signal>) {
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

const TOO_MANY_ERRORS: Reply<'static> = Reply::new(421, 7, 0, "Too many errors");
const NOT_BASE64: Reply<'static> = Reply::new(501, 5, 2, "The response is not Base64");

/// Why an address is refused: because it needs SMTPUTF8, or because it is none.
fn refusal(mailbox: &[u8], utf8: bool, syntax: Reply<'static>) -> Reply<'static> {
    if !utf8 && Address::parse(mailbox, true).is_some() { NEEDS_SMTPUTF8 } else { syntax }
}

impl Session for Server {
    type Event<'a> = Event<'a>;

    /// See the [law](crate::session). While a verdict is awaited, `step` consumes nothing and answers `NeedInput`.
    fn step<'a>(&'a mut self, now: Time, input: &'a [u8], out: &mut Vec<u8>) -> Step<Event<'a>> {
        let (consumed, begin, signal) = self.run(now, input, out);
        let event = match signal {
            Signal::NeedInput => return Step { consumed, next: Next::NeedInput },
            Signal::Blocked => return Step { consumed, next: Next::Blocked },
            Signal::Closed => return Step { consumed, next: Next::Closed },
            Signal::Connect => Event::Connect,
            Signal::Hello => Event::Hello { name: &self.hello, extended: self.extended },
            Signal::StartTls => Event::StartTls,
            Signal::Auth => match self.exchange.as_ref().and_then(|e| e.question()) {
                Some(question) => Event::Auth(question),
                // Unreachable: `Ask` means that there is a question.
                None => return Step { consumed, next: Next::NeedInput },
            },
            Signal::Mail => Event::Mail {
                from: (!self.transaction.null_sender).then_some(&self.sender),
                parameters: &self.transaction.parameters,
            },
            Signal::Rcpt => Event::Rcpt { to: &self.recipient },
            Signal::DataStart => Event::DataStart,
            Signal::Text { skip, length } => {
                let from = begin + skip;
                Event::DataChunk(input.get(from..from + length).unwrap_or_default())
            }
            Signal::DataEnd => Event::DataEnd { size: self.transaction.size },
            Signal::Reset => Event::Reset,
            Signal::Quit => Event::Quit,
        };
        Step { consumed, next: Next::Event(event) }
    }

    fn eof(&mut self, now: Time) {
        let _ = now;
        self.eof = true;
    }

    fn deadline(&self) -> Option<Time> {
        if self.pause == Pause::None { self.deadline } else { None }
    }
}
