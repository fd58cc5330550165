//! The configuration: one commented TOML file, `posthouse.toml`, in the instance's directory.
//!
//! The file is the truth: set-up writes every key with its value and a sentence about it, and nothing
//! is taken from anywhere else. A key that is left out has the default that [`key`] names. Reading is
//! strict where a mistake could change what the engine does (a wrong type, a value out of range, a
//! listener without its address) and patient where it could not: a key that this version does not know
//! becomes a line of [`Config::warnings`] and stays in the file, since it may be a newer version's. The
//! table `[host]` belongs to the program around the engine and is never looked into.
//!
//! [`Config::set`] changes values by dotted key and leaves every other byte of the file as it was, comments
//! included. The changed text is read as a whole before it replaces the file, so a bad value changes nothing;
//! the replacement is durable when the call returns, and a crash leaves the old file or the new one.
//!
//! Errors are of kind `Config` and read `FILE:LINE: KEY: what is wrong`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::delivery::{Route, Schedule};
use crate::error::{Error, Kind, Result};
use crate::policy::Rules;
use crate::pop3::server::Limits as Pop3Limits;
use crate::sasl::Mechanisms;
use crate::smtp::extension::Extensions;
use crate::smtp::server::Limits as SmtpLimits;
use crate::store::OpenOptions;
use crate::vfs::{self, Fs};

mod edit;
mod key;
pub mod listener;
mod read;
mod template;
#[cfg(test)]
mod tests;
pub mod tls;

pub(super) use listener::check_listeners;
pub use listener::{LISTENERS, ListenAddress, ListenerConfig, Protocol, TlsMode, parse_listener};
pub(super) use template::template;
pub use tls::{CertificateFiles, ClientCertificate, TlsConfig};

/// The file's name in the instance's directory; its presence makes a directory an instance.
pub const FILE: &str = "posthouse.toml";

/// Largest configuration file that is read, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// Most routes of an instance.
pub const ROUTES: usize = 1000;

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our name (FQDN).
    pub hostname: String,
    /// The listeners.
    pub listeners: Vec<ListenerConfig>,
    /// Certificates, and what is demanded of TLS; `None`: no TLS.
    pub tls: Option<TlsConfig>,
    /// Where mail for other servers goes.
    pub routes: Vec<Route>,
    /// When deliveries are repeated.
    pub schedule: Schedule,
    /// The rules of policy.
    pub rules: Rules,
    /// The extensions that SMTP, submission and LMTP offer.
    pub extensions: Extensions,
    /// The mechanisms that AUTH offers.
    pub mechanisms: Mechanisms,
    /// Bounds of SMTP sessions.
    pub smtp: SmtpLimits,
    /// Bounds of POP3 sessions.
    pub pop3: Pop3Limits,
    /// Milliseconds that a graceful stop waits for sessions to end.
    pub drain_millis: u64,
    /// Mail is refused when less than so many hundredths of the file system are free, or
    pub low_space_percent: u64,
    /// less than so many bytes, whichever is less.
    pub low_space_bytes: u64,
    /// Most bytes of the ballast; 0: none.
    pub ballast_bytes: u64,
    /// One line for each key that was not understood; it stays in the file.
    pub warnings: Vec<String>,
}

impl Config {
    /// What holds where the file says nothing, with this name and no listeners.
    pub fn defaults(hostname: &str) -> Config {
        let store = OpenOptions::default();
        Config {
            hostname: hostname.to_owned(),
            listeners: Vec::new(),
            tls: None,
            routes: Vec::new(),
            schedule: Schedule::default(),
            rules: Rules::default(),
            extensions: Extensions::default(),
            mechanisms: Mechanisms::DEFAULT,
            smtp: SmtpLimits::default(),
            pop3: Pop3Limits::default(),
            drain_millis: 30_000,
            low_space_percent: store.low_space_percent,
            low_space_bytes: store.low_space_bytes,
            ballast_bytes: store.ballast_bytes,
            warnings: Vec::new(),
        }
    }

    /// How the instance's store is opened.
    pub fn store_options(&self) -> OpenOptions {
        OpenOptions {
            low_space_percent: self.low_space_percent,
            low_space_bytes: self.low_space_bytes,
            ballast_bytes: self.ballast_bytes,
            ..OpenOptions::default()
        }
    }

    /// Reads `posthouse.toml` of an instance. Relative paths in it are relative to the instance.
    ///
    /// # Errors
    /// `Config` with the key and the line; `NotAnInstance` when the file is not there.
    pub fn load(fs: &dyn Fs, instance: &Path) -> Result<Config> {
        let (path, text) = read_file(fs, instance)?;
        Config::parse(&text, &path, instance)
    }

    /// Reads a configuration's text. `path` is named in errors; relative paths in the text are relative
    /// to `instance`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path, instance: &Path) -> Result<Config> {
        read::read(text, path, instance)
    }

    /// Sets the value of a dotted key (`smtp.recipients`, `host.name`) in an instance's file. `value` is TOML
    /// (`500`, `["10.0.0.0/8"]`); a text may stand without quotes. It holds from the next opening.
    ///
    /// # Errors
    /// `InvalidArgument` for a key that does not exist, `Config` for a value it cannot have; the file
    /// is then as it was.
    pub fn set(fs: &dyn Fs, instance: &Path, key: &str, value: &str) -> Result<()> {
        Config::set_all(fs, instance, &[(key, value)])
    }

    /// Sets several values at once, all or none; for those that only fit together (`tls.certificate`
    /// and `tls.key`).
    ///
    /// # Errors
    /// As [`Config::set`].
    pub fn set_all(fs: &dyn Fs, instance: &Path, values: &[(&str, &str)]) -> Result<()> {
        let (path, text) = read_file(fs, instance)?;
        let changed = edit::edit(&text, &path, values)?;
        Config::parse(&changed, &path, instance)?;
        vfs::replace(fs, &path, changed.as_bytes()).map_err(|e| Error::io("write", &path, &e))
    }
}

fn read_file(fs: &dyn Fs, instance: &Path) -> Result<(PathBuf, String)> {
    let path = instance.join(FILE);
    let bytes = match vfs::read_small(fs, &path, FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            super::is_instance(fs, instance)?;
            return Err(Error::io("read", &path, &e));
        }
        Err(e) => return Err(Error::io("read", &path, &e)),
    };
    let text = String::from_utf8(bytes).map_err(|e| {
        let valid = e.as_bytes().get(..e.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|b| **b == b'\n').count().saturating_add(1);
        Error::new(Kind::Config, format!("{}:{line}: not valid UTF-8", path.display()))
    })?;
    Ok((path, text))
}
