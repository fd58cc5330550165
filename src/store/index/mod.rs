//! The index: sorted tables derived from the log, one shard for each ordinary lane.
//!
//! The log is the truth; everything here can be made again by applying its records in order. So a
//! change is applied without a sync, right after the group's log sync, and a durable checkpoint is made
//! now and then. A crash rolls the index back to its last checkpoint, and recovery applies the rest of
//! the log again, from the position that the checkpoint itself names.
//!
//! [`IndexKv`] is what a key-value engine has to offer; `redb` is the one in use. [`Batch`] collects the
//! changes of a group over a snapshot, so that many deliveries to one mailbox cost one write. Of mailboxes that messages
//! were added to it remembers the end ([`Tail`]), so that the next one costs no look through a pack.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::model::MessageRow;
use super::{AccountId, MailboxId};
use crate::error::Result;

pub mod apply;
pub mod pack;
pub mod redb;
pub mod row;
pub mod slot;
pub mod sums;

/// Version of the tables, their keys and values. An index of another version is made again from an export, whose
/// readers of every older version stay, and the log.
pub const VERSION: u32 = 1;

/// A table of the index. Numbers are names of tables on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Space {
    /// Single values of the shard: how far the log is applied, counters.
    Meta = 0,
    /// Message id -> where its record is, who refers to it.
    Place = 1,
    /// Message id -> queue entry.
    Queue = 2,
    /// Account, mailbox -> figures of the mailbox.
    Head = 3,
    /// Account, mailbox, first UID -> up to 64 messages.
    Pack = 4,
    /// Message id, account, mailbox -> UID: deliveries between lanes that must not happen twice.
    Delivered = 5,
    /// Table, key -> value: the small tables.
    Row = 6,
    /// Lane, segment -> bytes of messages that are still referred to.
    Live = 7,
}

impl Space {
    /// All tables.
    pub const ALL: [Space; 8] = [
        Space::Meta,
        Space::Place,
        Space::Queue,
        Space::Head,
        Space::Pack,
        Space::Delivered,
        Space::Row,
        Space::Live,
    ];

    /// The table with this number.
    pub fn from_number(number: u8) -> Option<Space> {
        Space::ALL.into_iter().find(|space| *space as u8 == number)
    }
}

/// Changes of the index: values to set, keys to remove.
pub type Changes = BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Visits a key and its value; `false` ends the visit.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// A key-value engine with snapshots. Any thread may call.
pub trait IndexKv: Send + Sync {
    /// A snapshot of the state after the last applied changes.
    fn view(&self) -> Result<Box<dyn IndexView>>;
    /// Applies changes as one, visible on return, durable with the next checkpoint.
    fn apply(&self, changes: &Changes) -> Result<()>;
    /// Whether it failed: nothing can be read from it or written to it any more.
    fn is_poisoned(&self) -> bool;
    /// Poisons and closes it. On return its file is free for another opening, whoever still holds a snapshot.
    fn abandon(&self);
    /// Makes all applied changes durable.
    fn checkpoint(&self) -> Result<()>;
    /// Refuses every later call, because the state is not what it should be.
    fn poison(&self);
    /// Ends the use of the files; later calls fail.
    fn close(&self);
}

/// A snapshot of the index.
pub trait IndexView {
    /// The value of a key.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Visits the pairs of a range in the order of keys.
    fn range(
        &self,
        space: Space,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<()>;
    /// The last pair whose key is not above `key`.
    fn last_at_or_before(&self, space: Space, key: &[u8]) -> Result<Option<Pair>>;
}

/// Where a mailbox ends, as the changes of a batch have it.
pub struct Tail {
    /// Its figures.
    pub head: row::Head,
    /// Messages in its last pack,
    pub rows: usize,
    /// the pack's bytes,
    pub bytes: usize,
    /// and the last of them.
    pub last: Option<MessageRow>,
}

/// Ends of mailboxes. Whoever changes figures or packs of a mailbox in another way than by adding to its end makes
/// the batch forget its tail.
pub type Tails = HashMap<(AccountId, MailboxId), Tail>;

/// Changes over a snapshot, readable as if they were applied.
pub struct Batch<'a> {
    view: &'a dyn IndexView,
    changes: Changes,
    tails: Tails,
}

impl<'a> Batch<'a> {
    /// No changes yet.
    pub fn new(view: &'a dyn IndexView) -> Batch<'a> {
        Batch::over(view, Changes::new())
    }

    /// These changes over a snapshot.
    pub fn over(view: &'a dyn IndexView, changes: Changes) -> Batch<'a> {
        Batch { view, changes, tails: Tails::new() }
    }

    /// With what is known of mailboxes' ends after those changes.
    pub fn with_tails(self, tails: Tails) -> Batch<'a> {
        Batch { tails, ..self }
    }

    /// The value of a key.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.changes.get(&(space, key.to_vec())) {
            Some(changed) => Ok(changed.clone()),
            None => self.view.get(space, key),
        }
    }

    /// Sets a value.
    pub fn put(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>) {
        self.forget_tail(space, &key);
        self.changes.insert((space, key), Some(value));
    }

    /// Removes a key.
    pub fn delete(&mut self, space: Space, key: Vec<u8>) {
        self.forget_tail(space, &key);
        self.changes.insert((space, key), None);
    }

    /// A value to be changed in its place; empty when there is none.
    pub fn edit(&mut self, space: Space, key: Vec<u8>) -> Result<&mut Vec<u8>> {
        self.forget_tail(space, &key);
        Ok(match self.changes.entry((space, key)) {
            Entry::Occupied(entry) => entry.into_mut().get_or_insert_with(Vec::new),
            Entry::Vacant(entry) => {
                let value = self.view.get(space, &entry.key().1)?.unwrap_or_default();
                entry.insert(None).insert(value)
            }
        })
    }

    /// Takes out what is known of a mailbox's end.
    pub fn take_tail(&mut self, mailbox: (AccountId, MailboxId)) -> Option<Tail> {
        self.tails.remove(&mailbox)
    }

    /// Where a mailbox ends after all changes so far.
    pub fn keep_tail(&mut self, mailbox: (AccountId, MailboxId), tail: Tail) {
        self.tails.insert(mailbox, tail);
    }

    fn forget_tail(&mut self, space: Space, key: &[u8]) {
        if matches!(space, Space::Head | Space::Pack)
            && !self.tails.is_empty()
            && let Ok(mailbox) = row::mailbox_of(key)
        {
            self.tails.remove(&mailbox);
        }
    }

    /// The first pair whose key is at least `from` and starts with `prefix`.
    pub fn first(&self, space: Space, prefix: &[u8], from: &[u8]) -> Result<Option<Pair>> {
        let mut from = from.to_vec();
        loop {
            let mut below = None;
            self.view.range(
                space,
                Bound::Included(&from),
                Bound::Unbounded,
                &mut |key, value| {
                    if key.starts_with(prefix) {
                        below = Some((key.to_vec(), value.to_vec()));
                    }
                    false
                },
            )?;
            let above = self
                .changes
                .range((space, from.clone())..)
                .next()
                .filter(|((s, key), _)| *s == space && key.starts_with(prefix));
            match (below, above) {
                (Some(pair), None) => return Ok(Some(pair)),
                (None, None) => return Ok(None),
                (below, Some(((_, key), value))) => {
                    if let Some(pair) = below
                        && pair.0 < *key
                    {
                        return Ok(Some(pair));
                    }
                    match value {
                        Some(value) => return Ok(Some((key.clone(), value.clone()))),
                        // Removed: go on behind it.
                        None => {
                            from.clone_from(key);
                            from.push(0);
                        }
                    }
                }
            }
        }
    }

    /// The last pair whose key is not above `key`, in a table whose keys all have the same length.
    pub fn last(&self, space: Space, key: &[u8]) -> Result<Option<Pair>> {
        let mut key = key.to_vec();
        loop {
            let below = self.view.last_at_or_before(space, &key)?;
            let above = self.changes.range((space, Vec::new())..=(space, key.clone())).next_back();
            match (below, above) {
                (below, None) => return Ok(below),
                (Some(pair), Some(((_, changed), _))) if pair.0 > *changed => {
                    return Ok(Some(pair));
                }
                (_, Some(((_, changed), Some(value)))) => {
                    return Ok(Some((changed.clone(), value.clone())));
                }
                // Removed: go on below it.
                (_, Some(((_, changed), None))) => {
                    key.clone_from(changed);
                    if !decrement(&mut key) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The changes.
    pub fn into_changes(self) -> Changes {
        self.changes
    }

    /// The changes, and what is known of mailboxes' ends.
    pub fn into_parts(self) -> (Changes, Tails) {
        (self.changes, self.tails)
    }
}

/// Takes one from a big-endian number of any length; `false` when it is zero.
fn decrement(number: &mut [u8]) -> bool {
    for digit in number.iter_mut().rev() {
        let (less, borrowed) = digit.overflowing_sub(1);
        *digit = less;
        if !borrowed {
            return true;
        }
    }
    false
}
