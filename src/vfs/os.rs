//! The machine's file system.
//!
//! A thin layer: each call is one system call where the system has one. Files and directories are
//! made for their owner only (0600 and 0700); on Windows they inherit the directory's access list.
//!
//! - **Linux and other Unix**: `sync_data` is fdatasync, `allocate` is fallocate with a fall-back to
//!   setting the length where the file system has no fallocate, the lock is flock: it belongs to the
//!   open file, so it also refuses a second opening within this process, and it dies with it.
//! - **Windows**: files are opened with FILE_SHARE_DELETE; a sharing violation or a denial of access,
//!   which virus scanners and backup programs cause for moments, is retried ten times with growing
//!   pauses; renames are written through. Locks are mandatory there, so one byte far beyond the end of
//!   the lock file is locked, and its text stays readable. Directories can be flushed only as a best
//!   effort: a refusal is not an error, because the rename itself was written through.
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
        let mut options = fs::OpenOptions::new();
        options.read(true);
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
        system::for_owner_only(&mut options);
        let file = system::retrying(|| options.open(path))?;
        Ok(Arc::new(OsFile(file)))
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
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        system::for_owner_only(&mut options);
        let file = system::retrying(|| options.open(path))?;
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

    use super::Space;

    pub fn for_owner_only(options: &mut fs::OpenOptions) {
        options.mode(0o600);
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
mod system {
    use std::fs;
    use std::io;
    use std::os::windows::ffi::OsStrExt;
    use std::os::windows::fs::{FileExt, OpenOptionsExt};
    use std::os::windows::io::AsRawHandle;
    use std::path::Path;
    use std::time::Duration;

    use super::Space;
    use windows_sys::Win32::Foundation::{
        ERROR_ACCESS_DENIED, ERROR_IO_PENDING, ERROR_LOCK_VIOLATION, ERROR_SHARING_VIOLATION,
    };
    use windows_sys::Win32::Storage::FileSystem::{
        FILE_FLAG_BACKUP_SEMANTICS, FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
        GetDiskFreeSpaceExW, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx,
        MOVEFILE_REPLACE_EXISTING, MOVEFILE_WRITE_THROUGH, MoveFileExW,
    };
    use windows_sys::Win32::System::IO::OVERLAPPED;

    const SHARE_ALL: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    /// Tries of a call that a virus scanner or a backup program stands in the way of.
    const TRIES: u32 = 10;

    pub fn for_owner_only(options: &mut fs::OpenOptions) {
        options.share_mode(SHARE_ALL);
    }

    pub fn create_dir_all(path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    pub fn retrying<T>(call: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let mut pause = Duration::from_millis(1);
        for _ in 1..TRIES {
            match call() {
                Err(e) if is_passing(&e) => std::thread::sleep(pause),
                other => return other,
            }
            pause = (pause * 2).min(Duration::from_millis(100));
        }
        call()
    }

    fn is_passing(error: &io::Error) -> bool {
        let Some(code) = error.raw_os_error().and_then(|code| u32::try_from(code).ok()) else {
            return false;
        };
        matches!(code, ERROR_ACCESS_DENIED | ERROR_SHARING_VIOLATION | ERROR_LOCK_VIOLATION)
    }

    fn wide(path: &Path) -> io::Result<Vec<u16>> {
        // The absolute form makes the standard library's treatment of long paths unnecessary here.
        let path = std::path::absolute(path)?;
        let mut wide: Vec<u16> = path.as_os_str().encode_wide().collect();
        if wide.contains(&0) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        wide.push(0);
        Ok(wide)
    }

    pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (wide(from)?, wide(to)?);
        let flags = MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH;
        // SAFETY: both pointers are to NUL-terminated UTF-16 that lives across the call.
        let done = unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), flags) };
        if done == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub fn sync_dir(path: &Path) -> io::Result<()> {
        let directory = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .share_mode(SHARE_ALL)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
            .open(path);
        match directory {
            Ok(directory) => {
                // Undocumented for directories: a refusal says nothing about the names in it.
                let _ = directory.sync_all();
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Err(e) => Err(e),
        }
    }

    pub fn try_lock(file: &fs::File) -> io::Result<bool> {
        // SAFETY: OVERLAPPED is plain data for which all zeros is valid.
        let mut overlapped: OVERLAPPED = unsafe { std::mem::zeroed() };
        overlapped.Anonymous.Anonymous.OffsetHigh = 0x4000_0000;
        let flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
        // SAFETY: the handle is open, the structure lives across the call, which does not pend on a
        // handle opened without FILE_FLAG_OVERLAPPED.
        let done = unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &mut overlapped) };
        if done != 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error().and_then(|code| u32::try_from(code).ok()) {
            Some(ERROR_LOCK_VIOLATION | ERROR_IO_PENDING) => Ok(false),
            _ => Err(error),
        }
    }

    pub fn space(path: &Path) -> io::Result<Space> {
        let path = wide(path)?;
        let (mut free, mut total) = (0_u64, 0_u64);
        let none = std::ptr::null_mut();
        // SAFETY: the path is NUL-terminated, the first two results live across the call, the third may be NULL.
        let done = unsafe { GetDiskFreeSpaceExW(path.as_ptr(), &mut free, &mut total, none) };
        if done == 0 { Err(io::Error::last_os_error()) } else { Ok(Space { free, total }) }
    }

    pub fn read_at(file: &fs::File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match file.seek_read(buffer, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // ERROR_HANDLE_EOF: reading at the end is no error here.
                Err(e) if e.raw_os_error() == Some(38) => return Ok(0),
                other => return other,
            }
        }
    }

    pub fn write_all_at(file: &fs::File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match file.seek_write(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    bytes = bytes.get(n..).unwrap_or_default();
                    offset = offset.saturating_add(n as u64);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    pub fn allocate(file: &fs::File, len: u64) -> io::Result<()> {
        // NTFS reserves the clusters of a longer file at once; the tail reads as zeros.
        if file.metadata()?.len() < len { file.set_len(len) } else { Ok(()) }
    }
}
