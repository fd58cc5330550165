//! The scrub of an instance, and its report.

use std::ffi::c_void;

use super::boundary::{DONE, Exclusive, clear, give, required, take};
use super::bytes::ph_bytes;
use super::check::{ph_check_row, ph_progress_fn};
use super::engine::{self, ph_engine};
use super::record::{self, Record};
use super::report::{self, Report};
use super::status::{ph_error, ph_status};
use crate::store::{ScrubOptions, ScrubReport};

/// What a scrub did. Made by ph_engine_scrub, ended by ph_scrub_free.
pub struct ph_scrub(Exclusive<Report<ScrubReport>>);

/// How a scrub runs. Begin with PH_SCRUB_OPTIONS_INIT; zero means the default everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_scrub_options {
    /// sizeof(ph_scrub_options).
    pub struct_size: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Octets a second that are read at most. 0: no limit.
    pub bytes_per_second: u64,
    /// Called now and then. NULL: nobody wants to know.
    pub progress: ph_progress_fn,
    /// Given to progress. Used only while ph_engine_scrub runs, so it has no drop function.
    pub progress_user_data: *mut c_void,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_scrub_options {
    const NAME: &'static str = "ph_scrub_options";
    const FIRST: usize = size_of::<ph_scrub_options>();
}

/// The figures of a scrub. Begin with PH_SCRUB_TOTALS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_scrub_totals {
    /// sizeof(ph_scrub_totals).
    pub struct_size: u32,
    /// Always 0.
    pub reserved: u32,
    /// Segments verified.
    pub segments: u64,
    /// Records verified.
    pub records: u64,
    /// Exports of the index verified.
    pub exports: u64,
    /// Octets read.
    pub bytes: u64,
    /// Messages whose references were counted.
    pub messages: u64,
    /// Messages whose count was wrong and is right now.
    pub corrected: u64,
    /// Findings; 0: all is well.
    pub findings: u64,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_scrub_totals {
    const NAME: &'static str = "ph_scrub_totals";
    const FIRST: usize = size_of::<ph_scrub_totals>();
}

/// Verifies what was written long ago, and counts references again, while mail flows.
///
/// Behaviour: reads all segments that are left for good and all exports of the index; changes nothing but counts of
/// references that are wrong. An engine does the same by itself, slowly and now and then.
/// Parameters: engine; options, or NULL for the defaults; out, where the report goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK, whatever was found: see ph_scrub_stats; or an error.
/// Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_CORRUPT, PH_E_INVALID_ARGUMENT, PH_E_STRUCT_SIZE, PH_E_NULL.
/// Ownership: the report is the caller's, to be ended by ph_scrub_free, before or after ph_engine_close.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_engine_scrub(
    engine: *mut ph_engine,
    options: *const ph_scrub_options,
    out: *mut *mut ph_scrub,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let options = record::read_optional(options)?;
            if let Some(options) = &options {
                record::unused(options.reserved, "ph_scrub_options.reserved")?;
            }
            let hook = options.and_then(|o| Some((o.progress?, o.progress_user_data)));
            let bytes_per_second = options.map_or(0, |o| o.bytes_per_second);
            let shared = engine::share(engine)?;
            let (engine, _turn) = shared.enter()?;
            let found = engine.scrub(&ScrubOptions { bytes_per_second }, &mut |done, total| {
                if let Some((progress, user_data)) = hook {
                    let _inside = shared.inside();
                    // The host's function with the host's data, as documented at ph_progress_fn.
                    progress(user_data, done, total);
                }
            })?;
            let json = report::written(&json_of(&found))?;
            give(out, ph_scrub(Report::new(found, json)));
        }
        DONE
    })
}

/// Reads the figures of a scrub.
///
/// Parameters: scrub; out, with struct_size set; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_scrub_stats(
    scrub: *mut ph_scrub,
    out: *mut ph_scrub_totals,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            report::figures(required(scrub, "scrub").map(|handle| &handle.0), out, |found| ph_scrub_totals {
                struct_size: 0,
                reserved: 0,
                segments: found.segments,
                records: found.records,
                exports: found.exports,
                bytes: found.bytes,
                messages: found.messages,
                corrected: found.corrected,
                findings: found.findings.len() as u64,
            })
        }
    })
}

/// Goes to the next finding.
///
/// Parameters: scrub; row, with struct_size set, whose problem is the finding; err, or NULL.
/// Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
/// Ownership: what row points to is borrowed until ph_scrub_free.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_scrub_next(
    scrub: *mut ph_scrub,
    row: *mut ph_check_row,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe { report::next(required(scrub, "scrub").map(|handle| &handle.0), row, |found, nth| ph_check_row::nth(&found.findings, nth)) }
    })
}

/// Gives the whole report as one JSON document.
///
/// Behaviour: an object with the numbers segments, records, exports, bytes, messages, corrected
/// and the array of texts findings. Later versions may add members.
/// Parameters: scrub; out, where the view goes; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_BUSY, PH_E_NULL.
/// Ownership: what out points to is borrowed until ph_scrub_free.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_scrub_json(
    scrub: *mut ph_scrub,
    out: *mut ph_bytes,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe { report::json(required(scrub, "scrub").map(|handle| &handle.0), out) }
    })
}

/// Destroys the report of a scrub.
///
/// Parameters: scrub, or NULL, which does nothing.
/// Ownership: ends the report and everything borrowed from it.
/// Thread: any thread, when no other call on the report runs.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_scrub_free(scrub: *mut ph_scrub) {
    boundary!(or () => {
        // SAFETY: a report of ph_engine_scrub, and the last call on it.
        drop(unsafe { take(scrub) });
    })
}

fn json_of(found: &ScrubReport) -> serde_json::Value {
    serde_json::json!({
        "segments": found.segments,
        "records": found.records,
        "exports": found.exports,
        "bytes": found.bytes,
        "messages": found.messages,
        "corrected": found.corrected,
        "findings": found.findings,
    })
}
