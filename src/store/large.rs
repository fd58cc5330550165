//! The large lane: chunks of large bodies, written as they come in.
//!
//! Its committer writes each chunk at once and without a sync, and syncs when a body ends (several
//! bodies that end together share one) or when 4 MiB are waiting, so that the last sync of a body is
//! short. A body's message goes to its home lane only after the sync behind its `BODY_END`, so a
//! message record never refers to a chunk that may be lost.
//!
//! When a write fails, its body fails. When a sync fails, every body with a chunk since the last good
//! sync fails, because nobody knows which of those chunks are on the disk.

use std::sync::Arc;

use super::Core;
use super::body::{InFlight, LargeBody};
use super::gather::{Arrivals, Gathering};
use super::lane::{Log, put_header};
use super::queue::{JobQueue, Taken};
use super::record::{
    ChunkPlace, FLAG_BEGIN, FLAG_END, FLAG_MUST_UNDERSTAND, HEADER_LEN, Header, Record, record_len,
};
use crate::error::{Error, Result};
use crate::store::MessageId;

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
}

/// The way to the large lane's committer.
#[derive(Default)]
pub struct LargeLane {
    /// What waits.
    pub jobs: JobQueue<LargeJob>,
}

impl LargeLane {
    /// Hands over a job. `Stopped` after the end.
    pub fn push(&self, job: LargeJob) -> Result<()> {
        self.jobs.push(job).map_err(|_| super::stopped())
    }
}

/// The committer's loop; returns when the queue is closed and empty.
pub fn run(core: &Core, log: &mut Log) {
    let mut jobs = Vec::new();
    let mut committer = Committer { log, written: 0, unsynced: Vec::new() };
    // Chunks of one body come one after the other: there is no company to wait for.
    let mut alone = Gathering::new(Arrivals::default());
    while core.large.jobs.take(&mut jobs, &mut alone, false) == Taken::Jobs {
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
    committer.log.close();
}

struct Committer<'a> {
    log: &'a mut Log,
    written: u64,
    /// Bodies with a chunk since the last sync.
    unsynced: Vec<Arc<LargeBody>>,
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
        if !self.log.fits(len) {
            // A segment is left only when all of it is safe.
            self.sync();
        }
        let start = self.log.start(len)?;
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
        if let Err(e) = self.log.write(record) {
            // The segment is given up, and with it what was written since the last sync.
            self.fail(&e);
            return Err(e);
        }
        self.written = self.written.saturating_add(len);
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
            }
            Err(e) => self.fail(&e),
        }
    }

    fn fail(&mut self, error: &Error) {
        for body in self.unsynced.drain(..) {
            body.fail(error.clone());
        }
        self.written = 0;
    }
}
