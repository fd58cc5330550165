//! Messages of a mailbox, and a message's bytes.

use std::sync::Arc;

use super::boundary::{DONE, Exclusive, clear, give, null, required, take};
use super::bytes::ph_bytes;
use super::cursor::{self, Cursor, PAGE};
use super::engine::{self, Shared, ph_engine};
use super::mailbox::PH_MAILBOX_INBOX;
use super::record::{self, Record};
use super::status::{ph_error, ph_status};
use crate::store::{MailboxId, MessageId, MessageReader, MessageRow};

/// Message flag: seen (RFC 9051 2.3.2).
pub const PH_FLAG_SEEN: u32 = 1;
/// Message flag: answered.
pub const PH_FLAG_ANSWERED: u32 = 2;
/// Message flag: flagged.
pub const PH_FLAG_FLAGGED: u32 = 4;
/// Message flag: deleted.
pub const PH_FLAG_DELETED: u32 = 8;
/// Message flag: draft.
pub const PH_FLAG_DRAFT: u32 = 16;

/// What C may see of the store's bits, which have the same values.
const KNOWN_FLAGS: u32 =
    PH_FLAG_SEEN | PH_FLAG_ANSWERED | PH_FLAG_FLAGGED | PH_FLAG_DELETED | PH_FLAG_DRAFT;

/// Goes through the messages of a mailbox. Made by ph_message_list, ended by ph_message_free.
pub struct ph_message_cursor(Exclusive<Cursor<MessageRow>>);

/// A message's octets, open for reading. Made by ph_message_open, ended by ph_message_close.
pub struct ph_message {
    reader: Exclusive<MessageReader>,
    len: u64,
    shared: Arc<Shared>,
}

/// Which messages to list. Begin with PH_MESSAGE_FILTER_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_message_filter {
    /// sizeof(ph_message_filter).
    pub struct_size: u32,
    /// The mailbox's number; 0 for INBOX.
    pub mailbox: u32,
    /// An address of the account. Required.
    pub account: ph_bytes,
    /// Only messages with higher UIDs.
    pub after_uid: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_message_filter {
    const NAME: &'static str = "ph_message_filter";
    const FIRST: usize = size_of::<ph_message_filter>();
}

/// A message of a mailbox. Begin with PH_MESSAGE_ROW_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_message_row {
    /// sizeof(ph_message_row).
    pub struct_size: u32,
    /// Its UID.
    pub uid: u32,
    /// The message's id, for ph_message_open.
    pub message_id: u64,
    /// Octets.
    pub size: u64,
    /// Milliseconds since 1970 when it was accepted.
    pub received_ms: u64,
    /// Modification sequence number (RFC 7162).
    pub modseq: u64,
    /// PH_FLAG_... added up.
    pub flags: u32,
    /// Always 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_message_row {
    const NAME: &'static str = "ph_message_row";
    const FIRST: usize = size_of::<ph_message_row>();
}

/// Lists the messages of a mailbox.
///
/// Behaviour: goes through the mailbox in the order of UIDs, while mail flows: a message that is there all the time is
/// seen once, one that comes or goes meanwhile may be seen or not.
/// Parameters: engine; filter, which names account and mailbox; out, where the cursor goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_NOT_FOUND; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_CORRUPT, PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
/// Ownership: the cursor is the caller's, to be ended by ph_message_free, before or after ph_engine_close.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_message_list(
    engine: *mut ph_engine,
    filter: *const ph_message_filter,
    out: *mut *mut ph_message_cursor,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let filter = record::read(filter)?;
            record::unused(filter.reserved, "ph_message_filter.reserved")?;
            let account = filter.account.text("account")?.to_owned();
            let mailbox = if filter.mailbox == 0 { PH_MAILBOX_INBOX } else { filter.mailbox };
            let shared = engine::share(engine)?;
            let rows = Cursor::paged(shared, Box::new(move |engine, last: Option<&MessageRow>| {
                let after = last.map_or(filter.after_uid, |row| row.uid);
                engine.mailbox_list(&account, MailboxId(mailbox), after, PAGE)
            }))?;
            give(out, ph_message_cursor(Exclusive::new(rows)));
        }
        DONE
    })
}

/// Goes to the next row.
///
/// Behaviour: in the order of UIDs.
/// Parameters: cursor; row, with struct_size set; err, or NULL.
/// Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an error.
/// Errors: PH_E_STOPPED, PH_E_NOT_FOUND, PH_E_IO, PH_E_CORRUPT, PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY, PH_E_NULL.
/// Ownership: what row points to is borrowed until the next call on the cursor.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_message_next(
    cursor: *mut ph_message_cursor,
    row: *mut ph_message_row,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            cursor::next(cursor.as_ref().map(|c| &c.0), row, |message, _| ph_message_row {
                struct_size: 0,
                uid: message.uid,
                message_id: message.message.0,
                size: message.size,
                received_ms: message.received,
                modseq: message.modseq,
                flags: message.flags & KNOWN_FLAGS,
                reserved: 0,
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
pub unsafe extern "C" fn ph_message_free(cursor: *mut ph_message_cursor) {
    boundary!(or () => {
        // SAFETY: a cursor of ph_message_list, and the last call on it.
        drop(unsafe { take(cursor) });
    })
}

/// Opens a message's octets for reading.
///
/// Behaviour: the octets stay readable until ph_message_close, also when the message is removed meanwhile.
/// Parameters: engine; message_id, from a row or from ph_engine_submit; out, where the handle goes (NULL when the
/// call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_NOT_FOUND; PH_E_CORRUPT; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_NULL.
/// Ownership: the handle is the caller's, to be ended by ph_message_close, before or after ph_engine_close.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_message_open(
    engine: *mut ph_engine,
    message_id: u64,
    out: *mut *mut ph_message,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let shared = engine::share(engine)?;
            let reader = shared.enter()?.0.message(MessageId(message_id))?;
            let len = reader.len();
            give(out, ph_message { reader: Exclusive::new(reader), len, shared });
        }
        DONE
    })
}

/// Says how long a message is.
///
/// Behaviour: the length as a mailbox has it, the Return-Path line in front included.
/// Parameters: message, or NULL.
/// Returns: octets; 0 for NULL.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_message_len(message: *const ph_message) -> u64 {
    boundary!(or 0 => {
        // SAFETY: NULL or a live handle, as documented; the field never changes.
        unsafe { message.as_ref() }.map_or(0, |message| message.len)
    })
}

/// Reads a piece of a message.
///
/// Behaviour: reads from offset as much as fits into the buffer; checksums are verified before octets are given out.
/// Parameters: message; offset, where to begin; buffer, at least size octets; size; read, where the number of octets
/// goes, 0 at the end of the message; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_CORRUPT; PH_E_STOPPED, PH_E_REENTRANT, PH_E_BUSY, PH_E_IO, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_message_read(
    message: *mut ph_message,
    offset: u64,
    buffer: *mut u8,
    size: usize,
    read: *mut usize,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let message = required(message, "message")?;
            if read.is_null() {
                return Err(null("read"));
            }
            read.write(0);
            if buffer.is_null() && size > 0 {
                return Err(null("buffer"));
            }
            // Whatever stands in the buffer becomes initialised memory before it is a slice. More than the
            // message is never touched, so an absurd size costs nothing.
            let size = size.min(usize::try_from(message.len.saturating_sub(offset)).unwrap_or(usize::MAX));
            if size == 0 {
                return DONE;
            }
            buffer.write_bytes(0, size);
            let buffer = std::slice::from_raw_parts_mut(buffer, size);
            let (_engine, _turn) = message.shared.enter()?;
            read.write(message.reader.with(|reader| reader.read_at(offset, buffer))?);
        }
        DONE
    })
}

/// Ends the reading of a message.
///
/// Parameters: message, or NULL, which does nothing.
/// Ownership: ends the handle.
/// Thread: any thread, when no other call on the message runs.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_message_close(message: *mut ph_message) {
    boundary!(or () => {
        // SAFETY: a handle of ph_message_open, and the last call on it.
        drop(unsafe { take(message) });
    })
}
