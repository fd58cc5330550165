//! The verification of an instance, and its report.

use std::ffi::c_void;

use super::boundary::{DONE, Exclusive, clear, give, required, take};
use super::bytes::ph_bytes;
use super::engine::{self, ph_engine};
use super::record::{self, Record};
use super::report::{self, Report};
use super::status::{ph_error, ph_status};
use crate::store::CheckReport;

/// Called while a check or a repair runs: done of total octets are verified.
///
/// Thread: the one that called ph_engine_check or ph_repair, before that returns. Must not throw or jump out, and must not call the
/// same engine.
pub type ph_progress_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, done: u64, total: u64)>;

/// What a check found. Made by ph_engine_check, ended by ph_check_free.
pub struct ph_check(Exclusive<Report<CheckReport>>);

/// How a check runs. Begin with PH_CHECK_OPTIONS_INIT; zero means the default everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_check_options {
    /// sizeof(ph_check_options).
    pub struct_size: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Called now and then. NULL: nobody wants to know.
    pub progress: ph_progress_fn,
    /// Given to progress. Used only while ph_engine_check runs, so it has no drop function.
    pub progress_user_data: *mut c_void,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_check_options {
    const NAME: &'static str = "ph_check_options";
    const FIRST: usize = size_of::<ph_check_options>();
}

/// The figures of a check. Begin with PH_CHECK_TOTALS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_check_totals {
    /// sizeof(ph_check_totals).
    pub struct_size: u32,
    /// Always 0.
    pub reserved: u32,
    /// Segments read.
    pub segments: u64,
    /// Records verified.
    pub records: u64,
    /// Messages in mailboxes or in the queue.
    pub messages: u64,
    /// Queue entries.
    pub queue_entries: u64,
    /// Problems found; 0: all is well.
    pub problems: u64,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_check_totals {
    const NAME: &'static str = "ph_check_totals";
    const FIRST: usize = size_of::<ph_check_totals>();
}

/// A problem that a check found. Begin with PH_CHECK_ROW_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_check_row {
    /// sizeof(ph_check_row).
    pub struct_size: u32,
    /// Always 0.
    pub reserved: u32,
    /// One line in UTF-8 that names a file and offset, or a message.
    pub problem: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_check_row {
    const NAME: &'static str = "ph_check_row";
    const FIRST: usize = size_of::<ph_check_row>();
}

impl ph_check_row {
    /// The n-th line of a report, counted from 0.
    pub(super) fn nth(lines: &[String], nth: usize) -> Option<ph_check_row> {
        let problem = ph_bytes::new(lines.get(nth)?.as_bytes());
        Some(ph_check_row { struct_size: 0, reserved: 0, problem })
    }
}

/// Verifies an instance while mail flows.
///
/// Behaviour: reads every record and every reference and changes nothing. Takes as long as reading the instance takes.
/// Parameters: engine; options, or NULL for the defaults; out, where the report goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK when the check could be made, whatever it found: see ph_check_stats; or an error.
/// Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_STRUCT_SIZE, PH_E_NULL.
/// Ownership: the report is the caller's, to be ended by ph_check_free, before or after ph_engine_close.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_engine_check(
    engine: *mut ph_engine,
    options: *const ph_check_options,
    out: *mut *mut ph_check,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let options = record::read_optional(options)?;
            if let Some(options) = &options {
                record::unused(options.reserved, "ph_check_options.reserved")?;
            }
            let hook = options.and_then(|o| Some((o.progress?, o.progress_user_data)));
            let shared = engine::share(engine)?;
            let (engine, _turn) = shared.enter()?;
            let found = engine.check(&mut |done, total| {
                if let Some((progress, user_data)) = hook {
                    let _inside = shared.inside();
                    // The host's function with the host's data, as documented at ph_progress_fn.
                    progress(user_data, done, total);
                }
            })?;
            let json = report::written(&json_of(&found))?;
            give(out, ph_check(Report::new(found, json)));
        }
        DONE
    })
}

/// Reads the figures of a check.
///
/// Parameters: check; out, with struct_size set; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_check_stats(
    check: *mut ph_check,
    out: *mut ph_check_totals,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            report::figures(required(check, "check").map(|handle| &handle.0), out, |found| ph_check_totals {
                struct_size: 0,
                reserved: 0,
                segments: found.segments,
                records: found.records,
                messages: found.messages,
                queue_entries: found.queue_entries,
                problems: found.problems.len() as u64,
            })
        }
    })
}

/// Goes to the next problem.
///
/// Parameters: check; row, with struct_size set; err, or NULL.
/// Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
/// Ownership: what row points to is borrowed until ph_check_free.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_check_next(
    check: *mut ph_check,
    row: *mut ph_check_row,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe { report::next(required(check, "check").map(|handle| &handle.0), row, |found, nth| ph_check_row::nth(&found.problems, nth)) }
    })
}

/// Gives the whole report as one JSON document.
///
/// Behaviour: an object with the numbers segments, records, messages, queue_entries and the array of texts problems. Later versions
/// may add members.
/// Parameters: check; out, where the view goes; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_BUSY, PH_E_NULL.
/// Ownership: what out points to is borrowed until ph_check_free.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_check_json(
    check: *mut ph_check,
    out: *mut ph_bytes,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe { report::json(required(check, "check").map(|handle| &handle.0), out) }
    })
}

/// Destroys a check's report.
///
/// Parameters: check, or NULL, which does nothing.
/// Ownership: ends the report and everything borrowed from it.
/// Thread: any thread, when no other call on the report runs.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_check_free(check: *mut ph_check) {
    boundary!(or () => {
        // SAFETY: a report of ph_engine_check, and the last call on it.
        drop(unsafe { take(check) });
    })
}

fn json_of(found: &CheckReport) -> serde_json::Value {
    serde_json::json!({
        "segments": found.segments,
        "records": found.records,
        "messages": found.messages,
        "queue_entries": found.queue_entries,
        "problems": found.problems,
    })
}
