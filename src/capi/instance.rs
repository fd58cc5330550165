//! Making an instance.

use std::ffi::c_char;
use std::sync::Arc;

use super::boundary::DONE;
use super::bytes::{self, ph_bytes};
use super::record::{self, Record};
use super::status::{ph_error, ph_status};
use crate::error::{Error, Kind, Result};
use crate::instance::{Setup, TlsSetup, config, setup};
use crate::time::SystemClock;
use crate::vfs::Fs;

/// TLS of a new instance: none.
pub const PH_TLS_NONE: u32 = 0;
/// TLS of a new instance: certificate_file and key_file are checked and copied into it.
pub const PH_TLS_FILES: u32 = 1;
/// TLS of a new instance: a self-signed certificate for the host name is made.
pub const PH_TLS_SELF_SIGNED: u32 = 2;

/// What to make an instance of. Begin with PH_SETUP_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_setup_options {
    /// sizeof(ph_setup_options).
    pub struct_size: u32,
    /// PH_TLS_...
    pub tls: u32,
    /// Our name, fully qualified, for instance "mail.example.test". Required.
    pub hostname: *const c_char,
    /// The mail domains, at least one; postmaster is in the first. Required.
    pub domains: *const *const c_char,
    /// How many.
    pub domain_count: usize,
    /// The listeners, each as name=address:port, for instance "smtp=127.0.0.1:2525"; port 0 means any free one. Names:
    /// smtp, smtps, submission, submissions, pop3, pop3s.
    pub listeners: *const *const c_char,
    /// How many.
    pub listener_count: usize,
    /// The password of postmaster: at least 8 characters, no white space in front. Required.
    pub postmaster_password: ph_bytes,
    /// PEM file with the certificate chain, for PH_TLS_FILES.
    pub certificate_file: *const c_char,
    /// PEM file with the private key, for PH_TLS_FILES.
    pub key_file: *const c_char,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_setup_options {
    const NAME: &'static str = "ph_setup_options";
    const FIRST: usize = size_of::<ph_setup_options>();
}

/// Makes an instance on disk.
///
/// Behaviour: everything is checked first, then everything is made. Interrupted at any point it leaves either no instance
/// or a whole one. Opens nothing: see ph_engine_open.
/// Parameters: directory, NUL-terminated UTF-8, must not exist (missing parents are made) or be empty; options; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_EXISTS when an instance is there or the directory holds something else; PH_E_INVALID_ARGUMENT,
/// PH_E_ADDRESS_INVALID, PH_E_PASSWORD, PH_E_CERTIFICATE, PH_E_PRIVATE_KEY, with the field's name in the message; PH_E_PATH_NOT_FOUND,
/// PH_E_PERMISSION, PH_E_DISK_FULL, PH_E_IO; PH_E_STRUCT_SIZE, PH_E_NULL, PH_E_UTF8.
/// Ownership: everything is copied before the call returns.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_instance_setup(
    directory: *const c_char,
    options: *const ph_setup_options,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        let (directory, wanted) = unsafe {
            let directory = bytes::path(directory, "directory")?;
            (directory, wanted(&record::read(options)?)?)
        };
        let fs: Arc<dyn Fs> = Arc::new(crate::vfs::os::OsFs::new());
        setup(&fs, &SystemClock::shared(), &directory, &wanted)?;
        DONE
    })
}

/// Sets a value in an instance's configuration, posthouse.toml.
///
/// Behaviour: every other octet of the file stays as it is, comments included; what changed is on disk when the call returns. It holds
/// from the next ph_engine_open; certificates and a few more from the next ph_engine_reload.
/// Parameters: directory, the instance, NUL-terminated UTF-8; key, dotted, for instance smtp.recipients; value, TOML (500, true,
/// ["10.0.0.0/8"]), where a text may stand without quotes; err, or NULL.
/// Returns: PH_OK or an error, after which the file is as it was.
/// Errors: PH_E_INVALID_ARGUMENT for a key that there is not; PH_E_CONFIG for a value that it cannot have; PH_E_NOT_AN_INSTANCE;
/// PH_E_PERMISSION, PH_E_DISK_FULL, PH_E_IO; PH_E_NULL, PH_E_UTF8.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_instance_set(
    directory: *const c_char,
    key: *const c_char,
    value: *const c_char,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        let (directory, key, value) = unsafe {
            (bytes::path(directory, "directory")?, bytes::text(key, "key")?, bytes::text(value, "value")?)
        };
        config::Config::set(&crate::vfs::os::OsFs::new(), &directory, key, value)?;
        DONE
    })
}

/// # Safety
/// The pointers are as the fields' documentation says.
unsafe fn wanted(options: &ph_setup_options) -> Result<Setup> {
    // SAFETY: the caller's promise.
    unsafe {
        let tls = match options.tls {
            PH_TLS_NONE => TlsSetup::None,
            PH_TLS_FILES => TlsSetup::Files {
                certificate: bytes::path(options.certificate_file, "certificate_file")?,
                key: bytes::path(options.key_file, "key_file")?,
            },
            PH_TLS_SELF_SIGNED => TlsSetup::SelfSigned,
            other => {
                let text =
                    format!("tls is {other}; it is one of PH_TLS_NONE, _FILES, _SELF_SIGNED");
                return Err(Error::new(Kind::InvalidArgument, text));
            }
        };
        let listeners = bytes::texts(options.listeners, options.listener_count, "listeners")?;
        let domains = bytes::texts(options.domains, options.domain_count, "domains")?;
        Ok(Setup {
            hostname: bytes::text(options.hostname, "hostname")?.to_owned(),
            domains: domains.into_iter().map(str::to_owned).collect(),
            postmaster_password: options
                .postmaster_password
                .text("postmaster_password")?
                .to_owned(),
            listeners: listeners
                .into_iter()
                .map(config::parse_listener)
                .collect::<Result<Vec<_>>>()?,
            tls,
            lanes: 0,
        })
    }
}
