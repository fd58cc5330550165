//! Results: `ph_status`, `ph_error`, and the words for a number.

use std::ffi::c_char;

use super::record::{Record, struct_size, write};
use crate::error::{Error, Kind};

/// The result of a call: PH_OK (0), PH_END (1) from a cursor without a next row, or a negative number, one of
/// the constants PH_E_... Numbers are grouped by hundreds and never get another meaning.
pub type ph_status = i32;

/// The call did what it says.
pub const PH_OK: i32 = 0;

/// A cursor has no next row. Not an error.
pub const PH_END: i32 = 1;

/// Octets of ph_error.message, the NUL at its end included.
pub const PH_ERROR_MESSAGE_SIZE: usize = 256;

/// What went wrong, in a place that the caller owns: works in constructors, on every thread, and where
/// threads are not the system's own.
///
/// Begin with PH_ERROR_INIT. Every function with a ph_error parameter accepts NULL there. After success code
/// is 0 and message is empty.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_error {
    /// sizeof(ph_error), set by the caller.
    pub struct_size: u32,
    /// The number that the function returned.
    pub code: ph_status,
    /// The operating system's error number (errno, or GetLastError), 0 when there was none.
    pub os_error: i32,
    /// The SMTP reply code that a server would give for this error, 0 when none fits.
    pub smtp_code: i32,
    /// One line of UTF-8 that names the object (the path, the address, the listener), without a line end,
    /// with a NUL behind it, cut between two characters when it is too long.
    pub message: [c_char; PH_ERROR_MESSAGE_SIZE],
}

// SAFETY: repr(C), begins with the u32 `struct_size`, integers only.
unsafe impl Record for ph_error {
    const NAME: &'static str = "ph_error";
    const FIRST: usize = size_of::<ph_error>();
}

/// Writes what became of a call where the host wants to read it. A `ph_error` without a usable
/// `struct_size` is left alone: there is nobody to tell.
///
/// # Safety
/// `place` is NULL or a writable `ph_error` whose `struct_size` tells its size.
pub(super) unsafe fn report(place: *mut ph_error, error: Option<&Error>) {
    if place.is_null() {
        return;
    }
    let mut message = [0; PH_ERROR_MESSAGE_SIZE];
    let (mut code, mut os_error, mut smtp_code) = (PH_OK, 0, 0);
    if let Some(error) = error {
        code = error.kind().code();
        os_error = error.os_error().unwrap_or(0);
        smtp_code = smtp_code_of(error.kind());
        let text = error.message();
        let end = text.floor_char_boundary(PH_ERROR_MESSAGE_SIZE - 1);
        for (to, from) in message.iter_mut().zip(text.as_bytes().iter().take(end)) {
            // A NUL or a line end inside would break the promise of one whole line.
            *to = if from.is_ascii_control() { b' ' } else { *from } as c_char;
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        if let Ok(size) = struct_size(place) {
            let _ =
                write(place, ph_error { struct_size: size, code, os_error, smtp_code, message });
        }
    }
}

/// The reply that fits a kind when a host answers SMTP by itself.
fn smtp_code_of(kind: Kind) -> i32 {
    match kind {
        Kind::Refused | Kind::NotFound => 550,
        Kind::Address => 553,
        Kind::Limit | Kind::DiskFull => 452,
        Kind::Credentials => 535,
        Kind::Protocol => 500,
        Kind::Io | Kind::ReadOnly | Kind::Corrupt | Kind::Internal => 451,
        Kind::Stopped => 421,
        _ => 0,
    }
}

/// Says in English what a status means.
///
/// Behaviour: answers a short static text without an object's name, for instance "the address is in use".
/// For a number that this library does not know the text says so.
/// Parameters: status, any number.
/// Returns: a NUL-terminated static text, never NULL.
/// Ownership: the text belongs to the library and lives as long as it is loaded.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ph_status_str(status: ph_status) -> *const c_char {
    boundary!(or c"internal error".as_ptr() => {
        match status {
            PH_OK => c"success".as_ptr(),
            PH_END => c"no more rows".as_ptr(),
            _ => Kind::from_code(status).map_or(c"unknown status".as_ptr(), |kind| kind.c_text().as_ptr()),
        }
    })
}
