//! What an ordinary and the large lane have in common: the active segment, moving to the next one,
//! one write and one sync for a group.
//!
//! A lane's tail is where its log ends: segment, offset, last LSN. It moves only after a sync has
//! succeeded. When a write or a sync fails, the segment is given up at the old tail: nobody writes to
//! it or syncs it again, and the next group goes to a new segment whose header says where the old one
//! ends. What the failed group may have left behind that end is void. Before that new segment exists a
//! crash may bring the failed group back, whole and in order, as any group that was written and not
//! acknowledged.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::record::Header;
use super::segment::{self, HEADER_BYTES, SegmentHeader};
use super::space::SpaceGauge;
use crate::error::{Error, Kind, Result};
use crate::sync::Mutex;
use crate::vfs::{File, Fs, Open};

/// Bytes that a new lane's first segment has at most; segments grow with what the lane holds.
const FIRST_SEGMENT_BYTES: u64 = 4 << 20;
/// Bytes of a segment that is made when the disk has no room for a larger one.
const SMALL_SEGMENT_BYTES: u64 = 128 << 10;

/// Where a lane's log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The segment; 0 when there is none yet.
    pub segment: u64,
    /// Offset behind its last record.
    pub end: u64,
    /// LSN of the last record.
    pub lsn: u64,
}

/// A segment that is ready to be moved to, except for its header and name.
pub struct Spare {
    file: Arc<dyn File>,
    path: PathBuf,
    capacity: u64,
}

/// Counters of the log.
#[derive(Debug, Default)]
pub struct LogCounters {
    /// Transactions made durable.
    pub transactions: AtomicU64,
    /// Messages made durable.
    pub messages: AtomicU64,
    /// Groups written.
    pub groups: AtomicU64,
    /// Syncs of segments and their directory.
    pub syncs: AtomicU64,
    /// Bytes written.
    pub bytes: AtomicU64,
}

/// What a lane knows that never changes while it is open.
pub struct LaneSetting {
    /// The file system.
    pub fs: Arc<dyn Fs>,
    /// The store's directory.
    pub dir: PathBuf,
    /// The store's identity.
    pub uuid: [u8; 16],
    /// The lane.
    pub lane: u8,
    /// The store's epoch.
    pub epoch: u32,
    /// Bytes of a full-grown segment.
    pub segment_bytes: u64,
    /// Counters of the store.
    pub counters: Arc<LogCounters>,
    /// Segments prepared so far: each is prepared under a name of its own, because the housekeeper and
    /// the lane may prepare at the same time.
    pub prepared: AtomicU64,
    /// The room on the disk.
    pub space: Arc<SpaceGauge>,
}

/// A lane's spare segment and what it takes to make one. Shared with the housekeeper.
#[derive(Default)]
pub struct SpareRoom {
    spare: Mutex<Option<Spare>>,
}

impl SpareRoom {
    /// Whether a spare is ready.
    pub fn is_full(&self) -> bool {
        self.spare.lock().is_some()
    }
}

impl LaneSetting {
    /// Makes a spare of this many bytes.
    pub fn make_spare(&self, room: &SpareRoom, bytes: u64) -> Result<()> {
        let spare = self.prepare(bytes)?;
        *room.spare.lock() = Some(spare);
        Ok(())
    }

    /// Removes the spare.
    pub fn drop_spare(&self, room: &SpareRoom) {
        if let Some(spare) = room.spare.lock().take() {
            drop(spare.file);
            let _ = self.fs.remove_file(&spare.path);
        }
    }

    fn prepare(&self, bytes: u64) -> Result<Spare> {
        let number = self.prepared.fetch_add(1, Ordering::Relaxed);
        let path = segment::new_path(&self.dir, self.lane, number);
        let file = self.fs.open(&path, Open::Create).map_err(|e| Error::io("create", &path, &e))?;
        let allocated = file.set_len(0).and_then(|()| file.allocate(bytes));
        if let Err(e) = allocated {
            let _ = self.fs.remove_file(&path);
            return Err(Error::io("allocate", &path, &e));
        }
        self.space.took();
        Ok(Spare { file, path, capacity: bytes })
    }

    /// Prepares `wanted` bytes, or on a full disk as few as `need`, for which the ballast goes.
    fn prepare_some(&self, wanted: u64, need: u64) -> Result<Spare> {
        let full = |e: &Error| e.kind() == Kind::DiskFull;
        let first = match self.prepare(wanted) {
            Err(e) if full(&e) => e,
            other => return other,
        };
        for relieved in [false, true] {
            if relieved && !self.space.relieve() {
                break;
            }
            match self.prepare(need.max(SMALL_SEGMENT_BYTES.min(wanted))) {
                Err(e) if full(&e) => {}
                other => return other,
            }
        }
        Err(first)
    }
}

/// The segment that is written to.
struct Active {
    number: u64,
    salt: u32,
    file: Arc<dyn File>,
    path: PathBuf,
    capacity: u64,
    /// Where the next write goes; ahead of the tail while something is not synced.
    end: u64,
    /// The tail before this segment.
    before: Tail,
}

/// The writing end of a lane. Owned by its committer.
pub struct Log {
    /// The setting.
    pub setting: Arc<LaneSetting>,
    /// The spare.
    pub room: Arc<SpareRoom>,
    active: Option<Active>,
    /// Where the log ends, as far as it is durable.
    tail: Tail,
    /// LSN of the last record written, durable or not.
    last_lsn: u64,
    /// No LSN up to this one is given again, whatever fails.
    floor: u64,
    next_number: u64,
    /// Bytes of the lane's segments so far.
    held: u64,
    /// A group that failed may stand behind the tail, where the next opening would find it.
    failed_behind_tail: bool,
    /// A segment that was given up with nothing durable in it. Void, and removed, once the next one says so.
    void: Option<(u64, PathBuf, u64)>,
}

/// Where a group begins.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Segment.
    pub segment: u64,
    /// Salt of its headers.
    pub salt: u32,
    /// Offset of the group's first record.
    pub offset: u64,
    /// Bytes from there to the end of the segment.
    pub room: u64,
}

impl Log {
    /// A lane that goes on behind `tail`, in a new segment.
    pub fn new(
        setting: Arc<LaneSetting>,
        room: Arc<SpareRoom>,
        tail: Tail,
        last_lsn: u64,
        next_number: u64,
        held: u64,
    ) -> Log {
        Log {
            setting,
            room,
            active: None,
            tail,
            last_lsn,
            floor: last_lsn,
            next_number,
            held,
            failed_behind_tail: false,
            void: None,
        }
    }

    /// Where the log ends as far as it is durable.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// LSN of the last record written.
    pub fn last_lsn(&self) -> u64 {
        self.last_lsn
    }

    /// The next record's LSN, which is taken by this.
    pub fn take_lsn(&mut self) -> u64 {
        self.last_lsn = self.last_lsn.saturating_add(1);
        self.last_lsn
    }

    /// LSNs that were taken for records that are not written go back.
    pub fn return_lsns(&mut self, lsn: u64) {
        self.last_lsn = lsn;
    }

    /// Whether a spare should be made, as its bytes.
    pub fn wants_spare(&self) -> Option<u64> {
        let active = self.active.as_ref()?;
        let wants = active.end > active.capacity / 4 && !self.room.is_full();
        wants.then(|| self.planned_bytes())
    }

    fn planned_bytes(&self) -> u64 {
        let full = self.setting.segment_bytes;
        let planned = self.held.clamp(FIRST_SEGMENT_BYTES.min(full), full);
        self.setting.space.bounded(planned, SMALL_SEGMENT_BYTES.min(full))
    }

    /// A place for a group whose first transaction has `need` bytes: in the active segment, or in a new
    /// one when it does not fit there. What was written before must be synced.
    pub fn start(&mut self, need: u64) -> Result<Start> {
        let fits = self
            .active
            .as_ref()
            .is_some_and(|active| active.end.saturating_add(need) <= active.capacity);
        if !fits {
            self.roll(need)?;
        }
        match &self.active {
            Some(active) => Ok(Start {
                segment: active.number,
                salt: active.salt,
                offset: active.end,
                room: active.capacity.saturating_sub(active.end),
            }),
            None => Err(Error::new(crate::error::Kind::Internal, "a lane has no segment")),
        }
    }

    /// Whether a group that failed would be found by the next opening unless a new segment is begun.
    pub fn failed_behind_tail(&self) -> bool {
        self.failed_behind_tail
    }

    /// Whether `need` more bytes fit in the active segment.
    pub fn fits(&self, need: u64) -> bool {
        self.active.as_ref().is_some_and(|a| a.end.saturating_add(need) <= a.capacity)
    }

    /// Moves to a new segment. The old one is never written again, unless not even a file could be made.
    pub fn roll(&mut self, need: u64) -> Result<()> {
        let old_end = self.tail.end.max(HEADER_BYTES);
        let number = self.next_number;
        self.next_number = self.next_number.saturating_add(1);
        let setting = self.setting.clone();
        let need = HEADER_BYTES.saturating_add(need);
        let taken = self.room.spare.lock().take();
        let spare = match taken {
            Some(spare) if spare.capacity >= need => spare,
            unfit => {
                if let Some(spare) = unfit {
                    drop(spare.file);
                    let _ = setting.fs.remove_file(&spare.path);
                }
                setting.prepare_some(self.planned_bytes().max(need), need)?
            }
        };
        let old = self.active.take();
        let temporary = spare.path.clone();
        let made = self.begin_segment(spare, number);
        if made.is_err() {
            // Its space is missing elsewhere. It may have its final name already; nothing is in it.
            let path = segment::path(&setting.dir, setting.lane, number);
            let _ = setting.fs.remove_file(&temporary);
            let _ = setting.fs.remove_file(&path);
        }
        if made.is_err() && old.is_some() {
            // The name may have come to the disk, and with it the end that its header gives the old one.
            self.failed_behind_tail = true;
        }
        let active = made?;
        if let Some(old) = old {
            // What was allocated and not used goes back; the new header says where the old segment ends.
            let _ = old.file.set_len(old_end);
        }
        self.held = self.held.saturating_add(active.capacity);
        self.active = Some(active);
        // The new segment is durable: whatever happens now, the next one names it.
        self.tail.segment = number;
        self.tail.end = HEADER_BYTES;
        self.failed_behind_tail = false;
        if let Some((_, path, capacity)) = self.void.take() {
            let _ = setting.fs.remove_file(&path);
            self.held = self.held.saturating_sub(capacity);
        }
        Ok(())
    }

    /// Gives a prepared file its header and its name.
    fn begin_segment(&self, spare: Spare, number: u64) -> Result<Active> {
        let setting = &self.setting;
        let mut salt = [0; 4];
        getrandom::fill(&mut salt).map_err(|e| {
            Error::new(crate::error::Kind::Internal, format!("no random numbers: {e}"))
        })?;
        let header = SegmentHeader {
            uuid: setting.uuid,
            lane: setting.lane,
            number,
            first_lsn: self.last_lsn.saturating_add(1),
            epoch: setting.epoch,
            salt: u32::from_le_bytes(salt),
            previous: self.tail.segment,
            previous_end: self.tail.end,
            previous_lsn: self.tail.lsn,
            capacity: spare.capacity,
        };
        let path = segment::path(&setting.dir, setting.lane, number);
        let directory = setting.dir.join(segment::DIRECTORY);
        let Spare { file, path: temporary, capacity } = spare;
        let bytes = header.encode();
        file.write_at(&bytes, 0).map_err(|e| Error::io("write", &temporary, &e))?;
        file.sync_all().map_err(|e| Error::io("sync", &temporary, &e))?;
        // A file with another name than its last is reopened: some systems rename no open file.
        drop(file);
        setting.fs.rename(&temporary, &path).map_err(|e| Error::io("rename", &temporary, &e))?;
        setting.fs.sync_dir(&directory).map_err(|e| Error::io("sync", &directory, &e))?;
        let file =
            setting.fs.open(&path, Open::ReadWrite).map_err(|e| Error::io("open", &path, &e))?;
        setting.counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        setting.counters.syncs.fetch_add(2, Ordering::Relaxed);
        let before = self.tail;
        Ok(Active { number, salt: header.salt, file, path, capacity, end: HEADER_BYTES, before })
    }

    /// Writes bytes at the end of the active segment. On an error the segment is given up.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(active) = &mut self.active else {
            return Err(Error::new(crate::error::Kind::Internal, "a lane has no segment"));
        };
        if let Err(e) = active.file.write_at(bytes, active.end) {
            let error = Error::io("write", &active.path, &e);
            self.give_up();
            return Err(error);
        }
        active.end = active.end.saturating_add(bytes.len() as u64);
        self.setting.counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Makes what was written durable, and moves the tail. On an error the segment is given up.
    pub fn sync(&mut self) -> Result<()> {
        let Some(active) = &self.active else { return Ok(()) };
        if let Err(e) = active.file.sync_data() {
            let error = Error::io("sync", &active.path, &e);
            self.give_up();
            return Err(error);
        }
        self.setting.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.tail = Tail { segment: active.number, end: active.end, lsn: self.last_lsn };
        Ok(())
    }

    /// Leaves the active segment for ever, with everything behind the tail.
    fn give_up(&mut self) {
        let Some(active) = self.active.take() else { return };
        if self.tail.segment == active.number && self.tail.end == HEADER_BYTES {
            // Nothing of it is durable: the next segment follows the one before it.
            self.tail = active.before;
            self.void = Some((active.number, active.path, active.capacity));
        }
        self.failed_behind_tail = true;
        self.last_lsn = self.tail.lsn.max(self.floor);
    }

    /// At the end: gives back what was allocated and not used.
    pub fn close(&mut self) {
        if let Some(active) = self.active.take()
            && self.tail.segment == active.number
        {
            let _ = active.file.set_len(self.tail.end);
        }
        self.setting.drop_spare(&self.room);
    }
}

/// Fills in a record's header in front of its body.
pub fn put_header(record: &mut [u8], header: &Header, salt: u32) {
    if let Some(target) = record.first_chunk_mut() {
        *target = header.encode(salt);
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment::Segment;
    use super::super::space::SpaceSetting;
    use super::*;
    use crate::vfs::sim::Disk;
    use std::path::Path;

    fn setting(fs: &Disk) -> Arc<LaneSetting> {
        let dir = PathBuf::from("/lane");
        fs.create_dir_all(&dir.join(segment::DIRECTORY)).unwrap();
        Arc::new(LaneSetting {
            fs: Arc::new(fs.clone()),
            dir,
            uuid: [7; 16],
            lane: 0,
            epoch: 1,
            segment_bytes: 1 << 20,
            counters: Arc::default(),
            prepared: AtomicU64::new(1),
            space: Arc::new(SpaceGauge::new(
                Arc::new(fs.clone()),
                Path::new("/lane"),
                SpaceSetting { percent: 5, bytes: 1 << 30, ballast: 0 },
            )),
        })
    }

    #[test]
    fn a_spare_that_is_made_while_the_lane_moves_on_by_itself_is_another_file() {
        let fs = Disk::new();
        let setting = setting(&fs);
        let room = Arc::new(SpareRoom::default());
        let mut log = Log::new(setting.clone(), room.clone(), Tail::default(), 0, 1, 0);
        // The housekeeper is in the middle of it when the lane makes segment 1 itself.
        let spare = setting.prepare(1 << 20).unwrap();
        log.roll(0).unwrap();
        log.write(b"12345678").unwrap();
        log.take_lsn();
        log.sync().unwrap();
        *room.spare.lock() = Some(spare);
        log.roll(0).unwrap();
        for number in [1, 2] {
            Segment::open(&fs, &setting.dir, &setting.uuid, 0, number).unwrap();
        }
        let path = segment::path(&setting.dir, 0, 1);
        let bytes = crate::vfs::read_small(&fs, &path, 1 << 20).unwrap();
        assert_eq!(&bytes[HEADER_BYTES as usize..], b"12345678");
    }
}
