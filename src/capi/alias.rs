//! Aliases: addresses whose mail goes to other addresses.

use super::boundary::{DONE, Exclusive, clear, give, take};
use super::bytes::{self, ph_bytes};
use super::cursor::{self, Cursor};
use super::engine::{self, ph_engine};
use super::record::{self, Record};
use super::status::{ph_error, ph_status};
use crate::directory::Alias;
use crate::error::Result;

/// Goes through aliases. Made by ph_alias_list, ended by ph_alias_free.
pub struct ph_alias_cursor(Exclusive<Cursor<Alias>>);

/// Which aliases to list. Begin with PH_ALIAS_FILTER_INIT; zero means no restriction everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_alias_filter {
    /// sizeof(ph_alias_filter).
    pub struct_size: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Only aliases of this domain.
    pub domain: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_alias_filter {
    const NAME: &'static str = "ph_alias_filter";
    const FIRST: usize = size_of::<ph_alias_filter>();
}

/// An alias. Begin with PH_ALIAS_ROW_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_alias_row {
    /// sizeof(ph_alias_row).
    pub struct_size: u32,
    /// Always 0.
    pub reserved: u32,
    /// The address.
    pub address: ph_bytes,
    /// Where its mail goes.
    pub targets: *const ph_bytes,
    /// How many.
    pub target_count: usize,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_alias_row {
    const NAME: &'static str = "ph_alias_row";
    const FIRST: usize = size_of::<ph_alias_row>();
}

/// Adds an alias: mail for address goes to targets.
///
/// Behaviour: durable when it returns.
/// Parameters: engine; address, whose domain must be one of the instance; targets, an array of target_count addresses
/// here or elsewhere, at least one; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_EXISTS when an account or alias has the address; PH_E_ADDRESS; PH_E_REFUSED or PH_E_INVALID_ARGUMENT for a loop or a
/// foreign domain; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_READ_ONLY, PH_E_UTF8, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_alias_add(
    engine: *mut ph_engine,
    address: ph_bytes,
    targets: *const ph_bytes,
    target_count: usize,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            let alias = Alias {
                address: address.text("address")?.to_owned(),
                targets: bytes::slice(targets, target_count, "targets")?
                    .iter()
                    .map(|one| Ok(one.text("targets")?.to_owned()))
                    .collect::<Result<Vec<_>>>()?,
            };
            engine::with(engine, |engine| engine.alias_add(&alias))?;
        }
        DONE
    })
}

/// Removes an alias.
///
/// Behaviour: durable when it returns.
/// Parameters: engine; address, the alias's; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_NOT_FOUND; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_READ_ONLY, PH_E_UTF8, PH_E_NULL.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_alias_remove(
    engine: *mut ph_engine,
    address: ph_bytes,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            let address = address.text("address")?;
            engine::with(engine, |engine| engine.alias_remove(address))?;
        }
        DONE
    })
}

/// Lists aliases.
///
/// Behaviour: the list is as it is at this moment, sorted by address.
/// Parameters: engine; filter, or NULL for all; out, where the cursor goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
/// Ownership: the cursor is the caller's, to be ended by ph_alias_free, before or after ph_engine_close.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_alias_list(
    engine: *mut ph_engine,
    filter: *const ph_alias_filter,
    out: *mut *mut ph_alias_cursor,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let filter = record::read_optional(filter)?;
            let domain = match &filter {
                Some(filter) => {
                    record::unused(filter.reserved, "ph_alias_filter.reserved")?;
                    filter.domain.text("domain")?
                }
                None => "",
            };
            let shared = engine::share(engine)?;
            let mut rows = shared.enter()?.0.aliases()?;
            rows.retain(|alias| cursor::is_of(&alias.address, domain));
            give(out, ph_alias_cursor(Exclusive::new(Cursor::whole(shared, rows))));
        }
        DONE
    })
}

/// Goes to the next row.
///
/// Behaviour: sorted by address.
/// Parameters: cursor; row, with struct_size set; err, or NULL.
/// Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an error.
/// Errors: PH_E_STOPPED, PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY, PH_E_NULL.
/// Ownership: what row points to is borrowed until the next call on the cursor.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_alias_next(
    cursor: *mut ph_alias_cursor,
    row: *mut ph_alias_row,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            cursor::next(cursor.as_ref().map(|c| &c.0), row, |alias, cursor| ph_alias_row {
                struct_size: 0,
                reserved: 0,
                address: ph_bytes::new(alias.address.as_bytes()),
                targets: cursor.view(alias.targets.iter().map(String::as_bytes)),
                target_count: alias.targets.len(),
            })
        }
    })
}

/// Destroys a cursor.
///
/// Parameters: cursor, or NULL, which does nothing.
/// Ownership: ends the cursor and what its last row pointed to.
/// Thread: any thread, when no other call on the cursor runs.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_alias_free(cursor: *mut ph_alias_cursor) {
    boundary!(or () => {
        // SAFETY: a cursor of ph_alias_list, and the last call on it.
        drop(unsafe { take(cursor) });
    })
}
