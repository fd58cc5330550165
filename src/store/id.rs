//! Identities: lanes, messages, accounts, mailboxes.

use std::fmt;
use std::str::FromStr;

/// One of the store's independent logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u8);

/// A message, and its queue entry while it has one: lane (8 bits), epoch of the opening that made it
/// (24 bits), counter (32 bits). Written in lower-case hexadecimal, 16 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

impl MessageId {
    /// The id made of its parts; `epoch` is cut to 24 bits.
    pub const fn new(lane: Lane, epoch: u32, counter: u32) -> MessageId {
        MessageId(((lane.0 as u64) << 56) | (((epoch & 0xff_ffff) as u64) << 32) | counter as u64)
    }

    /// Its 16 digits, which are ASCII.
    pub fn digits(self) -> [u8; 16] {
        std::array::from_fn(|n| {
            let digit = (self.0 >> (60_usize.saturating_sub(n.saturating_mul(4)))) as u8 & 0xf;
            if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }
        })
    }

    /// The lane that holds it.
    pub const fn lane(self) -> Lane {
        Lane((self.0 >> 56) as u8)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl FromStr for MessageId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() != 16 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(());
        }
        u64::from_str_radix(text, 16).map(MessageId).map_err(|_| ())
    }
}

/// An account. Numbers are given once and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u32);

/// A mailbox of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxId(pub u32);

impl MailboxId {
    /// Every account's INBOX.
    pub const INBOX: MailboxId = MailboxId(1);
}
