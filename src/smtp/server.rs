//! The SMTP server machine: RFC 5321 and LMTP (RFC 2033), with PIPELINING (2920), SIZE (1870), 8BITMIME (6152), SMTPUTF8
//! (6531), ENHANCEDSTATUSCODES (2034, 3463), CHUNKING and BINARYMIME (3030), DSN (3461, 6533), STARTTLS (3207), AUTH (4954),
//! LIMITS (9422), REQUIRETLS (8689), DELIVERBY (2852), FUTURERELEASE (4865), MT-PRIORITY (6710), ETRN (1985) and XCLIENT.
//! Which of them are offered is said in [`Extensions`].
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
//!   CR, a bare LF or a NUL in a message (DATA, or BDAT but for BODY=BINARYMIME) drops the message: its end is still looked for by the one
//!   rule, then the answer is 554 5.6.0 and the session goes on. The connection stays open because nothing of such a
//!   body can become a command (CVE-2023-51764).
//! - A message over its limit is swallowed to its end and answered 552 5.3.4. Swallowing has an end too
//!   ([`Limits::swallowed_bytes`]); beyond it the connection is closed.
//! - BDAT eats its chunk whatever the answer, and the answer comes after it. A BDAT whose size cannot be told is
//!   answered 501 and the connection closed, because the octets behind it could be anything.
//! - After STARTTLS nothing is known of what came before. Plaintext that was sent behind STARTTLS closes the
//!   session without a word: an answer inside TLS would be an answer to what an attacker may have put in.
//! - A transaction that MAIL opened ends in exactly one of: `DataEnd` with its verdict, or `Reset`.
//! - In LMTP the end of a message (the dot, BDAT LAST) is answered once for each accepted recipient, in their order, also
//!   when the machine itself refuses the message (RFC 2033 4.2). Answers that are the same for all are written as the
//!   output drains; they are never in memory all at once.
//! - Everything that is counted has a limit in [`Limits`]. A reply of class 5 beyond the budget is replaced by
//!   421 (the verdict on a message is said first), and so is the wait beyond a time-out.
//! - Same octets, same events, same output, however the input is cut.
//!
//! # Choices where the RFCs leave one
//! HELO or EHLO must come before MAIL. AUTH, STARTTLS and MAIL are refused inside a transaction. DATA refused by the
//! caller ends the transaction; DATA without an accepted recipient does not. The RCPT limit counts accepted
//! recipients. 8-bit text passes without BODY=8BITMIME. A refused greeting (5yz) leaves a session that answers QUIT,
//! and 503 to all else (RFC 5321 3.1); a greeting of 421 closes. After XCLIENT the session is a new one, for the client that
//! the proxy named: the greeting comes again, TLS stays. In LMTP, a BDAT that fails before its LAST still owes the LAST a
//! reply for each recipient, because that is what the peer counts on.

mod auth;
mod body;
mod line;
mod phrase;
mod verdict;

use self::phrase::{SHUTDOWN, TOO_LARGE};
use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use crate::codec::address::Address;
use crate::codec::body::{Decoder, Exact};
use crate::codec::line::Framer;
use crate::sasl;
use crate::session::{Next, Session, Step};
use crate::smtp::Reply;
use crate::smtp::extension::Extensions;
use crate::smtp::parameter::Memory;
pub use crate::smtp::parameter::{MailParameters, RcptParameters};
pub use crate::smtp::xclient::Forwarded;
use crate::time::Time;

/// Which rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Mail from other servers (RFC 5321).
    Smtp,
    /// Mail from users' programs: AUTH is needed before MAIL (RFC 6409).
    Submission,
    /// Local delivery: LHLO, and a reply for each recipient at a message's end (RFC 2033). Not for port 25.
    Lmtp,
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
    /// What is offered.
    pub extensions: Extensions,
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
    /// Most different domains of a transaction's recipients; 0: they are not counted. Over: 452 4.5.3.
    pub recipient_domains: u32,
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
            recipient_domains: 0,
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
        /// EHLO or LHLO.
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
        /// Its parameters.
        parameters: &'a RcptParameters,
    },
    /// DATA, or the first BDAT: the body is about to begin. *Pauses*; `accept` begins it.
    DataStart,
    /// A piece of the message: dots removed, CR LF kept. Borrowed from the input.
    DataChunk(&'a [u8]),
    /// The message is whole. *Pauses*: `accept`, or a reply, after it is safe. In LMTP [`Server::reply_recipient`] once
    /// for each accepted recipient, or `accept` or `reply` once for all.
    DataEnd {
        /// Its octets.
        size: u64,
    },
    /// The transaction is over without a message (RSET, EHLO, QUIT, an error, the end of the connection):
    /// forget what MAIL, RCPT and DataChunk brought. Does not pause.
    Reset,
    /// QUIT; the reply stands in the output. Does not pause.
    Quit,
    /// VRFY, where [`Lookup::Asked`](crate::smtp::extension::Lookup). *Pauses*; `accept` answers 252.
    Verify {
        /// What is asked for: printable ASCII, or UTF-8 when `smtputf8`. Not judged.
        text: &'a [u8],
        /// The reply's text may be UTF-8 (RFC 6531 3.7.4.2).
        smtputf8: bool,
    },
    /// EXPN, where [`Lookup::Asked`](crate::smtp::extension::Lookup). *Pauses*; `accept` answers 252.
    Expand {
        /// What is asked for: printable ASCII, or UTF-8 when `smtputf8`. Not judged.
        text: &'a [u8],
        /// The reply's text may be UTF-8 (RFC 6531 3.7.4.2).
        smtputf8: bool,
    },
    /// ETRN. *Pauses*; `accept` answers 250; 251, 252, 253, 458 and 459 have their meanings in RFC 1985 5.
    Etrn {
        /// A domain; `@` in front: its subdomains too; `#` in front: a queue by name.
        node: &'a [u8],
    },
    /// XCLIENT from a trusted peer: the connection is in truth that of another client. *Pauses*; `accept` greets it; a reply
    /// of 421 or 554 turns it away. What was known before is forgotten; LOGIN makes the session authenticated.
    Forwarded(&'a Forwarded),
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
    /// The peer may use XCLIENT.
    trusted: bool,
    forwarded: Option<Box<Forwarded>>,
    choice: sasl::Choice,
    transaction: Transaction,
    sender: Address,
    recipient: Address,
    rcpt_parameters: RcptParameters,
    memory: Memory,
    /// Domains of the accepted recipients, where they are counted.
    domains: BTreeSet<String>,
    /// In LMTP: the recipients of a message that failed by BDAT before its LAST.
    lost_recipients: u32,
    /// A reply that is still owed to several recipients.
    repeat: Option<Box<Repeat>>,
    errors: u32,
    /// Lines that came, whole ones.
    lines: u32,
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
    Verify { smtputf8: bool },
    Expand { smtputf8: bool },
    Etrn,
    Forwarded,
}

/// Octets that go out again and again.
#[derive(Clone, Debug)]
struct Repeat {
    text: Vec<u8>,
    left: u32,
}

/// A mail transaction, from MAIL to its end.
#[derive(Clone, Debug, Default)]
struct Transaction {
    open: bool,
    null_sender: bool,
    parameters: MailParameters,
    recipients: u32,
    /// In LMTP: recipients that have their reply at the message's end.
    answered: u32,
    /// In LMTP: a recipient's reply was no refusal for ever.
    kept: bool,
    /// In LMTP: a recipient's reply was 421.
    last_word: bool,
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

impl Transaction {
    /// There is none; the memory of its parameters is kept.
    fn clear(&mut self, memory: &mut Memory) {
        self.parameters.clear(memory);
        let parameters = mem::take(&mut self.parameters);
        *self = Transaction { parameters, ..Transaction::default() };
    }
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
    /// A line's end that the client wrote as a bare LF.
    LineEnd,
    DataEnd,
    Reset,
    Quit,
    /// What is asked for: where it stands in what this unit consumed.
    Verify {
        skip: usize,
        length: usize,
        smtputf8: bool,
    },
    /// As `Verify`.
    Expand {
        skip: usize,
        length: usize,
        smtputf8: bool,
    },
    /// As `Verify`.
    Etrn {
        skip: usize,
        length: usize,
    },
    Forwarded,
    NeedInput,
    Blocked,
    Closed,
}

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
            trusted: false,
            forwarded: None,
            choice: sasl::Choice::default(),
            transaction: Transaction::default(),
            sender: Address::unset(),
            recipient: Address::unset(),
            rcpt_parameters: RcptParameters::default(),
            memory: Memory::default(),
            domains: BTreeSet::new(),
            lost_recipients: 0,
            repeat: None,
            errors: 0,
            lines: 0,
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

    /// In LMTP: the reply for the next accepted recipient at [`Event::DataEnd`]; the last one ends the pause. Elsewhere it
    /// is [`Server::reply`]. Without such an event: no effect.
    ///
    /// Every recipient's verdict stands for itself; a code of class 2 says that the message is safe for this recipient.
    pub fn reply_recipient(&mut self, reply: Reply<'_>) {
        if self.pause == Pause::DataEnd && self.config.dialect == Dialect::Lmtp {
            self.answer_recipient(reply);
        } else {
            self.answer(Some(reply));
        }
    }

    /// In LMTP at [`Event::DataEnd`]: how many accepted recipients have no reply yet. Else 0.
    pub fn recipients_unanswered(&self) -> u32 {
        if self.pause == Pause::DataEnd && self.config.dialect == Dialect::Lmtp {
            self.transaction.recipients.saturating_sub(self.transaction.answered)
        } else {
            0
        }
    }

    /// The peer is a proxy that may speak for others: XCLIENT is offered to it, if [`Extensions::xclient`]. Call it
    /// before the first step.
    pub fn trust_peer(&mut self) {
        self.trusted = true;
    }

    /// Whether AUTH is offered from now on: at [`Event::Forwarded`], where another peer than before may be meant.
    pub fn offer_auth(&mut self, auth: bool) {
        self.offer.auth = auth;
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
        self.choice.forget_channel();
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

    /// How many lines the peer has sent (commands, and answers in a login), and how many errors count against it.
    pub fn figures(&self) -> (u32, u32) {
        (self.lines, self.errors)
    }

    /// Whether the peer is authenticated.
    pub fn authenticated(&self) -> bool {
        self.authenticated
    }

    /// What the peer called itself in its last HELO or EHLO; empty before.
    pub fn hello_name(&self) -> &[u8] {
        &self.hello
    }

    /// The keyword for `with` in a Received line: SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, LMTP, UTF8SMTP...
    /// (RFC 3848, RFC 6531 4.3).
    pub fn with_keyword(&self) -> &'static str {
        let utf8 = self.transaction.parameters.smtputf8;
        if self.config.dialect == Dialect::Lmtp {
            return match (utf8, self.offer.tls, self.authenticated) {
                (false, false, false) => "LMTP",
                (false, true, false) => "LMTPS",
                (false, false, true) => "LMTPA",
                (false, true, true) => "LMTPSA",
                (true, false, false) => "UTF8LMTP",
                (true, true, false) => "UTF8LMTPS",
                (true, false, true) => "UTF8LMTPA",
                (true, true, true) => "UTF8LMTPSA",
            };
        }
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

    /// Octets of memory that the session holds now, itself included, the shared configuration not.
    pub fn memory_bytes(&self) -> usize {
        let exchange = self.exchange.as_ref().map_or(0, |e| e.memory_bytes());
        mem::size_of::<Server>()
            + self.pending.capacity()
            + self.hello.capacity()
            + self.sender.memory_bytes()
            + self.recipient.memory_bytes()
            + self.rcpt_parameters.orcpt.as_ref().map_or(0, |o| o.memory_bytes())
            + self.transaction.parameters.envid.as_ref().map_or(0, |e| e.memory_bytes())
            + self.transaction.parameters.auth.as_ref().map_or(0, |a| a.memory_bytes())
            + self.memory.bytes()
            + self.domains.iter().map(|d| d.capacity() + 64).sum::<usize>()
            + self.repeat.as_ref().map_or(0, |r| r.text.capacity() + size_of::<Repeat>())
            + self.forwarded.as_ref().map_or(0, |f| f.memory_bytes())
            + exchange
            + self.choice.memory_bytes()
    }

    /// What TLS and AUTH are on this connection now.
    pub fn offer(&self) -> Offer {
        self.offer
    }

    /// The session ends: what stands in `pending` is still sent, nothing is read any more.
    fn leave(&mut self) {
        self.state = State::Leaving;
        self.deadline = None;
        self.hold = false;
        self.exchange = None;
        self.lost_recipients = 0;
        self.abandon();
    }

    /// The transaction, if there is one, ends without a message.
    fn abandon(&mut self) {
        if self.transaction.open {
            self.reset_owed = true;
            self.close_transaction();
        }
    }

    /// The transaction is over; memory that only it needs is given back.
    fn close_transaction(&mut self) {
        self.transaction.clear(&mut self.memory);
        self.domains.clear();
        self.rcpt_parameters.clear(&mut self.memory);
        self.memory.shrink(KEPT_OCTETS);
    }

    /// The message fails while its octets still come.
    fn fail(&mut self, failure: Failure) {
        if self.transaction.failure.is_none() {
            let recipients = self.transaction.recipients;
            self.abandon();
            self.transaction.failure = Some(failure);
            self.transaction.recipients = recipients;
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
        self.repeat = None;
        self.say_with_host(Reply::new(421, 4, 2, "Waited too long, closing the connection"));
        self.leave();
    }

    fn stop(&mut self) {
        self.say_with_host(SHUTDOWN);
        self.leave();
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        // The caller forgets the transaction before the peer hears that it is over.
        if !self.hold && !self.reset_owed && !self.pending.is_empty() {
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
            if mem::take(&mut self.reset_owed) {
                return (at, at, Signal::Reset);
            }
            self.flush(out);
            if self.pause != Pause::None {
                return (at, at, Signal::NeedInput);
            }
            if self.repeat.is_some() && !self.hold && !self.say_again(out) {
                if !self.is_blocked(now) {
                    continue;
                }
                return (at, at, Signal::Blocked);
            }
            if matches!(self.state, State::Leaving) {
                return (input.len(), input.len(), Signal::Closed);
            }
            if out.len() >= self.config.limits.output_bytes {
                if !self.is_blocked(now) {
                    continue;
                }
                return (at, at, Signal::Blocked);
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

    /// Writes what is owed to several recipients, as much as the output takes; whether that was all.
    fn say_again(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(repeat) = &mut self.repeat else { return true };
        while repeat.left > 0 && out.len() < self.config.limits.output_bytes {
            out.extend_from_slice(&repeat.text);
            repeat.left = repeat.left.saturating_sub(1);
        }
        let done = repeat.left == 0;
        if done {
            self.repeat = None;
        }
        done
    }

    /// The output is full: whether the peer may still take its time to read it.
    fn is_blocked(&mut self, now: Time) -> bool {
        let deadline = now.after(self.config.limits.command_millis);
        let patient = now < *self.deadline.get_or_insert(deadline);
        if !patient {
            self.time_out();
        }
        patient
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
}

/// A piece of what a unit consumed.
fn part(input: &[u8], begin: usize, skip: usize, length: usize) -> &[u8] {
    let from = begin.saturating_add(skip);
    input.get(from..from.saturating_add(length)).unwrap_or_default()
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
            Signal::Rcpt => Event::Rcpt { to: &self.recipient, parameters: &self.rcpt_parameters },
            Signal::DataStart => Event::DataStart,
            Signal::Text { skip, length } => Event::DataChunk(part(input, begin, skip, length)),
            Signal::LineEnd => Event::DataChunk(b"\r\n"),
            Signal::Verify { skip, length, smtputf8 } => {
                Event::Verify { text: part(input, begin, skip, length), smtputf8 }
            }
            Signal::Expand { skip, length, smtputf8 } => {
                Event::Expand { text: part(input, begin, skip, length), smtputf8 }
            }
            Signal::Etrn { skip, length } => Event::Etrn { node: part(input, begin, skip, length) },
            Signal::Forwarded => match &self.forwarded {
                Some(forwarded) => Event::Forwarded(forwarded),
                // Unreachable: the signal follows its value.
                None => return Step { consumed, next: Next::NeedInput },
            },
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
