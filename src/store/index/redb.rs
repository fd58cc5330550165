//! The index over redb: the only file that names it.
//!
//! redb keeps the pages of commits without durability in its own memory, so a group's commit writes
//! nothing; a checkpoint writes each changed page once. Its file is reached through our `File`, so that
//! tests can put a failing disk under it, and so that bytes and syncs can be counted.
//!
//! redb panics on damaged pages (`unreachable!` in its tree code), so every call is wrapped in
//! `catch_unwind`. It verifies checksums only when a file is opened, so [`Sums`] verifies what it reads afterwards. After a panic or an error of a write the shard is poisoned: every later call fails
//! with `Rebuilding` until the shard is opened anew, which the lane's committer does. No savepoints and no compaction of redb are used.

use std::cell::OnceCell;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, StorageBackend,
    TableDefinition, TableError,
};

use super::sums::Sums;
use super::{Changes, IndexKv, IndexView, Pair, Space, Visit};
use crate::error::{Error, Kind, Result};
use crate::sync::RwLock;
use crate::vfs::{File, Fs, Open};

/// Bytes of pages that redb holds for a shard: read, and changed since the last checkpoint.
const CACHE_BYTES: usize = 48 << 20;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

const fn table(space: Space) -> Definition {
    TableDefinition::new(match space {
        Space::Meta => "meta",
        Space::Place => "place",
        Space::Queue => "queue",
        Space::Head => "head",
        Space::Pack => "pack",
        Space::Delivered => "delivered",
        Space::Row => "row",
        Space::Live => "live",
    })
}

/// Counters of a store's index files.
#[derive(Debug, Default)]
pub struct IndexCounters {
    /// Bytes written.
    pub bytes: AtomicU64,
    /// Syncs.
    pub syncs: AtomicU64,
}

/// The file under redb.
struct Backend {
    counters: Arc<IndexCounters>,
    access: Arc<Access>,
}

/// The file, as long as redb may touch it. Shut for good, it waits for calls that run and closes the file: afterwards
/// another database may open the file, or it is removed (which not every system does with a file that is open),
/// whatever holds on to this database.
struct Access {
    file: RwLock<Option<Arc<dyn File>>>,
    sums: Sums,
}

impl Access {
    fn to(file: Arc<dyn File>) -> Access {
        Access { file: RwLock::new(Some(file)), sums: Sums::default() }
    }

    fn shut(&self) {
        *self.file.write() = None;
    }

    fn with<T>(&self, call: impl FnOnce(&dyn File) -> io::Result<T>) -> io::Result<T> {
        match self.file.read().as_deref() {
            Some(file) => call(file),
            None => Err(io::Error::other("the index was given up")),
        }
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.access.with(|file| file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.access.with(|file| self.access.sums.read(file, offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.access.with(|file| {
            self.access.sums.cut(len);
            file.set_len(len)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.access.with(|file| file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.counters.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.access.with(|file| self.access.sums.write(file, offset, data))
    }
}

/// A shard of the index.
pub struct Redb {
    database: RwLock<Option<Arc<Database>>>,
    health: Arc<Health>,
    access: Arc<Access>,
}

/// What is verified when a shard is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Nothing: the file is new.
    Nothing,
    /// The checksum of every page in use.
    Everything,
}

/// Whether a shard's file can be trusted, and its mark on disk when it cannot.
struct Health {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    poisoned: AtomicBool,
}

/// The mark of a file that must not be opened again: it is removed with its mark, and made anew from the log.
pub fn mark_of(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

impl Health {
    /// Runs a call of redb, catching its panics and refusing all calls after one. What shows that the file is damaged
    /// is marked on disk, because damage that only one page has would not be met by the next opening.
    fn guarded<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let path = &self.path;
        if self.poisoned.load(Ordering::Acquire) {
            return Err(super::slot::rebuilding());
        }
        let result = catch_unwind(AssertUnwindSafe(call))
            .unwrap_or_else(|_| Err(damaged(path, &"a page is damaged")));
        // redb refuses everything after the first error of its file; damage is not to be met twice.
        if let Err(e) = &result
            && !self.poisoned.swap(true, Ordering::AcqRel)
            && e.kind() == Kind::Corrupt
        {
            tracing::error!("{e}; it is made anew from the log");
            // Without the mark the damage is met again, and marked again.
            if let Err(e) = self.mark() {
                tracing::error!("{}: {e}", mark_of(path).display());
            }
        }
        result
    }

    fn mark(&self) -> io::Result<()> {
        let mark = mark_of(&self.path);
        self.fs.open(&mark, Open::Create)?.sync_all()?;
        match mark.parent() {
            Some(directory) => self.fs.sync_dir(directory),
            None => Ok(()),
        }
    }
}

impl Redb {
    /// Opens a shard's file, made when it does not exist. `Corrupt` when redb cannot use it.
    pub fn open(
        fs: &Arc<dyn Fs>,
        path: &Path,
        counters: &Arc<IndexCounters>,
        verify: Verify,
    ) -> Result<Redb> {
        let file = fs.open(path, Open::Create).map_err(|e| Error::io("open", path, &e))?;
        let access = Arc::new(Access::to(file));
        let backend = Backend { counters: counters.clone(), access: access.clone() };
        let poisoned = AtomicBool::new(false);
        let health = Arc::new(Health { fs: Arc::clone(fs), path: path.to_path_buf(), poisoned });
        let database = health.guarded(|| {
            let mut database = Builder::new()
                .set_cache_size(CACHE_BYTES)
                .create_with_backend(backend)
                .map_err(|e| failed(path, e))?;
            // What is read here is what `Sums` learns, so it must be right. All pages of a million messages (64 MiB, in the system's cache)
            // take 0.04 s of a processor.
            if verify == Verify::Everything
                && !database.check_integrity().map_err(|e| failed(path, e))?
            {
                return Err(damaged(path, &"its pages do not agree"));
            }
            // All tables exist from here on, so that a snapshot never misses one.
            let mut transaction = database.begin_write().map_err(|e| failed(path, e))?;
            transaction.set_durability(Durability::None).map_err(|e| failed(path, e))?;
            for space in Space::ALL {
                transaction.open_table(table(space)).map_err(|e| failed(path, e))?;
            }
            transaction.commit().map_err(|e| failed(path, e))?;
            Ok(database)
        })?;
        Ok(Redb { database: RwLock::new(Some(Arc::new(database))), health, access })
    }

    fn database(&self) -> Result<Arc<Database>> {
        self.database.read().clone().ok_or_else(|| Error::new(Kind::Stopped, "the store is closed"))
    }
}

/// What redb reports: the system's errors stay what they are, the rest means that the file is unusable.
fn failed(path: &Path, error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Io(e)
            if !matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
        {
            Error::io("use index", path, &e)
        }
        error => damaged(path, &error),
    }
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Corrupt, format!("index {}: {error}", path.display()))
}

impl IndexKv for Redb {
    fn view(&self) -> Result<Box<dyn IndexView>> {
        let database = self.database()?;
        let transaction = self
            .health
            .guarded(|| database.begin_read().map_err(|e| failed(&self.health.path, e)))?;
        let health = Arc::clone(&self.health);
        Ok(Box::new(View { transaction, health, tables: Default::default() }))
    }

    fn apply(&self, changes: &Changes) -> Result<()> {
        let database = self.database()?;
        let done = self.health.guarded(|| {
            let mut transaction =
                database.begin_write().map_err(|e| failed(&self.health.path, e))?;
            transaction
                .set_durability(Durability::None)
                .map_err(|e| failed(&self.health.path, e))?;
            let mut changes = changes.iter().peekable();
            while let Some(((space, _), _)) = changes.peek() {
                let space = *space;
                let mut table = transaction
                    .open_table(table(space))
                    .map_err(|e| failed(&self.health.path, e))?;
                while let Some(((_, key), value)) = changes.next_if(|((s, _), _)| *s == space) {
                    match value {
                        Some(value) => {
                            table
                                .insert(key.as_slice(), value.as_slice())
                                .map_err(|e| failed(&self.health.path, e))?;
                        }
                        None => {
                            table
                                .remove(key.as_slice())
                                .map_err(|e| failed(&self.health.path, e))?;
                        }
                    }
                }
            }
            transaction.commit().map_err(|e| failed(&self.health.path, e))
        });
        if done.is_err() {
            self.health.poisoned.store(true, Ordering::Release);
        }
        done
    }

    fn checkpoint(&self) -> Result<()> {
        let database = self.database()?;
        let done = self.health.guarded(|| {
            let mut transaction =
                database.begin_write().map_err(|e| failed(&self.health.path, e))?;
            transaction
                .set_durability(Durability::Immediate)
                .map_err(|e| failed(&self.health.path, e))?;
            // The allocator's state goes to disk too, so that opening after a crash does not walk all pages.
            transaction.set_quick_repair(true);
            transaction.commit().map_err(|e| failed(&self.health.path, e))
        });
        if done.is_err() {
            self.health.poisoned.store(true, Ordering::Release);
        }
        done
    }

    fn poison(&self) {
        self.health.poisoned.store(true, Ordering::Release);
    }

    fn is_poisoned(&self) -> bool {
        self.health.poisoned.load(Ordering::Acquire)
    }

    fn abandon(&self) {
        self.poison();
        self.access.shut();
        self.close();
    }

    fn close(&self) {
        let database = self.database.write().take();
        // redb writes when it is dropped, and may panic on what it finds.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(database)));
    }
}

impl Drop for Redb {
    fn drop(&mut self) {
        self.close();
    }
}

struct View {
    transaction: ReadTransaction,
    health: Arc<Health>,
    /// Tables that were read; opening one costs as much as several looks into it.
    tables: [OnceCell<Option<Table>>; Space::ALL.len()],
}

type Table = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

impl View {
    fn table(&self, space: Space) -> Result<Option<&Table>> {
        let Some(cell) = self.tables.get(space as usize) else { return Ok(None) };
        if let Some(table) = cell.get() {
            return Ok(table.as_ref());
        }
        let opened = match self.transaction.open_table(table(space)) {
            Ok(table) => Some(table),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(e) => return Err(failed(&self.health.path, e)),
        };
        Ok(cell.get_or_init(|| opened).as_ref())
    }
}

impl IndexView for View {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.health.guarded(|| {
            let Some(table) = self.table(space)? else { return Ok(None) };
            let value = table.get(key).map_err(|e| failed(&self.health.path, e))?;
            Ok(value.map(|value| value.value().to_vec()))
        })
    }

    fn range(
        &self,
        space: Space,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<()> {
        self.health.guarded(|| {
            let Some(table) = self.table(space)? else { return Ok(()) };
            let range =
                table.range::<&[u8]>((from, to)).map_err(|e| failed(&self.health.path, e))?;
            for pair in range {
                let (key, value) = pair.map_err(|e| failed(&self.health.path, e))?;
                if !visit(key.value(), value.value()) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn last_at_or_before(&self, space: Space, key: &[u8]) -> Result<Option<Pair>> {
        self.health.guarded(|| {
            let Some(table) = self.table(space)? else { return Ok(None) };
            let mut range = table
                .range::<&[u8]>((Bound::Unbounded, Bound::Included(key)))
                .map_err(|e| failed(&self.health.path, e))?;
            match range.next_back() {
                Some(pair) => {
                    let (key, value) = pair.map_err(|e| failed(&self.health.path, e))?;
                    Ok(Some((key.value().to_vec(), value.value().to_vec())))
                }
                None => Ok(None),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::sim::Disk;

    #[test]
    fn a_panic_poisons_the_shard_and_leaves_a_mark_and_a_systems_error_leaves_none() {
        let memory = Disk::new();
        let fs: Arc<dyn Fs> = Arc::new(memory.clone());
        fs.create_dir_all(Path::new("/s/index")).unwrap();
        let path = PathBuf::from("/s/index/00.redb");
        let healthy =
            || Health { fs: Arc::clone(&fs), path: path.clone(), poisoned: AtomicBool::new(false) };
        let health = healthy();
        assert_eq!(health.guarded(|| Ok(5)).unwrap(), 5);
        let error = io::Error::from(io::ErrorKind::StorageFull);
        let full = health.guarded(|| Err::<(), _>(Error::io("use index", &path, &error)));
        assert_eq!(full.unwrap_err().kind(), Kind::DiskFull);
        assert!(fs.metadata(&mark_of(&path)).is_err());
        assert_eq!(health.guarded(|| Ok(5)).unwrap_err().kind(), Kind::Rebuilding);
        let health = healthy();
        let damaged = health.guarded(|| -> Result<()> { panic!("as redb does on a damaged page") });
        assert_eq!(damaged.unwrap_err().kind(), Kind::Corrupt);
        assert!(fs.metadata(&mark_of(&path)).is_ok());
        assert_eq!(health.guarded(|| Ok(5)).unwrap_err().kind(), Kind::Rebuilding);
    }

    #[test]
    fn a_shard_that_was_given_up_has_closed_its_file_although_somebody_reads_it() {
        let fs: Arc<dyn Fs> = Arc::new(Disk::new());
        fs.create_dir_all(Path::new("/s/index")).unwrap();
        let path = Path::new("/s/index/00.redb");
        let shard = Redb::open(&fs, path, &Arc::default(), Verify::Nothing).unwrap();
        let file = Arc::downgrade(shard.access.file.read().as_ref().unwrap());
        let view = shard.view().unwrap();
        assert!(file.upgrade().is_some());
        shard.abandon();
        assert!(file.upgrade().is_none());
        assert_eq!(view.get(Space::Meta, b"x").unwrap_err().kind(), Kind::Rebuilding);
    }
}
