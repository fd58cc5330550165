//! SMTP and submission: a server machine, answered.
//!
//! The rules, in the order in which a session meets them: who may log in (`policy`), whose password is
//! right (`directory`), which recipient is taken (`directory`, then `policy` for relaying), and at the end of the
//! data the store's word. A 250 after the data is said only when the store has said that the message is on
//! disk (RFC 5321 4.2.5, 6.1). What the store cannot do now is a 4yz, never a 5yz: a full disk is 452 4.3.1,
//! everything else 451 4.3.0, and the session goes on. While space is low MAIL is refused with 452 4.3.1; while a lane
//! of the store cannot be written new connections are turned away with 421.

use std::sync::Arc;

use super::event::Event as HostEvent;
use super::guard::{Guard, Objection};
use super::login::{self, Login};
use super::transaction::{Incoming, Origin, Pending, Recipient, Transaction};
use super::{Conversation, Link, Progress, Settled, Shared, TlsFacts, Wait};
use crate::directory::Account;
use crate::error::{Error, Kind, Result};
use crate::sasl::{self, Question};
use crate::session::{Next, Session};
use crate::smtp::Reply;
use crate::smtp::parameter::Body;
use crate::smtp::server::{Event, Offer, Server, ServerConfig};
use crate::store::{Ticket, envelope_flags};
use crate::time::Time;

/// One SMTP or submission connection.
pub struct SmtpConversation {
    server: Server,
    shared: Arc<Shared>,
    link: Link,
    hello: Box<[u8]>,
    account: Option<Arc<Account>>,
    state: State,
    guard: Guard,
}

/// What the transaction has come to.
enum State {
    /// No transaction.
    Idle,
    /// MAIL was taken.
    Envelope(Box<Transaction>),
    /// The body is coming.
    Body(Box<Incoming>),
    /// The store did not take some bytes; the peer is told at the end of the data.
    Broken(Error),
    /// The message is with the store.
    Committing(Box<Pending>),
}

/// What to do with the machine once an event's borrow has ended.
enum Answer {
    Accept,
    Reply(Reply<'static>),
    Begin,
    End,
    StartTls,
    Wait(Wait),
    Verdict(sasl::Verdict),
    None,
}

impl SmtpConversation {
    /// A conversation for a new connection.
    pub fn new(
        shared: Arc<Shared>,
        config: Arc<ServerConfig>,
        link: Link,
        now: Time,
    ) -> SmtpConversation {
        let mut server = Server::new(config, offer(&shared, &link), now);
        let (mechanisms, bindings) = shared.logins.load().offer(&link);
        server.set_mechanisms(mechanisms, bindings);
        let guard = Guard::new(&shared, &link);
        SmtpConversation {
            server,
            shared,
            link,
            hello: Box::default(),
            account: None,
            state: State::Idle,
            guard,
        }
    }
}

fn offer(shared: &Shared, link: &Link) -> Offer {
    Offer {
        tls: link.tls.is_some(),
        starttls: link.starttls && link.tls.is_none(),
        auth: shared.rules.load().may_log_in(&link.peer(false)),
    }
}

impl Conversation for SmtpConversation {
    fn advance(&mut self, now: Time, input: &[u8], out: &mut Vec<u8>) -> (usize, Progress) {
        let mut used = 0;
        loop {
            if let Some(objection) =
                self.guard.look(&self.shared, &self.link, self.server.figures(), now)
            {
                return (used, self.end_with(objection, out));
            }
            if let Some(millis) = self.guard.pause() {
                return (used, Progress::Wait(Wait::Pause(millis)));
            }
            let rest = input.get(used..).unwrap_or_default();
            let step = self.server.step(now, rest, out);
            used += step.consumed;
            let answer = match step.next {
                Next::NeedInput => {
                    let figures = self.server.figures();
                    if let Some(objection) = self.guard.look(&self.shared, &self.link, figures, now)
                    {
                        return (used, self.end_with(objection, out));
                    }
                    return match self.guard.pause() {
                        Some(millis) => (used, Progress::Wait(Wait::Pause(millis))),
                        None => (used, Progress::NeedInput),
                    };
                }
                Next::Blocked => return (used, Progress::Blocked),
                Next::Closed => {
                    self.state = State::Idle;
                    return (used, Progress::Closed);
                }
                Next::Event(event) => {
                    match self.guard.object(&self.shared, &self.link, &event, now) {
                        Some(Objection::Reply(reply)) => Answer::Reply(reply),
                        Some(objection) => return (used, self.end_with(objection, out)),
                        None => Answering {
                            shared: &self.shared,
                            link: &self.link,
                            hello: &mut self.hello,
                            account: &self.account,
                            state: &mut self.state,
                        }
                        .answer(event),
                    }
                }
            };
            match answer {
                Answer::None => {}
                Answer::Accept => self.server.accept(),
                Answer::Reply(reply) => self.server.reply(reply),
                Answer::Begin => self.begin(),
                Answer::End => {
                    if let Some(ticket) = self.end() {
                        return (used, Progress::Wait(Wait::Ticket(ticket)));
                    }
                }
                Answer::Verdict(verdict) => self.server.auth(verdict),
                Answer::StartTls => return (used, Progress::StartTls),
                Answer::Wait(wait) => return (used, Progress::Wait(wait)),
            }
        }
    }

    fn settle(&mut self, settled: Settled, _out: &mut Vec<u8>) {
        match settled {
            Settled::Ticket(result) => match std::mem::replace(&mut self.state, State::Idle) {
                State::Committing(pending) => self.committed(&pending, result),
                // Room for more data, or no room: the verdict waits for the end of the data.
                State::Body(incoming) => {
                    self.state = match result {
                        Ok(()) => State::Body(incoming),
                        Err(error) => State::Broken(error),
                    };
                }
                other => self.state = other,
            },
            Settled::Login(account) => {
                let verdict = match account {
                    Some(account) => {
                        self.account = Some(account);
                        sasl::Verdict::Accept
                    }
                    None => sasl::Verdict::Refuse,
                };
                self.server.auth(verdict);
            }
            Settled::Paused => {}
            // One of the two is what the machine waits for; the other has no effect.
            _ => {
                self.server.auth(sasl::Verdict::Unavailable);
                self.server.reply(UNAVAILABLE);
            }
        }
    }

    fn tls_started(&mut self, facts: Option<Arc<TlsFacts>>, unread: &[u8]) {
        self.link.tls = facts;
        self.account = None;
        self.hello = Box::default();
        self.state = State::Idle;
        let offer = offer(&self.shared, &self.link);
        self.server.tls_started(offer, unread);
        let (mechanisms, bindings) = self.shared.logins.load().offer(&self.link);
        self.server.set_mechanisms(mechanisms, bindings);
    }

    fn shutdown(&mut self) {
        self.server.shutdown();
    }

    fn eof(&mut self, now: Time) {
        self.server.eof(now);
    }

    fn deadline(&self) -> Option<Time> {
        self.server.deadline()
    }
}

/// While a lane of the store cannot be written.
const PAUSED: Reply<'static> = Reply::new(421, 3, 2, "Cannot take mail now, try again later");
/// The account was removed after its login.
const GONE: Reply<'static> = Reply::new(421, 7, 0, "The account is gone");
/// While space is low.
const NO_ROOM: Reply<'static> = Reply::new(452, 3, 1, "Insufficient storage, try again later");
const UNAVAILABLE: Reply<'static> = Reply::new(451, 3, 0, "Temporary failure, try again later");

impl SmtpConversation {
    /// The defences end the connection.
    fn end_with(&mut self, objection: Objection, out: &mut Vec<u8>) -> Progress {
        if let Objection::Close(words) = objection {
            tracing::warn!(peer = %self.link.peer, "{}", words.trim_ascii().escape_ascii());
            out.extend_from_slice(words);
        }
        self.state = State::Idle;
        Progress::Closed
    }

    /// The body is about to begin.
    fn begin(&mut self) {
        let State::Envelope(transaction) = std::mem::replace(&mut self.state, State::Idle) else {
            return self.server.reply(UNAVAILABLE);
        };
        let origin = Origin {
            hello: &self.hello,
            address: Some(self.link.peer.ip()),
            with: self.server.with_keyword(),
        };
        match transaction.begin(&self.shared, &origin) {
            Ok(incoming) => {
                self.state = State::Body(Box::new(incoming));
                self.server.accept();
            }
            Err(error) => self.server.reply(refusal(&error)),
        }
    }

    /// The body is whole: the ticket to wait for, or nothing when the verdict is given already.
    fn end(&mut self) -> Option<Ticket<()>> {
        let result = match std::mem::replace(&mut self.state, State::Idle) {
            State::Body(incoming) => incoming.finish(&self.shared),
            State::Broken(error) => Err(error),
            _ => Err(Error::new(Kind::Internal, "end of data without data")),
        };
        match result {
            Ok((ticket, pending)) => {
                self.state = State::Committing(Box::new(pending));
                Some(ticket)
            }
            Err(error) => {
                self.server.reply(refusal(&error));
                None
            }
        }
    }

    fn committed(&mut self, pending: &Pending, result: Result<()>) {
        match result {
            Ok(()) => {
                pending.acknowledged(&self.shared, Some(self.link.peer));
                let mut text = [0; 64];
                self.server.reply(Reply::new(250, 0, 0, queued_as(pending, &mut text)));
            }
            Err(error) => self.server.reply(refusal(&error)),
        }
    }
}

/// `Queued as ID`, written without touching the heap.
fn queued_as<'a>(pending: &Pending, space: &'a mut [u8; 64]) -> &'a str {
    use std::io::Write as _;
    let mut rest = &mut space[..];
    let written = write!(rest, "Queued as {}", pending.id).map(|()| rest.len());
    let len = written.map_or(0, |left| 64 - left);
    std::str::from_utf8(space.get(..len).unwrap_or_default()).unwrap_or("Queued")
}

/// What a peer is told when the store cannot do its work: always "later", never "never".
fn refusal(error: &Error) -> Reply<'static> {
    tracing::warn!(%error, "message not accepted");
    match error.kind() {
        Kind::DiskFull => NO_ROOM,
        _ => UNAVAILABLE,
    }
}

/// Answers one event with everything but the machine, which the event borrows.
struct Answering<'c> {
    shared: &'c Arc<Shared>,
    link: &'c Link,
    hello: &'c mut Box<[u8]>,
    account: &'c Option<Arc<Account>>,
    state: &'c mut State,
}

impl Answering<'_> {
    fn answer(&mut self, event: Event<'_>) -> Answer {
        match event {
            Event::Connect if !self.shared.spool.admission().writable => Answer::Reply(PAUSED),
            Event::Connect => Answer::Accept,
            Event::Hello { name, .. } => {
                if **self.hello != *name {
                    *self.hello = name.into();
                }
                Answer::Accept
            }
            Event::StartTls => Answer::StartTls,
            Event::Auth(question) => self.verify(&question),
            Event::Mail { .. }
                if self.account.as_ref().is_some_and(|account| self.shared.is_gone(account)) =>
            {
                Answer::Reply(GONE)
            }
            Event::Mail { .. } if !self.shared.spool.admission().room => Answer::Reply(NO_ROOM),
            Event::Mail { from, parameters } => {
                let flag = |on: bool, bit: u16| if on { bit } else { 0 };
                let flags = flag(parameters.body != Body::SevenBit, envelope_flags::EIGHT_BIT)
                    | flag(parameters.smtputf8, envelope_flags::SMTPUTF8)
                    | flag(self.account.is_some(), envelope_flags::AUTHENTICATED);
                let from = from.map_or(&[][..], |address| address.as_bytes());
                *self.state = State::Envelope(Box::new(Transaction::new(from, flags)));
                Answer::Accept
            }
            Event::Rcpt { to, .. } => self.recipient(to),
            Event::DataStart => Answer::Begin,
            Event::DataChunk(bytes) => self.chunk(bytes),
            Event::DataEnd { .. } => Answer::End,
            Event::Reset => {
                *self.state = State::Idle;
                Answer::None
            }
            Event::Quit => Answer::None,
            // Not offered here.
            Event::Verify { .. }
            | Event::Expand { .. }
            | Event::Etrn { .. }
            | Event::Forwarded(_) => Answer::Reply(UNAVAILABLE),
        }
    }

    fn verify(&self, question: &Question<'_>) -> Answer {
        match login::answer(self.shared, self.link, question) {
            login::Answer::Now(verdict) => Answer::Verdict(verdict),
            login::Answer::Work(work) => Answer::Wait(Wait::Login(Box::new(|| match work() {
                Login::Account(account) => Settled::Login(Some(account)),
                Login::Refused => Settled::Login(None),
                Login::Unavailable => Settled::Failed,
            }))),
        }
    }

    fn recipient(&mut self, to: &crate::codec::address::Address) -> Answer {
        let State::Envelope(transaction) = &mut self.state else {
            return Answer::Reply(UNAVAILABLE);
        };
        let peer = self.link.peer(self.account.is_some());
        let may_relay = self.shared.rules.load().may_relay(&peer);
        let reply = match transaction.add(self.shared, to, may_relay) {
            Recipient::Accepted => return Answer::Accept,
            Recipient::Unknown => Reply::new(550, 1, 1, "No such user here"),
            Recipient::RelayDenied => Reply::new(550, 7, 1, "Relaying denied"),
        };
        self.shared.counters.recipients_refused.up();
        if self.shared.events.is_some() {
            self.shared.emit(&HostEvent::RecipientRefused {
                address: &String::from_utf8_lossy(to.as_bytes()),
                code: reply.code,
                peer: self.link.peer,
            });
        }
        Answer::Reply(reply)
    }

    fn chunk(&mut self, bytes: &[u8]) -> Answer {
        let State::Body(incoming) = &mut self.state else { return Answer::None };
        if let Err(error) = incoming.write(bytes) {
            *self.state = State::Broken(error);
            return Answer::None;
        }
        match incoming.pressure() {
            Some(ticket) => Answer::Wait(Wait::Ticket(ticket)),
            None => Answer::None,
        }
    }
}
