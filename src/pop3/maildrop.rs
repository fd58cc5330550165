//! A maildrop as a session sees it: its messages, which of them are marked as deleted, and their names for UIDL.

use std::fmt;

/// One message of a maildrop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Octets as RETR sends them, without dot-stuffing and without the final `.` line (RFC 1939 11).
    pub octets: u64,
    /// Its UID; with the maildrop's validity it makes the UIDL.
    pub uid: u32,
}

/// A maildrop as it stands when the session enters the TRANSACTION state. Frozen for the session.
#[derive(Clone, Debug, Default)]
pub struct Maildrop {
    /// UIDVALIDITY of the mailbox; part of every UIDL.
    pub validity: u32,
    /// The messages; message number n is at n - 1.
    pub entries: Vec<Entry>,
}

/// Which messages are marked as deleted, and the sums of the others.
#[derive(Default)]
pub(super) struct Marks {
    /// A bit for each message; empty while none is marked.
    pub(super) bits: Vec<u64>,
    pub(super) entries: usize,
    /// Messages not marked.
    pub(super) count: usize,
    /// Their octets.
    pub(super) octets: u64,
}

impl Marks {
    /// No marks.
    pub(super) fn of(entries: &[Entry]) -> Marks {
        Marks {
            bits: Vec::new(),
            entries: entries.len(),
            count: entries.len(),
            octets: entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.octets)),
        }
    }

    pub(super) fn is_deleted(&self, index: usize) -> bool {
        self.bits.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    pub(super) fn delete(&mut self, index: usize, entry: Entry) {
        self.bits.resize(self.entries.div_ceil(64), 0);
        if let Some(word) = self.bits.get_mut(index / 64) {
            *word |= 1 << (index % 64);
            self.count = self.count.saturating_sub(1);
            self.octets = self.octets.saturating_sub(entry.octets);
        }
    }
}

/// What UIDL shows: UIDVALIDITY and UID.
pub(super) struct UniqueId(pub(super) u32, pub(super) u32);

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}.{:08x}", self.0, self.1)
    }
}
