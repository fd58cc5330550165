//! A session's output on its way to C, which may write it in pieces, and the verbs that all sessions share.

use super::boundary::{DONE, Exclusive};
use super::bytes::ph_bytes;
use super::status::ph_status;
use crate::error::Result;

/// Octets that wait to be written.
#[derive(Default)]
pub(super) struct Pending {
    octets: Vec<u8>,
    sent: usize,
}

impl Pending {
    /// The buffer for a machine to append to. What was sent is let go first, so that the machine's own
    /// high-water mark counts what still waits.
    pub(super) fn open(&mut self) -> &mut Vec<u8> {
        if self.sent > 0 {
            self.octets.drain(..self.sent);
            self.sent = 0;
        }
        &mut self.octets
    }

    /// What waits.
    pub(super) fn view(&self) -> ph_bytes {
        ph_bytes::new(self.octets.get(self.sent..).unwrap_or_default())
    }

    /// `written` more octets are gone. More than there were counts as all.
    pub(super) fn sent(&mut self, written: usize) {
        self.sent = self.sent.saturating_add(written).min(self.octets.len());
        if self.sent == self.octets.len() {
            self.octets.clear();
            self.sent = 0;
        }
    }
}

/// What a session's handle holds: its output waits here.
pub(super) trait Drained {
    /// The output.
    fn output(&mut self) -> &mut Pending;
}

/// Shows what waits; nothing for a handle that cannot be used.
///
/// # Safety
/// `place` is NULL or writable; no other call on the session runs.
pub(super) unsafe fn show<T: Drained>(session: Option<&Exclusive<T>>, place: *mut ph_bytes) {
    // SAFETY: the caller's promise.
    unsafe {
        let shown = session.and_then(|session| session.with(|s| Ok(s.output().view())).ok());
        if let Some(place) = place.as_mut() {
            *place = shown.unwrap_or(ph_bytes::EMPTY);
        }
    }
}

/// `written` octets of what waits are gone.
///
/// # Safety
/// No other call on the session runs.
pub(super) unsafe fn sent<T: Drained>(session: Option<&Exclusive<T>>, written: usize) {
    if let Some(session) = session {
        // SAFETY: the caller's promise. A handle that cannot be used has nothing to send.
        let _ = unsafe {
            session.with(|session| {
                session.output().sent(written);
                Ok(())
            })
        };
    }
}

/// A number that a session knows; `None` where it has none, or cannot be used.
///
/// # Safety
/// No other call on the session runs.
pub(super) unsafe fn asked<T>(
    session: Option<&Exclusive<T>>,
    ask: impl FnOnce(&mut T) -> Option<u64>,
) -> Option<u64> {
    // SAFETY: the caller's promise.
    session.and_then(|session| unsafe { session.with(|session| Ok(ask(session))) }.ok().flatten())
}

/// Tells a session something that it has no answer to.
///
/// # Safety
/// No other call on the session runs.
pub(super) unsafe fn told<T>(
    session: Result<&Exclusive<T>>,
    tell: impl FnOnce(&mut T),
) -> Result<ph_status> {
    // SAFETY: the caller's promise.
    unsafe {
        session?.with(|session| {
            tell(session);
            DONE
        })
    }
}
