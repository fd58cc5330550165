//! From changes to records: what the committer decides for a transaction before it is written.
//!
//! The committer alone gives UIDs and MODSEQs, in the order of the log, so a mailbox's UIDs rise in the
//! order in which its messages became durable. The figures come from the index and, within a group,
//! from what was planned before; they are forgotten with the group, so a group that fails leaves no
//! trace. A transaction that is refused changes nothing that was planned.

use std::collections::{HashMap, HashSet};

use super::body::{Body, Stored};
use super::index::pack::PackWalk;
use super::index::{Batch, Space, row};
use super::record::{Delivery, MAX_META, MAX_SMALL, MessageMeta, Record};
use super::{AccountId, Change, Lane, MailboxId, MessageId};
use crate::error::{Error, Kind, Result};

/// Most UIDs of a record; the transaction keeps several together.
const RECORD_UIDS: usize = MAX_SMALL / 16;

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
    /// The next UID before the group; messages from there on have come in the group.
    base: u32,
}

impl Counters {
    fn raised(self) -> Counters {
        Counters { modseq: self.modseq.saturating_add(1), ..self }
    }
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
    /// Flags of messages where they are not what the index says; `None`: the message is gone. One that
    /// came in the group and is not listed has no flags.
    flags: HashMap<(Mailbox, u32), Option<u32>>,
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
        let Figures { mailboxes, removed, delivered, forgotten, flags } =
            std::mem::take(&mut self.fresh);
        if !removed.is_empty() {
            self.settled.mailboxes.retain(|(account, _), _| !removed.contains(account));
            self.settled.flags.retain(|((account, _), _), _| !removed.contains(account));
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
        self.settled.flags.extend(flags);
        Ok(planned)
    }

    /// The flags of a mailbox's messages with these rising UIDs; `None` for one that is not there.
    fn flags(
        &self,
        mailbox: Mailbox,
        counters: Counters,
        uids: &[u32],
    ) -> Result<Vec<Option<u32>>> {
        // In the index, if they are older than the group.
        let old = uids.partition_point(|uid| *uid < counters.base);
        let (old, new) = uids.split_at(old);
        let mut found = Vec::with_capacity(uids.len());
        let mut walk = PackWalk::new(mailbox.0, mailbox.1, old);
        while let Some(pack) = walk.next(self.view)? {
            found.resize(pack.skipped, None);
            found.extend(pack.uids.iter().map(|uid| pack.row(*uid).map(|row| row.flags)));
        }
        found.resize(old.len(), None);
        found.extend(new.iter().map(|uid| (*uid < counters.uid_next).then_some(0)));
        let settled = !self.fresh.removed.contains(&mailbox.0);
        for (uid, flags) in uids.iter().zip(&mut found) {
            let key = (mailbox, *uid);
            let changed = self.fresh.flags.get(&key);
            let changed = changed.or_else(|| self.settled.flags.get(&key).filter(|_| settled));
            if let Some(changed) = changed {
                *flags = *changed;
            }
        }
        Ok(found)
    }

    fn plan_flags(
        &mut self,
        mailbox: Mailbox,
        uids: &[u32],
        (add, remove): (u32, u32),
        planned: &mut Planned,
    ) -> Result<()> {
        rising(uids, "flag")?;
        let Some(counters) = self.counters(mailbox)? else { return Ok(()) };
        let before = self.flags(mailbox, counters, uids)?;
        let mut changed = Vec::new();
        for (uid, before) in uids.iter().zip(before) {
            let Some(before) = before else { continue };
            let after = (before & !remove) | add;
            if after != before {
                self.fresh.flags.insert((mailbox, *uid), Some(after));
                changed.push(*uid);
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let counters = counters.raised();
        self.fresh.mailboxes.insert(mailbox, Some(counters));
        let (account, mailbox) = mailbox;
        for uids in changed.chunks(RECORD_UIDS) {
            let (modseq, uids) = (counters.modseq, uids.to_vec());
            let record = Record::Flags { account, mailbox, modseq, add, remove, uids };
            planned.records.push((record, None));
        }
        Ok(())
    }

    fn plan_move(
        &mut self,
        account: AccountId,
        (from, to): (MailboxId, MailboxId),
        uids: &[u32],
        planned: &mut Planned,
    ) -> Result<()> {
        rising(uids, "move")?;
        let Some(target) = self.counters((account, to))? else {
            let text = format!("account {} has no mailbox {}", account.0, to.0);
            return Err(Error::new(Kind::NotFound, text));
        };
        let (source, flags) = match self.counters((account, from))? {
            Some(source) => (source, self.flags((account, from), source, uids)?),
            None => (target, vec![None; uids.len()]),
        };
        let count = flags.iter().flatten().count();
        if count == 0 {
            planned.uids.extend(uids.iter().map(|_| 0));
            return Ok(());
        }
        let uid_next = u32::try_from(count).ok().and_then(|n| target.uid_next.checked_add(n));
        let uid_next = uid_next.ok_or_else(|| out_of_uids((account, to)))?;
        // Within one mailbox, going and coming are one change: the second figure is the one that stays.
        let (source, raised) = (source.raised(), target.raised());
        self.fresh.mailboxes.insert((account, from), Some(source));
        self.fresh.mailboxes.insert((account, to), Some(Counters { uid_next, ..raised }));
        let mut pairs = Vec::with_capacity(count);
        let mut next = target.uid_next;
        for (uid, flags) in uids.iter().zip(flags) {
            if flags.is_none() {
                planned.uids.push(0);
                continue;
            }
            self.fresh.flags.insert(((account, from), *uid), None);
            self.fresh.flags.insert(((account, to), next), flags);
            planned.uids.push(next);
            pairs.push((*uid, next));
            next = next.saturating_add(1);
        }
        let (from_modseq, to_modseq) = (source.modseq, raised.modseq);
        for pairs in pairs.chunks(RECORD_UIDS) {
            let pairs = pairs.to_vec();
            let record = Record::Move { account, from, to, from_modseq, to_modseq, pairs };
            planned.records.push((record, None));
        }
        Ok(())
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
        let (uid_next, modseq) = (head.uid_next, head.highest_modseq);
        Ok(Some(Counters { uid_next, modseq, base: uid_next }))
    }

    /// The next UID and MODSEQ of a mailbox; `None` when it is not there.
    fn deliver(&mut self, mailbox: Mailbox) -> Result<Option<Delivery>> {
        let Some(counters) = self.counters(mailbox)? else { return Ok(None) };
        let (Some(uid_next), Some(modseq)) =
            (counters.uid_next.checked_add(1), counters.modseq.checked_add(1))
        else {
            return Err(out_of_uids(mailbox));
        };
        let base = counters.base;
        self.fresh.mailboxes.insert(mailbox, Some(Counters { uid_next, modseq, base }));
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
                    Stored::Small { .. } => Vec::new(),
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
                    let counters = Counters { uid_next: 1, modseq: 1, base: 1 };
                    self.fresh.mailboxes.insert((account, mailbox), Some(counters));
                    let record = Record::Mailbox { account, mailbox, uid_validity, name };
                    planned.records.push((record, None));
                }
            }
            Change::RemoveMailboxes { account } => {
                self.fresh.mailboxes.retain(|(a, _), _| *a != account);
                self.fresh.flags.retain(|((a, _), _), _| *a != account);
                self.fresh.removed.insert(account);
                planned.records.push((Record::RemoveMailboxes { account }, None));
            }
            Change::Expunge { account, mailbox, uids } => {
                let Some(counters) = self.counters((account, mailbox))? else { return Ok(()) };
                rising(&uids, "expunge")?;
                if uids.is_empty() {
                    return Ok(());
                }
                let counters = counters.raised();
                let modseq = counters.modseq;
                let gone = uids.iter().map(|uid| (((account, mailbox), *uid), None));
                self.fresh.flags.extend(gone);
                self.fresh.mailboxes.insert((account, mailbox), Some(counters));
                // A record holds a bounded number of UIDs; the transaction keeps them together.
                for uids in uids.chunks(RECORD_UIDS) {
                    let uids = uids.to_vec();
                    planned
                        .records
                        .push((Record::Expunge { account, mailbox, modseq, uids }, None));
                }
            }
            Change::Flags { account, mailbox, uids, add, remove } => {
                self.plan_flags((account, mailbox), &uids, (add, remove), planned)?;
            }
            Change::Move { account, from, to, uids } => {
                self.plan_move(account, (from, to), &uids, planned)?;
            }
            Change::Unreference { message, count } => {
                if message.lane() != self.lane {
                    return Err(misplaced(format!("message {message}"), self.lane));
                }
                planned.records.push((Record::Unreference { message, count }, None));
            }
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

/// Refuses UIDs that do not rise.
fn rising(uids: &[u32], what: &str) -> Result<()> {
    if uids.windows(2).all(|pair| matches!(pair, [a, b] if a < b)) {
        return Ok(());
    }
    let text = format!("the UIDs to {what} are not in rising order");
    Err(Error::new(Kind::InvalidArgument, text))
}

fn out_of_uids(mailbox: Mailbox) -> Error {
    let text = format!("mailbox {} of account {} is out of UIDs", mailbox.1.0, mailbox.0.0);
    Error::new(Kind::Limit, text)
}

fn misplaced(what: String, lane: Lane) -> Error {
    Error::new(Kind::InvalidArgument, format!("{what} does not belong to lane {}", lane.0))
}
