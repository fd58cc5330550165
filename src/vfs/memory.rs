//! A file system in memory, for tests and for hosts that want a store without a disk.
//!
//! It keeps two states: what a running program sees, and what would be left after a power cut. Bytes
//! move to the second with a sync of their file, names with a sync of their directory.
//! [`MemoryFs::after_power_cut`] answers a new file system made of the second alone, and
//! [`MemoryFs::copy`] one made of the first, as after the death of the process. A hook sees every
//! operation before it happens and may make it fail. After a failed sync the unsynced bytes are lost
//! for the second state: a later sync that succeeds does not bring them back, as on Linux.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Entry, File, Fs, Lock, Open, Space};
use crate::sync::Mutex;

/// What a file system is asked to do, as the hook sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening a file, existing or new.
    Open,
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// `sync_data` or `sync_all`.
    Sync,
    /// `set_len` or `allocate`.
    Resize,
    /// Making a directory.
    CreateDir,
    /// Renaming or linking.
    Rename,
    /// Removing a file or directory.
    Remove,
    /// `sync_dir`.
    SyncDir,
    /// `try_lock`.
    Lock,
}

type Hook = Box<dyn FnMut(Operation, &Path) -> io::Result<()> + Send>;

/// A file system in memory. Cloning gives another handle to the same one.
#[derive(Clone, Default)]
pub struct MemoryFs {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    tree: Mutex<Tree>,
    hook: Mutex<Option<Hook>>,
    locks: Mutex<BTreeSet<PathBuf>>,
    /// Bytes that all files may have together; 0: no bound.
    capacity: AtomicU64,
}

/// What a file system without a bound says of its room.
const ENDLESS: u64 = 1 << 40;

#[derive(Default)]
struct Tree {
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
}

#[derive(Clone)]
enum Node {
    Directory,
    File(Arc<Mutex<Content>>),
}

#[derive(Clone, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Ranges written since the last sync.
    dirty: Vec<(usize, usize)>,
}

impl Content {
    fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for (from, to) in std::mem::take(&mut self.dirty) {
            let to = to.min(self.live.len());
            if let (Some(target), Some(source)) =
                (self.durable.get_mut(from..to), self.live.get(from..to))
            {
                target.copy_from_slice(source);
            }
        }
    }
}

impl MemoryFs {
    /// An empty file system.
    pub fn new() -> MemoryFs {
        MemoryFs::default()
    }

    /// Calls `hook` before every operation from now on; its error becomes the operation's.
    pub fn on_operation(
        &self,
        hook: impl FnMut(Operation, &Path) -> io::Result<()> + Send + 'static,
    ) {
        *self.shared.hook.lock() = Some(Box::new(hook));
    }

    /// From now on all files may have so many bytes together; what would need more fails with `StorageFull`. 0:
    /// no bound.
    pub fn limit_to(&self, bytes: u64) {
        self.shared.capacity.store(bytes, Ordering::Release);
    }

    /// Whether a file may become so much longer.
    fn room_for(&self, more: u64) -> io::Result<()> {
        let total = self.shared.capacity.load(Ordering::Acquire);
        if total == 0 || more == 0 {
            return Ok(());
        }
        let used = self.shared.tree.lock().bytes();
        if used.saturating_add(more) > total {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    /// Removes the hook.
    pub fn forget_hook(&self) {
        *self.shared.hook.lock() = None;
    }

    /// What a running program sees now, as a file system of its own without locks or hook.
    pub fn copy(&self) -> MemoryFs {
        self.state(|tree| &tree.live, |content| content.live.clone())
    }

    /// What a power cut now would leave: synced bytes under synced names, and nothing else.
    pub fn after_power_cut(&self) -> MemoryFs {
        self.state(|tree| &tree.durable, |content| content.durable.clone())
    }

    fn state(
        &self,
        names: impl Fn(&Tree) -> &BTreeMap<PathBuf, Node>,
        bytes: impl Fn(&Content) -> Vec<u8>,
    ) -> MemoryFs {
        let tree = self.shared.tree.lock();
        let mut nodes = BTreeMap::new();
        for (path, node) in names(&tree) {
            let node = match node {
                Node::Directory => Node::Directory,
                Node::File(content) => {
                    let live = bytes(&content.lock());
                    let durable = live.clone();
                    Node::File(Arc::new(Mutex::new(Content { live, durable, dirty: Vec::new() })))
                }
            };
            nodes.insert(path.clone(), node);
        }
        let tree = Tree { durable: nodes.clone(), live: nodes };
        MemoryFs { shared: Arc::new(Shared { tree: Mutex::new(tree), ..Shared::default() }) }
    }

    fn ask(&self, operation: Operation, path: &Path) -> io::Result<()> {
        match self.shared.hook.lock().as_mut() {
            Some(hook) => hook(operation, path),
            None => Ok(()),
        }
    }
}

impl Tree {
    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) else {
            return Ok(());
        };
        match self.live.get(parent) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None if parent == Path::new("/") => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Bytes of all files.
    fn bytes(&self) -> u64 {
        self.live.values().fold(0, |sum, node| match node {
            Node::File(content) => sum.saturating_add(content.lock().live.len() as u64),
            Node::Directory => sum,
        })
    }

    fn file(&self, path: &Path) -> io::Result<Arc<Mutex<Content>>> {
        match self.live.get(path) {
            Some(Node::File(content)) => Ok(content.clone()),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn entry(&self, path: &Path) -> io::Result<Entry> {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        match self.live.get(path) {
            Some(Node::Directory) => Ok(Entry { name, is_dir: true, len: 0 }),
            Some(Node::File(content)) => {
                Ok(Entry { name, is_dir: false, len: content.lock().live.len() as u64 })
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Fs for MemoryFs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        self.ask(Operation::Open, path)?;
        let mut tree = self.shared.tree.lock();
        let content = match (tree.file(path), how) {
            (Ok(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(content), _) => content,
            (Err(e), Open::Create | Open::CreateNew) if e.kind() == io::ErrorKind::NotFound => {
                tree.parent_exists(path)?;
                let content = Arc::new(Mutex::new(Content::default()));
                tree.live.insert(path.to_path_buf(), Node::File(content.clone()));
                content
            }
            (Err(e), _) => return Err(e),
        };
        drop(tree);
        Ok(Arc::new(MemoryFile {
            fs: self.clone(),
            path: path.to_path_buf(),
            content,
            writable: how != Open::Read,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::CreateDir, path)?;
        let mut tree = self.shared.tree.lock();
        let mut missing = Vec::new();
        for ancestor in path.ancestors().filter(|p| !p.as_os_str().is_empty()) {
            match tree.live.get(ancestor) {
                Some(Node::Directory) => break,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => missing.push(ancestor.to_path_buf()),
            }
        }
        for directory in missing {
            tree.live.insert(directory, Node::Directory);
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.ask(Operation::Read, path)?;
        let tree = self.shared.tree.lock();
        match tree.live.get(path) {
            Some(Node::Directory) => {}
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        let mut entries = Vec::new();
        for child in tree.live.keys().filter(|child| child.parent() == Some(path)) {
            entries.push(tree.entry(child)?);
        }
        entries.sort();
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<Entry> {
        self.ask(Operation::Read, path)?;
        self.shared.tree.lock().entry(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Operation::Rename, from)?;
        let mut tree = self.shared.tree.lock();
        tree.file(from)?;
        tree.parent_exists(to)?;
        if matches!(tree.live.get(to), Some(Node::Directory)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if let Some(node) = tree.live.remove(from) {
            tree.live.insert(to.to_path_buf(), node);
        }
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Operation::Rename, from)?;
        let mut tree = self.shared.tree.lock();
        let content = tree.file(from)?;
        tree.parent_exists(to)?;
        if tree.live.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        tree.live.insert(to.to_path_buf(), Node::File(content));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::Remove, path)?;
        let mut tree = self.shared.tree.lock();
        tree.file(path)?;
        tree.live.remove(path);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::Remove, path)?;
        let mut tree = self.shared.tree.lock();
        match tree.live.get(path) {
            Some(Node::Directory) => {}
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        if tree.live.keys().any(|child| child.parent() == Some(path)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        tree.live.remove(path);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.ask(Operation::SyncDir, path)?;
        let mut tree = self.shared.tree.lock();
        if !path.as_os_str().is_empty()
            && path != Path::new("/")
            && !matches!(tree.live.get(path), Some(Node::Directory))
        {
            return Err(io::ErrorKind::NotFound.into());
        }
        let tree = &mut *tree;
        tree.durable.retain(|child, _| child.parent() != Some(path));
        for (child, node) in tree.live.iter().filter(|(child, _)| child.parent() == Some(path)) {
            tree.durable.insert(child.clone(), node.clone());
        }
        // A directory that a test makes at the start is taken as having always been there.
        if !path.as_os_str().is_empty() {
            for ancestor in path.ancestors().filter(|p| !p.as_os_str().is_empty()) {
                if let Some(Node::Directory) = tree.live.get(ancestor) {
                    tree.durable.entry(ancestor.to_path_buf()).or_insert(Node::Directory);
                }
            }
        }
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.ask(Operation::Lock, path)?;
        {
            let mut tree = self.shared.tree.lock();
            tree.parent_exists(path)?;
            tree.live
                .entry(path.to_path_buf())
                .or_insert_with(|| Node::File(Arc::new(Mutex::new(Content::default()))));
        }
        if !self.shared.locks.lock().insert(path.to_path_buf()) {
            return Ok(None);
        }
        Ok(Some(Box::new(MemoryLock { fs: self.clone(), path: path.to_path_buf() })))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let total = self.shared.capacity.load(Ordering::Acquire);
        if total == 0 {
            return Ok(Space { free: ENDLESS, total: ENDLESS });
        }
        let used = self.shared.tree.lock().bytes();
        Ok(Space { free: total.saturating_sub(used), total })
    }
}

struct MemoryLock {
    fs: MemoryFs,
    path: PathBuf,
}

impl Lock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.fs.shared.locks.lock().remove(&self.path);
    }
}

struct MemoryFile {
    fs: MemoryFs,
    path: PathBuf,
    content: Arc<Mutex<Content>>,
    writable: bool,
}

impl MemoryFile {
    fn ask_to_change(&self, operation: Operation) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.fs.ask(operation, &self.path)
    }

    fn sync(&self) -> io::Result<()> {
        let answer = self.ask_to_change(Operation::Sync);
        let mut content = self.content.lock();
        match answer {
            Ok(()) => content.sync(),
            Err(_) => content.dirty.clear(),
        }
        answer
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.fs.ask(Operation::Read, &self.path)?;
        let content = self.content.lock();
        let Some(rest) = usize::try_from(offset).ok().and_then(|from| content.live.get(from..))
        else {
            return Ok(0);
        };
        let n = rest.len().min(buffer.len());
        if let (Some(target), Some(source)) = (buffer.get_mut(..n), rest.get(..n)) {
            target.copy_from_slice(source);
        }
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.ask_to_change(Operation::Write)?;
        let from = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let to = from.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.fs.room_for((to as u64).saturating_sub(self.len()?))?;
        let mut content = self.content.lock();
        if content.live.len() < to {
            content.live.resize(to, 0);
        }
        if let Some(target) = content.live.get_mut(from..to) {
            target.copy_from_slice(bytes);
        }
        content.dirty.push((from, to));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.ask_to_change(Operation::Resize)?;
        self.fs.room_for(len.saturating_sub(self.len()?))?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut content = self.content.lock();
        let old = content.live.len();
        content.live.resize(len, 0);
        // What was cut off and grown again reads as zeros also after the next sync.
        content.dirty.push((len.min(old), len));
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.set_len(len) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().live.len() as u64)
    }
}
