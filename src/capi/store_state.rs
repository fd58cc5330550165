//! How the store of an engine is: lanes, room, damage, what it takes on the disk.

use super::boundary::{DONE, Exclusive, clear, give, required, take};
use super::bytes::ph_bytes;
use super::engine::{self, ph_engine};
use super::record::Record;
use super::report::{self, Report};
use super::status::{ph_error, ph_status};
use crate::engine::Status;

/// How the store of an engine was at one moment. Made by ph_engine_store_state, ended by ph_store_state_free.
pub struct ph_store_state(Exclusive<Report<Status>>);

/// Room on the disk: enough for everything.
pub const PH_SPACE_AMPLE: u32 = 0;
/// Room on the disk: little. Messages are refused with 452; everything else goes on.
pub const PH_SPACE_LOW: u32 = 1;
/// Room on the disk: none, or it was met to be none. As PH_SPACE_LOW, and the ballast is given up.
pub const PH_SPACE_FULL: u32 = 2;

/// The figures of a store. Begin with PH_STORE_TOTALS_INIT. Figures that are not said to be of now are since the engine
/// was opened; times are milliseconds since 1970-01-01T00:00:00Z, 0 for never.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_store_totals {
    /// sizeof(ph_store_totals).
    pub struct_size: u32,
    /// PH_SPACE_..., now.
    pub space: u32,
    /// Lanes, the one for large messages included.
    pub lanes: u32,
    /// Lanes that cannot be written now.
    pub read_only_lanes: u32,
    /// Lanes whose index is being repaired now.
    pub rebuilding_lanes: u32,
    /// 1: a server takes connections now. 0: none does.
    pub serving: u32,
    /// Octets free on the file system.
    pub free_bytes: u64,
    /// Octets of the file system.
    pub total_bytes: u64,
    /// Segments of the log, now.
    pub segments: u64,
    /// Octets of their files, now.
    pub log_bytes: u64,
    /// Octets of files that are kept ready for segments, now.
    pub spare_bytes: u64,
    /// Octets of segments that messages need, now; UINT64_MAX while an index is being repaired.
    pub live_bytes: u64,
    /// Segments freed.
    pub segments_freed: u64,
    /// Octets of them.
    pub freed_bytes: u64,
    /// Damaged places of acknowledged data that were met, each counted once; 0: all is well.
    pub damage: u64,
    /// Scrubs that came to their end.
    pub scrubs: u64,
    /// What all scrubs found.
    pub scrub_findings: u64,
    /// When the last scrub ended.
    pub scrubbed: u64,
    /// Exports of indexes made.
    pub exports: u64,
    /// Exports that failed. While they fail, no log is freed.
    pub export_failures: u64,
    /// When the last export was made.
    pub exported: u64,
}

// SAFETY: repr(C), begins with `struct_size`; integers only.
unsafe impl Record for ph_store_totals {
    const NAME: &'static str = "ph_store_totals";
    const FIRST: usize = size_of::<ph_store_totals>();
}

/// A lane of a store. Begin with PH_STORE_LANE_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_store_lane {
    /// sizeof(ph_store_lane).
    pub struct_size: u32,
    /// Its number.
    pub lane: u32,
    /// 1: it holds the octets of large messages only.
    pub large: u32,
    /// 1: its index is being repaired.
    pub rebuilding: u32,
    /// Since when it cannot be written, in milliseconds since 1970-01-01T00:00:00Z; 0: it can be.
    pub read_only_since: u64,
    /// Why, in words; empty: it can be written.
    pub reason: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and bytes.
unsafe impl Record for ph_store_lane {
    const NAME: &'static str = "ph_store_lane";
    const FIRST: usize = size_of::<ph_store_lane>();
}

/// Looks how the store of an engine is.
///
/// Behaviour: lists a directory and reads a few rows of each index; waits for no write and for no repair. What is seen is
/// of this moment; PH_EVENT_STORE_READ_ONLY, PH_EVENT_SPACE_LOW, PH_EVENT_DAMAGE and their like tell changes.
/// Parameters: engine, started or not; out, where the state goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK, however the store is; or an error.
/// Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_IO, PH_E_NULL.
/// Ownership: the state is the caller's, to be ended by ph_store_state_free, before or after ph_engine_close.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_engine_store_state(
    engine: *mut ph_engine,
    out: *mut *mut ph_store_state,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let shared = engine::share(engine)?;
            let (engine, _turn) = shared.enter()?;
            let status = engine.status()?;
            let json = report::written(&status)?;
            give(out, ph_store_state(Report::new(status, json)));
        }
        DONE
    })
}

/// Reads the figures of a store.
///
/// Parameters: state; out, with struct_size set; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_store_state_totals(
    state: *mut ph_store_state,
    out: *mut ph_store_totals,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe { report::figures(required(state, "state").map(|handle| &handle.0), out, totals) }
    })
}

fn totals(status: &Status) -> ph_store_totals {
    let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
    let lanes = &status.lanes;
    ph_store_totals {
        struct_size: 0,
        space: match status.space.as_str() {
            "ample" => PH_SPACE_AMPLE,
            "low" => PH_SPACE_LOW,
            _ => PH_SPACE_FULL,
        },
        lanes: count(lanes.len()),
        read_only_lanes: count(lanes.iter().filter(|lane| lane.read_only_since > 0).count()),
        rebuilding_lanes: count(lanes.iter().filter(|lane| lane.rebuilding).count()),
        serving: u32::from(status.serving),
        free_bytes: status.free_bytes,
        total_bytes: status.total_bytes,
        segments: status.segments,
        log_bytes: status.log_bytes,
        spare_bytes: status.spare_bytes,
        live_bytes: status.live_bytes.unwrap_or(u64::MAX),
        segments_freed: status.segments_freed,
        freed_bytes: status.freed_bytes,
        damage: (status.damage.len() as u64).saturating_add(status.more_damage),
        scrubs: status.scrubs,
        scrub_findings: status.scrub_findings,
        scrubbed: status.scrubbed,
        exports: status.exports,
        export_failures: status.export_failures,
        exported: status.exported,
    }
}

/// Goes to the next lane.
///
/// Parameters: state; lane, with struct_size set; err, or NULL.
/// Returns: 0 (PH_OK): lane is filled; 1 (PH_END): there is no next one, lane is unchanged; or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_NULL.
/// Ownership: what lane points to is borrowed until ph_store_state_free.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_store_state_next(
    state: *mut ph_store_state,
    lane: *mut ph_store_lane,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            report::next(required(state, "state").map(|handle| &handle.0), lane, |status, nth| {
                let found = status.lanes.get(nth)?;
                Some(ph_store_lane {
                    struct_size: 0,
                    lane: u32::from(found.lane),
                    large: u32::from(found.large),
                    rebuilding: u32::from(found.rebuilding),
                    read_only_since: found.read_only_since,
                    reason: ph_bytes::new(found.reason.as_bytes()),
                })
            })
        }
    })
}

/// Gives the whole state as one JSON document.
///
/// Behaviour: an object with the text summary, a sentence or a few for a person; the figures of ph_store_totals under
/// their names (space as ample, low or full, serving as true or false, live_bytes null while an index is being repaired);
/// lanes, an array of objects with the members of ph_store_lane; damage, an array of texts, and the number
/// more_damage beyond those. Later versions may add members.
/// Parameters: state; out, where the view goes; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_BUSY, PH_E_NULL.
/// Ownership: what out points to is borrowed until ph_store_state_free.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_store_state_json(
    state: *mut ph_store_state,
    out: *mut ph_bytes,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe { report::json(required(state, "state").map(|handle| &handle.0), out) }
    })
}

/// Destroys the state of a store.
///
/// Parameters: state, or NULL, which does nothing.
/// Ownership: ends the state and everything borrowed from it.
/// Thread: any thread, when no other call on the state runs.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_store_state_free(state: *mut ph_store_state) {
    boundary!(or () => {
        // SAFETY: a state of ph_engine_store_state, and the last call on it.
        drop(unsafe { take(state) });
    })
}
