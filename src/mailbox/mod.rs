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
    AccountId, Change, Committed, MailboxHead, MailboxId, MessageId, MessageReader, MessageRow,
    Store, Ticket,
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

    /// Changes flags ([`MessageRow::flags`]) to `(flags & !remove) | add`; `remove` of all ones replaces
    /// them. Messages that change get one new MODSEQ, the others keep theirs. UIDs that are not there are
    /// ignored; their order does not matter.
    pub fn set_flags(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        mut uids: Vec<u32>,
        add: u32,
        remove: u32,
    ) -> Ticket<()> {
        uids.sort_unstable();
        uids.dedup();
        let change = Change::Flags { account, mailbox, uids, add, remove };
        self.commit(account, change, |_| ())
    }

    /// Moves messages to another mailbox of the account, or to the end of the same one; all or none. Answers
    /// with the UID before and the UID after of each message that was there, in the order of UIDs.
    ///
    /// # Errors
    /// The ticket answers `NotFound` when the account has no mailbox `to`.
    pub fn move_messages(
        &self,
        account: AccountId,
        from: MailboxId,
        to: MailboxId,
        mut uids: Vec<u32>,
    ) -> Ticket<Vec<(u32, u32)>> {
        uids.sort_unstable();
        uids.dedup();
        let change = Change::Move { account, from, to, uids: uids.clone() };
        self.commit(account, change, |committed| {
            uids.into_iter().zip(committed.uids).filter(|(_, new)| *new != 0).collect()
        })
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
        self.commit(account, Change::Expunge { account, mailbox, uids }, |_| ())
    }

    /// Commits a change of an account's mailboxes. The answer is made on the committer's thread.
    fn commit<T: Send + 'static>(
        &self,
        account: AccountId,
        change: Change,
        answer: impl FnOnce(Committed) -> T + Send + 'static,
    ) -> Ticket<T> {
        let (completion, ticket) = Ticket::new();
        self.store.commit_then(self.store.lane_of(account), vec![change], |result| {
            completion.complete(result.map(answer));
        });
        ticket
    }
}
