//! The engine: an instance opened, and everything wired together.
//!
//! [`Engine::open`] recovers the store and can administer; [`Engine::start`] serves;
//! [`Engine::stop`] drains; [`Engine::close`] lets go. Several engines live in one process, each starts and
//! stops as often as wanted. Every method may be called from any thread.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::directory::{Account, Alias, NewAccount};
use crate::error::Result;
use crate::instance::ListenerConfig;
use crate::store::{
    CheckReport, MailboxHead, MailboxId, MessageId, MessageReader, MessageRow, QueueEntry,
};

pub mod admin;
pub mod event;

pub use event::{Event, EventSink, LogLevel, LogSink};

/// How an engine is opened.
#[derive(Clone, Default)]
pub struct Options {
    /// Called for every event; see [`Event`].
    pub events: Option<EventSink>,
    /// Called for every line of the log.
    pub log: Option<LogSink>,
    /// Lines below this level are not made.
    pub log_level: LogLevel,
    /// Threads that serve connections; 0: one for each core, at most 8.
    pub threads: usize,
}

/// A listener that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// As configured.
    pub config: ListenerConfig,
    /// The address with the port it really has.
    pub address: SocketAddr,
}

/// Figures of an engine since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stats {
    /// Connections open now.
    pub connections: u64,
    /// Connections accepted.
    pub connections_total: u64,
    /// Connections turned away because of a limit.
    pub connections_refused: u64,
    /// Messages accepted (250 after the data, or by `submit`).
    pub messages_accepted: u64,
    /// Recipients refused.
    pub recipients_refused: u64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins that failed.
    pub logins_failed: u64,
    /// Messages read by POP3 clients.
    pub messages_retrieved: u64,
    /// Syncs of log files.
    pub log_syncs: u64,
    /// Bytes written to log files.
    pub log_bytes: u64,
    /// Bytes written to index files.
    pub index_bytes: u64,
    /// Entries in the queue.
    pub queue_entries: u64,
}

/// An open instance. Dropping it closes it.
pub struct Engine {}

impl Engine {
    /// Opens an instance: takes its lock, recovers, reads configuration and directory. Serves nothing yet.
    pub fn open(directory: &Path, options: Options) -> Result<Arc<Engine>> {
        let _ = (directory, options);
        todo!()
    }
    /// Binds all listeners, then serves. When one cannot be bound none is kept, and the error names it.
    pub fn start(&self) -> Result<()> {
        todo!()
    }
    /// The listeners that serve now.
    pub fn listeners(&self) -> Vec<Listening> {
        todo!()
    }
    /// Stops serving: no new connections, 421 to idle ones, running transactions may end within the
    /// configured time. Returns when every connection is gone. May be started again. Without effect when not started.
    pub fn stop(&self) -> Result<()> {
        todo!()
    }
    /// Stops, closes the store, releases the lock. Later calls answer `Stopped`.
    pub fn close(&self) -> Result<()> {
        todo!()
    }
    /// Makes an account with its INBOX. Slow on purpose (password hashing).
    pub fn account_add(&self, new: &NewAccount) -> Result<Account> {
        let _ = new;
        todo!()
    }
    /// Removes an account and its mail.
    pub fn account_remove(&self, address: &str) -> Result<()> {
        let _ = address;
        todo!()
    }
    /// Sets a password.
    pub fn account_set_password(&self, address: &str, password: &str) -> Result<()> {
        let _ = (address, password);
        todo!()
    }
    /// All accounts, sorted by primary address.
    pub fn accounts(&self) -> Result<Vec<Arc<Account>>> {
        todo!()
    }
    /// Adds an alias.
    pub fn alias_add(&self, alias: &Alias) -> Result<()> {
        let _ = alias;
        todo!()
    }
    /// Removes an alias.
    pub fn alias_remove(&self, address: &str) -> Result<()> {
        let _ = address;
        todo!()
    }
    /// All aliases, sorted.
    pub fn aliases(&self) -> Result<Vec<Alias>> {
        todo!()
    }
    /// Takes a message from the host: same rules as an authenticated submission. Blocks until it is on
    /// disk. `from` empty: the null reverse-path. Line ends in `message` must be CR LF.
    pub fn submit(&self, from: &str, recipients: &[&str], message: &[u8]) -> Result<MessageId> {
        let _ = (from, recipients, message);
        todo!()
    }
    /// Up to `limit` queue entries after `after`.
    pub fn queue_list(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<QueueEntry>> {
        let _ = (after, limit);
        todo!()
    }
    /// Takes an entry out of the queue for ever.
    pub fn queue_remove(&self, id: MessageId) -> Result<()> {
        let _ = id;
        todo!()
    }
    /// The mailboxes of the account with this address.
    pub fn mailboxes(&self, address: &str) -> Result<Vec<MailboxHead>> {
        let _ = address;
        todo!()
    }
    /// Up to `limit` messages of a mailbox with UIDs above `after`.
    pub fn mailbox_list(
        &self,
        address: &str,
        mailbox: MailboxId,
        after: u32,
        limit: usize,
    ) -> Result<Vec<MessageRow>> {
        let _ = (address, mailbox, after, limit);
        todo!()
    }
    /// Opens a message's bytes.
    pub fn message(&self, id: MessageId) -> Result<MessageReader> {
        let _ = id;
        todo!()
    }
    /// Verifies the store while mail flows.
    pub fn check(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<CheckReport> {
        let _ = progress;
        todo!()
    }
    /// Figures.
    pub fn stats(&self) -> Stats {
        todo!()
    }
}
