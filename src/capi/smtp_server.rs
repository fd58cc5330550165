//! `ph_smtp_server`: the bare SMTP server session, without sockets, threads, clock or storage.
//!
//! The machine is [`smtp::server::Server`]; here stands its C form. The session keeps the output, which C
//! drains with `output` and `output_sent`, and remembers which answer the last event waits for, so that a call out of
//! turn is `PH_E_STATE` and not a surprise.

use std::ffi::c_char;
use std::sync::Arc;

use super::boundary::{DONE, Exclusive, clear, give, required, take};
use super::bytes::{self, ph_bytes};
use super::pending::{self, Drained, Pending};
use super::record::{self, Record};
use super::sasl::{self, Asked, Asks, ph_scram_keys};
use super::smtp_extension::extensions_of;
use super::status::{ph_error, ph_status};
use crate::error::{Error, Kind, Result};
use crate::sasl::Verdict;
use crate::session::{Next, Session, Step};
use crate::smtp::Reply;
use crate::smtp::extension::Extensions;
use crate::smtp::parameter::{Body, Hold};
use crate::smtp::server::{Dialect, Event, Limits, Offer, Server, ServerConfig};
use crate::time::Time;

/// No deadline: the largest time. The header defines it by hand, since C89 has no literal for it.
pub(super) const PH_NEVER: u64 = u64::MAX;

/// Session dialect: mail from other servers (RFC 5321).
pub const PH_SMTP_DIALECT_SMTP: u32 = 0;
/// Session dialect: mail from users' programs, AUTH is needed before MAIL (RFC 6409).
pub const PH_SMTP_DIALECT_SUBMISSION: u32 = 1;
/// Session dialect: local delivery, LHLO and a reply for each recipient at a message's end (RFC 2033). Not for port 25.
pub const PH_SMTP_DIALECT_LMTP: u32 = 2;

/// Connection: TLS is on.
pub const PH_OFFER_TLS: u32 = 1;
/// Connection: STARTTLS (SMTP) or STLS (POP3) may be offered. Has no effect together with PH_OFFER_TLS.
pub const PH_OFFER_STARTTLS: u32 = 2;
/// Connection: AUTH may be offered and logging in is allowed.
pub const PH_OFFER_AUTH: u32 = 4;

/// The host's answer to a login: the client is who it says.
pub const PH_AUTH_ACCEPT: u32 = 1;
/// The host's answer to a login: wrong login name or password.
pub const PH_AUTH_REFUSE: u32 = 2;
/// The host's answer to a login: it cannot be told now.
pub const PH_AUTH_UNAVAILABLE: u32 = 3;

/// Session: all input is used up, or what is left is not a whole unit yet. Wait for more, or for the deadline.
pub const PH_SMTP_NEED_INPUT: u32 = 1;
/// Session: too much output is pending. Write it out, then step again.
pub const PH_SMTP_BLOCKED: u32 = 2;
/// Session: it is over. Write out what is pending and close the connection.
pub const PH_SMTP_CLOSED: u32 = 3;
/// Session: the connection begins, nothing was sent. Answer: ph_smtp_server_accept greets; ph_smtp_server_reply with 421 or
/// 554 turns the peer away.
pub const PH_SMTP_CONNECT: u32 = 10;
/// Session: HELO, EHLO or LHLO (the last two: PH_SMTP_FLAG_EXTENDED); data is what the peer calls itself. Answer: accept or reply.
pub const PH_SMTP_HELLO: u32 = 11;
/// Session: the 220 for STARTTLS is pending. Write it out, make the handshake, then answer: ph_smtp_server_tls_started.
pub const PH_SMTP_STARTTLS: u32 = 12;
/// Session: a client logs in with login, password, authorization. Answer: ph_smtp_server_auth.
pub const PH_SMTP_AUTH: u32 = 13;
/// Session: MAIL; address is the reverse-path, empty for the null path; size is the announced size or 0; flags; parameters are those
/// that must be passed on; hold_seconds, hold_until. Answer: accept or reply.
pub const PH_SMTP_MAIL: u32 = 14;
/// Session: RCPT; address is the forward-path; parameters are those that must be passed on. Answer: accept or reply.
pub const PH_SMTP_RCPT: u32 = 15;
/// Session: a message is about to begin. Answer: accept or reply.
pub const PH_SMTP_DATA_START: u32 = 16;
/// Session: data is a piece of the message, dots removed, CR LF kept. No answer.
pub const PH_SMTP_DATA_CHUNK: u32 = 17;
/// Session: the message is whole and has size octets. Answer, when it is safe: accept or reply; in LMTP for each of the recipients by
/// ph_smtp_server_reply_recipient, or once for all by accept or reply.
pub const PH_SMTP_DATA_END: u32 = 18;
/// Session: the transaction is over without a message; forget its MAIL, RCPT and DATA_CHUNK events. No answer.
pub const PH_SMTP_RESET: u32 = 19;
/// Session: QUIT; the reply is pending. No answer.
pub const PH_SMTP_QUIT: u32 = 20;
/// Session: VRFY; data is what is asked for, flags say PH_SMTP_FLAG_SMTPUTF8 when the answer may be UTF-8. Answer: accept (252) or reply.
pub const PH_SMTP_VERIFY: u32 = 21;
/// Session: EXPN; as PH_SMTP_VERIFY.
pub const PH_SMTP_EXPAND: u32 = 22;
/// Session: ETRN; data is the node (RFC 1985 5): a domain, behind @ with its subdomains, behind # a queue. Answer: accept (250) or reply.
pub const PH_SMTP_ETRN: u32 = 23;
/// Session: XCLIENT; the connection is in truth that of another client. parameters are what the proxy says
/// (NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT, values in xtext); address is ADDR, login is LOGIN, which makes the session
/// authenticated. Answer: accept greets the client; reply with 421 or 554 turns it away.
pub const PH_SMTP_FORWARDED: u32 = 24;

/// Session: CRAM-MD5 begins and needs a nonce. Answer: ph_smtp_server_auth_nonce.
pub const PH_SMTP_AUTH_NONCE: u32 = 30;
/// Session: SCRAM-SHA-256 needs the keys of login. Answer: ph_smtp_server_auth_scram, for names that nobody has with keys of
/// ph_scram_decoy.
pub const PH_SMTP_AUTH_SCRAM: u32 = 31;
/// Session: a client logs in with login; challenge and, in password, the digest of CRAM-MD5, which ph_cram_md5_verify or the host
/// verifies. Answer: ph_smtp_server_auth.
pub const PH_SMTP_AUTH_CRAM_MD5: u32 = 32;
/// Session: a client logs in with a bearer token, in password; login may be empty. Answer: ph_smtp_server_auth.
pub const PH_SMTP_AUTH_TOKEN: u32 = 33;
/// Session: SCRAM-SHA-256 has come to its end for login and authorization: the client knows the password
/// (PH_SMTP_FLAG_PROVED), or it has failed, and whatever the answer is, is refused. Answer: ph_smtp_server_auth.
pub const PH_SMTP_AUTH_OUTCOME: u32 = 34;

/// Event flag: the session waits for an answer and must not be stepped before it.
pub const PH_SMTP_FLAG_PAUSED: u32 = 1;
/// Event flag: EHLO and not HELO.
pub const PH_SMTP_FLAG_EXTENDED: u32 = 2;
/// Event flag: MAIL carried BODY=8BITMIME (RFC 6152).
pub const PH_SMTP_FLAG_8BIT: u32 = 4;
/// Event flag: MAIL carried SMTPUTF8 (RFC 6531).
pub const PH_SMTP_FLAG_SMTPUTF8: u32 = 8;
/// Event flag: MAIL carried BODY=BINARYMIME (RFC 3030): the message may hold any octets.
pub const PH_SMTP_FLAG_BINARY: u32 = 16;
/// Event flag: MAIL carried REQUIRETLS (RFC 8689).
pub const PH_SMTP_FLAG_REQUIRETLS: u32 = 32;
/// Event flag: the client has proved that it knows the password.
pub const PH_SMTP_FLAG_PROVED: u32 = 256;

/// The receiving side of one SMTP connection, without sockets, threads, clock or storage.
///
/// Made by ph_smtp_server_new, ended by ph_smtp_server_free. One thread at a time. The host feeds octets with
/// ph_smtp_server_step, answers its events, and writes out what ph_smtp_server_output shows.
pub struct ph_smtp_server(Exclusive<Smtp>);

struct Smtp {
    machine: Server,
    output: Pending,
    awaits: Awaits,
    /// What the last event's parameters and address point to.
    text: EventText,
}

impl Drained for Smtp {
    fn output(&mut self) -> &mut Pending {
        &mut self.output
    }
}

/// Texts that an event needs and the machine does not hold.
#[derive(Default)]
struct EventText {
    parameters: Vec<u8>,
    address: Vec<u8>,
}

/// Which answer the last event waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaits {
    Nothing,
    Reply,
    Auth(Asks),
    Tls,
}

/// What a server session is made with. Begin with PH_SMTP_SERVER_OPTIONS_INIT; zero means the default everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_smtp_server_options {
    /// sizeof(ph_smtp_server_options).
    pub struct_size: u32,
    /// PH_SMTP_DIALECT_...
    pub dialect: u32,
    /// Our name in greeting and EHLO reply. NULL: localhost.
    pub hostname: *const c_char,
    /// PH_OFFER_... added up: what is known of the connection when it begins.
    pub offer: u32,
    /// 1: do not offer CHUNKING (RFC 3030).
    pub no_chunking: u32,
    /// Most octets of a message, announced in SIZE. 0: 52428800. Over: 552 5.3.4.
    pub max_message_bytes: u64,
    /// Most recipients of a transaction. 0: 1000. Over: 452 4.5.3.
    pub max_recipients: u32,
    /// Most failed commands before 421. 0: 20.
    pub max_errors: u32,
    /// Most transactions of a connection before 421. 0: 10000.
    pub max_transactions: u32,
    /// Longest command line in octets with CR LF. 0: 4096. Over: 500 5.5.2. At least 512.
    pub max_command_line: u32,
    /// Pending octets of output above which step answers PH_SMTP_BLOCKED. 0: 16384.
    pub max_output: u32,
    /// Milliseconds that the peer may take for its next command. 0: 300000.
    pub command_timeout_ms: u32,
    /// Milliseconds that the peer may take for the next block of data. 0: 180000.
    pub data_timeout_ms: u32,
    /// Must be 0.
    pub reserved: u32,
    /// PH_SMTP_EXTENSION_... added up.
    pub extensions: u32,
    /// PH_SMTP_LOOKUP_... for VRFY. 0: PH_SMTP_LOOKUP_UNTOLD.
    pub vrfy: u32,
    /// PH_SMTP_LOOKUP_... for EXPN. 0: PH_SMTP_LOOKUP_WITHHELD.
    pub expn: u32,
    /// Most different domains of a transaction's recipients. 0: they are not counted. Over: 452 4.5.3.
    pub max_recipient_domains: u32,
    /// With PH_SMTP_EXTENSION_DELIVERBY: the least seconds of BY with mode R; 0: none is announced.
    pub deliver_by_least: u32,
    /// FUTURERELEASE (RFC 4865), in PH_SMTP_DIALECT_SUBMISSION: most seconds of HOLDFOR. 0: it is not offered.
    pub hold_seconds: u32,
    /// FUTURERELEASE: latest HOLDUNTIL, in seconds since 1970-01-01T00:00:00Z. 0: it is not offered.
    pub hold_until: u64,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_smtp_server_options {
    const NAME: &'static str = "ph_smtp_server_options";
    const FIRST: usize = std::mem::offset_of!(ph_smtp_server_options, extensions);
}

/// What a step tells. Begin with PH_SMTP_EVENT_INIT. Fields that a kind does not name are 0 or empty.
///
/// Everything that it points to is borrowed: data of PH_SMTP_DATA_CHUNK from the input of the step, all else
/// from the session, until the next call on the session other than output, output_sent and deadline.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_smtp_event {
    /// sizeof(ph_smtp_event), set by the caller.
    pub struct_size: u32,
    /// PH_SMTP_NEED_INPUT, PH_SMTP_MAIL ...
    pub kind: u32,
    /// PH_SMTP_FLAG_... added up.
    pub flags: u32,
    /// Always 0.
    pub reserved: u32,
    /// Octets.
    pub size: u64,
    /// A path without angle brackets.
    pub address: ph_bytes,
    /// A name, a piece of the message, or the challenge of CRAM-MD5.
    pub data: ph_bytes,
    /// The login name, UTF-8.
    pub login: ph_bytes,
    /// The password, the digest of CRAM-MD5 or the token, UTF-8.
    pub password: ph_bytes,
    /// On whose behalf to act, UTF-8; empty: the login name's own.
    pub authorization: ph_bytes,
    /// The parameters that the next hop must hear of, as ASCII text with a space between: RET, ENVID, BY, MT-PRIORITY, REQUIRETLS of MAIL
    /// (RFC 3461, 2852, 6710, 8689), NOTIFY, ORCPT of RCPT (RFC 3461, 6533). They are checked and have one form.
    pub parameters: ph_bytes,
    /// MAIL carried HOLDFOR (RFC 4865): seconds from now before which the message may not leave.
    pub hold_seconds: u64,
    /// MAIL carried HOLDUNTIL (RFC 4865): that instant, in seconds since 1970-01-01T00:00:00Z.
    pub hold_until: u64,
    /// LMTP, PH_SMTP_DATA_END: how many recipients wait for a reply.
    pub recipients: u32,
    /// Always 0.
    pub reserved2: u32,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_smtp_event {
    const NAME: &'static str = "ph_smtp_event";
    const FIRST: usize = std::mem::offset_of!(ph_smtp_event, parameters);
}

/// Makes a session for a new connection.
///
/// Behaviour: nothing is pending yet; the first step answers PH_SMTP_CONNECT.
/// Parameters: options, or NULL for the defaults; now_ms, milliseconds on a clock of the host's choice that never goes back;
/// out, where the handle goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_INVALID_ARGUMENT, PH_E_UTF8, PH_E_NULL.
/// Ownership: the handle is the caller's, to be ended by ph_smtp_server_free. Options are copied.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_server_new(
    options: *const ph_smtp_server_options,
    now_ms: u64,
    out: *mut *mut ph_smtp_server,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let options = record::read_optional(options)?;
            let (config, offer) = config_of(options.as_ref())?;
            let trusted = config.extensions.xclient;
            let mut machine = Server::new(Arc::new(config), offer, Time(now_ms));
            if trusted {
                machine.trust_peer();
            }
            let text = EventText::default();
            let session = Smtp { machine, output: Pending::default(), awaits: Awaits::Nothing, text };
            give(out, ph_smtp_server(Exclusive::new(session)));
        }
        DONE
    })
}

/// Consumes input and tells what comes next.
///
/// Behaviour: call it until it answers PH_SMTP_NEED_INPUT, PH_SMTP_BLOCKED or PH_SMTP_CLOSED; when an event has
/// PH_SMTP_FLAG_PAUSED, answer it before the next step. Then write out what is pending, and wait for input, for the deadline,
/// or for your own answer. What was not consumed comes again at the front of the next input. The result is the
/// same however the input is cut.
/// Parameters: session; now_ms; input, input_len octets received and not consumed yet, may be NULL when input_len is 0; consumed,
/// where the number of octets that are done with goes; event, with struct_size set.
/// Returns: PH_OK or an error. What a peer does wrong is answered on the wire and is no error.
/// Errors: PH_E_STATE when the last event still waits for its answer; PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Ownership: see ph_smtp_event. The input must stay as it is while a PH_SMTP_DATA_CHUNK of it is in use.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_server_step(
    session: *mut ph_smtp_server,
    now_ms: u64,
    input: *const u8,
    input_len: usize,
    consumed: *mut usize,
    event: *mut ph_smtp_event,
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
                let (mut shown, awaits) = event_for_c(&next, &mut session.text);
                if shown.kind == PH_SMTP_DATA_END {
                    shown.recipients = session.machine.recipients_unanswered();
                }
                session.awaits = awaits;
                *consumed = used;
                record::write(event, shown)
            })?;
        }
        DONE
    })
}

/// Answers the event that pauses with the session's own positive reply.
///
/// Parameters: session.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_server_accept(session: *mut ph_smtp_server) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe { answer(session, Awaits::Reply, |machine| machine.accept()) }
    })
}

/// Answers the event that pauses with a reply of the host's.
///
/// Behaviour: a code of class 2 (of class 3 for PH_SMTP_DATA_START) accepts, every other refuses.
/// Parameters: session; code, 200 to 599; enhanced, the enhanced status code as text ("5.1.1", RFC 3463), whose class is the code's, or
/// empty for none; text, UTF-8, several lines divided by LF, or empty. Control characters do not reach the wire.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT for a code or an enhanced code that cannot be; PH_E_STATE when no event waits for this answer; PH_E_UTF8,
/// PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_server_reply(
    session: *mut ph_smtp_server,
    code: u32,
    enhanced: ph_bytes,
    text: ph_bytes,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let reply = reply_of(code, enhanced, text)?;
            answer(session, Awaits::Reply, |machine| machine.reply(reply))
        }
    })
}

/// Answers a login: PH_SMTP_AUTH, PH_SMTP_AUTH_CRAM_MD5, PH_SMTP_AUTH_TOKEN, PH_SMTP_AUTH_OUTCOME; and with PH_AUTH_REFUSE or
/// PH_AUTH_UNAVAILABLE every other question of a mechanism.
///
/// Behaviour: a refusal is told to the client in the same words whether the name or the password is wrong.
/// Parameters: session; verdict, PH_AUTH_ACCEPT, PH_AUTH_REFUSE or PH_AUTH_UNAVAILABLE.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT; PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_server_auth(
    session: *mut ph_smtp_server,
    verdict: u32,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        let verdict = match verdict {
            PH_AUTH_ACCEPT => Verdict::Accept,
            PH_AUTH_REFUSE => Verdict::Refuse,
            PH_AUTH_UNAVAILABLE => Verdict::Unavailable,
            _ => return Err(Error::new(Kind::InvalidArgument, "verdict is none of PH_AUTH_...")),
        };
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe {
            answer_if(
                session,
                |awaits| match awaits {
                    Awaits::Auth(asks) => asks.decides() || verdict != Verdict::Accept,
                    _ => false,
                },
                |machine| machine.auth(verdict.clone()),
            )
        }
    })
}

/// Says which mechanisms are offered, where PH_OFFER_AUTH is given at all.
///
/// Behaviour: without this call PLAIN and LOGIN are offered. The other mechanisms ask more than whether a password is right: the
/// host must answer their events. SCRAM-SHA-256-PLUS is offered only when one of the bindings is given. Call it before the first
/// step, and again after ph_smtp_server_tls_started, which forgets the bindings.
/// Parameters: session; mechanisms, PH_MECHANISM_... added up; tls_exporter, the channel's data of RFC 9266 (TLS 1.3: 32 octets
/// exported with the label EXPORTER-Channel-Binding), or empty; tls_server_end_point, the hash of the server's certificate (RFC 5929 4), or
/// empty.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT for bits that are not PH_MECHANISM_...; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_server_set_mechanisms(
    session: *mut ph_smtp_server,
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

/// Answers PH_SMTP_AUTH_NONCE.
///
/// Parameters: session; nonce, 18 octets (PH_NONCE_SIZE) that nobody can foresee, drawn anew each time.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT for another length; PH_E_STATE when no event waits for this answer; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_server_auth_nonce(
    session: *mut ph_smtp_server,
    nonce: ph_bytes,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let nonce = sasl::nonce_of(nonce)?;
            answer(session, Awaits::Auth(Asks::Nonce), |machine| machine.auth(Verdict::Nonce(nonce)))
        }
    })
}

/// Answers PH_SMTP_AUTH_SCRAM.
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
pub unsafe extern "C" fn ph_smtp_server_auth_scram(
    session: *mut ph_smtp_server,
    keys: *const ph_scram_keys,
    nonce: ph_bytes,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let verdict = sasl::scram_of(keys, nonce)?;
            answer(session, Awaits::Auth(Asks::Scram), |machine| machine.auth(verdict))
        }
    })
}

/// Answers PH_SMTP_STARTTLS: the handshake is made.
///
/// Behaviour: everything known before is forgotten (RFC 3207 4.2). When octets were received in the clear behind STARTTLS, somebody
/// has injected them: the session refuses to go on. When the handshake fails, do not call this: free the session and close.
/// Parameters: session; offer, PH_OFFER_... added up, for the encrypted connection; unread, unread_len octets that were
/// received before the handshake and not consumed, may be NULL when unread_len is 0.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when no event waits for this answer; PH_E_INVALID_ARGUMENT, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_server_tls_started(
    session: *mut ph_smtp_server,
    offer: u32,
    unread: *const u8,
    unread_len: usize,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let unread = bytes::slice(unread, unread_len, "unread")?;
            let offer = offer_of(offer)?;
            answer(session, Awaits::Tls, |machine| machine.tls_started(offer, unread))
        }
    })
}

/// In LMTP, answers PH_SMTP_DATA_END for the next accepted recipient, in the order of their RCPT.
///
/// Behaviour: the event is answered when every recipient has its reply; ph_smtp_server_accept and ph_smtp_server_reply stand for all that
/// have none yet. A code of class 2 says that the message is safe for this recipient. In the other dialects it is ph_smtp_server_reply.
/// Parameters: session; code, enhanced, text as for ph_smtp_server_reply.
/// Returns: PH_OK or an error.
/// Errors: as for ph_smtp_server_reply.
/// Ownership: everything is copied before the call returns.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_server_reply_recipient(
    session: *mut ph_smtp_server,
    code: u32,
    enhanced: ph_bytes,
    text: ph_bytes,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let reply = reply_of(code, enhanced, text)?;
            answer(session, Awaits::Reply, |machine| machine.reply_recipient(reply))?;
            required(session, "session")?.0.with(|session| {
                if session.machine.recipients_unanswered() > 0 {
                    session.awaits = Awaits::Reply;
                }
                DONE
            })
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
pub unsafe extern "C" fn ph_smtp_server_eof(
    session: *mut ph_smtp_server,
    now_ms: u64,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe { pending::told(required(session, "session").map(|handle| &handle.0), |session| session.machine.eof(Time(now_ms))) }
    })
}

/// Says that the host stops serving.
///
/// Behaviour: 421 at the next place where a reply may stand, then PH_SMTP_CLOSED. A message whose end was already reported still
/// gets its answer first. Step afterwards.
/// Parameters: session.
/// Returns: PH_OK or an error.
/// Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_server_shutdown(session: *mut ph_smtp_server) -> ph_status {
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
pub unsafe extern "C" fn ph_smtp_server_deadline(session: *const ph_smtp_server) -> u64 {
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
pub unsafe extern "C" fn ph_smtp_server_output(
    session: *const ph_smtp_server,
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
pub unsafe extern "C" fn ph_smtp_server_output_sent(session: *mut ph_smtp_server, written: usize) {
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
pub unsafe extern "C" fn ph_smtp_server_free(session: *mut ph_smtp_server) {
    boundary!(or () => {
        // SAFETY: a handle of ph_smtp_server_new, and the last call on it.
        drop(unsafe { take(session) });
    })
}

/// # Safety
/// `session` is as the header says, and no other call on it runs.
unsafe fn answer(
    session: *mut ph_smtp_server,
    wanted: Awaits,
    give: impl FnOnce(&mut Server),
) -> Result<ph_status> {
    // SAFETY: the caller's promise.
    unsafe { answer_if(session, |awaits| awaits == wanted, give) }
}

/// # Safety
/// As for [`answer`].
unsafe fn answer_if(
    session: *mut ph_smtp_server,
    wanted: impl FnOnce(Awaits) -> bool,
    give: impl FnOnce(&mut Server),
) -> Result<ph_status> {
    // SAFETY: the caller's promise.
    unsafe {
        required(session, "session")?.0.with(|session| {
            if !wanted(session.awaits) {
                return Err(Error::new(Kind::State, "no event waits for this answer"));
            }
            session.awaits = Awaits::Nothing;
            give(&mut session.machine);
            DONE
        })
    }
}

/// # Safety
/// The pointers are as the fields' documentation says.
unsafe fn config_of(options: Option<&ph_smtp_server_options>) -> Result<(ServerConfig, Offer)> {
    let mut config = ServerConfig {
        hostname: "localhost".to_owned(),
        dialect: Dialect::Smtp,
        limits: Limits::default(),
        extensions: Extensions::default(),
    };
    let Some(options) = options else { return Ok((config, Offer::default())) };
    if !options.hostname.is_null() {
        // SAFETY: the caller's promise.
        config.hostname = unsafe { bytes::host_name(options.hostname, "hostname") }?;
    }
    config.dialect = match options.dialect {
        PH_SMTP_DIALECT_SMTP => Dialect::Smtp,
        PH_SMTP_DIALECT_SUBMISSION => Dialect::Submission,
        PH_SMTP_DIALECT_LMTP => Dialect::Lmtp,
        _ => {
            return Err(Error::new(
                Kind::InvalidArgument,
                "dialect is none of PH_SMTP_DIALECT_...",
            ));
        }
    };
    config.extensions = extensions_of(options)?;
    if (1..512).contains(&options.max_command_line) {
        return Err(Error::new(Kind::InvalidArgument, "max_command_line is below 512"));
    }
    record::unused(options.reserved, "ph_smtp_server_options.reserved")?;
    let limits = &mut config.limits;
    let set = |limit: &mut usize, value: u32| {
        if value != 0 {
            *limit = usize::try_from(value).unwrap_or(usize::MAX);
        }
    };
    set(&mut limits.command_line, options.max_command_line);
    set(&mut limits.output_bytes, options.max_output);
    if options.max_message_bytes != 0 {
        limits.message_bytes = options.max_message_bytes;
    }
    for (limit, value) in [
        (&mut limits.recipients, options.max_recipients),
        (&mut limits.recipient_domains, options.max_recipient_domains),
        (&mut limits.errors, options.max_errors),
        (&mut limits.transactions, options.max_transactions),
    ] {
        if value != 0 {
            *limit = value;
        }
    }
    for (limit, value) in [
        (&mut limits.command_millis, options.command_timeout_ms),
        (&mut limits.data_millis, options.data_timeout_ms),
    ] {
        if value != 0 {
            *limit = u64::from(value);
        }
    }
    Ok((config, offer_of(options.offer)?))
}

/// # Safety
/// The views are as the header says, and outlive the reply.
unsafe fn reply_of<'a>(code: u32, enhanced: ph_bytes, text: ph_bytes) -> Result<Reply<'a>> {
    let code = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
    let Some(code) = code else {
        return Err(Error::new(Kind::InvalidArgument, "code is not between 200 and 599"));
    };
    // SAFETY: the caller's promise.
    unsafe {
        let enhanced = enhanced_status(enhanced.text("enhanced")?, code)?;
        Ok(Reply { code, enhanced, text: text.text("text")? })
    }
}

fn offer_of(bits: u32) -> Result<Offer> {
    known_offer(bits)?;
    let tls = bits & PH_OFFER_TLS != 0;
    Ok(Offer {
        tls,
        starttls: bits & PH_OFFER_STARTTLS != 0 && !tls,
        auth: bits & PH_OFFER_AUTH != 0,
    })
}

/// Refuses bits that mean nothing, which would be silently ignored.
pub(super) fn known_offer(bits: u32) -> Result<()> {
    if bits & !(PH_OFFER_TLS | PH_OFFER_STARTTLS | PH_OFFER_AUTH) != 0 {
        return Err(Error::new(Kind::InvalidArgument, "offer has bits that are not PH_OFFER_..."));
    }
    Ok(())
}

/// An enhanced status code from its text (RFC 3463 2), whose class must be the reply's.
fn enhanced_status(text: &str, code: u16) -> Result<Option<(u8, u16, u16)>> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = |part: &str| {
        let plain = matches!(part.len(), 1..=3) && part.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| part.parse::<u16>().ok()).flatten()
    };
    let mut parts = text.split('.').map(number);
    let parsed = (parts.next().flatten(), parts.next().flatten(), parts.next().flatten());
    match (parsed, parts.next()) {
        ((Some(class), Some(subject), Some(detail)), None) if class == code / 100 => {
            Ok(u8::try_from(class).ok().map(|class| (class, subject, detail)))
        }
        _ => Err(Error::new(
            Kind::InvalidArgument,
            format!("enhanced is not a status code of class {}, for instance {0}.0.0", code / 100),
        )),
    }
}

/// What a step told, for C, and which answer it waits for.
fn event_for_c(next: &Next<Event<'_>>, text: &mut EventText) -> (ph_smtp_event, Awaits) {
    let mut shown = ph_smtp_event {
        struct_size: 0,
        kind: 0,
        flags: 0,
        reserved: 0,
        size: 0,
        address: ph_bytes::EMPTY,
        data: ph_bytes::EMPTY,
        login: ph_bytes::EMPTY,
        password: ph_bytes::EMPTY,
        authorization: ph_bytes::EMPTY,
        parameters: ph_bytes::EMPTY,
        hold_seconds: 0,
        hold_until: 0,
        recipients: 0,
        reserved2: 0,
    };
    text.parameters.clear();
    let mut awaits = Awaits::Nothing;
    shown.kind = match next {
        Next::NeedInput => PH_SMTP_NEED_INPUT,
        Next::Blocked => PH_SMTP_BLOCKED,
        Next::Closed => PH_SMTP_CLOSED,
        Next::Event(event) => match event {
            Event::Connect => {
                awaits = Awaits::Reply;
                PH_SMTP_CONNECT
            }
            Event::Hello { name, extended } => {
                awaits = Awaits::Reply;
                shown.data = ph_bytes::new(name);
                if *extended {
                    shown.flags |= PH_SMTP_FLAG_EXTENDED;
                }
                PH_SMTP_HELLO
            }
            Event::StartTls => {
                awaits = Awaits::Tls;
                PH_SMTP_STARTTLS
            }
            Event::Auth(question) => {
                let asked = Asked::new(question);
                awaits = Awaits::Auth(asked.asks);
                shown.login = asked.login;
                shown.password = asked.secret;
                shown.authorization = asked.authorization;
                shown.data = asked.challenge;
                if asked.proved {
                    shown.flags |= PH_SMTP_FLAG_PROVED;
                }
                match asked.asks {
                    Asks::Password => PH_SMTP_AUTH,
                    Asks::Nonce => PH_SMTP_AUTH_NONCE,
                    Asks::Scram => PH_SMTP_AUTH_SCRAM,
                    Asks::CramMd5 => PH_SMTP_AUTH_CRAM_MD5,
                    Asks::Token => PH_SMTP_AUTH_TOKEN,
                    Asks::Outcome => PH_SMTP_AUTH_OUTCOME,
                }
            }
            Event::Mail { from, parameters } => {
                awaits = Awaits::Reply;
                if let Some(from) = from {
                    shown.address = ph_bytes::new(from.as_bytes());
                }
                shown.size = parameters.size;
                shown.flags |= match parameters.body {
                    Body::SevenBit => 0,
                    Body::EightBit => PH_SMTP_FLAG_8BIT,
                    Body::Binary => PH_SMTP_FLAG_BINARY,
                };
                if parameters.smtputf8 {
                    shown.flags |= PH_SMTP_FLAG_SMTPUTF8;
                }
                if parameters.require_tls {
                    shown.flags |= PH_SMTP_FLAG_REQUIRETLS;
                }
                match parameters.hold {
                    None => {}
                    Some(Hold::For(seconds)) => shown.hold_seconds = u64::from(seconds),
                    Some(Hold::Until(instant)) => shown.hold_until = instant,
                }
                parameters.relay_text(&mut text.parameters);
                shown.parameters = ph_bytes::new(&text.parameters);
                PH_SMTP_MAIL
            }
            Event::Rcpt { to, parameters } => {
                awaits = Awaits::Reply;
                parameters.relay_text(&mut text.parameters);
                shown.parameters = ph_bytes::new(&text.parameters);
                shown.address = ph_bytes::new(to.as_bytes());
                PH_SMTP_RCPT
            }
            Event::DataStart => {
                awaits = Awaits::Reply;
                PH_SMTP_DATA_START
            }
            Event::DataChunk(piece) => {
                shown.data = ph_bytes::new(piece);
                PH_SMTP_DATA_CHUNK
            }
            Event::DataEnd { size } => {
                awaits = Awaits::Reply;
                shown.size = *size;
                PH_SMTP_DATA_END
            }
            Event::Reset => PH_SMTP_RESET,
            Event::Quit => PH_SMTP_QUIT,
            Event::Verify { text, smtputf8 } | Event::Expand { text, smtputf8 } => {
                awaits = Awaits::Reply;
                shown.data = ph_bytes::new(text);
                if *smtputf8 {
                    shown.flags |= PH_SMTP_FLAG_SMTPUTF8;
                }
                let verify = matches!(event, Event::Verify { .. });
                if verify { PH_SMTP_VERIFY } else { PH_SMTP_EXPAND }
            }
            Event::Etrn { node } => {
                awaits = Awaits::Reply;
                shown.data = ph_bytes::new(node);
                PH_SMTP_ETRN
            }
            Event::Forwarded(forwarded) => {
                awaits = Awaits::Reply;
                forwarded.text(&mut text.parameters);
                shown.parameters = ph_bytes::new(&text.parameters);
                text.address.clear();
                if let Some(address) = forwarded.address {
                    text.address.extend_from_slice(address.to_string().as_bytes());
                }
                shown.address = ph_bytes::new(&text.address);
                if let Some(login) = &forwarded.login {
                    shown.login = ph_bytes::new(login.as_bytes());
                }
                PH_SMTP_FORWARDED
            }
        },
    };
    if awaits != Awaits::Nothing {
        shown.flags |= PH_SMTP_FLAG_PAUSED;
    }
    (shown, awaits)
}
