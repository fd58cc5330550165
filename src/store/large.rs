//! The large lane: chunks of large bodies, written as they come in.
//!
//! Its committer writes each chunk at once and without a sync, and syncs when a body ends (several
//! bodies that end together share one) or when 4 MiB are waiting, so that the last sync of a body is
//! short. A body's message goes to its home lane only after the sync behind its `BODY_END`, so a
//! message record never refers to a chunk that may be lost.
//!
//! What was synced last nobody witnesses yet: damage there looks as the torn end of what was never acknowledged. So when
//! no work comes for a moment, and at the end, a SEAL is written, whose durable LSN tells the next opening that all
//! before it was durable.
//!
//! When a write fails, its body fails. When a sync fails, every body with a chunk since the last good
//! sync fails, because nobody knows which of those chunks are on the disk. The lane goes on in a new segment; when
//! that fails too, it is read-only until a later try succeeds, as any other lane ([`super::state`]).

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use super::Core;
use super::body::{InFlight, LargeBody, SpareBlocks};
use super::gather::{Arrivals, Gathering};
use super::lane::{Log, Tail, put_header};
use super::queue::{JobQueue, Taken};
use super::record::{
    ChunkPlace, FLAG_BEGIN, FLAG_END, FLAG_MUST_UNDERSTAND, HEADER_LEN, Header, Record, record_len,
};
use super::{Lane, MessageId};
use crate::error::{Error, Kind, Result};
use crate::sync::Mutex;

/// Bytes that wait for a sync at most.
const SYNC_BYTES: u64 = 4 << 20;

/// What is to be done in the large lane.
pub enum LargeJob {
    /// Writes a chunk.
    Chunk {
        /// Room for the header, the chunk's head, its bytes.
        record: Vec<u8>,
        /// CRC32C of what is behind the header.
        body_crc: u32,
        /// Whose chunk it is.
        chunk: InFlight,
    },
    /// Ends a body, syncs, then calls back.
    End {
        /// The message.
        message: MessageId,
        /// Its bytes.
        size: u64,
        /// Their BLAKE3.
        hash: [u8; 32],
        /// The body.
        body: Arc<LargeBody>,
        /// Called after the sync, or with what went wrong.
        then: Box<dyn FnOnce(Result<()>) + Send>,
    },
    /// Syncs the chunks of a body that was copied, then calls back.
    Sync {
        /// The body.
        body: Arc<LargeBody>,
        /// Called after the sync, or with what went wrong.
        then: Box<dyn FnOnce(Result<()>) + Send>,
    },
}

/// The way to the large lane's committer.
#[derive(Default)]
pub struct LargeLane {
    /// What waits.
    pub jobs: JobQueue<LargeJob>,
    /// Blocks for the bodies of all lanes while they are small.
    pub spare_blocks: SpareBlocks,
    /// Bodies that no index knows yet: their chunks are needed though nothing refers to them.
    bodies: Mutex<Vec<Weak<LargeBody>>>,
    /// Where the log ends, as far as it is durable.
    pub tail: Mutex<Tail>,
}

impl LargeLane {
    /// A new body, which is known to be on its way as long as somebody has it.
    pub fn begin(&self) -> Arc<LargeBody> {
        let body = Arc::new(LargeBody::default());
        let mut bodies = self.bodies.lock();
        if bodies.len() == bodies.capacity() {
            bodies.retain(|body| body.strong_count() > 0);
        }
        bodies.push(Arc::downgrade(&body));
        body
    }

    /// Segments with chunks of bodies that are on their way.
    pub fn on_their_way(&self) -> BTreeSet<u64> {
        let bodies: Vec<_> = self.bodies.lock().iter().filter_map(Weak::upgrade).collect();
        let mut segments = BTreeSet::new();
        for body in bodies {
            body.segments(&mut segments);
        }
        segments
    }

    /// Hands over a job. `Stopped` after the end.
    pub fn push(&self, job: LargeJob) -> Result<()> {
        self.jobs.push(job).map_err(|_| super::stopped())
    }
}

/// The committer's loop; returns when the queue is closed and empty.
pub fn run(core: &Core, log: &mut Log) {
    let mut jobs = Vec::new();
    let lane = core.large_lane();
    let mut committer =
        Committer { core, lane, log, written: 0, unsynced: Vec::new(), witnessed: true };
    // Chunks of one body come one after the other: there is no company to wait for.
    let mut alone = Gathering::new(Arrivals::default());
    loop {
        match core.large.jobs.take(&mut jobs, &mut alone, !committer.witnessed) {
            Taken::Jobs => {}
            Taken::Pause => {
                committer.witness();
                committer.mend();
                continue;
            }
            Taken::Closed => break,
        }
        let mut ended = Vec::new();
        for job in jobs.drain(..) {
            match job {
                LargeJob::Chunk { mut record, body_crc, chunk } => {
                    let result = committer.write(&mut record, super::record::Type::Chunk, body_crc);
                    // Remembered first: a failing sync must find it.
                    committer.unsynced.push(chunk.body().clone());
                    chunk.written(result, record);
                }
                LargeJob::End { message, size, hash, body, then } => {
                    let mut record = vec![0; HEADER_LEN];
                    Record::BodyEnd { message, size, hash }.encode(&mut record);
                    let crc = crc32c::crc32c(record.get(HEADER_LEN..).unwrap_or_default());
                    let result = committer.write(&mut record, super::record::Type::BodyEnd, crc);
                    if let Err(e) = result {
                        body.fail(e);
                    }
                    ended.push((body, then));
                }
                LargeJob::Sync { body, then } => ended.push((body, then)),
            }
            if committer.written >= SYNC_BYTES {
                committer.sync();
            }
        }
        if !ended.is_empty() {
            committer.sync();
        }
        for (body, then) in ended {
            then(body.error().map_or(Ok(()), Err));
        }
        core.housekeeper.look_at(core.lanes(), committer.log.wants_spare());
    }
    if committer.log.last_lsn() > committer.log.tail().lsn {
        committer.sync();
    }
    committer.witness();
    committer.sync();
    committer.log.close();
}

struct Committer<'a> {
    core: &'a Core,
    lane: Lane,
    log: &'a mut Log,
    written: u64,
    /// Bodies with a chunk since the last sync.
    unsynced: Vec<Arc<LargeBody>>,
    /// A record tells that what was synced last was durable, or nothing was since the opening.
    witnessed: bool,
}

impl Committer<'_> {
    fn write(
        &mut self,
        record: &mut Vec<u8>,
        kind: super::record::Type,
        body_crc: u32,
    ) -> Result<ChunkPlace> {
        let body_len = record.len().saturating_sub(HEADER_LEN);
        let len = record_len(body_len);
        record.resize(usize::try_from(len).unwrap_or(record.len()), 0);
        if let Some(e) = self.core.conditions.refusal(self.lane) {
            return Err(e);
        }
        if !self.log.fits(len) {
            // A segment is left only when all of it is safe.
            self.sync();
        }
        let first = self.place(record, kind, body_len, body_crc);
        // What was written since the last sync is lost with the segment: a body with a chunk there has failed,
        // and this one may go on only if it has none.
        let placed = match first {
            Err(e) => {
                tracing::warn!("large lane: {e}; it goes on in a new segment");
                if e.kind() == Kind::DiskFull {
                    self.core.space.relieve();
                }
                self.fail(&e);
                self.place(record, kind, body_len, body_crc)
            }
            placed => placed,
        };
        match placed {
            Ok(place) => {
                self.written = self.written.saturating_add(len);
                Ok(place)
            }
            Err(e) => {
                self.fail(&e);
                self.failed(&e);
                Err(e)
            }
        }
    }

    fn place(
        &mut self,
        record: &mut [u8],
        kind: super::record::Type,
        body_len: usize,
        body_crc: u32,
    ) -> Result<ChunkPlace> {
        let start = self.log.start(record.len() as u64)?;
        let durable = self.log.tail().lsn;
        let lsn = self.log.take_lsn();
        let header = Header {
            body_len: u32::try_from(body_len).unwrap_or(u32::MAX),
            kind: kind as u8,
            version: 1,
            flags: FLAG_BEGIN | FLAG_END | FLAG_MUST_UNDERSTAND,
            body_crc,
            lsn,
            durable_delta: u32::try_from(lsn.saturating_sub(durable)).unwrap_or(u32::MAX),
        };
        put_header(record, &header, start.salt);
        self.log.write(record)?;
        self.witnessed = kind == super::record::Type::Seal;
        Ok(ChunkPlace { segment: start.segment, offset: start.offset })
    }

    fn sync(&mut self) {
        if self.written == 0 {
            return;
        }
        match self.log.sync() {
            Ok(()) => {
                self.unsynced.clear();
                self.written = 0;
                *self.core.large.tail.lock() = self.log.tail();
                if self.core.conditions.healed(self.lane) {
                    self.core.housekeeper.look();
                }
            }
            Err(e) => {
                if e.kind() == Kind::DiskFull {
                    self.core.space.relieve();
                }
                self.fail(&e);
                // Whether the lane can be written at all shows a record that nobody needs.
                self.prove();
            }
        }
    }

    /// Writes a SEAL behind what was synced. It need not be synced itself: without it the next opening is only less
    /// certain of what is before it.
    fn witness(&mut self) {
        if std::mem::replace(&mut self.witnessed, true)
            || self.core.conditions.is_failing(self.lane)
            || !self.log.fits(record_len(0))
        {
            return;
        }
        let mut record = vec![0; HEADER_LEN];
        let crc = crc32c::crc32c(&[]);
        match self.place(&mut record, super::record::Type::Seal, 0, crc) {
            Ok(_) => self.written = self.written.saturating_add(record.len() as u64),
            // The segment is given up, and with it what was written since the last sync.
            Err(e) => self.fail(&e),
        }
    }

    /// Called by the housekeeper: tries what failed before, when it is time.
    fn mend(&mut self) {
        if self.core.conditions.is_failing(self.lane)
            && self.core.conditions.refusal(self.lane).is_none()
        {
            self.prove();
        }
    }

    /// Writes a record that says nothing, in a new segment after a failure, and syncs it.
    fn prove(&mut self) {
        let mut record = vec![0; HEADER_LEN];
        Record::Seal.encode(&mut record);
        let body_len = record.len().saturating_sub(HEADER_LEN);
        let crc = crc32c::crc32c(record.get(HEADER_LEN..).unwrap_or_default());
        record.resize(usize::try_from(record_len(body_len)).unwrap_or(record.len()), 0);
        let proved = self
            .place(&mut record, super::record::Type::Seal, body_len, crc)
            .and_then(|_| self.log.sync());
        match proved {
            Ok(()) => {
                if self.core.conditions.healed(self.lane) {
                    self.core.housekeeper.look();
                }
            }
            Err(e) => self.failed(&e),
        }
    }

    fn failed(&mut self, error: &Error) {
        self.core.conditions.failed(self.lane, error);
        self.core.housekeeper.look();
    }

    fn fail(&mut self, error: &Error) {
        for body in self.unsynced.drain(..) {
            body.fail(error.clone());
        }
        self.written = 0;
    }
}
