//! `ph_engine`: an open instance.

use std::ffi::c_char;
use std::ffi::c_void;
use std::net::SocketAddr;
use std::sync::Arc;

use super::boundary::{DONE, Gate, Inside, Turn, clear, give, required, take};
use super::bytes::{self, ph_bytes};
use super::callback::{
    Callback, PH_EVENT_DAMAGE, PH_EVENT_DEFERRED, PH_EVENT_DELIVERED, PH_EVENT_FAILED,
    PH_EVENT_INDEX_REPAIRED, PH_EVENT_LISTENING, PH_EVENT_LOGIN, PH_EVENT_MESSAGE_ACCEPTED,
    PH_EVENT_RECIPIENT_REFUSED, PH_EVENT_SESSION_BEGUN, PH_EVENT_SESSION_ENDED,
    PH_EVENT_SPACE_AMPLE, PH_EVENT_SPACE_FULL, PH_EVENT_SPACE_LOW, PH_EVENT_STOPPED,
    PH_EVENT_STORE_READ_ONLY, PH_EVENT_STORE_WRITABLE, PH_LOG_DEBUG, PH_LOG_ERROR, PH_LOG_INFO,
    PH_LOG_TRACE, PH_LOG_WARN, ph_drop_fn, ph_event, ph_event_fn, ph_log_fn,
};
use super::policy::{
    HostHook, PH_POLICY_ACCEPT, PolicyFn, ph_policy_answer, ph_policy_fn, ph_policy_later,
    ph_policy_question,
};
use super::record::{self, Record};
use super::status::{ph_error, ph_status};
use super::token::{HostVerifier, PH_TOKEN_UNAVAILABLE, TokenFn, ph_token_fn, ph_token_request};
use crate::engine::{Delivery, Engine, Event, EventSink, LogLevel, LogSink, Options};
use crate::error::{Error, Kind, Result};

/// An open instance: it recovers and administers when opened, serves when started.
///
/// Made by ph_engine_open, ended by ph_engine_close. Any thread may use it, several at once; ph_engine_close is
/// the last call on it. What is made from it (cursors, messages, checks) may be destroyed before or after it.
pub struct ph_engine {
    shared: Arc<Shared>,
}

/// What an engine's handle and everything made from it share.
pub(super) struct Shared {
    engine: Arc<Engine>,
    gate: Gate,
    hooks: Hooks,
}

/// The host's callbacks of one engine.
struct Hooks {
    log: Option<Arc<Callback<LogFn>>>,
    event: Option<Arc<Callback<EventFn>>>,
    policy: Option<Arc<Callback<PolicyFn>>>,
    token: Option<Arc<Callback<TokenFn>>>,
    /// Its address is the engine's name for [`Inside`].
    owner: Arc<Owner>,
}

/// Something with an address of its own.
struct Owner(#[allow(dead_code)] u8);

/// Most threads that a host may ask for: beyond this it is a mistake, not a machine.
const MOST_THREADS: u32 = 1024;

type LogFn = unsafe extern "C" fn(*mut c_void, u32, ph_bytes, ph_bytes);
type EventFn = unsafe extern "C" fn(*mut c_void, *const ph_event);

impl Shared {
    /// Begins a call on the engine or on something made from it.
    pub(super) fn enter(&self) -> Result<(&Arc<Engine>, Turn<'_>)> {
        Inside::refuse(self.hooks.name())?;
        let turn = self.gate.shared()?;
        Ok((&self.engine, turn))
    }

    /// The engine's name for [`Inside`].
    pub(super) fn owner(&self) -> usize {
        self.hooks.name()
    }

    /// This thread enters a callback that the engine has for one call only.
    pub(super) fn inside(&self) -> Inside {
        Inside::enter(self.hooks.name())
    }
}

impl Hooks {
    fn name(&self) -> usize {
        Arc::as_ptr(&self.owner).addr()
    }

    fn retire(&self) {
        if let Some(log) = &self.log {
            log.retire();
        }
        if let Some(event) = &self.event {
            event.retire();
        }
        if let Some(policy) = &self.policy {
            policy.retire();
        }
        if let Some(token) = &self.token {
            token.retire();
        }
    }
}

/// The share of an engine that something made from it keeps.
///
/// # Safety
/// `engine` is NULL or a live handle.
pub(super) unsafe fn share(engine: *mut ph_engine) -> Result<Arc<Shared>> {
    // SAFETY: the caller's promise.
    Ok(Arc::clone(&unsafe { required(engine, "engine") }?.shared))
}

/// Runs one call on an engine.
///
/// # Safety
/// `engine` is NULL or a live handle.
pub(super) unsafe fn with<R>(
    engine: *const ph_engine,
    body: impl FnOnce(&Arc<Engine>) -> Result<R>,
) -> Result<R> {
    // SAFETY: the caller's promise.
    let handle = unsafe { required(engine, "engine") }?;
    let (engine, _turn) = handle.shared.enter()?;
    body(engine)
}

/// How an engine is opened. Begin with PH_ENGINE_OPTIONS_INIT; zero means the default everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_engine_options {
    /// sizeof(ph_engine_options).
    pub struct_size: u32,
    /// Log lines below this level are not made: PH_LOG_..., 0 for PH_LOG_INFO.
    pub log_level: u32,
    /// Called for every line of the log. NULL: there is no log.
    pub log: ph_log_fn,
    /// Given to log.
    pub log_user_data: *mut c_void,
    /// Called once with log_user_data when it is used no more. May be NULL.
    pub log_drop_user_data: ph_drop_fn,
    /// Called for every event. NULL: nobody wants to know.
    pub event: ph_event_fn,
    /// Given to event.
    pub event_user_data: *mut c_void,
    /// Called once with event_user_data when it is used no more. May be NULL.
    pub event_drop_user_data: ph_drop_fn,
    /// Threads that serve connections, at most 1024. 0: one for each processor, at most 8.
    pub threads: u32,
    /// Milliseconds that a policy question which is answered later may take. 0: 60000.
    pub policy_timeout_ms: u32,
    /// Asked at every step of a session. NULL: nobody is asked.
    pub policy: ph_policy_fn,
    /// Given to policy.
    pub policy_user_data: *mut c_void,
    /// Called once with policy_user_data when it is used no more. May be NULL.
    pub policy_drop_user_data: ph_drop_fn,
    /// Verifies bearer tokens. NULL: OAUTHBEARER and XOAUTH2 are not offered.
    pub token: ph_token_fn,
    /// Given to token.
    pub token_user_data: *mut c_void,
    /// Called once with token_user_data when it is used no more. May be NULL.
    pub token_drop_user_data: ph_drop_fn,
}

// SAFETY: repr(C), begins with `struct_size`; integers, pointers and optional functions.
unsafe impl Record for ph_engine_options {
    const NAME: &'static str = "ph_engine_options";
    const FIRST: usize = std::mem::offset_of!(ph_engine_options, policy);
}

/// Figures of an engine since it was opened. Begin with PH_STATS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_stats {
    /// sizeof(ph_stats).
    pub struct_size: u32,
    /// Always 0.
    pub reserved: u32,
    /// Connections open now.
    pub connections: u64,
    /// Connections accepted.
    pub connections_total: u64,
    /// Connections turned away because of a limit.
    pub connections_refused: u64,
    /// Messages accepted: 250 after the data, or by ph_engine_submit.
    pub messages_accepted: u64,
    /// Recipients refused.
    pub recipients_refused: u64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins that failed.
    pub logins_failed: u64,
    /// Messages read by POP3 clients.
    pub messages_retrieved: u64,
    /// Syncs of log files.
    pub log_syncs: u64,
    /// Octets written to log files.
    pub log_bytes: u64,
    /// Octets written to index files.
    pub index_bytes: u64,
}

// SAFETY: repr(C), begins with `struct_size`; integers only.
unsafe impl Record for ph_stats {
    const NAME: &'static str = "ph_stats";
    const FIRST: usize = size_of::<ph_stats>();
}

/// Opens an instance.
///
/// Behaviour: takes the instance's lock, recovers what a crash left, reads configuration and directory. Serves
/// nothing yet: see ph_engine_start. Several engines may be open in one process, each with its own instance.
/// On Windows the library stays loaded from the first engine on: FreeLibrary does not unload it.
/// Parameters: directory, the instance's directory, NUL-terminated UTF-8; options, or NULL for the defaults;
/// out, where the handle goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_NOT_AN_INSTANCE when the directory holds none or does not exist; PH_E_PERMISSION; PH_E_LOCKED when another process or
/// engine has it open; PH_E_CORRUPT, PH_E_FORMAT_NEWER; PH_E_CONFIG, PH_E_CERTIFICATE, PH_E_PRIVATE_KEY; PH_E_STRUCT_SIZE,
/// PH_E_INVALID_ARGUMENT, PH_E_NULL, PH_E_UTF8. When the call fails nothing of it remains.
/// Ownership: the handle is the caller's, to be ended by ph_engine_close. The user_data of the callbacks passes to the
/// library with this call: its drop function is called exactly once, also when the call fails. Only when the
/// answer is PH_E_STRUCT_SIZE, options was not read and user_data stays the caller's.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_engine_open(
    directory: *const c_char,
    options: *const ph_engine_options,
    out: *mut *mut ph_engine,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented above.
        unsafe {
            let options = record::read_optional(options)?;
            let hooks = Hooks::new(options.as_ref());
            let opened = clear(out, "out").and_then(|()| {
                let directory = bytes::path(directory, "directory")?;
                let options = engine_options(options.as_ref(), &hooks)?;
                pin_module();
                Engine::open(&directory, options)
            });
            match opened {
                Ok(engine) => {
                    let shared = Arc::new(Shared { engine, gate: Gate::default(), hooks });
                    give(out, ph_engine { shared });
                    DONE
                }
                Err(error) => {
                    hooks.retire();
                    Err(error)
                }
            }
        }
    })
}

/// Binds all listeners and serves.
///
/// Behaviour: when one listener cannot be bound none is kept. Without effect when the engine serves already. May be
/// called again after ph_engine_stop.
/// Parameters: engine; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_ADDRESS_IN_USE, PH_E_ADDRESS_INVALID, PH_E_PERMISSION (the message names the listener); PH_E_CERTIFICATE,
/// PH_E_PRIVATE_KEY; PH_E_STOPPED, PH_E_REENTRANT, PH_E_NULL.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_engine_start(engine: *mut ph_engine, err: *mut ph_error) -> ph_status {
    boundary!(err => {
        // SAFETY: a live handle, as documented.
        unsafe { with(engine, |engine| engine.start()) }?;
        DONE
    })
}

/// Stops serving.
///
/// Behaviour: accepts no new connection, tells idle ones 421, lets running transactions end within the
/// configured time, and returns when every connection is gone. Administration still works. Without effect when
/// the engine does not serve.
/// Parameters: engine; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STOPPED, PH_E_REENTRANT, PH_E_NULL.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_engine_stop(engine: *mut ph_engine, err: *mut ph_error) -> ph_status {
    boundary!(err => {
        // SAFETY: a live handle, as documented.
        unsafe { with(engine, |engine| engine.stop()) }?;
        DONE
    })
}

/// Reads the configuration and the certificates anew, without dropping a connection.
///
/// Behaviour: the table policy of posthouse.toml (networks, limits of connections, rates, pauses, lock-out) holds from
/// now on, and TLS connections that begin from now on get the certificates as their files are now. All of it takes
/// effect, or, when anything is wrong, nothing. Listeners, the bounds of sessions and whether there is TLS at all hold
/// until the next ph_engine_start after a new opening. Waits for files.
/// Parameters: engine; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_CONFIG, PH_E_CERTIFICATE, PH_E_PRIVATE_KEY (the message says what is wrong with what); PH_E_STOPPED,
/// PH_E_REENTRANT, PH_E_NULL; those of the operating system.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_engine_reload(engine: *mut ph_engine, err: *mut ph_error) -> ph_status {
    boundary!(err => {
        // SAFETY: a live handle, as documented.
        unsafe { with(engine, |engine| engine.reload()) }?;
        DONE
    })
}

/// Stops, closes the instance, releases its lock, and destroys the handle.
///
/// Behaviour: when it returns, no callback of this engine runs or will run, and their drop functions have been
/// called; it waits for callbacks that run, so the caller must not hold what they wait for. Cursors and messages made from the engine stay valid: they answer PH_E_STOPPED or what they hold
/// already, and are freed as ever. Works on an engine that had an internal error.
/// Parameters: engine, or NULL, which does nothing; err, or NULL.
/// Returns: PH_OK or an error. Whatever it answers but PH_E_REENTRANT, the handle is gone.
/// Errors: PH_E_REENTRANT from inside a callback of this engine: nothing was done. PH_E_IO, PH_E_DISK_FULL when the last
/// write failed; what was acknowledged is safe, opening recovers it.
/// Ownership: ends the handle.
/// Thread: any thread, when no other call on this engine runs and none will come.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_engine_close(engine: *mut ph_engine, err: *mut ph_error) -> ph_status {
    boundary!(err => {
        if engine.is_null() {
            return DONE;
        }
        // SAFETY: a live handle, as documented, and the last call on it.
        let handle = unsafe {
            Inside::refuse(required(engine, "engine")?.shared.hooks.name())?;
            take(engine)
        };
        if let Some(handle) = handle {
            let closed = handle.shared.engine.close();
            handle.shared.hooks.retire();
            closed?;
        }
        DONE
    })
}

/// Reads the engine's figures.
///
/// Parameters: engine; out, a ph_stats with struct_size set; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_REENTRANT, PH_E_NULL.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_engine_stats(
    engine: *mut ph_engine,
    out: *mut ph_stats,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            record::check_out(out)?;
            let stats = with(engine, |engine| Ok(engine.stats()))?;
            record::write(out, ph_stats {
                struct_size: 0,
                reserved: 0,
                connections: stats.connections,
                connections_total: stats.connections_total,
                connections_refused: stats.connections_refused,
                messages_accepted: stats.messages_accepted,
                recipients_refused: stats.recipients_refused,
                logins: stats.logins,
                logins_failed: stats.logins_failed,
                messages_retrieved: stats.messages_retrieved,
                log_syncs: stats.log_syncs,
                log_bytes: stats.log_bytes,
                index_bytes: stats.index_bytes,
            })?;
        }
        DONE
    })
}

/// Takes a message from the host.
///
/// Behaviour: the same rules as for an authenticated submission: local recipients get it in their INBOX, others are
/// queued, trace fields are added in front. Blocks until the message is on disk: after PH_OK it survives a
/// power cut. When one recipient is refused nothing is taken.
/// Parameters: engine; from, the reverse-path without angle brackets, empty for the null path; recipients, an array of
/// recipient_count forward-paths without angle brackets, at least one; message, header and body with CR LF
/// line ends; message_id, where the message's id goes, or NULL; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_ADDRESS, PH_E_NOT_FOUND for an address or recipient that cannot be (the message names it, smtp_code fits a
/// reply); PH_E_INVALID_ARGUMENT for no recipient, a NUL, or a CR or LF that is not part of a CR LF (with its offset);
/// PH_E_LIMIT for a message over the limit; PH_E_DISK_FULL, PH_E_READ_ONLY, PH_E_IO, PH_E_STOPPED, PH_E_REENTRANT, PH_E_UTF8, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_engine_submit(
    engine: *mut ph_engine,
    from: ph_bytes,
    recipients: *const ph_bytes,
    recipient_count: usize,
    message: ph_bytes,
    message_id: *mut u64,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            let from = from.text("from")?;
            let recipients = bytes::slice(recipients, recipient_count, "recipients")?
                .iter()
                .map(|one| one.text("recipients"))
                .collect::<Result<Vec<_>>>()?;
            if recipients.is_empty() {
                return Err(Error::new(Kind::InvalidArgument, "recipients is empty"));
            }
            let message = message.octets("message")?;
            let id = with(engine, |engine| engine.submit(from, &recipients, message))?;
            if !message_id.is_null() {
                message_id.write(id.0);
            }
        }
        DONE
    })
}

impl Hooks {
    /// Takes over the host's user_data, before anything can fail.
    fn new(options: Option<&ph_engine_options>) -> Hooks {
        let owner = Arc::new(Owner(0));
        let name = Arc::as_ptr(&owner).addr();
        let mut hooks = Hooks { log: None, event: None, policy: None, token: None, owner };
        let Some(o) = options else { return hooks };
        hooks.log = callback(o.log, no_log, o.log_user_data, o.log_drop_user_data, name);
        hooks.event = callback(o.event, no_event, o.event_user_data, o.event_drop_user_data, name);
        let (data, drop) = (o.policy_user_data, o.policy_drop_user_data);
        hooks.policy = callback(o.policy, no_policy, data, drop, name);
        hooks.token = callback(o.token, no_token, o.token_user_data, o.token_drop_user_data, name);
        hooks
    }
}

/// A function of the host with its data. Data without a function still has to be let go: `nobody` stands for it.
fn callback<F: Copy>(
    function: Option<F>,
    nobody: F,
    user_data: *mut c_void,
    drop_user_data: ph_drop_fn,
    owner: usize,
) -> Option<Arc<Callback<F>>> {
    if function.is_none() && drop_user_data.is_none() {
        return None;
    }
    Some(Arc::new(Callback::new(function.unwrap_or(nobody), user_data, drop_user_data, owner)))
}

unsafe extern "C" fn no_log(_: *mut c_void, _: u32, _: ph_bytes, _: ph_bytes) {}

unsafe extern "C" fn no_event(_: *mut c_void, _: *const ph_event) {}

unsafe extern "C" fn no_policy(
    _: *mut c_void,
    _: *const ph_policy_question,
    _: *mut ph_policy_answer,
    _: *mut ph_policy_later,
) -> u32 {
    PH_POLICY_ACCEPT
}

unsafe extern "C" fn no_token(_: *mut c_void, _: *const ph_token_request, _: *mut c_char) -> i32 {
    PH_TOKEN_UNAVAILABLE
}

fn engine_options(options: Option<&ph_engine_options>, hooks: &Hooks) -> Result<Options> {
    let mut made = Options::default();
    let Some(options) = options else { return Ok(made) };
    made.log_level = match options.log_level {
        0 | PH_LOG_INFO => LogLevel::Info,
        PH_LOG_ERROR => LogLevel::Error,
        PH_LOG_WARN => LogLevel::Warn,
        PH_LOG_DEBUG => LogLevel::Debug,
        PH_LOG_TRACE => LogLevel::Trace,
        other => {
            let text = format!("log_level is {other}; it goes from 0 to 5");
            return Err(Error::new(Kind::InvalidArgument, text));
        }
    };
    if options.threads > MOST_THREADS {
        let text = format!("threads is {}; the most is {MOST_THREADS}", options.threads);
        return Err(Error::new(Kind::InvalidArgument, text));
    }
    made.threads = usize::try_from(options.threads).unwrap_or(usize::MAX);
    if options.log.is_some() {
        made.log = hooks.log.clone().map(log_sink);
    }
    if options.event.is_some() {
        made.events = hooks.event.clone().map(event_sink);
    }
    if options.policy.is_some()
        && let Some(policy) = &hooks.policy
    {
        let mut terms = crate::service::hook::Hooks::new(Arc::new(HostHook(Arc::clone(policy))));
        if options.policy_timeout_ms != 0 {
            terms.millis = options.policy_timeout_ms.into();
        }
        made.hooks = Some(terms);
    }
    if options.token.is_some()
        && let Some(token) = &hooks.token
    {
        made.tokens = Some(Arc::new(HostVerifier(Arc::clone(token))));
    }
    Ok(made)
}

fn log_sink(callback: Arc<Callback<LogFn>>) -> LogSink {
    Arc::new(move |level, room, line| {
        callback.call(|function, user_data| {
            let (room, line) = (ph_bytes::new(room.as_bytes()), ph_bytes::new(line.as_bytes()));
            // SAFETY: the host's function with the host's data, arguments as documented at ph_log_fn.
            unsafe { function(user_data, level as u32, room, line) };
        });
    })
}

fn event_sink(callback: Arc<Callback<EventFn>>) -> EventSink {
    Arc::new(move |event| {
        let mut address = String::new();
        let Some(event) = event_for_c(event, &mut address) else { return };
        callback.call(|function, user_data| {
            // SAFETY: the host's function with the host's data, arguments as documented at ph_event_fn;
            // `address` and what `event` borrows from outlive the call.
            unsafe { function(user_data, &raw const event) };
        });
    })
}

/// The event as C sees it; `text` keeps what has to be written out.
fn event_for_c(event: &Event<'_>, text: &mut String) -> Option<ph_event> {
    use std::fmt::Display;
    let mut spell = |address: Option<&dyn Display>| {
        if let Some(address) = address {
            *text = address.to_string();
        }
        ph_bytes::new(text.as_bytes())
    };
    let mut write = |address: Option<SocketAddr>| {
        spell(address.as_ref().map(|address| address as &dyn Display))
    };
    Some(match *event {
        Event::Listening { name, address } => ph_event {
            name: ph_bytes::new(name.as_bytes()),
            address: spell(Some(address)),
            ..ph_event::new(PH_EVENT_LISTENING)
        },
        Event::MessageAccepted { id, from, local, remote, size, peer, session } => ph_event {
            session,
            message_id: id.0,
            size,
            local,
            remote,
            address: ph_bytes::new(from.as_bytes()),
            peer: write(peer),
            ..ph_event::new(PH_EVENT_MESSAGE_ACCEPTED)
        },
        Event::SessionBegun { session, service, peer } => ph_event {
            session,
            name: ph_bytes::new(service.as_bytes()),
            peer: write(Some(peer)),
            ..ph_event::new(PH_EVENT_SESSION_BEGUN)
        },
        Event::SessionEnded { session, service, peer, reason, messages, refused } => ph_event {
            session,
            local: messages,
            remote: refused,
            name: ph_bytes::new(service.as_bytes()),
            address: ph_bytes::new(reason.as_bytes()),
            peer: write(Some(peer)),
            ..ph_event::new(PH_EVENT_SESSION_ENDED)
        },
        Event::Delivery { id, address, outcome, attempts, next, remote, answer } => ph_event {
            message_id: id.0,
            code: attempts,
            time_ms: next,
            name: ph_bytes::new(answer.as_bytes()),
            address: ph_bytes::new(address.as_bytes()),
            peer: ph_bytes::new(remote.as_bytes()),
            ..ph_event::new(match outcome {
                Delivery::Delivered => PH_EVENT_DELIVERED,
                Delivery::Deferred => PH_EVENT_DEFERRED,
                Delivery::Failed => PH_EVENT_FAILED,
            })
        },
        Event::RecipientRefused { address, code, peer } => ph_event {
            code: u32::from(code),
            address: ph_bytes::new(address.as_bytes()),
            peer: write(Some(peer)),
            ..ph_event::new(PH_EVENT_RECIPIENT_REFUSED)
        },
        Event::Login { login, accepted, peer } => ph_event {
            code: u32::from(accepted),
            name: ph_bytes::new(login.as_bytes()),
            peer: write(Some(peer)),
            ..ph_event::new(PH_EVENT_LOGIN)
        },
        Event::StoreReadOnly { lane, reason } => ph_event {
            code: u32::from(lane.0),
            name: ph_bytes::new(reason.as_bytes()),
            ..ph_event::new(PH_EVENT_STORE_READ_ONLY)
        },
        Event::StoreWritable { lane } => {
            ph_event { code: u32::from(lane.0), ..ph_event::new(PH_EVENT_STORE_WRITABLE) }
        }
        Event::SpaceLow => ph_event::new(PH_EVENT_SPACE_LOW),
        Event::SpaceFull => ph_event::new(PH_EVENT_SPACE_FULL),
        Event::SpaceAmple => ph_event::new(PH_EVENT_SPACE_AMPLE),
        Event::Damage { finding } => {
            ph_event { name: ph_bytes::new(finding.as_bytes()), ..ph_event::new(PH_EVENT_DAMAGE) }
        }
        Event::IndexRepaired { lane, reason } => ph_event {
            code: u32::from(lane.0),
            name: ph_bytes::new(reason.as_bytes()),
            ..ph_event::new(PH_EVENT_INDEX_REPAIRED)
        },
        Event::Stopped => ph_event::new(PH_EVENT_STOPPED),
        // An event that has no form in C yet.
        #[allow(unreachable_patterns)]
        _ => return None,
    })
}

/// On Windows the library must stay loaded once it has used sockets: when it is unloaded together with ws2_32, every later
/// listener of the process fails. So the first engine pins it.
#[cfg(windows)]
fn pin_module() {
    use windows_sys::Win32::System::LibraryLoader::{
        GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleHandleExW,
    };
    let mut module = std::ptr::null_mut();
    let here = pin_module as fn() as *const u16;
    // SAFETY: an address inside this module, and a place for the answer. A failure leaves it unpinned.
    unsafe {
        GetModuleHandleExW(
            GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
            here,
            &raw mut module,
        );
    }
}

#[cfg(not(windows))]
fn pin_module() {}
