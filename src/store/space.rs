//! How much room the disk has for the store, and what is done when it runs out.
//!
//! Above the *mark* there is ample room. Below it messages are refused before anything of them is written, and
//! everything else goes on: deletions, flags, queue updates, deliveries between lanes, and what gives space
//! back. The mark is the smaller of a share of the file system and a fixed number of bytes: a share alone
//! would refuse mail on a large disk with hundreds of gigabytes free, and a fixed number alone would be all of a
//! small one.
//!
//! For what goes on there is the **ballast**, a file that is there to be removed. A write or an allocation that
//! meets a full disk removes it and is made again. From then on the space counts as full, until there is so much
//! again that the ballast can be made anew and the mark is exceeded by a quarter: one message more or less
//! does not move it to and fro.
//!
//! The housekeeper measures; committers only read an atomic, and remove the ballast.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crate::error::{Error, Kind, Result};
use crate::sync::Mutex;
use crate::vfs::{Fs, Open, Space};

/// Name of the ballast in the store's directory.
pub const BALLAST_FILE: &str = "ballast";
/// The ballast is at most this part of the file system.
const BALLAST_PART: u64 = 64;
/// Bytes written at once where allocating does not reserve.
const FILL_BYTES: usize = 256 << 10;
/// A new segment takes at most this part of what is free, so that allocating ahead does not use up the disk.
const SEGMENT_PART: u64 = 8;

/// How much room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SpaceLevel {
    /// Enough for everything.
    #[default]
    Ample = 0,
    /// Below the mark: messages are refused.
    Low = 1,
    /// A write or an allocation found the disk full. Messages are refused, the ballast is gone.
    Full = 2,
}

impl SpaceLevel {
    fn from_number(number: u8) -> SpaceLevel {
        match number {
            0 => SpaceLevel::Ample,
            1 => SpaceLevel::Low,
            _ => SpaceLevel::Full,
        }
    }
}

/// Where the mark is and how large the ballast.
#[derive(Clone, Copy, Debug)]
pub struct SpaceSetting {
    /// Hundredths of the file system below which space is low.
    pub percent: u64,
    /// Bytes below which space is low, when that is less.
    pub bytes: u64,
    /// Most bytes of the ballast; 0: none.
    pub ballast: u64,
}

/// The room of one store.
pub struct SpaceGauge {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    setting: SpaceSetting,
    level: AtomicU8,
    free: AtomicU64,
    total: AtomicU64,
    /// What the ballast has; 0 when it is not there.
    ballast: Mutex<u64>,
    /// The last measurement is not true any more.
    stale: AtomicBool,
}

impl SpaceGauge {
    /// A gauge that has not measured yet.
    pub fn new(fs: Arc<dyn Fs>, dir: &Path, setting: SpaceSetting) -> SpaceGauge {
        let there = fs.metadata(&dir.join(BALLAST_FILE)).map_or(0, |entry| entry.len);
        SpaceGauge {
            fs,
            dir: dir.to_path_buf(),
            setting,
            level: AtomicU8::new(SpaceLevel::Ample as u8),
            free: AtomicU64::new(u64::MAX),
            total: AtomicU64::new(u64::MAX),
            ballast: Mutex::new(there),
            stale: AtomicBool::new(true),
        }
    }

    /// The level.
    pub fn level(&self) -> SpaceLevel {
        SpaceLevel::from_number(self.level.load(Ordering::Acquire))
    }

    /// Bytes free at the last measurement, and of the file system; `u64::MAX` before the first one.
    pub fn figures(&self) -> (u64, u64) {
        (self.free.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// `DiskFull` while messages are refused.
    pub fn admit_message(&self) -> Result<()> {
        if self.level() == SpaceLevel::Ample {
            return Ok(());
        }
        let free = self.free.load(Ordering::Relaxed);
        let text = format!("{}: {free} bytes are free, too few for mail", self.dir.display());
        Err(Error::new(Kind::DiskFull, text))
    }

    /// A segment of `wanted` bytes, or as much as there is room for, at least `least`.
    pub fn bounded(&self, wanted: u64, least: u64) -> u64 {
        wanted.min((self.free.load(Ordering::Relaxed) / SEGMENT_PART).max(least))
    }

    /// Space was taken: the housekeeper is to look.
    pub fn took(&self) {
        self.stale.store(true, Ordering::Release);
    }

    /// Whether space was taken since the last call.
    pub fn is_stale(&self) -> bool {
        self.stale.swap(false, Ordering::AcqRel)
    }

    /// The disk is full: removes the ballast. Whether there was one, so that trying again makes sense.
    pub fn relieve(&self) -> bool {
        self.level.store(SpaceLevel::Full as u8, Ordering::Release);
        self.stale.store(true, Ordering::Release);
        let mut there = self.ballast.lock();
        // A measurement may have ended while this waited.
        self.level.store(SpaceLevel::Full as u8, Ordering::Release);
        if *there == 0 {
            return false;
        }
        *there = 0;
        let path = self.dir.join(BALLAST_FILE);
        tracing::warn!("the disk is full: {} is removed, mail is refused", path.display());
        // Some file systems free the space with the next change of their journal.
        let removed = self.fs.remove_file(&path).and_then(|()| self.fs.sync_dir(&self.dir));
        if let Err(e) = &removed {
            tracing::error!("{}: {e}", path.display());
        }
        removed.is_ok()
    }

    /// Looks at the disk. The level from now on.
    pub fn measure(&self) -> SpaceLevel {
        let Ok(Space { free, total }) = self.fs.space(&self.dir) else { return self.level() };
        self.free.store(free, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        let mark = (total / 100).saturating_mul(self.setting.percent).min(self.setting.bytes);
        let before = self.level();
        if before == SpaceLevel::Ample && free < mark {
            self.level.store(SpaceLevel::Low as u8, Ordering::Release);
            return self.level();
        }
        let wanted = self.setting.ballast.min(total / BALLAST_PART);
        let there = *self.ballast.lock();
        let missing = if there == wanted { 0 } else { wanted };
        if free < mark.saturating_add(mark / 4).saturating_add(missing) {
            return self.level();
        }
        if missing > 0
            && let Err(e) = self.make_ballast(wanted)
        {
            tracing::warn!("{}: {e}", self.dir.join(BALLAST_FILE).display());
            if before != SpaceLevel::Ample {
                return before;
            }
        }
        // Unless the disk was found full meanwhile, which costs the ballast.
        let there = self.ballast.lock();
        if *there == wanted {
            let (before, ample) = (before as u8, SpaceLevel::Ample as u8);
            let _ = self.level.compare_exchange(before, ample, Ordering::AcqRel, Ordering::Acquire);
        }
        drop(there);
        self.level()
    }

    fn make_ballast(&self, bytes: u64) -> std::io::Result<()> {
        let path = self.dir.join(BALLAST_FILE);
        let mut there = self.ballast.lock();
        let free = self.fs.space(&self.dir)?.free;
        let made = (|| {
            let file = self.fs.open(&path, Open::Create)?;
            file.set_len(0)?;
            file.allocate(bytes)?;
            let taken = free.saturating_sub(self.fs.space(&self.dir)?.free);
            if taken < bytes / 2 {
                // Allocating reserves nothing here.
                let mut filling = vec![0x5a; FILL_BYTES];
                let mut at = 0;
                while at < bytes {
                    let left = usize::try_from(bytes - at).unwrap_or(FILL_BYTES);
                    filling.truncate(left);
                    file.write_at(&filling, at)?;
                    at = at.saturating_add(filling.len() as u64);
                }
                file.sync_data()?;
            }
            Ok(())
        })();
        match made {
            Ok(()) => *there = bytes,
            Err(_) => {
                *there = 0;
                let _ = self.fs.remove_file(&path);
            }
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::sim::{Disk, Operation};

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_disk_that_is_found_full_while_the_ballast_is_made_stays_full() {
        let fs = Disk::new();
        let dir = Path::new("/s");
        fs.create_dir_all(dir).unwrap();
        fs.limit_to(32 << 20);
        let setting = SpaceSetting { percent: 5, bytes: 1 << 30, ballast: 1 << 20 };
        let gauge = Arc::new(SpaceGauge::new(Arc::new(fs.clone()), dir, setting));
        assert!(!gauge.relieve(), "there is none");
        assert_eq!(gauge.level(), SpaceLevel::Full);
        // A committer meets the end of the disk in the middle of it.
        let committer = Arc::new(Mutex::new(None));
        let (started, other) = (committer.clone(), gauge.clone());
        fs.on_operation(move |operation, path| {
            let mut started = started.lock();
            if operation == Operation::Resize && path.ends_with(BALLAST_FILE) && started.is_none() {
                let other = other.clone();
                *started = Some(std::thread::spawn(move || other.relieve()));
                // It waits for the ballast by now.
                std::thread::park_timeout(std::time::Duration::from_millis(50));
            }
            Ok(())
        });
        gauge.measure();
        // Not under the lock, which the other thread's operations need.
        let thread = committer.lock().take().unwrap();
        assert!(thread.join().unwrap());
        assert!(fs.metadata(&dir.join(BALLAST_FILE)).is_err());
        assert_eq!(gauge.level(), SpaceLevel::Full);
        // And with room it is ample again, and the ballast is back.
        fs.forget_hook();
        assert_eq!(gauge.measure(), SpaceLevel::Ample);
        assert_eq!(fs.metadata(&dir.join(BALLAST_FILE)).unwrap().len, (32 << 20) / 64);
    }
}
