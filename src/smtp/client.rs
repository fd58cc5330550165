//! The SMTP and LMTP client machine: RFC 5321 and RFC 2033, with PIPELINING (2920), SIZE (1870), 8BITMIME (6152), SMTPUTF8
//! (6531), CHUNKING and BINARYMIME (3030), DSN (3461), STARTTLS (3207), AUTH (4954), LIMITS (9422), REQUIRETLS (8689), DELIVERBY
//! (2852), FUTURERELEASE (4865) and MT-PRIORITY (6710) where the peer offers them.
//!
//! # How it is driven
//! A driver makes the connection, then a [`Client`], and steps it by the [law](crate::session): write out what is in
//! `out`, read, step. The machine greets, negotiates, asks for TLS ([`ClientEvent::StartTls`]), logs in, and says
//! [`ClientEvent::Ready`]. The driver then calls [`Client::begin`] with a [`Transaction`]; each recipient brings one
//! [`ClientEvent::Recipient`], the message is pulled piece by piece with [`ClientEvent::NeedBody`] (answer: [`Client::body`],
//! at the end [`Client::body_end`]), and [`ClientEvent::Done`] closes it. Then another transaction, or [`Client::quit`].
//! When nothing can be sent at all, [`ClientEvent::Failed`] says why. `Closed` is always the last word: close the
//! connection.
//!
//! # Method
//! Commands and replies are two cursors over the same list: RSET if one is owed, MAIL, each RCPT, DATA. Without PIPELINING
//! the second must reach the first before it moves; with it the first runs ahead, bounded by [`Limits::pipeline_bytes`]
//! and [`Limits::pipeline_commands`], so that neither side ever waits for the other to read. An outcome is told as soon as
//! it is known and not kept. While the text of DATA is sent the peer's replies stay unread: none is due (RFC 5321
//! 4.1.1.4); what the peer said early is read when its time comes or when the connection ends.
//!
//! # Invariants
//! - Every recipient of a transaction gets exactly one outcome, then `Done` comes, whatever the peer does.
//! - A reply counts by its first digit (RFC 5321 4.2.1). A 421 at any time makes every undecided recipient temporary
//!   and ends the connection. What is no reply, or a reply of a class that cannot stand there, is a protocol error: temporary, and
//!   the connection ends.
//! - Once the end of the message is written, a lost connection, a time-out or a protocol error is
//!   [`Verdict::Unknown`]; before that it is temporary, since no peer may act on a message without its end.
//! - When every recipient was refused and a pipelined DATA still brings 354, a lone dot follows (RFC 2920 3.1).
//! - Only CR LF ends a line that is sent, and an octet of the message is never taken for a command or an end: see
//!   `client/body.rs`.
//! - Plaintext behind the 220 of STARTTLS fails the session; after TLS nothing that was offered before is known
//!   (RFC 3207 4.2). Credentials are sent under TLS only, unless the configuration says otherwise.
//! - Memory is bounded: the envelope as given, one chunk, one reply ([`answer`](crate::smtp::answer)).
//! - Same octets, same events, same output, however the input is cut.
//!
//! # Choices where the RFCs leave one
//! RSET is sent at the next transaction's begin, and only where the last one was left open. DATA is pipelined behind RCPT; BDAT
//! waits for the first acceptance, because its octets would be sent for nothing. In LMTP the last chunk waits for the replies
//! to those before it. A message that turns out to be no text in the middle of DATA ends the connection without the
//! dot: there is no other way to take it back. 552 5.5.3 to RCPT is what old servers say for too many
//! recipients and counts as 452 (RFC 5321 4.5.3.1.10).

mod auth;
mod body;
mod capability;
mod exchange;
mod hello;
mod outcome;
mod transaction;

#[cfg(test)]
mod tests;

pub use self::auth::Login;
pub use self::body::LineEnds;
pub use self::capability::{Capabilities, PeerLimits};
pub use self::outcome::{Done, Dropped, Failure, Origin, Outcome, Phase, Verdict};
pub use self::transaction::{Content, Recipient, Transaction};
pub use crate::sasl::client::{Channel, Credentials};

use std::mem;
use std::sync::Arc;

use self::exchange::Flow;
use self::outcome::Phase as P;
use self::transaction::{Envelope, Standing};
use crate::error::{Error, Kind, Result};
use crate::session::{Next, Session, Step};
use crate::smtp::answer::{Answer, Parsed, Parser};
use crate::time::Time;

/// Whether STARTTLS is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Never,
    /// When the peer offers it; refused, the conversation goes on in clear (RFC 7435).
    #[default]
    WhenOffered,
    /// Always: a peer that does not offer it, or refuses it, gets nothing.
    Required,
}

/// What happens to an 8-bit message when the peer lacks 8BITMIME.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EightBit {
    /// 554 5.6.3, permanent (RFC 6152 3): the sender hears of it, nothing is re-encoded behind a signature's back.
    #[default]
    Bounce,
    /// It is sent as it is.
    Send,
}

/// What is the same for all connections to a destination.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Our name in EHLO, HELO and LHLO.
    pub hostname: String,
    /// The peer speaks LMTP (RFC 2033): LHLO, and an answer for each recipient behind the message.
    pub lmtp: bool,
    /// Whether STARTTLS is used.
    pub tls: Tls,
    /// Log in so. A peer that offers no AUTH, or no mechanism that this side knows, gets nothing.
    pub login: Option<Login>,
    /// Send credentials without TLS, too.
    pub auth_in_clear: bool,
    /// Use PIPELINING where it is offered.
    pub pipelining: bool,
    /// Use CHUNKING where it is offered. Binary messages need it.
    pub chunking: bool,
    /// What happens to an 8-bit message when the peer lacks 8BITMIME.
    pub eight_bit: EightBit,
    /// What happens to a CR or an LF that stands alone in a text.
    pub line_ends: LineEnds,
    /// Every bound, by name.
    pub limits: Limits,
    /// How long the peer may take, by phase.
    pub timeouts: Timeouts,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            hostname: "localhost".to_owned(),
            lmtp: false,
            tls: Tls::default(),
            login: None,
            auth_in_clear: false,
            pipelining: true,
            chunking: true,
            eight_bit: EightBit::default(),
            line_ends: LineEnds::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

/// Every bound of a client session, by name. What a reply may hold is bounded in [`answer`](crate::smtp::answer).
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most recipients of a transaction that are asked for; the others are [`Verdict::NotTried`].
    pub recipients: usize,
    /// Octets of commands that may stand unanswered, one command always (RFC 2920 3.1).
    pub pipeline_bytes: usize,
    /// Commands that may stand unanswered.
    pub pipeline_commands: u32,
    /// Octets of a chunk of BDAT, and so of the memory for it (line ends that are made whole may double them).
    pub chunk_bytes: usize,
    /// Chunks that may stand unanswered, where PIPELINING is offered.
    pub chunks: u32,
    /// Output above which `step` answers `Blocked`.
    pub output_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            recipients: 1000,
            pipeline_bytes: 8 << 10,
            pipeline_commands: 100,
            chunk_bytes: 64 << 10,
            chunks: 2,
            output_bytes: 64 << 10,
        }
    }
}

/// How long the peer may take, in milliseconds (RFC 5321 4.5.3.2).
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// The greeting: 5 minutes.
    pub greeting: u64,
    /// The reply to EHLO, STARTTLS and each line of AUTH: 5 minutes.
    pub hello: u64,
    /// The reply to MAIL and RSET: 5 minutes.
    pub mail: u64,
    /// The reply to RCPT: 5 minutes.
    pub rcpt: u64,
    /// The reply to DATA: 2 minutes.
    pub data: u64,
    /// Taking what was written, each time: 3 minutes.
    pub block: u64,
    /// The reply to the end of the message, and to each chunk: 10 minutes.
    pub end: u64,
    /// The reply to QUIT: 30 seconds. Nothing depends on it.
    pub quit: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            greeting: 300_000,
            hello: 300_000,
            mail: 300_000,
            rcpt: 300_000,
            data: 120_000,
            block: 180_000,
            end: 600_000,
            quit: 30_000,
        }
    }
}

/// What a client session tells its driver.
#[derive(Debug)]
pub enum ClientEvent<'a> {
    /// The 220 to STARTTLS came: make the TLS handshake, then call [`Client::tls_started`] or [`Client::tls_failed`].
    /// *Pauses*: until then `step` consumes nothing.
    StartTls,
    /// Greeted, under TLS and logged in as configured: call [`Client::begin`] or [`Client::quit`].
    Ready {
        /// What the peer offers.
        capabilities: &'a Capabilities,
    },
    /// What came of a recipient; once for each.
    Recipient {
        /// Its place in [`Transaction::recipients`].
        index: usize,
        /// What came of it.
        outcome: Outcome<'a>,
    },
    /// The next piece of the message is wanted: call [`Client::body`], [`Client::body_end`] or [`Client::body_failed`]. Comes
    /// again until that is done.
    NeedBody {
        /// Most octets that the piece may have, at least 1.
        max: usize,
    },
    /// The transaction is over: call [`Client::begin`] or [`Client::quit`], unless it says that the connection closes.
    Done(Done),
    /// Nothing can be sent on this connection. `Closed` follows, after QUIT where the peer still listens.
    Failed(Failure<'a>),
}

/// A client session: one SMTP or LMTP connection's protocol.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    state: State,
    parser: Parser,
    /// What this side says where the peer said nothing.
    own: Answer,
    capabilities: Capabilities,
    /// TLS is on.
    tls: bool,
    authenticated: bool,
    exchange: Option<auth::Exchange>,
    means: auth::Means,
    envelope: Envelope,
    flow: Flow,
    /// Who is to hear of an outcome.
    announcing: Option<Announcing>,
    owed: Owed,
    /// Transactions whose MAIL was sent.
    transactions: u64,
    /// The last transaction was left open.
    reset_owed: bool,
    /// Set when the machine waits for the peer, cleared when the peer made progress.
    deadline: Option<Time>,
    /// Until when the driver's output must be taken.
    blocked: Option<Time>,
    quit: bool,
    eof: bool,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    /// The reply to EHLO or LHLO.
    Hello,
    /// The reply to HELO.
    Helo,
    /// The reply to STARTTLS.
    StartTls,
    /// The driver's handshake.
    Handshake,
    /// The reply to a line of AUTH.
    Auth,
    /// The reply to AUTH's cancellation.
    Cancelled,
    /// The driver's next wish.
    Idle,
    /// A transaction; its place is in `flow`.
    Transaction,
    /// The reply to QUIT.
    Quitting,
    Closed,
}

/// An outcome and those to whom it is to be told.
#[derive(Clone, Copy, Debug)]
struct Announcing {
    whom: Whom,
    verdict: Verdict,
    origin: Origin,
    phase: Phase,
    again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    /// One that is being decided.
    One(usize),
    /// From this place on, those that have no outcome yet.
    Undecided(usize),
}

/// What is to be said when the announcements are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Nothing,
    StartTls,
    Ready,
    Done { closing: bool },
    Failed { origin: Origin, phase: Phase, verdict: Verdict, polite: bool, clear_may_do: bool },
}

/// What a step found, without the borrows of an event.
#[derive(Clone, Copy, Debug)]
enum Signal {
    StartTls,
    Ready,
    Recipient { index: usize, told: Announcing },
    NeedBody { max: usize },
    Done { closing: bool },
    Failed { origin: Origin, phase: Phase, verdict: Verdict, clear_may_do: bool },
    NeedInput,
    Blocked,
    Closed,
}

/// What a look for a reply brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// A reply is whole.
    Reply,
    /// A line of one, or the end of the conversation: look again.
    Again,
    /// It is not here yet.
    Nothing,
}

impl Client {
    /// A session for a new connection. `tls`: the connection is under TLS from its beginning (RFC 8314), so STARTTLS is
    /// not used.
    pub fn new(config: Arc<ClientConfig>, tls: bool, now: Time) -> Client {
        let deadline = now.after(config.timeouts.greeting);
        Client {
            config,
            state: State::Greeting,
            parser: Parser::default(),
            own: Answer::default(),
            capabilities: Capabilities::default(),
            tls,
            authenticated: false,
            exchange: None,
            means: auth::Means::default(),
            envelope: Envelope::default(),
            flow: Flow::default(),
            announcing: None,
            owed: Owed::Nothing,
            transactions: 0,
            reset_owed: false,
            deadline: Some(deadline),
            blocked: None,
            quit: false,
            eof: false,
        }
    }

    /// Whether [`Client::begin`] may be called now.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle && self.owed == Owed::Nothing && !self.quit
    }

    /// Whether the peer takes another transaction on this connection (MAILMAX, RFC 9422).
    pub fn has_room(&self) -> bool {
        self.capabilities.limits.mail_max.is_none_or(|most| self.transactions < most)
    }

    /// What the peer offers, as far as it is known now.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Whether TLS is on.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether the peer knows who this is.
    pub fn is_authenticated(&self) -> bool {
        self.authenticated
    }

    /// Begins a transaction. Everything needed of it is copied. Step afterwards.
    ///
    /// # Errors
    /// [`Kind::State`]: the session is not idle. [`Kind::Limit`]: the peer takes no more transactions on this connection
    /// (MAILMAX): quit and connect again. [`Kind::Address`], [`Kind::InvalidArgument`]: an address or a parameter cannot be
    /// sent. The session stays idle then.
    pub fn begin(&mut self, transaction: &Transaction<'_>) -> Result<()> {
        if !self.is_idle() {
            return Err(Error::new(Kind::State, "the session is not ready for a transaction"));
        }
        if !self.has_room() {
            return Err(Error::new(
                Kind::Limit,
                "the peer takes no more transactions on this connection (MAILMAX)",
            ));
        }
        self.envelope.set(
            transaction,
            &self.config,
            &self.capabilities,
            self.tls,
            self.authenticated,
        )?;
        self.start();
        Ok(())
    }

    /// Says goodbye: QUIT goes out at the next step when the session is idle, otherwise when it becomes so. `Closed`
    /// follows.
    pub fn quit(&mut self) {
        self.quit = true;
    }

    /// Octets of memory that the session holds now, itself included, the shared configuration not.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Client>()
            + self.parser.answer().memory_bytes()
            + self.own.memory_bytes()
            + self.capabilities.memory_bytes()
            + self.envelope.memory_bytes()
            + self.flow.memory_bytes()
    }

    /// At which point the conversation stands.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Greeting => P::Greeting,
            State::Hello | State::Helo => P::Hello,
            State::StartTls | State::Handshake => P::StartTls,
            State::Auth | State::Cancelled => P::Auth,
            State::Idle => P::Idle,
            State::Transaction => self.flow.phase(),
            State::Quitting | State::Closed => P::Quit,
        }
    }

    /// Takes units from the input until one needs the driver.
    fn run(&mut self, now: Time, input: &[u8], out: &mut Vec<u8>) -> (usize, Signal) {
        let mut at = 0;
        loop {
            if let Some(signal) = self.tell(out) {
                return (at, signal);
            }
            if self.state == State::Closed {
                return (input.len(), Signal::Closed);
            }
            if out.len() >= self.config.limits.output_bytes {
                let deadline = now.after(self.config.timeouts.block);
                if now < *self.blocked.get_or_insert(deadline) {
                    return (at, Signal::Blocked);
                }
                self.lost("Waited too long for the receiving system to take what was sent");
                continue;
            }
            self.blocked = None;
            let rest = input.get(at..).unwrap_or_default();
            let (consumed, signal) = match self.state {
                State::Handshake => (0, Some(Signal::NeedInput)),
                State::Idle if self.quit => {
                    self.say_quit(out);
                    (0, None)
                }
                State::Transaction => self.transact(now, rest, out),
                _ => self.await_reply(now, rest, out),
            };
            at += consumed;
            if let Some(signal) = signal {
                return (at, signal);
            }
        }
    }

    /// Takes the next reply, where nothing but a reply can come.
    fn await_reply(
        &mut self,
        now: Time,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> (usize, Option<Signal>) {
        let (consumed, heard) = self.hear(now, input);
        match heard {
            Heard::Nothing => return (consumed, Some(Signal::NeedInput)),
            Heard::Again => {}
            Heard::Reply => match self.state {
                State::Transaction => self.heard(out),
                _ => self.heard_outside(out),
            },
        }
        (consumed, None)
    }

    /// Looks for a reply. What ends the conversation (its end, a time-out, what is no reply) is dealt with.
    fn hear(&mut self, now: Time, input: &[u8]) -> (usize, Heard) {
        match self.parser.next(input) {
            Parsed::Line { consumed, text, last } => {
                if self.state == State::Hello {
                    self.hello_line(input.get(4..4 + text).unwrap_or_default());
                }
                if !last {
                    return (consumed, Heard::Again);
                }
                self.deadline = None;
                if self.parser.answer().code() == 421 {
                    self.give_up(Origin::Peer, Verdict::Temporary, false);
                    return (consumed, Heard::Again);
                }
                (consumed, Heard::Reply)
            }
            Parsed::Fault(fault) => {
                self.broken(fault.text());
                (0, Heard::Again)
            }
            Parsed::Incomplete if self.eof => {
                self.lost("The receiving system closed the connection");
                (0, Heard::Again)
            }
            Parsed::Incomplete => {
                let Some(millis) = self.patience() else { return (0, Heard::Nothing) };
                let deadline = *self.deadline.get_or_insert(now.after(millis));
                if now < deadline {
                    return (0, Heard::Nothing);
                }
                self.lost("Waited too long for the receiving system");
                (0, Heard::Again)
            }
        }
    }

    /// How long the peer may take for what is awaited.
    fn patience(&self) -> Option<u64> {
        let timeouts = &self.config.timeouts;
        match self.phase() {
            P::Greeting => Some(timeouts.greeting),
            P::Hello | P::StartTls | P::Auth => Some(timeouts.hello),
            P::Idle => None,
            P::Begin | P::Mail => Some(timeouts.mail),
            P::Rcpt => Some(timeouts.rcpt),
            P::Data => Some(timeouts.data),
            P::Body | P::End => Some(timeouts.end),
            P::Quit => Some(timeouts.quit),
        }
    }

    /// The connection is of no use any more.
    fn lost(&mut self, why: &str) {
        let phase = self.phase();
        self.own = Answer::own(421, 4, 2, &format!("{why} (at {})", phase.name()));
        self.give_up(Origin::Client, Verdict::Unknown, false);
    }

    /// The peer broke the protocol.
    fn broken(&mut self, why: &str) {
        let phase = self.phase();
        self.own = Answer::own(421, 5, 0, &format!("Protocol error: {why} (at {})", phase.name()));
        self.give_up(Origin::Client, Verdict::Unknown, false);
    }

    /// The conversation ends with the peer's last reply or our own answer. `Unknown` becomes temporary unless the end of the
    /// message was sent.
    fn give_up(&mut self, origin: Origin, verdict: Verdict, polite: bool) {
        let phase = self.phase();
        self.deadline = None;
        self.exchange = None;
        let unknown = verdict == Verdict::Unknown;
        let verdict = if unknown && phase != P::End { Verdict::Temporary } else { verdict };
        match self.state {
            State::Quitting | State::Closed => self.state = State::Closed,
            State::Transaction => {
                self.announce(Whom::Undecided(0), origin, verdict, phase);
                self.finish(true);
            }
            _ => {
                let clear_may_do = phase == P::StartTls
                    && origin == Origin::Client
                    && self.config.tls != Tls::Required;
                self.owed = Owed::Failed { origin, phase, verdict, polite, clear_may_do };
            }
        }
    }

    fn announce(&mut self, whom: Whom, origin: Origin, verdict: Verdict, phase: Phase) {
        self.announcing = Some(Announcing { whom, verdict, origin, phase, again: false });
    }

    /// The next thing that the driver must hear before anything else is done.
    fn tell(&mut self, out: &mut Vec<u8>) -> Option<Signal> {
        if let Some(told) = self.announcing {
            let index = match told.whom {
                Whom::One(index) => {
                    self.announcing = None;
                    Some(index)
                }
                Whom::Undecided(from) => {
                    self.envelope.find(from, |standing| standing != Standing::Decided)
                }
            };
            if let Some(index) = index {
                if let Some(Announcing { whom: Whom::Undecided(from), .. }) = &mut self.announcing {
                    *from = index + 1;
                }
                self.envelope.stand(index, Standing::Decided);
                if told.verdict == Verdict::Delivered {
                    self.envelope.delivered += 1;
                }
                return Some(Signal::Recipient { index, told });
            }
            self.announcing = None;
        }
        match mem::replace(&mut self.owed, Owed::Nothing) {
            Owed::Nothing => None,
            Owed::StartTls => Some(Signal::StartTls),
            Owed::Ready => Some(Signal::Ready),
            Owed::Done { closing } => {
                self.state = if closing { State::Closed } else { State::Idle };
                Some(Signal::Done { closing })
            }
            Owed::Failed { origin, phase, verdict, polite, clear_may_do } => {
                if polite {
                    self.say_quit(out);
                } else {
                    self.state = State::Closed;
                }
                Some(Signal::Failed { origin, phase, verdict, clear_may_do })
            }
        }
    }

    fn say_quit(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"QUIT\r\n");
        self.parser.reset();
        self.deadline = None;
        self.state = State::Quitting;
    }

    fn answer(&self, origin: Origin) -> &Answer {
        match origin {
            Origin::Peer => self.parser.answer(),
            Origin::Client => &self.own,
        }
    }
}

impl Session for Client {
    type Event<'a> = ClientEvent<'a>;

    /// See the [law](crate::session). While the handshake or the driver's next wish is awaited nothing of a sound peer is
    /// due; what comes then from a peer that closes is read.
    fn step<'a>(
        &'a mut self,
        now: Time,
        input: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Step<ClientEvent<'a>> {
        let (consumed, signal) = self.run(now, input, out);
        let event = match signal {
            Signal::NeedInput => return Step { consumed, next: Next::NeedInput },
            Signal::Blocked => return Step { consumed, next: Next::Blocked },
            Signal::Closed => return Step { consumed, next: Next::Closed },
            Signal::StartTls => ClientEvent::StartTls,
            Signal::Ready => ClientEvent::Ready { capabilities: &self.capabilities },
            Signal::NeedBody { max } => ClientEvent::NeedBody { max },
            Signal::Recipient { index, told } => ClientEvent::Recipient {
                index,
                outcome: Outcome {
                    verdict: told.verdict,
                    origin: told.origin,
                    phase: told.phase,
                    answer: self.answer(told.origin),
                    dsn: told.verdict == Verdict::Delivered && self.envelope.dsn,
                    again: told.again,
                },
            },
            Signal::Done { closing } => ClientEvent::Done(Done {
                delivered: self.envelope.delivered,
                closing,
                dropped: self.envelope.dropped,
            }),
            Signal::Failed { origin, phase, verdict, clear_may_do } => {
                let answer = self.answer(origin);
                ClientEvent::Failed(Failure { verdict, origin, phase, answer, clear_may_do })
            }
        };
        Step { consumed, next: Next::Event(event) }
    }

    fn eof(&mut self, now: Time) {
        let _ = now;
        self.eof = true;
    }

    fn deadline(&self) -> Option<Time> {
        self.blocked.or(self.deadline)
    }
}
