//! The compaction of an instance, and its report.

use super::boundary::{DONE, Exclusive, clear, give, required, take};
use super::bytes::ph_bytes;
use super::check::ph_check_row;
use super::engine::{self, ph_engine};
use super::record::{self, Record};
use super::report::{self, Report};
use super::status::{ph_error, ph_status};
use crate::error::{Error, Kind};
use crate::store::{CompactOptions, CompactReport};

/// What a compaction did. Made by ph_engine_compact, ended by ph_compact_free.
pub struct ph_compact(Exclusive<Report<CompactReport>>);

/// How a compaction runs. Begin with PH_COMPACT_OPTIONS_INIT; zero means the default everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_compact_options {
    /// sizeof(ph_compact_options).
    pub struct_size: u32,
    /// A segment of whose octets less than this part of a hundred is live is compacted, at most 100. 0: the default.
    pub below_percent: u32,
    /// Octets a second that are copied at most. 0: no limit.
    pub bytes_per_second: u64,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_compact_options {
    const NAME: &'static str = "ph_compact_options";
    const FIRST: usize = size_of::<ph_compact_options>();
}

/// The figures of a compaction. Begin with PH_COMPACT_TOTALS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_compact_totals {
    /// sizeof(ph_compact_totals).
    pub struct_size: u32,
    /// Always 0.
    pub reserved: u32,
    /// Segments looked at.
    pub segments: u64,
    /// Segments freed.
    pub freed: u64,
    /// Octets of their files.
    pub freed_bytes: u64,
    /// Messages moved.
    pub moved: u64,
    /// Octets copied.
    pub moved_bytes: u64,
    /// Segments that could not be freed yet, because somebody reads them.
    pub held: u64,
    /// Findings; 0: all is well.
    pub findings: u64,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_compact_totals {
    const NAME: &'static str = "ph_compact_totals";
    const FIRST: usize = size_of::<ph_compact_totals>();
}

/// Gives back the space of messages that nothing refers to any more, while mail flows.
///
/// Behaviour: one full pass now; an engine does the same by itself at a limited rate. Copies what is live in files that are
/// mostly dead, and removes them or uses them again.
/// Parameters: engine; options, or NULL for the defaults; out, where the report goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK, whatever was found: see ph_compact_stats; or an error.
/// Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_DISK_FULL, PH_E_CORRUPT, PH_E_INVALID_ARGUMENT, PH_E_STRUCT_SIZE, PH_E_NULL.
/// Ownership: the report is the caller's, to be ended by ph_compact_free, before or after ph_engine_close.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_engine_compact(
    engine: *mut ph_engine,
    options: *const ph_compact_options,
    out: *mut *mut ph_compact,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let options = record::read_optional(options)?;
            let options = match options {
                Some(options) => CompactOptions {
                    below_percent: u8::try_from(options.below_percent)
                        .ok()
                        .filter(|percent| *percent <= 100)
                        .ok_or_else(|| {
                            let text = "ph_compact_options.below_percent is above 100";
                            Error::new(Kind::InvalidArgument, text)
                        })?,
                    bytes_per_second: options.bytes_per_second,
                },
                None => CompactOptions::default(),
            };
            let shared = engine::share(engine)?;
            let (engine, _turn) = shared.enter()?;
            let found = engine.compact(&options)?;
            let json = report::written(&json_of(&found))?;
            give(out, ph_compact(Report::new(found, json)));
        }
        DONE
    })
}

/// Reads the figures of a compaction.
///
/// Parameters: compact; out, with struct_size set; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_compact_stats(
    compact: *mut ph_compact,
    out: *mut ph_compact_totals,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            report::figures(required(compact, "compact").map(|handle| &handle.0), out, |found| ph_compact_totals {
                struct_size: 0,
                reserved: 0,
                segments: found.segments,
                freed: found.freed,
                freed_bytes: found.freed_bytes,
                moved: found.moved,
                moved_bytes: found.moved_bytes,
                held: found.held,
                findings: found.findings.len() as u64,
            })
        }
    })
}

/// Goes to the next finding.
///
/// Parameters: compact; row, with struct_size set, whose problem is the finding; err, or NULL.
/// Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
/// Ownership: what row points to is borrowed until ph_compact_free.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_compact_next(
    compact: *mut ph_compact,
    row: *mut ph_check_row,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe { report::next(required(compact, "compact").map(|handle| &handle.0), row, |found, nth| ph_check_row::nth(&found.findings, nth)) }
    })
}

/// Gives the whole report as one JSON document.
///
/// Behaviour: an object with the numbers segments, freed, freed_bytes, moved, moved_bytes, held
/// and the array of texts findings. Later versions may add members.
/// Parameters: compact; out, where the view goes; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_BUSY, PH_E_NULL.
/// Ownership: what out points to is borrowed until ph_compact_free.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_compact_json(
    compact: *mut ph_compact,
    out: *mut ph_bytes,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe { report::json(required(compact, "compact").map(|handle| &handle.0), out) }
    })
}

/// Destroys the report of a compaction.
///
/// Parameters: compact, or NULL, which does nothing.
/// Ownership: ends the report and everything borrowed from it.
/// Thread: any thread, when no other call on the report runs.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_compact_free(compact: *mut ph_compact) {
    boundary!(or () => {
        // SAFETY: a report of ph_engine_compact, and the last call on it.
        drop(unsafe { take(compact) });
    })
}

fn json_of(found: &CompactReport) -> serde_json::Value {
    serde_json::json!({
        "segments": found.segments,
        "freed": found.freed,
        "freed_bytes": found.freed_bytes,
        "moved": found.moved,
        "moved_bytes": found.moved_bytes,
        "held": found.held,
        "findings": found.findings,
    })
}
