//! The file system as a table of functions.
//!
//! The store and the instance touch files only through [`Fs`] and [`File`], so that a test can put a
//! disk in their place that fails, fills up, or loses power. [`os`] is the machine's file system,
//! [`sim`] one for tests.
//!
//! Rules that an implementation keeps, and that callers may rely on:
//! - What was written is durable only after `sync_data` or `sync_all` of its file has answered; a new
//!   or changed *name* only after `sync_dir` of its directory has.
//! - After a failed sync the state of the unsynced bytes is unknown for ever: a second sync that
//!   succeeds proves nothing. Callers give the file up.
//! - `write_at` writes everything or fails; `read_at` may read less, and reads 0 only at the end.
//! - Names are portable: letters, digits, `-`, `_` and `.`, at most 64 bytes, unlike in more than case.
//! - Nothing is renamed over a file that is open, and nothing is locked but lock files.

use std::io;
use std::path::Path;
use std::sync::Arc;

pub mod os;
pub mod sim;
#[cfg(test)]
mod tests;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A file for reading and writing that is made when it does not exist.
    Create,
    /// A new file for reading and writing; fails when the name is taken.
    CreateNew,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name without its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Bytes in the file; 0 for a directory.
    pub len: u64,
}

/// The room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that an ordinary user can still write.
    pub free: u64,
    /// Bytes that it has in all.
    pub total: u64,
}

/// A file system. Any thread may call.
pub trait Fs: Send + Sync {
    /// Opens a file. New files are readable and writable by their owner only.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    /// Makes a directory and its missing parents, for the owner only.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The entries of a directory, sorted by name.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Whether the path exists, and what it is.
    fn metadata(&self, path: &Path) -> io::Result<Entry>;
    /// Renames a file, replacing a file of the new name. Durable after `sync_dir`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a second name for a file.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable. On Windows the best that the system offers.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes the exclusive lock of a lock file, which is made when it does not exist. `None` when
    /// another holder has it. The lock dies with the holder, also with its process.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
    /// How much room there is on the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// An open file. Any thread may call; there is no cursor.
pub trait File: Send + Sync {
    /// Reads at an offset into the buffer; the number of bytes read, 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at an offset, growing the file where needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the bytes durable, and the length as far as reading them back needs it.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes bytes and all attributes durable.
    fn sync_all(&self) -> io::Result<()>;
    /// Sets the length; a grown tail reads as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space for the first `len` bytes and sets the length, so that writes below it do not
    /// run out of space. The unwritten tail reads as zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A held lock; dropping it releases it.
pub trait Lock: Send + Sync {}

/// Reads exactly the buffer's length or fails with `UnexpectedEof`.
pub fn read_exact_at(file: &dyn File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                buffer = &mut buffer[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads a whole small file, refusing one of more than `limit` bytes.
pub fn read_small(fs: &dyn Fs, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = fs.open(path, Open::Read)?;
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{len} bytes, limit {limit}"),
        ));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?];
    read_exact_at(file.as_ref(), &mut bytes, 0)?;
    Ok(bytes)
}

/// Replaces a small file so that after a crash either the old or the new content is there: writes a
/// temporary file beside it, syncs, renames, syncs the directory.
pub fn replace(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = name.to_os_string();
    temporary.push(".new");
    let temporary = path.with_file_name(temporary);
    {
        let file = fs.open(&temporary, Open::Create)?;
        file.set_len(0)?;
        file.write_at(bytes, 0)?;
        file.sync_all()?;
    }
    fs.rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => fs.sync_dir(directory),
        None => Ok(()),
    }
}
