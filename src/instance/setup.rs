//! Making an instance: everything validated first, then everything made, the marker last.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::ListenerConfig;
use crate::error::Result;
use crate::time::Clock;
use crate::vfs::Fs;

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
#[derive(Clone, Debug)]
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
}

/// Makes an instance in `directory`, which must not exist or be empty.
///
/// Nothing is made unless everything validates. Interrupted at any point it leaves either no instance or
/// a whole one; what an interrupted set-up left is recognised and cleared by the next one.
pub fn setup(
    fs: &Arc<dyn Fs>,
    clock: &Arc<dyn Clock>,
    directory: &Path,
    setup: &Setup,
) -> Result<()> {
    let _ = (fs, clock, directory, setup);
    todo!()
}
