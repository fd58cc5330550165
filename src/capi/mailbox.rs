//! Mailboxes of an account.

use super::boundary::{DONE, Exclusive, clear, give, take};
use super::bytes::ph_bytes;
use super::cursor::{self, Cursor};
use super::engine::{self, ph_engine};
use super::record::{self, Record};
use super::status::{ph_error, ph_status};
use crate::store::MailboxHead;

/// The number of every account's INBOX.
pub const PH_MAILBOX_INBOX: u32 = 1;

/// Goes through mailboxes. Made by ph_mailbox_list, ended by ph_mailbox_free.
pub struct ph_mailbox_cursor(Exclusive<Cursor<MailboxHead>>);

/// Whose mailboxes to list. Begin with PH_MAILBOX_FILTER_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_mailbox_filter {
    /// sizeof(ph_mailbox_filter).
    pub struct_size: u32,
    /// Must be 0.
    pub reserved: u32,
    /// An address of the account. Required.
    pub account: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_mailbox_filter {
    const NAME: &'static str = "ph_mailbox_filter";
    const FIRST: usize = size_of::<ph_mailbox_filter>();
}

/// A mailbox. Begin with PH_MAILBOX_ROW_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_mailbox_row {
    /// sizeof(ph_mailbox_row).
    pub struct_size: u32,
    /// Its number in the account; PH_MAILBOX_INBOX for INBOX.
    pub mailbox: u32,
    /// Its UIDVALIDITY (RFC 9051 2.3.1.1).
    pub uid_validity: u32,
    /// The next message's UID is this or higher.
    pub uid_next: u32,
    /// The highest modification sequence number (RFC 7162).
    pub highest_modseq: u64,
    /// Messages.
    pub messages: u64,
    /// Octets of its messages.
    pub bytes: u64,
    /// Its name in UTF-8.
    pub name: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_mailbox_row {
    const NAME: &'static str = "ph_mailbox_row";
    const FIRST: usize = size_of::<ph_mailbox_row>();
}

/// Lists the mailboxes of an account.
///
/// Behaviour: the list is as it is at this moment.
/// Parameters: engine; filter, which names the account; out, where the cursor goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_NOT_FOUND; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
/// Ownership: the cursor is the caller's, to be ended by ph_mailbox_free, before or after ph_engine_close.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_mailbox_list(
    engine: *mut ph_engine,
    filter: *const ph_mailbox_filter,
    out: *mut *mut ph_mailbox_cursor,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let filter = record::read(filter)?;
            record::unused(filter.reserved, "ph_mailbox_filter.reserved")?;
            let account = filter.account.text("account")?;
            let shared = engine::share(engine)?;
            let rows = shared.enter()?.0.mailboxes(account)?;
            give(out, ph_mailbox_cursor(Exclusive::new(Cursor::whole(shared, rows))));
        }
        DONE
    })
}

/// Goes to the next row.
///
/// Behaviour: in the order of their numbers.
/// Parameters: cursor; row, with struct_size set; err, or NULL.
/// Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an error.
/// Errors: PH_E_STOPPED, PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY, PH_E_NULL.
/// Ownership: what row points to is borrowed until the next call on the cursor.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_mailbox_next(
    cursor: *mut ph_mailbox_cursor,
    row: *mut ph_mailbox_row,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            cursor::next(cursor.as_ref().map(|c| &c.0), row, |head, _| ph_mailbox_row {
                struct_size: 0,
                mailbox: head.mailbox.0,
                uid_validity: head.uid_validity,
                uid_next: head.uid_next,
                highest_modseq: head.highest_modseq,
                messages: head.messages,
                bytes: head.bytes,
                name: ph_bytes::new(head.name.as_bytes()),
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
pub unsafe extern "C" fn ph_mailbox_free(cursor: *mut ph_mailbox_cursor) {
    boundary!(or () => {
        // SAFETY: a cursor of ph_mailbox_list, and the last call on it.
        drop(unsafe { take(cursor) });
    })
}
