//! Accounts: who has mailboxes here and may log in.

use std::sync::Arc;

use super::boundary::{DONE, Exclusive, clear, give, take};
use super::bytes::{self, ph_bytes};
use super::cursor::{self, Cursor};
use super::engine::{self, ph_engine};
use super::record::{self, Record};
use super::status::{ph_error, ph_status};
use crate::directory::{Account, NewAccount};
use crate::error::Result;

/// Goes through accounts. Made by ph_account_list, ended by ph_account_free.
pub struct ph_account_cursor(Exclusive<Cursor<Arc<Account>>>);

/// What to make an account of. Begin with PH_ACCOUNT_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_account_options {
    /// sizeof(ph_account_options).
    pub struct_size: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Its addresses, at least one; the first is the primary one. Their domains must be domains of the instance.
    pub addresses: *const ph_bytes,
    /// How many.
    pub address_count: usize,
    /// The login name; empty: the primary address.
    pub login: ph_bytes,
    /// The password in clear: at least 8 characters, no white space in front. Kept as an Argon2id hash only.
    pub password: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_account_options {
    const NAME: &'static str = "ph_account_options";
    const FIRST: usize = size_of::<ph_account_options>();
}

/// Which accounts to list. Begin with PH_ACCOUNT_FILTER_INIT; zero means no restriction everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_account_filter {
    /// sizeof(ph_account_filter).
    pub struct_size: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Only accounts with an address of this domain.
    pub domain: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_account_filter {
    const NAME: &'static str = "ph_account_filter";
    const FIRST: usize = size_of::<ph_account_filter>();
}

/// An account. Begin with PH_ACCOUNT_ROW_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_account_row {
    /// sizeof(ph_account_row).
    pub struct_size: u32,
    /// Its number, given once and never again.
    pub account: u32,
    /// The login name.
    pub login: ph_bytes,
    /// Its addresses; the first is the primary one.
    pub addresses: *const ph_bytes,
    /// How many.
    pub address_count: usize,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_account_row {
    const NAME: &'static str = "ph_account_row";
    const FIRST: usize = size_of::<ph_account_row>();
}

/// Makes an account with its INBOX.
///
/// Behaviour: durable when it returns. Takes a noticeable time on purpose: the password is hashed.
/// Parameters: engine; options; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_EXISTS when an address or the login name is taken; PH_E_ADDRESS; PH_E_NOT_FOUND or PH_E_INVALID_ARGUMENT when a
/// domain is not one of the instance; PH_E_PASSWORD; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_READ_ONLY,
/// PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_account_add(
    engine: *mut ph_engine,
    options: *const ph_account_options,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            let options = record::read(options)?;
            record::unused(options.reserved, "ph_account_options.reserved")?;
            let login = options.login.text("login")?;
            let new = NewAccount {
                addresses: bytes::slice(options.addresses, options.address_count, "addresses")?
                    .iter()
                    .map(|one| Ok(one.text("addresses")?.to_owned()))
                    .collect::<Result<Vec<_>>>()?,
                login: (!login.is_empty()).then(|| login.to_owned()),
                password: options.password.text("password")?.to_owned(),
            };
            engine::with(engine, |engine| engine.account_add(&new))?;
        }
        DONE
    })
}

/// Removes an account and its mail.
///
/// Behaviour: durable when it returns. The account of postmaster stays.
/// Parameters: engine; address, any address of the account; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_NOT_FOUND; PH_E_REFUSED for postmaster; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_READ_ONLY, PH_E_UTF8,
/// PH_E_NULL.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_account_remove(
    engine: *mut ph_engine,
    address: ph_bytes,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            let address = address.text("address")?;
            engine::with(engine, |engine| engine.account_remove(address))?;
        }
        DONE
    })
}

/// Sets an account's password.
///
/// Behaviour: durable when it returns. Takes a noticeable time on purpose: the password is hashed. Sessions that are
/// logged in stay so.
/// Parameters: engine; address, any address of the account; password, in clear, at least 8 characters, no white
/// space in front; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_NOT_FOUND, PH_E_PASSWORD; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_READ_ONLY, PH_E_UTF8, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_account_set_password(
    engine: *mut ph_engine,
    address: ph_bytes,
    password: ph_bytes,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            let (address, password) = (address.text("address")?, password.text("password")?);
            engine::with(engine, |engine| engine.account_set_password(address, password))?;
        }
        DONE
    })
}

/// Lists accounts.
///
/// Behaviour: the list is as it is at this moment, sorted by primary address.
/// Parameters: engine; filter, or NULL for all; out, where the cursor goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
/// Ownership: the cursor is the caller's, to be ended by ph_account_free, before or after ph_engine_close.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_account_list(
    engine: *mut ph_engine,
    filter: *const ph_account_filter,
    out: *mut *mut ph_account_cursor,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let filter = record::read_optional(filter)?;
            let domain = match &filter {
                Some(filter) => {
                    record::unused(filter.reserved, "ph_account_filter.reserved")?;
                    filter.domain.text("domain")?
                }
                None => "",
            };
            let shared = engine::share(engine)?;
            let mut rows = shared.enter()?.0.accounts()?;
            rows.retain(|account| account.addresses.iter().any(|a| cursor::is_of(a, domain)));
            give(out, ph_account_cursor(Exclusive::new(Cursor::whole(shared, rows))));
        }
        DONE
    })
}

/// Goes to the next row.
///
/// Behaviour: sorted by primary address.
/// Parameters: cursor; row, with struct_size set; err, or NULL.
/// Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an error.
/// Errors: PH_E_STOPPED, PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY, PH_E_NULL.
/// Ownership: what row points to is borrowed until the next call on the cursor.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_account_next(
    cursor: *mut ph_account_cursor,
    row: *mut ph_account_row,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            cursor::next(cursor.as_ref().map(|c| &c.0), row, |account, cursor| ph_account_row {
                struct_size: 0,
                account: account.id.0,
                login: ph_bytes::new(account.login.as_bytes()),
                addresses: cursor.view(account.addresses.iter().map(String::as_bytes)),
                address_count: account.addresses.len(),
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
pub unsafe extern "C" fn ph_account_free(cursor: *mut ph_account_cursor) {
    boundary!(or () => {
        // SAFETY: a cursor of ph_account_list, and the last call on it.
        drop(unsafe { take(cursor) });
    })
}
