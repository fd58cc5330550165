//! Which version of the library is loaded, and which of the ABI.

use std::ffi::{CStr, c_char};

/// The ABI that this header describes. A library of a higher level has everything of the lower ones.
pub const PH_ABI_LEVEL: u32 = 1;

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    };

/// Says which version is loaded, as a text.
///
/// Behaviour: for instance "0.1.0". May differ from PH_VERSION, which is the version that the host was compiled
/// against.
/// Returns: a NUL-terminated static text, never NULL.
/// Ownership: the text belongs to the library and lives as long as it is loaded.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ph_version_str() -> *const c_char {
    boundary!(or c"".as_ptr() => { VERSION.as_ptr() })
}

/// Says which version is loaded, as a number that can be compared.
///
/// Behaviour: major * 1000000 + minor * 1000 + patch, so 0.1.0 is 1000.
/// Returns: the number.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ph_version() -> u32 {
    boundary!(or 0 => {
        [env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")]
            .iter()
            .fold(0, |number, part| number * 1000 + part.parse::<u32>().unwrap_or(0))
    })
}

/// Says which level of the ABI is loaded.
///
/// Behaviour: a host that was compiled with PH_ABI_LEVEL n runs with every library that answers n or more.
/// Returns: the level.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ph_abi_level() -> u32 {
    boundary!(or 0 => { PH_ABI_LEVEL })
}
