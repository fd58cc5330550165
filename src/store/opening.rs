//! Making a store, and opening one: lock, recovery of each lane, threads.
//!
//! Nothing is changed on disk before the lock is held and FORMAT was judged. The epoch is raised before anything is
//! written, so that an id or a segment of this opening is never mistaken for one of another.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::compaction::CompactCounters;
use super::core::{Abandon, Core, EPOCH_MESSAGES, Home, Released};
use super::export::Exports;
use super::format::Format;
use super::gather::Arrivals;
use super::housekeeper::Housekeeper;
use super::id::Lane;
use super::index::redb::IndexCounters;
use super::index::slot::Slot;
use super::lane::{LaneSetting, Log, LogCounters, Preparation, SpareRoom};
use super::large::LargeLane;
use super::maintenance::Maintenance;
use super::options::{CreateOptions, OpenOptions};
use super::queue::JobQueue;
use super::recovery::{Recovery, RecoveryReport, Shard};
use super::scrub::ScrubCounters;
use super::shelf::Shelf;
use super::shown::Shown;
use super::space::{SpaceGauge, SpaceSetting};
use super::state::Conditions;
use super::{
    Handle, INDEX_DIRECTORY, LOCK_FILE, MAX_LANES, Store, commit, export, format, housekeeper,
    large, maintenance, recovery, segment,
};
use crate::error::{Error, Kind, Result};
use crate::sync::Mutex;
use crate::time::Clock;
use crate::vfs::{self, Fs, Lock, Open};

/// Smallest segment.
pub(super) const SEGMENT_LIMIT: u64 = 64 << 10;

pub(super) fn lane_setting(
    core: (&Arc<dyn Fs>, &Path),
    format: &Format,
    lane: u8,
    (segment_bytes, preparation): (u64, Preparation),
    recycled: u8,
    counters: &Arc<LogCounters>,
    space: &Arc<SpaceGauge>,
) -> LaneSetting {
    LaneSetting {
        fs: core.0.clone(),
        dir: core.1.to_path_buf(),
        uuid: format.uuid,
        lane,
        epoch: format.epoch,
        segment_bytes: segment_bytes.max(SEGMENT_LIMIT),
        preparation,
        counters: counters.clone(),
        prepared: AtomicU64::new(1),
        active: AtomicU64::new(0),
        held: AtomicU64::new(0),
        recycled: usize::from(recycled),
        space: space.clone(),
    }
}

/// Starts a thread of the store: the one place where it does.
#[allow(clippy::disallowed_methods)] // committers block in syncs; they belong to the store, not to a runtime
pub(super) fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(run)
        .map_err(|e| Error::io("start thread", Path::new(&name), &e))
}

/// Takes the lock and writes our process id into it.
pub(super) fn take_lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn Lock>> {
    let path = dir.join(LOCK_FILE);
    match fs.try_lock(&path) {
        Ok(Some(lock)) => {
            // The number is for people; a lock without it is a lock all the same.
            if let Ok(file) = fs.open(&path, Open::ReadWrite) {
                let text = format!("{}\n", std::process::id());
                let _ = file.set_len(0).and_then(|()| file.write_at(text.as_bytes(), 0));
            }
            Ok(lock)
        }
        Ok(None) => {
            let holder = vfs::read_small(fs, &path, 64)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .and_then(|text| text.trim().parse::<u32>().ok());
            let who = match holder {
                Some(pid) => format!("process {pid}"),
                None => "another process".into(),
            };
            Err(Error::new(Kind::Locked, format!("{} is in use by {who}", dir.display())))
        }
        Err(e) => Err(Error::io("lock", &path, &e)),
    }
}

impl Store {
    /// Makes a store in `dir` (which exists, and has no FORMAT). FORMAT is written last.
    ///
    /// # Errors
    /// `Exists` when there is a FORMAT, `InvalidArgument`, `Locked`, or what the system reports.
    pub fn create(fs: &Arc<dyn Fs>, dir: &Path, options: &CreateOptions) -> Result<()> {
        if !(1..=MAX_LANES).contains(&options.lanes) {
            let text = format!("{} lanes: a store has 1 to {MAX_LANES}", options.lanes);
            return Err(Error::new(Kind::InvalidArgument, text));
        }
        fs.metadata(dir).map_err(|e| Error::io("open", dir, &e))?;
        let path = dir.join(format::FILE);
        let free = || match fs.metadata(&path) {
            Ok(_) => {
                let text = format!("{} holds an instance already", dir.display());
                Err(Error::new(Kind::Exists, text))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io("look at", &path, &e)),
        };
        free()?;
        let _lock = take_lock(fs.as_ref(), dir)?;
        free()?;
        for name in [segment::DIRECTORY, INDEX_DIRECTORY, export::DIRECTORY] {
            let path = dir.join(name);
            fs.create_dir_all(&path).map_err(|e| Error::io("create", &path, &e))?;
            fs.sync_dir(&path).map_err(|e| Error::io("sync", &path, &e))?;
        }
        // A FORMAT never stands without them, whatever the disk does first.
        fs.sync_dir(dir).map_err(|e| Error::io("sync", dir, &e))?;
        let mut uuid = [0; 16];
        getrandom::fill(&mut uuid)
            .map_err(|e| Error::new(Kind::Internal, format!("no random numbers: {e}")))?;
        // Version 4, variant 1 (RFC 9562 5.4).
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        Format::new(options.lanes, uuid).write(fs.as_ref(), dir)
    }

    /// Takes the lock, recovers, starts one committer thread a lane and the housekeeper.
    ///
    /// # Errors
    /// `NotAnInstance` without FORMAT, `Corrupt` when FORMAT is damaged, `FormatNewer` (both versions
    /// named) for FORMAT, a segment or an export, `Locked` (with the holder's process id when LOCK tells it). Nothing is changed on disk then.
    pub fn open(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: OpenOptions,
    ) -> Result<Store> {
        Store::open_with(fs, clock, dir, options, false)
    }

    /// As [`Store::open`], with every shard of the index made again.
    pub(super) fn open_anew(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: OpenOptions,
    ) -> Result<Store> {
        Store::open_with(fs, clock, dir, options, true)
    }

    fn open_with(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: OpenOptions,
        anew: bool,
    ) -> Result<Store> {
        Format::read(fs.as_ref(), dir)?;
        let lock = take_lock(fs.as_ref(), dir)?;
        let mut format = Format::read(fs.as_ref(), dir)?;
        format.epoch = format.epoch.saturating_add(1);
        let (major, minor) = (format::MAJOR, format::MINOR);
        if (format.major, format.minor) < (major, minor) {
            (format.major, format.minor) = (major, minor);
        }
        format.incompat |= format::OUTCOMES;
        let lanes = usize::from(format.lanes);
        let index_directory = dir.join(INDEX_DIRECTORY);
        // FORMAT, written below, makes their names durable.
        for path in [&index_directory, &dir.join(export::DIRECTORY)] {
            fs.create_dir_all(path).map_err(|e| Error::io("create", path, &e))?;
        }
        let chains = recovery::survey(fs.as_ref(), dir, &format.uuid, lanes + 1)?;
        export::survey(fs.as_ref(), dir, &format.uuid)?;
        format.write(fs.as_ref(), dir)?;
        let prepared = recovery::sweep(fs.as_ref(), dir, &chains)?;
        export::sweep(fs.as_ref(), dir)?;
        if anew {
            recovery::mark_all(fs.as_ref(), dir, format.lanes)?;
        }

        let space = Arc::new(SpaceGauge::new(
            fs.clone(),
            dir,
            SpaceSetting {
                percent: options.low_space_percent,
                bytes: options.low_space_bytes,
                ballast: options.ballast_bytes,
            },
        ));
        // Before anything is taken in; the ballast is there, if it can be, when the store is open.
        space.measure();
        let counters = Arc::new(LogCounters::default());
        let index_counters = Arc::new(IndexCounters::default());
        let mut report = RecoveryReport::default();
        let large_lane = Lane(format.lanes);
        let mut homes = Vec::with_capacity(lanes);
        let mut logs = Vec::with_capacity(lanes + 1);
        let (mut settings, mut rooms) = (Vec::new(), Vec::new());
        let large = Arc::new(LargeLane::default());
        let exports = Exports::new(lanes, options.export_bytes, options.export_factor);
        for (number, chain) in (0_u8..).zip(&chains) {
            let lane = Lane(number);
            let mut recovery =
                Recovery { fs: fs.as_ref(), dir, lane, large: large_lane, report: &mut report };
            let (outcome, segment_bytes) = if lane == large_lane {
                let outcome = recovery.large_tail(chain)?;
                *large.tail.lock() = outcome.tail;
                (outcome, options.large_segment_bytes)
            } else {
                let shard = Shard { dir, uuid: &format.uuid, lane, counters: &index_counters };
                let (index, outcome) = recovery.open_shard(&fs, &shard, chain)?;
                let exported = export::newest(fs.as_ref(), dir, &format.uuid, lane)?;
                let lsn = exported.map_or(0, |exported| exported.lsn);
                exports.found(usize::from(number), exported, chain.bytes_behind(lsn, outcome.tail));
                homes.push(Home {
                    jobs: JobQueue::default(),
                    index: Slot::new(index),
                    shown: Shown::default(),
                    arrivals: Arrivals::default(),
                    next_id: AtomicU64::new(u64::from(format.epoch) * EPOCH_MESSAGES),
                    tail: Mutex::new(outcome.tail),
                    exported: AtomicU64::new(lsn),
                });
                (outcome, options.segment_bytes)
            };
            let recycled = options.recycled_segments;
            let (core, bytes) = ((&fs, dir), (segment_bytes, options.preparation));
            let setting = lane_setting(core, &format, number, bytes, recycled, &counters, &space);
            setting.active.store(outcome.tail.segment, Ordering::Relaxed);
            // What was allocated behind the end is given back when the lane moves on.
            let last = chain.segments.last().filter(|s| s.number == outcome.tail.segment);
            let unused = last.map_or(0, |s| s.len.saturating_sub(outcome.tail.end));
            setting.held.store(chain.bytes().saturating_sub(unused), Ordering::Relaxed);
            let room = Arc::new(SpareRoom::default());
            let mine = prepared.iter().filter(|(lane, _, _)| *lane == number);
            let next = mine.clone().map(|(_, n, _)| n.saturating_add(1)).max().unwrap_or(1);
            setting.prepared.store(next, Ordering::Relaxed);
            mine.for_each(|(_, _, path)| setting.adopt(&room, path));
            let setting = Arc::new(setting);
            logs.push(Log::new(
                setting.clone(),
                room.clone(),
                outcome.tail,
                outcome.last_lsn,
                // The index may know of segments that are lost.
                chain.next_number().max(outcome.tail.segment.saturating_add(1)),
                outcome.clean && unused > 0,
            ));
            settings.push(setting);
            rooms.push(room);
        }
        // A shard whose name is lost with the power is made again from the whole log.
        fs.sync_dir(&index_directory).map_err(|e| Error::io("sync", &index_directory, &e))?;
        let core = Arc::new(Core {
            shelf: Shelf::new(fs.clone(), dir.to_path_buf(), format.uuid),
            compacting: Mutex::default(),
            compact_counters: CompactCounters::default(),
            scrub_counters: ScrubCounters::default(),
            scrubbed: Mutex::default(),
            maintenance: Maintenance::default(),
            fs,
            dir: dir.to_path_buf(),
            housekeeper: Housekeeper::new(lanes + 1, options.checkpoint_bytes),
            exports,
            conditions: Conditions::new(lanes + 1, clock.clone(), options.retry_millis),
            clock,
            space,
            options,
            format: Mutex::new(format),
            uuid: format.uuid,
            homes,
            large,
            settings,
            rooms,
            counters,
            index_counters,
            closing: AtomicBool::new(false),
            ending: Mutex::default(),
            threads: Mutex::default(),
            own: Mutex::default(),
            lock: Mutex::new(Some(lock)),
            report,
        });
        for line in &core.report.damage {
            core.conditions.damaged(line);
        }
        // From here on dropping the handle ends what was started.
        let store = Store { handle: Arc::new(Handle { core: core.clone() }) };
        for (number, mut log) in (0_u8..).zip(logs) {
            let lane = Lane(number);
            let worker = core.clone();
            if lane == large_lane {
                let thread = spawn("posthouse-large".into(), move || {
                    let _ended = Abandon(&worker.large.jobs);
                    large::run(&worker, &mut log);
                })?;
                core.own.lock().push(thread.thread().id());
                core.threads.lock().large = Some(thread);
            } else {
                let thread = spawn(format!("posthouse-lane{number}"), move || {
                    let Some(home) = worker.home(lane) else { return };
                    let _ended = Abandon(&home.jobs);
                    let _kept = Released(home);
                    commit::run(&worker, lane, &mut log);
                })?;
                core.own.lock().push(thread.thread().id());
                core.threads.lock().homes.push(thread);
            }
        }
        let worker = core.clone();
        let thread = spawn("posthouse-house".into(), move || housekeeper::run(&worker))?;
        core.own.lock().push(thread.thread().id());
        core.threads.lock().housekeeper = Some(thread);
        let worker = core.clone();
        let thread = spawn("posthouse-maint".into(), move || maintenance::run(&worker))?;
        core.own.lock().push(thread.thread().id());
        core.threads.lock().maintenance = Some(thread);
        let worker = core.clone();
        let thread = spawn("posthouse-export".into(), move || export::run(&worker))?;
        core.own.lock().push(thread.thread().id());
        core.threads.lock().exports = Some(thread);
        Ok(store)
    }
}
