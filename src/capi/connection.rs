//! `ph_connection`: the engine answers, the host owns the socket.

use std::ffi::{c_char, c_void};
use std::net::SocketAddr;
use std::sync::Arc;

use super::boundary::{DONE, Exclusive, clear, give, required, take};
use super::bytes::{self, ph_bytes};
use super::callback::{Callback, ph_drop_fn};
use super::engine::{self, Shared, ph_engine};
use super::pending::{self, Drained, Pending};
use super::record::{self, Record};
use super::smtp_server::PH_NEVER;
use super::status::{ph_error, ph_status};
use crate::engine::{Doing, HostedConnection, HostedOptions, HostedTls};
use crate::error::{Error, Kind, Result};
use crate::instance::config::{ListenerConfig, TlsMode};
use crate::runtime::tls::cipher_name;
use crate::service::{TlsFacts, TlsVersion};

/// Connection: all input is used up, or what is left is not a whole unit yet. Write out what is pending, then read more or wait for
/// the time-out.
pub const PH_CONNECTION_NEED_INPUT: u32 = 1;
/// Connection: too much output is pending. Write it out, then step again.
pub const PH_CONNECTION_BLOCKED: u32 = 2;
/// Connection: the engine works on an answer. Write out what is pending, keep the input, stop reading, and step again when ready was
/// called.
pub const PH_CONNECTION_WAITING: u32 = 3;
/// Connection: the peer asked for TLS, which the host makes. Write out what is pending, make the handshake, then
/// ph_connection_tls_started.
pub const PH_CONNECTION_STARTTLS: u32 = 4;
/// Connection: it is over. Write out what is pending, close the socket, and ph_connection_free.
pub const PH_CONNECTION_CLOSED: u32 = 5;

/// TLS of a connection: none, and none is offered.
pub const PH_CONNECTION_TLS_NONE: u32 = 0;
/// TLS of a connection: the engine makes it with its certificate. What goes in and out of the connection is then ciphertext.
pub const PH_CONNECTION_TLS_ENGINE: u32 = 1;
/// TLS of a connection: the host makes it. What goes in and out of the connection is always plaintext.
pub const PH_CONNECTION_TLS_HOST: u32 = 2;

/// Called when a connection that answered PH_CONNECTION_WAITING can be stepped again.
///
/// Thread: one of the engine's. Must return soon, must not throw or jump out, and must not call the engine or anything made from it
/// (PH_E_REENTRANT), nor end the connection: it wakes the host's loop, by a pipe, an eventfd or the like.
pub type ph_ready_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// One connection of the engine on a socket that the host owns.
///
/// Made by ph_connection_new, ended by ph_connection_free. One thread at a time. The host feeds what it reads with
/// ph_connection_step, writes out what ph_connection_output shows, and waits in its own loop; accounts, mailboxes, queue and rules
/// are the engine's, as on its own listeners.
pub struct ph_connection(Exclusive<Content>);

struct Content {
    connection: HostedConnection,
    output: Pending,
    /// The host makes TLS, and was asked to.
    awaits_tls: bool,
    ready: Arc<Callback<ReadyFn>>,
    shared: Arc<Shared>,
}

impl Drained for Content {
    fn output(&mut self) -> &mut Pending {
        &mut self.output
    }
}

type ReadyFn = unsafe extern "C" fn(*mut c_void);

impl Drop for Content {
    fn drop(&mut self) {
        // No call of it runs from here on.
        self.ready.retire();
    }
}

/// What a TLS handshake of the host came to. Begin with PH_TLS_FACTS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_tls_facts {
    /// sizeof(ph_tls_facts).
    pub struct_size: u32,
    /// The version on the wire: 0x0303 for TLS 1.2, 0x0304 for TLS 1.3.
    pub version: u32,
    /// The cipher suite's number (IANA), for instance 0x1301; 0: not told.
    pub cipher: u32,
    /// 1: the session is a resumed one.
    pub resumed: u32,
    /// The name that the client asked for (SNI), UTF-8; empty: none.
    pub server_name: ph_bytes,
    /// Whom the client's verified certificate names, UTF-8; empty: none was shown and verified.
    pub client_name: ph_bytes,
    /// Channel binding data of the type tls-exporter (RFC 9266), 32 octets; empty: not told, and then no SCRAM-...-PLUS is offered.
    pub exporter: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and bytes.
unsafe impl Record for ph_tls_facts {
    const NAME: &'static str = "ph_tls_facts";
    const FIRST: usize = size_of::<ph_tls_facts>();
}

/// What a connection is made with. Begin with PH_CONNECTION_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_connection_options {
    /// sizeof(ph_connection_options).
    pub struct_size: u32,
    /// PH_CONNECTION_TLS_...: who makes TLS. It begins with the first octet for smtps, submissions and pop3s, and when the peer asks for it for
    /// the others.
    pub tls: u32,
    /// What is spoken, by a listener's name: smtp, smtps, submission, submissions, pop3, pop3s. Required.
    pub protocol: *const c_char,
    /// The peer's address with port: 192.0.2.1:4711 or [2001:db8::1]:4711. Required.
    pub peer: *const c_char,
    /// With PH_CONNECTION_TLS_HOST and a protocol whose TLS begins with the first octet: what the handshake, which the host has made already, came
    /// to. NULL otherwise.
    pub facts: *const ph_tls_facts,
    /// Called when a connection that waited can be stepped again. Required.
    pub ready: ph_ready_fn,
    /// Given to ready.
    pub ready_user_data: *mut c_void,
    /// Called once with ready_user_data when it is used no more. May be NULL.
    pub ready_drop_user_data: ph_drop_fn,
}

// SAFETY: repr(C), begins with `struct_size`; integers, pointers and optional functions.
unsafe impl Record for ph_connection_options {
    const NAME: &'static str = "ph_connection_options";
    const FIRST: usize = size_of::<ph_connection_options>();
}

/// Begins a connection on a socket that the host has accepted.
///
/// Behaviour: nothing is sent yet: step first, without input, for the greeting. The engine need not be started. How many of these there
/// are is the host's affair: the limits of listeners do not count them.
/// Parameters: engine; options; out, where the handle goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT for a protocol or tls that there is not, or facts where none belong or none are; PH_E_ADDRESS_INVALID
/// for peer; PH_E_CERTIFICATE, PH_E_PRIVATE_KEY with PH_CONNECTION_TLS_ENGINE; PH_E_STOPPED, PH_E_REENTRANT, PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
/// Ownership: the handle is the caller's, to be ended by ph_connection_free, before or after ph_engine_close. ready_user_data passes to
/// the library with this call: its drop function is called exactly once, also when the call fails. Only when the answer is
/// PH_E_STRUCT_SIZE or PH_E_NULL for options, options was not read and ready_user_data stays the caller's.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_connection_new(
    engine: *mut ph_engine,
    options: *const ph_connection_options,
    out: *mut *mut ph_connection,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            let options = record::read(options)?;
            let shared = engine::share(engine);
            let owner = shared.as_ref().map_or(0, |shared| shared.owner());
            let ready = Arc::new(Callback::new(
                options.ready.unwrap_or(no_ready),
                options.ready_user_data,
                options.ready_drop_user_data,
                owner,
            ));
            clear(out, "out")?;
            let shared = shared?;
            if options.ready.is_none() {
                return Err(super::boundary::null("ph_connection_options.ready"));
            }
            let called = Arc::clone(&ready);
            let hosted = hosted_options(&options, Arc::new(move || called.call(|ready, data| ready(data))))?;
            let connection = shared.enter()?.0.connect(hosted)?;
            let content =
                Content { connection, output: Pending::default(), awaits_tls: false, ready, shared };
            give(out, ph_connection(Exclusive::new(content)));
        }
        DONE
    })
}

unsafe extern "C" fn no_ready(_: *mut c_void) {}

/// # Safety
/// The pointers in `options` are as the header says.
unsafe fn hosted_options(
    options: &ph_connection_options,
    ready: crate::engine::Ready,
) -> Result<HostedOptions> {
    // SAFETY: the caller's promise.
    let (name, peer, facts) = unsafe {
        let facts = record::read_optional(options.facts)?;
        let facts = facts.map(|facts| facts_of(&facts)).transpose()?;
        let name = bytes::text(options.protocol, "ph_connection_options.protocol")?;
        (name, bytes::text(options.peer, "ph_connection_options.peer")?, facts)
    };
    let ListenerConfig { protocol, tls, .. } = ListenerConfig::new(name, "127.0.0.1:0")?;
    let peer: SocketAddr = peer.parse().map_err(|_| {
        let text = format!("peer {peer:?} is not an address with a port");
        Error::new(Kind::AddressInvalid, text)
    })?;
    let wrong = |text: &str| Err(Error::new(Kind::InvalidArgument, format!("{name}: {text}")));
    let tls = match (options.tls, tls, facts) {
        (PH_CONNECTION_TLS_NONE, TlsMode::StartTls, None) => HostedTls::None,
        (PH_CONNECTION_TLS_NONE, TlsMode::Implicit, None) => {
            return wrong("it needs PH_CONNECTION_TLS_ENGINE or PH_CONNECTION_TLS_HOST");
        }
        (PH_CONNECTION_TLS_ENGINE, TlsMode::StartTls, None) => HostedTls::Engine,
        (PH_CONNECTION_TLS_ENGINE, TlsMode::Implicit, None) => HostedTls::EngineImplicit,
        (PH_CONNECTION_TLS_HOST, TlsMode::StartTls, None) => HostedTls::Host,
        (PH_CONNECTION_TLS_HOST, TlsMode::Implicit, Some(facts)) => HostedTls::HostImplicit(facts),
        (PH_CONNECTION_TLS_HOST, TlsMode::Implicit, None) => {
            return wrong("facts is NULL, and the host has made TLS");
        }
        (
            PH_CONNECTION_TLS_NONE | PH_CONNECTION_TLS_ENGINE | PH_CONNECTION_TLS_HOST,
            _,
            Some(_),
        ) => {
            return wrong("facts are told when the host has made TLS already");
        }
        (other, ..) => return wrong(&format!("tls is {other}, which is no PH_CONNECTION_TLS_...")),
    };
    Ok(HostedOptions { protocol, peer, tls, ready })
}

/// # Safety
/// The bytes in `facts` can be read.
unsafe fn facts_of(facts: &ph_tls_facts) -> Result<Arc<TlsFacts>> {
    let version = match facts.version {
        0x0303 => TlsVersion::Tls12,
        0x0304 => TlsVersion::Tls13,
        other => {
            let text = format!("ph_tls_facts.version is {other:#06x}; it is 0x0303 or 0x0304");
            return Err(Error::new(Kind::InvalidArgument, text));
        }
    };
    // SAFETY: the caller's promise.
    let (server_name, client_name, exporter) = unsafe {
        (
            facts.server_name.text("ph_tls_facts.server_name")?,
            facts.client_name.text("ph_tls_facts.client_name")?,
            facts.exporter.octets("ph_tls_facts.exporter")?,
        )
    };
    let exporter = match exporter {
        [] => None,
        octets => Some(octets.try_into().map_err(|_| {
            let text = format!("ph_tls_facts.exporter has {} octets, not 32", octets.len());
            Error::new(Kind::InvalidArgument, text)
        })?),
    };
    let named = |name: &str| (!name.is_empty()).then(|| Box::from(name));
    Ok(Arc::new(TlsFacts {
        version,
        cipher: cipher_name(u16::try_from(facts.cipher).unwrap_or(0)),
        server_name: named(server_name),
        client_name: named(client_name),
        exporter,
        resumed: facts.resumed != 0,
    }))
}

/// Feeds what was read from the socket.
///
/// Behaviour: consumes a prefix of the input and appends to the pending output. What is not consumed comes again at the front of the
/// next input. The result is the same however the input is cut.
/// Parameters: connection; in, in_len octets (NULL when in_len is 0); consumed, where the number of octets done with goes; state, where
/// PH_CONNECTION_... goes; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE while PH_CONNECTION_STARTTLS waits for its answer; PH_E_STOPPED when the engine was closed; PH_E_REENTRANT,
/// PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_connection_step(
    connection: *mut ph_connection,
    r#in: *const u8,
    in_len: usize,
    consumed: *mut usize,
    state: *mut u32,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let input = bytes::slice(r#in, in_len, "in")?;
            let consumed = consumed.as_mut().ok_or_else(|| super::boundary::null("consumed"))?;
            let state = state.as_mut().ok_or_else(|| super::boundary::null("state"))?;
            required(connection, "connection")?.0.with(|content| {
                let (_, _turn) = content.shared.enter()?;
                if content.awaits_tls {
                    return Err(Error::new(Kind::State, "the connection waits for ph_connection_tls_started"));
                }
                let (used, doing) = content.connection.step(input, content.output.open())?;
                *consumed = used;
                content.awaits_tls = doing == Doing::StartTls;
                *state = match doing {
                    Doing::NeedInput => PH_CONNECTION_NEED_INPUT,
                    Doing::Blocked => PH_CONNECTION_BLOCKED,
                    Doing::Waiting => PH_CONNECTION_WAITING,
                    Doing::StartTls => PH_CONNECTION_STARTTLS,
                    Doing::Closed => PH_CONNECTION_CLOSED,
                };
                DONE
            })
        }
    })
}

/// Says that the host has made the TLS handshake that PH_CONNECTION_STARTTLS asked for.
///
/// Behaviour: everything known before is forgotten (RFC 3207 4.2). Octets that the peer had sent in clear behind its command end the
/// connection: an attacker may have put them in. Step afterwards, with what came through TLS only.
/// Parameters: connection; facts; unread, unread_len octets that were received before the handshake and not consumed, may be NULL when
/// unread_len is 0; err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when nothing asked for it; PH_E_INVALID_ARGUMENT, PH_E_UTF8, PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_connection_tls_started(
    connection: *mut ph_connection,
    facts: *const ph_tls_facts,
    unread: *const u8,
    unread_len: usize,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let facts = facts_of(&record::read(facts)?)?;
            let unread = bytes::slice(unread, unread_len, "unread")?;
            required(connection, "connection")?.0.with(|content| {
                if !std::mem::take(&mut content.awaits_tls) {
                    return Err(Error::new(Kind::State, "the connection did not ask for TLS"));
                }
                content.connection.tls_started(Some(facts), unread);
                DONE
            })
        }
    })
}

/// Says that the peer will send nothing more. Step afterwards.
///
/// Parameters: connection.
/// Returns: PH_OK or an error.
/// Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_connection_eof(connection: *mut ph_connection) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe { pending::told(required(connection, "connection").map(|handle| &handle.0), |content| content.connection.eof()) }
    })
}

/// Says that the connection is to end where its protocol allows it: SMTP says 421. A message whose end has come still gets its answer.
/// Step afterwards.
///
/// Parameters: connection.
/// Returns: PH_OK or an error.
/// Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_connection_shutdown(connection: *mut ph_connection) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe { pending::told(required(connection, "connection").map(|handle| &handle.0), |content| content.connection.shutdown()) }
    })
}

/// Says in how many milliseconds to step even without input.
///
/// Parameters: connection, or NULL.
/// Returns: milliseconds from now, or PH_NEVER.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_connection_timeout(connection: *const ph_connection) -> u64 {
    boundary!(or PH_NEVER => {
        // SAFETY: NULL or a live handle, one call at a time, as documented.
        unsafe { pending::asked(connection.as_ref().map(|handle| &handle.0), |c| c.connection.timeout_millis()) }.unwrap_or(PH_NEVER)
    })
}

/// Shows the octets that wait to be written to the peer.
///
/// Parameters: connection, or NULL; pending, where the view goes; it is empty when nothing waits.
/// Ownership: what pending points to is borrowed until the next call on the connection other than ph_connection_timeout.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_connection_output(
    connection: *const ph_connection,
    pending: *mut ph_bytes,
) {
    boundary!(or () => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe { pending::show(connection.as_ref().map(|handle| &handle.0), pending) }
    })
}

/// Says how many of the pending octets have been written.
///
/// Parameters: connection, or NULL; written, at most as many as were pending.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_connection_output_sent(connection: *mut ph_connection, written: usize) {
    boundary!(or () => {
        // SAFETY: NULL or a live handle, one call at a time, as documented.
        unsafe { pending::sent(connection.as_ref().map(|handle| &handle.0), written) }
    })
}

/// Destroys a connection. A message whose end has come and whose answer has not is accepted or not, as if the peer had gone.
///
/// Parameters: connection, or NULL, which does nothing.
/// Ownership: ends the handle and everything borrowed from it; ready is not called any more when this returns.
/// Thread: any thread, when no other call on the connection runs; not from ready.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_connection_free(connection: *mut ph_connection) {
    boundary!(or () => {
        // SAFETY: a handle of ph_connection_new, and the last call on it.
        drop(unsafe { take(connection) });
    })
}
