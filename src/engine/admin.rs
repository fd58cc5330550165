//! Administration as data: what the command line and the control socket ask, and what the engine answers.
//!
//! A [`Request`] is a value that can travel (JSON through [`crate::runtime::control`]) or be handled in the same
//! process by [`handle`]: a program that administers does the same in both cases, whether a server
//! runs or not. Lists are given in pages, bounded in entries and in bytes; `next` is where the page
//! after this one begins, and a page without it is the last. Errors keep their kind on the way.
//!
//! Handling blocks (password hashing, syncs, reading segments): never call it on a thread that serves
//! connections. Passwords are in requests in clear; a request has no `Debug` for that reason.

use std::path::Path;
use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};

use super::{Engine, Stats, Status};
use crate::codec::mime;
use crate::directory::{Account, Alias, NewAccount};
use crate::error::{Error, Kind, Result};
use crate::policy::defence::Locked;
use crate::runtime::control::{Administrator, Answer, ControlServer};
use crate::store::{
    CompactOptions, MailboxId, MessageId, QueueEntry, QueueRecipient, RecipientState, ScrubOptions,
};
use crate::vfs::Fs;

/// Most entries of a page, whatever was asked for.
const PAGE_ENTRIES: usize = 1000;

/// A page ends when its entries take about so many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// Entries that are read from the store at a time.
const BATCH: usize = 50;

/// Bytes at the front of a message that are looked through for Subject and From.
const HEADER_BYTES: usize = 16 << 10;

/// What can be asked.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Makes an account. Answer: [`Response::Account`].
    AccountAdd {
        /// Its addresses, the primary one first.
        addresses: Vec<String>,
        /// Its login name; the primary address if there is none.
        login: Option<String>,
        /// Its password.
        password: String,
    },
    /// Accounts after this primary address. Answer: [`Response::Accounts`].
    AccountList {
        /// Where to go on; `None`: at the beginning.
        after: Option<String>,
        /// Most entries.
        limit: usize,
    },
    /// Removes an account and its mail. Answer: [`Response::Done`].
    AccountRemove {
        /// One of its addresses.
        address: String,
    },
    /// Sets a password. Answer: [`Response::Done`].
    AccountSetPassword {
        /// One of the account's addresses.
        address: String,
        /// The new password.
        password: String,
    },
    /// Adds an alias. Answer: [`Response::Done`].
    AliasAdd {
        /// The address.
        address: String,
        /// Where its mail goes.
        targets: Vec<String>,
    },
    /// Aliases after this address. Answer: [`Response::Aliases`].
    AliasList {
        /// Where to go on; `None`: at the beginning.
        after: Option<String>,
        /// Most entries.
        limit: usize,
    },
    /// Removes an alias. Answer: [`Response::Done`].
    AliasRemove {
        /// The address.
        address: String,
    },
    /// Queue entries after this id. Answer: [`Response::Queue`].
    QueueList {
        /// Where to go on; `None`: at the beginning.
        after: Option<String>,
        /// Most entries.
        limit: usize,
    },
    /// One queue entry with its envelope. Answer: [`Response::Queue`] with one entry.
    QueueShow {
        /// The entry.
        id: String,
    },
    /// Takes an entry out of the queue for ever. Answer: [`Response::Done`].
    QueueRemove {
        /// The entry.
        id: String,
    },
    /// Tries now what waits in the queue for this domain, or all. Answer: [`Response::Started`].
    QueueRun {
        /// The domain, behind `@` with its subdomains; `None`: all.
        domain: Option<String>,
    },
    /// The mailboxes of an account. Answer: [`Response::Mailboxes`].
    MailboxList {
        /// One of the account's addresses.
        address: String,
    },
    /// Messages of a mailbox with UIDs above `after`. Answer: [`Response::Messages`].
    MessageList {
        /// One of the account's addresses.
        address: String,
        /// The mailbox's number.
        mailbox: u32,
        /// Where to go on; 0: at the beginning.
        after: u32,
        /// Most entries.
        limit: usize,
    },
    /// Verifies the store. Reports progress in bytes. Answer: [`Response::Check`].
    Check,
    /// Gives back the space of what nothing refers to any more. Answer: [`Response::Compact`].
    Compact,
    /// Verifies what was written long ago. Reports progress in bytes. Answer: [`Response::Scrub`].
    Scrub,
    /// Figures. Answer: [`Response::Stats`].
    Stats,
    /// How the instance is. Answer: [`Response::Status`].
    Status,
    /// Where the engine listens. Answer: [`Response::Listeners`].
    Listeners,
    /// Reads configuration and certificates anew. Answer: [`Response::Done`].
    Reload,
    /// Who is locked out after failed logins. Answer: [`Response::Lockouts`].
    Lockouts,
    /// Ends the lock-out of a host or a login name. Answer: [`Response::Done`].
    Unlock {
        /// An address of the host, or the name.
        whom: String,
    },
    /// Stops serving, after the answer [`Response::Done`].
    Stop,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", content = "value", rename_all = "kebab-case")]
pub enum Response {
    /// It is done.
    Done,
    /// The new account.
    Account(AccountRow),
    /// A page of accounts.
    Accounts(Page<AccountRow>),
    /// A page of aliases.
    Aliases(Page<AliasRow>),
    /// A queue run has begun.
    Started {
        /// So many messages are on their way.
        messages: u64,
    },
    /// A page of the queue.
    Queue(Page<QueueRow>),
    /// All mailboxes of an account.
    Mailboxes(Vec<MailboxRow>),
    /// A page of a mailbox.
    Messages(Page<MessageRow>),
    /// What a check found.
    Check(Check),
    /// What a compaction did.
    Compact(Compact),
    /// What a scrub found.
    Scrub(Scrub),
    /// Figures.
    Stats(Stats),
    /// How the instance is.
    Status(Box<Status>),
    /// Listeners: name and address with the port it really has.
    Listeners(Vec<(String, String)>),
    /// Who is locked out.
    Lockouts(Vec<LockoutRow>),
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// What `after` of the next request is to be; `None`: this was the last page.
    pub next: Option<String>,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    /// Its number.
    pub id: u32,
    /// Its login name.
    pub login: String,
    /// Its addresses, the primary one first.
    pub addresses: Vec<String>,
}

impl From<&Account> for AccountRow {
    fn from(account: &Account) -> AccountRow {
        AccountRow {
            id: account.id.0,
            login: account.login.clone(),
            addresses: account.addresses.clone(),
        }
    }
}

/// An alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRow {
    /// The address.
    pub address: String,
    /// Where its mail goes.
    pub targets: Vec<String>,
}

/// A queue entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// Its id.
    pub id: String,
    /// Reverse-path; empty for the null path. Octets that are no UTF-8 are replaced.
    pub from: String,
    /// Milliseconds since 1970 when it was accepted.
    pub received: u64,
    /// Bytes.
    pub size: u64,
    /// Recipients that the queue keeps: address, and `remote`, `local`, `held`, `deferred` or `failed`.
    pub recipients: Vec<(String, String)>,
    /// For each of them what its last attempt came to; nothing for one that was not tried.
    #[serde(default)]
    pub attempts: Vec<Option<AttemptRow>>,
}

/// What the last attempt to deliver to a recipient came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRow {
    /// Attempts so far.
    pub attempts: u32,
    /// `deferred`: not before this is it tried again; `failed`: when that was known. Milliseconds since 1970.
    pub time: u64,
    /// What the last attempt was answered. Octets that are no UTF-8 are replaced.
    pub answer: String,
}

impl From<&QueueEntry> for QueueRow {
    fn from(entry: &QueueEntry) -> QueueRow {
        let state = |state| match state {
            RecipientState::Remote => "remote",
            RecipientState::Local(..) => "local",
            RecipientState::Held => "held",
            RecipientState::Deferred { .. } => "deferred",
            RecipientState::Failed { .. } => "failed",
        };
        let attempt = |recipient: &QueueRecipient| match recipient.state {
            RecipientState::Deferred { attempts, next: time }
            | RecipientState::Failed { attempts, at: time } => {
                Some(AttemptRow { attempts, time, answer: lossy(&recipient.answer) })
            }
            _ => None,
        };
        QueueRow {
            id: entry.message.to_string(),
            from: lossy(&entry.envelope.from),
            received: entry.envelope.received,
            size: entry.size,
            recipients: entry
                .recipients
                .iter()
                .map(|r| (lossy(&r.address), state(r.state).to_owned()))
                .collect(),
            attempts: entry.recipients.iter().map(attempt).collect(),
        }
    }
}

/// A lock-out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockoutRow {
    /// A host; otherwise a login name.
    pub host: bool,
    /// The host's address (the first of its prefix), or the name.
    pub whom: String,
    /// Milliseconds until it ends; `None`: until it is ended by hand.
    pub left_millis: Option<u64>,
}

/// A mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxRow {
    /// Its number.
    pub mailbox: u32,
    /// Its name.
    pub name: String,
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
    /// The UID that the next message gets at least.
    pub uid_next: u32,
    /// Messages.
    pub messages: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A message of a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRow {
    /// Its UID.
    pub uid: u32,
    /// The message's id.
    pub id: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970 when it was accepted.
    pub received: u64,
    /// The From field, decoded as far as it can be; empty if there is none.
    pub from: String,
    /// The Subject field, decoded as far as it can be; empty if there is none.
    pub subject: String,
    /// Why the message cannot be read, if so.
    pub damage: Option<String>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Segments read.
    pub segments: u64,
    /// Records verified.
    pub records: u64,
    /// Messages in mailboxes or in the queue.
    pub messages: u64,
    /// Queue entries.
    pub queue_entries: u64,
    /// One line a problem, at most [`PROBLEMS`] of them.
    pub problems: Vec<String>,
    /// Problems beyond those.
    pub more_problems: u64,
}

/// What a compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compact {
    /// Segments looked at.
    pub segments: u64,
    /// Segments freed.
    pub freed: u64,
    /// Bytes of their files.
    pub freed_bytes: u64,
    /// Messages moved.
    pub moved: u64,
    /// Bytes copied.
    pub moved_bytes: u64,
    /// Segments that somebody reads.
    pub held: u64,
    /// One line a finding.
    pub findings: Vec<String>,
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrub {
    /// Segments verified.
    pub segments: u64,
    /// Records verified.
    pub records: u64,
    /// Exports verified.
    pub exports: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Messages whose references were counted.
    pub messages: u64,
    /// Messages whose count was corrected.
    pub corrected: u64,
    /// One line a finding.
    pub findings: Vec<String>,
}

/// Most problems that a [`Check`] lists.
pub const PROBLEMS: usize = 1000;

/// Handles a request.
///
/// # Errors
/// Those of the engine's method that does the work; `InvalidArgument` for an id that is none.
pub fn handle(engine: &Engine, request: Request) -> Result<Response> {
    handle_with(engine, request, &mut |_, _| {})
}

/// Handles a request that may take long; `progress(done, total)` is called on this thread.
///
/// # Errors
/// As [`handle`].
pub fn handle_with(
    engine: &Engine,
    request: Request,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Response> {
    match request {
        Request::AccountAdd { addresses, login, password } => {
            let account = engine.account_add(&NewAccount { addresses, login, password })?;
            Ok(Response::Account(AccountRow::from(&account)))
        }
        Request::AccountList { after, limit } => {
            let accounts = engine.accounts()?;
            let rows = accounts.iter().map(|account| AccountRow::from(account.as_ref()));
            let key = |row: &AccountRow| row.addresses.first().cloned().unwrap_or_default();
            let bytes = |row: &AccountRow| row.addresses.iter().map(String::len).sum();
            Ok(Response::Accounts(page(rows, after.as_deref(), limit, key, bytes)))
        }
        Request::AccountRemove { address } => {
            engine.account_remove(&address)?;
            Ok(Response::Done)
        }
        Request::AccountSetPassword { address, password } => {
            engine.account_set_password(&address, &password)?;
            Ok(Response::Done)
        }
        Request::AliasAdd { address, targets } => {
            engine.alias_add(&Alias { address, targets })?;
            Ok(Response::Done)
        }
        Request::AliasList { after, limit } => {
            let rows = engine
                .aliases()?
                .into_iter()
                .map(|alias| AliasRow { address: alias.address, targets: alias.targets });
            let key = |row: &AliasRow| row.address.clone();
            let bytes = |row: &AliasRow| row.targets.iter().map(String::len).sum();
            Ok(Response::Aliases(page(rows, after.as_deref(), limit, key, bytes)))
        }
        Request::AliasRemove { address } => {
            engine.alias_remove(&address)?;
            Ok(Response::Done)
        }
        Request::QueueList { after, limit } => {
            let after = after.as_deref().map(message_id).transpose()?;
            queue_page(engine, after, limit).map(Response::Queue)
        }
        Request::QueueShow { id } => {
            let row = queue_entry(engine, message_id(&id)?)?;
            Ok(Response::Queue(Page { entries: vec![row], next: None }))
        }
        Request::QueueRun { domain } => {
            Ok(Response::Started { messages: engine.queue_run(domain.as_deref())? })
        }
        Request::QueueRemove { id } => {
            engine.queue_remove(message_id(&id)?)?;
            Ok(Response::Done)
        }
        Request::MailboxList { address } => {
            let heads = engine.mailboxes(&address)?;
            let rows = heads.into_iter().map(|head| MailboxRow {
                mailbox: head.mailbox.0,
                name: head.name,
                uid_validity: head.uid_validity,
                uid_next: head.uid_next,
                messages: head.messages,
                bytes: head.bytes,
            });
            Ok(Response::Mailboxes(rows.collect()))
        }
        Request::MessageList { address, mailbox, after, limit } => {
            message_page(engine, &address, MailboxId(mailbox), after, limit).map(Response::Messages)
        }
        Request::Check => {
            let mut report = engine.check(progress)?;
            let more = report.problems.len().saturating_sub(PROBLEMS);
            report.problems.truncate(PROBLEMS);
            Ok(Response::Check(Check {
                segments: report.segments,
                records: report.records,
                messages: report.messages,
                queue_entries: report.queue_entries,
                problems: report.problems,
                more_problems: more as u64,
            }))
        }
        Request::Compact => {
            let report = engine.compact(&CompactOptions::default())?;
            Ok(Response::Compact(Compact {
                segments: report.segments,
                freed: report.freed,
                freed_bytes: report.freed_bytes,
                moved: report.moved,
                moved_bytes: report.moved_bytes,
                held: report.held,
                findings: report.findings,
            }))
        }
        Request::Scrub => {
            let report = engine.scrub(&ScrubOptions::default(), progress)?;
            Ok(Response::Scrub(Scrub {
                segments: report.segments,
                records: report.records,
                exports: report.exports,
                bytes: report.bytes,
                messages: report.messages,
                corrected: report.corrected,
                findings: report.findings,
            }))
        }
        Request::Stats => Ok(Response::Stats(engine.stats())),
        Request::Status => Ok(Response::Status(Box::new(engine.status()?))),
        Request::Listeners => {
            let listeners = engine.listeners();
            let rows = listeners.iter().map(|l| (l.config.name.to_owned(), l.address.to_string()));
            Ok(Response::Listeners(rows.collect()))
        }
        Request::Reload => {
            engine.reload()?;
            Ok(Response::Done)
        }
        Request::Lockouts => {
            let rows = engine.lockouts()?.into_iter().map(|lockout| LockoutRow {
                host: lockout.locked == Locked::Host,
                whom: lockout.whom,
                left_millis: lockout.left_millis,
            });
            Ok(Response::Lockouts(rows.collect()))
        }
        Request::Unlock { whom } => {
            engine.unlock(&whom)?;
            Ok(Response::Done)
        }
        Request::Stop => {
            engine.stop()?;
            Ok(Response::Done)
        }
    }
}

/// Lets programs of this machine administer a running engine; see [`crate::runtime::control`].
/// `runtime` is the engine's own; the engine keeps the server and stops it.
///
/// # Errors
/// The operating system's, when no loopback port is to be had or `control` cannot be written.
pub fn control(
    runtime: &crate::runtime::Handle,
    fs: &Arc<dyn Fs>,
    instance: &Path,
    engine: Weak<Engine>,
) -> Result<ControlServer> {
    ControlServer::start(runtime, fs, instance, Arc::new(Remote(engine)))
}

/// An engine as the control socket sees it.
struct Remote(Weak<Engine>);

impl Administrator for Remote {
    fn administer(&self, request: &[u8], progress: &mut dyn FnMut(u64, u64)) -> Result<Answer> {
        let request: Request = serde_json::from_slice(request).map_err(|e| {
            Error::new(Kind::Protocol, format!("the request is not understood: {e}"))
        })?;
        let engine =
            self.0.upgrade().ok_or_else(|| Error::new(Kind::Stopped, "the engine is stopped"))?;
        if matches!(request, Request::Stop) {
            // The answer has to leave before the socket that carries it is closed.
            let stop = move || {
                let _ = engine.stop();
            };
            return Ok(Answer { json: encode(&Response::Done)?, then: Some(Box::new(stop)) });
        }
        let response = handle_with(&engine, request, progress)?;
        Ok(Answer { json: encode(&response)?, then: None })
    }
}

fn encode(response: &Response) -> Result<String> {
    serde_json::to_string(response)
        .map_err(|e| Error::new(Kind::Internal, format!("an answer cannot be written: {e}")))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn message_id(text: &str) -> Result<MessageId> {
    text.parse().map_err(|()| {
        let text = format!("{text:?} is not the id of a message (16 hexadecimal digits)");
        Error::new(Kind::InvalidArgument, text)
    })
}

/// A page of a list that is sorted by `key`.
fn page<T>(
    rows: impl Iterator<Item = T>,
    after: Option<&str>,
    limit: usize,
    key: impl Fn(&T) -> String,
    bytes: impl Fn(&T) -> usize,
) -> Page<T> {
    let limit = limit.clamp(1, PAGE_ENTRIES);
    let mut rows = rows.skip_while(|row| after.is_some_and(|after| key(row).as_str() <= after));
    let mut entries = Vec::new();
    let mut taken = 0_usize;
    while entries.len() < limit && taken < PAGE_BYTES {
        let Some(row) = rows.next() else {
            return Page { entries, next: None };
        };
        taken = taken.saturating_add(bytes(&row)).saturating_add(64);
        entries.push(row);
    }
    let next = rows.next().and_then(|_| entries.last().map(key));
    Page { entries, next }
}

fn queue_page(engine: &Engine, after: Option<MessageId>, limit: usize) -> Result<Page<QueueRow>> {
    let limit = limit.clamp(1, PAGE_ENTRIES);
    let mut after = after;
    let mut entries: Vec<QueueRow> = Vec::new();
    let mut taken = 0_usize;
    loop {
        let batch = engine.queue_list(after, BATCH)?;
        if batch.is_empty() {
            return Ok(Page { entries, next: None });
        }
        for entry in &batch {
            if entries.len() >= limit || taken >= PAGE_BYTES {
                let next = entries.last().map(|row| row.id.clone());
                return Ok(Page { entries, next });
            }
            let addresses: usize = entry.recipients.iter().map(|r| r.address.len() + 16).sum();
            taken = taken.saturating_add(addresses).saturating_add(128);
            entries.push(QueueRow::from(entry));
            after = Some(entry.message);
        }
    }
}

fn queue_entry(engine: &Engine, id: MessageId) -> Result<QueueRow> {
    // A list after the id before this one begins with it.
    let before = id.0.checked_sub(1).map(MessageId);
    let found = engine.queue_list(before, 1)?;
    match found.first() {
        Some(entry) if entry.message == id => Ok(QueueRow::from(entry)),
        _ => Err(Error::new(Kind::NotFound, format!("{id} is not in the queue"))),
    }
}

fn message_page(
    engine: &Engine,
    address: &str,
    mailbox: MailboxId,
    after: u32,
    limit: usize,
) -> Result<Page<MessageRow>> {
    let limit = limit.clamp(1, PAGE_ENTRIES);
    let mut after = after;
    let mut entries: Vec<MessageRow> = Vec::new();
    let mut taken = 0_usize;
    loop {
        let batch = engine.mailbox_list(address, mailbox, after, BATCH)?;
        if batch.is_empty() {
            return Ok(Page { entries, next: None });
        }
        for message in &batch {
            if entries.len() >= limit || taken >= PAGE_BYTES {
                let next = entries.last().map(|row| row.uid.to_string());
                return Ok(Page { entries, next });
            }
            let (summary, damage) = match header(engine, message.message) {
                Ok(header) => (mime::summary(&header), None),
                Err(e) => (mime::Summary::default(), Some(e.message().to_owned())),
            };
            taken = taken
                .saturating_add(summary.subject.len())
                .saturating_add(summary.from.len())
                .saturating_add(128);
            entries.push(MessageRow {
                uid: message.uid,
                id: message.message.to_string(),
                size: message.size,
                received: message.received,
                from: summary.from,
                subject: summary.subject,
                damage,
            });
            after = message.uid;
        }
    }
}

/// The front of a message, as much as is looked through.
fn header(engine: &Engine, id: MessageId) -> Result<Vec<u8>> {
    let mut reader = engine.message(id)?;
    let mut bytes = vec![0; HEADER_BYTES];
    let mut filled = 0_usize;
    while let Some(space) = bytes.get_mut(filled..).filter(|space| !space.is_empty()) {
        match reader.read_at(filled as u64, space)? {
            0 => break,
            n => filled = filled.saturating_add(n),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_sorted_list_join_to_the_whole_list() {
        let all: Vec<String> = (0..25).map(|n| format!("{n:02}@example.test")).collect();
        for limit in [0, 1, 7, 24, 25, 26, usize::MAX] {
            let mut seen = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let rows = all.iter().cloned();
                let part = page(rows, after.as_deref(), limit, String::clone, String::len);
                assert!(part.entries.len() <= limit.max(1));
                seen.extend(part.entries);
                match part.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            assert_eq!(seen, all, "{limit}");
        }
    }

    #[test]
    fn a_page_ends_when_its_bytes_are_many() {
        let rows = (0..10).map(|n| format!("{n}{}", "x".repeat(PAGE_BYTES / 3)));
        let part = page(rows, None, 100, String::clone, String::len);
        assert_eq!(part.entries.len(), 3);
        assert!(part.next.is_some());
    }

    #[test]
    fn a_page_after_a_removed_entry_goes_on_behind_its_place() {
        let rows = ["a", "c", "d"].map(str::to_owned).into_iter();
        let part = page(rows, Some("b"), 10, String::clone, String::len);
        assert_eq!(part.entries, ["c", "d"]);
    }

    #[test]
    fn requests_and_responses_survive_the_way() {
        let request = Request::AccountAdd {
            addresses: vec!["user1@example.test".to_owned()],
            login: None,
            password: "p\u{e4}ss \"word\"\n".to_owned(),
        };
        let json = serde_json::to_string(&request).unwrap();
        assert!(!json.contains('\n'));
        let Request::AccountAdd { password, login, .. } = serde_json::from_str(&json).unwrap()
        else {
            panic!("another request")
        };
        assert_eq!((password.as_str(), login), ("p\u{e4}ss \"word\"\n", None));

        for response in [
            Response::Done,
            Response::Listeners(vec![("smtp".to_owned(), "127.0.0.1:25".to_owned())]),
            Response::Stats(Stats { logins: 3, ..Stats::default() }),
            Response::Check(Check { problems: vec!["x".to_owned()], ..Check::default() }),
            Response::Queue(Page {
                entries: vec![QueueRow {
                    id: MessageId(7).to_string(),
                    from: String::new(),
                    received: 1,
                    size: 2,
                    recipients: vec![("a@b".to_owned(), "deferred".to_owned())],
                    attempts: vec![Some(AttemptRow {
                        attempts: 1,
                        time: 3,
                        answer: "451 4.0.0 Later".to_owned(),
                    })],
                }],
                next: Some(MessageId(7).to_string()),
            }),
        ] {
            let json = serde_json::to_string(&response).unwrap();
            assert_eq!(serde_json::from_str::<Response>(&json).unwrap(), response, "{json}");
        }
    }

    #[test]
    fn an_unknown_request_is_refused() {
        for json in ["{}", "[]", "{\"request\":\"fly\"}", "{\"request\":\"account-add\"}"] {
            assert!(serde_json::from_str::<Request>(json).is_err(), "{json}");
        }
    }
}
