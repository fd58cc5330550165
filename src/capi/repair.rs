//! The repair of an instance, and its report.

use std::ffi::{c_char, c_void};

use super::boundary::{DONE, Exclusive, clear, give, required, take};
use super::bytes::{self, ph_bytes};
use super::check::ph_progress_fn;
use super::record::{self, Record};
use super::report::{self, Report};
use super::status::{ph_error, ph_status};
use crate::error::{Error, Kind};
use crate::store::{RepairOptions, RepairReport};

/// A line of a repair's report: something that was mended.
pub const PH_REPAIR_MENDED: u32 = 1;
/// A line of a repair's report: acknowledged data that is damaged, with file and range.
pub const PH_REPAIR_DAMAGED: u32 = 2;
/// A line of a repair's report: a message that is lost, with account, mailbox and UID, or the queue.
pub const PH_REPAIR_LOST: u32 = 3;
/// A line of a repair's report: a problem that is left.
pub const PH_REPAIR_LEFT: u32 = 4;

/// What a repair did and found. Made by ph_repair, ended by ph_repair_free.
pub struct ph_repair_report(Exclusive<Report<Found>>);

/// How an instance is repaired. Begin with PH_REPAIR_OPTIONS_INIT; zero means the default everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_repair_options {
    /// sizeof(ph_repair_options).
    pub struct_size: u32,
    /// 1: remove lost messages from mailboxes and queue, after copying what is damaged to the directory lost. 0: name them only.
    pub drop_lost: u32,
    /// Called now and then; done and total begin anew with each pass. NULL: nobody wants to know.
    pub progress: ph_progress_fn,
    /// Given to progress. Used only while ph_repair runs, so it has no drop function.
    pub progress_user_data: *mut c_void,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_repair_options {
    const NAME: &'static str = "ph_repair_options";
    const FIRST: usize = size_of::<ph_repair_options>();
}

/// The figures of a repair. Begin with PH_REPAIR_TOTALS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_repair_totals {
    /// sizeof(ph_repair_totals).
    pub struct_size: u32,
    /// Parts of the index that were made again.
    pub rebuilt: u32,
    /// Rows of the index that came from exports.
    pub imported: u64,
    /// Records of the log that were applied.
    pub replayed: u64,
    /// Messages whose count of references was wrong and is right now.
    pub recounted: u64,
    /// Messages that are lost.
    pub lost: u64,
    /// Rows of mailboxes and entries of the queue that were removed.
    pub dropped: u64,
    /// Problems that are left; 0: all is well.
    pub problems: u64,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_repair_totals {
    const NAME: &'static str = "ph_repair_totals";
    const FIRST: usize = size_of::<ph_repair_totals>();
}

/// A line of a repair's report. Begin with PH_REPAIR_ROW_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_repair_row {
    /// sizeof(ph_repair_row).
    pub struct_size: u32,
    /// PH_REPAIR_...
    pub kind: u32,
    /// One line in UTF-8.
    pub line: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_repair_row {
    const NAME: &'static str = "ph_repair_row";
    const FIRST: usize = size_of::<ph_repair_row>();
}

/// Repairs an instance that nobody has open.
///
/// Behaviour: makes the index again from its export and the log, counts references again, verifies everything, and names what is
/// lost. Files of the log are never rewritten, and without drop_lost no message is removed. Takes as long as reading the
/// instance a few times takes. Calling it again is allowed, also after it was interrupted.
/// Parameters: directory, NUL-terminated UTF-8; options, or NULL for the defaults; out, where the report goes (NULL when the call
/// fails); err, or NULL.
/// Returns: PH_OK when the repair was made, whatever is left: see ph_repair_stats; or an error.
/// Errors: PH_E_NOT_AN_INSTANCE, PH_E_FORMAT_NEWER, PH_E_LOCKED when it is open, PH_E_CORRUPT, PH_E_DISK_FULL, PH_E_IO,
/// PH_E_INVALID_ARGUMENT, PH_E_STRUCT_SIZE, PH_E_NULL, PH_E_UTF8.
/// Ownership: the report is the caller's, to be ended by ph_repair_free.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_repair(
    directory: *const c_char,
    options: *const ph_repair_options,
    out: *mut *mut ph_repair_report,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let directory = bytes::path(directory, "directory")?;
            let options = record::read_optional(options)?;
            let drop_lost = match options.map_or(0, |options| options.drop_lost) {
                0 => false,
                1 => true,
                other => {
                    let text = format!("ph_repair_options.drop_lost is {other}; it is 0 or 1");
                    return Err(Error::new(Kind::InvalidArgument, text));
                }
            };
            let hook = options.and_then(|o| Some((o.progress?, o.progress_user_data)));
            let wanted = RepairOptions { drop_lost, ..RepairOptions::default() };
            let found = crate::engine::repair(&directory, &wanted, &mut |done, total| {
                if let Some((progress, user_data)) = hook {
                    // The host's function with the host's data, as documented at ph_progress_fn.
                    progress(user_data, done, total);
                }
            })?;
            let json = report::written(&found.to_json())?;
            let lines = lines(&found);
            give(out, ph_repair_report(Report::new(Found { report: found, lines }, json)));
        }
        DONE
    })
}

/// What a repair did, and the lines of it in the order of their kinds.
struct Found {
    report: RepairReport,
    lines: Vec<(u32, String)>,
}

fn lines(found: &RepairReport) -> Vec<(u32, String)> {
    let kind = |kind: u32| move |line: &String| (kind, line.clone());
    let mut lines: Vec<(u32, String)> = Vec::new();
    lines.extend(found.notes.iter().map(kind(PH_REPAIR_MENDED)));
    lines.extend(found.damage.iter().map(kind(PH_REPAIR_DAMAGED)));
    lines.extend(found.lost.iter().map(|lost| (PH_REPAIR_LOST, lost.to_string())));
    lines.extend(found.problems.iter().map(kind(PH_REPAIR_LEFT)));
    lines
}

/// Reads the figures of a repair.
///
/// Parameters: report; out, with struct_size set; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_repair_stats(
    report: *mut ph_repair_report,
    out: *mut ph_repair_totals,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            report::figures(required(report, "report").map(|handle| &handle.0), out, |Found { report: found, .. }| ph_repair_totals {
                struct_size: 0,
                rebuilt: found.rebuilt,
                imported: found.imported,
                replayed: found.replayed,
                recounted: found.recounted,
                lost: found.lost.len() as u64,
                dropped: found.dropped,
                problems: found.problems.len() as u64,
            })
        }
    })
}

/// Goes to the next line of a repair's report.
///
/// Parameters: report; row, with struct_size set; err, or NULL.
/// Returns: 0 (PH_OK): row is filled; 1 (PH_END): there is no next one, row is unchanged; or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
/// Ownership: what row points to is borrowed until ph_repair_free.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_repair_next(
    report: *mut ph_repair_report,
    row: *mut ph_repair_row,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            report::next(required(report, "report").map(|handle| &handle.0), row, |found, nth| {
                let (kind, line) = found.lines.get(nth)?;
                let line = ph_bytes::new(line.as_bytes());
                Some(ph_repair_row { struct_size: 0, kind: *kind, line })
            })
        }
    })
}

/// Gives the whole report as one JSON document.
///
/// Behaviour: an object with the numbers rebuilt, imported, replayed, recounted, dropped, the arrays of texts notes, damage, copies,
/// problems, the array damaged of objects (file, from, to), and the array lost of objects (message, mailboxes, queued, sender, why).
/// Later versions may add members.
/// Parameters: report; out, where the view goes; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_BUSY, PH_E_NULL.
/// Ownership: what out points to is borrowed until ph_repair_free.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_repair_json(
    report: *mut ph_repair_report,
    out: *mut ph_bytes,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe { report::json(required(report, "report").map(|handle| &handle.0), out) }
    })
}

/// Destroys a repair's report.
///
/// Parameters: report, or NULL, which does nothing.
/// Ownership: ends the report and everything borrowed from it.
/// Thread: any thread, when no other call on the report runs.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_repair_free(report: *mut ph_repair_report) {
    boundary!(or () => {
        // SAFETY: a report of ph_repair, and the last call on it.
        drop(unsafe { take(report) });
    })
}
