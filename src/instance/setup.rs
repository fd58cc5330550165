//! Making an instance: everything validated first, then everything made, the marker last.
//!
//! Method:
//! 1. *Validate* what needs no place on disk: names, listeners, PEM files. Domains and postmaster go
//!    into a directory over rows in memory, so that exactly the code that will read them later has
//!    judged them, the password's rules included. Nothing was made so far.
//! 2. *Claim the place*: the directory must not exist (its parent must), be empty, or hold only what an interrupted set-up left.
//!    It is made (for the owner only), and `setup.lock` in it is locked against a second set-up.
//! 3. *Mark it unfinished*: the whole configuration is written and synced as `posthouse.toml.unfinished`. From here
//!    on the directory is recognised as a set-up's, and may be cleared by the next one.
//! 4. *Fill it*: `tls/`, the store, and in the store postmaster's INBOX and then the rows of step 1.
//! 5. *Finish*: the file is renamed to `posthouse.toml`. **This rename is the instant at which the
//!    instance exists.**
//!
//! A failure in steps 2 to 5 takes everything away again that was made, the mark last; what cannot be taken away
//! (the disk is gone) or is left by a crash carries the mark. Clearing removes only names that
//! set-up itself makes; with anything else in the directory it refuses and names it. A store without
//! mark and without configuration is never cleared: that is an instance whose file was lost.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certificate::{self, Pair};
use super::config::{self, Config, ListenerConfig, check_listeners};
use super::hostname::{flaw_of_domain, flaw_of_host};
use crate::directory::{Account, Directory, NewAccount};
use crate::error::{Error, Kind, Result};
use crate::mailbox::Mailboxes;
use crate::store::{CreateOptions, MAX_LANES, OpenOptions, Rows, Store, Table};
use crate::sync::Mutex;
use crate::time::Clock;
use crate::vfs::{Entry, Fs, Lock, Open};

#[cfg(test)]
mod tests;

/// The configuration while set-up runs, and after it was interrupted.
pub const UNFINISHED: &str = "posthouse.toml.unfinished";

/// Locked while set-up runs.
const SETUP_LOCK: &str = "setup.lock";

/// Most mail domains that set-up takes.
const DOMAINS: usize = 1000;

const TLS_DIR: &str = "tls";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// Files of the store in the instance's directory.
const STORE_FILES: [&str; 3] = ["FORMAT", "FORMAT.new", "LOCK"];
/// Directories of the store, which hold files only.
const STORE_DIRS: [&str; 4] = ["seg", "index", "export", "blobtmp"];
/// What a file system itself puts into a fresh volume.
const FOREIGN: &str = "lost+found";

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSetup {
    /// No TLS.
    None,
    /// These PEM files, checked and copied into the instance.
    Files {
        /// Certificate chain.
        certificate: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// A self-signed certificate for the host name is made.
    SelfSigned,
}

/// What to make an instance of.
#[derive(Clone)]
pub struct Setup {
    /// Our name (FQDN).
    pub hostname: String,
    /// Mail domains, at least one; postmaster is in the first.
    pub domains: Vec<String>,
    /// The password of postmaster.
    pub postmaster_password: String,
    /// The listeners.
    pub listeners: Vec<ListenerConfig>,
    /// TLS.
    pub tls: TlsSetup,
    /// Independent logs of the store, 1 to 16; accounts are spread over them, and the number can never be changed. 0: by
    /// the number of processors.
    pub lanes: u8,
}

impl fmt::Debug for Setup {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("hostname", &self.hostname)
            .field("domains", &self.domains)
            .field("listeners", &self.listeners)
            .field("tls", &self.tls)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

/// Makes an instance in `directory`, which must be empty, or not exist in a directory that does.
///
/// Nothing is made unless everything validates. Interrupted at any point it leaves either no instance or
/// a whole one; what an interrupted set-up left is recognised and cleared by the next one.
///
/// # Errors
/// `Exists` when the directory holds an instance or anything else that is not set-up's own, `Locked` when
/// another set-up runs there, `InvalidArgument`, `Password`, `Certificate` and others for what does not
/// validate, `PathNotFound` without a parent directory, and the operating system's. After an error there is no instance.
pub fn setup(
    fs: &Arc<dyn Fs>,
    clock: &Arc<dyn Clock>,
    directory: &Path,
    setup: &Setup,
) -> Result<()> {
    // The cheap refusals first: hashing and key making take their time.
    Place::look(fs.as_ref(), directory)?;
    Plan::new(fs.as_ref(), clock.as_ref(), setup)?.carry_out(fs, clock, directory)
}

/// Everything that will be written, validated.
struct Plan {
    text: String,
    pair: Option<Pair>,
    postmaster: Account,
    rows: Rowset,
    lanes: u8,
}

impl Plan {
    fn new(fs: &dyn Fs, clock: &dyn Clock, setup: &Setup) -> Result<Plan> {
        let invalid = |text: String| Err(Error::new(Kind::InvalidArgument, text));
        if let Some(flaw) = flaw_of_host(&setup.hostname) {
            return invalid(format!("host name {:?} {flaw}", setup.hostname));
        }
        let Some(first) = setup.domains.first() else {
            return invalid("an instance needs at least one mail domain".to_owned());
        };
        if setup.domains.len() > DOMAINS {
            return invalid(format!(
                "{} mail domains, the limit is {DOMAINS}",
                setup.domains.len()
            ));
        }
        for domain in &setup.domains {
            if let Some(flaw) = flaw_of_domain(domain) {
                return invalid(format!("mail domain {domain:?} {flaw}"));
            }
        }
        if setup.lanes > MAX_LANES {
            return invalid(format!("{} lanes: a store has 1 to {MAX_LANES}", setup.lanes));
        }
        check_listeners(&setup.listeners, setup.tls != TlsSetup::None)?;

        let now = clock.unix_millis();
        let rows = Arc::new(Draft::default());
        let directory = Directory::load(Arc::clone(&rows) as Arc<dyn Rows>)?;
        for domain in &setup.domains {
            directory.add_domain(domain)?;
        }
        let new = NewAccount {
            addresses: vec![format!("postmaster@{first}")],
            login: None,
            password: setup.postmaster_password.clone(),
        };
        let postmaster = directory
            .add_account(&new, now, &mut |_| Ok(()))
            .map_err(|e| if e.kind() == Kind::Password { e.within("postmaster") } else { e })?;
        drop(directory);

        let pair = match &setup.tls {
            TlsSetup::None => None,
            TlsSetup::Files { certificate, key } => Some(certificate::read(fs, certificate, key)?),
            TlsSetup::SelfSigned => Some(certificate::self_signed(&setup.hostname, now)?),
        };
        let mut config = Config::defaults(&setup.hostname);
        config.listeners = setup.listeners.clone();
        let tls = (format!("{TLS_DIR}/{CERTIFICATE}"), format!("{TLS_DIR}/{KEY}"));
        let tls = pair.as_ref().map(|_| (tls.0.as_str(), tls.1.as_str()));
        let text = config::template(&config, tls);
        let rows = std::mem::take(&mut *rows.0.lock());
        Ok(Plan { text, pair, postmaster, rows, lanes: setup.lanes })
    }

    /// Steps 2 to 5.
    fn carry_out(&self, fs: &Arc<dyn Fs>, clock: &Arc<dyn Clock>, dir: &Path) -> Result<()> {
        let place = Place::claim(fs, dir)?;
        match self.make(fs, clock, dir) {
            Ok(()) => {
                place.finished();
                Ok(())
            }
            Err(e) => {
                place.undo();
                Err(e.within(format_args!("setup of {}", dir.display())))
            }
        }
    }

    /// Steps 3 to 5 in a directory that is ours.
    fn make(&self, fs: &Arc<dyn Fs>, clock: &Arc<dyn Clock>, dir: &Path) -> Result<()> {
        write_new(fs.as_ref(), &dir.join(UNFINISHED), self.text.as_bytes())?;
        sync_dir(fs.as_ref(), dir)?;
        if let Some(pair) = &self.pair {
            let tls = dir.join(TLS_DIR);
            fs.create_dir_all(&tls).map_err(|e| Error::io("make directory", &tls, &e))?;
            write_new(fs.as_ref(), &tls.join(KEY), &pair.key)?;
            write_new(fs.as_ref(), &tls.join(CERTIFICATE), &pair.certificate)?;
            sync_dir(fs.as_ref(), &tls)?;
        }
        let options = match self.lanes {
            0 => CreateOptions::default(),
            lanes => CreateOptions { lanes },
        };
        Store::create(fs, dir, &options)?;
        // The ballast is made when the instance is opened for work.
        let options = OpenOptions { ballast_bytes: 0, ..OpenOptions::default() };
        let store = Store::open(Arc::clone(fs), Arc::clone(clock), dir, options)?;
        let filled = self.fill(&store);
        let closed = store.close();
        filled.and(closed)?;

        let (unfinished, file) = (dir.join(UNFINISHED), dir.join(config::FILE));
        fs.rename(&unfinished, &file).map_err(|e| Error::io("rename", &unfinished, &e))?;
        sync_dir(fs.as_ref(), dir).inspect_err(|_| {
            // Marked again, so that what cannot be undone is recognised.
            let _ = fs.rename(&file, &unfinished);
        })
    }

    fn fill(&self, store: &Store) -> Result<()> {
        Mailboxes::new(store).create_inbox(self.postmaster.id, self.postmaster.uid_validity)?;
        self.rows.iter().try_for_each(|((table, key), value)| store.put(*table, key, value))
    }
}

/// Small tables in memory: where the directory's first rows are drafted.
#[derive(Default)]
struct Draft(Mutex<Rowset>);

/// Values by table and key.
type Rowset = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

impl Rows for Draft {
    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.lock().insert((table, key.to_vec()), value.to_vec());
        Ok(())
    }

    fn delete(&self, table: Table, key: &[u8]) -> Result<()> {
        self.0.lock().remove(&(table, key.to_vec()));
        Ok(())
    }

    fn scan(&self, table: Table) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let rows = self.0.lock();
        let of_table = rows.iter().filter(|((t, _), _)| *t == table);
        Ok(of_table.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }
}

/// The directory that is being filled, and what was made for it.
struct Place<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    /// The directory did not exist.
    made: bool,
    lock: Option<Box<dyn Lock>>,
    /// The lock is held and the directory was found free of anything that is not set-up's own.
    claimed: bool,
}

impl<'a> Place<'a> {
    /// Whether an instance may be made there. Changes nothing.
    fn look(fs: &dyn Fs, dir: &Path) -> Result<()> {
        let entries = match fs.read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // A mistyped path, or a volume that is not mounted, must not become a tree of directories.
                let parent = parent(dir);
                let found = fs.metadata(parent);
                return found.map(|_| ()).map_err(|e| Error::io("make an instance in", parent, &e));
            }
            Err(e) => return Err(Error::io("use directory", dir, &e)),
        };
        let has = |name: &str| entries.iter().any(|entry| entry.name == name);
        if has(config::FILE) {
            let text = format!("{} holds an instance already", dir.display());
            return Err(Error::new(Kind::Exists, text));
        }
        let marked = has(UNFINISHED);
        for entry in &entries {
            let own = match entry.name.as_str() {
                FOREIGN | SETUP_LOCK => true,
                _ => marked && Place::is_own(fs, dir, entry)?,
            };
            if !own {
                let text = format!(
                    "{} is not empty: {:?} is in it; an instance needs a directory of its own",
                    dir.display(),
                    entry.name
                );
                return Err(Error::new(Kind::Exists, text));
            }
        }
        Ok(())
    }

    /// Whether set-up makes such a name.
    fn is_own(fs: &dyn Fs, dir: &Path, entry: &Entry) -> Result<bool> {
        let name = entry.name.as_str();
        if !entry.is_dir {
            return Ok(name == UNFINISHED || name == SETUP_LOCK || STORE_FILES.contains(&name));
        }
        let path = dir.join(name);
        let inside = || fs.read_dir(&path).map_err(|e| Error::io("read", &path, &e));
        if name == TLS_DIR {
            let known = |e: &Entry| !e.is_dir && (e.name == CERTIFICATE || e.name == KEY);
            return Ok(inside()?.iter().all(known));
        }
        if STORE_DIRS.contains(&name) {
            return Ok(inside()?.iter().all(|e| !e.is_dir));
        }
        Ok(false)
    }

    /// Makes the directory if need be, takes the lock, clears what an interrupted set-up left.
    fn claim(fs: &'a Arc<dyn Fs>, dir: &'a Path) -> Result<Place<'a>> {
        let fs = fs.as_ref();
        let made = fs.metadata(dir).is_err();
        let mut place = Place { fs, dir, made, lock: None, claimed: false };
        match place.take() {
            Ok(()) => Ok(place),
            Err(e) => {
                place.undo();
                Err(e)
            }
        }
    }

    fn take(&mut self) -> Result<()> {
        let (fs, dir) = (self.fs, self.dir);
        fs.create_dir_all(dir).map_err(|e| Error::io("make directory", dir, &e))?;
        if self.made {
            sync_dir(fs, parent(dir))?;
        }
        let path = dir.join(SETUP_LOCK);
        self.lock = fs.try_lock(&path).map_err(|e| Error::io("lock", &path, &e))?;
        if self.lock.is_none() {
            let text = format!("another set-up runs in {}", dir.display());
            return Err(Error::new(Kind::Locked, text));
        }
        // Another set-up may have come between the first look and the lock.
        Place::look(fs, dir)?;
        self.claimed = true;
        self.clear()
    }

    /// Removes what set-up makes, the mark last, and only when all the rest is gone.
    fn clear(&self) -> Result<()> {
        let (fs, dir) = (self.fs, self.dir);
        let entries = fs.read_dir(dir).map_err(|e| Error::io("read", dir, &e))?;
        if entries.iter().any(|entry| entry.name == config::FILE) {
            return Ok(());
        }
        let mut marked = false;
        let mut removed = false;
        for entry in &entries {
            let path = dir.join(&entry.name);
            match entry.name.as_str() {
                FOREIGN | SETUP_LOCK => continue,
                UNFINISHED => {
                    marked = true;
                    continue;
                }
                _ if !Place::is_own(fs, dir, entry)? => continue,
                _ => {}
            }
            removed = true;
            if entry.is_dir {
                let inside = fs.read_dir(&path).map_err(|e| Error::io("read", &path, &e))?;
                for file in inside {
                    remove_file(fs, &path.join(file.name))?;
                }
                fs.remove_dir(&path).map_err(|e| Error::io("remove", &path, &e))?;
            } else {
                remove_file(fs, &path)?;
            }
        }
        if removed {
            sync_dir(fs, dir)?;
        }
        if marked {
            remove_file(fs, &dir.join(UNFINISHED))?;
            sync_dir(fs, dir)?;
        }
        Ok(())
    }

    /// Lets the finished instance go.
    fn finished(mut self) {
        self.unlock();
    }

    /// Takes away what was made. What cannot be removed stays, with the mark if that was there.
    fn undo(mut self) {
        let clear = !self.claimed || self.clear().is_ok();
        self.unlock();
        if clear && self.made {
            // Not empty: another set-up, or anybody, has put something there.
            let _ = self.fs.remove_dir(self.dir);
        }
    }

    /// Lets the lock go and removes its file: in this order, because a locked file cannot be removed everywhere.
    fn unlock(&mut self) {
        if self.lock.take().is_some() {
            let _ = self.fs.remove_file(&self.dir.join(SETUP_LOCK));
        }
    }
}

/// Writes and syncs a file that does not exist yet.
fn write_new(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let file = fs.open(path, Open::CreateNew)?;
        file.write_at(bytes, 0)?;
        file.sync_all()
    };
    write().map_err(|e: io::Error| Error::io("write", path, &e))
}

fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => dir,
    }
}

fn sync_dir(fs: &dyn Fs, dir: &Path) -> Result<()> {
    fs.sync_dir(dir).map_err(|e| Error::io("sync", dir, &e))
}

fn remove_file(fs: &dyn Fs, path: &Path) -> Result<()> {
    fs.remove_file(path).map_err(|e| Error::io("remove", path, &e))
}
