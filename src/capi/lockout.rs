//! Who is locked out after failed logins.

use super::boundary::{DONE, Exclusive, clear, give, take};
use super::bytes::ph_bytes;
use super::cursor::{self, Cursor};
use super::engine::{self, ph_engine};
use super::record::Record;
use super::status::{ph_error, ph_status};
use crate::policy::defence::{Locked, Lockout};

/// A host is locked out, with every login name.
pub const PH_LOCKOUT_HOST: u32 = 1;
/// A login name is locked, for hosts from which it has not logged in before.
pub const PH_LOCKOUT_LOGIN: u32 = 2;

/// Goes through lock-outs. Made by ph_lockout_list, ended by ph_lockout_free.
pub struct ph_lockout_cursor(Exclusive<Cursor<Lockout>>);

/// A lock-out that holds. Begin with PH_LOCKOUT_ROW_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_lockout_row {
    /// sizeof(ph_lockout_row).
    pub struct_size: u32,
    /// PH_LOCKOUT_HOST or PH_LOCKOUT_LOGIN.
    pub what: u32,
    /// The host's address (of IPv6 the first of its network), or the login name as it was tried: any UTF-8.
    pub whom: ph_bytes,
    /// Milliseconds until it ends; 0: not before ph_unlock.
    pub left_ms: u64,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_lockout_row {
    const NAME: &'static str = "ph_lockout_row";
    const FIRST: usize = size_of::<ph_lockout_row>();
}

/// Lists who is locked out after failed logins.
///
/// Behaviour: the list is as it is at this moment, at most 10,000 rows. Lock-outs end when the engine is closed.
/// Parameters: engine; out, where the cursor goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_NULL.
/// Ownership: the cursor is the caller's, to be ended by ph_lockout_free, before or after ph_engine_close.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_lockout_list(
    engine: *mut ph_engine,
    out: *mut *mut ph_lockout_cursor,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let shared = engine::share(engine)?;
            let rows = shared.enter()?.0.lockouts()?;
            give(out, ph_lockout_cursor(Exclusive::new(Cursor::whole(shared, rows))));
        }
        DONE
    })
}

/// Goes to the next row.
///
/// Behaviour: hosts first, then login names, each sorted.
/// Parameters: cursor; row, with struct_size set; err, or NULL.
/// Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY, PH_E_NULL.
/// Ownership: what row points to is borrowed until the next call on the cursor.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_lockout_next(
    cursor: *mut ph_lockout_cursor,
    row: *mut ph_lockout_row,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            cursor::next(cursor.as_ref().map(|c| &c.0), row, |lockout, _| ph_lockout_row {
                struct_size: 0,
                what: match lockout.locked {
                    Locked::Host => PH_LOCKOUT_HOST,
                    Locked::Name => PH_LOCKOUT_LOGIN,
                },
                whom: ph_bytes::new(lockout.whom.as_bytes()),
                // One that ends this very moment has not ended.
                left_ms: lockout.left_millis.map_or(0, |millis| millis.max(1)),
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
pub unsafe extern "C" fn ph_lockout_free(cursor: *mut ph_lockout_cursor) {
    boundary!(or () => {
        // SAFETY: a cursor of ph_lockout_list, and the last call on it.
        drop(unsafe { take(cursor) });
    })
}

/// Ends the lock-out of a host or of a login name.
///
/// Behaviour: failures that were counted against it so far are forgotten too, so it may be called before a lock-out begins.
/// Parameters: engine; whom, any address of the host, or the login name; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_NOT_FOUND: no failed logins are held against it; PH_E_UTF8, PH_E_STOPPED, PH_E_REENTRANT, PH_E_NULL.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_unlock(
    engine: *mut ph_engine,
    whom: ph_bytes,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            let whom = whom.text("whom")?;
            engine::with(engine, |engine| engine.unlock(whom))?;
        }
        DONE
    })
}
