//! Structs that say how large they are, and so can grow.
//!
//! Host and library may know different versions of a struct. The first field tells the host's size.
//! In: what the host's version lacks reads as zero, which always means the default; what this library does not know
//! must be zero, or the host asks for something that would be silently ignored. Out: the library writes at
//! most what the host has room for, and sets what it does not know to zero.

use std::ptr;

use super::boundary::null;
use crate::error::{Error, Kind, Result};

/// The largest `struct_size` that is believed. A larger one is memory that nobody has set.
const LARGEST: u32 = 64 << 10;

/// A struct that crosses the boundary with its size in front.
///
/// # Safety
/// `repr(C)`, the first field is the `u32` named `struct_size`, and every pattern of bits is a value (integers, raw pointers,
/// optional function pointers).
pub(super) unsafe trait Record: Copy {
    /// The name in C, for messages.
    const NAME: &'static str;
    /// The size in the version that brought it: no host has a smaller one.
    const FIRST: usize;
}

/// The size that the host gave, if it can be one.
///
/// # Safety
/// `place` points to a `T` whose `struct_size` can be read.
pub(super) unsafe fn struct_size<T: Record>(place: *const T) -> Result<u32> {
    // SAFETY: the caller's promise; the field is the first one (promise of `Record`).
    let size = unsafe { place.cast::<u32>().read_unaligned() };
    if (size as usize) < T::FIRST || size > LARGEST {
        return Err(Error::new(
            Kind::StructSize,
            format!("struct_size of {} is {size}; start with its _INIT macro", T::NAME),
        ));
    }
    Ok(size)
}

/// Takes a struct in.
///
/// # Safety
/// `place` is NULL or points to as many readable octets as its `struct_size` says.
pub(super) unsafe fn read<T: Record>(place: *const T) -> Result<T> {
    if place.is_null() {
        return Err(null(T::NAME));
    }
    // SAFETY: the caller's promise for reading; every pattern of bits is a `T`, all zero too (promise of `Record`).
    unsafe {
        let size = struct_size(place)? as usize;
        let known = size.min(size_of::<T>());
        let mut value = std::mem::MaybeUninit::<T>::zeroed();
        ptr::copy_nonoverlapping(place.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known);
        let tail = std::slice::from_raw_parts(place.cast::<u8>().add(known), size - known);
        if tail.iter().any(|octet| *octet != 0) {
            return Err(Error::new(
                Kind::StructSize,
                format!("{} has a field set that this version does not know", T::NAME),
            ));
        }
        Ok(value.assume_init())
    }
}

/// Takes a struct in, or `None` for NULL, which means all defaults.
///
/// # Safety
/// As for [`read`].
pub(super) unsafe fn read_optional<T: Record>(place: *const T) -> Result<Option<T>> {
    if place.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { read(place) }.map(Some)
}

/// Checks a field that has no meaning yet: what it holds must be zero, or it would be silently ignored.
pub(super) fn unused(value: u32, name: &str) -> Result<()> {
    match value {
        0 => Ok(()),
        _ => Err(Error::new(Kind::StructSize, format!("{name} is not 0"))),
    }
}

/// Checks that a struct can be written, so that a call can refuse it before it does anything.
///
/// # Safety
/// `place` is NULL or points to as many octets as its `struct_size` says.
pub(super) unsafe fn check_out<T: Record>(place: *const T) -> Result<()> {
    if place.is_null() {
        return Err(null(T::NAME));
    }
    // SAFETY: the caller's promise.
    unsafe { struct_size(place) }.map(drop)
}

/// Gives a struct out: all but `struct_size`, which stays the host's.
///
/// # Safety
/// `place` is NULL or points to as many writable octets as its `struct_size` says.
pub(super) unsafe fn write<T: Record>(place: *mut T, value: T) -> Result<()> {
    if place.is_null() {
        return Err(null(T::NAME));
    }
    // SAFETY: the caller's promise for writing; `known` stays inside `value`, and behind `size_of::<u32>()`
    // there is at least one field, or there is nothing to copy.
    unsafe {
        let size = struct_size(place)? as usize;
        let known = size.min(size_of::<T>());
        let head = size_of::<u32>();
        let to = place.cast::<u8>();
        let from = (&raw const value).cast::<u8>();
        ptr::copy_nonoverlapping(from.add(head), to.add(head), known.saturating_sub(head));
        ptr::write_bytes(to.add(known), 0, size - known);
    }
    Ok(())
}
