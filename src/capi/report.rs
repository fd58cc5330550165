//! What a long call found: made once, read in pieces by the verbs `stats` (or `totals`), `next` and `json` of its handle.
//!
//! The handles are types of their own, so that C cannot mix them up; what their verbs do is here. In all of them what
//! the host's struct says is checked before the handle.

use super::boundary::{DONE, Exclusive, null};
use super::bytes::ph_bytes;
use super::record::{self, Record};
use super::status::{PH_END, ph_status};
use crate::error::{Error, Kind, Result};

/// A report, how far it was read, and all of it as a document.
pub(super) struct Report<F> {
    found: F,
    next: usize,
    json: String,
}

impl<F> Report<F> {
    /// The content of a handle.
    pub(super) fn new(found: F, json: String) -> Exclusive<Report<F>> {
        Exclusive::new(Report { found, next: 0, json })
    }
}

/// A document as text.
pub(super) fn written(document: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(document)
        .map_err(|e| Error::new(Kind::Internal, format!("cannot write a report: {e}")))
}

/// Gives out the figures.
///
/// # Safety
/// `out` as for [`record::write`]; no other call on the report runs.
pub(super) unsafe fn figures<F, T: Record>(
    report: Result<&Exclusive<Report<F>>>,
    out: *mut T,
    figures: impl FnOnce(&F) -> T,
) -> Result<ph_status> {
    // SAFETY: the caller's promise.
    unsafe {
        record::check_out(out)?;
        report?.with(|report| record::write(out, figures(&report.found)))?;
    }
    DONE
}

/// Goes to the next row, of which `row_at` makes the n-th.
///
/// # Safety
/// `row` as for [`record::write`]; no other call on the report runs.
pub(super) unsafe fn next<F, T: Record>(
    report: Result<&Exclusive<Report<F>>>,
    row: *mut T,
    row_at: impl FnOnce(&F, usize) -> Option<T>,
) -> Result<ph_status> {
    // SAFETY: the caller's promise.
    unsafe {
        record::check_out(row)?;
        report?.with(|report| {
            let Some(found) = row_at(&report.found, report.next) else { return Ok(PH_END) };
            report.next += 1;
            record::write(row, found)?;
            DONE
        })
    }
}

/// Gives out a view of the document.
///
/// # Safety
/// `out` is NULL or writable; no other call on the report runs.
pub(super) unsafe fn json<F>(
    report: Result<&Exclusive<Report<F>>>,
    out: *mut ph_bytes,
) -> Result<ph_status> {
    // SAFETY: the caller's promise.
    unsafe {
        let place = out.as_mut().ok_or_else(|| null("out"))?;
        report?.with(|report| {
            *place = ph_bytes::new(report.json.as_bytes());
            DONE
        })
    }
}
