//! What an ordinary and the large lane have in common: the active segment, moving to the next one,
//! one write and one sync for a group.
//!
//! A lane's tail is where its log ends: segment, offset, last LSN. It moves only after a sync has
//! succeeded. When a write or a sync fails, the segment is given up at the old tail: nobody writes to
//! it or syncs it again, and the next group goes to a new segment whose header says where the old one
//! ends. What the failed group may have left behind that end is void. Before that new segment exists a
//! crash may bring the failed group back, whole and in order, as any group that was written and not
//! acknowledged.
//!
//! A lane's spares are segments in preparation: one that the housekeeper allocated, and files of segments that
//! compaction has freed, with their old bytes. Those bytes are void in the new segment, because it has another
//! salt and its records have higher LSNs; blocks that were written once are faster than new ones.

use std::path::{Path, PathBuf};
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

/// Bytes of zeros that are written ahead of small groups at most, and the part of the segment that they are at most.
const AHEAD_BYTES: u64 = 256 << 10;
const AHEAD_PART: u64 = 16;
/// They end with a page.
const PAGE_BYTES: u64 = 4096;
/// Groups of so many bytes on average are small.
const SMALL_GROUP_BYTES: u64 = 48 << 10;

/// Bytes of zeros that are written and synced at once to a segment that is written in advance.
const SLICE_BYTES: u64 = 1 << 20;

/// How a segment is prepared before records are written to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preparation {
    /// Not at all: each sync also makes the file's new length durable.
    Growing,
    /// Its blocks are allocated; the first sync of each also records that it was written.
    Allocated,
    /// It is allocated, and while groups are small, zeros are written a little ahead of them with the same sync: most syncs
    /// then have nothing to record but the bytes. A lone writer's bytes are written twice; large groups leave it alone.
    #[default]
    Ahead,
    /// It is filled with zeros in advance, slice by slice, so that a sync has nothing to record but the bytes. All bytes
    /// are written twice. A segment that is needed before it is full of zeros is allocated only.
    Written,
}

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
    /// Bytes at its front that were written before, whatever they were.
    written: u64,
    /// Whether it was a segment before.
    recycled: bool,
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
    /// How segments are prepared.
    pub preparation: Preparation,
    /// Counters of the store.
    pub counters: Arc<LogCounters>,
    /// Segments prepared so far: each is prepared under a name of its own, because the housekeeper and
    /// the lane may prepare at the same time.
    pub prepared: AtomicU64,
    /// The segment that is written to, or was written to last. Those with lower numbers never change again.
    pub active: AtomicU64,
    /// Bytes of the lane's segments.
    pub held: AtomicU64,
    /// Freed segments that are kept as spares at most.
    pub recycled: usize,
    /// The room on the disk.
    pub space: Arc<SpaceGauge>,
}

/// A lane's spare segments. Shared with the housekeeper and with compaction.
#[derive(Default)]
pub struct SpareRoom {
    spares: Mutex<Vec<Spare>>,
}

impl SpareRoom {
    /// Whether a spare is ready.
    pub fn is_full(&self) -> bool {
        !self.spares.lock().is_empty()
    }

    fn add(&self, spare: Spare) {
        self.spares.lock().push(spare);
    }

    /// Recycled spares, and their bytes.
    fn recycled(&self) -> (usize, u64) {
        let spares = self.spares.lock();
        let recycled = spares.iter().filter(|spare| spare.recycled);
        recycled.fold((0, 0), |(count, bytes), s| (count + 1, s.capacity.saturating_add(bytes)))
    }
}

impl LaneSetting {
    /// Makes a spare of this many bytes. Between slices of zeros it pauses; when `pause` answers `false` there is no
    /// time any more, and no spare is made.
    pub fn make_spare(
        &self,
        room: &SpareRoom,
        bytes: u64,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        let spare = self.prepare(bytes)?;
        if self.preparation == Preparation::Written {
            let filled = self.fill(&spare, pause);
            if !matches!(filled, Ok(true)) {
                let Spare { file, path, .. } = spare;
                drop(file);
                let _ = self.fs.remove_file(&path);
                return filled.map(|_| ()).map_err(|e| Error::io("write", &path, &e));
            }
        }
        room.add(spare);
        Ok(())
    }

    /// Writes zeros to all of a spare; `false` when there was no time for it.
    fn fill(&self, spare: &Spare, pause: &mut dyn FnMut() -> bool) -> std::io::Result<bool> {
        let zeros = vec![0; SLICE_BYTES as usize];
        let mut at = 0;
        while at < spare.capacity {
            let len = SLICE_BYTES.min(spare.capacity.saturating_sub(at));
            let slice = usize::try_from(len).ok().and_then(|len| zeros.get(..len));
            spare.file.write_at(slice.unwrap_or_default(), at)?;
            // Soon, and little at a time: the lanes' own syncs wait behind this one.
            spare.file.sync_data()?;
            self.counters.bytes.fetch_add(len, Ordering::Relaxed);
            at = at.saturating_add(len);
            if !pause() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes the spares that were made, and with `all` the recycled ones too.
    pub fn drop_spares(&self, room: &SpareRoom, all: bool) {
        self.sort_out(room, |spare| spare.recycled && !all);
    }

    /// Removes the spares that are not fit.
    fn sort_out(&self, room: &SpareRoom, fit: impl Fn(&Spare) -> bool) {
        let mut spares = room.spares.lock();
        let (kept, unfit): (Vec<_>, Vec<_>) = spares.drain(..).partition(fit);
        *spares = kept;
        for Spare { file, path, .. } in unfit {
            drop(file);
            let _ = self.fs.remove_file(&path);
        }
    }

    /// Bytes that the next segment should have.
    fn planned_bytes(&self) -> u64 {
        let full = self.segment_bytes;
        let planned = self.held.load(Ordering::Relaxed).clamp(FIRST_SEGMENT_BYTES.min(full), full);
        self.space.bounded(planned, SMALL_SEGMENT_BYTES.min(full))
    }

    /// Whether a file of so many bytes is worth keeping beside so many others. Where the lane is small, as behind a queue
    /// through which much goes, spares may take more space than it does, up to so many planned segments.
    fn is_wanted(&self, len: u64, (count, bytes): (usize, u64)) -> bool {
        let (held, planned) = (self.held.load(Ordering::Relaxed), self.planned_bytes());
        count < self.recycled
            && len >= planned / 2
            && bytes.saturating_add(len) <= held.max(planned.saturating_mul(self.recycled as u64))
    }

    /// Lets the files of freed segments go: a few become spares, the rest is removed. Answers those that are gone
    /// for good, which nobody may ask for any more. What fails stays where it is.
    pub fn retire(&self, room: &SpareRoom, numbers: &[u64]) -> Result<Vec<u64>> {
        let mut gone = Vec::new();
        let mut recycled = Vec::new();
        let mut kept_bytes = 0_u64;
        let mut failed = None;
        for number in numbers {
            let path = segment::path(&self.dir, self.lane, *number);
            let len = self.fs.metadata(&path).map_or(0, |entry| entry.len);
            let (count, bytes) = room.recycled();
            let kept = (count.saturating_add(recycled.len()), bytes.saturating_add(kept_bytes));
            let done = if self.is_wanted(len, kept) {
                let new = self.spare_path();
                kept_bytes = kept_bytes.saturating_add(len);
                self.fs.rename(&path, &new).map(|()| recycled.push(new))
            } else {
                self.fs.remove_file(&path)
            };
            match done {
                Ok(()) => {
                    gone.push(*number);
                    self.give_back(len);
                }
                Err(e) => failed = Some(Error::io("free", &path, &e)),
            }
        }
        if gone.is_empty() {
            return failed.map_or(Ok(gone), Err);
        }
        let directory = self.dir.join(segment::DIRECTORY);
        let synced = self.fs.sync_dir(&directory);
        for path in recycled {
            // Before its new name is durable the file may be the old segment after a crash: it is not written to.
            match synced.as_ref().ok().and_then(|()| self.reopen(&path).ok()) {
                Some(spare) => room.add(spare),
                None => {
                    let _ = self.fs.remove_file(&path);
                }
            }
        }
        if let Some(e) = failed {
            tracing::warn!("{e}");
        }
        Ok(gone)
    }

    /// The lane holds so many bytes less.
    fn give_back(&self, bytes: u64) {
        let less = |held: u64| Some(held.saturating_sub(bytes));
        let _ = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Takes a file that has the name of a spare already, durably. One that cannot be used is removed.
    pub fn adopt(&self, room: &SpareRoom, path: &Path) {
        let len = self.fs.metadata(path).map_or(0, |entry| entry.len);
        match self.is_wanted(len, room.recycled()).then(|| self.reopen(path)) {
            Some(Ok(spare)) => room.add(spare),
            _ => {
                let _ = self.fs.remove_file(path);
            }
        }
    }

    fn reopen(&self, path: &Path) -> std::io::Result<Spare> {
        let file = self.fs.open(path, Open::ReadWrite)?;
        let (len, planned) = (file.len()?, self.planned_bytes());
        if len < planned {
            file.allocate(planned)?;
        }
        Ok(Spare {
            file,
            path: path.into(),
            capacity: len.max(planned),
            written: len,
            recycled: true,
        })
    }

    fn spare_path(&self) -> PathBuf {
        let number = self.prepared.fetch_add(1, Ordering::Relaxed);
        segment::new_path(&self.dir, self.lane, number)
    }

    fn prepare(&self, bytes: u64) -> Result<Spare> {
        let path = self.spare_path();
        let file = self.fs.open(&path, Open::Create).map_err(|e| Error::io("create", &path, &e))?;
        let allocated = file.set_len(0).and_then(|()| match self.preparation {
            Preparation::Growing => Ok(()),
            Preparation::Allocated | Preparation::Ahead | Preparation::Written => {
                file.allocate(bytes)
            }
        });
        if let Err(e) = allocated {
            let _ = self.fs.remove_file(&path);
            return Err(Error::io("allocate", &path, &e));
        }
        self.space.took();
        Ok(Spare { file, path, capacity: bytes, written: 0, recycled: false })
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
    /// Up to there the file's blocks were written before, or are by the next sync.
    written: u64,
    /// The tail before this segment.
    before: Tail,
}

/// Writes zeros ahead of small groups.
#[derive(Default)]
struct Ahead {
    zeros: Vec<u8>,
    /// Bytes of a group, on average over the last few.
    group: u64,
}

impl Ahead {
    /// A group of `len` bytes was written. If it has come to unwritten blocks, and groups are small, zeros go behind it.
    /// Answers how many. A failure is the file system's way to say that it does not help here.
    fn write(&mut self, active: &mut Active, len: u64) -> u64 {
        // Large groups are noticed at once, small ones when there were a few.
        let weight = if len > self.group { 1 } else { 7 };
        self.group = self.group.saturating_mul(weight).saturating_add(len) / (weight + 1);
        if active.end <= active.written {
            return 0;
        }
        active.written = active.end;
        if self.group.max(len) > SMALL_GROUP_BYTES {
            return 0;
        }
        let ahead = AHEAD_BYTES.min(active.capacity / AHEAD_PART);
        let to = active.end.saturating_add(ahead) & !(PAGE_BYTES - 1);
        let to = to.min(active.capacity).max(active.end);
        let bytes = to.saturating_sub(active.end);
        self.zeros.resize(usize::try_from(bytes).unwrap_or(0), 0);
        if active.file.write_at(&self.zeros, active.end).is_err() {
            active.written = active.capacity;
            return 0;
        }
        active.written = to;
        bytes
    }
}

/// The writing end of a lane. Owned by its committer.
pub struct Log {
    /// The setting.
    pub setting: Arc<LaneSetting>,
    /// The spare.
    pub room: Arc<SpareRoom>,
    active: Option<Active>,
    ahead: Ahead,
    /// Where the log ends, as far as it is durable.
    tail: Tail,
    /// LSN of the last record written, durable or not.
    last_lsn: u64,
    /// No LSN up to this one is given again, whatever fails.
    floor: u64,
    next_number: u64,
    /// The segment of the tail was left by a process that did not cut it off where it ends.
    uncut: bool,
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
        uncut: bool,
    ) -> Log {
        Log {
            setting,
            room,
            active: None,
            ahead: Ahead::default(),
            tail,
            last_lsn,
            floor: last_lsn,
            next_number,
            uncut,
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
        wants.then(|| self.setting.planned_bytes())
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
        let spare = match self.take_spare(need) {
            Some(spare) => spare,
            None => setting.prepare_some(setting.planned_bytes().max(need), need)?,
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
            setting.give_back(old.capacity.saturating_sub(old_end));
        } else if std::mem::take(&mut self.uncut) {
            let path = segment::path(&setting.dir, setting.lane, self.tail.segment);
            let _ = setting.fs.open(&path, Open::ReadWrite).and_then(|f| f.set_len(old_end));
        }
        setting.held.fetch_add(active.capacity, Ordering::Relaxed);
        setting.active.store(number, Ordering::Release);
        self.active = Some(active);
        // The new segment is durable: whatever happens now, the next one names it.
        self.tail.segment = number;
        self.tail.end = HEADER_BYTES;
        self.failed_behind_tail = false;
        if let Some((_, path, capacity)) = self.void.take() {
            let _ = setting.fs.remove_file(&path);
            setting.give_back(capacity);
        }
        Ok(())
    }

    /// A spare of at least so many bytes, a recycled one first. Those that are too small are removed.
    fn take_spare(&self, need: u64) -> Option<Spare> {
        let wanted = need.max(self.setting.planned_bytes() / 2);
        self.setting.sort_out(&self.room, |spare| spare.capacity >= wanted);
        let mut spares = self.room.spares.lock();
        let at = spares.iter().position(|spare| spare.recycled).unwrap_or(0);
        (at < spares.len()).then(|| spares.swap_remove(at))
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
        let Spare { file, path: temporary, capacity, written, .. } = spare;
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
        Ok(Active {
            number,
            salt: header.salt,
            file,
            path,
            capacity,
            end: HEADER_BYTES,
            written: written.max(HEADER_BYTES),
            before: self.tail,
        })
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
        let len = bytes.len() as u64;
        active.end = active.end.saturating_add(len);
        let mut all = len;
        if self.setting.preparation == Preparation::Ahead {
            all = all.saturating_add(self.ahead.write(active, len));
        }
        self.setting.counters.bytes.fetch_add(all, Ordering::Relaxed);
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
        self.setting.drop_spares(&self.room, false);
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
            preparation: Preparation::Allocated,
            counters: Arc::default(),
            prepared: AtomicU64::new(1),
            active: AtomicU64::new(0),
            held: AtomicU64::new(0),
            recycled: 2,
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
        let mut log = Log::new(setting.clone(), room.clone(), Tail::default(), 0, 1, false);
        // The housekeeper is in the middle of it when the lane makes segment 1 itself.
        let spare = setting.prepare(1 << 20).unwrap();
        log.roll(0).unwrap();
        log.write(b"12345678").unwrap();
        log.take_lsn();
        log.sync().unwrap();
        room.add(spare);
        log.roll(0).unwrap();
        for number in [1, 2] {
            Segment::open(&fs, &setting.dir, &setting.uuid, 0, number).unwrap();
        }
        let path = segment::path(&setting.dir, 0, 1);
        let bytes = crate::vfs::read_small(&fs, &path, 1 << 20).unwrap();
        assert_eq!(&bytes[HEADER_BYTES as usize..], b"12345678");
    }
}
