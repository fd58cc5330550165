//! An instance on disk: making one, recognising one, and its configuration.
//!
//! An instance is a directory. What is in it:
//! - `posthouse.toml`: the configuration ([`config`]), and the marker: a directory is an instance if and only
//!   if this file is there. Set-up makes it appear last, by one rename.
//! - the store's own files (`FORMAT`, `LOCK`, `seg`, `index` and more): messages, queue, mailboxes, directory.
//! - `tls/`: the certificate and key that set-up copied or made.
//! - `control`, while an engine serves: where administration programs of this machine find it.
//! - `posthouse.toml.unfinished` and `setup.lock` while set-up runs, or after it was interrupted.

use std::io;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::vfs::Fs;

pub mod certificate;
pub mod config;
pub mod hostname;
pub mod setup;

pub use config::{Config, ListenerConfig, Protocol, TlsMode, parse_listener};
pub use setup::{Setup, TlsSetup, setup};

/// Whether `dir` holds a whole instance. Reads names only and changes nothing.
///
/// # Errors
/// `NotAnInstance`, saying what is there instead; `Permission` or `Io` when that cannot be found out.
pub fn is_instance(fs: &dyn Fs, dir: &Path) -> Result<()> {
    match fs.metadata(&dir.join(config::FILE)) {
        Ok(entry) if !entry.is_dir => return Ok(()),
        Ok(_) => {}
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(e) => return Err(Error::io("look at", &dir.join(config::FILE), &e)),
    }
    let not =
        |what: &str| Err(Error::new(Kind::NotAnInstance, format!("{} {what}", dir.display())));
    let found = match fs.metadata(dir) {
        Ok(entry) if !entry.is_dir => {
            return not("is a file; an instance is a directory with posthouse.toml in it");
        }
        Ok(_) => fs.read_dir(dir).map_err(|e| Error::io("read", dir, &e))?,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return not("does not exist; `setup` makes an instance");
        }
        Err(e) => return Err(Error::io("look at", dir, &e)),
    };
    let has = |name: &str| found.iter().any(|entry| entry.name == name);
    if found.is_empty() {
        not("is an empty directory, not an instance; `setup` makes one there")
    } else if has(setup::UNFINISHED) {
        not("holds a set-up that was interrupted, or still runs; `setup` begins it anew")
    } else if has("FORMAT") {
        not("holds a store, but its posthouse.toml is missing; put the file back")
    } else {
        not("is not an instance: it has no posthouse.toml")
    }
}
