//! The machine's file system.
//!
//! A thin layer: each call is one system call where the system has one. Files and directories are
//! made for their owner only (0600 and 0700; on Windows with an access list that says as much).
//!
//! - **Linux and other Unix**: `sync_data` is fdatasync, `allocate` is fallocate with a fall-back to
//!   setting the length where the file system has no fallocate, the lock is flock: it belongs to the
//!   open file, so it also refuses a second opening within this process, and it dies with it.
//! - **Windows**: `os/windows.rs` says what it does.
//!
//! Errors are the system's own, unchanged.

// The one place that touches the machine's files.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Entry, File, Fs, Lock, Open, Space};

/// The machine's file system. Has no state; any number may exist.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFs;

impl OsFs {
    /// The file system.
    pub fn new() -> OsFs {
        OsFs
    }
}

/// An open file of the machine.
struct OsFile(fs::File);

/// A held lock: the open lock file, whose closing releases it.
struct OsLock(#[allow(dead_code)] fs::File);

impl Lock for OsLock {}

impl Fs for OsFs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OsFile(system::retrying(|| system::open(path, how))?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        system::create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed between the listing and this call.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            entries.push(entry_of(entry.file_name().to_string_lossy().into_owned(), &metadata));
        }
        entries.sort();
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<Entry> {
        let metadata = fs::metadata(path)?;
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(entry_of(name, &metadata))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        system::retrying(|| system::rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        system::retrying(|| fs::hard_link(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        system::retrying(|| fs::remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        system::retrying(|| fs::remove_dir(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        // The directory of a bare file name is the current one.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        system::sync_dir(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file = system::retrying(|| system::open(path, Open::Create))?;
        if system::try_lock(&file)? { Ok(Some(Box::new(OsLock(file)))) } else { Ok(None) }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        system::space(path)
    }
}

impl File for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        system::read_at(&self.0, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        system::write_all_at(&self.0, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        // On Windows both are FlushFileBuffers.
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        system::allocate(&self.0, len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

fn entry_of(name: String, metadata: &fs::Metadata) -> Entry {
    let is_dir = metadata.is_dir();
    Entry { name, is_dir, len: if is_dir { 0 } else { metadata.len() } }
}

#[cfg(unix)]
mod system {
    use std::fs;
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
    use std::path::Path;

    use rustix::fs::FlockOperation;
    use rustix::io::Errno;

    use crate::vfs::{Open, Space};

    pub fn open(path: &Path, how: Open) -> io::Result<fs::File> {
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(0o600);
        match how {
            Open::Read => {}
            Open::ReadWrite => {
                options.write(true);
            }
            Open::Create => {
                options.write(true).create(true).truncate(false);
            }
            Open::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        options.open(path)
    }

    pub fn create_dir_all(path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Nothing is held by strangers on Unix: one try is all.
    pub fn retrying<T>(call: impl Fn() -> io::Result<T>) -> io::Result<T> {
        call()
    }

    pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    pub fn sync_dir(path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    pub fn try_lock(file: &fs::File) -> io::Result<bool> {
        loop {
            match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(true),
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    pub fn space(path: &Path) -> io::Result<Space> {
        let figures = rustix::fs::statvfs(path)?;
        Ok(Space {
            free: figures.f_bavail.saturating_mul(figures.f_frsize),
            total: figures.f_blocks.saturating_mul(figures.f_frsize),
        })
    }

    pub fn read_at(file: &fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match file.read_at(buffer, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    pub fn write_all_at(file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub fn allocate(file: &fs::File, len: u64) -> io::Result<()> {
        loop {
            match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
                Err(e) => return Err(e.into()),
            }
        }
        grow(file, len)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub fn allocate(file: &fs::File, len: u64) -> io::Result<()> {
        grow(file, len)
    }

    fn grow(file: &fs::File, len: u64) -> io::Result<()> {
        if file.metadata()?.len() < len { file.set_len(len) } else { Ok(()) }
    }
}

#[cfg(windows)]
#[path = "os/windows.rs"]
mod system;
