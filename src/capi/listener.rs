//! The listeners that serve, with their real ports.

use super::boundary::{DONE, Exclusive, clear, give, take};
use super::bytes::ph_bytes;
use super::cursor::{self, Cursor};
use super::engine::{self, ph_engine};
use super::record::Record;
use super::status::{ph_error, ph_status};
use crate::engine::Listening;
use crate::instance::config::ListenAddress;

/// Goes through listeners. Made by ph_listener_list, ended by ph_listener_free.
pub struct ph_listener_cursor(Exclusive<Cursor<Listening>>);

/// A listener that serves. Begin with PH_LISTENER_ROW_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_listener_row {
    /// sizeof(ph_listener_row).
    pub struct_size: u32,
    /// The port that it really has; 0 for a Unix socket.
    pub port: u32,
    /// Its name: smtp, smtps, submission, submissions, lmtp, pop3, pop3s.
    pub name: ph_bytes,
    /// Its address without port, for instance 127.0.0.1 or ::1, or the path of a Unix socket.
    pub address: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_listener_row {
    const NAME: &'static str = "ph_listener_row";
    const FIRST: usize = size_of::<ph_listener_row>();
}

/// Lists the listeners that serve now.
///
/// Behaviour: the list is as it is at this moment; empty when the engine does not serve.
/// Parameters: engine; out, where the cursor goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_REENTRANT, PH_E_NULL.
/// Ownership: the cursor is the caller's, to be ended by ph_listener_free, before or after ph_engine_close.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_listener_list(
    engine: *mut ph_engine,
    out: *mut *mut ph_listener_cursor,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let shared = engine::share(engine)?;
            let rows = shared.enter()?.0.listeners();
            give(out, ph_listener_cursor(Exclusive::new(Cursor::whole(shared, rows))));
        }
        DONE
    })
}

/// Goes to the next row.
///
/// Behaviour: in the order of the configuration.
/// Parameters: cursor; row, with struct_size set; err, or NULL.
/// Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY, PH_E_NULL.
/// Ownership: what row points to is borrowed until the next call on the cursor.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_listener_next(
    cursor: *mut ph_listener_cursor,
    row: *mut ph_listener_row,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            cursor::next(cursor.as_ref().map(|c| &c.0), row, |listening, cursor| ph_listener_row {
                struct_size: 0,
                port: listening.address.tcp().map_or(0, |address| u32::from(address.port())),
                name: ph_bytes::new(listening.config.name.as_bytes()),
                address: {
                    cursor.text = match &listening.address {
                        ListenAddress::Tcp(address) => address.ip().to_string(),
                        path => path.to_string(),
                    };
                    ph_bytes::new(cursor.text.as_bytes())
                },
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
pub unsafe extern "C" fn ph_listener_free(cursor: *mut ph_listener_cursor) {
    boundary!(or () => {
        // SAFETY: a cursor of ph_listener_list, and the last call on it.
        drop(unsafe { take(cursor) });
    })
}
