//! A session's output on its way to C, which may write it in pieces.

use super::bytes::ph_bytes;

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
