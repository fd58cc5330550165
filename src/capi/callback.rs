//! Callbacks: a function of the host with its data, called from the engine's threads.
//!
//! # Method
//! A [`Callback`] is `(function, user_data, drop_user_data)` behind a read-write lock. A call holds the lock for
//! reading; [`Callback::retire`], which `ph_engine_close` calls, holds it for writing. So after `close` no
//! callback runs or will run, and `drop_user_data` has run exactly once, whatever else is alive.

use std::ffi::c_void;

use super::boundary::Inside;
use super::bytes::ph_bytes;
use crate::sync::RwLock;

/// Called once when the library has no more use for a callback's user_data.
///
/// Thread: the one in ph_engine_close, or in the ph_engine_open that failed. Must not call the engine.
pub type ph_drop_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Called for every line of the log.
///
/// level is one of PH_LOG_..., room the part of the engine that speaks ("runtime", "store"), line the text in UTF-8
/// without a line end. room and line are borrowed for the duration of the call.
/// Thread: any thread of the engine, several at once. Must return soon, must not throw or jump out, and must not
/// call the same engine or anything made from it (PH_E_REENTRANT).
pub type ph_log_fn = Option<
    unsafe extern "C" fn(user_data: *mut c_void, level: u32, room: ph_bytes, line: ph_bytes),
>;

/// Called for every event of an engine.
///
/// event and everything that it points to are borrowed for the duration of the call. event->struct_size is the
/// library's; read only fields that lie below it.
/// Thread: any thread of the engine, several at once. Must return soon, must not throw or jump out, and must not
/// call the same engine or anything made from it (PH_E_REENTRANT).
pub type ph_event_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const ph_event)>;

/// Log level: something must be done by somebody.
pub const PH_LOG_ERROR: u32 = 1;
/// Log level: something is not as it should be.
pub const PH_LOG_WARN: u32 = 2;
/// Log level: what an operator wants to know. The default.
pub const PH_LOG_INFO: u32 = 3;
/// Log level: what a developer wants to know.
pub const PH_LOG_DEBUG: u32 = 4;
/// Log level: everything.
pub const PH_LOG_TRACE: u32 = 5;

/// Event: a listener serves. name is the listener's, address its address with port.
pub const PH_EVENT_LISTENING: u32 = 1;
/// Event: a message is on disk and acknowledged. message_id, size, local, remote; address is the reverse-path,
/// peer where it came from, empty for ph_engine_submit; session, 0 for ph_engine_submit.
pub const PH_EVENT_MESSAGE_ACCEPTED: u32 = 2;
/// Event: a recipient was refused. address is the forward-path, code the SMTP reply code, peer who tried.
pub const PH_EVENT_RECIPIENT_REFUSED: u32 = 3;
/// Event: a login succeeded (code 1) or failed (code 0). name is the login name, peer who tried.
pub const PH_EVENT_LOGIN: u32 = 4;
/// Event: the engine has stopped serving.
pub const PH_EVENT_STOPPED: u32 = 5;
/// Event: a lane of the store cannot be written. code is the lane, name why, in words. Mail for it is answered 451, new
/// SMTP connections 421; reading goes on. It is tried again by itself.
pub const PH_EVENT_STORE_READ_ONLY: u32 = 6;
/// Event: a lane of the store can be written again. code is the lane.
pub const PH_EVENT_STORE_WRITABLE: u32 = 7;
/// Event: space is low. Mail is refused with 452; everything else goes on.
pub const PH_EVENT_SPACE_LOW: u32 = 8;
/// Event: the disk was found full. As PH_EVENT_SPACE_LOW; the store has given up its ballast.
pub const PH_EVENT_SPACE_FULL: u32 = 9;
/// Event: there is enough space again, mail is taken.
pub const PH_EVENT_SPACE_AMPLE: u32 = 10;
/// Event: data that was acknowledged is damaged on disk. name is what and where, in words. Found when the instance was
/// opened, by a scrub, by an export of the index or by a repair of it; each finding is told once, everything else is
/// served. ph_repair (or posthouse repair) says what is lost.
pub const PH_EVENT_DAMAGE: u32 = 11;
/// Event: the index of a lane had failed, was repaired, and serves again; nothing is lost. code is the lane, name what
/// had failed, in words.
pub const PH_EVENT_INDEX_REPAIRED: u32 = 12;

/// Event: an SMTP, submission or LMTP session has begun. session is its number, name the service ("smtp", "submission",
/// "lmtp"), peer who speaks.
pub const PH_EVENT_SESSION_BEGUN: u32 = 13;
/// Event: a session has ended. session, name and peer as when it began; address is the reason: "quit", "closed" (by this
/// side), "lost" (by the other, without QUIT). local is how many messages were accepted, remote how many recipients refused.
pub const PH_EVENT_SESSION_ENDED: u32 = 14;
/// Event: the other server has a queued message for a recipient. message_id; address is the recipient, peer the server,
/// name what it answered, code how many attempts it took.
pub const PH_EVENT_DELIVERED: u32 = 15;
/// Event: a queued message could not be delivered to a recipient now. As PH_EVENT_DELIVERED; time_ms is when it is tried
/// again at the earliest. When the server could not be asked, name says why.
pub const PH_EVENT_DEFERRED: u32 = 16;
/// Event: a queued message will not be delivered to a recipient. As PH_EVENT_DELIVERED. The entry stays in the queue, the
/// recipient as PH_RECIPIENT_FAILED.
pub const PH_EVENT_FAILED: u32 = 17;

/// Something that happened in an engine. A host ignores kinds that it does not know. Fields that a kind does not
/// name are 0 or empty.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_event {
    /// sizeof(ph_event) of the library.
    pub struct_size: u32,
    /// PH_EVENT_...
    pub kind: u32,
    /// A message's id, which is its queue id too.
    pub message_id: u64,
    /// Octets.
    pub size: u64,
    /// Accounts that have the message in their INBOX.
    pub local: u32,
    /// Recipients that wait in the queue.
    pub remote: u32,
    /// A reply code or an outcome, as the kind says.
    pub code: u32,
    /// Always 0.
    pub reserved: u32,
    /// A name.
    pub name: ph_bytes,
    /// A mail address, or a listener's address.
    pub address: ph_bytes,
    /// The other side's address and port.
    pub peer: ph_bytes,
    /// The session's number, from 1 since the engine was opened; 0 when there is none.
    pub session: u64,
    /// An instant in milliseconds since 1970, as the kind says.
    pub time_ms: u64,
}

impl ph_event {
    /// An event with nothing in it.
    pub(super) const fn new(kind: u32) -> ph_event {
        ph_event {
            struct_size: size_of::<ph_event>() as u32,
            kind,
            message_id: 0,
            size: 0,
            local: 0,
            remote: 0,
            code: 0,
            reserved: 0,
            name: ph_bytes::EMPTY,
            address: ph_bytes::EMPTY,
            peer: ph_bytes::EMPTY,
            session: 0,
            time_ms: 0,
        }
    }
}

/// A function of the host with its data. `F` is the type of the function.
pub(super) struct Callback<F> {
    live: RwLock<Option<Live<F>>>,
    owner: usize,
}

struct Live<F> {
    function: F,
    user_data: *mut c_void,
    drop_user_data: ph_drop_fn,
}

// SAFETY: the header demands of the host that a callback and its user_data can be used from any thread, several
// at once.
unsafe impl<F: Send + Sync> Send for Live<F> {}
// SAFETY: as above.
unsafe impl<F: Send + Sync> Sync for Live<F> {}

impl<F: Copy> Callback<F> {
    /// Takes over `user_data`: from here on `drop_user_data` is called exactly once. `owner` names the engine whose
    /// callback it is, see [`Inside`].
    pub(super) fn new(
        function: F,
        user_data: *mut c_void,
        drop_user_data: ph_drop_fn,
        owner: usize,
    ) -> Callback<F> {
        Callback { live: RwLock::new(Some(Live { function, user_data, drop_user_data })), owner }
    }

    /// Calls the function unless it is retired. `call` makes the call from function and data.
    pub(super) fn call(&self, call: impl FnOnce(F, *mut c_void)) {
        // Recursive: what a callback of one engine does may make another engine speak, and the reverse.
        let live = self.live.read_recursive();
        if let Some(live) = live.as_ref() {
            let _inside = Inside::enter(self.owner);
            call(live.function, live.user_data);
        }
    }

    /// Waits for the calls that run, then lets go of the host's data. Not from inside a call.
    pub(super) fn retire(&self) {
        let live = self.live.write().take();
        let _inside = Inside::enter(self.owner);
        drop(live);
    }
}

impl<F> Drop for Live<F> {
    fn drop(&mut self) {
        if let Some(drop_user_data) = self.drop_user_data {
            // SAFETY: the host gave both together; this is the one time.
            unsafe { drop_user_data(self.user_data) };
        }
    }
}
