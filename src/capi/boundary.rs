//! The line between C and Rust: what stands around every export.
//!
//! # Method
//! [`boundary!`] runs an export's body under `catch_unwind`. A panic becomes `PH_E_INTERNAL`, and because
//! every access to a handle's content goes through a [`Turn`], whose drop sees the unwinding, the handle is
//! poisoned on the way: later calls answer `PH_E_INTERNAL`, `free` and `close` still work.
//!
//! There are two kinds of handles. [`Exclusive`] is for one caller at a time; builds with debug assertions
//! notice a second caller and answer `PH_E_BUSY`. [`Gate`] is for handles that any thread may
//! use; it only knows whether the handle is poisoned. [`Inside`] remembers, for the running thread, whose
//! callbacks it is in, so that a call back into the same engine is refused and not deadlocked.

use std::cell::{RefCell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use super::status::{PH_OK, ph_error, ph_status, report};
use crate::error::{Error, Kind, Result};

/// Stands around the body of every export.
///
/// `boundary!(err => body)` is for functions that answer a `ph_status`: `body` is a block of type
/// `Result<ph_status>`. `boundary!(or fallback => body)` is for all others: `fallback` is answered after a panic.
macro_rules! boundary {
    (or $fallback:expr => $body:block) => {
        $crate::capi::boundary::guarded_value($fallback, || $body)
    };
    ($error:expr => $body:block) => {
        $crate::capi::boundary::guarded_status($error, || $body)
    };
}

/// [`boundary!`] for functions that answer a status.
pub(super) fn guarded_status(
    error: *mut ph_error,
    body: impl FnOnce() -> Result<ph_status>,
) -> ph_status {
    let answer = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let text = format!("internal error: {}", panic_text(payload.as_ref()));
        // A payload whose own drop panics must not get past the boundary.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(payload)));
        Err(Error::new(Kind::Internal, text))
    });
    match answer {
        Ok(status) => {
            // SAFETY: the header's promise for every `ph_error *`: NULL or a writable ph_error.
            unsafe { report(error, None) };
            status
        }
        Err(e) => {
            // SAFETY: as above.
            unsafe { report(error, Some(&e)) };
            e.kind().code()
        }
    }
}

/// [`boundary!`] for functions that answer a value.
pub(super) fn guarded_value<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(payload) => {
            let _ = catch_unwind(AssertUnwindSafe(move || drop(payload)));
            fallback
        }
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text");
    text.lines().next().unwrap_or(text)
}

/// The status of a call that went well and has nothing else to say.
pub(super) const DONE: Result<ph_status> = Ok(PH_OK);

/// The thing behind a pointer that must not be NULL.
///
/// # Safety
/// `pointer` is NULL or points to a live `T` that nobody has exclusively for as long as `'a`.
pub(super) unsafe fn required<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(name))
}

/// The error for a pointer that must not be NULL.
pub(super) fn null(name: &str) -> Error {
    Error::new(Kind::Null, format!("{name} is NULL"))
}

/// Hands a new handle to C.
///
/// # Safety
/// `out` is writable.
pub(super) unsafe fn give<T>(out: *mut *mut T, handle: T) {
    // SAFETY: the caller's promise.
    unsafe { out.write(Box::into_raw(Box::new(handle))) };
}

/// Checks a handle's out-parameter and sets it to NULL, so that a failed constructor leaves no stale pointer.
///
/// # Safety
/// `out` is NULL or writable.
pub(super) unsafe fn clear<T>(out: *mut *mut T, name: &str) -> Result<()> {
    if out.is_null() {
        return Err(null(name));
    }
    // SAFETY: the caller's promise, and it is not NULL.
    unsafe { out.write(std::ptr::null_mut()) };
    Ok(())
}

/// Takes a handle back from C and drops it. NULL is allowed.
///
/// # Safety
/// `handle` is NULL or came from [`give`] and was not taken back before.
pub(super) unsafe fn take<T>(handle: *mut T) -> Option<Box<T>> {
    // SAFETY: the caller's promise.
    (!handle.is_null()).then(|| unsafe { Box::from_raw(handle) })
}

/// A handle's state that any thread may look at.
#[derive(Debug, Default)]
pub(super) struct Gate {
    poisoned: AtomicBool,
    busy: AtomicBool,
}

impl Gate {
    /// Begins a call that may run beside others.
    pub(super) fn shared(&self) -> Result<Turn<'_>> {
        self.enter(false)
    }

    fn enter(&self, exclusive: bool) -> Result<Turn<'_>> {
        // A release build trusts the host; a debug build looks.
        let exclusive = exclusive && cfg!(debug_assertions);
        if exclusive && self.busy.swap(true, Ordering::Acquire) {
            return Err(Error::new(
                Kind::Busy,
                "the handle is in use by another call; use it from one thread at a time",
            ));
        }
        let turn = Turn { gate: self, exclusive, unwinding: std::thread::panicking() };
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::new(
                Kind::Internal,
                "the handle is unusable after an internal error; only free or close it",
            ));
        }
        Ok(turn)
    }
}

/// A call's stay at a handle. Unwinding through it poisons the handle.
pub(super) struct Turn<'a> {
    gate: &'a Gate,
    exclusive: bool,
    unwinding: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.unwinding {
            self.gate.poisoned.store(true, Ordering::Release);
        }
        if self.exclusive {
            self.gate.busy.store(false, Ordering::Release);
        }
    }
}

/// The content of a handle that one caller uses at a time.
#[derive(Debug)]
pub(super) struct Exclusive<T> {
    gate: Gate,
    content: UnsafeCell<T>,
}

impl<T> Exclusive<T> {
    pub(super) fn new(content: T) -> Exclusive<T> {
        Exclusive { gate: Gate::default(), content: UnsafeCell::new(content) }
    }

    /// Runs one call on the content.
    ///
    /// # Safety
    /// No other call on this handle runs at the same time, as the header demands of the host. (Builds with
    /// debug assertions notice and refuse it.)
    pub(super) unsafe fn with<R>(&self, body: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let _turn = self.gate.enter(true)?;
        // SAFETY: the caller's promise: this is the only reference to the content while `_turn` lives.
        body(unsafe { &mut *self.content.get() })
    }
}

thread_local! {
    /// Whose callbacks this thread is in, the innermost last.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A callback's stay on this thread.
pub(super) struct Inside(());

impl Inside {
    /// This thread enters a callback of `owner`.
    pub(super) fn enter(owner: usize) -> Inside {
        INSIDE.with_borrow_mut(|stack| stack.push(owner));
        Inside(())
    }

    /// Refuses a call on `owner` from inside one of its callbacks.
    pub(super) fn refuse(owner: usize) -> Result<()> {
        if INSIDE.with_borrow(|stack| stack.contains(&owner)) {
            return Err(Error::new(
                Kind::Reentrant,
                "a callback of this engine called back into it; do it on another thread",
            ));
        }
        Ok(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.with_borrow_mut(|stack| {
            stack.pop();
        });
    }
}
