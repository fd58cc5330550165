//! The store: an append-only message log with group commit, and an index derived from it.
//!
//! (Method, invariants and file formats are to be written here by the room's author.)

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::time::Clock;
use crate::vfs::Fs;

pub mod id;
pub mod model;

pub use id::{AccountId, Lane, MailboxId, MessageId};
pub use model::*;

/// How a store is made. Fixed in FORMAT.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Independent logs; accounts are spread over them. 1 to 16.
    pub lanes: u8,
}

impl Default for CreateOptions {
    fn default() -> Self {
        CreateOptions { lanes: 4 }
    }
}

/// How a store is opened. May differ from one opening to the next.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Bytes of a segment of an ordinary lane.
    pub segment_bytes: u64,
    /// Bytes of a segment of the large lane.
    pub large_segment_bytes: u64,
    /// Bodies above this many bytes go to the large lane in chunks.
    pub large_body_bytes: usize,
    /// Most milliseconds between durable checkpoints of the index while there is work.
    pub checkpoint_millis: u64,
    /// Most log bytes between durable checkpoints of the index.
    pub checkpoint_bytes: u64,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            segment_bytes: 64 << 20,
            large_segment_bytes: 256 << 20,
            large_body_bytes: 256 << 10,
            checkpoint_millis: 1000,
            checkpoint_bytes: 64 << 20,
        }
    }
}

/// An open store. Cloning gives another handle to the same store. Any thread may call.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// Makes a store in `dir` (which exists, and has no FORMAT). FORMAT is written last.
    pub fn create(fs: &Arc<dyn Fs>, dir: &Path, options: &CreateOptions) -> Result<()> {
        let _ = (fs, dir, options);
        todo!()
    }

    /// Takes the lock, recovers, starts one committer thread a lane and the checkpointer.
    ///
    /// # Errors
    /// `NotAnInstance` without FORMAT, `Corrupt` when FORMAT is damaged, `FormatNewer` (both versions
    /// named), `Locked` (with the holder's process id when LOCK tells it).
    pub fn open(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: OpenOptions,
    ) -> Result<Store> {
        let _ = (fs, clock, dir, options);
        todo!()
    }

    /// Commits what is pending, makes a last checkpoint, ends the threads, releases the lock. Later
    /// calls on any handle answer `Stopped`. Calling it twice is allowed.
    pub fn close(&self) -> Result<()> {
        todo!()
    }

    /// The lane of an account's records.
    pub fn lane_of(&self, account: AccountId) -> Lane {
        let _ = account;
        todo!()
    }

    /// The number of ordinary lanes.
    pub fn lanes(&self) -> u8 {
        todo!()
    }

    /// A new message id of this lane, never given before and never again, also after a crash.
    pub fn new_message_id(&self, lane: Lane) -> MessageId {
        let _ = lane;
        todo!()
    }

    /// Starts a message's bytes.
    pub fn body(&self, id: MessageId) -> BodyWriter {
        let _ = id;
        todo!()
    }

    /// Hands a transaction to its lane's committer. All of it becomes durable, or nothing. The ticket
    /// answers after the group's sync and after the index shows the changes.
    pub fn commit(&self, lane: Lane, changes: Vec<Change>) -> Ticket<Committed> {
        let _ = (lane, changes);
        todo!()
    }

    /// Opens a message's bytes for reading.
    pub fn read(&self, id: MessageId) -> Result<MessageReader> {
        let _ = id;
        todo!()
    }

    /// A queue entry.
    pub fn queue_entry(&self, id: MessageId) -> Result<Option<QueueEntry>> {
        let _ = id;
        todo!()
    }

    /// Up to `limit` queue entries in the order of their ids, those after `after` only.
    pub fn queue_scan(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<QueueEntry>> {
        let _ = (after, limit);
        todo!()
    }

    /// The mailboxes of an account.
    pub fn mailboxes(&self, account: AccountId) -> Result<Vec<MailboxHead>> {
        let _ = account;
        todo!()
    }

    /// Up to `limit` messages of a mailbox in the order of UIDs, those after `after` only.
    pub fn mailbox_scan(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        after: u32,
        limit: usize,
    ) -> Result<Vec<MessageRow>> {
        let _ = (account, mailbox, after, limit);
        todo!()
    }

    /// Counters since the store was opened.
    pub fn stats(&self) -> StoreStats {
        todo!()
    }

    /// Verifies every record of the log and every reference of the index, while mail flows.
    /// `progress(done, total)` counts bytes of segments.
    pub fn check(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<CheckReport> {
        let _ = progress;
        todo!()
    }
}

impl Rows for Store {
    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        let _ = (table, key, value);
        todo!()
    }
    fn delete(&self, table: Table, key: &[u8]) -> Result<()> {
        let _ = (table, key);
        todo!()
    }
    fn scan(&self, table: Table) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let _ = table;
        todo!()
    }
}

/// Small durable tables for the rooms above: key and value are theirs. Kept in lane 0.
///
/// `put` and `delete` return after the sync. Any thread may call.
pub trait Rows: Send + Sync {
    /// Sets a value.
    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()>;
    /// Removes a key; removing what is not there is no error.
    fn delete(&self, table: Table, key: &[u8]) -> Result<()>;
    /// All pairs of a table, in the order of keys.
    fn scan(&self, table: Table) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;
}

/// Collects a message's bytes: in memory while it is small, in chunks to the large lane beyond that.
pub struct BodyWriter {}

impl BodyWriter {
    /// Appends bytes. Copies; does not block.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let _ = bytes;
        todo!()
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        todo!()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When too much is in flight: a ticket to wait for before the next `write`.
    pub fn pressure(&mut self) -> Option<Ticket<()>> {
        todo!()
    }

    /// Ends the bytes. Dropping a writer instead forgets them.
    pub fn finish(self) -> Result<Body> {
        todo!()
    }
}

/// A finished body, to be put into [`NewMessage`].
pub struct Body {}

impl Body {
    /// Bytes.
    pub fn len(&self) -> u64 {
        todo!()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads a message's bytes. Holds its segment in place while it lives.
pub struct MessageReader {}

impl MessageReader {
    /// Bytes of the whole, the mailbox-only prefix included.
    pub fn len(&self) -> u64 {
        todo!()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes at the front (Return-Path) that only mailboxes see and that are not relayed.
    pub fn prefix_len(&self) -> u64 {
        todo!()
    }
    /// The envelope it came with.
    pub fn envelope(&self) -> &Envelope {
        todo!()
    }
    /// Reads into the buffer at an offset, as much as fits; 0 at the end. The checksum of what is
    /// given out has been verified; `Corrupt` otherwise.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let _ = (offset, buffer);
        todo!()
    }
}

/// The answer to something that a committer does later: a future, and a call that waits.
pub struct Ticket<T> {
    _state: std::marker::PhantomData<fn() -> T>,
}

impl<T> Ticket<T> {
    /// Blocks this thread until the answer is there.
    pub fn wait(self) -> Result<T> {
        todo!()
    }
}

impl<T> Future for Ticket<T> {
    type Output = Result<T>;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let _ = context;
        todo!()
    }
}
