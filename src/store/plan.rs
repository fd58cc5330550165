//! From changes to records: what the committer decides for a transaction before it is written.
//!
//! The committer alone gives UIDs and MODSEQs, in the order of the log, so a mailbox's UIDs rise in the
//! order in which its messages became durable. The figures come from the index and, within a group,
//! from what was planned before; they are forgotten with the group, so a group that fails leaves no
//! trace. A transaction that is refused changes nothing that was planned.

use std::collections::{HashMap, HashSet};

use super::body::{Body, Stored};
use super::compaction::{Moving, Relocation};
use super::index::{Batch, Space, row};
use super::record::{Delivery, MAX_META, MAX_SMALL, MessageMeta, Record};
use super::{AccountId, Change, Lane, MailboxId, MessageId};
use crate::error::{Error, Kind, Result};

/// What is to be written for one transaction.
#[derive(Default)]
pub struct Planned {
    /// Records, messages with their bytes.
    pub records: Vec<(Record, Option<Body>)>,
    /// UIDs for `Committed`.
    pub uids: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Counters {
    uid_next: u32,
    modseq: u64,
}

type Mailbox = (AccountId, MailboxId);

/// Plans the transactions of one group.
pub struct Planner<'v> {
    view: &'v Batch<'v>,
    lane: Lane,
    settled: Figures,
    /// Of the transaction being planned.
    fresh: Figures,
}

#[derive(Default)]
struct Figures {
    /// `None`: the mailbox is not there.
    mailboxes: HashMap<Mailbox, Option<Counters>>,
    removed: HashSet<AccountId>,
    delivered: HashMap<(MessageId, Mailbox), u32>,
    forgotten: HashSet<(MessageId, Mailbox)>,
}

impl<'v> Planner<'v> {
    /// A planner over the index as it is before the group.
    pub fn new(view: &'v Batch<'v>, lane: Lane) -> Planner<'v> {
        Planner { view, lane, settled: Figures::default(), fresh: Figures::default() }
    }

    /// Plans a transaction.
    pub fn plan(&mut self, changes: Vec<Change>) -> Result<Planned> {
        self.fresh = Figures::default();
        let mut planned = Planned::default();
        for change in changes {
            self.plan_change(change, &mut planned)?;
        }
        let Figures { mailboxes, removed, delivered, forgotten } = std::mem::take(&mut self.fresh);
        if !removed.is_empty() {
            self.settled.mailboxes.retain(|(account, _), _| !removed.contains(account));
            self.settled.removed.extend(removed);
        }
        self.settled.mailboxes.extend(mailboxes);
        for key in &forgotten {
            self.settled.delivered.remove(key);
        }
        for key in delivered.keys() {
            self.settled.forgotten.remove(key);
        }
        self.settled.delivered.extend(delivered);
        self.settled.forgotten.extend(forgotten);
        Ok(planned)
    }

    fn counters(&self, mailbox: Mailbox) -> Result<Option<Counters>> {
        for figures in [&self.fresh, &self.settled] {
            if let Some(counters) = figures.mailboxes.get(&mailbox) {
                return Ok(*counters);
            }
            if figures.removed.contains(&mailbox.0) {
                return Ok(None);
            }
        }
        let key = row::mailbox_key(mailbox.0, mailbox.1);
        let Some(value) = self.view.get(Space::Head, &key)? else { return Ok(None) };
        let head = row::Head::decode(&value).map_err(|_| {
            let text =
                format!("index: mailbox {} of account {} is damaged", mailbox.1.0, mailbox.0.0);
            Error::new(Kind::Corrupt, text)
        })?;
        Ok(Some(Counters { uid_next: head.uid_next, modseq: head.highest_modseq }))
    }

    /// The next UID and MODSEQ of a mailbox; `None` when it is not there.
    fn deliver(&mut self, mailbox: Mailbox) -> Result<Option<Delivery>> {
        let Some(counters) = self.counters(mailbox)? else { return Ok(None) };
        let (Some(uid_next), Some(modseq)) =
            (counters.uid_next.checked_add(1), counters.modseq.checked_add(1))
        else {
            let text = format!("mailbox {} of account {} is out of UIDs", mailbox.1.0, mailbox.0.0);
            return Err(Error::new(Kind::Limit, text));
        };
        self.fresh.mailboxes.insert(mailbox, Some(Counters { uid_next, modseq }));
        let (account, mailbox) = mailbox;
        Ok(Some(Delivery { account, mailbox, uid: counters.uid_next, modseq }))
    }

    /// The UID that an earlier `Deliver` gave.
    fn delivered(&self, message: MessageId, mailbox: Mailbox) -> Result<Option<u32>> {
        let key = (message, mailbox);
        for figures in [&self.fresh, &self.settled] {
            if let Some(uid) = figures.delivered.get(&key) {
                return Ok(Some(*uid));
            }
            if figures.forgotten.contains(&key) {
                return Ok(None);
            }
        }
        let key = row::delivered_key(message, mailbox.0, mailbox.1);
        let value = self.view.get(Space::Delivered, &key)?;
        Ok(value.and_then(|v| v.try_into().ok()).map(u32::from_be_bytes))
    }

    /// Moves what is live where compaction found it; what is not is dropped.
    fn relocate(&self, relocation: Relocation, planned: &mut Planned) -> Result<()> {
        let message = relocation.message();
        if message.lane() != self.lane {
            return Err(misplaced(format!("message {message}"), self.lane));
        }
        let Some(value) = self.view.get(Space::Place, &row::message_key(message))? else {
            return Ok(());
        };
        let place = row::Place::decode(&value).map_err(|_| {
            Error::new(Kind::Corrupt, format!("index: the place of message {message} is damaged"))
        })?;
        match relocation.into_moving() {
            Moving::Record { meta, segment, offset, body, crc } => {
                if (place.segment, place.offset) != (segment, offset) {
                    return Ok(());
                }
                let stale = place.chunks != meta.chunks;
                let (len, hash) = (meta.size, meta.hash);
                let body = Body { len, hash, stored: Stored::Copied { body, crc }, coming: None };
                planned.records.push((Record::Copy(meta), Some(body)));
                if stale {
                    // The record is copied as it is: where its chunks went is said again behind it.
                    planned.records.push((Record::Loc { message, chunks: place.chunks }, None));
                }
            }
            Moving::Chunks { from, moved, copied, .. } => {
                if place.chunks != from {
                    return Ok(());
                }
                let mut chunks = from;
                for (index, to) in moved.into_iter().zip(copied.places()?) {
                    if let Some(chunk) = chunks.get_mut(index) {
                        *chunk = to;
                    }
                }
                planned.records.push((Record::Loc { message, chunks }, None));
            }
        }
        Ok(())
    }

    fn plan_change(&mut self, change: Change, planned: &mut Planned) -> Result<()> {
        match change {
            Change::Message(new) => {
                if new.id.lane() != self.lane {
                    return Err(misplaced(format!("message {}", new.id), self.lane));
                }
                let mut deliveries: Vec<Delivery> = Vec::with_capacity(new.deliver.len());
                for mailbox in new.deliver {
                    // One message goes once into one mailbox, however often it is named.
                    let before = deliveries.iter().find(|d| (d.account, d.mailbox) == mailbox);
                    if let Some(before) = before {
                        planned.uids.push(before.uid);
                        continue;
                    }
                    let delivery = self.deliver(mailbox)?.ok_or_else(|| {
                        let (account, mailbox) = mailbox;
                        let text = format!("account {} has no mailbox {}", account.0, mailbox.0);
                        Error::new(Kind::NotFound, text)
                    })?;
                    planned.uids.push(delivery.uid);
                    deliveries.push(delivery);
                }
                let chunks = match &new.body.stored {
                    Stored::Small { .. } | Stored::Copied { .. } => Vec::new(),
                    Stored::Large(body) => body.places()?,
                };
                let meta = MessageMeta {
                    id: new.id,
                    envelope: new.envelope,
                    size: new.body.len,
                    hash: new.body.hash,
                    deliveries,
                    queue: new.queue,
                    chunks,
                };
                let addresses = meta.queue.iter().fold(0_usize, |sum, r| {
                    sum.saturating_add(r.address.len())
                        .saturating_add(r.parameters.len())
                        .saturating_add(24)
                });
                let bytes = addresses
                    .saturating_add(meta.envelope.from.len())
                    .saturating_add(meta.envelope.parameters.len())
                    .saturating_add(meta.deliveries.len().saturating_mul(24));
                if bytes > MAX_META {
                    let text = format!("message {}: its envelope takes {bytes} bytes", meta.id);
                    return Err(Error::new(Kind::Limit, text));
                }
                planned.records.push((Record::Message(meta), Some(new.body)));
            }
            Change::Deliver { message, account, mailbox, size, received, flags } => {
                let uid = match self.delivered(message, (account, mailbox))? {
                    Some(uid) => uid,
                    None => match self.deliver((account, mailbox))? {
                        Some(delivery) => {
                            self.fresh
                                .delivered
                                .insert((message, (account, mailbox)), delivery.uid);
                            self.fresh.forgotten.remove(&(message, (account, mailbox)));
                            let record =
                                Record::Deliver { message, delivery, size, received, flags };
                            planned.records.push((record, None));
                            delivery.uid
                        }
                        None => 0,
                    },
                };
                planned.uids.push(uid);
            }
            Change::Forget { message, account, mailbox } => {
                self.fresh.delivered.remove(&(message, (account, mailbox)));
                self.fresh.forgotten.insert((message, (account, mailbox)));
                planned.records.push((Record::Forget { message, account, mailbox }, None));
            }
            Change::Queue { message, recipients, references } => {
                if message.lane() != self.lane {
                    return Err(misplaced(format!("queue entry {message}"), self.lane));
                }
                let bytes = recipients.iter().fold(0_usize, |sum, r| {
                    sum.saturating_add(r.address.len()).saturating_add(r.parameters.len())
                });
                if bytes > MAX_META {
                    let text = format!("queue entry {message}: its recipients take {bytes} bytes");
                    return Err(Error::new(Kind::Limit, text));
                }
                planned.records.push((Record::Queue { message, references, recipients }, None));
            }
            Change::CreateMailbox { account, mailbox, name, uid_validity } => {
                if self.counters((account, mailbox))?.is_none() {
                    let counters = Counters { uid_next: 1, modseq: 1 };
                    self.fresh.mailboxes.insert((account, mailbox), Some(counters));
                    let record = Record::Mailbox { account, mailbox, uid_validity, name };
                    planned.records.push((record, None));
                }
            }
            Change::RemoveMailboxes { account } => {
                self.fresh.mailboxes.retain(|(a, _), _| *a != account);
                self.fresh.removed.insert(account);
                planned.records.push((Record::RemoveMailboxes { account }, None));
            }
            Change::Expunge { account, mailbox, uids } => {
                let Some(counters) = self.counters((account, mailbox))? else { return Ok(()) };
                let sorted = uids.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
                if !sorted {
                    let text = "the UIDs to expunge are not in rising order";
                    return Err(Error::new(Kind::InvalidArgument, text));
                }
                let modseq = counters.modseq.saturating_add(1);
                let counters = Counters { modseq, ..counters };
                self.fresh.mailboxes.insert((account, mailbox), Some(counters));
                // A record holds a bounded number of UIDs; the transaction keeps them together.
                for uids in uids.chunks(MAX_SMALL / 16) {
                    let uids = uids.to_vec();
                    planned
                        .records
                        .push((Record::Expunge { account, mailbox, modseq, uids }, None));
                }
            }
            Change::Unreference { message, count } => {
                if message.lane() != self.lane {
                    return Err(misplaced(format!("message {message}"), self.lane));
                }
                planned.records.push((Record::Unreference { message, count }, None));
            }
            Change::Relocate(relocation) => self.relocate(relocation, planned)?,
            Change::Row { table, key, value } => {
                if self.lane != Lane(0) {
                    return Err(misplaced("a row of a small table".into(), self.lane));
                }
                let bytes = key.len().saturating_add(value.as_ref().map_or(0, Vec::len));
                if bytes > MAX_META {
                    let text = format!("a row of {bytes} bytes in table {table:?}");
                    return Err(Error::new(Kind::Limit, text));
                }
                planned.records.push((Record::Row { table, key, value }, None));
            }
        }
        Ok(())
    }
}

fn misplaced(what: String, lane: Lane) -> Error {
    Error::new(Kind::InvalidArgument, format!("{what} does not belong to lane {}", lane.0))
}
