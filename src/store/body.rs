//! A message's bytes on their way in.
//!
//! A small body is collected in memory and travels with its message record. A body that grows beyond
//! `large_body_bytes` is cut into chunks of 256 KiB, which go to the large lane while the message still
//! comes in. At any time a writer holds one chunk being filled and one being written: 512 KiB, if its
//! caller waits for [`BodyWriter::pressure`]. Chunks of a body that is never finished are dead bytes.

use std::sync::Arc;

use super::gather::Coming;
use super::large::{LargeJob, LargeLane};
use super::record::{CHUNK_HEAD_LEN, ChunkHead, ChunkPlace, HEADER_LEN, record_len};
use super::space::SpaceGauge;
use super::ticket::{Completion, Ticket};
use super::{MessageId, ticket};
use crate::error::{Error, Kind, Result};
use crate::sync::Mutex;

/// Message bytes of a full chunk.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Room at the front of a chunk's buffer for the record's header and the chunk's head.
pub const CHUNK_ROOM: usize = HEADER_LEN + CHUNK_HEAD_LEN;
/// Most bytes of a body. Far above what a policy allows; keeps the list of chunks within a record.
pub const MAX_BODY_BYTES: u64 = 8 << 30;

/// Bytes of the record of the next chunk of a body of which `left` bytes remain, and what remains then.
pub fn chunk_record_len(left: u64) -> (u64, u64) {
    let chunk = left.min(CHUNK_BYTES as u64);
    let body = CHUNK_HEAD_LEN.saturating_add(usize::try_from(chunk).unwrap_or(CHUNK_BYTES));
    (record_len(body), left.saturating_sub(chunk))
}

/// A large body as its writer and the large lane's committer see it.
#[derive(Default)]
pub struct LargeBody {
    state: Mutex<LargeState>,
}

#[derive(Default)]
struct LargeState {
    places: Vec<ChunkPlace>,
    error: Option<Error>,
    in_flight: usize,
    waiting: Option<Completion<()>>,
}

impl LargeBody {
    /// A chunk was written, or failed.
    pub fn written(&self, result: Result<ChunkPlace>) {
        let waiting = {
            let mut state = self.state.lock();
            state.in_flight = state.in_flight.saturating_sub(1);
            match result {
                Ok(place) => state.places.push(place),
                Err(e) => state.error = Some(e),
            }
            state.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.complete(Ok(()));
        }
    }

    /// Chunks that were written are not safe: a sync failed.
    pub fn fail(&self, error: Error) {
        self.state.lock().error = Some(error);
    }

    /// The error so far.
    pub fn error(&self) -> Option<Error> {
        self.state.lock().error.clone()
    }

    /// The places of all chunks; call after the large lane's sync.
    pub fn places(&self) -> Result<Vec<ChunkPlace>> {
        let state = self.state.lock();
        match &state.error {
            Some(error) => Err(error.clone()),
            None => Ok(state.places.clone()),
        }
    }
}

enum Collected {
    Small(Vec<u8>),
    Large {
        shared: Arc<LargeBody>,
        hash: Box<blake3::Hasher>,
        /// The chunk being filled, behind room for its header.
        chunk: Vec<u8>,
        next: u32,
    },
}

/// Collects a message's bytes: in memory while it is small, in chunks to the large lane beyond that.
pub struct BodyWriter {
    id: MessageId,
    lane: Arc<LargeLane>,
    small_limit: usize,
    len: u64,
    collected: Collected,
    /// A small body is expected soon; a large one takes its time.
    coming: Option<Coming>,
    space: Arc<SpaceGauge>,
}

impl BodyWriter {
    pub(super) fn new(
        id: MessageId,
        lane: Arc<LargeLane>,
        small_limit: usize,
        coming: Option<Coming>,
        space: Arc<SpaceGauge>,
    ) -> BodyWriter {
        let collected = Collected::Small(Vec::new());
        BodyWriter { id, lane, small_limit, len: 0, collected, coming, space }
    }

    /// Appends bytes. Copies; does not block.
    ///
    /// # Errors
    /// What the large lane met with earlier chunks; `DiskFull` while space is low; `Limit` beyond 8 GiB; `Stopped` after `close`.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.len = self.len.saturating_add(bytes.len() as u64);
        if self.len > MAX_BODY_BYTES {
            return Err(Error::new(Kind::Limit, format!("message {}: larger than 8 GiB", self.id)));
        }
        if let Collected::Small(collected) = &mut self.collected {
            if collected.len().saturating_add(bytes.len()) <= self.small_limit {
                collected.extend_from_slice(bytes);
                return Ok(());
            }
            let first = std::mem::take(collected);
            self.coming = None;
            self.collected = Collected::Large {
                shared: Arc::new(LargeBody::default()),
                hash: Box::new(blake3::Hasher::new()),
                chunk: chunk_buffer(),
                next: 0,
            };
            self.fill(&first)?;
        }
        self.fill(bytes)
    }

    fn fill(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let Collected::Large { shared, chunk, .. } = &mut self.collected else { return Ok(()) };
            if let Some(error) = shared.error() {
                return Err(error);
            }
            let room = (CHUNK_ROOM + CHUNK_BYTES).saturating_sub(chunk.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            chunk.extend_from_slice(now);
            bytes = later;
            if chunk.len() == CHUNK_ROOM + CHUNK_BYTES {
                self.send_chunk()?;
            }
        }
        Ok(())
    }

    fn send_chunk(&mut self) -> Result<()> {
        let Collected::Large { shared, hash, chunk, next } = &mut self.collected else {
            return Ok(());
        };
        if chunk.len() <= CHUNK_ROOM {
            return Ok(());
        }
        self.space.admit_message()?;
        let mut record = std::mem::replace(chunk, chunk_buffer());
        hash.update(record.get(CHUNK_ROOM..).unwrap_or_default());
        let offset = u64::from(*next).saturating_mul(CHUNK_BYTES as u64);
        let head = ChunkHead { message: self.id, offset, index: *next };
        if let Some(target) = record.get_mut(HEADER_LEN..CHUNK_ROOM) {
            target.copy_from_slice(&head.encode());
        }
        let body_crc = crc32c::crc32c(record.get(HEADER_LEN..).unwrap_or_default());
        *next = next.saturating_add(1);
        shared.state.lock().in_flight += 1;
        self.lane.push(LargeJob::Chunk { record, body_crc, body: shared.clone() })
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When too much is in flight: a ticket to wait for before the next `write`.
    pub fn pressure(&mut self) -> Option<Ticket<()>> {
        let Collected::Large { shared, .. } = &self.collected else { return None };
        let mut state = shared.state.lock();
        if state.in_flight == 0 || state.error.is_some() {
            return None;
        }
        let (completion, ticket) = ticket::Ticket::new();
        state.waiting = Some(completion);
        Some(ticket)
    }

    /// Ends the bytes. Dropping a writer instead forgets them.
    ///
    /// # Errors
    /// As `write`.
    pub fn finish(mut self) -> Result<Body> {
        self.send_chunk()?;
        let len = self.len;
        Ok(match self.collected {
            Collected::Small(bytes) => {
                let crc = crc32c::crc32c(&bytes);
                let hash = *blake3::hash(&bytes).as_bytes();
                Body { len, hash, stored: Stored::Small { bytes, crc }, coming: self.coming }
            }
            Collected::Large { shared, hash, .. } => {
                let hash = *hash.finalize().as_bytes();
                Body { len, hash, stored: Stored::Large(shared), coming: None }
            }
        })
    }
}

fn chunk_buffer() -> Vec<u8> {
    let mut buffer = Vec::with_capacity(CHUNK_ROOM + CHUNK_BYTES + 8);
    buffer.resize(CHUNK_ROOM, 0);
    buffer
}

/// Where a finished body's bytes are.
pub enum Stored {
    /// Here.
    Small {
        /// The bytes.
        bytes: Vec<u8>,
        /// Their CRC32C.
        crc: u32,
    },
    /// In the large lane.
    Large(Arc<LargeBody>),
}

/// A finished body, to be put into [`super::NewMessage`].
pub struct Body {
    pub(super) len: u64,
    pub(super) hash: [u8; 32],
    pub(super) stored: Stored,
    pub(super) coming: Option<Coming>,
}

impl Body {
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
