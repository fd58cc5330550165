//! Mailboxes over the store.

use crate::error::Result;
use crate::store::{
    AccountId, MailboxHead, MailboxId, MessageId, MessageReader, MessageRow, Store, Ticket,
};

/// The mailboxes of all accounts. Cloning gives another handle. Any thread may call.
#[derive(Clone)]
pub struct Mailboxes {}

impl Mailboxes {
    /// The mailboxes of a store.
    pub fn new(store: &Store) -> Mailboxes {
        let _ = store;
        todo!()
    }

    /// Makes an account's INBOX; returns after the sync.
    pub fn create_inbox(&self, account: AccountId, uid_validity: u32) -> Result<()> {
        let _ = (account, uid_validity);
        todo!()
    }

    /// Removes all mailboxes of an account with their messages; returns after the sync.
    pub fn remove_all(&self, account: AccountId) -> Result<()> {
        let _ = account;
        todo!()
    }

    /// The mailboxes of an account.
    pub fn list(&self, account: AccountId) -> Result<Vec<MailboxHead>> {
        let _ = account;
        todo!()
    }

    /// Up to `limit` messages with UIDs above `after`, in the order of UIDs.
    pub fn messages(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        after: u32,
        limit: usize,
    ) -> Result<Vec<MessageRow>> {
        let _ = (account, mailbox, after, limit);
        todo!()
    }

    /// Opens a message's bytes.
    pub fn read(&self, message: MessageId) -> Result<MessageReader> {
        let _ = message;
        todo!()
    }

    /// Removes messages from a mailbox.
    pub fn expunge(&self, account: AccountId, mailbox: MailboxId, uids: Vec<u32>) -> Ticket<()> {
        let _ = (account, mailbox, uids);
        todo!()
    }
}
