//! What the store keeps, as the rooms above see it: changes that go in, rows that come out.

use std::fmt;
use std::path::PathBuf;

use super::compaction::Relocation;
use super::{AccountId, Body, MailboxId, MessageId};

/// Bits of [`Envelope::flags`].
pub mod envelope_flags {
    /// MAIL carried BODY=8BITMIME (RFC 6152).
    pub const EIGHT_BIT: u16 = 1;
    /// MAIL carried BODY=BINARYMIME (RFC 3030).
    pub const BINARY: u16 = 2;
    /// MAIL carried SMTPUTF8 (RFC 6531).
    pub const SMTPUTF8: u16 = 4;
    /// The sender was authenticated.
    pub const AUTHENTICATED: u16 = 8;
    /// The message ends in CR LF, or is empty.
    pub const ENDS_IN_CRLF: u16 = 16;
}

/// Under which circumstances a message came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Reverse-path without brackets; empty for the null path.
    pub from: Vec<u8>,
    /// Milliseconds since 1970 when it was accepted.
    pub received: u64,
    /// Bits of [`envelope_flags`].
    pub flags: u16,
    /// Bytes at the front of the body (Return-Path) that only mailboxes see.
    pub prefix_len: u16,
    /// MAIL's parameters that must be passed on (for instance `RET=HDRS ENVID=x`), as text.
    pub parameters: Vec<u8>,
}

/// What is known of a recipient in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRecipient {
    /// Forward-path without brackets.
    pub address: Vec<u8>,
    /// RCPT's parameters that must be passed on.
    pub parameters: Vec<u8>,
    /// Where it stands.
    pub state: RecipientState,
    /// With [`RecipientState::Deferred`] and [`RecipientState::Failed`]: what the last attempt was answered, as text.
    /// Empty with the others, which do not keep it.
    pub answer: Vec<u8>,
}

/// Where a recipient of a queued message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientState {
    /// Waits for delivery to another server.
    Remote,
    /// Waits to be put into an account's mailbox that lives in another lane.
    Local(AccountId, MailboxId),
    /// Held by an operator.
    Held,
    /// Waits for delivery to another server, not before an instant.
    Deferred {
        /// Attempts so far; 0 when the sender asked for the delay.
        attempts: u32,
        /// The earliest instant of the next one, in milliseconds since 1970.
        next: u64,
    },
    /// Will not be delivered; kept to be reported.
    Failed {
        /// Attempts made.
        attempts: u32,
        /// When that was known, in milliseconds since 1970.
        at: u64,
    },
}

/// A new message with everything that becomes durable with it.
pub struct NewMessage {
    /// Its id, of the lane that the transaction goes to.
    pub id: MessageId,
    /// Its circumstances.
    pub envelope: Envelope,
    /// Its bytes.
    pub body: Body,
    /// Mailboxes of this lane that receive it in the same transaction.
    pub deliver: Vec<(AccountId, MailboxId)>,
    /// Recipients that stay in the queue. Empty: no queue entry is made.
    pub queue: Vec<QueueRecipient>,
}

/// One change of a transaction.
pub enum Change {
    /// A message arrives.
    Message(NewMessage),
    /// A message that lives in any lane is put into a mailbox of this lane. Doing it twice for the same
    /// message and mailbox before `Forget` has no effect, nor has it for a mailbox that does not exist.
    Deliver {
        /// The message.
        message: MessageId,
        /// The owner.
        account: AccountId,
        /// The mailbox.
        mailbox: MailboxId,
        /// Bytes, as in the message's own lane.
        size: u64,
        /// Milliseconds since 1970.
        received: u64,
        /// Bits of [`envelope_flags`].
        flags: u16,
    },
    /// Drops the memory that makes `Deliver` happen once.
    Forget {
        /// The message.
        message: MessageId,
        /// The owner.
        account: AccountId,
        /// The mailbox.
        mailbox: MailboxId,
    },
    /// A queue entry's recipients are replaced; an empty list removes the entry. `references` mailboxes
    /// of other lanes now hold the message, beyond those counted before.
    Queue {
        /// The entry.
        message: MessageId,
        /// The recipients that remain.
        recipients: Vec<QueueRecipient>,
        /// Mailboxes of other lanes that hold the message now.
        references: u32,
    },
    /// A mailbox is made. Making one that exists has no effect.
    CreateMailbox {
        /// The owner.
        account: AccountId,
        /// The mailbox.
        mailbox: MailboxId,
        /// Its name, UTF-8.
        name: String,
        /// Its UIDVALIDITY (RFC 9051 2.3.1.1).
        uid_validity: u32,
    },
    /// All mailboxes of an account are removed with their messages.
    RemoveMailboxes {
        /// The owner.
        account: AccountId,
    },
    /// Messages are removed from a mailbox. UIDs that are not there are ignored.
    Expunge {
        /// The owner.
        account: AccountId,
        /// The mailbox.
        mailbox: MailboxId,
        /// Sorted UIDs.
        uids: Vec<u32>,
    },
    /// Flags of messages are changed to `(flags & !remove) | add`; `remove` of all ones replaces them. All
    /// messages whose flags change get the same new MODSEQ, the others keep theirs (RFC 7162 3.1.3). UIDs
    /// that are not there are ignored. When no flag changes, nothing is written and no MODSEQ is taken.
    Flags {
        /// The owner.
        account: AccountId,
        /// The mailbox.
        mailbox: MailboxId,
        /// Sorted UIDs.
        uids: Vec<u32>,
        /// Bits to set, as in [`MessageRow::flags`].
        add: u32,
        /// Bits to clear.
        remove: u32,
    },
    /// Messages go from one mailbox of an account to another, or to the end of the same one (RFC 6851).
    /// They get the next UIDs there in the order of `uids` and keep flags, size and time; the MODSEQ of
    /// both mailboxes rises. UIDs that are not there are passed over and answered with 0.
    Move {
        /// The owner of both.
        account: AccountId,
        /// Where they are.
        from: MailboxId,
        /// Where they go.
        to: MailboxId,
        /// Sorted UIDs.
        uids: Vec<u32>,
    },
    /// Mailboxes of other lanes let a message of this lane go.
    Unreference {
        /// The message.
        message: MessageId,
        /// How many.
        count: u32,
    },
    /// Compaction moves a message. Nothing happens when the message is not where compaction found it.
    Relocate(Relocation),
    /// A row of a small table is set or, with `None`, removed. Lane 0 only.
    Row {
        /// The table.
        table: Table,
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Option<Vec<u8>>,
    },
}

/// Small tables of the rooms above. Numbers are on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Domains of the directory.
    Domain = 1,
    /// Accounts of the directory.
    Account = 2,
    /// Aliases of the directory.
    Alias = 3,
    /// Counters and single values.
    Value = 4,
}

impl Table {
    /// The table with this number.
    pub const fn from_number(number: u8) -> Option<Table> {
        Some(match number {
            1 => Table::Domain,
            2 => Table::Account,
            3 => Table::Alias,
            4 => Table::Value,
            _ => return None,
        })
    }
}

/// What a committed transaction was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The log sequence number of its last record.
    pub lsn: u64,
    /// The UID of every delivery in the order of the changes. For a `Deliver` that had happened before, the
    /// UID that it gave then; 0 where the mailbox of a `Deliver` does not exist. Of a `Move`, the new UID
    /// of each of its UIDs, and 0 for one that is not there.
    pub uids: Vec<u32>,
}

/// A queue entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// The message.
    pub message: MessageId,
    /// Its circumstances.
    pub envelope: Envelope,
    /// Bytes, the mailbox-only prefix included.
    pub size: u64,
    /// Recipients without a final outcome.
    pub recipients: Vec<QueueRecipient>,
}

/// A mailbox's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxHead {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// Its name, UTF-8.
    pub name: String,
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
    /// The UID that the next message gets at least.
    pub uid_next: u32,
    /// The highest modification sequence number (RFC 7162).
    pub highest_modseq: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of its messages.
    pub bytes: u64,
}

/// A message of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// Its UID.
    pub uid: u32,
    /// The message.
    pub message: MessageId,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970.
    pub received: u64,
    /// Modification sequence number.
    pub modseq: u64,
    /// Bits of [`envelope_flags`].
    pub envelope_flags: u16,
    /// System flags (RFC 9051 2.3.2) as bits: Seen 1, Answered 2, Flagged 4, Deleted 8, Draft 16.
    pub flags: u32,
}

/// Two columns of a mailbox, as long as each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidsAndFlags {
    /// UIDs, rising.
    pub uids: Vec<u32>,
    /// System flags as in [`MessageRow::flags`].
    pub flags: Vec<u32>,
}

/// Counters of a store since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Transactions made durable.
    pub transactions: u64,
    /// Messages made durable.
    pub messages: u64,
    /// Groups written: one write and one sync each.
    pub groups: u64,
    /// Syncs of log files.
    pub log_syncs: u64,
    /// Syncs of index files.
    pub index_syncs: u64,
    /// Bytes written to the log, zeros of segments that are written in advance included.
    pub log_bytes: u64,
    /// Bytes written to the index.
    pub index_bytes: u64,
    /// Segments that compaction freed.
    pub segments_freed: u64,
    /// Bytes of their files.
    pub freed_bytes: u64,
    /// Messages that compaction moved.
    pub messages_moved: u64,
    /// Bytes of records that it copied.
    pub moved_bytes: u64,
    /// Scrubs that came to their end.
    pub scrubs: u64,
    /// Bytes that scrubs verified.
    pub scrubbed_bytes: u64,
    /// Damage and wrong counts that scrubs found.
    pub scrub_findings: u64,
    /// Counts of references that scrubs corrected.
    pub counts_corrected: u64,
    /// Exports of shards made and verified.
    pub exports: u64,
    /// Bytes of them.
    pub export_bytes: u64,
    /// Exports that failed.
    pub export_failures: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Segments read.
    pub segments: u64,
    /// Records verified.
    pub records: u64,
    /// Messages in mailboxes or in the queue.
    pub messages: u64,
    /// Queue entries.
    pub queue_entries: u64,
    /// Exports of the index verified.
    pub exports: u64,
    /// One line a problem, each naming its file and offset or its message. Empty: all is well.
    pub problems: Vec<String>,
    /// Ranges of segments that cannot be read. Each is a problem as well.
    pub damaged: Vec<DamagedRange>,
    /// Messages whose bytes cannot be served. Each is a problem as well.
    pub lost: Vec<LostMessage>,
}

/// Bytes of a segment that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DamagedRange {
    /// The segment's file.
    pub file: PathBuf,
    /// The first byte.
    pub from: u64,
    /// Behind the last byte.
    pub to: u64,
}

/// A message whose bytes are damaged, and who misses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostMessage {
    /// The message.
    pub message: MessageId,
    /// Mailboxes that hold it: account, mailbox, UID.
    pub mailboxes: Vec<(AccountId, MailboxId, u32)>,
    /// Whether the queue holds it.
    pub queued: bool,
    /// Reverse-path, where it is known.
    pub sender: Option<Vec<u8>>,
    /// What is wrong, with file and offset.
    pub why: String,
    /// Where its bytes should be.
    pub ranges: Vec<DamagedRange>,
}

impl fmt::Display for LostMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {}: {}", self.message, self.why)?;
        for (n, (account, mailbox, uid)) in self.mailboxes.iter().enumerate() {
            let by = if n == 0 { "; held by" } else { " and" };
            write!(f, "{by} account {}, mailbox {}, UID {uid}", account.0, mailbox.0)?;
        }
        if self.queued {
            f.write_str("; in the queue")?;
        }
        if let Some(sender) = &self.sender {
            write!(f, "; from <{}>", String::from_utf8_lossy(sender))?;
        }
        Ok(())
    }
}
