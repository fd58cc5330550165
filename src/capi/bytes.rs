//! Octets and text across the boundary.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use super::boundary::null;
use crate::error::{Error, Kind, Result};

/// Octets with their length: everything that comes from the wire or goes there, and every text that a NUL must
/// not cut short (addresses, names, passwords).
///
/// Nothing says that a NUL follows the last octet. When len is 0, data may be NULL on the way in, and is
/// never NULL on the way out. What a ph_bytes of the library points to is borrowed; each function and struct says
/// for how long.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ph_bytes {
    /// The first octet.
    pub data: *const u8,
    /// How many.
    pub len: usize,
}

/// Makes a ph_bytes of a C string.
///
/// Behaviour: the octets of text up to its NUL, which is not counted. Copies nothing.
/// Parameters: text, a NUL-terminated string, or NULL for no octets.
/// Returns: a view of the string.
/// Ownership: the string stays the caller's, and must live as long as the view is used.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_bytes_of(text: *const c_char) -> ph_bytes {
    boundary!(or ph_bytes::EMPTY => {
        if text.is_null() {
            return ph_bytes::EMPTY;
        }
        // SAFETY: the caller's promise: a NUL-terminated string.
        ph_bytes::new(unsafe { CStr::from_ptr(text) }.to_bytes())
    })
}

impl ph_bytes {
    /// No octets, with a pointer that may be given to `memcpy`.
    pub(super) const EMPTY: ph_bytes = ph_bytes { data: c"".as_ptr().cast(), len: 0 };

    /// A view for C. Whoever hands it out documents its life.
    pub(super) fn new(octets: &[u8]) -> ph_bytes {
        if octets.is_empty() {
            return ph_bytes::EMPTY;
        }
        ph_bytes { data: octets.as_ptr(), len: octets.len() }
    }

    /// The octets that C gave.
    ///
    /// # Safety
    /// `data` is NULL or points to `len` octets that nobody changes during `'a`.
    pub(super) unsafe fn octets<'a>(self, name: &str) -> Result<&'a [u8]> {
        // SAFETY: the caller's promise.
        unsafe { slice(self.data, self.len, name) }
    }

    /// The text that C gave.
    ///
    /// # Safety
    /// As for [`ph_bytes::octets`].
    pub(super) unsafe fn text<'a>(self, name: &str) -> Result<&'a str> {
        // SAFETY: the caller's promise.
        let octets = unsafe { self.octets(name) }?;
        std::str::from_utf8(octets)
            .map_err(|_| Error::new(Kind::Utf8, format!("{name} is not valid UTF-8")))
    }
}

/// An array that C gave.
///
/// # Safety
/// `first` is NULL or points to `count` values that nobody changes during `'a`.
pub(super) unsafe fn slice<'a, T>(first: *const T, count: usize, name: &str) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if first.is_null() {
        return Err(null(name));
    }
    let size = count.checked_mul(size_of::<T>());
    if size.is_none_or(|size| isize::try_from(size).is_err()) || !first.is_aligned() {
        return Err(Error::new(Kind::InvalidArgument, format!("{name} cannot be an array")));
    }
    // SAFETY: the caller's promise; not NULL, aligned, and its size fits.
    Ok(unsafe { std::slice::from_raw_parts(first, count) })
}

/// A NUL-terminated text that C gave; NULL is an error.
///
/// # Safety
/// `text` is NULL or a NUL-terminated string that nobody changes during `'a`.
pub(super) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    if text.is_null() {
        return Err(null(name));
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }
        .to_str()
        .map_err(|_| Error::new(Kind::Utf8, format!("{name} is not valid UTF-8")))
}

/// A path that C gave: UTF-8 on every system; NULL and the empty string are errors.
///
/// # Safety
/// As for [`text`].
pub(super) unsafe fn path(path: *const c_char, name: &str) -> Result<PathBuf> {
    // SAFETY: the caller's promise.
    let path = unsafe { text(path, name) }?;
    if path.is_empty() {
        return Err(Error::new(Kind::InvalidArgument, format!("{name} is empty")));
    }
    Ok(PathBuf::from(path))
}

/// An array of NUL-terminated texts that C gave.
///
/// # Safety
/// `first` is NULL or points to `count` pointers, each as for [`text`].
pub(super) unsafe fn texts<'a>(
    first: *const *const c_char,
    count: usize,
    name: &str,
) -> Result<Vec<&'a str>> {
    // SAFETY: the caller's promise.
    unsafe { slice(first, count, name) }?
        .iter()
        // SAFETY: the caller's promise, for each.
        .map(|one| unsafe { text(*one, name) })
        .collect()
}

/// A host name that C gave for a greeting: it must fit on a line of the wire.
///
/// # Safety
/// As for [`text`].
pub(super) unsafe fn host_name(name: *const c_char, what: &str) -> Result<String> {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name, what) }?;
    let plain = |b: u8| b.is_ascii_graphic();
    if name.is_empty() || name.len() > 255 || !name.bytes().all(plain) {
        return Err(Error::new(Kind::InvalidArgument, format!("{what} is not a host name")));
    }
    Ok(name.to_owned())
}
