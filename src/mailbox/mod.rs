//! Mailboxes over the store.
//!
//! A mailbox is a head (name, UIDVALIDITY, next UID, figures) and rows, one for each message, that
//! refer to messages of the store; the bytes exist once, however many mailboxes show them. UIDs are
//! given by the store's committer in the order of its log: they rise strictly, and none is given
//! twice, also across restarts (RFC 9051 2.3.1.1). Every change carries a modification sequence number
//! that rises within its mailbox (RFC 7162).
//!
//! An account's mailboxes live in the lane of the account, so each change here is one transaction.

use crate::error::Result;
use crate::store::{
    AccountId, Change, MailboxHead, MailboxId, MessageId, MessageReader, MessageRow, Store, Ticket,
};

#[cfg(test)]
mod tests;

/// The name of every account's first mailbox (RFC 9051 5.1).
pub const INBOX_NAME: &str = "INBOX";

/// The mailboxes of all accounts. Cloning gives another handle. Any thread may call.
#[derive(Clone)]
pub struct Mailboxes {
    store: Store,
}

impl Mailboxes {
    /// The mailboxes of a store.
    pub fn new(store: &Store) -> Mailboxes {
        Mailboxes { store: store.clone() }
    }

    /// Makes an account's INBOX; returns after the sync. One that exists stays as it is.
    ///
    /// # Errors
    /// What the disk reports, `Stopped`.
    pub fn create_inbox(&self, account: AccountId, uid_validity: u32) -> Result<()> {
        let change = Change::CreateMailbox {
            account,
            mailbox: MailboxId::INBOX,
            name: INBOX_NAME.into(),
            uid_validity,
        };
        self.store.commit(self.store.lane_of(account), vec![change]).wait().map(|_| ())
    }

    /// Removes all mailboxes of an account with their messages; returns after the sync.
    ///
    /// # Errors
    /// What the disk reports, `Stopped`.
    pub fn remove_all(&self, account: AccountId) -> Result<()> {
        let change = Change::RemoveMailboxes { account };
        self.store.commit(self.store.lane_of(account), vec![change]).wait().map(|_| ())
    }

    /// The mailboxes of an account, in the order of their numbers; empty for one without any.
    pub fn list(&self, account: AccountId) -> Result<Vec<MailboxHead>> {
        self.store.mailboxes(account)
    }

    /// Up to `limit` messages with UIDs above `after`, in the order of UIDs.
    pub fn messages(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        after: u32,
        limit: usize,
    ) -> Result<Vec<MessageRow>> {
        self.store.mailbox_scan(account, mailbox, after, limit)
    }

    /// Opens a message's bytes.
    ///
    /// # Errors
    /// `NotFound` when no mailbox and no queue entry holds it, `Corrupt` when it is damaged.
    pub fn read(&self, message: MessageId) -> Result<MessageReader> {
        self.store.read(message)
    }

    /// Removes messages from a mailbox. UIDs that are not there are ignored; their order does not matter.
    pub fn expunge(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        mut uids: Vec<u32>,
    ) -> Ticket<()> {
        uids.sort_unstable();
        uids.dedup();
        let (completion, ticket) = Ticket::new();
        let lane = self.store.lane_of(account);
        let change = Change::Expunge { account, mailbox, uids };
        self.store
            .commit_then(lane, vec![change], |result| completion.complete(result.map(|_| ())));
        ticket
    }
}
