//! POP3: a server machine, answered.
//!
//! A login is one job: the password, the maildrop's lock (RFC 1939 section 3: exclusive), and its listing,
//! frozen for the session. A message's bytes are fetched piece by piece on a worker thread, since the disk
//! may be slow. Deletions become one expunge at QUIT; a connection that ends otherwise deletes nothing, and its
//! lock goes with it.

use std::sync::Arc;

use super::login::{self, Login};
use super::{Conversation, Link, MaildropLock, Progress, Settled, Shared, TlsFacts, Wait};
use crate::directory::Account;
use crate::error::{Error, Kind, Result};
use crate::pop3::server::{Denial, Entry, Event, Maildrop, Offer, Server, ServerConfig};
use crate::session::{Next, Session};
use crate::store::{MailboxId, MessageId, MessageReader, envelope_flags};
use crate::time::Time;

/// Most bytes of a message read at once.
const PIECE: usize = 64 << 10;

/// Rows read from the index at once while a maildrop is listed.
const ROWS: usize = 4096;

/// One POP3 connection.
pub struct Pop3Conversation {
    server: Server,
    shared: Arc<Shared>,
    link: Link,
    open: Option<Open>,
    /// The message being sent, kept open between its pieces.
    reading: Option<(usize, Box<MessageReader>)>,
}

struct Open {
    _lock: MaildropLock,
    account: Arc<Account>,
    messages: Vec<MessageId>,
    uids: Vec<u32>,
}

/// A maildrop that a login opened.
pub struct Opened {
    open: Open,
    maildrop: Maildrop,
}

/// A piece of a message.
pub struct Piece {
    index: usize,
    reader: Box<MessageReader>,
    bytes: Vec<u8>,
    /// Nothing comes after it.
    last: bool,
}

impl Pop3Conversation {
    /// A conversation for a new connection.
    pub fn new(
        shared: Arc<Shared>,
        config: Arc<ServerConfig>,
        link: Link,
        now: Time,
    ) -> Pop3Conversation {
        let mut server = Server::new(config, offer(&shared, &link), now);
        let (mechanisms, bindings) = shared.logins.load().offer(&link);
        server.set_mechanisms(mechanisms, bindings);
        Pop3Conversation { server, shared, link, open: None, reading: None }
    }
}

fn offer(shared: &Shared, link: &Link) -> Offer {
    Offer {
        tls: link.tls.is_some(),
        stls: link.starttls && link.tls.is_none(),
        login: shared.rules.load().may_log_in(&link.peer(false)),
    }
}

impl Conversation for Pop3Conversation {
    fn advance(&mut self, now: Time, input: &[u8], out: &mut Vec<u8>) -> (usize, Progress) {
        if self.open.as_ref().is_some_and(|open| self.shared.is_gone(&open.account)) {
            // Its mail is gone; the session ends at the next reply.
            self.server.shutdown();
        }
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let step = self.server.step(now, rest, out);
            used += step.consumed;
            let wait = match step.next {
                Next::NeedInput => {
                    // TOP ends before its message does: an idle connection keeps no message in memory.
                    self.reading = None;
                    return (used, Progress::NeedInput);
                }
                Next::Blocked => return (used, Progress::Blocked),
                Next::Closed => {
                    self.open = None;
                    self.reading = None;
                    return (used, Progress::Closed);
                }
                Next::Event(Event::Connect) => {
                    self.server.accept();
                    continue;
                }
                Next::Event(Event::StartTls) => return (used, Progress::StartTls),
                Next::Event(Event::Auth(question)) => {
                    match login::answer(&self.shared, &self.link, &question) {
                        login::Answer::Work(work) => log_in_job(&self.shared, work),
                        login::Answer::Now(verdict) => {
                            self.server.auth(verdict);
                            continue;
                        }
                    }
                }
                Next::Event(Event::NeedBody { index, offset, max }) => {
                    match self.piece_job(index, offset, max) {
                        Some(wait) => wait,
                        None => {
                            self.server.body_failed(out);
                            continue;
                        }
                    }
                }
                Next::Event(Event::Update { deleted }) => {
                    match expunge(&self.shared, &self.open, deleted) {
                        Some(wait) => wait,
                        None => {
                            self.open = None;
                            self.server.updated(true);
                            continue;
                        }
                    }
                }
            };
            return (used, Progress::Wait(wait));
        }
    }

    fn settle(&mut self, settled: Settled, out: &mut Vec<u8>) {
        match settled {
            Settled::Maildrop(Ok(Opened { open, maildrop })) => {
                self.open = Some(open);
                self.server.opened(maildrop);
            }
            Settled::Maildrop(Err(denial)) => self.server.denied(denial),
            Settled::Body(Ok(piece)) => {
                self.server.body(&piece.bytes, out);
                if piece.last {
                    self.shared.counters.messages_retrieved.up();
                    self.server.body_end(out);
                } else {
                    self.reading = Some((piece.index, piece.reader));
                }
            }
            Settled::Body(Err(error)) => {
                tracing::error!(%error, "message cannot be read");
                self.reading = None;
                self.server.body_failed(out);
            }
            // Nobody is asked here.
            Settled::Verdict(_) | Settled::Run(_) => {}
            Settled::Ticket(result) => {
                if let Err(error) = &result {
                    tracing::error!(%error, "messages not removed");
                }
                self.open = None;
                self.server.updated(result.is_ok());
            }
            Settled::Paused => {}
            Settled::Login(_) | Settled::Failed => {
                self.server.denied(Denial::Temporary);
                self.server.body_failed(out);
            }
        }
    }

    fn tls_started(&mut self, facts: Option<Arc<TlsFacts>>, unread: &[u8]) {
        self.link.tls = facts;
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

/// The job that a decided login begins: opening the maildrop.
fn log_in_job(shared: &Arc<Shared>, work: Box<dyn FnOnce() -> Login + Send>) -> Wait {
    let shared = Arc::clone(shared);
    Wait::Login(Box::new(move || {
        Settled::Maildrop(match work() {
            Login::Account(account) => open(&shared, account),
            Login::Refused => Err(Denial::Credentials),
            Login::Unavailable => Err(Denial::Temporary),
        })
    }))
}

fn open(shared: &Shared, account: Arc<Account>) -> std::result::Result<Opened, Denial> {
    let lock = shared.lock_maildrop(account.id).ok_or(Denial::InUse)?;
    list(shared, account, lock).map_err(|error| {
        tracing::error!(%error, "maildrop cannot be listed");
        Denial::Temporary
    })
}

fn list(shared: &Shared, of: Arc<Account>, lock: MaildropLock) -> Result<Opened> {
    let account = of.id;
    let heads = shared.mailboxes.list(account)?;
    let head = heads.iter().find(|head| head.mailbox == MailboxId::INBOX);
    let mut maildrop =
        Maildrop { validity: head.map_or(0, |head| head.uid_validity), entries: Vec::new() };
    let mut open = Open { _lock: lock, account: of, messages: Vec::new(), uids: Vec::new() };
    let mut after = 0;
    loop {
        let rows = shared.mailboxes.messages(account, MailboxId::INBOX, after, ROWS)?;
        let Some(last) = rows.last() else { break };
        after = last.uid;
        for row in &rows {
            // RETR ends every message with CR LF; where the message has none of its own, it counts.
            let added = if row.envelope_flags & envelope_flags::ENDS_IN_CRLF == 0 { 2 } else { 0 };
            maildrop.entries.push(Entry { octets: row.size.saturating_add(added), uid: row.uid });
            open.messages.push(row.message);
            open.uids.push(row.uid);
        }
    }
    Ok(Opened { open, maildrop })
}

fn expunge(shared: &Shared, open: &Option<Open>, deleted: &[usize]) -> Option<Wait> {
    let open = open.as_ref().filter(|_| !deleted.is_empty())?;
    let uids = deleted.iter().filter_map(|&index| open.uids.get(index).copied()).collect();
    Some(Wait::Ticket(shared.mailboxes.expunge(open.account.id, MailboxId::INBOX, uids)))
}

impl Pop3Conversation {
    fn piece_job(&mut self, index: usize, offset: u64, max: usize) -> Option<Wait> {
        let message = *self.open.as_ref()?.messages.get(index)?;
        let kept = self.reading.take().filter(|(at, _)| *at == index).map(|(_, reader)| reader);
        let shared = Arc::clone(&self.shared);
        Some(Wait::Work(Box::new(move || {
            Settled::Body(piece(&shared, message, kept, index, offset, max.min(PIECE)))
        })))
    }
}

fn piece(
    shared: &Shared,
    message: MessageId,
    kept: Option<Box<MessageReader>>,
    index: usize,
    offset: u64,
    max: usize,
) -> Result<Piece> {
    let mut reader = match kept {
        Some(reader) => reader,
        None => Box::new(shared.mailboxes.read(message)?),
    };
    let left = usize::try_from(reader.len().saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; left.min(max)];
    let read = reader.read_at(offset, &mut bytes)?;
    bytes.truncate(read);
    let end = offset.saturating_add(read as u64);
    if read == 0 && end < reader.len() {
        // A part must not pass for the whole.
        let text = format!("message {message} ends at byte {end} of {}", reader.len());
        return Err(Error::new(Kind::Corrupt, text));
    }
    let last = end >= reader.len();
    Ok(Piece { index, reader, bytes, last })
}
