//! SMTP and submission: a server machine, answered.
//!
//! The rules, in the order in which a session meets them: who may log in (`policy`), whose password is
//! right (`directory`), which recipient is taken (`directory`, then `policy` for relaying), and at the end of the
//! data the store's word. A 250 after the data is said only when the store has said that the message is on
//! disk (RFC 5321 4.2.5, 6.1). What the store cannot do now is a 4yz, never a 5yz: a full disk is 452 4.3.1,
//! everything else 451 4.3.0, and the session goes on. While space is low MAIL is refused with 452 4.3.1; while a lane
//! of the store cannot be written new connections are turned away with 421.
//!
//! # LMTP
//! Each recipient gets a reply after the data (RFC 2033 4.2), and all of a message get the same, because the store
//! accepts a message for all of them or for none: one sync makes its bytes durable with the mailbox rows of the
//! accounts of its home lane and a queue entry for every other account (`spool`). Where a lane of one of those
//! cannot be written now, its account has the message as safely as the others and sees it when the lane can be
//! written again: 250 for it is true, and a 451 would bring it twice. What differs between recipients (no such
//! user, the host's hook) is said at RCPT.
//!
//! # XCLIENT
//! A peer of `policy.xclient_trusted` may say for whom it speaks. From then on ADDR and PORT are the session's peer
//! for policy, defences, hooks, events and the Received line, and HELO is its name whatever the EHLO says that
//! follows; hooks are asked for the connection once more. What is not said stays as it was; ADDR without PORT is port
//! 0, ADDR without HELO forgets the name. NAME, PROTO, DESTADDR and DESTPORT change nothing, LOGIN is refused with 550. TLS
//! is what the connection has. The trust is the connection's and lasts: the proxy keeps its clients from sending
//! XCLIENT themselves. Connections are counted for the proxy, because they are its own.

use std::net::SocketAddr;
use std::sync::Arc;

use super::event::Event as HostEvent;
use super::guard::{Guard, Objection};
use super::hook::{self, Awaited, Defer, Facts, Question, Refusal, Verdict};
use super::login::{self, Login};
use super::run::{Node, Run};
use super::transaction::{
    HeaderRules, Incoming, Origin, Pending, Recipient, Transaction, Trouble, is_own,
};
use super::{Conversation, Link, Progress, Settled, Shared, TlsFacts, Wait};
use crate::codec::address::Address;
use crate::directory::Account;
use crate::error::{Error, Kind, Result};
use crate::policy::SenderRights;
use crate::sasl;
use crate::session::{Next, Session};
use crate::smtp::Reply;
use crate::smtp::parameter::{Body, Hold, MailParameters, RcptParameters};
use crate::smtp::server::{Dialect, Event, Forwarded, Offer, Server, ServerConfig};
use crate::store::{Ticket, envelope_flags};
use crate::time::Time;

/// One SMTP or submission connection.
pub struct SmtpConversation {
    server: Server,
    shared: Arc<Shared>,
    link: Link,
    hello: Box<[u8]>,
    /// A trusted peer said what its client calls itself.
    hello_forwarded: bool,
    account: Option<Arc<Account>>,
    state: State,
    /// `smtp`, `submission` or `lmtp`.
    service: &'static str,
    session: u64,
    /// What a hook is asked that answers later.
    asked: Option<Step>,
    /// What to wait for before anything else.
    wait: Option<Wait>,
    tally: Tally,
    guard: Guard,
}

/// What the session's last event tells.
#[derive(Default)]
struct Tally {
    messages: u32,
    refused: u32,
    quit: bool,
    /// The peer closed its side.
    lost: bool,
}

/// A step of the session at which a hook is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Connect,
    Hello,
    Auth,
    Mail,
    Rcpt,
    Data,
    End,
}

/// What the transaction has come to.
enum State {
    /// No transaction.
    Idle,
    /// MAIL was taken.
    Envelope(Box<Transaction>),
    /// The body is coming.
    Body(Box<Incoming>),
    /// The message is not taken; the peer is told at the end of the data.
    Broken(Trouble),
    /// The message is with the store.
    Committing(Box<Pending>),
}

/// What to do with the machine once an event's borrow has ended.
enum Answer {
    /// Our own rules accept: the hook is asked, and then it is so.
    Ask(Step, Judged),
    Reply(Reply<'static>),
    StartTls,
    Wait(Wait),
    Verdict(sasl::Verdict),
    Forwarded(Box<Forwarded>),
    None,
}

/// What a hook has said, as far as it has.
enum Judged {
    Accept,
    Refuse(Refusal),
    Later(Awaited),
}

impl SmtpConversation {
    /// A conversation for a new connection.
    pub fn new(
        shared: Arc<Shared>,
        config: Arc<ServerConfig>,
        link: Link,
        now: Time,
    ) -> SmtpConversation {
        let service = match config.dialect {
            Dialect::Smtp => "smtp",
            Dialect::Submission => "submission",
            Dialect::Lmtp => "lmtp",
        };
        let session = shared.next_session();
        shared.counters.sessions.of(service).up();
        tracing::info!(session, service, peer = %link.peer, "session begun");
        shared.emit(&HostEvent::SessionBegun { session, service, peer: link.peer });
        let mut server = Server::new(config, offer(&shared, &link), now);
        let (mechanisms, bindings) = shared.logins.load().offer(&link);
        server.set_mechanisms(mechanisms, bindings);
        if shared.rules.load().may_forward(link.peer.ip()) {
            server.trust_peer();
        }
        let guard = Guard::new(&shared, &link);
        SmtpConversation {
            service,
            session,
            asked: None,
            wait: None,
            tally: Tally::default(),
            server,
            shared,
            link,
            hello: Box::default(),
            hello_forwarded: false,
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
        if let Some(wait) = self.wait.take() {
            return (0, Progress::Wait(wait));
        }
        let mut used = 0;
        let mut fresh = true;
        loop {
            // What was settled since is said first: a message whose 250 is lost comes again.
            let figures = self.server.figures();
            if !std::mem::take(&mut fresh)
                && let Some(objection) = self.guard.look(&self.shared, &self.link, figures, now)
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
                            hello_forwarded: self.hello_forwarded,
                            account: &self.account,
                            state: &mut self.state,
                            service: self.service,
                            session: self.session,
                            tally: &mut self.tally,
                        }
                        .answer(event),
                    }
                }
            };
            match answer {
                Answer::None => {}
                Answer::Ask(step, judged) => {
                    self.judged(step, judged);
                    if let Some(wait) = self.wait.take() {
                        return (used, Progress::Wait(wait));
                    }
                }
                Answer::Reply(reply) => self.server.reply(reply),
                Answer::Forwarded(forwarded) => {
                    self.forwarded(&forwarded);
                    if let Some(wait) = self.wait.take() {
                        return (used, Progress::Wait(wait));
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
                        Err(error) => State::Broken(Trouble::Store(error)),
                    };
                }
                other => self.state = other,
            },
            Settled::Login(Some(account)) => {
                let judged = self.answering().ask(&Question::Auth { login: &account.login });
                self.account = Some(account);
                self.judged(Step::Auth, judged);
            }
            Settled::Login(None) => self.server.auth(sasl::Verdict::Refuse),
            Settled::Verdict(verdict) => {
                let Some(step) = self.asked.take() else { return };
                let judged = match verdict {
                    Some(Verdict::Accept) => Judged::Accept,
                    Some(Verdict::Refuse(refusal)) => Judged::Refuse(refusal),
                    None => {
                        tracing::warn!(
                            session = self.session,
                            ?step,
                            "the hook did not answer in time"
                        );
                        late(&self.shared)
                    }
                };
                self.judged(step, judged);
            }
            Settled::Run(run) => self.ran(run),
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
        self.hello_forwarded = false;
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
        self.tally.lost = true;
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
/// The reverse-path of an authenticated sender that is not one of its own.
const NOT_YOURS: Reply<'static> = Reply::new(553, 7, 1, "The sender's address is not one of yours");
const NODE_EMPTY: Reply<'static> = Reply::new(251, 0, 0, "No messages waiting for node");
const NODE_UNKNOWN: Reply<'static> =
    Reply::new(458, 4, 4, "Unable to queue messages for node: no route leads there");
const NODE_BUSY: Reply<'static> =
    Reply::new(458, 3, 0, "Unable to queue messages for node now, try again later");
const NODE_NOT_ALLOWED: Reply<'static> = Reply::new(459, 7, 1, "Node not allowed");
const UNAVAILABLE: Reply<'static> = Reply::new(451, 3, 0, "Temporary failure, try again later");

impl SmtpConversation {
    fn answering(&mut self) -> Answering<'_> {
        Answering {
            shared: &self.shared,
            link: &self.link,
            hello: &mut self.hello,
            hello_forwarded: self.hello_forwarded,
            account: &self.account,
            state: &mut self.state,
            service: self.service,
            session: self.session,
            tally: &mut self.tally,
        }
    }

    /// A queue run has begun, or not.
    fn ran(&mut self, run: Result<Run>) {
        match run {
            Ok(Run::Started(0)) => self.server.reply(NODE_EMPTY),
            Ok(Run::Started(count)) => {
                let text = format!("{count} pending messages for node started");
                self.server.reply(Reply::new(253, 0, 0, &text));
            }
            Ok(Run::NoRoute) => self.server.reply(NODE_UNKNOWN),
            Ok(Run::Busy) => self.server.reply(NODE_BUSY),
            Err(error) => {
                tracing::error!(session = self.session, %error, "queue run");
                self.server.reply(NODE_BUSY);
            }
        }
    }

    /// A trusted peer has said for whom it speaks: the session begins anew as that one's.
    fn forwarded(&mut self, forwarded: &Forwarded) {
        let peer = &mut self.link.peer;
        if let Some(address) = forwarded.address {
            *peer = SocketAddr::new(address.to_canonical(), 0);
            self.hello = Box::default();
            self.hello_forwarded = false;
        }
        if let Some(port) = forwarded.port {
            peer.set_port(port);
        }
        if let Some(hello) = &forwarded.hello {
            self.hello = hello.as_bytes().into();
            self.hello_forwarded = true;
        }
        self.account = None;
        self.state = State::Idle;
        self.guard.moved(&self.shared, &self.link);
        self.server.offer_auth(offer(&self.shared, &self.link).auth);
        tracing::info!(session = self.session, peer = %self.link.peer, "a trusted peer speaks for another");
        let judged = self.answering().ask(&Question::Connect);
        self.judged(Step::Connect, judged);
    }

    /// The hook has spoken, or will: does what our own rules had decided, or takes it back.
    fn judged(&mut self, step: Step, judged: Judged) {
        match judged {
            Judged::Later(awaited) => {
                self.asked = Some(step);
                self.wait = Some(Wait::Verdict(awaited));
            }
            Judged::Accept => match step {
                Step::Auth => self.server.auth(sasl::Verdict::Accept),
                Step::Data => self.begin(),
                Step::End => self.wait = self.end().map(Wait::Ticket),
                Step::Connect | Step::Hello | Step::Mail | Step::Rcpt => self.server.accept(),
            },
            Judged::Refuse(refusal) => {
                tracing::info!(
                    session = self.session, ?step, code = refusal.code,
                    text = %refusal.text.escape_debug(), "refused by the hook"
                );
                match step {
                    Step::Auth => self.account = None,
                    Step::Mail | Step::Data => self.state = State::Idle,
                    Step::End => {
                        self.shared.counters.messages_refused.of(self.service).up();
                        self.state = State::Idle;
                    }
                    Step::Rcpt => {
                        self.tally.refused = self.tally.refused.saturating_add(1);
                        self.shared.counters.recipients_refused.up();
                        if let State::Envelope(transaction) = &mut self.state {
                            transaction.take_back();
                        }
                    }
                    Step::Connect | Step::Hello => {}
                }
                self.server.reply(refusal.reply());
            }
        }
    }

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
        let (rights, bytes) = {
            let rules = self.shared.rules.load();
            (rules.sender_rights, rules.header_bytes)
        };
        let origin = Origin {
            hello: &self.hello,
            address: Some(self.link.peer.ip()),
            with: self.server.with_keyword(),
            tls: self.link.tls.as_deref(),
            header: Some(HeaderRules {
                bytes,
                submission: self.service == "submission",
                sender: self.account.clone().filter(|_| rights == SenderRights::Header),
            }),
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
            State::Body(incoming) => incoming.finish(&self.shared, self.session),
            State::Broken(trouble) => Err(trouble),
            _ => Err(Trouble::Store(Error::new(Kind::Internal, "end of data without data"))),
        };
        match result {
            Ok((ticket, pending)) => {
                self.state = State::Committing(Box::new(pending));
                Some(ticket)
            }
            Err(trouble) => {
                self.shared.counters.messages_refused.of(self.service).up();
                let reply = match trouble {
                    Trouble::Refused(reply) => {
                        tracing::info!(
                            session = self.session,
                            text = reply.text,
                            "message refused"
                        );
                        reply
                    }
                    Trouble::Store(error) => refusal(&error),
                };
                self.server.reply(reply);
                None
            }
        }
    }

    fn committed(&mut self, pending: &Pending, result: Result<()>) {
        match result {
            Ok(()) => {
                self.tally.messages = self.tally.messages.saturating_add(1);
                self.shared.counters.messages.of(self.service).up();
                pending.acknowledged(&self.shared, Some(self.link.peer));
                let mut text = [0; 64];
                self.server.reply(Reply::new(250, 0, 0, queued_as(pending, &mut text)));
            }
            Err(error) => {
                self.shared.counters.messages_refused.of(self.service).up();
                self.server.reply(refusal(&error));
            }
        }
    }
}

impl Drop for SmtpConversation {
    /// However the session ended, it is told once.
    fn drop(&mut self) {
        let reason = match self.tally {
            Tally { quit: true, .. } => "quit",
            Tally { lost: true, .. } => "lost",
            _ => "closed",
        };
        let Tally { messages, refused, .. } = self.tally;
        tracing::info!(
            session = self.session, service = self.service, peer = %self.link.peer, reason, messages, refused,
            "session ended"
        );
        self.shared.emit(&HostEvent::SessionEnded {
            session: self.session,
            service: self.service,
            peer: self.link.peer,
            reason,
            messages,
            refused,
        });
    }
}

/// What is said in the place of a hook that did not answer.
fn late(shared: &Shared) -> Judged {
    match &shared.hooks {
        Some(hooks) => Judged::Refuse(hooks.late.clone()),
        None => Judged::Accept,
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
    hello_forwarded: bool,
    account: &'c Option<Arc<Account>>,
    state: &'c mut State,
    service: &'static str,
    session: u64,
    tally: &'c mut Tally,
}

impl Answering<'_> {
    fn answer(&mut self, event: Event<'_>) -> Answer {
        match event {
            Event::Connect if !self.shared.spool.admission().writable => Answer::Reply(PAUSED),
            Event::Connect => self.put(Step::Connect, &Question::Connect),
            Event::Hello { name, .. } => {
                if !self.hello_forwarded && **self.hello != *name {
                    *self.hello = name.into();
                }
                self.put(Step::Hello, &Question::Hello { name: self.hello })
            }
            Event::StartTls => Answer::StartTls,
            Event::Auth(question) => self.verify(&question),
            Event::Mail { .. }
                if self.account.as_ref().is_some_and(|account| self.shared.is_gone(account)) =>
            {
                Answer::Reply(GONE)
            }
            Event::Mail { from, parameters } => self.mail(from, parameters),
            Event::Rcpt { to, parameters } => self.recipient(to, parameters),
            Event::DataStart => {
                let recipients = match self.state {
                    State::Envelope(transaction) => transaction.recipients(),
                    _ => 0,
                };
                self.put(Step::Data, &Question::Data { recipients })
            }
            Event::DataChunk(bytes) => self.chunk(bytes),
            Event::DataEnd { size } => match self.state {
                State::Body(incoming) => {
                    let id = incoming.id();
                    self.put(Step::End, &Question::End { id, size })
                }
                // It is refused anyway.
                _ => Answer::Ask(Step::End, Judged::Accept),
            },
            Event::Reset => {
                *self.state = State::Idle;
                Answer::None
            }
            Event::Quit => {
                self.tally.quit = true;
                Answer::None
            }
            // Not offered here.
            Event::Verify { .. } | Event::Expand { .. } => Answer::Reply(UNAVAILABLE),
            Event::Etrn { node } => self.etrn(node),
            Event::Forwarded(forwarded) => Answer::Forwarded(Box::new(forwarded.clone())),
        }
    }

    /// Our own rules accept: asks the hook.
    fn put(&self, step: Step, question: &Question<'_>) -> Answer {
        Answer::Ask(step, self.ask(question))
    }

    fn ask(&self, question: &Question<'_>) -> Judged {
        let Some(hooks) = &self.shared.hooks else { return Judged::Accept };
        let facts = Facts {
            session: self.session,
            service: self.service,
            peer: self.link.peer,
            tls: self.link.tls.as_deref(),
            hello: self.hello,
            login: self.account.as_ref().map(|account| account.login.as_str()),
        };
        let mut later = Defer::default();
        match hooks.hook.ask(&facts, question, &mut later) {
            hook::Answer::Accept => Judged::Accept,
            hook::Answer::Refuse(refusal) => Judged::Refuse(refusal),
            hook::Answer::Later => match later.ticket() {
                Some(ticket) => Judged::Later(Awaited { ticket, millis: hooks.millis }),
                None => late(self.shared),
            },
        }
    }

    fn mail(&mut self, from: Option<&Address>, parameters: &MailParameters) -> Answer {
        if !self.shared.spool.admission().room {
            return Answer::Reply(NO_ROOM);
        }
        if let (Some(account), Some(from)) = (self.account, from)
            && self.shared.rules.load().sender_rights >= SenderRights::Envelope
            && !is_own(self.shared, account, from)
        {
            tracing::info!(
                session = self.session, login = %account.login.escape_debug(), ?from, "sender refused"
            );
            return Answer::Reply(NOT_YOURS);
        }
        let flag = |on: bool, bit: u16| if on { bit } else { 0 };
        let flags = flag(parameters.body == Body::EightBit, envelope_flags::EIGHT_BIT)
            | flag(parameters.body == Body::Binary, envelope_flags::BINARY)
            | flag(parameters.smtputf8, envelope_flags::SMTPUTF8)
            | flag(self.account.is_some(), envelope_flags::AUTHENTICATED);
        let path = from.map_or(&[][..], |address| address.as_bytes());
        let now = self.shared.clock.unix_millis();
        let until = |hold| match hold {
            Hold::For(seconds) => now.saturating_add(u64::from(seconds).saturating_mul(1000)),
            Hold::Until(seconds) => seconds.saturating_mul(1000),
        };
        let mut text = Vec::new();
        parameters.relay_text(&mut text);
        let transaction =
            Transaction::new(path, flags).with_parameters(text, parameters.hold.map(until));
        *self.state = State::Envelope(Box::new(transaction));
        self.put(Step::Mail, &Question::Mail { from, parameters })
    }

    fn verify(&self, question: &sasl::Question<'_>) -> Answer {
        match login::answer(self.shared, self.link, question) {
            login::Answer::Now(verdict) => Answer::Verdict(verdict),
            login::Answer::Work(work) => Answer::Wait(Wait::Login(Box::new(|| match work() {
                Login::Account(account) => Settled::Login(Some(account)),
                Login::Refused => Settled::Login(None),
                Login::Unavailable => Settled::Failed,
            }))),
        }
    }

    fn recipient(&mut self, to: &Address, parameters: &RcptParameters) -> Answer {
        let State::Envelope(transaction) = &mut self.state else {
            return Answer::Reply(UNAVAILABLE);
        };
        let peer = self.link.peer(self.account.is_some());
        // LMTP is the last hop (RFC 2033 3).
        let may_relay = self.service != "lmtp" && self.shared.rules.load().may_relay(&peer);
        let mut text = Vec::new();
        parameters.relay_text(&mut text);
        let reply = match transaction.add(self.shared, to, &text, may_relay) {
            Recipient::Accepted => {
                return self.put(Step::Rcpt, &Question::Rcpt { to, parameters });
            }
            Recipient::Unknown => Reply::new(550, 1, 1, "No such user here"),
            Recipient::RelayDenied => Reply::new(550, 7, 1, "Relaying denied"),
        };
        self.tally.refused = self.tally.refused.saturating_add(1);
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

    /// ETRN (RFC 1985) for who may relay: anybody else could make us knock at a host's door.
    fn etrn(&self, node: &[u8]) -> Answer {
        let peer = self.link.peer(self.account.is_some());
        if !self.shared.rules.load().may_relay(&peer) {
            return Answer::Reply(NODE_NOT_ALLOWED);
        }
        // A queue by name: there are none.
        let Ok(node) = Node::parse(&String::from_utf8_lossy(node)) else {
            return Answer::Reply(NODE_UNKNOWN);
        };
        let shared = Arc::clone(self.shared);
        Answer::Wait(Wait::Work(Box::new(move || Settled::Run(shared.queue_run(&node)))))
    }

    fn chunk(&mut self, bytes: &[u8]) -> Answer {
        let State::Body(incoming) = &mut self.state else { return Answer::None };
        if let Err(trouble) = incoming.write(self.shared, bytes) {
            *self.state = State::Broken(trouble);
            return Answer::None;
        }
        match incoming.pressure() {
            Some(ticket) => Answer::Wait(Wait::Ticket(ticket)),
            None => Answer::None,
        }
    }
}
