//! Errors: one type, one table of kinds, one stable number for each.
//!
//! Every fallible function of the crate answers [`Error`]: a [`Kind`] that programs act on and one
//! line of text that a person acts on. The text names the object (the path, the address, the
//! listener) and carries the system's own words where there are any. Expected outcomes (a refused
//! recipient, a mailbox that has no messages) are values or events, never errors.
//!
//! The numbers are the C ABI's `ph_status`: negative, grouped by hundreds (1xx misuse, 2xx operating
//! system, 3xx storage, 4xx protocol, 5xx TLS, 6xx DNS, 7xx limits and policy, 8xx lifecycle, 9xx
//! internal), never reused for another meaning.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::Path;

/// Result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

macro_rules! kinds {
    ($( $(#[$doc:meta])* $name:ident = $code:literal, $constant:literal, $text:literal; )*) => {
        /// What went wrong, as a program sees it. The number is stable for ever.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        #[non_exhaustive]
        pub enum Kind { $( $(#[$doc])* $name = $code, )* }

        impl Kind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Kind] = &[ $( Kind::$name, )* ];

            /// The stable number: the value of `ph_status`.
            pub const fn code(self) -> i32 { self as i32 }

            /// The kind with this number.
            pub const fn from_code(code: i32) -> Option<Kind> {
                match code { $( $code => Some(Kind::$name), )* _ => None }
            }

            /// The name of the constant in the C header, for instance `PH_E_IO`.
            pub const fn constant(self) -> &'static str {
                match self { $( Kind::$name => $constant, )* }
            }

            /// A short description in English, without the object's name.
            pub const fn text(self) -> &'static str {
                match self { $( Kind::$name => $text, )* }
            }

            /// [`Kind::text`] with a NUL behind it, for C.
            pub(crate) fn c_text(self) -> &'static std::ffi::CStr {
                let text = match self { $( Kind::$name => concat!($text, "\0"), )* };
                std::ffi::CStr::from_bytes_with_nul(text.as_bytes()).unwrap_or(c"")
            }
        }
    };
}

kinds! {
    /// An argument has a value that the function does not accept.
    InvalidArgument = -101, "PH_E_INVALID_ARGUMENT", "invalid argument";
    /// A pointer that must not be NULL is NULL.
    Null = -102, "PH_E_NULL", "a required pointer is NULL";
    /// `struct_size` is not one this library knows, or an unknown tail is not zero.
    StructSize = -103, "PH_E_STRUCT_SIZE", "struct_size is not set or unknown fields are not zero";
    /// A callback called back into the handle that is calling it.
    Reentrant = -104, "PH_E_REENTRANT", "call into a handle from inside its own callback";
    /// Another thread is inside a call on this one-at-a-time handle.
    Busy = -105, "PH_E_BUSY", "the handle is in use by another call";
    /// The call does not fit the state of the object.
    State = -106, "PH_E_STATE", "the call does not fit the state of the object";
    /// Text that must be UTF-8 is not.
    Utf8 = -107, "PH_E_UTF8", "text is not valid UTF-8";
    /// The caller's buffer is too small; the needed size is reported.
    BufferTooSmall = -108, "PH_E_BUFFER_TOO_SMALL", "the buffer is too small";
    /// The named object (account, alias, mailbox, message) does not exist.
    NotFound = -109, "PH_E_NOT_FOUND", "no such object";
    /// The named object exists already.
    Exists = -110, "PH_E_EXISTS", "the object exists already";
    /// The operating system reported an error.
    Io = -201, "PH_E_IO", "input/output error";
    /// A path does not exist.
    PathNotFound = -202, "PH_E_PATH_NOT_FOUND", "no such file or directory";
    /// The operating system denied access.
    Permission = -203, "PH_E_PERMISSION", "permission denied";
    /// A listener's address is in use by another socket.
    AddressInUse = -204, "PH_E_ADDRESS_IN_USE", "the address is in use";
    /// A listener's address is not one of this machine, or cannot be parsed.
    AddressInvalid = -205, "PH_E_ADDRESS_INVALID", "the address is not valid here";
    /// The file system is full, or nearly so.
    DiskFull = -206, "PH_E_DISK_FULL", "no space left on the device";
    /// Another process, or another engine of this process, has the instance open.
    Locked = -301, "PH_E_LOCKED", "the instance is in use";
    /// Stored data failed its checksum or its grammar.
    Corrupt = -302, "PH_E_CORRUPT", "stored data is damaged";
    /// The instance was written by a newer version than this one can read.
    FormatNewer = -303, "PH_E_FORMAT_NEWER", "the instance has a newer format";
    /// The store, or a lane of it, is read-only after a write error.
    ReadOnly = -304, "PH_E_READ_ONLY", "the store is read-only";
    /// The directory holds no instance.
    NotAnInstance = -305, "PH_E_NOT_AN_INSTANCE", "no instance in this directory";
    /// The index is being repaired; the call can be made again later.
    Rebuilding = -306, "PH_E_REBUILDING", "the index is being repaired, try again later";
    /// The peer, or the caller of a session, broke the protocol.
    Protocol = -401, "PH_E_PROTOCOL", "protocol error";
    /// A certificate cannot be read or used.
    Certificate = -501, "PH_E_CERTIFICATE", "the certificate cannot be used";
    /// A private key cannot be read or does not fit its certificate.
    PrivateKey = -502, "PH_E_PRIVATE_KEY", "the private key cannot be used";
    /// The TLS layer failed.
    Tls = -503, "PH_E_TLS", "TLS error";
    /// A named limit was reached.
    Limit = -701, "PH_E_LIMIT", "a limit was reached";
    /// Policy refuses the request.
    Refused = -702, "PH_E_REFUSED", "refused by policy";
    /// A login name or password is wrong.
    Credentials = -703, "PH_E_CREDENTIALS", "wrong login name or password";
    /// A new password does not meet the rules.
    Password = -704, "PH_E_PASSWORD", "the password does not meet the rules";
    /// An address does not have the form of a mail address.
    Address = -705, "PH_E_ADDRESS", "not a mail address";
    /// The configuration has an error.
    Config = -801, "PH_E_CONFIG", "configuration error";
    /// The engine is stopping or stopped.
    Stopped = -802, "PH_E_STOPPED", "the engine is stopped";
    /// A defect of this library; the handle is unusable except for closing it.
    Internal = -901, "PH_E_INTERNAL", "internal error";
}

/// An error: a [`Kind`], one line of text, and the operating system's number where there is one.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: Cow<'static, str>,
    os: Option<i32>,
}

impl Error {
    /// An error with this kind and text. The text is one line and names the object.
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Error {
        Error(Box::new(Inner { kind, message: message.into(), os: None }))
    }

    /// An operating system's error, met while doing `what` ("open", "rename") to `path`.
    pub fn io(what: &str, path: &Path, error: &io::Error) -> Error {
        let message = format!("cannot {what} {}: {error}", path.display());
        Error(Box::new(Inner {
            kind: kind_of_io(error),
            message: Cow::Owned(message),
            os: error.raw_os_error(),
        }))
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The line of text.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The operating system's error number, if this error came from there.
    pub fn os_error(&self) -> Option<i32> {
        self.0.os
    }

    /// The same error with `context` and a colon before its text.
    #[must_use]
    pub fn within(mut self, context: impl fmt::Display) -> Error {
        self.0.message = Cow::Owned(format!("{context}: {}", self.0.message));
        self
    }
}

/// The kind that fits an operating system's error.
pub fn kind_of_io(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::NotFound => Kind::PathNotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::Permission,
        io::ErrorKind::AddrInUse => Kind::AddressInUse,
        io::ErrorKind::AddrNotAvailable => Kind::AddressInvalid,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::DiskFull,
        io::ErrorKind::AlreadyExists => Kind::Exists,
        _ => Kind::Io,
    }
}

impl Clone for Error {
    fn clone(&self) -> Self {
        Error(Box::new(Inner { kind: self.0.kind, message: self.0.message.clone(), os: self.0.os }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}, {})", self.0.message, self.0.kind, self.0.kind.code())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_found_again() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(*kind));
            assert!(kind.constant().starts_with("PH_E_"));
        }
        assert_eq!(Kind::from_code(0), None);
    }

    #[test]
    fn an_io_error_names_the_path_and_keeps_the_number() {
        let error = Error::io("open", Path::new("/x/y"), &io::Error::from_raw_os_error(2));
        assert!(error.message().starts_with("cannot open /x/y: "), "{error}");
        assert_eq!(error.os_error(), Some(2));
        assert_eq!(error.kind(), Kind::PathNotFound);
    }
}
