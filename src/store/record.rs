//! Records: the units of the log, their header and their bodies.
//!
//! A record is a header of 32 bytes and a body, padded with zeros to a multiple of 8 bytes. The
//! header has a checksum of its own, seeded with the segment's salt, so that its length can be
//! trusted before the body is read, and so that a record of another segment is never taken for one
//! of this. `docs/format.md` draws every byte; the tests of this file hold it to that.
//!
//! Bodies say what happened, with everything that was decided when it was committed (UIDs, MODSEQs),
//! so that applying them again gives the same index. The body of a message is the message's bytes
//! first and what is known of it last: the writer of the bytes computes their checksum while they
//! come in, and the committer continues it over the few bytes behind, instead of going over the
//! message again.

use super::encoding::{Malformed, Reader, put_bytes, put_number};
use super::{AccountId, Envelope, MailboxId, MessageId, QueueRecipient, RecipientState, Table};

/// Bytes of a record's header.
pub const HEADER_LEN: usize = 32;
/// Records start at multiples of this.
pub const ALIGN: u64 = 8;
/// Most bytes of a body. A length beyond it is damage.
pub const MAX_BODY: u32 = 16 << 20;
/// Most bytes of what a message record holds beside the message's bytes: recipients, parameters.
pub const MAX_META: usize = 1 << 20;
/// Most bytes of any other record's body.
pub const MAX_SMALL: usize = 4 << 20;

/// First record of a transaction.
pub const FLAG_BEGIN: u16 = 16;
/// Last record of a transaction.
pub const FLAG_END: u16 = 1;
/// A reader that does not know the type must not go on.
pub const FLAG_MUST_UNDERSTAND: u16 = 8;

/// Types of records. Numbers are on disk: never reuse one. 15 (EXPORT_MARK) is set aside for what later minor
/// versions add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Type {
    /// A message with its envelope, local deliveries and queue recipients.
    Message = 1,
    /// Up to 128 KiB of a large message, in the large lane.
    Chunk = 2,
    /// All chunks of a large message have been written, in the large lane.
    BodyEnd = 3,
    /// A message of any lane was put into a mailbox of this one.
    Deliver = 4,
    /// Flags of messages of a mailbox were changed.
    Flags = 5,
    /// Messages were removed from a mailbox.
    Expunge = 6,
    /// A mailbox was made.
    Mailbox = 7,
    /// All mailboxes of an account were removed.
    RemoveMailboxes = 8,
    /// A queue entry has new recipients.
    Queue = 9,
    /// Mailboxes of other lanes let a message go.
    Unreference = 10,
    /// A delivery between lanes need no longer be remembered.
    Forget = 11,
    /// A row of a small table.
    Row = 12,
    /// The chunks of a large message are somewhere else now.
    Loc = 13,
    /// The lane was closed in order here.
    Seal = 14,
    /// A message's record, copied by compaction: its body is that of the first one.
    Copy = 16,
    /// Messages went from one mailbox of an account to another.
    Move = 17,
}

impl Type {
    /// The type of this number.
    pub fn from_number(number: u8) -> Option<Type> {
        Some(match number {
            1 => Type::Message,
            2 => Type::Chunk,
            3 => Type::BodyEnd,
            4 => Type::Deliver,
            5 => Type::Flags,
            6 => Type::Expunge,
            7 => Type::Mailbox,
            8 => Type::RemoveMailboxes,
            9 => Type::Queue,
            10 => Type::Unreference,
            11 => Type::Forget,
            12 => Type::Row,
            13 => Type::Loc,
            14 => Type::Seal,
            16 => Type::Copy,
            17 => Type::Move,
            _ => return None,
        })
    }

    /// Whether a record of this number holds a message.
    pub fn is_message(number: u8) -> bool {
        number == Type::Message as u8 || number == Type::Copy as u8
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the body, without padding.
    pub body_len: u32,
    /// Number of the type.
    pub kind: u8,
    /// Version of the type's body.
    pub version: u8,
    /// `FLAG_*`.
    pub flags: u16,
    /// CRC32C of the body.
    pub body_crc: u32,
    /// Log sequence number.
    pub lsn: u64,
    /// How far `lsn` is ahead of the newest record known to be durable when this one was written.
    pub durable_delta: u32,
}

impl Header {
    /// The header's bytes for a segment with this salt.
    pub fn encode(&self, salt: u32) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(target) = out.get_mut(at..at + bytes.len()) {
                target.copy_from_slice(bytes);
            }
        };
        put(4, &self.body_len.to_le_bytes());
        put(8, &[self.kind, self.version]);
        put(10, &self.flags.to_le_bytes());
        put(12, &self.body_crc.to_le_bytes());
        put(16, &self.lsn.to_le_bytes());
        put(24, &self.durable_delta.to_le_bytes());
        let crc = crc32c::crc32c_append(salt, &out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header in these bytes if its checksum fits and its length is possible.
    pub fn decode(bytes: &[u8; HEADER_LEN], salt: u32) -> Option<Header> {
        let (crc, rest) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*crc) != crc32c::crc32c_append(salt, rest) {
            return None;
        }
        let mut reader = Reader::new(rest);
        let header = Header {
            body_len: reader.u32().ok()?,
            kind: reader.byte().ok()?,
            version: reader.byte().ok()?,
            flags: reader.u16().ok()?,
            body_crc: reader.u32().ok()?,
            lsn: reader.u64().ok()?,
            durable_delta: reader.u32().ok()?,
        };
        (header.body_len <= MAX_BODY && header.lsn != 0).then_some(header)
    }

    /// Whether these bytes could be the header of a record with an LSN of at least `lsn`, by a look at a few fields: to
    /// go quickly over bytes that are none. Says no to zeros.
    pub fn is_possible(bytes: &[u8; HEADER_LEN], lsn: u64) -> bool {
        let [_, _, _, _, a, b, c, d, kind, ..] = *bytes;
        let [.., e, f, g, h, i, j, k, l, _, _, _, _, _, _, _, _] = *bytes;
        u32::from_le_bytes([a, b, c, d]) <= MAX_BODY
            && kind != 0
            && u64::from_le_bytes([e, f, g, h, i, j, k, l]) >= lsn.max(1)
    }

    /// The newest LSN known to be durable when the record was written.
    pub fn durable_lsn(&self) -> u64 {
        self.lsn.saturating_sub(u64::from(self.durable_delta))
    }

    /// Bytes of the whole record: header, body, padding.
    pub fn record_len(&self) -> u64 {
        record_len(self.body_len as usize)
    }
}

/// Bytes of a record with a body of this length: header, body, padding.
pub fn record_len(body_len: usize) -> u64 {
    (HEADER_LEN as u64 + body_len as u64).next_multiple_of(ALIGN)
}

/// A local delivery with what was assigned to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The owner.
    pub account: AccountId,
    /// The mailbox.
    pub mailbox: MailboxId,
    /// The message's UID there.
    pub uid: u32,
    /// Modification sequence number.
    pub modseq: u64,
}

/// Where a chunk of a large message is: segment of the large lane and offset of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlace {
    /// Number of the segment.
    pub segment: u64,
    /// Offset of the record's header in it.
    pub offset: u64,
}

/// What is known of a message beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageMeta {
    /// Its id.
    pub id: MessageId,
    /// Its circumstances.
    pub envelope: Envelope,
    /// Bytes of the message.
    pub size: u64,
    /// BLAKE3 of the message's bytes.
    pub hash: [u8; 32],
    /// Local deliveries of the same transaction.
    pub deliveries: Vec<Delivery>,
    /// Recipients that stay in the queue.
    pub queue: Vec<QueueRecipient>,
    /// Places of its chunks when it was written; empty when the bytes are in the record itself.
    pub chunks: Vec<ChunkPlace>,
}

/// A record's body except for message bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// See [`Type::Message`].
    Message(MessageMeta),
    /// See [`Type::Copy`]. What is known is as old as the first record.
    Copy(MessageMeta),
    /// See [`Type::Loc`].
    Loc {
        /// The message.
        message: MessageId,
        /// The places of all its chunks.
        chunks: Vec<ChunkPlace>,
    },
    /// See [`Type::Deliver`].
    Deliver {
        /// The message.
        message: MessageId,
        /// Where to, and what was assigned.
        delivery: Delivery,
        /// Bytes.
        size: u64,
        /// Milliseconds since 1970.
        received: u64,
        /// Envelope flags.
        flags: u16,
    },
    /// See [`Type::Flags`].
    Flags {
        /// The owner.
        account: AccountId,
        /// The mailbox.
        mailbox: MailboxId,
        /// Modification sequence number of the change.
        modseq: u64,
        /// Bits that are set, after the others were cleared.
        add: u32,
        /// Bits that are cleared.
        remove: u32,
        /// Sorted UIDs, only those whose flags change.
        uids: Vec<u32>,
    },
    /// See [`Type::Move`].
    Move {
        /// The owner of both mailboxes.
        account: AccountId,
        /// Where the messages were.
        from: MailboxId,
        /// Where they are.
        to: MailboxId,
        /// Modification sequence number of the removal from `from`.
        from_modseq: u64,
        /// Modification sequence number of the arrival in `to`.
        to_modseq: u64,
        /// UIDs before and after, both rising.
        pairs: Vec<(u32, u32)>,
    },
    /// See [`Type::Expunge`].
    Expunge {
        /// The owner.
        account: AccountId,
        /// The mailbox.
        mailbox: MailboxId,
        /// Modification sequence number of the removal.
        modseq: u64,
        /// Sorted UIDs.
        uids: Vec<u32>,
    },
    /// See [`Type::Mailbox`].
    Mailbox {
        /// The owner.
        account: AccountId,
        /// The mailbox.
        mailbox: MailboxId,
        /// Its UIDVALIDITY.
        uid_validity: u32,
        /// Its name.
        name: String,
    },
    /// See [`Type::RemoveMailboxes`].
    RemoveMailboxes {
        /// The owner.
        account: AccountId,
    },
    /// See [`Type::Queue`].
    Queue {
        /// The entry.
        message: MessageId,
        /// Mailboxes of other lanes that hold the message beyond those counted before.
        references: u32,
        /// The recipients that remain.
        recipients: Vec<QueueRecipient>,
    },
    /// See [`Type::Unreference`].
    Unreference {
        /// The message.
        message: MessageId,
        /// How many.
        count: u32,
    },
    /// See [`Type::Forget`].
    Forget {
        /// The message.
        message: MessageId,
        /// The owner.
        account: AccountId,
        /// The mailbox.
        mailbox: MailboxId,
    },
    /// See [`Type::Row`].
    Row {
        /// The table.
        table: Table,
        /// The key.
        key: Vec<u8>,
        /// The value; `None` removes the row.
        value: Option<Vec<u8>>,
    },
    /// See [`Type::Seal`].
    Seal,
    /// See [`Type::Chunk`]. The bytes follow these fields.
    Chunk(ChunkHead),
    /// See [`Type::BodyEnd`].
    BodyEnd {
        /// The message.
        message: MessageId,
        /// Bytes of the message.
        size: u64,
        /// BLAKE3 of the message's bytes.
        hash: [u8; 32],
    },
    /// A record of a type that this version does not know and need not.
    Unknown,
}

/// Bytes of [`ChunkHead`] at the front of a chunk's body.
pub const CHUNK_HEAD_LEN: usize = 24;

/// The front of a chunk's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHead {
    /// The message.
    pub message: MessageId,
    /// Offset of the chunk's first byte in the message.
    pub offset: u64,
    /// Number of the chunk, from 0.
    pub index: u32,
}

impl ChunkHead {
    /// The bytes.
    pub fn encode(&self) -> [u8; CHUNK_HEAD_LEN] {
        let mut out = [0; CHUNK_HEAD_LEN];
        out[..8].copy_from_slice(&self.message.0.to_le_bytes());
        out[8..16].copy_from_slice(&self.offset.to_le_bytes());
        out[16..20].copy_from_slice(&self.index.to_le_bytes());
        out
    }

    fn decode(body: &[u8]) -> Result<ChunkHead, Malformed> {
        let mut reader = Reader::new(body);
        let head = ChunkHead {
            message: MessageId(reader.u64()?),
            offset: reader.u64()?,
            index: reader.u32()?,
        };
        reader.u32()?;
        Ok(head)
    }
}

/// Appends a list of queue recipients.
pub fn put_recipients(out: &mut Vec<u8>, recipients: &[QueueRecipient]) {
    put_number(out, recipients.len() as u64);
    for recipient in recipients {
        match recipient.state {
            RecipientState::Remote => out.push(0),
            RecipientState::Local(account, mailbox) => {
                out.push(1);
                put_number(out, u64::from(account.0));
                put_number(out, u64::from(mailbox.0));
            }
            RecipientState::Held => out.push(2),
            RecipientState::Deferred { attempts, next: at }
            | RecipientState::Failed { attempts, at } => {
                let deferred = matches!(recipient.state, RecipientState::Deferred { .. });
                out.push(if deferred { 3 } else { 4 });
                put_number(out, u64::from(attempts));
                put_number(out, at);
                put_bytes(out, &recipient.answer);
            }
        }
        put_bytes(out, &recipient.address);
        put_bytes(out, &recipient.parameters);
    }
}

/// Reads a list of queue recipients.
pub fn take_recipients(reader: &mut Reader<'_>) -> Result<Vec<QueueRecipient>, Malformed> {
    let count = reader.count()?;
    let mut recipients = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        let mut answer = Vec::new();
        let state = match reader.byte()? {
            0 => RecipientState::Remote,
            1 => {
                RecipientState::Local(AccountId(reader.number32()?), MailboxId(reader.number32()?))
            }
            2 => RecipientState::Held,
            kind @ (3 | 4) => {
                let (attempts, at) = (reader.number32()?, reader.number()?);
                answer = reader.bytes()?.to_vec();
                if kind == 3 {
                    RecipientState::Deferred { attempts, next: at }
                } else {
                    RecipientState::Failed { attempts, at }
                }
            }
            _ => return Err(Malformed),
        };
        recipients.push(QueueRecipient {
            state,
            address: reader.bytes()?.to_vec(),
            parameters: reader.bytes()?.to_vec(),
            answer,
        });
    }
    Ok(recipients)
}

/// Appends an envelope.
pub fn put_envelope(out: &mut Vec<u8>, envelope: &Envelope) {
    put_number(out, envelope.received);
    put_number(out, u64::from(envelope.flags));
    put_number(out, u64::from(envelope.prefix_len));
    put_bytes(out, &envelope.from);
    put_bytes(out, &envelope.parameters);
}

/// Reads an envelope.
pub fn take_envelope(reader: &mut Reader<'_>) -> Result<Envelope, Malformed> {
    Ok(Envelope {
        received: reader.number()?,
        flags: reader.number16()?,
        prefix_len: reader.number16()?,
        from: reader.bytes()?.to_vec(),
        parameters: reader.bytes()?.to_vec(),
    })
}

fn put_delivery(out: &mut Vec<u8>, delivery: &Delivery) {
    put_number(out, u64::from(delivery.account.0));
    put_number(out, u64::from(delivery.mailbox.0));
    put_number(out, u64::from(delivery.uid));
    put_number(out, delivery.modseq);
}

fn take_delivery(reader: &mut Reader<'_>) -> Result<Delivery, Malformed> {
    Ok(Delivery {
        account: AccountId(reader.number32()?),
        mailbox: MailboxId(reader.number32()?),
        uid: reader.number32()?,
        modseq: reader.number()?,
    })
}

fn put_chunks(out: &mut Vec<u8>, chunks: &[ChunkPlace]) {
    put_number(out, chunks.len() as u64);
    for chunk in chunks {
        put_number(out, chunk.segment);
        put_number(out, chunk.offset);
    }
}

fn take_chunks(reader: &mut Reader<'_>) -> Result<Vec<ChunkPlace>, Malformed> {
    let count = reader.count()?;
    let mut chunks = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        chunks.push(ChunkPlace { segment: reader.number()?, offset: reader.number()? });
    }
    Ok(chunks)
}

/// Appends rising UIDs: their count, then each as the difference to the one before.
fn put_uids(out: &mut Vec<u8>, uids: &[u32]) {
    put_number(out, uids.len() as u64);
    let mut before = 0;
    for uid in uids {
        put_number(out, u64::from(uid.saturating_sub(before)));
        before = *uid;
    }
}

fn take_uids(reader: &mut Reader<'_>) -> Result<Vec<u32>, Malformed> {
    let count = reader.count()?;
    let mut uids = Vec::with_capacity(count);
    let mut uid = 0_u32;
    for _ in 0..count {
        uid = uid.checked_add(reader.number32()?).ok_or(Malformed)?;
        uids.push(uid);
    }
    Ok(uids)
}

fn take_pairs(reader: &mut Reader<'_>) -> Result<Vec<(u32, u32)>, Malformed> {
    // Each takes two bytes at least.
    let count = reader.count()?;
    let mut pairs = Vec::with_capacity(count.min(reader.rest().len() / 2));
    let (mut old, mut new) = (0_u32, 0_u32);
    for _ in 0..count {
        old = old.checked_add(reader.number32()?).ok_or(Malformed)?;
        new = new.checked_add(reader.number32()?).ok_or(Malformed)?;
        pairs.push((old, new));
    }
    Ok(pairs)
}

impl MessageMeta {
    /// Appends what stands behind the message's bytes: the fields and, last, their length.
    pub fn encode_tail(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.id.0.to_le_bytes());
        out.extend_from_slice(&self.hash);
        put_number(out, self.size);
        put_envelope(out, &self.envelope);
        put_number(out, self.deliveries.len() as u64);
        for delivery in &self.deliveries {
            put_delivery(out, delivery);
        }
        put_recipients(out, &self.queue);
        put_chunks(out, &self.chunks);
        let len = u32::try_from(out.len().saturating_sub(start)).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_le_bytes());
    }

    /// Splits a message record's body into the message's bytes and what is known of it.
    pub fn decode(body: &[u8]) -> Result<(&[u8], MessageMeta), Malformed> {
        let (rest, len) = body.split_last_chunk::<4>().ok_or(Malformed)?;
        let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| Malformed)?;
        let at = rest.len().checked_sub(len).ok_or(Malformed)?;
        let (bytes, tail) = rest.split_at_checked(at).ok_or(Malformed)?;
        let mut reader = Reader::new(tail);
        let id = MessageId(reader.u64()?);
        let hash = reader.array()?;
        let size = reader.number()?;
        let envelope = take_envelope(&mut reader)?;
        let count = reader.count()?;
        let mut deliveries = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            deliveries.push(take_delivery(&mut reader)?);
        }
        let queue = take_recipients(&mut reader)?;
        let chunks = take_chunks(&mut reader)?;
        reader.end()?;
        if chunks.is_empty() && bytes.len() as u64 != size {
            return Err(Malformed);
        }
        Ok((bytes, MessageMeta { id, envelope, size, hash, deliveries, queue, chunks }))
    }
}

impl Record {
    /// The type.
    pub fn kind(&self) -> u8 {
        let kind = match self {
            Record::Message(_) => Type::Message,
            Record::Copy(_) => Type::Copy,
            Record::Loc { .. } => Type::Loc,
            Record::Deliver { .. } => Type::Deliver,
            Record::Flags { .. } => Type::Flags,
            Record::Move { .. } => Type::Move,
            Record::Expunge { .. } => Type::Expunge,
            Record::Mailbox { .. } => Type::Mailbox,
            Record::RemoveMailboxes { .. } => Type::RemoveMailboxes,
            Record::Queue { .. } => Type::Queue,
            Record::Unreference { .. } => Type::Unreference,
            Record::Forget { .. } => Type::Forget,
            Record::Row { .. } => Type::Row,
            Record::Chunk(_) => Type::Chunk,
            Record::BodyEnd { .. } => Type::BodyEnd,
            Record::Seal | Record::Unknown => Type::Seal,
        };
        kind as u8
    }

    /// Appends the body without message bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Message(meta) | Record::Copy(meta) => meta.encode_tail(out),
            Record::Loc { message, chunks } => {
                out.extend_from_slice(&message.0.to_le_bytes());
                put_chunks(out, chunks);
            }
            Record::Deliver { message, delivery, size, received, flags } => {
                out.extend_from_slice(&message.0.to_le_bytes());
                put_delivery(out, delivery);
                put_number(out, *size);
                put_number(out, *received);
                put_number(out, u64::from(*flags));
            }
            Record::Expunge { account, mailbox, modseq, uids } => {
                put_number(out, u64::from(account.0));
                put_number(out, u64::from(mailbox.0));
                put_number(out, *modseq);
                put_uids(out, uids);
            }
            Record::Flags { account, mailbox, modseq, add, remove, uids } => {
                put_number(out, u64::from(account.0));
                put_number(out, u64::from(mailbox.0));
                put_number(out, *modseq);
                put_number(out, u64::from(*add));
                put_number(out, u64::from(*remove));
                put_uids(out, uids);
            }
            Record::Move { account, from, to, from_modseq, to_modseq, pairs } => {
                put_number(out, u64::from(account.0));
                put_number(out, u64::from(from.0));
                put_number(out, u64::from(to.0));
                put_number(out, *from_modseq);
                put_number(out, *to_modseq);
                put_number(out, pairs.len() as u64);
                let mut before = (0, 0);
                for pair in pairs {
                    put_number(out, u64::from(pair.0.saturating_sub(before.0)));
                    put_number(out, u64::from(pair.1.saturating_sub(before.1)));
                    before = *pair;
                }
            }
            Record::Mailbox { account, mailbox, uid_validity, name } => {
                put_number(out, u64::from(account.0));
                put_number(out, u64::from(mailbox.0));
                put_number(out, u64::from(*uid_validity));
                put_bytes(out, name.as_bytes());
            }
            Record::RemoveMailboxes { account } => put_number(out, u64::from(account.0)),
            Record::Queue { message, references, recipients } => {
                out.extend_from_slice(&message.0.to_le_bytes());
                put_number(out, u64::from(*references));
                put_recipients(out, recipients);
            }
            Record::Unreference { message, count } => {
                out.extend_from_slice(&message.0.to_le_bytes());
                put_number(out, u64::from(*count));
            }
            Record::Forget { message, account, mailbox } => {
                out.extend_from_slice(&message.0.to_le_bytes());
                put_number(out, u64::from(account.0));
                put_number(out, u64::from(mailbox.0));
            }
            Record::Row { table, key, value } => {
                out.push(*table as u8);
                put_bytes(out, key);
                match value {
                    Some(value) => {
                        out.push(1);
                        put_bytes(out, value);
                    }
                    None => out.push(0),
                }
            }
            Record::Chunk(head) => out.extend_from_slice(&head.encode()),
            Record::BodyEnd { message, size, hash } => {
                out.extend_from_slice(&message.0.to_le_bytes());
                put_number(out, *size);
                out.extend_from_slice(hash);
            }
            Record::Seal | Record::Unknown => {}
        }
    }

    /// The record with this header and body.
    pub fn decode(header: &Header, body: &[u8]) -> Result<Record, Malformed> {
        let known = Type::from_number(header.kind).filter(|_| header.version == 1);
        let Some(kind) = known else {
            let must = header.flags & FLAG_MUST_UNDERSTAND != 0;
            return if must { Err(Malformed) } else { Ok(Record::Unknown) };
        };
        let mut reader = Reader::new(body);
        let record = match kind {
            Type::Message => return Ok(Record::Message(MessageMeta::decode(body)?.1)),
            Type::Copy => return Ok(Record::Copy(MessageMeta::decode(body)?.1)),
            Type::Loc => {
                Record::Loc { message: MessageId(reader.u64()?), chunks: take_chunks(&mut reader)? }
            }
            Type::Chunk => return Ok(Record::Chunk(ChunkHead::decode(body)?)),
            Type::Seal => return Ok(Record::Seal),
            Type::Deliver => Record::Deliver {
                message: MessageId(reader.u64()?),
                delivery: take_delivery(&mut reader)?,
                size: reader.number()?,
                received: reader.number()?,
                flags: reader.number16()?,
            },
            Type::Expunge => Record::Expunge {
                account: AccountId(reader.number32()?),
                mailbox: MailboxId(reader.number32()?),
                modseq: reader.number()?,
                uids: take_uids(&mut reader)?,
            },
            Type::Flags => Record::Flags {
                account: AccountId(reader.number32()?),
                mailbox: MailboxId(reader.number32()?),
                modseq: reader.number()?,
                add: reader.number32()?,
                remove: reader.number32()?,
                uids: take_uids(&mut reader)?,
            },
            Type::Move => Record::Move {
                account: AccountId(reader.number32()?),
                from: MailboxId(reader.number32()?),
                to: MailboxId(reader.number32()?),
                from_modseq: reader.number()?,
                to_modseq: reader.number()?,
                pairs: take_pairs(&mut reader)?,
            },
            Type::Mailbox => Record::Mailbox {
                account: AccountId(reader.number32()?),
                mailbox: MailboxId(reader.number32()?),
                uid_validity: reader.number32()?,
                name: String::from_utf8(reader.bytes()?.to_vec()).map_err(|_| Malformed)?,
            },
            Type::RemoveMailboxes => {
                Record::RemoveMailboxes { account: AccountId(reader.number32()?) }
            }
            Type::Queue => Record::Queue {
                message: MessageId(reader.u64()?),
                references: reader.number32()?,
                recipients: take_recipients(&mut reader)?,
            },
            Type::Unreference => {
                Record::Unreference { message: MessageId(reader.u64()?), count: reader.number32()? }
            }
            Type::Forget => Record::Forget {
                message: MessageId(reader.u64()?),
                account: AccountId(reader.number32()?),
                mailbox: MailboxId(reader.number32()?),
            },
            Type::Row => Record::Row {
                table: Table::from_number(reader.byte()?).ok_or(Malformed)?,
                key: reader.bytes()?.to_vec(),
                value: match reader.byte()? {
                    0 => None,
                    1 => Some(reader.bytes()?.to_vec()),
                    _ => return Err(Malformed),
                },
            },
            Type::BodyEnd => Record::BodyEnd {
                message: MessageId(reader.u64()?),
                size: reader.number()?,
                hash: reader.array()?,
            },
        };
        reader.end()?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Record {
        Record::Message(MessageMeta {
            id: MessageId::new(super::super::Lane(2), 3, 4),
            envelope: Envelope {
                from: b"a@b.test".to_vec(),
                received: 1_790_000_000_000,
                flags: 1,
                prefix_len: 12,
                parameters: b"RET=HDRS".to_vec(),
            },
            size: 5,
            hash: [7; 32],
            deliveries: vec![Delivery {
                account: AccountId(1),
                mailbox: MailboxId(1),
                uid: 9,
                modseq: 10,
            }],
            queue: vec![
                QueueRecipient {
                    address: b"x@y.test".to_vec(),
                    parameters: Vec::new(),
                    state: RecipientState::Remote,
                    answer: Vec::new(),
                },
                QueueRecipient {
                    address: Vec::new(),
                    parameters: b"NOTIFY=NEVER".to_vec(),
                    state: RecipientState::Local(AccountId(8), MailboxId(1)),
                    answer: Vec::new(),
                },
                QueueRecipient {
                    address: b"late@y.test".to_vec(),
                    parameters: b"NOTIFY=NEVER".to_vec(),
                    state: RecipientState::Deferred { attempts: 3, next: 1_790_000_000_123 },
                    answer: b"451 4.7.1 Later".to_vec(),
                },
                QueueRecipient {
                    address: b"never@y.test".to_vec(),
                    parameters: Vec::new(),
                    state: RecipientState::Failed { attempts: u32::MAX, at: u64::MAX },
                    answer: b"550 5.1.1 No".to_vec(),
                },
            ],
            chunks: Vec::new(),
        })
    }

    fn samples() -> Vec<Record> {
        let (message_id, account, mailbox) = (MessageId(77), AccountId(300), MailboxId(1));
        let Record::Message(copied) = message() else { panic!("not a message") };
        let place = |n: u64| ChunkPlace { segment: n, offset: n << 20 };
        let delivery = Delivery { account, mailbox, uid: 1, modseq: 2 };
        vec![
            message(),
            Record::Copy(copied),
            Record::Loc { message: message_id, chunks: (1..4).map(place).collect() },
            Record::Deliver { message: message_id, delivery, size: 3, received: 4, flags: 5 },
            Record::Expunge { account, mailbox, modseq: 6, uids: vec![1, 5, u32::MAX] },
            Record::Flags {
                account,
                mailbox,
                modseq: 1 << 50,
                add: 1,
                remove: u32::MAX,
                uids: vec![3, 4, u32::MAX],
            },
            Record::Move {
                account,
                from: mailbox,
                to: MailboxId(900),
                from_modseq: 7,
                to_modseq: 1 << 40,
                pairs: vec![(1, 1000), (70, 1001), (u32::MAX, u32::MAX)],
            },
            Record::Mailbox { account, mailbox, uid_validity: 7, name: "INBOX".into() },
            Record::RemoveMailboxes { account },
            Record::Queue { message: message_id, references: 2, recipients: Vec::new() },
            Record::Unreference { message: message_id, count: 1 },
            Record::Forget { message: message_id, account, mailbox },
            Record::Row { table: Table::Alias, key: vec![1], value: Some(vec![2, 3]) },
            Record::Row { table: Table::Value, key: vec![], value: None },
            Record::Chunk(ChunkHead { message: message_id, offset: 1 << 40, index: 5 }),
            Record::BodyEnd { message: message_id, size: 1 << 33, hash: [1; 32] },
        ]
    }

    fn header(kind: u8, body: &[u8]) -> Header {
        Header {
            body_len: body.len() as u32,
            kind,
            version: 1,
            flags: FLAG_BEGIN | FLAG_END | FLAG_MUST_UNDERSTAND,
            body_crc: crc32c::crc32c(body),
            lsn: 1 << 40,
            durable_delta: 3,
        }
    }

    fn encoded(record: &Record) -> Vec<u8> {
        let mut body = Vec::new();
        if let Record::Message(_) | Record::Copy(_) = record {
            body.extend_from_slice(b"hello");
        }
        record.encode(&mut body);
        body
    }

    #[test]
    fn every_record_comes_back() {
        for record in samples() {
            let body = encoded(&record);
            let header = header(record.kind(), &body);
            assert_eq!(Header::decode(&header.encode(9), 9), Some(header));
            assert_eq!(Record::decode(&header, &body), Ok(record));
        }
    }

    #[test]
    fn no_prefix_of_a_record_panics_or_passes_for_it() {
        for record in samples() {
            let body = encoded(&record);
            let header = header(record.kind(), &body);
            for len in 0..body.len() {
                assert_ne!(Record::decode(&header, &body[..len]).as_ref(), Ok(&record));
            }
        }
    }

    #[test]
    fn a_header_of_another_segment_or_with_a_flipped_bit_is_refused() {
        let bytes = header(1, b"x").encode(1);
        assert_eq!(Header::decode(&bytes, 2), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped, 1), None, "bit {bit}");
        }
    }

    #[test]
    fn an_unknown_type_is_skipped_only_when_it_may_be() {
        let mut header = header(200, b"");
        assert_eq!(Record::decode(&header, b""), Err(Malformed));
        header.flags &= !FLAG_MUST_UNDERSTAND;
        assert_eq!(Record::decode(&header, b""), Ok(Record::Unknown));
    }
}
