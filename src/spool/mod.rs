//! The queue over the store: accept, list, hold, release, remove.

use crate::error::Result;
use crate::store::{
    AccountId, Body, BodyWriter, Envelope, MessageId, QueueEntry, QueueRecipient, Store, Ticket,
};

/// The queue. Cloning gives another handle. Any thread may call.
#[derive(Clone)]
pub struct Spool {}

impl Spool {
    /// The queue of a store. Finishes deliveries between lanes that a crash interrupted.
    pub fn open(store: &Store) -> Result<Spool> {
        let _ = store;
        todo!()
    }

    /// Starts a message for these local recipients (none: relay only): its id, in the lane of the first of
    /// them, and the writer for its bytes.
    pub fn begin(&self, locals: &[AccountId]) -> (MessageId, BodyWriter) {
        let _ = locals;
        todo!()
    }

    /// Makes a message durable: for each account a row in its INBOX, for each remote recipient a place in the
    /// queue, one copy of the bytes for all. The ticket answers when the message is on disk and every local
    /// mailbox shows it.
    pub fn accept(
        &self,
        id: MessageId,
        envelope: Envelope,
        body: Body,
        locals: &[AccountId],
        remotes: Vec<QueueRecipient>,
    ) -> Ticket<()> {
        let _ = (id, envelope, body, locals, remotes);
        todo!()
    }

    /// Up to `limit` entries after `after`, in the order of ids.
    pub fn list(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<QueueEntry>> {
        let _ = (after, limit);
        todo!()
    }

    /// Takes an entry out of the queue for ever. `false` when there is none.
    pub fn remove(&self, id: MessageId) -> Result<bool> {
        let _ = id;
        todo!()
    }
}
