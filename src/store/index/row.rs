//! Keys and values of the index.
//!
//! Keys are big-endian, so that their order is the order of the numbers. Values use the store's number
//! encoding. They stand in exports too: `docs/format.md` draws them, and what is changed here gets a new
//! [`VERSION`](super::VERSION), with readers of the older ones kept.

use crate::store::encoding::{Malformed, Reader, put_bytes, put_number, put_signed};
use crate::store::record::{
    ChunkPlace, put_envelope, put_recipients, take_envelope, take_recipients,
};
use crate::store::{AccountId, MailboxHead, MailboxId, MessageId, MessageRow, QueueEntry, Table};

/// Most messages of a packed value.
pub const PACK_ROWS: usize = 64;
/// Most bytes of a packed value that another message may be added to.
pub const PACK_BYTES: usize = 3600;

/// Key in the table of single values: how far the log is applied.
pub const APPLIED: &[u8] = b"applied";
/// Key in the table of single values: whose index this is.
pub const OWNER: &[u8] = b"owner";

/// The key of a message.
pub fn message_key(id: MessageId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

/// The message of a key.
pub fn message_of(key: &[u8]) -> Result<MessageId, Malformed> {
    key.try_into().map(|bytes| MessageId(u64::from_be_bytes(bytes))).map_err(|_| Malformed)
}

/// The key of an account's mailboxes, as a prefix.
pub fn account_key(account: AccountId) -> Vec<u8> {
    account.0.to_be_bytes().to_vec()
}

/// The key of a mailbox, also the prefix of its packs.
pub fn mailbox_key(account: AccountId, mailbox: MailboxId) -> Vec<u8> {
    mailbox_key_with_room(account, mailbox, 0)
}

fn mailbox_key_with_room(account: AccountId, mailbox: MailboxId, room: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(8_usize.saturating_add(room));
    key.extend_from_slice(&account.0.to_be_bytes());
    key.extend_from_slice(&mailbox.0.to_be_bytes());
    key
}

/// Account and mailbox at the front of a key.
pub fn mailbox_of(key: &[u8]) -> Result<(AccountId, MailboxId), Malformed> {
    let mut reader = Reader::new(key);
    let account = u32::from_be_bytes(reader.array()?);
    let mailbox = u32::from_be_bytes(reader.array()?);
    Ok((AccountId(account), MailboxId(mailbox)))
}

/// The key of a pack.
pub fn pack_key(account: AccountId, mailbox: MailboxId, first: u32) -> Vec<u8> {
    let mut key = mailbox_key_with_room(account, mailbox, 4);
    key.extend_from_slice(&first.to_be_bytes());
    key
}

/// The key of a remembered delivery.
pub fn delivered_key(message: MessageId, account: AccountId, mailbox: MailboxId) -> Vec<u8> {
    let mut key = message_key(message);
    key.extend_from_slice(&mailbox_key(account, mailbox));
    key
}

/// The key of a small table's row.
pub fn table_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut out = vec![table as u8];
    out.extend_from_slice(key);
    out
}

/// The key of a segment's live bytes.
pub fn live_key(lane: u8, segment: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(lane);
    key.extend_from_slice(&segment.to_be_bytes());
    key
}

/// Lane and segment of a key of live bytes.
pub fn live_of(key: &[u8]) -> Result<(u8, u64), Malformed> {
    let mut reader = Reader::new(key);
    Ok((reader.byte()?, u64::from_be_bytes(reader.array()?)))
}

/// A segment's live bytes. Below zero only for a segment that is damaged.
pub fn set_live(value: &mut Vec<u8>, bytes: i64) {
    value.clear();
    put_signed(value, bytes);
}

/// The live bytes in a value.
pub fn decode_live(bytes: &[u8]) -> Result<i64, Malformed> {
    Reader::new(bytes).signed()
}

/// Where the log ends as far as it is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// LSN of the last applied record.
    pub lsn: u64,
    /// Segment that holds it; 0 when there is none yet.
    pub segment: u64,
    /// Offset behind it.
    pub offset: u64,
}

impl Applied {
    /// The value's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, self.lsn);
        put_number(&mut out, self.segment);
        put_number(&mut out, self.offset);
        out
    }

    /// The value in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Applied, Malformed> {
        let mut reader = Reader::new(bytes);
        let applied =
            Applied { lsn: reader.number()?, segment: reader.number()?, offset: reader.number()? };
        reader.end()?;
        Ok(applied)
    }
}

/// Where a message is and who refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Segment of the home lane.
    pub segment: u64,
    /// Offset of its record.
    pub offset: u64,
    /// Bytes of the record, padding included.
    pub len: u64,
    /// Bytes of the message.
    pub size: u64,
    /// Mailboxes that hold it. Below zero for the moment in which a mailbox of another lane let it go
    /// before its reference was counted.
    pub references: i64,
    /// Whether the queue holds it.
    pub queued: bool,
    /// Places of its chunks; empty when the bytes are in the record.
    pub chunks: Vec<ChunkPlace>,
}

impl Place {
    /// The value's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        put_number(&mut out, self.segment);
        put_number(&mut out, self.offset / 8);
        put_number(&mut out, self.len / 8);
        put_number(&mut out, self.size);
        put_signed(&mut out, self.references);
        out.push(u8::from(self.queued));
        for chunk in &self.chunks {
            put_number(&mut out, chunk.segment);
            put_number(&mut out, chunk.offset / 8);
        }
        out
    }

    /// The value in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Place, Malformed> {
        let mut reader = Reader::new(bytes);
        let eight = |number: u64| number.checked_mul(8).ok_or(Malformed);
        let mut place = Place {
            segment: reader.number()?,
            offset: eight(reader.number()?)?,
            len: eight(reader.number()?)?,
            size: reader.number()?,
            references: reader.signed()?,
            queued: reader.byte()? != 0,
            chunks: Vec::new(),
        };
        while !reader.is_empty() {
            place
                .chunks
                .push(ChunkPlace { segment: reader.number()?, offset: eight(reader.number()?)? });
        }
        Ok(place)
    }
}

/// A mailbox's figures as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// The UID that the next message gets.
    pub uid_next: u32,
    /// The highest MODSEQ given.
    pub highest_modseq: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes of the messages.
    pub bytes: u64,
    /// First UID of the pack that the next message is added to; 0: it starts a new one.
    pub last_pack: u32,
    /// Name.
    pub name: String,
}

impl Head {
    /// The value's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        self.encode_to(&mut out);
        out
    }

    /// Appends the value's bytes.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        put_number(out, u64::from(self.uid_validity));
        put_number(out, u64::from(self.uid_next));
        put_number(out, self.highest_modseq);
        put_number(out, self.messages);
        put_number(out, self.bytes);
        put_number(out, u64::from(self.last_pack));
        put_bytes(out, self.name.as_bytes());
    }

    /// The value in these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Head, Malformed> {
        let mut reader = Reader::new(bytes);
        let head = Head {
            uid_validity: reader.number32()?,
            uid_next: reader.number32()?,
            highest_modseq: reader.number()?,
            messages: reader.number()?,
            bytes: reader.number()?,
            last_pack: reader.number32()?,
            name: String::from_utf8(reader.bytes()?.to_vec()).map_err(|_| Malformed)?,
        };
        reader.end()?;
        Ok(head)
    }

    /// The figures as the rooms above see them.
    pub fn public(self, mailbox: MailboxId) -> MailboxHead {
        MailboxHead {
            mailbox,
            name: self.name,
            uid_validity: self.uid_validity,
            uid_next: self.uid_next,
            highest_modseq: self.highest_modseq,
            messages: self.messages,
            bytes: self.bytes,
        }
    }
}

/// A queue entry's value.
pub fn encode_queue(entry: &QueueEntry) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put_number(&mut out, entry.size);
    put_envelope(&mut out, &entry.envelope);
    put_recipients(&mut out, &entry.recipients);
    out
}

/// The queue entry in a value.
pub fn decode_queue(message: MessageId, bytes: &[u8]) -> Result<QueueEntry, Malformed> {
    let mut reader = Reader::new(bytes);
    let entry = QueueEntry {
        message,
        size: reader.number()?,
        envelope: take_envelope(&mut reader)?,
        recipients: take_recipients(&mut reader)?,
    };
    reader.end()?;
    Ok(entry)
}

/// A pack: the value of several messages of a mailbox.
///
/// Each message is written as differences to the one before it (UID, id, time, MODSEQ), the first to
/// zero: about 12 bytes for messages that came in one after another.
pub fn encode_pack(rows: &[MessageRow]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len().saturating_mul(16).saturating_add(1));
    let mut before: Option<&MessageRow> = None;
    for row in rows {
        put_pack_row(&mut out, before, row);
        before = Some(row);
    }
    out
}

/// Appends one message to a pack.
pub fn put_pack_row(out: &mut Vec<u8>, before: Option<&MessageRow>, row: &MessageRow) {
    let (uid, id, received, modseq) = match before {
        Some(before) => (before.uid, before.message.0, before.received, before.modseq),
        None => (0, 0, 0, 0),
    };
    put_number(out, u64::from(row.uid.saturating_sub(uid)));
    put_signed(out, row.message.0.wrapping_sub(id) as i64);
    put_number(out, row.size);
    put_signed(out, row.received.wrapping_sub(received) as i64);
    put_signed(out, row.modseq.wrapping_sub(modseq) as i64);
    put_number(out, u64::from(row.envelope_flags));
    put_number(out, u64::from(row.flags));
}

/// The messages of a pack.
pub fn decode_pack(bytes: &[u8]) -> Result<Vec<MessageRow>, Malformed> {
    let mut rows: Vec<MessageRow> = Vec::with_capacity(PACK_ROWS);
    visit_pack(bytes, |row| rows.push(row))?;
    Ok(rows)
}

/// Visits the messages of a pack, without memory of its own. On an error those before the damage were visited.
pub fn visit_pack(bytes: &[u8], mut visit: impl FnMut(MessageRow)) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    let (mut uid, mut id, mut received, mut modseq) = (0_u32, 0_u64, 0_u64, 0_u64);
    while !reader.is_empty() {
        uid = uid.checked_add(reader.number32()?).ok_or(Malformed)?;
        id = id.wrapping_add(reader.signed()? as u64);
        let size = reader.number()?;
        received = received.wrapping_add(reader.signed()? as u64);
        modseq = modseq.wrapping_add(reader.signed()? as u64);
        visit(MessageRow {
            uid,
            message: MessageId(id),
            size,
            received,
            modseq,
            envelope_flags: reader.number16()?,
            flags: reader.number32()?,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pack_comes_back(parts in prop::collection::vec(
            (1_u32..1000, any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u16>(), any::<u32>()),
            0..20,
        )) {
            let mut uid = 0;
            let rows: Vec<MessageRow> = parts
                .into_iter()
                .map(|(step, id, size, received, modseq, envelope_flags, flags)| {
                    uid += step;
                    MessageRow { uid, message: MessageId(id), size, received, modseq, envelope_flags, flags }
                })
                .collect();
            prop_assert_eq!(decode_pack(&encode_pack(&rows)), Ok(rows));
        }
    }
}
