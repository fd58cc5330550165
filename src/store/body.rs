//! A message's bytes on their way in.
//!
//! They are collected in blocks of 128 KiB, each with room in front for what a chunk of the large lane begins
//! with. The first block grows with the message, so that a small message takes little more than its bytes. A
//! body that stays within `large_body_bytes` is laid into the group's buffer block by block; when one grows
//! beyond it, its full blocks become chunks as they are, and the others follow while the message still comes
//! in. Chunks of a body that is never finished are dead bytes.
//!
//! # Memory
//! Beside the block being filled at most two are being written: 384 KiB and a few bytes, for any way of
//! feeding. Who waits for [`BodyWriter::pressure`] and writes at most [`PIECE_BYTES`] at once is never made to wait
//! in `write`, and has at most one block in flight: 256 KiB, and 64 KiB more for the moment in which the body
//! becomes a large one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::encoding::{Reader, put_number, put_signed};
use super::gather::Coming;
use super::large::{LargeJob, LargeLane};
use super::record::{ALIGN, CHUNK_HEAD_LEN, ChunkHead, ChunkPlace, HEADER_LEN, record_len};
use super::space::SpaceGauge;
use super::ticket::{Completion, Ticket};
use super::{MessageId, ticket};
use crate::error::{Error, Kind, Result};
use crate::sync::Mutex;

/// Message bytes of a full block, which is a full chunk.
pub const CHUNK_BYTES: usize = 128 << 10;
/// A caller who writes at most so many bytes at once, and waits for pressure, is never made to wait in `write`.
pub const PIECE_BYTES: usize = 64 << 10;
/// Room at the front of a chunk's buffer for the record's header and the chunk's head.
pub const CHUNK_ROOM: usize = HEADER_LEN + CHUNK_HEAD_LEN;
/// Bytes of a full block's buffer, the padding of its record included.
const BLOCK_BYTES: usize = CHUNK_ROOM + CHUNK_BYTES + ALIGN as usize;
/// Bytes of a body's first block at the beginning: enough for most messages and the lines put in front.
const FIRST_BYTES: usize = 5 << 10;
/// First blocks that are kept for the next bodies, at most.
const SPARE_BLOCKS: usize = 64;
/// Most chunks of a body in flight.
const MOST_IN_FLIGHT: usize = 2;
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
    places: Places,
    error: Option<Error>,
    in_flight: usize,
    waiting: Option<Completion<()>>,
    /// A written chunk's buffer, for the next block.
    spare: Option<Vec<u8>>,
    /// No more blocks will be filled.
    ended: bool,
}

/// Places of chunks, each as the difference to the one before: four bytes or so, where a body of gigabytes has
/// thousands.
#[derive(Default)]
struct Places {
    bytes: Vec<u8>,
    last: (u64, u64),
}

impl Places {
    fn push(&mut self, place: ChunkPlace) {
        let (segment, offset) = self.last;
        put_number(&mut self.bytes, place.segment.wrapping_sub(segment));
        put_signed(&mut self.bytes, (place.offset / ALIGN).wrapping_sub(offset / ALIGN) as i64);
        self.last = (place.segment, place.offset);
    }

    fn all(&self) -> Vec<ChunkPlace> {
        let mut reader = Reader::new(&self.bytes);
        let mut places = Vec::new();
        let (mut segment, mut unit) = (0_u64, 0_u64);
        while let (Ok(segments), Ok(units)) = (reader.number(), reader.signed()) {
            segment = segment.wrapping_add(segments);
            unit = unit.wrapping_add(units as u64);
            places.push(ChunkPlace { segment, offset: unit.saturating_mul(ALIGN) });
        }
        places
    }
}

impl LargeBody {
    /// Chunks that were written are not safe: a sync failed.
    pub fn fail(&self, error: Error) {
        self.state.lock().error = Some(error);
    }

    /// Segments of the large lane that hold its chunks.
    pub fn segments(&self, into: &mut BTreeSet<u64>) {
        into.extend(self.state.lock().places.all().iter().map(|place| place.segment));
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
            None => Ok(state.places.all()),
        }
    }

    /// A ticket for the moment in which nothing is in flight; `None`: it is so, or an error says more.
    pub fn landing(&self) -> Option<Ticket<()>> {
        let mut state = self.state.lock();
        if state.in_flight == 0 || state.error.is_some() {
            return None;
        }
        let (completion, ticket) = ticket::Ticket::new();
        state.waiting = Some(completion);
        Some(ticket)
    }

    /// No more blocks will be filled: no buffer is kept.
    pub fn end(&self) {
        let spare = {
            let mut state = self.state.lock();
            state.ended = true;
            state.spare.take()
        };
        drop(spare);
    }
}

/// A chunk on its way. One that is dropped before it was written fails its body.
pub struct InFlight {
    body: Arc<LargeBody>,
    landed: bool,
}

impl InFlight {
    /// A chunk of this body.
    pub fn new(body: &Arc<LargeBody>) -> InFlight {
        body.state.lock().in_flight += 1;
        InFlight { body: body.clone(), landed: false }
    }

    /// Whose chunk it is.
    pub fn body(&self) -> &Arc<LargeBody> {
        &self.body
    }

    /// The chunk was written, or failed. Its buffer goes back.
    pub fn written(mut self, result: Result<ChunkPlace>, buffer: Vec<u8>) {
        self.land(result, Some(buffer));
    }

    fn land(&mut self, result: Result<ChunkPlace>, buffer: Option<Vec<u8>>) {
        self.landed = true;
        let (waiting, unwanted) = {
            let mut state = self.body.state.lock();
            state.in_flight = state.in_flight.saturating_sub(1);
            match result {
                Ok(place) => state.places.push(place),
                Err(e) => state.error = Some(e),
            }
            let keep = !state.ended && state.spare.is_none();
            let unwanted = if keep {
                state.spare = buffer;
                None
            } else {
                buffer
            };
            let landed = state.in_flight == 0 || state.error.is_some();
            (if landed { state.waiting.take() } else { None }, unwanted)
        };
        drop(unwanted);
        if let Some(waiting) = waiting {
            waiting.complete(Ok(()));
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.landed {
            self.land(Err(super::stopped()), None);
        }
    }
}

/// First blocks of small bodies that were written, for the next bodies: made on one thread and given up on another for
/// every message, they would cost more than the copying of their bytes. Holds 320 KiB at most.
#[derive(Default)]
pub struct SpareBlocks(Mutex<Vec<Vec<u8>>>);

impl SpareBlocks {
    fn take(&self) -> Option<Vec<u8>> {
        self.0.lock().pop()
    }

    /// Gives back blocks that nobody reads any more. All go; those that are no first blocks, or too many, to the system.
    pub fn give_back(&self, blocks: &mut Vec<Vec<u8>>) {
        let mut spare = self.0.lock();
        for mut block in blocks.drain(..) {
            if block.capacity() == FIRST_BYTES && spare.len() < SPARE_BLOCKS {
                block.clear();
                spare.push(block);
            }
        }
    }
}

/// A body that is cut into chunks.
struct Large {
    shared: Arc<LargeBody>,
    hash: Box<blake3::Hasher>,
    next: u32,
}

impl Drop for Large {
    fn drop(&mut self) {
        self.shared.end();
    }
}

/// Collects a message's bytes: in memory while it is small, in chunks to the large lane beyond that.
pub struct BodyWriter {
    id: MessageId,
    lane: Arc<LargeLane>,
    small_limit: usize,
    len: u64,
    /// Full blocks of a body that may still stay small.
    full: Vec<Vec<u8>>,
    /// The block being filled; empty before its first byte.
    last: Vec<u8>,
    large: Option<Large>,
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
        let (full, last) = (Vec::new(), Vec::new());
        BodyWriter { id, lane, small_limit, len: 0, full, last, large: None, coming, space }
    }

    /// Appends bytes. Copies. Blocks only when [`MOST_IN_FLIGHT`] chunks are being written, which does not
    /// happen to those who wait for `pressure` and write at most [`PIECE_BYTES`] at once.
    ///
    /// # Errors
    /// What the large lane met with earlier chunks; `DiskFull` while space is low; `Limit` beyond 8 GiB; `Stopped` after
    /// `close`.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.len = self.len.saturating_add(bytes.len() as u64);
        if self.len > MAX_BODY_BYTES {
            return Err(Error::new(Kind::Limit, format!("message {}: larger than 8 GiB", self.id)));
        }
        if self.large.is_none() && self.len > self.small_limit as u64 {
            self.become_large()?;
        }
        while !bytes.is_empty() {
            if let Some(large) = &self.large
                && let Some(error) = large.shared.error()
            {
                return Err(error);
            }
            let room = self.room(bytes.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.last.extend_from_slice(now);
            bytes = later;
            if self.last.len() == CHUNK_ROOM + CHUNK_BYTES
                && (self.large.is_some() || !bytes.is_empty())
            {
                let block = std::mem::take(&mut self.last);
                match self.large {
                    Some(_) => self.send(block)?,
                    None => self.full.push(block),
                }
            }
        }
        Ok(())
    }

    /// Bytes that the block being filled still takes; makes room for `wanted` of them at most.
    fn room(&mut self, wanted: usize) -> usize {
        if self.last.len() == CHUNK_ROOM + CHUNK_BYTES {
            // Kept while the body was small: nothing came behind it then.
            self.full.push(std::mem::take(&mut self.last));
        }
        let room = CHUNK_BYTES.saturating_sub(self.last.len().saturating_sub(CHUNK_ROOM));
        let needed = self.last.len().max(CHUNK_ROOM).saturating_add(wanted.min(room));
        if needed > self.last.capacity() {
            self.grow(needed);
        }
        if self.last.is_empty() {
            self.last.resize(CHUNK_ROOM, 0);
        }
        room
    }

    /// Gives the block being filled a buffer of at least so many bytes.
    fn grow(&mut self, needed: usize) {
        let (spare, in_flight) = match &self.large {
            None => (None, 0),
            Some(large) => {
                let mut state = large.shared.state.lock();
                (state.spare.take(), state.in_flight)
            }
        };
        if let Some(mut block) = spare {
            block.clear();
            block.extend_from_slice(&self.last);
            self.last = block;
            return;
        }
        if needed <= FIRST_BYTES
            && self.last.capacity() == 0
            && let Some(block) = self.lane.spare_blocks.take()
        {
            self.last = block;
            return;
        }
        let bytes = if in_flight >= MOST_IN_FLIGHT {
            // Only for the rest of a piece: one of those in flight is soon back.
            needed
        } else if self.large.is_some() || !self.full.is_empty() {
            BLOCK_BYTES
        } else {
            // A body's first block, in three sizes.
            [FIRST_BYTES, 4 * FIRST_BYTES].into_iter().find(|b| *b >= needed).unwrap_or(BLOCK_BYTES)
        };
        self.last.reserve_exact(bytes.saturating_sub(self.last.len()));
    }

    /// The body is no small one: its full blocks are on their way.
    fn become_large(&mut self) -> Result<()> {
        self.coming = None;
        let shared = self.lane.begin();
        let hash = Box::new(blake3::Hasher::new());
        self.large = Some(Large { shared, hash, next: 0 });
        for block in std::mem::take(&mut self.full) {
            self.send(block)?;
        }
        if self.last.len() == CHUNK_ROOM + CHUNK_BYTES {
            let block = std::mem::take(&mut self.last);
            self.send(block)?;
        }
        Ok(())
    }

    /// Sends a block on its way as a chunk.
    fn send(&mut self, mut record: Vec<u8>) -> Result<()> {
        let Some(large) = &mut self.large else { return Ok(()) };
        if record.len() <= CHUNK_ROOM {
            return Ok(());
        }
        self.space.admit_message()?;
        if large.shared.state.lock().in_flight >= MOST_IN_FLIGHT
            && let Some(ticket) = large.shared.landing()
        {
            ticket.wait()?;
        }
        large.hash.update(record.get(CHUNK_ROOM..).unwrap_or_default());
        let offset = u64::from(large.next).saturating_mul(CHUNK_BYTES as u64);
        let head = ChunkHead { message: self.id, offset, index: large.next };
        if let Some(target) = record.get_mut(HEADER_LEN..CHUNK_ROOM) {
            target.copy_from_slice(&head.encode());
        }
        let body_crc = crc32c::crc32c(record.get(HEADER_LEN..).unwrap_or_default());
        large.next = large.next.saturating_add(1);
        let chunk = InFlight::new(&large.shared);
        self.lane.push(LargeJob::Chunk { record, body_crc, chunk })
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the next piece could fill a block while another is being written: a ticket to wait for before the
    /// next `write`.
    pub fn pressure(&mut self) -> Option<Ticket<()>> {
        let large = self.large.as_ref()?;
        let filled = self.last.len().max(CHUNK_ROOM);
        let full = filled.saturating_add(PIECE_BYTES) >= CHUNK_ROOM + CHUNK_BYTES;
        if !full && large.shared.state.lock().in_flight < MOST_IN_FLIGHT {
            return None;
        }
        large.shared.landing()
    }

    /// Ends the bytes. Dropping a writer instead forgets them.
    ///
    /// # Errors
    /// As `write`.
    pub fn finish(mut self) -> Result<Body> {
        let (len, last) = (self.len, std::mem::take(&mut self.last));
        if self.large.is_some() {
            self.send(last)?;
        } else {
            let blocks = Blocks { full: self.full, last };
            let mut crc = 0;
            let hash = if blocks.full.is_empty() {
                let bytes = blocks.iter().next().unwrap_or_default();
                crc = crc32c::crc32c(bytes);
                blake3::hash(bytes)
            } else {
                let mut hash = blake3::Hasher::new();
                for bytes in blocks.iter() {
                    crc = crc32c::crc32c_append(crc, bytes);
                    hash.update(bytes);
                }
                hash.finalize()
            };
            let hash = *hash.as_bytes();
            let stored = Stored::Small { blocks, crc };
            return Ok(Body { len, hash, stored, coming: self.coming });
        }
        let Some(large) = self.large else { return Err(super::stopped()) };
        let hash = *large.hash.finalize().as_bytes();
        Ok(Body { len, hash, stored: Stored::Large(large.shared.clone()), coming: None })
    }
}

/// A small body's bytes.
pub struct Blocks {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Blocks {
    /// The bytes, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let blocks = self.full.iter().chain(std::iter::once(&self.last));
        blocks.map(|block| block.get(CHUNK_ROOM..).unwrap_or_default())
    }

    /// The block that is left when the bytes are read.
    pub fn into_last(self) -> Vec<u8> {
        self.last
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.iter().map(<[u8]>::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a finished body's bytes are.
pub enum Stored {
    /// Here.
    Small {
        /// The bytes.
        blocks: Blocks,
        /// Their CRC32C.
        crc: u32,
    },
    /// In the large lane.
    Large(Arc<LargeBody>),
    /// A whole record's body, which compaction copies byte for byte.
    Copied {
        /// The body: message bytes and what is known of them.
        body: Vec<u8>,
        /// Its CRC32C.
        crc: u32,
    },
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::super::gather::{Arrivals, Gathering};
    use super::super::queue::Taken;
    use super::super::space::SpaceSetting;
    use super::super::tests::pattern;
    use super::*;

    const LIMIT: usize = 2 * CHUNK_BYTES;

    impl BodyWriter {
        /// Bytes of all buffers, those in flight and the spare one included.
        fn held(&self) -> usize {
            let own: usize = self.full.iter().map(Vec::capacity).sum();
            let shared = self.large.as_ref().map_or(0, |large| {
                let state = large.shared.state.lock();
                let spare = state.spare.as_ref().map_or(0, Vec::capacity);
                spare + state.in_flight * BLOCK_BYTES + state.places.bytes.capacity()
            });
            own + self.last.capacity() + shared
        }
    }

    fn writer(lane: &Arc<LargeLane>) -> BodyWriter {
        let fs = Arc::new(crate::vfs::sim::Disk::new());
        let setting = SpaceSetting { percent: 0, bytes: 0, ballast: 0 };
        let space = Arc::new(SpaceGauge::new(fs, std::path::Path::new("/store"), setting));
        BodyWriter::new(MessageId(7), lane.clone(), LIMIT, None, space)
    }

    /// Takes chunks as a committer does, each after a while; the message's bytes.
    fn drain(lane: &LargeLane, done: &AtomicBool) -> Vec<u8> {
        let (mut bytes, mut jobs) = (Vec::new(), Vec::new());
        let mut alone = Gathering::new(Arrivals::default());
        while lane.jobs.take(&mut jobs, &mut alone, false) == Taken::Jobs {
            for job in jobs.drain(..) {
                let LargeJob::Chunk { record, body_crc, chunk } = job else { unreachable!() };
                #[allow(clippy::disallowed_methods)] // a slow disk
                std::thread::sleep(Duration::from_millis(2));
                assert!(record.capacity() <= BLOCK_BYTES);
                assert_eq!(body_crc, crc32c::crc32c(&record[HEADER_LEN..]));
                let offset = bytes.len() as u64;
                let head = ChunkHead {
                    message: MessageId(7),
                    offset,
                    index: (offset / CHUNK_BYTES as u64) as u32,
                };
                assert_eq!(record[HEADER_LEN..CHUNK_ROOM], head.encode());
                bytes.extend_from_slice(&record[CHUNK_ROOM..]);
                chunk.written(Ok(ChunkPlace { segment: 1, offset }), record);
            }
        }
        assert!(done.load(Ordering::SeqCst));
        bytes
    }

    /// Feeds a message in pieces; the most bytes that were held, before and after the body became a large one.
    #[allow(clippy::disallowed_methods)]
    fn feed(message: &[u8], piece: usize, patient: bool) -> (usize, usize) {
        let lane = Arc::new(LargeLane::default());
        let done = Arc::new(AtomicBool::new(false));
        let disk = std::thread::spawn({
            let (lane, done) = (lane.clone(), done.clone());
            move || drain(&lane, &done)
        });
        let mut writer = writer(&lane);
        let (mut most, mut later) = (0, 0);
        for part in message.chunks(piece) {
            writer.write(part).unwrap();
            most = most.max(writer.held());
            if writer.len() > (LIMIT + 2 * CHUNK_BYTES) as u64 {
                later = later.max(writer.held());
            }
            if let Some(ticket) = writer.pressure().filter(|_| patient) {
                ticket.wait().unwrap();
            }
        }
        let body = writer.finish().unwrap();
        assert_eq!(
            (body.len(), body.hash),
            (message.len() as u64, *blake3::hash(message).as_bytes())
        );
        done.store(true, Ordering::SeqCst);
        lane.jobs.close();
        let chunks = disk.join().unwrap();
        match body.stored {
            Stored::Small { blocks, crc } => {
                assert_eq!(chunks, b"");
                assert!(blocks.iter().eq(message.chunks(CHUNK_BYTES)) || message.is_empty());
                assert_eq!(crc, crc32c::crc32c(message));
            }
            Stored::Large(shared) => {
                assert!(chunks == message);
                let offsets: Vec<u64> = shared.places().unwrap().iter().map(|p| p.offset).collect();
                let all = (0..message.len() as u64).step_by(CHUNK_BYTES);
                assert!(offsets.into_iter().eq(all));
                assert_eq!(shared.state.lock().spare.as_ref().map_or(0, Vec::capacity), 0);
            }
            Stored::Copied { .. } => panic!("only compaction copies"),
        }
        (most, later)
    }

    #[test]
    fn a_body_holds_three_blocks_at_most_however_it_is_fed() {
        let message = pattern(20 * CHUNK_BYTES + 12_345, 3);
        let most = 3 * BLOCK_BYTES + 256;
        for piece in [1000, 4096, PIECE_BYTES, CHUNK_BYTES, 200_000, message.len()] {
            for patient in [false, true] {
                let (held, later) = feed(&message, piece, patient);
                assert!(held <= most, "pieces of {piece}, patient {patient}: {held}");
                if patient && piece <= PIECE_BYTES {
                    let most = 2 * BLOCK_BYTES + CHUNK_ROOM + PIECE_BYTES + 256;
                    assert!(held <= most, "pieces of {piece}: {held}");
                    assert!(later <= 2 * BLOCK_BYTES + 256, "pieces of {piece}: {later} later on");
                }
            }
        }
    }

    #[test]
    fn bodies_around_the_limits_are_whole() {
        for len in
            [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, LIMIT - 1, LIMIT, LIMIT + 1]
                .into_iter()
                .chain([3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 1])
        {
            let message = pattern(len, len as u32);
            for piece in [777, CHUNK_BYTES, LIMIT, 4 * CHUNK_BYTES] {
                feed(&message, piece, true);
            }
        }
    }

    #[test]
    fn a_small_body_takes_little_more_than_its_bytes() {
        const FOUR_TIMES: usize = 4 * FIRST_BYTES;
        let lane = Arc::new(LargeLane::default());
        let mut writer = writer(&lane);
        assert_eq!(writer.held(), 0);
        writer.write(&[1; 300]).unwrap();
        writer.write(&[1; 4096]).unwrap();
        assert_eq!(writer.held(), FIRST_BYTES);
        let mut len = 4396;
        while len < LIMIT {
            writer.write(&[1; 1000][..(LIMIT - len).min(1000)]).unwrap();
            len = writer.len() as usize;
            let most = match len + CHUNK_ROOM {
                n if n <= FIRST_BYTES => FIRST_BYTES,
                n if n <= FOUR_TIMES => FOUR_TIMES,
                _ if len <= CHUNK_BYTES => BLOCK_BYTES,
                _ => 2 * BLOCK_BYTES + 128,
            };
            assert!(writer.held() <= most, "{} at {len}", writer.held());
        }
        assert_eq!(writer.held(), 2 * BLOCK_BYTES);
        assert!(matches!(writer.finish().unwrap().stored, Stored::Small { .. }));
    }

    #[test]
    fn a_chunk_that_is_dropped_fails_its_body_and_wakes_who_waits() {
        let lane = Arc::new(LargeLane::default());
        let mut writer = writer(&lane);
        writer.write(&pattern(LIMIT + 1, 1)).unwrap();
        let ticket = writer.pressure().unwrap();
        lane.jobs.abandon();
        ticket.wait().unwrap();
        assert_eq!(writer.write(b"x").unwrap_err().kind(), Kind::Stopped);
        assert_eq!(writer.finish().map(|_| ()).unwrap_err().kind(), Kind::Stopped);
    }

    #[test]
    fn places_come_back() {
        let mut places = Places::default();
        let all: Vec<ChunkPlace> = (0..1000_u64)
            .map(|n| ChunkPlace { segment: 5 + n / 300, offset: 4096 + (n % 300) * 131_128 })
            .collect();
        all.iter().for_each(|place| places.push(*place));
        assert_eq!(places.all(), all);
        assert!(places.bytes.len() <= 5 * all.len(), "{}", places.bytes.len());
    }
}
