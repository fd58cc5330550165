//! The queue: messages with recipients that wait for delivery.

use super::boundary::{DONE, Exclusive, clear, give, take};
use super::bytes::ph_bytes;
use super::cursor::{self, Cursor, PAGE};
use super::engine::{self, ph_engine};
use super::record::{self, Record};
use super::status::{ph_error, ph_status};
use crate::store::{MessageId, QueueEntry, RecipientState};

/// A recipient waits for delivery to another server.
pub const PH_RECIPIENT_REMOTE: u32 = 1;
/// A recipient waits to be put into a mailbox of this instance.
pub const PH_RECIPIENT_LOCAL: u32 = 2;
/// A recipient is held by an operator.
pub const PH_RECIPIENT_HELD: u32 = 3;

/// A recipient was tried, or is to wait on the sender's wish, and is tried (again) later.
pub const PH_RECIPIENT_DEFERRED: u32 = 4;
/// A recipient will not get the message; the entry is kept so that somebody learns of it.
pub const PH_RECIPIENT_FAILED: u32 = 5;

/// Goes through the queue. Made by ph_queue_list, ended by ph_queue_free.
pub struct ph_queue_cursor(Exclusive<Cursor<QueueEntry>>);

/// Which entries to list. Begin with PH_QUEUE_FILTER_INIT; zero means no restriction everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_queue_filter {
    /// sizeof(ph_queue_filter).
    pub struct_size: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Only entries behind this one.
    pub after: u64,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_queue_filter {
    const NAME: &'static str = "ph_queue_filter";
    const FIRST: usize = size_of::<ph_queue_filter>();
}

/// An entry of the queue. Begin with PH_QUEUE_ROW_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_queue_row {
    /// sizeof(ph_queue_row).
    pub struct_size: u32,
    /// Always 0.
    pub reserved: u32,
    /// The message's id, which is the entry's. People read it as 16 hexadecimal digits in lower case.
    pub message_id: u64,
    /// Milliseconds since 1970 when it was accepted.
    pub received_ms: u64,
    /// Octets.
    pub size: u64,
    /// The reverse-path without angle brackets, empty for the null path.
    pub from: ph_bytes,
    /// The forward-paths that have no final outcome yet.
    pub recipients: *const ph_bytes,
    /// Where each of them stands: PH_RECIPIENT_...
    pub recipient_states: *const u32,
    /// How many recipients, and how many states.
    pub recipient_count: usize,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_queue_row {
    const NAME: &'static str = "ph_queue_row";
    const FIRST: usize = size_of::<ph_queue_row>();
}

/// Lists the queue.
///
/// Behaviour: goes through the queue in the order of message ids, while mail flows: an entry that is there all the time is
/// seen once, one that comes or goes meanwhile may be seen or not.
/// Parameters: engine; filter, or NULL for all; out, where the cursor goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_CORRUPT, PH_E_STRUCT_SIZE, PH_E_NULL.
/// Ownership: the cursor is the caller's, to be ended by ph_queue_free, before or after ph_engine_close.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_queue_list(
    engine: *mut ph_engine,
    filter: *const ph_queue_filter,
    out: *mut *mut ph_queue_cursor,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let mut after = None;
            if let Some(filter) = record::read_optional(filter)? {
                record::unused(filter.reserved, "ph_queue_filter.reserved")?;
                after = (filter.after != 0).then_some(MessageId(filter.after));
            }
            let shared = engine::share(engine)?;
            let rows = Cursor::paged(shared, Box::new(move |engine, last: Option<&QueueEntry>| {
                engine.queue_list(last.map(|entry| entry.message).or(after), PAGE)
            }))?;
            give(out, ph_queue_cursor(Exclusive::new(rows)));
        }
        DONE
    })
}

/// Goes to the next row.
///
/// Behaviour: in the order of message ids.
/// Parameters: cursor; row, with struct_size set; err, or NULL.
/// Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an error.
/// Errors: PH_E_STOPPED, PH_E_IO, PH_E_CORRUPT, PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_BUSY, PH_E_NULL.
/// Ownership: what row points to is borrowed until the next call on the cursor.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_queue_next(
    cursor: *mut ph_queue_cursor,
    row: *mut ph_queue_row,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            cursor::next(cursor.as_ref().map(|c| &c.0), row, |entry, cursor| ph_queue_row {
                struct_size: 0,
                reserved: 0,
                message_id: entry.message.0,
                received_ms: entry.envelope.received,
                size: entry.size,
                from: ph_bytes::new(&entry.envelope.from),
                recipients: cursor.view(entry.recipients.iter().map(|r| r.address.as_slice())),
                recipient_states: {
                    cursor.numbers.clear();
                    cursor.numbers.extend(entry.recipients.iter().map(|r| state_for_c(r.state)));
                    cursor.numbers.as_ptr()
                },
                recipient_count: entry.recipients.len(),
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
pub unsafe extern "C" fn ph_queue_free(cursor: *mut ph_queue_cursor) {
    boundary!(or () => {
        // SAFETY: a cursor of ph_queue_list, and the last call on it.
        drop(unsafe { take(cursor) });
    })
}

/// Takes an entry out of the queue for ever.
///
/// Behaviour: durable when it returns. Nobody is told: the remaining recipients do not get the message. Mailboxes that have it keep it.
/// Parameters: engine; message_id, the entry's; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_NOT_FOUND; PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_READ_ONLY, PH_E_NULL.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_queue_remove(
    engine: *mut ph_engine,
    message_id: u64,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: a live handle, as documented.
        unsafe { engine::with(engine, |engine| engine.queue_remove(MessageId(message_id))) }?;
        DONE
    })
}

/// Tries now what waits in the queue for another attempt, as ETRN does (RFC 1985).
///
/// Behaviour: the next attempt of every recipient meant is now, durably, and hosts that could not be reached are tried again; does not
/// wait for the attempts. What an operator holds, what has failed for ever, what waits on its sender's wish (RFC 4865) and what no route
/// leads to is left alone. With an engine that does not serve it shows when it does.
/// Parameters: engine; domain, empty for all, behind @ with its subdomains; messages, how many are meant, or NULL; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT: no domain; PH_E_NOT_FOUND: no route leads there; PH_E_BUSY: another run is under way; PH_E_UTF8,
/// PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_READ_ONLY, PH_E_NULL.
/// Thread: any thread. Blocks: reads the whole queue.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_queue_run(
    engine: *mut ph_engine,
    domain: ph_bytes,
    messages: *mut u64,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented; messages may be NULL.
        unsafe {
            if let Some(messages) = messages.as_mut() {
                *messages = 0;
            }
            let domain = domain.text("domain")?;
            let wanted = (!domain.is_empty()).then_some(domain);
            let count = engine::with(engine, |engine| engine.queue_run(wanted))?;
            if let Some(messages) = messages.as_mut() {
                *messages = count;
            }
        }
        DONE
    })
}

fn state_for_c(state: RecipientState) -> u32 {
    match state {
        RecipientState::Remote => PH_RECIPIENT_REMOTE,
        RecipientState::Local(..) => PH_RECIPIENT_LOCAL,
        RecipientState::Held => PH_RECIPIENT_HELD,
        RecipientState::Deferred { .. } => PH_RECIPIENT_DEFERRED,
        RecipientState::Failed { .. } => PH_RECIPIENT_FAILED,
    }
}
