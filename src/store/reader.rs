//! Reading a message back.
//!
//! A small message's record is read and verified as a whole when it is opened. Of a large one, one
//! chunk at a time is in memory, verified before a byte of it is given out. So a reader holds at most the
//! 256 KiB of a small message or 128 KiB of a large one, what is known of the message beside its bytes, and the
//! places of its chunks: 16 bytes each, 128 KiB for a gigabyte.

use std::sync::Arc;

use super::body::{CHUNK_BYTES, chunk_record_len};
use super::index::row::Place;
use super::record::{CHUNK_HEAD_LEN, HEADER_LEN, MessageMeta, Record, Type};
use super::segment::Segment;
use super::{Core, Envelope, MessageId};
use crate::error::{Error, Result};

/// Reads a message's bytes. Holds its segment in place while it lives.
pub struct MessageReader {
    id: MessageId,
    meta: MessageMeta,
    source: Source,
}

enum Source {
    Small {
        /// The record.
        record: Vec<u8>,
    },
    Large {
        core: Arc<Core>,
        place: Place,
        /// The chunk that is in memory, and its record.
        held: Option<usize>,
        record: Vec<u8>,
        segment: Option<Arc<Segment>>,
    },
}

impl MessageReader {
    pub(super) fn open(core: &Arc<Core>, id: MessageId, place: Place) -> Result<MessageReader> {
        let segment = core.segment(id.lane(), place.segment)?;
        let mut record = Vec::new();
        let header = segment.read_record(place.offset, place.len, &mut record)?;
        let end = HEADER_LEN.saturating_add(header.body_len as usize);
        let body = record.get(HEADER_LEN..end).unwrap_or_default();
        let mut meta = match MessageMeta::decode(body) {
            Ok((_, meta)) if header.kind == Type::Message as u8 && meta.id == id => meta,
            _ => return Err(segment.damaged(place.offset, &format!("message {id} is not there"))),
        };
        let source = if place.chunks.is_empty() {
            Source::Small { record }
        } else {
            // They may have moved since: the index knows better.
            meta.chunks = Vec::new();
            drop(record);
            let core = core.clone();
            Source::Large { core, place, held: None, record: Vec::new(), segment: None }
        };
        Ok(MessageReader { id, meta, source })
    }

    /// Bytes of the whole, the mailbox-only prefix included.
    pub fn len(&self) -> u64 {
        self.meta.size
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes at the front (Return-Path) that only mailboxes see and that are not relayed.
    pub fn prefix_len(&self) -> u64 {
        u64::from(self.meta.envelope.prefix_len)
    }

    /// The envelope it came with.
    pub fn envelope(&self) -> &Envelope {
        &self.meta.envelope
    }

    /// Reads into the buffer at an offset, as much as fits; 0 at the end. The checksum of what is
    /// given out has been verified; `Corrupt` otherwise.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = self.meta.size.saturating_sub(offset);
        if left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let size = self.meta.size;
        let (bytes, within) = match &mut self.source {
            Source::Small { record } => {
                let end = HEADER_LEN.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
                let within = usize::try_from(offset).unwrap_or(usize::MAX);
                (record.get(HEADER_LEN..end).unwrap_or_default(), within)
            }
            Source::Large { core, place, held, record, segment } => {
                let chunk = usize::try_from(offset / CHUNK_BYTES as u64).unwrap_or(usize::MAX);
                if *held != Some(chunk) {
                    *held = None;
                    *segment = Some(load(core, self.id, place, size, chunk, record)?);
                    *held = Some(chunk);
                }
                let front = HEADER_LEN + CHUNK_HEAD_LEN;
                let start = (chunk as u64).saturating_mul(CHUNK_BYTES as u64);
                let len = size.saturating_sub(start).min(CHUNK_BYTES as u64);
                let end = front.saturating_add(usize::try_from(len).unwrap_or(0));
                let within = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
                (record.get(front..end).unwrap_or_default(), within)
            }
        };
        let rest = bytes.get(within..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        if let (Some(target), Some(source)) = (buffer.get_mut(..n), rest.get(..n)) {
            target.copy_from_slice(source);
        }
        Ok(n)
    }
}

/// Reads and verifies one chunk.
fn load(
    core: &Core,
    id: MessageId,
    place: &Place,
    size: u64,
    chunk: usize,
    record: &mut Vec<u8>,
) -> Result<Arc<Segment>> {
    let missing = || {
        Error::new(crate::error::Kind::Corrupt, format!("message {id}: chunk {chunk} is missing"))
    };
    let at = place.chunks.get(chunk).ok_or_else(missing)?;
    let before = (chunk as u64).saturating_mul(CHUNK_BYTES as u64);
    let (len, _) = chunk_record_len(size.saturating_sub(before));
    let segment = core.segment(core.large_lane(), at.segment)?;
    let header = segment.read_record(at.offset, len, record)?;
    let end = HEADER_LEN.saturating_add(header.body_len as usize);
    let body = record.get(HEADER_LEN..end).unwrap_or_default();
    match Record::decode(&header, body) {
        Ok(Record::Chunk(head))
            if head.message == id && head.offset == before && header.record_len() == len =>
        {
            Ok(segment)
        }
        _ => {
            Err(segment.damaged(at.offset, &format!("chunk {chunk} of message {id} is not there")))
        }
    }
}
