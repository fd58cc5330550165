//! Cursors: rows one after the other, stable while mail flows.
//!
//! # Method
//! A short list (accounts, listeners) is read whole when the cursor is made. A long one (queue, mailbox) is
//! read in pages, each beginning behind the last row, so rows that come or go meanwhile neither repeat nor hide
//! others. The cursor keeps the current row alive, because what C sees of it is borrowed from here.

use std::sync::Arc;

use super::boundary::{Exclusive, required};
use super::bytes::ph_bytes;
use super::engine::Shared;
use super::record::{self, Record};
use super::status::{PH_END, PH_OK, ph_status};
use crate::engine::Engine;
use crate::error::Result;

/// Rows of a page.
pub(super) const PAGE: usize = 256;

/// Reads the page behind a row; `None`: the first page.
type NextPage<T> = Box<dyn FnMut(&Engine, Option<&T>) -> Result<Vec<T>> + Send>;

/// Goes through rows of type `T`.
pub(super) struct Cursor<T> {
    shared: Arc<Shared>,
    rows: std::vec::IntoIter<T>,
    next_page: Option<NextPage<T>>,
    current: Option<T>,
    /// Arrays that the current row of C points to.
    views: Vec<ph_bytes>,
    /// Text that the current row of C points to.
    pub(super) text: String,
    /// Numbers that the current row of C points to.
    pub(super) numbers: Vec<u32>,
}

impl<T> Cursor<T> {
    /// A cursor over rows that are all here.
    pub(super) fn whole(shared: Arc<Shared>, rows: Vec<T>) -> Cursor<T> {
        Cursor {
            shared,
            rows: rows.into_iter(),
            next_page: None,
            current: None,
            views: Vec::new(),
            text: String::new(),
            numbers: Vec::new(),
        }
    }

    /// A cursor that reads its rows in pages; the first one now, so that what is wrong with the request is said at once.
    pub(super) fn paged(shared: Arc<Shared>, mut next_page: NextPage<T>) -> Result<Cursor<T>> {
        let rows = {
            let (engine, _turn) = shared.enter()?;
            next_page(engine, None)?
        };
        let mut cursor = Cursor::whole(shared, rows);
        cursor.next_page = Some(next_page);
        Ok(cursor)
    }

    /// An array for C of the current row's octets, which must outlive the row's stay in the cursor's hands.
    pub(super) fn view<'a>(&mut self, octets: impl Iterator<Item = &'a [u8]>) -> *const ph_bytes {
        self.views.clear();
        self.views.extend(octets.map(ph_bytes::new));
        self.views.as_ptr()
    }

    /// Goes to the next row and takes it out, so that the caller may fill this cursor's arrays beside it.
    fn advance(&mut self) -> Result<Option<T>> {
        let (engine, _turn) = self.shared.enter()?;
        if self.rows.len() == 0
            && let (Some(next_page), Some(last)) = (&mut self.next_page, &self.current)
        {
            self.rows = next_page(engine, Some(last))?.into_iter();
        }
        Ok(self.rows.next())
    }
}

/// The body of every `ph_x_next`: goes on, and lets `show` make C's row of ours.
///
/// # Safety
/// `cursor` and `row` are as the header says, and no other call on the cursor runs.
pub(super) unsafe fn next<T, R: Record>(
    cursor: Option<&Exclusive<Cursor<T>>>,
    row: *mut R,
    show: impl FnOnce(&T, &mut Cursor<T>) -> R,
) -> Result<ph_status> {
    // SAFETY: the caller's promise.
    unsafe {
        let cursor = required(cursor.map_or(std::ptr::null(), std::ptr::from_ref), "cursor")?;
        record::check_out(row)?;
        cursor.with(|cursor| {
            let Some(current) = cursor.advance()? else { return Ok(PH_END) };
            let shown = show(&current, cursor);
            // Moving a row leaves its heap memory, to which `shown` points, where it is.
            cursor.current = Some(current);
            record::write(row, shown)?;
            Ok(PH_OK)
        })
    }
}

/// Whether a mail address is of this domain; every address is of the empty one.
pub(super) fn is_of(address: &str, domain: &str) -> bool {
    domain.is_empty()
        || address.rsplit_once('@').is_some_and(|(_, of)| of.eq_ignore_ascii_case(domain))
}
