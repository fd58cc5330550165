//! `ph_smtp_client`: the bare SMTP and LMTP client session, without sockets, threads, clock or storage.
//!
//! The machine is [`smtp::client::Client`](crate::smtp::client::Client); here stands its C form, with the verbs of the other
//! sessions. The session keeps the output, which C drains with `output` and `output_sent`.

use std::ffi::c_char;
use std::sync::Arc;

use super::boundary::{DONE, Exclusive, clear, give, null, required, take};
use super::bytes::{self, ph_bytes};
use super::pending::{self, Drained, Pending};
use super::record::{self, Record};
use super::smtp_server::PH_NEVER;
use super::status::{ph_error, ph_status};
use crate::error::{Error, Kind, Result};
use crate::sasl::Mechanisms;
use crate::session::{Next, Session, Step};
use crate::smtp::answer::Answer;
use crate::smtp::client::{
    Channel, Client, ClientConfig, ClientEvent, Content, Credentials, EightBit, LineEnds, Login,
    Origin, Phase, Recipient, Tls, Transaction, Verdict,
};
use crate::time::Time;

/// Client option: the peer speaks LMTP (RFC 2033).
pub const PH_SMTP_CLIENT_LMTP: u32 = 1;
/// Client option: the connection is under TLS from its beginning (RFC 8314).
pub const PH_SMTP_CLIENT_UNDER_TLS: u32 = 2;
/// Client option: never use STARTTLS. Without this and PH_SMTP_CLIENT_TLS_REQUIRED it is used when it is offered.
pub const PH_SMTP_CLIENT_TLS_NEVER: u32 = 4;
/// Client option: a peer that does not offer STARTTLS, or refuses it, gets nothing.
pub const PH_SMTP_CLIENT_TLS_REQUIRED: u32 = 8;
/// Client option: send credentials without TLS, too.
pub const PH_SMTP_CLIENT_AUTH_IN_CLEAR: u32 = 16;
/// Client option: the secret is a token for OAUTHBEARER and XOAUTH2, and not a password.
pub const PH_SMTP_CLIENT_TOKEN: u32 = 32;
/// Client option: do not use PIPELINING (RFC 2920).
pub const PH_SMTP_CLIENT_NO_PIPELINING: u32 = 64;
/// Client option: do not use CHUNKING (RFC 3030), which binary messages need.
pub const PH_SMTP_CLIENT_NO_CHUNKING: u32 = 128;
/// Client option: send an 8-bit message as it is to a peer without 8BITMIME. Otherwise it is bounced with 5.6.3.
pub const PH_SMTP_CLIENT_SEND_8BIT: u32 = 256;
/// Client option: refuse a message that holds a bare CR or LF. Otherwise each becomes CR LF.
pub const PH_SMTP_CLIENT_REFUSE_LINE_ENDS: u32 = 512;

/// Client session: all input is used up, or what is left is not a whole line yet. Wait for more, for the deadline, or begin.
pub const PH_SMTP_CLIENT_NEED_INPUT: u32 = 1;
/// Client session: too much output is pending. Write it out, then step again.
pub const PH_SMTP_CLIENT_BLOCKED: u32 = 2;
/// Client session: it is over. Write out what is pending and close the connection.
pub const PH_SMTP_CLIENT_CLOSED: u32 = 3;
/// Client session: make the TLS handshake, then call ph_smtp_client_tls_started or ph_smtp_client_tls_failed.
pub const PH_SMTP_CLIENT_STARTTLS: u32 = 10;
/// Client session: greeted, under TLS and logged in as the options say: call ph_smtp_client_begin or ph_smtp_client_quit.
pub const PH_SMTP_CLIENT_READY: u32 = 11;
/// Client session: what came of the recipient index: verdict, origin, phase, code, enhanced status code, text, flags. Once for each.
pub const PH_SMTP_CLIENT_RECIPIENT: u32 = 12;
/// Client session: the next piece of the message is wanted, at most size octets: call ph_smtp_client_body, _body_end or
/// _body_failed. Comes again until that is done.
pub const PH_SMTP_CLIENT_NEED_BODY: u32 = 13;
/// Client session: the transaction is over; size recipients have the message. Begin another or quit, unless flags has
/// PH_SMTP_CLIENT_FLAG_CLOSING.
pub const PH_SMTP_CLIENT_DONE: u32 = 14;
/// Client session: nothing can be sent on this connection; verdict, origin, phase, code, enhanced status code and text say why.
/// PH_SMTP_CLIENT_CLOSED follows.
pub const PH_SMTP_CLIENT_FAILED: u32 = 15;

/// Verdict: the peer has the message for this recipient.
pub const PH_VERDICT_DELIVERED: u32 = 1;
/// Verdict: not delivered; try again later.
pub const PH_VERDICT_TEMPORARY: u32 = 2;
/// Verdict: not delivered, and never will be.
pub const PH_VERDICT_PERMANENT: u32 = 3;
/// Verdict: the end of the message was sent and no answer came. The peer may have it: try again later with the same Message-ID.
pub const PH_VERDICT_UNKNOWN: u32 = 4;
/// Verdict: not tried, because no more recipients fit into the transaction. Begin another at once.
pub const PH_VERDICT_NOT_TRIED: u32 = 5;

/// Origin of a verdict: the peer, in a reply.
pub const PH_ORIGIN_PEER: u32 = 1;
/// Origin of a verdict: this side (the peer's offer does not suffice, a time-out, a lost connection, a broken protocol).
pub const PH_ORIGIN_CLIENT: u32 = 2;

/// Phase of a client session: waiting for the greeting.
pub const PH_PHASE_GREETING: u32 = 1;
/// Phase of a client session: EHLO, HELO or LHLO.
pub const PH_PHASE_HELLO: u32 = 2;
/// Phase of a client session: STARTTLS and the handshake.
pub const PH_PHASE_STARTTLS: u32 = 3;
/// Phase of a client session: AUTH.
pub const PH_PHASE_AUTH: u32 = 4;
/// Phase of a client session: between transactions.
pub const PH_PHASE_IDLE: u32 = 5;
/// Phase of a client session: before anything of a transaction was sent.
pub const PH_PHASE_BEGIN: u32 = 6;
/// Phase of a client session: RSET and MAIL.
pub const PH_PHASE_MAIL: u32 = 7;
/// Phase of a client session: RCPT.
pub const PH_PHASE_RCPT: u32 = 8;
/// Phase of a client session: DATA.
pub const PH_PHASE_DATA: u32 = 9;
/// Phase of a client session: the text, its end not included.
pub const PH_PHASE_BODY: u32 = 10;
/// Phase of a client session: the end of the text was sent.
pub const PH_PHASE_END: u32 = 11;
/// Phase of a client session: QUIT.
pub const PH_PHASE_QUIT: u32 = 12;

/// Client event flag: the connection cannot be used for another transaction.
pub const PH_SMTP_CLIENT_FLAG_CLOSING: u32 = 1;
/// Client event flag: the peer answers for delivery status notifications of this recipient (RFC 3461). Without it a delivered
/// recipient with NOTIFY=SUCCESS wants a "relayed" notice from this side.
pub const PH_SMTP_CLIENT_FLAG_DSN: u32 = 2;
/// Client event flag: worth another transaction at once, on this connection.
pub const PH_SMTP_CLIENT_FLAG_AGAIN: u32 = 4;
/// Client event flag: TLS failed and nothing demands it: another connection with PH_SMTP_CLIENT_TLS_NEVER may be tried.
pub const PH_SMTP_CLIENT_FLAG_CLEAR_MAY_DO: u32 = 8;
/// Client event flag: DSN's parameters were given and the peer lacks DSN.
pub const PH_SMTP_CLIENT_FLAG_DSN_DROPPED: u32 = 16;
/// Client event flag: BY was given in mode N and the peer lacks DELIVERBY.
pub const PH_SMTP_CLIENT_FLAG_DELIVERBY_DROPPED: u32 = 32;
/// Client event flag: MT-PRIORITY was given and the peer lacks it.
pub const PH_SMTP_CLIENT_FLAG_PRIORITY_DROPPED: u32 = 64;
/// Client event flag: HOLDFOR or HOLDUNTIL was given and the peer lacks FUTURERELEASE.
pub const PH_SMTP_CLIENT_FLAG_HOLD_DROPPED: u32 = 128;

/// Message content: lines of ASCII.
pub const PH_CONTENT_7BIT: u32 = 0;
/// Message content: lines of any octets (8BITMIME, RFC 6152).
pub const PH_CONTENT_8BIT: u32 = 1;
/// Message content: any octets, without lines (BINARYMIME, RFC 3030).
pub const PH_CONTENT_BINARY: u32 = 2;

/// The sending side of one SMTP or LMTP connection, without sockets, TLS, threads, clock or storage.
///
/// Made by ph_smtp_client_new, ended by ph_smtp_client_free. One thread at a time. The host makes the connection, feeds
/// octets with ph_smtp_client_step, acts on its events, and writes out what ph_smtp_client_output shows.
pub struct ph_smtp_client(Exclusive<Smtp>);

struct Smtp {
    machine: Client,
    output: Pending,
}

impl Drained for Smtp {
    fn output(&mut self) -> &mut Pending {
        &mut self.output
    }
}

/// What a client session is made with. Begin with PH_SMTP_CLIENT_OPTIONS_INIT; zero means the default everywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_smtp_client_options {
    /// sizeof(ph_smtp_client_options).
    pub struct_size: u32,
    /// PH_SMTP_CLIENT_LMTP ... PH_SMTP_CLIENT_REFUSE_LINE_ENDS added up.
    pub flags: u32,
    /// Our name in EHLO. NULL: localhost.
    pub hostname: *const c_char,
    /// The login name, UTF-8. Empty together with secret: do not log in.
    pub login: ph_bytes,
    /// The password or token, UTF-8.
    pub secret: ph_bytes,
    /// On whose behalf to act, UTF-8; empty: the login name's own.
    pub authorization: ph_bytes,
    /// AUTH mechanisms that may be used, divided by spaces: "SCRAM-SHA-256 PLAIN". NULL: all that this library knows.
    pub mechanisms: *const c_char,
    /// 18 random octets that were never used before, for SCRAM. NULL: SCRAM is not used.
    pub nonce: *const u8,
    /// Most recipients of a transaction that are asked for; the others are PH_VERDICT_NOT_TRIED. 0: 1000.
    pub max_recipients: u32,
    /// Octets of a chunk of BDAT. 0: 65536.
    pub chunk_bytes: u32,
    /// Pending octets of output above which step answers PH_SMTP_CLIENT_BLOCKED. 0: 65536.
    pub max_output: u32,
    /// Milliseconds for the greeting. 0: 300000.
    pub greeting_timeout_ms: u32,
    /// Milliseconds for EHLO, STARTTLS and each line of AUTH. 0: 300000.
    pub hello_timeout_ms: u32,
    /// Milliseconds for MAIL and RSET. 0: 300000.
    pub mail_timeout_ms: u32,
    /// Milliseconds for RCPT. 0: 300000.
    pub rcpt_timeout_ms: u32,
    /// Milliseconds for DATA. 0: 120000.
    pub data_timeout_ms: u32,
    /// Milliseconds for taking what was written, each time. 0: 180000.
    pub block_timeout_ms: u32,
    /// Milliseconds for the answer to the message's end and to each chunk. 0: 600000.
    pub end_timeout_ms: u32,
    /// Milliseconds for QUIT. 0: 30000.
    pub quit_timeout_ms: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_smtp_client_options {
    const NAME: &'static str = "ph_smtp_client_options";
    const FIRST: usize = size_of::<ph_smtp_client_options>();
}

/// A recipient of a transaction. This struct stands in arrays and never grows.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_smtp_recipient {
    /// The forward-path without angle brackets.
    pub address: ph_bytes,
    /// RCPT's parameters to be passed on, as they stand on the wire: NOTIFY, ORCPT. Empty: none.
    pub parameters: ph_bytes,
}

/// One message to some recipients. Begin with PH_SMTP_TRANSACTION_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_smtp_transaction {
    /// sizeof(ph_smtp_transaction).
    pub struct_size: u32,
    /// PH_CONTENT_...: what the message's octets are.
    pub content: u32,
    /// The message's octets, announced with SIZE; 0 when they are not known.
    pub size: u64,
    /// The reverse-path without angle brackets; empty for the null path.
    pub from: ph_bytes,
    /// MAIL's parameters to be passed on, divided by spaces: RET, ENVID, BY, MT-PRIORITY, REQUIRETLS, AUTH, HOLDFOR, HOLDUNTIL. Empty: none.
    pub parameters: ph_bytes,
    /// recipient_count recipients. Outcomes name them by their places here.
    pub recipients: *const ph_smtp_recipient,
    /// How many there are, at least 1.
    pub recipient_count: usize,
    /// 1: it needs SMTPUTF8 (RFC 6531). Addresses of more than ASCII need it anyway.
    pub utf8: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_smtp_transaction {
    const NAME: &'static str = "ph_smtp_transaction";
    const FIRST: usize = size_of::<ph_smtp_transaction>();
}

/// What a step of a client session tells. Begin with PH_SMTP_CLIENT_EVENT_INIT. Fields that a kind does not name are 0 or empty.
///
/// text is borrowed from the session until the next call on it other than output, output_sent and deadline.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_smtp_client_event {
    /// sizeof(ph_smtp_client_event), set by the caller.
    pub struct_size: u32,
    /// PH_SMTP_CLIENT_NEED_INPUT, PH_SMTP_CLIENT_RECIPIENT ...
    pub kind: u32,
    /// PH_SMTP_CLIENT_FLAG_... added up.
    pub flags: u32,
    /// PH_VERDICT_...
    pub verdict: u32,
    /// PH_ORIGIN_...
    pub origin: u32,
    /// PH_PHASE_...
    pub phase: u32,
    /// The reply's code, 200 to 599.
    pub code: u32,
    /// The enhanced status code's class (RFC 3463), 0 when the reply has none.
    pub enhanced_class: u32,
    /// Its subject.
    pub enhanced_subject: u32,
    /// Its detail.
    pub enhanced_detail: u32,
    /// The recipient's place in the transaction.
    pub index: u64,
    /// Octets or recipients.
    pub size: u64,
    /// The reply's text, UTF-8, its enhanced status code included; lines are divided by LF.
    pub text: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and pointers.
unsafe impl Record for ph_smtp_client_event {
    const NAME: &'static str = "ph_smtp_client_event";
    const FIRST: usize = size_of::<ph_smtp_client_event>();
}

/// Makes a session for a new connection.
///
/// Behaviour: nothing is pending; the session waits for the peer's greeting, from now on.
/// Parameters: options, or NULL for the defaults; now_ms, milliseconds on a clock of the host's choice that never goes back;
/// out, where the handle goes (NULL when the call fails); err, or NULL.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_INVALID_ARGUMENT, PH_E_UTF8, PH_E_NULL.
/// Ownership: the handle is the caller's, to be ended by ph_smtp_client_free. Options are copied.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_client_new(
    options: *const ph_smtp_client_options,
    now_ms: u64,
    out: *mut *mut ph_smtp_client,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented.
        unsafe {
            clear(out, "out")?;
            let options = record::read_optional(options)?;
            let (config, tls, nonce) = config_of(options.as_ref())?;
            let mut machine = Client::new(Arc::new(config), tls, Time(now_ms));
            if let Some(nonce) = nonce {
                machine.set_channel(nonce, Channel::Unbound);
            }
            give(out, ph_smtp_client(Exclusive::new(Smtp { machine, output: Pending::default() })));
        }
        DONE
    })
}

/// Consumes input and tells what comes next.
///
/// Behaviour: call it until it answers PH_SMTP_CLIENT_NEED_INPUT, PH_SMTP_CLIENT_BLOCKED or PH_SMTP_CLIENT_CLOSED. Then write out what
/// is pending, and wait for input, for the deadline, or begin a transaction. What was not consumed comes again at
/// the front of the next input, which must have room for 4096 octets. The result is the same however the input is cut.
/// Parameters: session; now_ms; input, input_len octets received and not consumed yet, may be NULL when input_len is 0; consumed,
/// where the number of octets that are done with goes; event, with struct_size set.
/// Returns: PH_OK or an error. What a peer does wrong is an outcome and no error.
/// Errors: PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Ownership: see ph_smtp_client_event.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_client_step(
    session: *mut ph_smtp_client,
    now_ms: u64,
    input: *const u8,
    input_len: usize,
    consumed: *mut usize,
    event: *mut ph_smtp_client_event,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let consumed = consumed.as_mut().ok_or_else(|| null("consumed"))?;
            *consumed = 0;
            record::check_out(event)?;
            let input = bytes::slice(input, input_len, "input")?;
            required(session, "session")?.0.with(|session| {
                let output = session.output.open();
                let Step { consumed: used, next } = session.machine.step(Time(now_ms), input, output);
                *consumed = used;
                record::write(event, event_for_c(&next))
            })?;
        }
        DONE
    })
}

/// Begins a transaction.
///
/// Behaviour: allowed behind PH_SMTP_CLIENT_READY and PH_SMTP_CLIENT_DONE. Step afterwards; each recipient brings one
/// PH_SMTP_CLIENT_RECIPIENT, and PH_SMTP_CLIENT_DONE closes it. After an error the session is as before.
/// Parameters: session; transaction.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when the session is not idle; PH_E_LIMIT when the peer takes no more transactions on this connection; PH_E_ADDRESS
/// for an address and PH_E_INVALID_ARGUMENT for a parameter that cannot be sent; PH_E_UTF8, PH_E_STRUCT_SIZE, PH_E_BUSY, PH_E_INTERNAL,
/// PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_client_begin(
    session: *mut ph_smtp_client,
    transaction: *const ph_smtp_transaction,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let given = record::read(transaction)?;
            record::unused(given.reserved, "ph_smtp_transaction.reserved")?;
            let content = match given.content {
                PH_CONTENT_7BIT => Content::SevenBit,
                PH_CONTENT_8BIT => Content::EightBit,
                PH_CONTENT_BINARY => Content::Binary,
                _ => return Err(Error::new(Kind::InvalidArgument, "content is none of PH_CONTENT_...")),
            };
            let utf8 = match given.utf8 {
                0 => false,
                1 => true,
                _ => return Err(Error::new(Kind::InvalidArgument, "utf8 is neither 0 nor 1")),
            };
            let list = bytes::slice(given.recipients, given.recipient_count, "recipients")?;
            let mut recipients = Vec::with_capacity(list.len());
            for one in list {
                recipients.push(Recipient {
                    to: one.address.text("address")?,
                    parameters: one.parameters.text("parameters")?,
                });
            }
            let transaction = Transaction {
                from: given.from.text("from")?,
                parameters: given.parameters.text("parameters")?,
                recipients: &recipients,
                size: given.size,
                content,
                utf8,
            };
            required(session, "session")?.0.with(|session| session.machine.begin(&transaction))?;
        }
        DONE
    })
}

/// Answers PH_SMTP_CLIENT_NEED_BODY with a piece of the message.
///
/// Behaviour: any cut is good. Line ends become CR LF and dots are stuffed by the session. Step afterwards.
/// Parameters: session; data, 1 to as many octets as the event's size.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when no piece is wanted; PH_E_INVALID_ARGUMENT for an empty or too large piece; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Ownership: the piece is copied before the call returns.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_client_body(
    session: *mut ph_smtp_client,
    data: ph_bytes,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let data = data.octets("data")?;
            with(session, |session| session.machine.body(data, session.output.open()))
        }
    })
}

/// Answers PH_SMTP_CLIENT_NEED_BODY: the message is whole.
///
/// Parameters: session.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when no piece is wanted; PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_client_body_end(session: *mut ph_smtp_client) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe { with(session, |session| session.machine.body_end(session.output.open())) }
    })
}

/// Answers PH_SMTP_CLIENT_NEED_BODY: the message cannot be read.
///
/// Behaviour: every recipient is PH_VERDICT_TEMPORARY. Where the message went by DATA the connection ends, because nothing else stops the
/// peer from taking a part for the whole.
/// Parameters: session; why, UTF-8, one line that goes into the outcomes.
/// Returns: PH_OK or an error.
/// Errors: PH_E_STATE when no piece is wanted; PH_E_UTF8, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_client_body_failed(
    session: *mut ph_smtp_client,
    why: ph_bytes,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let why = why.text("why")?;
            with(session, |session| session.machine.body_failed(why))
        }
    })
}

/// Answers PH_SMTP_CLIENT_STARTTLS: the handshake is made.
///
/// Behaviour: everything that was said before is forgotten and EHLO is said again (RFC 3207 4.2). Octets that came in the clear behind
/// the 220 fail the session: somebody injected them. On a session with PH_SMTP_CLIENT_UNDER_TLS, before its first step: takes nonce and
/// exporter, and does nothing else. At any other time: no effect. Step afterwards.
/// Parameters: session; nonce, 18 fresh random octets for SCRAM, or NULL to keep what the options gave; exporter, exporter_len
/// octets of the channel's tls-exporter data (RFC 9266) for SCRAM-SHA-256-PLUS, may be NULL when exporter_len is 0; unread,
/// unread_len octets that were received before the handshake and not consumed, may be NULL when unread_len is 0.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_client_tls_started(
    session: *mut ph_smtp_client,
    nonce: *const u8,
    exporter: *const u8,
    exporter_len: usize,
    unread: *const u8,
    unread_len: usize,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let nonce = nonce_of(nonce);
            let exporter = bytes::slice(exporter, exporter_len, "exporter")?;
            let unread = bytes::slice(unread, unread_len, "unread")?;
            with(session, |session| {
                if session.machine.is_before_hello() {
                    let channel = match exporter {
                        [] => Channel::Unbound,
                        data => Channel::Exporter(data.to_vec()),
                    };
                    match nonce {
                        Some(nonce) => session.machine.set_channel(nonce, channel),
                        None => session.machine.bind_channel(channel),
                    }
                }
                session.machine.tls_started(unread, session.output.open());
                Ok(())
            })
        }
    })
}

/// Answers PH_SMTP_CLIENT_STARTTLS: the handshake failed.
///
/// Behaviour: PH_SMTP_CLIENT_FAILED and PH_SMTP_CLIENT_CLOSED follow. Without PH_SMTP_CLIENT_STARTTLS before it: no effect.
/// Parameters: session; why, UTF-8, one line that goes into the event's text.
/// Returns: PH_OK or an error.
/// Errors: PH_E_UTF8, PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_client_tls_failed(
    session: *mut ph_smtp_client,
    why: ph_bytes,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented, one call at a time.
        unsafe {
            let why = why.text("why")?;
            with(session, |session| {
                session.machine.tls_failed(why);
                Ok(())
            })
        }
    })
}

/// Says goodbye.
///
/// Behaviour: QUIT goes out with the next step when the session is idle, otherwise when it becomes so. PH_SMTP_CLIENT_CLOSED follows.
/// Parameters: session.
/// Returns: PH_OK or an error.
/// Errors: PH_E_BUSY, PH_E_INTERNAL, PH_E_NULL.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_client_quit(session: *mut ph_smtp_client) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe {
            with(session, |session| {
                session.machine.quit();
                Ok(())
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
pub unsafe extern "C" fn ph_smtp_client_eof(
    session: *mut ph_smtp_client,
    now_ms: u64,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: a live handle, one call at a time, as documented.
        unsafe { pending::told(required(session, "session").map(|handle| &handle.0), |session| session.machine.eof(Time(now_ms))) }
    })
}

/// Says when to step even without input.
///
/// Parameters: session, or NULL.
/// Returns: a time on the host's clock in milliseconds, or PH_NEVER.
/// Thread: one at a time.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_smtp_client_deadline(session: *const ph_smtp_client) -> u64 {
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
pub unsafe extern "C" fn ph_smtp_client_output(
    session: *const ph_smtp_client,
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
pub unsafe extern "C" fn ph_smtp_client_output_sent(session: *mut ph_smtp_client, written: usize) {
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
pub unsafe extern "C" fn ph_smtp_client_free(session: *mut ph_smtp_client) {
    boundary!(or () => {
        // SAFETY: a handle of ph_smtp_client_new, and the last call on it.
        drop(unsafe { take(session) });
    })
}

/// # Safety
/// `session` is as the header says, and no other call on it runs.
unsafe fn with(
    session: *mut ph_smtp_client,
    act: impl FnOnce(&mut Smtp) -> Result<()>,
) -> Result<ph_status> {
    // SAFETY: the caller's promise.
    unsafe { required(session, "session")?.0.with(act) }?;
    DONE
}

/// # Safety
/// `nonce` is NULL or points to 18 octets.
unsafe fn nonce_of(nonce: *const u8) -> Option<[u8; 18]> {
    // SAFETY: the caller's promise; an array of octets has no alignment.
    unsafe { nonce.cast::<[u8; 18]>().as_ref() }.copied()
}

/// # Safety
/// The pointers are as the fields' documentation says.
unsafe fn config_of(
    options: Option<&ph_smtp_client_options>,
) -> Result<(ClientConfig, bool, Option<[u8; 18]>)> {
    let mut config = ClientConfig::default();
    let Some(options) = options else { return Ok((config, false, None)) };
    record::unused(options.reserved, "ph_smtp_client_options.reserved")?;
    let flags = options.flags;
    let has = |flag: u32| flags & flag != 0;
    if flags >= PH_SMTP_CLIENT_REFUSE_LINE_ENDS << 1 {
        return Err(Error::new(
            Kind::InvalidArgument,
            "flags has bits that are not PH_SMTP_CLIENT_...",
        ));
    }
    config.lmtp = has(PH_SMTP_CLIENT_LMTP);
    config.tls = match (has(PH_SMTP_CLIENT_TLS_NEVER), has(PH_SMTP_CLIENT_TLS_REQUIRED)) {
        (false, false) => Tls::WhenOffered,
        (true, false) => Tls::Never,
        (false, true) => Tls::Required,
        (true, true) => {
            return Err(Error::new(Kind::InvalidArgument, "TLS is both never and required"));
        }
    };
    config.auth_in_clear = has(PH_SMTP_CLIENT_AUTH_IN_CLEAR);
    config.pipelining = !has(PH_SMTP_CLIENT_NO_PIPELINING);
    config.chunking = !has(PH_SMTP_CLIENT_NO_CHUNKING);
    if has(PH_SMTP_CLIENT_SEND_8BIT) {
        config.eight_bit = EightBit::Send;
    }
    if has(PH_SMTP_CLIENT_REFUSE_LINE_ENDS) {
        config.line_ends = LineEnds::Refuse;
    }
    // SAFETY: the caller's promise, for each pointer of the options.
    unsafe {
        if !options.hostname.is_null() {
            config.hostname = bytes::host_name(options.hostname, "hostname")?;
        }
        let name = options.login.text("login")?;
        let secret = options.secret.text("secret")?;
        let authorization = options.authorization.text("authorization")?;
        if !name.is_empty() || !secret.is_empty() {
            let mut login = Login::new(Credentials {
                authorization: authorization.to_owned(),
                login: name.to_owned(),
                secret: secret.to_owned().into(),
            });
            login.token = has(PH_SMTP_CLIENT_TOKEN);
            if !options.mechanisms.is_null() {
                let names = bytes::text(options.mechanisms, "mechanisms")?;
                login.mechanisms = Mechanisms::from_names(names.as_bytes());
                if login.mechanisms.is_empty() {
                    return Err(Error::new(
                        Kind::InvalidArgument,
                        "mechanisms names none that this library knows",
                    ));
                }
            }
            config.login = Some(login);
        }
    }
    let size = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    for (limit, value) in [
        (&mut config.limits.recipients, options.max_recipients),
        (&mut config.limits.chunk_bytes, options.chunk_bytes),
        (&mut config.limits.output_bytes, options.max_output),
    ] {
        if value != 0 {
            *limit = size(value);
        }
    }
    let timeouts = &mut config.timeouts;
    for (timeout, value) in [
        (&mut timeouts.greeting, options.greeting_timeout_ms),
        (&mut timeouts.hello, options.hello_timeout_ms),
        (&mut timeouts.mail, options.mail_timeout_ms),
        (&mut timeouts.rcpt, options.rcpt_timeout_ms),
        (&mut timeouts.data, options.data_timeout_ms),
        (&mut timeouts.block, options.block_timeout_ms),
        (&mut timeouts.end, options.end_timeout_ms),
        (&mut timeouts.quit, options.quit_timeout_ms),
    ] {
        if value != 0 {
            *timeout = u64::from(value);
        }
    }
    // SAFETY: the caller's promise.
    let nonce = unsafe { nonce_of(options.nonce) };
    Ok((config, has(PH_SMTP_CLIENT_UNDER_TLS), nonce))
}

fn verdict_for_c(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Delivered => PH_VERDICT_DELIVERED,
        Verdict::Temporary => PH_VERDICT_TEMPORARY,
        Verdict::Permanent => PH_VERDICT_PERMANENT,
        Verdict::Unknown => PH_VERDICT_UNKNOWN,
        Verdict::NotTried => PH_VERDICT_NOT_TRIED,
    }
}

fn phase_for_c(phase: Phase) -> u32 {
    match phase {
        Phase::Greeting => PH_PHASE_GREETING,
        Phase::Hello => PH_PHASE_HELLO,
        Phase::StartTls => PH_PHASE_STARTTLS,
        Phase::Auth => PH_PHASE_AUTH,
        Phase::Idle => PH_PHASE_IDLE,
        Phase::Begin => PH_PHASE_BEGIN,
        Phase::Mail => PH_PHASE_MAIL,
        Phase::Rcpt => PH_PHASE_RCPT,
        Phase::Data => PH_PHASE_DATA,
        Phase::Body => PH_PHASE_BODY,
        Phase::End => PH_PHASE_END,
        Phase::Quit => PH_PHASE_QUIT,
    }
}

/// Verdict, origin, phase and reply.
fn judged(
    shown: &mut ph_smtp_client_event,
    verdict: Verdict,
    origin: Origin,
    phase: Phase,
    answer: &Answer,
) {
    shown.verdict = verdict_for_c(verdict);
    shown.origin = match origin {
        Origin::Peer => PH_ORIGIN_PEER,
        Origin::Client => PH_ORIGIN_CLIENT,
    };
    shown.phase = phase_for_c(phase);
    shown.code = u32::from(answer.code());
    if let Some((class, subject, detail)) = answer.enhanced() {
        shown.enhanced_class = u32::from(class);
        shown.enhanced_subject = u32::from(subject);
        shown.enhanced_detail = u32::from(detail);
    }
    shown.text = ph_bytes::new(answer.text().as_bytes());
}

/// What a step told, for C.
fn event_for_c(next: &Next<ClientEvent<'_>>) -> ph_smtp_client_event {
    let mut shown = ph_smtp_client_event {
        struct_size: 0,
        kind: 0,
        flags: 0,
        verdict: 0,
        origin: 0,
        phase: 0,
        code: 0,
        enhanced_class: 0,
        enhanced_subject: 0,
        enhanced_detail: 0,
        index: 0,
        size: 0,
        text: ph_bytes::EMPTY,
    };
    shown.kind = match next {
        Next::NeedInput => PH_SMTP_CLIENT_NEED_INPUT,
        Next::Blocked => PH_SMTP_CLIENT_BLOCKED,
        Next::Closed => PH_SMTP_CLIENT_CLOSED,
        Next::Event(ClientEvent::StartTls) => PH_SMTP_CLIENT_STARTTLS,
        Next::Event(ClientEvent::Ready { capabilities: _ }) => PH_SMTP_CLIENT_READY,
        Next::Event(ClientEvent::NeedBody { max }) => {
            shown.size = *max as u64;
            PH_SMTP_CLIENT_NEED_BODY
        }
        Next::Event(ClientEvent::Recipient { index, outcome: o }) => {
            shown.index = *index as u64;
            judged(&mut shown, o.verdict, o.origin, o.phase, o.answer);
            if o.dsn {
                shown.flags |= PH_SMTP_CLIENT_FLAG_DSN;
            }
            if o.again {
                shown.flags |= PH_SMTP_CLIENT_FLAG_AGAIN;
            }
            PH_SMTP_CLIENT_RECIPIENT
        }
        Next::Event(ClientEvent::Done(done)) => {
            shown.size = done.delivered as u64;
            for (is, flag) in [
                (done.closing, PH_SMTP_CLIENT_FLAG_CLOSING),
                (done.dropped.dsn, PH_SMTP_CLIENT_FLAG_DSN_DROPPED),
                (done.dropped.deliver_by, PH_SMTP_CLIENT_FLAG_DELIVERBY_DROPPED),
                (done.dropped.priority, PH_SMTP_CLIENT_FLAG_PRIORITY_DROPPED),
                (done.dropped.hold, PH_SMTP_CLIENT_FLAG_HOLD_DROPPED),
            ] {
                if is {
                    shown.flags |= flag;
                }
            }
            PH_SMTP_CLIENT_DONE
        }
        Next::Event(ClientEvent::Failed(f)) => {
            judged(&mut shown, f.verdict, f.origin, f.phase, f.answer);
            if f.clear_may_do {
                shown.flags |= PH_SMTP_CLIENT_FLAG_CLEAR_MAY_DO;
            }
            PH_SMTP_CLIENT_FAILED
        }
    };
    shown
}
