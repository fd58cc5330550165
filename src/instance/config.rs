//! The configuration: one commented TOML file, `posthouse.toml`, in the instance's directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::policy::Rules;
use crate::smtp::server::Limits as SmtpLimits;
use crate::vfs::Fs;

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `smtp`: mail from other servers, STARTTLS offered.
    Smtp,
    /// `submission`: mail from users' programs, STARTTLS offered.
    Submission,
    /// `pop3`: POP3, STLS offered.
    Pop3,
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Offered as a command.
    StartTls,
    /// From the first byte (`smtps`, `submissions`, `pop3s`).
    Implicit,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Its name in the file and in messages: `smtp`, `smtps`, `submission`, `submissions`, `pop3`, `pop3s`.
    pub name: &'static str,
    /// What it speaks.
    pub protocol: Protocol,
    /// When TLS begins.
    pub tls: TlsMode,
    /// Where it listens; port 0 means any free one.
    pub address: SocketAddr,
}

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our name (FQDN).
    pub hostname: String,
    /// The listeners.
    pub listeners: Vec<ListenerConfig>,
    /// Certificate chain and private key, PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The rules of policy.
    pub rules: Rules,
    /// Bounds of SMTP sessions.
    pub smtp: SmtpLimits,
    /// Milliseconds that a graceful stop waits for sessions to end.
    pub drain_millis: u64,
}

impl Config {
    /// Reads `posthouse.toml` of an instance. Relative paths in it are relative to the instance.
    ///
    /// # Errors
    /// `Config` with the key and the line.
    pub fn load(fs: &dyn Fs, instance: &Path) -> Result<Config> {
        let _ = (fs, instance);
        todo!()
    }
}

/// Parses a listener as on the command line: `smtp=127.0.0.1:2525`.
pub fn parse_listener(text: &str) -> Result<ListenerConfig> {
    let _ = text;
    todo!()
}
