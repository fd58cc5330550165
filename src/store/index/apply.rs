//! What each record means for the index: the one function that both the committer and recovery call.
//!
//! Applying is deterministic: records carry everything that was decided when they were committed. It
//! never refuses: a record that refers to what is not there (any more) changes nothing.

use super::pack::{Pack, PackWalk, PackWriter};
use super::row::{self, Head, PACK_BYTES, PACK_ROWS, Place};
use super::{Batch, Space, Tail};
use crate::error::{Error, Kind, Result};
use crate::store::body::chunk_record_len;
use crate::store::encoding::Malformed;
use crate::store::record::{ChunkPlace, Delivery, MessageMeta, Record};
use crate::store::{AccountId, Lane, MailboxId, MessageId, MessageRow, QueueEntry};

/// Where an applied record stands.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// Segment.
    pub segment: u64,
    /// Offset of the header.
    pub offset: u64,
    /// Bytes, padding included.
    pub len: u64,
}

/// Applies records of one lane to a batch.
pub struct Applier<'b, 'v> {
    /// Where the changes go.
    pub batch: &'b mut Batch<'v>,
    /// The lane.
    pub lane: Lane,
    /// The lane of large bodies.
    pub large: Lane,
    /// Messages of other lanes that mailboxes of this one let go, with how often.
    pub released: Vec<(MessageId, u32)>,
    /// Records of the log are lost: a mailbox that a message was put into and that is not there is made, because the
    /// record that made it must have been one of them.
    pub salvage: bool,
}

fn malformed(what: &'static str) -> impl Fn(Malformed) -> Error {
    move |_| Error::new(Kind::Corrupt, format!("index: a {what} row is damaged"))
}

/// A mailbox whose own record is lost. Its UIDVALIDITY is that of a new one, the same each time that the log is applied.
fn salvaged(mailbox: MailboxId, message: &MessageRow) -> Head {
    let seconds = u32::try_from(message.received / 1000).unwrap_or(u32::MAX);
    Head {
        uid_validity: seconds.max(1),
        uid_next: 1,
        highest_modseq: 1,
        messages: 0,
        bytes: 0,
        last_pack: 0,
        name: if mailbox == MailboxId::INBOX {
            "INBOX".into()
        } else {
            format!("Recovered {}", mailbox.0)
        },
    }
}

impl Applier<'_, '_> {
    /// Applies one record.
    pub fn apply(&mut self, record: &Record, at: Position) -> Result<()> {
        match record {
            Record::Message(meta) => self.message(meta, at, false),
            Record::Copy(meta) => self.copy(meta, at),
            Record::Loc { message, chunks } => self.moved_chunks(*message, chunks),
            Record::Deliver { message, delivery, size, received, flags } => {
                let row = MessageRow {
                    uid: delivery.uid,
                    message: *message,
                    size: *size,
                    received: *received,
                    modseq: delivery.modseq,
                    envelope_flags: *flags,
                    flags: 0,
                };
                self.add_row(delivery, row)?;
                let key = row::delivered_key(*message, delivery.account, delivery.mailbox);
                self.batch.put(Space::Delivered, key, delivery.uid.to_be_bytes().to_vec());
                if message.lane() == self.lane {
                    self.change_place(*message, |place| place.references += 1)?;
                }
                Ok(())
            }
            Record::Forget { message, account, mailbox } => {
                let key = row::delivered_key(*message, *account, *mailbox);
                self.batch.delete(Space::Delivered, key);
                Ok(())
            }
            Record::Queue { message, references, recipients } => {
                let key = row::message_key(*message);
                let stored = self.batch.get(Space::Queue, &key)?;
                if recipients.is_empty() {
                    self.batch.delete(Space::Queue, key);
                } else if let Some(stored) = stored {
                    let mut entry =
                        row::decode_queue(*message, &stored).map_err(malformed("queue"))?;
                    entry.recipients.clone_from(recipients);
                    self.batch.put(Space::Queue, key, row::encode_queue(&entry));
                }
                let gone = recipients.is_empty();
                self.change_place(*message, |place| {
                    place.references = place.references.saturating_add(i64::from(*references));
                    if gone {
                        place.queued = false;
                    }
                })
            }
            Record::Unreference { message, count } => self.change_place(*message, |place| {
                place.references = place.references.saturating_sub(i64::from(*count));
            }),
            Record::Mailbox { account, mailbox, uid_validity, name } => {
                let key = row::mailbox_key(*account, *mailbox);
                if self.batch.get(Space::Head, &key)?.is_none() {
                    let head = Head {
                        uid_validity: *uid_validity,
                        uid_next: 1,
                        highest_modseq: 1,
                        messages: 0,
                        bytes: 0,
                        last_pack: 0,
                        name: name.clone(),
                    };
                    self.batch.put(Space::Head, key, head.encode());
                }
                Ok(())
            }
            Record::RemoveMailboxes { account } => self.remove_mailboxes(*account),
            Record::Expunge { account, mailbox, modseq, uids } => {
                self.expunge(*account, *mailbox, *modseq, uids)
            }
            Record::Flags { account, mailbox, modseq, add, remove, uids } => {
                self.change_flags((*account, *mailbox), *modseq, (*add, *remove), uids)
            }
            Record::Move { account, from, to, from_modseq, to_modseq, pairs } => {
                self.move_rows(*account, (*from, *from_modseq), (*to, *to_modseq), pairs)
            }
            Record::Row { table, key, value } => {
                let key = row::table_key(*table, key);
                match value {
                    Some(value) => self.batch.put(Space::Row, key, value.clone()),
                    None => self.batch.delete(Space::Row, key),
                }
                Ok(())
            }
            Record::Chunk(_) | Record::BodyEnd { .. } | Record::Seal | Record::Unknown => Ok(()),
        }
    }

    /// A message that is new, or that a copy brings back because the log before it is gone.
    fn message(&mut self, meta: &MessageMeta, at: Position, old: bool) -> Result<()> {
        let mut references = 0;
        for delivery in &meta.deliveries {
            let row = MessageRow {
                uid: delivery.uid,
                message: meta.id,
                size: meta.size,
                received: meta.envelope.received,
                modseq: delivery.modseq,
                envelope_flags: meta.envelope.flags,
                flags: 0,
            };
            let added =
                if old { self.insert_row(delivery, row)? } else { self.add_row(delivery, row)? };
            if added {
                references += 1;
            }
        }
        let queued = !meta.queue.is_empty();
        if queued {
            let entry = QueueEntry {
                message: meta.id,
                envelope: meta.envelope.clone(),
                size: meta.size,
                recipients: meta.queue.clone(),
            };
            let value = row::encode_queue(&entry);
            self.batch.put(Space::Queue, row::message_key(meta.id), value);
        }
        let place = Place {
            segment: at.segment,
            offset: at.offset,
            len: at.len,
            size: meta.size,
            references,
            queued,
            chunks: meta.chunks.clone(),
        };
        if queued || references > 0 {
            self.count_live(&place, 1)?;
            self.batch.put(Space::Place, row::message_key(meta.id), place.encode());
        }
        Ok(())
    }

    /// A message's record stands at another place now.
    fn copy(&mut self, meta: &MessageMeta, at: Position) -> Result<()> {
        let key = row::message_key(meta.id);
        let Some(value) = self.batch.get(Space::Place, &key)? else {
            return self.message(meta, at, true);
        };
        let mut place = Place::decode(&value).map_err(malformed("place"))?;
        self.add_live(self.lane, place.segment, negative(place.len))?;
        (place.segment, place.offset, place.len) = (at.segment, at.offset, at.len);
        self.add_live(self.lane, place.segment, positive(place.len))?;
        self.batch.put(Space::Place, key, place.encode());
        Ok(())
    }

    /// A large message's chunks stand at other places now.
    fn moved_chunks(&mut self, message: MessageId, chunks: &[ChunkPlace]) -> Result<()> {
        let key = row::message_key(message);
        let Some(value) = self.batch.get(Space::Place, &key)? else { return Ok(()) };
        let mut place = Place::decode(&value).map_err(malformed("place"))?;
        if place.chunks.len() != chunks.len() {
            return Ok(());
        }
        self.count_chunks(&place, -1)?;
        place.chunks = chunks.to_vec();
        self.count_chunks(&place, 1)?;
        self.batch.put(Space::Place, key, place.encode());
        Ok(())
    }

    fn head(&self, key: &[u8]) -> Result<Option<Head>> {
        match self.batch.get(Space::Head, key)? {
            Some(value) => Ok(Some(Head::decode(&value).map_err(malformed("mailbox"))?)),
            None => Ok(None),
        }
    }

    /// Adds a message to a mailbox; `false` when the mailbox is not there.
    fn add_row(&mut self, delivery: &Delivery, message: MessageRow) -> Result<bool> {
        let mailbox = (delivery.account, delivery.mailbox);
        let known = self.batch.take_tail(mailbox);
        let Some(mut tail) = known.map_or_else(|| self.tail(mailbox, &message), |t| Ok(Some(t)))?
        else {
            return Ok(false);
        };
        let Tail { head, rows, bytes, last } = &mut tail;
        if *rows == 0 || *rows >= PACK_ROWS || *bytes >= PACK_BYTES {
            head.last_pack = message.uid;
            (*rows, *last) = (0, None);
            self.batch.put(
                Space::Pack,
                row::pack_key(mailbox.0, mailbox.1, message.uid),
                Vec::new(),
            );
        }
        let key = row::pack_key(mailbox.0, mailbox.1, head.last_pack);
        let value = self.batch.edit(Space::Pack, key)?;
        row::put_pack_row(value, last.as_ref(), &message);
        (*rows, *bytes) = (rows.saturating_add(1), value.len());
        head.uid_next = head.uid_next.max(message.uid.saturating_add(1));
        head.highest_modseq = head.highest_modseq.max(message.modseq);
        head.messages = head.messages.saturating_add(1);
        head.bytes = head.bytes.saturating_add(message.size);
        *last = Some(message);
        let value = self.batch.edit(Space::Head, row::mailbox_key(mailbox.0, mailbox.1))?;
        value.clear();
        head.encode_to(value);
        self.batch.keep_tail(mailbox, tail);
        Ok(true)
    }

    /// Where a mailbox ends; `None` when it is not there.
    fn tail(
        &self,
        (account, mailbox): (AccountId, MailboxId),
        message: &MessageRow,
    ) -> Result<Option<Tail>> {
        let head = match self.head(&row::mailbox_key(account, mailbox))? {
            None if self.salvage => Some(salvaged(mailbox, message)),
            head => head,
        };
        let Some(head) = head else { return Ok(None) };
        let mut tail = Tail { head, rows: 0, bytes: 0, last: None };
        if tail.head.last_pack != 0 {
            let key = row::pack_key(account, mailbox, tail.head.last_pack);
            if let Some(value) = self.batch.get(Space::Pack, &key)? {
                tail.bytes = value.len();
                row::visit_pack(&value, |row| {
                    tail.rows = tail.rows.saturating_add(1);
                    tail.last = Some(row);
                })
                .map_err(malformed("message"))?;
            }
        }
        Ok(Some(tail))
    }

    /// Adds a message to a mailbox at the place of its UID; `false` when the mailbox is not there or has the UID.
    fn insert_row(&mut self, delivery: &Delivery, message: MessageRow) -> Result<bool> {
        let (account, mailbox) = (delivery.account, delivery.mailbox);
        let key = row::mailbox_key(account, mailbox);
        let Some(mut head) = self.head(&key)? else { return Ok(false) };
        if message.uid >= head.uid_next {
            return self.add_row(delivery, message);
        }
        let found = self.batch.last(Space::Pack, &row::pack_key(account, mailbox, message.uid))?;
        let (pack_key, mut rows) = match found.filter(|(k, _)| k.starts_with(&key)) {
            Some((k, value)) => (k, row::decode_pack(&value).map_err(malformed("message"))?),
            None => (row::pack_key(account, mailbox, message.uid), Vec::new()),
        };
        match rows.binary_search_by_key(&message.uid, |row| row.uid) {
            Ok(_) => return Ok(false),
            Err(at) => rows.insert(at, message),
        }
        // The last pack is the one that grows; any other is split when it is twice too long.
        let half = if rows.len() > 2 * PACK_ROWS { rows.split_off(PACK_ROWS) } else { Vec::new() };
        self.batch.put(Space::Pack, pack_key.clone(), row::encode_pack(&rows));
        if let Some(first) = half.first().map(|row| row.uid) {
            let was_last = pack_key == row::pack_key(account, mailbox, head.last_pack);
            if was_last {
                head.last_pack = first;
            }
            let key = row::pack_key(account, mailbox, first);
            self.batch.put(Space::Pack, key, row::encode_pack(&half));
        }
        head.messages = head.messages.saturating_add(1);
        head.bytes = head.bytes.saturating_add(message.size);
        self.batch.put(Space::Head, key, head.encode());
        Ok(true)
    }

    fn expunge(
        &mut self,
        account: AccountId,
        mailbox: MailboxId,
        modseq: u64,
        uids: &[u32],
    ) -> Result<()> {
        let key = row::mailbox_key(account, mailbox);
        let Some(mut head) = self.head(&key)? else { return Ok(()) };
        for row in self.take_rows((account, mailbox), &mut head, uids)? {
            self.release(row.message)?;
        }
        head.highest_modseq = head.highest_modseq.max(modseq);
        self.batch.put(Space::Head, key, head.encode());
        Ok(())
    }

    /// Takes messages out of a mailbox's packs and figures; what is not there is passed over.
    fn take_rows(
        &mut self,
        (account, mailbox): (AccountId, MailboxId),
        head: &mut Head,
        uids: &[u32],
    ) -> Result<Vec<MessageRow>> {
        let mut taken = Vec::new();
        let mut walk = PackWalk::new(account, mailbox, uids);
        while let Some(Pack { key, rows, uids, .. }) = walk.next(self.batch)? {
            let (removed, kept): (Vec<_>, Vec<_>) =
                rows.into_iter().partition(|row| uids.binary_search(&row.uid).is_ok());
            for row in &removed {
                head.messages = head.messages.saturating_sub(1);
                head.bytes = head.bytes.saturating_sub(row.size);
            }
            if kept.is_empty() {
                if key == row::pack_key(account, mailbox, head.last_pack) {
                    head.last_pack = 0;
                }
                self.batch.delete(Space::Pack, key);
            } else if !removed.is_empty() {
                self.batch.put(Space::Pack, key, row::encode_pack(&kept));
            }
            taken.extend(removed);
        }
        Ok(taken)
    }

    fn change_flags(
        &mut self,
        (account, mailbox): (AccountId, MailboxId),
        modseq: u64,
        (add, remove): (u32, u32),
        uids: &[u32],
    ) -> Result<()> {
        let head_key = row::mailbox_key(account, mailbox);
        let Some(mut head) = self.head(&head_key)? else { return Ok(()) };
        let mut walk = PackWalk::new(account, mailbox, uids);
        while let Some(Pack { key, mut rows, uids, .. }) = walk.next(self.batch)? {
            let mut changed = false;
            for row in rows.iter_mut().filter(|row| uids.binary_search(&row.uid).is_ok()) {
                let flags = (row.flags & !remove) | add;
                if flags != row.flags {
                    (row.flags, row.modseq) = (flags, modseq);
                    changed = true;
                }
            }
            if changed {
                self.batch.put(Space::Pack, key, row::encode_pack(&rows));
            }
        }
        head.highest_modseq = head.highest_modseq.max(modseq);
        self.batch.put(Space::Head, head_key, head.encode());
        Ok(())
    }

    /// Moves messages. When either mailbox is not there, they stay where they are.
    fn move_rows(
        &mut self,
        account: AccountId,
        (from, from_modseq): (MailboxId, u64),
        (to, to_modseq): (MailboxId, u64),
        pairs: &[(u32, u32)],
    ) -> Result<()> {
        let (from_key, to_key) = (row::mailbox_key(account, from), row::mailbox_key(account, to));
        if self.head(&to_key)?.is_none() {
            return Ok(());
        }
        let Some(mut head) = self.head(&from_key)? else { return Ok(()) };
        let uids: Vec<u32> = pairs.iter().map(|(old, _)| *old).collect();
        let taken = self.take_rows((account, from), &mut head, &uids)?;
        head.highest_modseq = head.highest_modseq.max(from_modseq);
        self.batch.put(Space::Head, from_key, head.encode());
        // Read now: it may be the same mailbox.
        let Some(mut head) = self.head(&to_key)? else { return Ok(()) };
        let mut writer = PackWriter::new(self.batch, account, to, head.last_pack)?;
        for row in taken {
            let pair = pairs.binary_search_by_key(&row.uid, |(old, _)| *old);
            let Some((_, uid)) = pair.ok().and_then(|at| pairs.get(at)) else { continue };
            head.messages = head.messages.saturating_add(1);
            head.bytes = head.bytes.saturating_add(row.size);
            writer.add(self.batch, MessageRow { uid: *uid, modseq: to_modseq, ..row });
        }
        writer.flush(self.batch);
        head.last_pack = writer.pack;
        // Also of those that were lost: a UID is never given twice.
        let last = pairs.last().map_or(0, |(_, new)| *new);
        head.uid_next = head.uid_next.max(last.saturating_add(1));
        head.highest_modseq = head.highest_modseq.max(to_modseq);
        self.batch.put(Space::Head, to_key, head.encode());
        Ok(())
    }

    fn remove_mailboxes(&mut self, account: AccountId) -> Result<()> {
        let prefix = row::account_key(account);
        let mut from = prefix.clone();
        while let Some((key, value)) = self.batch.first(Space::Pack, &prefix, &from)? {
            for row in row::decode_pack(&value).map_err(malformed("message"))? {
                self.release(row.message)?;
            }
            from.clone_from(&key);
            from.push(0);
            self.batch.delete(Space::Pack, key);
        }
        let mut from = prefix.clone();
        while let Some((key, _)) = self.batch.first(Space::Head, &prefix, &from)? {
            from.clone_from(&key);
            from.push(0);
            self.batch.delete(Space::Head, key);
        }
        Ok(())
    }

    /// A mailbox lets a message go.
    fn release(&mut self, message: MessageId) -> Result<()> {
        if message.lane() == self.lane {
            return self.change_place(message, |place| {
                place.references = place.references.saturating_sub(1)
            });
        }
        match self.released.last_mut().filter(|(id, _)| *id == message) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.released.push((message, 1)),
        }
        Ok(())
    }

    /// Changes a message's place, and drops it when nobody refers to the message any more.
    fn change_place(&mut self, message: MessageId, change: impl FnOnce(&mut Place)) -> Result<()> {
        let key = row::message_key(message);
        let Some(value) = self.batch.get(Space::Place, &key)? else { return Ok(()) };
        let mut place = Place::decode(&value).map_err(malformed("place"))?;
        change(&mut place);
        if place.queued || place.references > 0 {
            self.batch.put(Space::Place, key, place.encode());
        } else {
            self.count_live(&place, -1)?;
            self.batch.delete(Space::Place, key);
        }
        Ok(())
    }

    fn count_live(&mut self, place: &Place, sign: i64) -> Result<()> {
        self.add_live(self.lane, place.segment, positive(place.len).saturating_mul(sign))?;
        self.count_chunks(place, sign)
    }

    fn count_chunks(&mut self, place: &Place, sign: i64) -> Result<()> {
        let mut left = place.size;
        for chunk in &place.chunks {
            let (len, rest) = chunk_record_len(left);
            left = rest;
            self.add_live(self.large, chunk.segment, positive(len).saturating_mul(sign))?;
        }
        Ok(())
    }

    /// A segment without live bytes has no row.
    fn add_live(&mut self, lane: Lane, segment: u64, bytes: i64) -> Result<()> {
        let value = self.batch.edit(Space::Live, row::live_key(lane.0, segment))?;
        let old = match value.is_empty() {
            false => row::decode_live(value).map_err(malformed("segment"))?,
            true => 0,
        };
        match old.saturating_add(bytes) {
            0 => self.batch.delete(Space::Live, row::live_key(lane.0, segment)),
            live => row::set_live(value, live),
        }
        Ok(())
    }
}

fn positive(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn negative(bytes: u64) -> i64 {
    positive(bytes).saturating_neg()
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use super::super::{Changes, IndexView, Pair, Visit};
    use super::*;

    /// An index with nothing in it.
    struct Nothing;
    impl IndexView for Nothing {
        fn get(&self, _: Space, _: &[u8]) -> Result<Option<Vec<u8>>> {
            Ok(None)
        }
        fn range(&self, _: Space, _: Bound<&[u8]>, _: Bound<&[u8]>, _: Visit<'_>) -> Result<()> {
            Ok(())
        }
        fn last_at_or_before(&self, _: Space, _: &[u8]) -> Result<Option<Pair>> {
            Ok(None)
        }
    }

    const A: AccountId = AccountId(7);
    const OTHER: MailboxId = MailboxId(2);

    fn apply(batch: &mut Batch<'_>, record: &Record) {
        let (lane, large) = (Lane(0), Lane(1));
        let mut applier = Applier { batch, lane, large, released: Vec::new(), salvage: false };
        applier.apply(record, Position { segment: 1, offset: 4096, len: 64 }).unwrap();
    }

    /// Two mailboxes that fill, and whose last packs change in every other way in between.
    fn records() -> Vec<Record> {
        let mut records = Vec::new();
        for (mailbox, name) in [(MailboxId::INBOX, "INBOX"), (OTHER, "Other")] {
            let name = name.to_owned();
            records.push(Record::Mailbox { account: A, mailbox, uid_validity: 1, name });
        }
        let (mut next, mut modseq) = ([1_u32, 1], 1_u64);
        for n in 0..400_u32 {
            let at = usize::from(n % 3 == 0);
            let mailbox = [MailboxId::INBOX, OTHER][at];
            modseq += 1;
            let delivery = Delivery { account: A, mailbox, uid: next[at], modseq };
            next[at] += 1;
            let message = MessageId(0x0100_0000_0000_0000 + u64::from(n));
            let (size, received) = (u64::from(n), u64::from(n * 10));
            records.push(Record::Deliver { message, delivery, size, received, flags: 0 });
            let uid = next[0].saturating_sub(1);
            modseq += 1;
            match n % 11 {
                3 => records.push(Record::Flags {
                    account: A,
                    mailbox: MailboxId::INBOX,
                    modseq,
                    add: 1,
                    remove: 0,
                    uids: vec![uid],
                }),
                6 => {
                    let (account, uids) = (A, vec![uid]);
                    let mailbox = MailboxId::INBOX;
                    records.push(Record::Expunge { account, mailbox, modseq, uids });
                }
                9 => {
                    let pairs = vec![(uid, next[1])];
                    next[1] += 1;
                    records.push(Record::Move {
                        account: A,
                        from: MailboxId::INBOX,
                        to: OTHER,
                        from_modseq: modseq,
                        to_modseq: modseq,
                        pairs,
                    });
                }
                _ => {}
            }
        }
        records.push(Record::RemoveMailboxes { account: A });
        records
    }

    #[test]
    fn a_remembered_end_of_a_mailbox_is_what_a_look_would_find() {
        let mut batch = Batch::new(&Nothing);
        let mut looked = Changes::new();
        for (n, record) in records().iter().enumerate() {
            apply(&mut batch, record);
            // A new batch remembers nothing.
            let mut fresh = Batch::over(&Nothing, looked);
            apply(&mut fresh, record);
            looked = fresh.into_changes();
            let (changes, tails) = batch.into_parts();
            assert_eq!(changes, looked, "record {n}: {record:?}");
            batch = Batch::over(&Nothing, changes).with_tails(tails);
        }
        let (changes, tails) = batch.into_parts();
        assert!(tails.is_empty());
        assert!(changes.iter().any(|((space, _), _)| *space == Space::Pack));
    }
}
