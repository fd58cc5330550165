//! What C programs cannot bring about: panics, overlap, and calls that meet a callback.

#![allow(clippy::disallowed_methods)] // threads are what some of these tests are about

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::boundary::{DONE, Exclusive, Gate, Inside};
use super::bytes::{self, ph_bytes};
use super::callback::Callback;
use super::record::{self, Record};
use super::status::{PH_ERROR_MESSAGE_SIZE, PH_OK, ph_error};
use crate::error::{Error, Kind, Result};

fn empty_error() -> ph_error {
    ph_error {
        struct_size: size_of::<ph_error>() as u32,
        code: 1,
        os_error: 1,
        smtp_code: 1,
        message: [1; PH_ERROR_MESSAGE_SIZE],
    }
}

fn message(error: &ph_error) -> String {
    let octets: Vec<u8> =
        error.message.iter().map(|c| c.to_ne_bytes()[0]).take_while(|b| *b != 0).collect();
    String::from_utf8(octets).unwrap()
}

/// Runs quietly: a panic on purpose need not be printed.
fn quietly<T>(body: impl FnOnce() -> T + Send + 'static) -> T
where
    T: Send + 'static,
{
    std::thread::Builder::new().spawn(body).unwrap().join().unwrap()
}

#[test]
fn a_panic_becomes_internal_and_poisons_the_handle_it_was_in() {
    quietly(|| {
        let handle = Exclusive::new(1);
        let other = Exclusive::new(2);
        let mut error = empty_error();
        // SAFETY: one thread.
        let use_it = |handle: &Exclusive<i32>, panics: bool, error: &mut ph_error| unsafe {
            boundary!(error => {
                handle.with(|content| {
                    assert!(!panics, "broken on purpose");
                    *content += 1;
                    DONE
                })
            })
        };
        assert_eq!(use_it(&handle, false, &mut error), PH_OK);
        assert_eq!((error.code, error.message[0]), (PH_OK, 0));
        assert_eq!(use_it(&handle, true, &mut error), Kind::Internal.code());
        assert!(message(&error).contains("broken on purpose"), "{}", message(&error));
        assert_eq!(use_it(&handle, false, &mut error), Kind::Internal.code());
        assert!(message(&error).contains("unusable"), "{}", message(&error));
        assert_eq!(use_it(&other, false, &mut error), PH_OK);
    });
}

#[test]
fn a_panic_in_a_function_without_status_answers_the_fallback() {
    assert_eq!(quietly(|| boundary!(or 7 => { panic!("on purpose") })), 7);
}

#[test]
fn a_panic_poisons_a_shared_handle_for_everybody() {
    quietly(|| {
        let gate = Gate::default();
        let status = boundary!(std::ptr::null_mut() => {
            let _turn = gate.shared()?;
            panic!("on purpose");
        });
        assert_eq!(status, Kind::Internal.code());
        assert_eq!(gate.shared().err().map(|e| e.kind()), Some(Kind::Internal));
    });
}

#[test]
#[cfg(debug_assertions)]
fn overlap_on_a_one_at_a_time_handle_is_busy() {
    struct Shared(Exclusive<()>);
    // SAFETY: the test is that overlap is refused before the content is touched.
    unsafe impl Sync for Shared {}
    let handle = Shared(Exclusive::new(()));
    let (inside, entered) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let handle = &handle;
        scope.spawn(move || {
            // SAFETY: overlap is refused.
            let held = unsafe {
                handle.0.with(|()| {
                    inside.send(()).unwrap();
                    released.recv().unwrap();
                    Ok(())
                })
            };
            held.unwrap();
        });
        entered.recv().unwrap();
        // SAFETY: overlap is refused.
        let second = unsafe { handle.0.with(|()| Ok(())) };
        assert_eq!(second.unwrap_err().kind(), Kind::Busy);
        release.send(()).unwrap();
    });
    // SAFETY: nobody else is here any more.
    assert!(unsafe { handle.0.with(|()| Ok(())) }.is_ok());
}

#[test]
fn a_call_is_refused_only_inside_a_callback_of_its_own_engine() {
    let first = Inside::enter(1);
    assert_eq!(Inside::refuse(1).unwrap_err().kind(), Kind::Reentrant);
    assert!(Inside::refuse(2).is_ok());
    let second = Inside::enter(2);
    assert!(Inside::refuse(1).is_err() && Inside::refuse(2).is_err());
    drop(second);
    assert!(Inside::refuse(1).is_err() && Inside::refuse(2).is_ok());
    drop(first);
    assert!(Inside::refuse(1).is_ok());
    let _first = Inside::enter(1);
    std::thread::spawn(|| assert!(Inside::refuse(1).is_ok())).join().unwrap();
}

unsafe extern "C" fn count(user_data: *mut c_void) {
    // SAFETY: the tests give a counter that outlives the callback.
    unsafe { &*user_data.cast::<AtomicU32>() }.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn retiring_a_callback_waits_for_the_call_that_runs_and_drops_once() {
    let dropped = AtomicU32::new(0);
    let data = (&raw const dropped).cast_mut().cast::<c_void>();
    let callback = Callback::new((), data, Some(count), 1);
    let (inside, entered) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let callback = &callback;
        scope.spawn(move || {
            callback.call(|(), _| {
                inside.send(()).unwrap();
                released.recv().unwrap();
            });
        });
        entered.recv().unwrap();
        let retired = scope.spawn(|| callback.retire());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!retired.is_finished());
        assert_eq!(dropped.load(Ordering::SeqCst), 0);
        release.send(()).unwrap();
    });
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
    callback.call(|(), _| panic!("a retired callback was called"));
    callback.retire();
    drop(callback);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grown {
    struct_size: u32,
    old: u32,
    new: u64,
}

// SAFETY: repr(C), begins with `struct_size`; integers only.
unsafe impl Record for Grown {
    const NAME: &'static str = "grown";
    const FIRST: usize = 8;
}

#[test]
fn an_older_struct_reads_as_zero_where_it_ends_and_is_not_written_beyond() {
    let mut older = Grown { struct_size: 8, old: 5, new: 6 };
    // SAFETY: a whole struct, of which only the first half is declared.
    let read: Result<Grown> = unsafe { record::read(&raw const older) };
    assert_eq!(read.unwrap(), Grown { struct_size: 8, old: 5, new: 0 });
    // SAFETY: as above.
    unsafe { record::write(&raw mut older, Grown { struct_size: 0, old: 7, new: 8 }) }.unwrap();
    assert_eq!(older, Grown { struct_size: 8, old: 7, new: 6 });
}

/// What a host passes that was compiled before the struct grew: its own size, and nothing behind it.
#[cfg(target_pointer_width = "64")]
#[track_caller]
fn takes_the_size<T: Record>(size: u32) {
    // As long as the host's own, so that a reader that goes beyond is seen by the tools that look for it.
    let mut octets = vec![0u64; size as usize / 8];
    octets[0] = u64::from(size);
    let place = octets.as_mut_ptr().cast::<T>();
    // SAFETY: so many octets as `struct_size` says; every pattern of bits is a value.
    let value = unsafe { record::read(place.cast_const()) };
    assert!(value.is_ok(), "{} of {size} octets", T::NAME);
    // SAFETY: as above.
    unsafe { record::write(place, value.unwrap()) }.unwrap();
}

#[test]
#[cfg(target_pointer_width = "64")]
fn hosts_of_the_time_before_a_struct_grew_still_work() {
    takes_the_size::<super::engine::ph_engine_options>(64);
    takes_the_size::<super::smtp_server::ph_smtp_server_options>(64);
    takes_the_size::<super::smtp_server::ph_smtp_event>(104);
    takes_the_size::<super::pop3_server::ph_pop3_event>(96);
}

#[test]
fn sizes_that_no_version_had_are_refused() {
    for size in [0, 1, 7, (64 << 10) + 1, u32::MAX] {
        let given = Grown { struct_size: size, old: 0, new: 0 };
        // SAFETY: refused by its size alone.
        let read: Result<Grown> = unsafe { record::read(&raw const given) };
        assert_eq!(read.unwrap_err().kind(), Kind::StructSize, "{size}");
    }
}

#[test]
fn a_long_message_is_cut_between_characters_and_stays_one_line() {
    let mut error = empty_error();
    let text = format!("{}\u{e9}\u{e9}", "x".repeat(PH_ERROR_MESSAGE_SIZE - 2));
    let status = boundary!(&raw mut error => { Err(Error::new(Kind::Io, text)) });
    assert_eq!((status, error.code), (Kind::Io.code(), Kind::Io.code()));
    assert_eq!(message(&error), "x".repeat(PH_ERROR_MESSAGE_SIZE - 2));
    assert_eq!(error.smtp_code, 451);
    boundary!(&raw mut error => { Err(Error::new(Kind::Io, "one\r\ntwo\0three")) });
    assert_eq!(message(&error), "one  two three");
}

#[test]
fn arrays_that_cannot_be_are_refused_before_they_are_read() {
    let one = ph_bytes::new(b"x");
    // SAFETY: refused before anything is read.
    unsafe {
        let huge: Result<&[ph_bytes]> = bytes::slice(&raw const one, usize::MAX, "huge");
        assert_eq!(huge.unwrap_err().kind(), Kind::InvalidArgument);
        let null: Result<&[ph_bytes]> = bytes::slice(std::ptr::null(), 1, "null");
        assert_eq!(null.unwrap_err().kind(), Kind::Null);
        let none: Result<&[ph_bytes]> = bytes::slice(std::ptr::null(), 0, "none");
        assert!(none.unwrap().is_empty());
        assert_eq!(bytes::path(c"".as_ptr(), "path").unwrap_err().kind(), Kind::InvalidArgument);
        assert_eq!(bytes::path(c"\xff".as_ptr(), "path").unwrap_err().kind(), Kind::Utf8);
        assert!(bytes::host_name(c"mail example".as_ptr(), "name").is_err());
    }
}
