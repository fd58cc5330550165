//! One connection to another server: a socket, perhaps TLS, and a client machine.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Plan, Way, blocking};
use crate::delivery::{self, Attempt, Host, Route, RouteTls};
use crate::runtime::tls::{Connector, Tls};
use crate::sasl::Nonce;
use crate::sasl::client::Channel;
use crate::service::Shared;
use crate::session::{Next, Session as _};
use crate::smtp::answer::Answer;
use crate::smtp::client::{
    Client, ClientEvent, Content, Origin, Phase, Recipient, Transaction, Verdict,
};
use crate::store::{MessageReader, PIECE_BYTES, QueueEntry, QueueRecipient, envelope_flags};
use crate::time::Clock;

/// Milliseconds for a connection to come about.
const CONNECT_MILLIS: u64 = 30_000;
/// Milliseconds for a TLS handshake.
const HANDSHAKE_MILLIS: u64 = 30_000;
/// Milliseconds that the other side may take to take our output.
const WRITE_MILLIS: u64 = 180_000;
/// Of a message whose sender wanted it back by now (BY with R, RFC 2852 4.1.4.2).
pub const TOO_LATE: &str = "550 5.4.7 The time for delivery that the sender gave is over";
/// Of a message with REQUIRETLS, on a route that asks for no certificate (RFC 8689 4.2.1).
const NOT_VERIFIED: &str =
    "550 5.7.10 Message demands REQUIRETLS, and the route does not verify the receiving system";
/// Milliseconds for what the other side has said before the connection broke, and octets of it.
const LAST_WORDS_MILLIS: u64 = 1_000;
const LAST_WORDS_BYTES: usize = 64 << 10;
/// Octets read at once.
const READ_BYTES: usize = 16 << 10;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection that transactions are made on.
pub struct Session {
    stream: Box<dyn Stream>,
    tls: Option<Box<Tls>>,
    connector: Option<Connector>,
    /// The name in the other side's certificate.
    name: String,
    /// Nobody but the host that the route means is spoken to.
    verified: bool,
    client: Client,
    clock: Arc<dyn Clock>,
    input: Vec<u8>,
    out: Vec<u8>,
    transactions: u64,
    /// The last transaction came to nothing because of the connection: the other side has said nothing about the message.
    spent: bool,
    over: bool,
}

/// What a step brought, without the borrows of an event.
enum Happened {
    Ready,
    StartTls,
    Recipient { index: usize, verdict: Verdict, answer: String, about: About },
    NeedBody { max: usize },
    Done { closing: bool },
    Failed { answer: String, clear_may_do: bool },
    Closed,
}

/// What an answer is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// The message or the recipient.
    Mail,
    /// The connection, which is lost or being closed (421, RFC 5321 3.8).
    End,
    /// The connection, which had as many messages or recipients as the other side grants to one (452, RFC 5321 4.5.3.1.10).
    Bound,
}

/// Why no session came about.
struct Refused {
    answer: String,
    clear_may_do: bool,
}

impl Session {
    /// Connects, and goes as far as the other side is ready for a message. An error says in words why not.
    pub async fn open(plan: &Plan, route: &Route, way: &Way) -> Result<Session, String> {
        match Session::greet(plan, route, way, true).await {
            // Better in clear than not at all, unless somebody has said otherwise (RFC 7435).
            Err(Refused { clear_may_do: true, .. }) => {
                Session::greet(plan, route, way, false).await.map_err(|refused| refused.answer)
            }
            other => other.map_err(|refused| refused.answer),
        }
    }

    async fn greet(plan: &Plan, route: &Route, way: &Way, tls: bool) -> Result<Session, Refused> {
        let stream =
            tokio::time::timeout(Duration::from_millis(CONNECT_MILLIS), connect(&route.host))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                .map_err(|e| Refused {
                    answer: format!("cannot connect to {}: {e}", route.host),
                    clear_may_do: false,
                })?;
        let mut config = Arc::clone(&way.client);
        if !tls {
            Arc::make_mut(&mut config).tls = crate::smtp::client::Tls::Never;
        }
        let mut session = Session {
            stream,
            tls: None,
            connector: way.connector.clone(),
            name: match &route.host {
                Host::Net(name, _) => name.clone(),
                Host::Socket(_) => "localhost".to_owned(),
            },
            verified: route.tls == RouteTls::Required,
            client: Client::new(config, false, plan.clock.now()),
            clock: Arc::clone(&plan.clock),
            input: Vec::new(),
            out: Vec::new(),
            transactions: 0,
            spent: false,
            over: false,
        };
        session.set_channel();
        loop {
            match session.next().await {
                Happened::Ready => return Ok(session),
                Happened::StartTls => session.shake_hands().await,
                Happened::Failed { answer, clear_may_do } => {
                    session.end().await;
                    return Err(Refused { answer, clear_may_do });
                }
                Happened::Closed => {
                    let answer = "the connection was closed".to_owned();
                    return Err(Refused { answer, clear_may_do: false });
                }
                _ => {}
            }
        }
    }

    /// Whether another transaction may begin.
    pub fn is_ready(&self) -> bool {
        !self.over && self.client.is_idle() && self.client.has_room()
    }

    /// Whether no transaction was made yet.
    pub fn is_fresh(&self) -> bool {
        self.transactions == 0
    }

    /// Whether the last transaction found the connection lost, being closed, or used up, before the other side had said
    /// anything about the message.
    pub fn was_spent(&self) -> bool {
        self.spent
    }

    /// The session, when another transaction may begin on it.
    pub fn keep(self) -> Option<Session> {
        self.is_ready().then_some(self)
    }

    /// Sends a message to these recipients of it; what came of each.
    pub async fn send(
        &mut self,
        shared: &Arc<Shared>,
        entry: &QueueEntry,
        recipients: &[QueueRecipient],
    ) -> Vec<Attempt> {
        let to: Vec<_> = recipients
            .iter()
            .map(|r| (String::from_utf8_lossy(&r.address), String::from_utf8_lossy(&r.parameters)))
            .collect();
        let to: Vec<_> = to.iter().map(|(to, parameters)| Recipient { to, parameters }).collect();
        let flags = entry.envelope.flags;
        let Some(parameters) = delivery::relayed(&entry.envelope, shared.clock.unix_millis())
        else {
            let of = |r: &QueueRecipient| attempt(r, Verdict::Permanent, TOO_LATE);
            return recipients.iter().map(of).collect();
        };
        let private = parameters.split(|octet| *octet == b' ').any(|word| word == b"REQUIRETLS");
        if private && !self.verified {
            let of = |r: &QueueRecipient| attempt(r, Verdict::Permanent, NOT_VERIFIED);
            return recipients.iter().map(of).collect();
        }
        let begun = self.client.begin(&Transaction {
            from: &String::from_utf8_lossy(&entry.envelope.from),
            parameters: &String::from_utf8_lossy(&parameters),
            recipients: &to,
            size: entry.size.saturating_sub(u64::from(entry.envelope.prefix_len)),
            content: if flags & envelope_flags::BINARY != 0 {
                Content::Binary
            } else if flags & envelope_flags::EIGHT_BIT != 0 {
                Content::EightBit
            } else {
                Content::SevenBit
            },
            utf8: flags & envelope_flags::SMTPUTF8 != 0,
        });
        let mut attempts: Vec<Attempt> = Vec::with_capacity(recipients.len());
        if let Err(error) = begun {
            // What cannot be said to this server cannot be said to any.
            let of = |r: &QueueRecipient| attempt(r, Verdict::Permanent, &error.to_string());
            return recipients.iter().map(of).collect();
        }
        self.transactions = self.transactions.saturating_add(1);
        let mut body = Body::Closed;
        let (mut told, mut bound) = (false, false);
        loop {
            match self.next().await {
                Happened::Recipient { index, verdict, answer, about } => {
                    told |= about == About::Mail;
                    bound |= about == About::Bound;
                    if let Some(recipient) = recipients.get(index) {
                        attempts.push(attempt(recipient, verdict, &answer));
                    }
                }
                Happened::NeedBody { max } => {
                    // Whoever asks for the body has answered MAIL.
                    told = true;
                    body = self.give_body(shared, entry, body, max).await;
                }
                Happened::Done { closing } => {
                    self.spent = (closing || bound) && !told;
                    if closing {
                        self.end().await;
                    }
                    break;
                }
                Happened::Closed => {
                    self.over = true;
                    break;
                }
                _ => {}
            }
        }
        // The machine has told of each; should it not have, what is not known is tried again.
        for recipient in recipients {
            if attempts.len() < recipients.len()
                && attempts.iter().all(|attempt| attempt.address != recipient.address)
            {
                attempts.push(attempt(recipient, Verdict::Unknown, "the connection was lost"));
            }
        }
        attempts
    }

    /// Says goodbye.
    pub async fn quit(mut self) {
        self.client.quit();
        self.end().await;
    }

    /// Goes on until the machine says that it is over.
    async fn end(&mut self) {
        while !self.over {
            if matches!(self.next().await, Happened::Closed) {
                self.over = true;
            }
        }
        let _ = self.stream.shutdown().await;
    }

    /// The next piece of the message.
    async fn give_body(
        &mut self,
        shared: &Arc<Shared>,
        entry: &QueueEntry,
        body: Body,
        max: usize,
    ) -> Body {
        let (shared, id) = (Arc::clone(shared), entry.message);
        let read = blocking(move || {
            let (mut reader, mut offset) = match body {
                Body::Open(reader, offset) => (reader, offset),
                Body::Closed => {
                    let reader = shared.mailboxes.read(id)?;
                    let offset = reader.prefix_len();
                    (Box::new(reader), offset)
                }
            };
            let mut piece = vec![0; max.min(PIECE_BYTES)];
            let read = reader.read_at(offset, &mut piece)?;
            piece.truncate(read);
            offset = offset.saturating_add(read as u64);
            Ok((piece, Body::Open(reader, offset)))
        })
        .await;
        let (given, body) = match read {
            Ok((piece, body)) if piece.is_empty() => (self.client.body_end(&mut self.out), body),
            Ok((piece, body)) => (self.client.body(&piece, &mut self.out), body),
            Err(error) => {
                tracing::error!(%id, %error, "message cannot be read for delivery");
                (self.client.body_failed("the message cannot be read now"), Body::Closed)
            }
        };
        if let Err(error) = given {
            tracing::error!(%id, %error, "client session");
        }
        body
    }

    /// Steps until something has happened, with all the reading and writing that it takes.
    async fn next(&mut self) -> Happened {
        loop {
            let now = self.clock.now();
            let step = self.client.step(now, &self.input, &mut self.out);
            let used = step.consumed;
            let mut read = false;
            let happened = match step.next {
                Next::Event(event) => Some(happened(event)),
                Next::Closed => Some(Happened::Closed),
                Next::Blocked => None,
                Next::NeedInput => {
                    read = true;
                    None
                }
            };
            self.input.drain(..used.min(self.input.len()));
            match happened {
                Some(Happened::NeedBody { max }) => return Happened::NeedBody { max },
                Some(happened) => {
                    if matches!(happened, Happened::StartTls | Happened::Closed) {
                        self.flush().await;
                    }
                    return happened;
                }
                None => {}
            }
            if !self.flush().await {
                continue;
            }
            if read {
                self.fill().await;
            }
        }
    }

    /// Writes out all output. `false`: the connection is lost, and the machine knows.
    async fn flush(&mut self) -> bool {
        if self.out.is_empty() {
            return true;
        }
        let mut sealed = Vec::new();
        let bytes = match &mut self.tls {
            None => &self.out,
            Some(tls) => {
                let done = tls
                    .put_plaintext(&self.out, &mut sealed)
                    .and_then(|()| tls.take_ciphertext(&mut sealed));
                if done.is_err() {
                    return self.lose().await;
                }
                &sealed
            }
        };
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let written = tokio::time::timeout(Duration::from_millis(WRITE_MILLIS), write).await;
        self.out.clear();
        match written {
            Ok(Ok(())) => true,
            _ => self.lose().await,
        }
    }

    /// Nothing can be written any more. What the other side has said before it went is its answer: it is read.
    async fn lose(&mut self) -> bool {
        self.out.clear();
        let mut said = Vec::new();
        let read = async {
            while said.len() < LAST_WORDS_BYTES
                && self.stream.read_buf(&mut said).await.is_ok_and(|read| read > 0)
            {}
        };
        let _ = tokio::time::timeout(Duration::from_millis(LAST_WORDS_MILLIS), read).await;
        match &mut self.tls {
            None => self.input.append(&mut said),
            // Broken TLS has said nothing.
            Some(tls) => drop(tls.put_ciphertext(&said, &mut self.input)),
        }
        self.client.eof(self.clock.now());
        false
    }

    /// Reads once, or waits for the machine's deadline.
    async fn fill(&mut self) {
        let mut buffer = Vec::with_capacity(READ_BYTES);
        let read = self.stream.read_buf(&mut buffer);
        let read = match self.client.deadline() {
            None => read.await,
            Some(at) => {
                let wait = Duration::from_millis(at.since(self.clock.now()));
                match tokio::time::timeout(wait, read).await {
                    Ok(read) => read,
                    // The machine sees the time when it is stepped.
                    Err(_) => return,
                }
            }
        };
        let mut open = read.is_ok_and(|read| read > 0);
        match &mut self.tls {
            None => self.input.append(&mut buffer),
            Some(tls) => {
                open = tls.put_ciphertext(&buffer, &mut self.input).unwrap_or(false) && open;
                let mut answer = Vec::new();
                if tls.take_ciphertext(&mut answer).is_ok() && !answer.is_empty() {
                    let write = self.stream.write_all(&answer);
                    let written = tokio::time::timeout(Duration::from_millis(WRITE_MILLIS), write);
                    open = matches!(written.await, Ok(Ok(()))) && open;
                }
            }
        }
        if !open {
            self.client.eof(self.clock.now());
        }
    }

    /// What SCRAM needs. Without randomness it is not used.
    fn set_channel(&mut self) {
        let mut nonce = Nonce::default();
        if let Err(error) = getrandom::fill(&mut nonce) {
            return tracing::error!(%error, "no randomness for a login");
        }
        let exporter = self.tls.as_ref().and_then(|tls| tls.facts()?.exporter);
        let channel = exporter.map_or(Channel::Unbound, |data| Channel::Exporter(data.to_vec()));
        self.client.set_channel(nonce, channel);
    }

    /// The other side is ready for TLS.
    async fn shake_hands(&mut self) {
        let unread = std::mem::take(&mut self.input);
        if !unread.is_empty() {
            return self.client.tls_started(&unread, &mut self.out);
        }
        let time = Duration::from_millis(HANDSHAKE_MILLIS);
        let shaken = match &self.connector {
            None => Err("TLS is not set up".to_owned()),
            Some(connector) => match connector.connect(&self.name) {
                Err(error) => Err(error.to_string()),
                Ok(tls) => {
                    tokio::time::timeout(time, shake(&mut *self.stream, tls, &mut self.input))
                        .await
                        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                        .map_err(|e| e.to_string())
                }
            },
        };
        match shaken {
            Ok(tls) => {
                self.tls = Some(Box::new(tls));
                self.set_channel();
                self.client.tls_started(&[], &mut self.out);
            }
            Err(why) => self.client.tls_failed(&why),
        }
    }
}

/// The message that is being sent.
enum Body {
    Closed,
    Open(Box<MessageReader>, u64),
}

fn attempt(recipient: &QueueRecipient, verdict: Verdict, answer: &str) -> Attempt {
    Attempt { address: recipient.address.clone(), verdict, answer: answer.to_owned() }
}

fn happened(event: ClientEvent<'_>) -> Happened {
    match event {
        ClientEvent::StartTls => Happened::StartTls,
        ClientEvent::Ready { .. } => Happened::Ready,
        ClientEvent::Recipient { index, outcome } => Happened::Recipient {
            index,
            verdict: outcome.verdict,
            answer: text(outcome.answer),
            about: match (outcome.origin, outcome.phase, outcome.answer.code()) {
                (Origin::Client, ..) => About::End,
                // In front of everything it may have waited since long before.
                (Origin::Peer, Phase::Mail, 421) => About::End,
                // A mailbox may be full as well, which its enhanced code says (RFC 3463 3.3).
                (Origin::Peer, Phase::Mail | Phase::Rcpt, 452)
                    if !outcome.answer.text().starts_with("4.2.") =>
                {
                    About::Bound
                }
                (Origin::Peer, ..) => About::Mail,
            },
        },
        ClientEvent::NeedBody { max } => Happened::NeedBody { max },
        ClientEvent::Done(done) => Happened::Done { closing: done.closing },
        ClientEvent::Failed(failure) => {
            Happened::Failed { answer: text(failure.answer), clear_may_do: failure.clear_may_do }
        }
    }
}

fn text(answer: &Answer) -> String {
    format!("{} {}", answer.code(), answer.text().replace('\n', " / "))
}

async fn connect(host: &Host) -> io::Result<Box<dyn Stream>> {
    match host {
        Host::Net(name, port) => {
            let stream = TcpStream::connect((name.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        #[cfg(unix)]
        Host::Socket(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        #[cfg(not(unix))]
        Host::Socket(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

async fn shake(stream: &mut dyn Stream, mut tls: Tls, early: &mut Vec<u8>) -> io::Result<Tls> {
    let mut buffer = Vec::new();
    loop {
        let mut answer = Vec::new();
        tls.take_ciphertext(&mut answer)?;
        stream.write_all(&answer).await?;
        if !tls.is_handshaking() {
            return Ok(tls);
        }
        buffer.clear();
        buffer.reserve(READ_BYTES);
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let result = tls.put_ciphertext(&buffer, early);
        if result.is_err() {
            // The alert is the last that it hears of us.
            let mut alert = Vec::new();
            if tls.take_ciphertext(&mut alert).is_ok() {
                let _ = stream.write_all(&alert).await;
            }
        }
        if !result? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
