//! `ph_pop3_server`: the bare POP3 server session, without sockets, threads, clock or storage.
//!
//! The machine is [`pop3::server::Server`](crate::pop3::server::Server); here stands its C form, in the same shape as the SMTP session's.

use std::ffi::c_char;
use std::sync::Arc;

use super::boundary::{DONE, Exclusive, clear, give, required, take};
use super::bytes::{self, ph_bytes};
use super::pending::{self, Drained, Pending};
use super::record::{self, Record};
use super::sasl::{self, Asked, Asks, ph_scram_keys};
use super::smtp_server::{PH_NEVER, PH_OFFER_AUTH, PH_OFFER_STARTTLS, PH_OFFER_TLS, known_offer};
use super::status::{ph_error, ph_status};
use crate::error::{Error, Kind, Result};
use crate::pop3::server::{Denial, Entry, Event, Limits, Maildrop, Offer, Server, ServerConfig};
use crate::sasl::Verdict;
use crate::session::{Next, Session, Step};
use crate::time::Time;

/// Session: all input is used up, or what is left is not a whole line yet. Wait for more, or for the deadline.
pub const PH_POP3_NEED_INPUT: u32 = 1;
/// Session: too much output is pending. Write it out, then step again.
pub const PH_POP3_BLOCKED: u32 = 2;
/// Session: it is over. Write out what is pending and close the connection.
pub const PH_POP3_CLOSED: u32 = 3;
/// Session: the connection begins, nothing was sent. Answer: ph_pop3_server_accept greets, ph_pop3_server_refuse turns the peer away.
pub const PH_POP3_CONNECT: u32 = 10;
/// Session: the answer to STLS is pending. Write it out, make the handshake, then answer: ph_pop3_server_tls_started.
pub const PH_POP3_STARTTLS: u32 = 11;
/// Session: a client logs in with login, password, authorization. Lock its maildrop and answer: ph_pop3_server_opened or
/// ph_pop3_server_denied.
pub const PH_POP3_AUTH: u32 = 12;
/// Session: octets of message index (from 0) are needed, from offset on, at most max at once. Answer: ph_pop3_server_body,
/// ph_pop3_server_body_end or ph_pop3_server_body_failed.
pub const PH_POP3_NEED_BODY: u32 = 13;
/// Session: QUIT. Remove the messages deleted (numbers from 0, perhaps none), release the maildrop's lock, and answer:
/// ph_pop3_server_updated.
pub const PH_POP3_UPDATE: u32 = 14;

/// Session: CRAM-MD5 begins and needs a nonce. Answer: ph_pop3_server_auth_nonce.
pub const PH_POP3_AUTH_NONCE: u32 = 30;
/// Session: SCRAM-SHA-256 needs the keys of login. Answer: ph_pop3_server_auth_scram, for names that nobody has with keys of
/// ph_scram_decoy.
pub const PH_POP3_AUTH_SCRAM: u32 = 31;
/// Session: a client logs in with login; challenge and, in password, the digest of CRAM-MD5, which ph_cram_md5_verify or the host
/// verifies. Answer: ph_pop3_server_opened or ph_pop3_server_denied.
pub const PH_POP3_AUTH_CRAM_MD5: u32 = 32;
/// Session: a client logs in with a bearer token, in password; login may be empty. Answer: ph_pop3_server_opened or ph_pop3_server_denied.
pub const PH_POP3_AUTH_TOKEN: u32 = 33;
/// Session: SCRAM-SHA-256 has come to its end for login and authorization: the client knows the password
/// (PH_POP3_FLAG_PROVED), or it has failed, and whatever the answer is, is refused. Answer: ph_pop3_server_opened or ph_pop3_server_denied.
pub const PH_POP3_AUTH_OUTCOME: u32 = 34;

/// Event flag: the session waits for an answer and must not be stepped before it.
pub const PH_POP3_FLAG_PAUSED: u32 = 1;
/// Event flag: the client has proved that it knows the password.
pub const PH_POP3_FLAG_PROVED: u32 = 256;

/// A login does not open the maildrop: wrong login name or password (RFC 3206).
pub const PH_POP3_DENIED_CREDENTIALS: u32 = 1;
/// A login does not open the maildrop: another session holds it (RFC 2449 8.1.2).
pub const PH_POP3_DENIED_IN_USE: u32 = 2;
/// A login does not open the maildrop: something of the host does not work now (RFC 3206).
pub const PH_POP3_DENIED_TEMPORARY: u32 = 3;

/// The serving side of one POP3 connection, without sockets, threads, clock or storage.
///
/// Made by ph_pop3_server_new, ended by ph_pop3_server_free. One thread at a time. The host feeds octets with
/// ph_pop3_server_step, answers its events, and writes out what ph_pop3_server_output shows.
pub struct ph_pop3_server(Exclusive<Pop3>);

struct Pop3 {
    machine: Server,
    output: Pending,
    awaits: Awaits,
    /// What the last event's array points to.
    deleted: Vec<u32>,
}

impl Drained for Pop3 {
    fn output(&mut self) -> &mut Pending {
        &mut self.output
    }
}

/// Which answer the last event waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Nothing,
    Greeting,
    Tls,
    Auth(Asks),
    Body { max: usize },
    Update,
}

/// What a server session is made with. Begin with PH_POP3_SERVER_OPTIONS_INIT; zero means the default everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_pop3_server_options {
    /// sizeof(ph_pop3_server_options).
    pub struct_size: u32,
    /// PH_OFFER_... added up: what is known of the connection when it begins.
    pub offer: u32,
    /// Our name in the greeting. NULL: localhost.
    pub hostname: *const c_char,
    /// Longest command line in octets with CR LF. 0: 512. At least 255.
    pub max_command_line: u32,
    /// Most failed commands before the connection is closed. 0: 20.
    pub max_errors: u32,
    /// Pending octets of output above which step answers PH_POP3_BLOCKED. 0: 65536.
    pub max_output: u32,
    /// Milliseconds without a command before the session ends without deleting. 0: 600000.
    pub idle_timeout_ms: u32,
    /// The same before the login. 0: 60000.
    pub login_timeout_ms: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_pop3_server_options {
    const NAME: &'static str = "ph_pop3_server_options";
    const FIRST: usize = size_of::<ph_pop3_server_options>();
}

/// A maildrop as it stands when a session enters the TRANSACTION state. Begin with PH_POP3_MAILDROP_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_pop3_maildrop {
    /// sizeof(ph_pop3_maildrop).
    pub struct_size: u32,
    /// UIDVALIDITY of the mailbox; part of every UIDL.
    pub uid_validity: u32,
    /// The messages' octets as RETR sends them, without dot-stuffing and without the final line with the dot (RFC 1939 11).
    pub octets: *const u64,
    /// The messages' UIDs.
    pub uids: *const u32,
    /// How many messages: entries of each array.
    pub count: usize,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_pop3_maildrop {
    const NAME: &'static str = "ph_pop3_maildrop";
    const FIRST: usize = size_of::<ph_pop3_maildrop>();
}

/// What a step tells. Begin with PH_POP3_EVENT_INIT. Fields that a kind does not name are 0 or empty.
///
/// Everything that it points to is borrowed from the session until the next call on the session other than output,
/// output_sent and deadline.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_pop3_event {
    /// sizeof(ph_pop3_event), set by the caller.
    pub struct_size: u32,
    /// PH_POP3_NEED_INPUT, PH_POP3_AUTH ...
    pub kind: u32,
    /// PH_POP3_FLAG_... added up.
    pub flags: u32,
    /// A message's number, from 0.
    pub index: u32,
    /// Where to begin in the message.
    pub offset: u64,
    /// At most so many octets at once.
    pub max: u64,
    /// The login name, UTF-8.
    pub login: ph_bytes,
    /// The password, the digest of CRAM-MD5 or the token, UTF-8.
    pub password: ph_bytes,
    /// On whose behalf to act, UTF-8; empty: the login name's own.
    pub authorization: ph_bytes,
    /// Numbers of messages to remove, from 0, sorted.
    pub deleted: *const u32,
    /// How many.
    pub deleted_count: usize,
    /// The challenge of CRAM-MD5.
    pub challenge: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_pop3_event {
    const NAME: &'static str = "ph_pop3_event";
    const FIRST: usize = std::mem::offset_of!(ph_pop3_event, challenge);
}

/// Makes a session for a new connection.
///
/// Behaviour: nothing is pending yet; the first step answers PH_POP3_CONNECT.
/// Parameters: options, or NULL for the defaults; now_ms, milliseconds on a clock of the host's choice that never goes back;
/// out, where the handle goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_INVALID_ARGUMENT, PH_E_UTF8, PH_E_NULL.
/// Ownership: the handle is the caller's, to be ended by ph_pop3_server_free. Options are copied.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_new(
    options: *const ph_pop3_server_options,
    now_ms: u64,
    out: *mut *mut ph_pop3_server,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let options = record::read_optional(options)?;
            let (config, offer) = config_of(options.as_ref())?;
            let machine = Server::new(Arc::new(config), offer, Time(now_ms));
            let session = Pop3 {
                machine,
                output: Pending::default(),
                awaits: Awaits::Nothing,
                deleted: Vec::new(),
            };
            give(out, ph_pop3_server(Exclusive::new(session)));
        }
        DONE
    })
}

/// Consumes input and tells what comes next.
///
/// Behaviour: call it until it answers PH_POP3_NEED_INPUT, PH_POP3_BLOCKED or PH_POP3_CLOSED; when an event has
/// PH_POP3_FLAG_PAUSED, answer it before the next step. Then write out what is pending, and wait for input, for the deadline,
/// or for your own answer. What was not consumed comes again at the front of the next input. The result is the
/// same however the input is cut.
/// Parameters: session; now_ms; input, input_len octets received and not consumed yet, may be NULL when input_len is 0; consumed,
/// where the number of octets that are done with goes; event, with struct_size set.
/// Returns: PH_OK or an error. What a peer does wrong is answered on the wire and is no error.
/// Errors: PH_E_STATE when the last event still waits for its answer; PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Ownership: see ph_pop3_event.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_step(
    session: *mut ph_pop3_server,
    now_ms: u64,
    input: *const u8,
    input_len: usize,
    consumed: *mut usize,
    event: *mut ph_pop3_event,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let consumed = consumed.as_mut().ok_or_else(|| super::boundary::null("consumed"))?;
            *consumed = 0;
            record::check_out(event)?;
            let input = bytes::slice(input, input_len, "input")?;
            required(session, "session")?.0.with(|session| {
                if session.awaits != Awaits::Nothing {
                    return Err(Error::new(Kind::State, "the last event waits for its answer"));
                }
                let output = session.output.open();
                let Step { consumed: used, next } = session.machine.step(Time(now_ms), input, output);
                let (shown, awaits) = event_for_c(&next, &mut session.deleted);
                session.awaits = awaits;
                *consumed = used;
                record::write(event, shown)
            })?;
        }
        DONE
    })
}

/// Answers PH_POP3_CONNECT: greets.
///
/// Parameters: session.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_accept(session: *mut ph_pop3_server) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe { answer(session, Awaits::Greeting, |machine, _| machine.accept()) }
    })
}

/// Answers PH_POP3_CONNECT: turns the peer away with -ERR.
///
/// Parameters: session; text, one line of UTF-8. Control characters do not reach the wire.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when no event waits for this answer; PH_E_UTF8, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_refuse(
    session: *mut ph_pop3_server,
    text: ph_bytes,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let text = text.text("text")?;
            answer(session, Awaits::Greeting, |machine, _| machine.refuse(text))
        }
    })
}

/// Answers a login (PH_POP3_AUTH, PH_POP3_AUTH_CRAM_MD5, PH_POP3_AUTH_TOKEN, PH_POP3_AUTH_OUTCOME): it is right, and the maildrop is
/// locked for this session.
///
/// Parameters: session; maildrop, with at most 4294967295 messages.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when no event waits for this answer; PH_E_STRUCT_SIZE, PH_E_INVALID_ARGUMENT, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_opened(
    session: *mut ph_pop3_server,
    maildrop: *const ph_pop3_maildrop,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let maildrop = record::read(maildrop)?;
            let octets = bytes::slice(maildrop.octets, maildrop.count, "octets")?;
            let uids = bytes::slice(maildrop.uids, maildrop.count, "uids")?;
            if u32::try_from(maildrop.count).is_err() {
                return Err(Error::new(Kind::InvalidArgument, "count is above 4294967295"));
            }
            let entries = octets.iter().zip(uids).map(|(octets, uid)| Entry { octets: *octets, uid: *uid });
            let maildrop = Maildrop { validity: maildrop.uid_validity, entries: entries.collect() };
            let decides = |awaits| matches!(awaits, Awaits::Auth(asks) if asks.decides());
            answer_if(session, decides, |machine, _| machine.opened(maildrop))
        }
    })
}

/// Answers a login, or any other question of a mechanism: it does not open a maildrop.
///
/// Parameters: session; reason, PH_POP3_DENIED_...
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT; PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_denied(
    session: *mut ph_pop3_server,
    reason: u32,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        let denial = match reason {
            PH_POP3_DENIED_CREDENTIALS => Denial::Credentials,
            PH_POP3_DENIED_IN_USE => Denial::InUse,
            PH_POP3_DENIED_TEMPORARY => Denial::Temporary,
            _ => return Err(Error::new(Kind::InvalidArgument, "reason is none of PH_POP3_DENIED_...")),
        };
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe {
            let asked = |awaits| matches!(awaits, Awaits::Auth(_));
            answer_if(session, asked, |machine, _| machine.denied(denial))
        }
    })
}

/// Says which mechanisms are offered, where PH_OFFER_AUTH is given at all.
///
/// Behaviour: without this call PLAIN and LOGIN are offered. The other mechanisms ask more than whether a password is right: the
/// host must answer their events. SCRAM-SHA-256-PLUS is offered only when one of the bindings is given. Call it before the first
/// step, and again after ph_pop3_server_tls_started, which forgets the bindings.
/// Parameters: session; mechanisms, PH_MECHANISM_... added up; tls_exporter, the channel's data of RFC 9266 (TLS 1.3: 32 octets
/// exported with the label EXPORTER-Channel-Binding), or empty; tls_server_end_point, the hash of the server's certificate (RFC 5929 4), or
/// empty.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT for bits that are not PH_MECHANISM_...; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_set_mechanisms(
    session: *mut ph_pop3_server,
    mechanisms: u32,
    tls_exporter: ph_bytes,
    tls_server_end_point: ph_bytes,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let mechanisms = sasl::mechanisms_of(mechanisms)?;
            let bindings = sasl::bindings_of(tls_exporter, tls_server_end_point)?;
            required(session, "session")?.0.with(|session| {
                session.machine.set_mechanisms(mechanisms, Some(bindings));
                DONE
            })
        }
    })
}

/// Answers PH_POP3_AUTH_NONCE.
///
/// Parameters: session; nonce, 18 octets (PH_NONCE_SIZE) that nobody can foresee, drawn anew each time.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT for another length; PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_auth_nonce(
    session: *mut ph_pop3_server,
    nonce: ph_bytes,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let nonce = sasl::nonce_of(nonce)?;
            answer(session, Awaits::Auth(Asks::Nonce), |machine, _| machine.auth(Verdict::Nonce(nonce)))
        }
    })
}

/// Answers PH_POP3_AUTH_SCRAM.
///
/// Parameters: session; keys, those of the login name, or of ph_scram_decoy; nonce, 18 octets (PH_NONCE_SIZE) that nobody can
/// foresee, drawn anew each time.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT for keys that cannot be or a nonce of another length; PH_E_STATE when no event waits for this answer;
/// PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_auth_scram(
    session: *mut ph_pop3_server,
    keys: *const ph_scram_keys,
    nonce: ph_bytes,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let verdict = sasl::scram_of(keys, nonce)?;
            answer(session, Awaits::Auth(Asks::Scram), |machine, _| machine.auth(verdict))
        }
    })
}

/// Answers PH_POP3_NEED_BODY: some octets of the message.
///
/// Parameters: session; data, at least one octet and at most max of the event.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT for none or too many octets; PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL,
/// PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_body(
    session: *mut ph_pop3_server,
    data: ph_bytes,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let data = data.octets("data")?;
            body(session, Some(data.len()), |machine, out| machine.body(data, out))
        }
    })
}

/// Answers PH_POP3_NEED_BODY: the message has no more octets.
///
/// Parameters: session.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_body_end(session: *mut ph_pop3_server) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe { body(session, None, |machine, out| machine.body_end(out)) }
    })
}

/// Answers PH_POP3_NEED_BODY: the octets cannot be read.
///
/// Behaviour: before the first octet the client gets -ERR [SYS/PERM]; later the connection is closed without the final dot, so that
/// the client cannot take a part for the whole.
/// Parameters: session.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_body_failed(session: *mut ph_pop3_server) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe { body(session, None, |machine, out| machine.body_failed(out)) }
    })
}

/// Answers PH_POP3_UPDATE.
///
/// Parameters: session; all_removed, 1 when all of deleted is removed, 0 when not.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT; PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_updated(
    session: *mut ph_pop3_server,
    all_removed: u32,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        let all_removed = match all_removed {
            0 => false,
            1 => true,
            _ => return Err(Error::new(Kind::InvalidArgument, "all_removed is neither 0 nor 1")),
        };
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe { answer(session, Awaits::Update, |machine, _| machine.updated(all_removed)) }
    })
}

/// Answers PH_POP3_STARTTLS: the handshake is made.
///
/// Behaviour: everything known before is forgotten (RFC 2595 4). When octets were received in the clear behind STLS, somebody
/// has injected them: the session refuses to go on. When the handshake fails, do not call this: free the session and close.
/// Parameters: session; offer, PH_OFFER_... added up, for the encrypted connection; unread, unread_len octets that were
/// received before the handshake and not consumed, may be NULL when unread_len is 0.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when no event waits for this answer; PH_E_INVALID_ARGUMENT, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_tls_started(
    session: *mut ph_pop3_server,
    offer: u32,
    unread: *const u8,
    unread_len: usize,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let unread = bytes::slice(unread, unread_len, "unread")?;
            let offer = offer_of(offer)?;
            answer(session, Awaits::Tls, |machine, _| machine.tls_started(offer, unread))
        }
    })
}

/// Says that the peer will send nothing more. Step afterwards.
///
/// Parameters: session; now_ms.
/// Returns: PH_OK or an error.
/// Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_eof(
    session: *mut ph_pop3_server,
    now_ms: u64,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe { pending::told(required(session, "session").map(|handle| &handle.0), |session| session.machine.eof(Time(now_ms))) }
    })
}

/// Says that the host stops serving.
///
/// Behaviour: -ERR [SYS/TEMP] and PH_POP3_CLOSED at the next place where a reply may stand. Deletes nothing. Step afterwards.
/// Parameters: session.
/// Returns: PH_OK or an error.
/// Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_shutdown(session: *mut ph_pop3_server) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe { pending::told(required(session, "session").map(|handle| &handle.0), |session| session.machine.shutdown()) }
    })
}

/// Says when to step even without input.
///
/// Parameters: session, or NULL.
/// Returns: a time on the host's clock in milliseconds, or PH_NEVER.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_deadline(session: *const ph_pop3_server) -> u64 {
    boundary!(or PH_NEVER => {
        // SAFETY: NULL or a live handle, one call at a time, as documented.
        let deadline = unsafe {
            pending::asked(session.as_ref().map(|handle| &handle.0), |s| s.machine.deadline().map(|time| time.0))
        };
        deadline.unwrap_or(PH_NEVER)
    })
}

/// Shows the octets that wait to be written to the peer.
///
/// Parameters: session, or NULL; pending, where the view goes; it is empty when nothing waits.
/// Ownership: what pending points to is borrowed until the next call on the session other than deadline.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_output(
    session: *const ph_pop3_server,
    pending: *mut ph_bytes,
) {
    boundary!(or () => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe { pending::show(session.as_ref().map(|handle| &handle.0), pending) }
    })
}

/// Says how many of the pending octets have been written.
///
/// Parameters: session, or NULL; written, at most as many as were pending.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_output_sent(session: *mut ph_pop3_server, written: usize) {
    boundary!(or () => {
        // SAFETY: NULL or a live handle, one call at a time, as documented.
        unsafe { pending::sent(session.as_ref().map(|handle| &handle.0), written) }
    })
}

/// Destroys a session.
///
/// Parameters: session, or NULL, which does nothing.
/// Ownership: ends the handle and everything borrowed from it.
/// Thread: any thread, when no other call on the session runs.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_pop3_server_free(session: *mut ph_pop3_server) {
    boundary!(or () => {
        // SAFETY: a handle of ph_pop3_server_new, and the last call on it.
        drop(unsafe { take(session) });
    })
}

/// # Safety
/// `session` is as the header says, and no other call on it runs.
unsafe fn answer(
    session: *mut ph_pop3_server,
    wanted: Awaits,
    give: impl FnOnce(&mut Server, &mut Vec<u8>),
) -> Result<ph_status> {
    // SAFETY: the caller's promise.
    unsafe { answer_if(session, |awaits| awaits == wanted, give) }
}

/// # Safety
/// As for [`answer`].
unsafe fn answer_if(
    session: *mut ph_pop3_server,
    wanted: impl FnOnce(Awaits) -> bool,
    give: impl FnOnce(&mut Server, &mut Vec<u8>),
) -> Result<ph_status> {
    // SAFETY: the caller's promise.
    unsafe {
        required(session, "session")?.0.with(|session| {
            if !wanted(session.awaits) {
                return Err(Error::new(Kind::State, "no event waits for this answer"));
            }
            session.awaits = Awaits::Nothing;
            give(&mut session.machine, session.output.open());
            DONE
        })
    }
}

/// As [`answer`], for the answers to PH_POP3_NEED_BODY; `len` is how many octets are given.
///
/// # Safety
/// `session` is as the header says, and no other call on it runs.
unsafe fn body(
    session: *mut ph_pop3_server,
    len: Option<usize>,
    give: impl FnOnce(&mut Server, &mut Vec<u8>),
) -> Result<ph_status> {
    // SAFETY: the caller's promise.
    unsafe {
        required(session, "session")?.0.with(|session| {
            let Awaits::Body { max } = session.awaits else {
                return Err(Error::new(Kind::State, "no event waits for this answer"));
            };
            if len.is_some_and(|len| len == 0 || len > max) {
                let text = format!("data must have between 1 and {max} octets");
                return Err(Error::new(Kind::InvalidArgument, text));
            }
            session.awaits = Awaits::Nothing;
            give(&mut session.machine, session.output.open());
            DONE
        })
    }
}

/// # Safety
/// The pointers are as the fields' documentation says.
unsafe fn config_of(options: Option<&ph_pop3_server_options>) -> Result<(ServerConfig, Offer)> {
    let mut config = ServerConfig { hostname: "localhost".to_owned(), limits: Limits::default() };
    let Some(options) = options else { return Ok((config, Offer::default())) };
    if !options.hostname.is_null() {
        // SAFETY: the caller's promise.
        config.hostname = unsafe { bytes::host_name(options.hostname, "hostname") }?;
    }
    if (1..255).contains(&options.max_command_line) {
        return Err(Error::new(Kind::InvalidArgument, "max_command_line is below 255"));
    }
    record::unused(options.reserved, "ph_pop3_server_options.reserved")?;
    let limits = &mut config.limits;
    for (limit, value) in [
        (&mut limits.command_line, options.max_command_line),
        (&mut limits.output_bytes, options.max_output),
    ] {
        if value != 0 {
            *limit = usize::try_from(value).unwrap_or(usize::MAX);
        }
    }
    for (limit, value) in [
        (&mut limits.idle_millis, options.idle_timeout_ms),
        (&mut limits.login_millis, options.login_timeout_ms),
    ] {
        if value != 0 {
            *limit = u64::from(value);
        }
    }
    if options.max_errors != 0 {
        limits.errors = options.max_errors;
    }
    Ok((config, offer_of(options.offer)?))
}

fn offer_of(bits: u32) -> Result<Offer> {
    known_offer(bits)?;
    let tls = bits & PH_OFFER_TLS != 0;
    Ok(Offer { tls, stls: bits & PH_OFFER_STARTTLS != 0 && !tls, login: bits & PH_OFFER_AUTH != 0 })
}

/// What a step told, for C, and which answer it waits for.
fn event_for_c(next: &Next<Event<'_>>, removed: &mut Vec<u32>) -> (ph_pop3_event, Awaits) {
    let mut shown = ph_pop3_event {
        struct_size: 0,
        kind: 0,
        flags: 0,
        index: 0,
        offset: 0,
        max: 0,
        login: ph_bytes::EMPTY,
        password: ph_bytes::EMPTY,
        authorization: ph_bytes::EMPTY,
        deleted: std::ptr::null(),
        deleted_count: 0,
        challenge: ph_bytes::EMPTY,
    };
    let mut awaits = Awaits::Nothing;
    shown.kind = match next {
        Next::NeedInput => PH_POP3_NEED_INPUT,
        Next::Blocked => PH_POP3_BLOCKED,
        Next::Closed => PH_POP3_CLOSED,
        Next::Event(Event::Connect) => {
            awaits = Awaits::Greeting;
            PH_POP3_CONNECT
        }
        Next::Event(Event::StartTls) => {
            awaits = Awaits::Tls;
            PH_POP3_STARTTLS
        }
        Next::Event(Event::Auth(question)) => {
            let asked = Asked::new(question);
            awaits = Awaits::Auth(asked.asks);
            shown.login = asked.login;
            shown.password = asked.secret;
            shown.authorization = asked.authorization;
            shown.challenge = asked.challenge;
            if asked.proved {
                shown.flags |= PH_POP3_FLAG_PROVED;
            }
            match asked.asks {
                Asks::Password => PH_POP3_AUTH,
                Asks::Nonce => PH_POP3_AUTH_NONCE,
                Asks::Scram => PH_POP3_AUTH_SCRAM,
                Asks::CramMd5 => PH_POP3_AUTH_CRAM_MD5,
                Asks::Token => PH_POP3_AUTH_TOKEN,
                Asks::Outcome => PH_POP3_AUTH_OUTCOME,
            }
        }
        Next::Event(Event::NeedBody { index, offset, max }) => {
            awaits = Awaits::Body { max: *max };
            // A maildrop has at most 2^32 - 1 messages, see ph_pop3_server_opened.
            shown.index = u32::try_from(*index).unwrap_or(u32::MAX);
            shown.offset = *offset;
            shown.max = *max as u64;
            PH_POP3_NEED_BODY
        }
        Next::Event(Event::Update { deleted }) => {
            awaits = Awaits::Update;
            removed.clear();
            removed.extend(deleted.iter().map(|one| u32::try_from(*one).unwrap_or(u32::MAX)));
            shown.deleted = removed.as_ptr();
            shown.deleted_count = removed.len();
            PH_POP3_UPDATE
        }
    };
    if awaits != Awaits::Nothing {
        shown.flags |= PH_POP3_FLAG_PAUSED;
    }
    (shown, awaits)
}
