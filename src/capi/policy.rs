//! Policy hooks: the host judges each step of a session, at once or later.

use std::ffi::c_void;
use std::sync::Arc;

use super::boundary::{DONE, give, required, take};
use super::bytes::ph_bytes;
use super::callback::Callback;
use super::record::{self, Record};
use super::status::{ph_error, ph_status};
use crate::error::{Error, Kind, Result};
use crate::service::hook::{Answer, Defer, Facts, Hook, Pending, Question, Refusal, Verdict};

/// Policy question: a connection has begun; may it speak? A refusal with 421 or 554 turns it away.
pub const PH_POLICY_CONNECT: u32 = 1;
/// Policy question: HELO, EHLO or LHLO. address is what the peer calls itself.
pub const PH_POLICY_HELLO: u32 = 2;
/// Policy question: a login that is right; may it be used? login is the account's.
pub const PH_POLICY_AUTH: u32 = 3;
/// Policy question: MAIL. address is the reverse-path (empty: the null path), parameters what is passed on of its parameters.
pub const PH_POLICY_MAIL: u32 = 4;
/// Policy question: RCPT. address is the forward-path, parameters what is passed on of its parameters.
pub const PH_POLICY_RCPT: u32 = 5;
/// Policy question: DATA, or the first BDAT. recipients were accepted.
pub const PH_POLICY_DATA: u32 = 6;
/// Policy question: the message is whole, of size octets, with the queue id message_id, and not yet accepted.
pub const PH_POLICY_END: u32 = 7;

/// Answer to a policy question: go on.
pub const PH_POLICY_ACCEPT: u32 = 0;
/// Answer to a policy question: refuse, as the answer's struct says.
pub const PH_POLICY_REFUSE: u32 = 1;
/// Answer to a policy question: the ph_verdict that was taken says it. Without one taken the peer is told to come again.
pub const PH_POLICY_LATER: u32 = 2;

/// What the host is asked. Fields that a kind does not name are 0 or empty.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_policy_question {
    /// sizeof(ph_policy_question) of the library.
    pub struct_size: u32,
    /// PH_POLICY_CONNECT ... PH_POLICY_END.
    pub kind: u32,
    /// The session's number, as in the events.
    pub session: u64,
    /// The message's id, which is its queue id.
    pub message_id: u64,
    /// Octets of the message as the peer sent them.
    pub size: u64,
    /// Recipients that were accepted.
    pub recipients: u32,
    /// 0: no TLS. Else 0x0303 for TLS 1.2, 0x0304 for TLS 1.3.
    pub tls_version: u32,
    /// smtp, submission or lmtp.
    pub service: ph_bytes,
    /// The peer's address with port.
    pub peer: ph_bytes,
    /// What the peer calls itself; empty before it has.
    pub hello: ph_bytes,
    /// The login name of the account, once authenticated; empty before.
    pub login: ph_bytes,
    /// A path, or a name, as the kind says.
    pub address: ph_bytes,
    /// ESMTP parameters as they are passed on, for instance RET=HDRS ENVID=x or NOTIFY=NEVER.
    pub parameters: ph_bytes,
    /// The cipher suite's registered name (IANA), while TLS is on.
    pub tls_cipher: ph_bytes,
    /// The name that the client asked for (SNI); empty: none.
    pub tls_server_name: ph_bytes,
    /// Whom the client's verified certificate names; empty: nobody.
    pub tls_client_name: ph_bytes,
}

/// How a refusal reads. The library has set struct_size and zeroed the rest: then it is 451 4.7.1 with a text of its own.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_policy_answer {
    /// sizeof(ph_policy_answer). Begin with PH_POLICY_ANSWER_INIT where the host makes one.
    pub struct_size: u32,
    /// The reply's code, 400 to 599. 0: 451.
    pub code: u32,
    /// The enhanced status code's subject (RFC 3463), for instance 7 for policy. With detail 0: 7.1.
    pub subject: u32,
    /// The enhanced status code's detail.
    pub detail: u32,
    /// What is said, UTF-8, lines divided by \n; read before the call returns. Empty: a text of the library's.
    pub text: ph_bytes,
}

// SAFETY: repr(C), begins with `struct_size`; integers and bytes.
unsafe impl Record for ph_policy_answer {
    const NAME: &'static str = "ph_policy_answer";
    const FIRST: usize = size_of::<ph_policy_answer>();
}

/// The way to answer a question later. Lives as long as the call that it was given to.
pub struct ph_policy_later(Defer);

/// A question that is answered later, once, by ph_verdict_complete. Made by ph_policy_take.
pub struct ph_verdict(Pending);

/// Called at every step of an SMTP, submission or LMTP session, after the engine's own rules have accepted.
///
/// question and everything that it points to are borrowed for the duration of the call; question->struct_size is the library's; read
/// only fields that lie below it. answer is for a refusal. later makes it possible to answer after the call: take a ph_verdict from it
/// with ph_policy_take and return PH_POLICY_LATER.
/// Returns: PH_POLICY_ACCEPT, PH_POLICY_REFUSE or PH_POLICY_LATER. Anything else is a refusal with 451.
/// Thread: any thread of the engine, several at once. It serves other connections: must return soon, must not throw or jump out, and must
/// not call the same engine or anything made from it (PH_E_REENTRANT), except ph_policy_take.
pub type ph_policy_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        question: *const ph_policy_question,
        answer: *mut ph_policy_answer,
        later: *mut ph_policy_later,
    ) -> u32,
>;

pub(super) type PolicyFn = unsafe extern "C" fn(
    *mut c_void,
    *const ph_policy_question,
    *mut ph_policy_answer,
    *mut ph_policy_later,
) -> u32;

/// Takes a question along, to be answered after the call.
///
/// Behaviour: the session waits, and nothing is read from the peer, until ph_verdict_complete, or until the engine's policy_timeout_ms have
/// passed: then the peer is told 451 4.7.1 and the session goes on.
/// Parameters: later, as given to the ph_policy_fn that runs.
/// Returns: the handle, or NULL when later is NULL or was used already.
/// Ownership: the handle is the caller's, to be ended by ph_verdict_complete or ph_verdict_free. It may outlive the session, the connection
/// and the engine.
/// Thread: callback only.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_policy_take(later: *mut ph_policy_later) -> *mut ph_verdict {
    boundary!(or std::ptr::null_mut() => {
        let mut verdict = std::ptr::null_mut();
        // SAFETY: NULL or the object of the call that runs, as documented.
        unsafe {
            if let Some(later) = later.as_mut()
                && !later.0.is_taken()
            {
                give(&raw mut verdict, ph_verdict(later.0.take()));
            }
        }
        verdict
    })
}

/// Answers a question that was taken along.
///
/// Behaviour: the session goes on. Without effect when it has ended or its time has run out.
/// Parameters: verdict; answer, how the refusal reads, or NULL to accept; err, or NULL.
/// Returns: PH_OK or an error, after which the verdict is still to be completed.
/// Errors: PH_E_INVALID_ARGUMENT for a code that is no refusal; PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
/// Ownership: ends the verdict when it answers PH_OK.
/// Thread: any thread, also within a callback of the engine.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_verdict_complete(
    verdict: *mut ph_verdict,
    answer: *const ph_policy_answer,
    err: *mut ph_error,
) -> ph_status {
    boundary!(err => {
        // SAFETY: pointers as documented, and the last call on the verdict when it succeeds.
        unsafe {
            required(verdict, "verdict")?;
            let said = match record::read_optional(answer)? {
                None => Verdict::Accept,
                Some(answer) => Verdict::Refuse(refusal(&answer)?),
            };
            if let Some(verdict) = take(verdict) {
                verdict.0.complete(said);
            }
        }
        DONE
    })
}

/// Gives a verdict up: the peer is told 451 4.7.1.
///
/// Parameters: verdict, or NULL, which does nothing.
/// Ownership: ends the verdict.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_verdict_free(verdict: *mut ph_verdict) {
    boundary!(or () => {
        // SAFETY: a verdict of ph_policy_take, and the last call on it.
        drop(unsafe { take(verdict) });
    })
}

/// # Safety
/// The text in `answer` can be read.
unsafe fn refusal(answer: &ph_policy_answer) -> Result<Refusal> {
    let mut refusal = Refusal::new(451, (7, 1), "Refused by policy, try again later");
    if answer.code != 0 {
        refusal.code = u16::try_from(answer.code)
            .ok()
            .filter(|code| (400..=599).contains(code))
            .ok_or_else(|| {
                let text = format!("ph_policy_answer.code is {}, not 400 to 599", answer.code);
                Error::new(Kind::InvalidArgument, text)
            })?;
        if refusal.code >= 500 {
            refusal.text = "Refused by policy".into();
        }
    }
    if answer.subject != 0 || answer.detail != 0 {
        let part = |part: u32| {
            u16::try_from(part).ok().filter(|part| *part <= 999).ok_or_else(|| {
                let text = "ph_policy_answer.subject and detail are at most 999";
                Error::new(Kind::InvalidArgument, text)
            })
        };
        refusal.enhanced = Some((part(answer.subject)?, part(answer.detail)?));
    }
    // SAFETY: the caller's promise.
    let text = unsafe { answer.text.text("ph_policy_answer.text") }?;
    if !text.is_empty() {
        refusal.text = text.to_owned().into();
    }
    Ok(refusal)
}

/// The host's function as a hook.
pub(super) struct HostHook(pub(super) Arc<Callback<PolicyFn>>);

impl Hook for HostHook {
    fn ask(&self, facts: &Facts<'_>, question: &Question<'_>, later: &mut Defer) -> Answer {
        let peer = facts.peer.to_string();
        let mut parameters = Vec::new();
        let mut asked = ph_policy_question {
            struct_size: size_of::<ph_policy_question>() as u32,
            kind: 0,
            session: facts.session,
            message_id: 0,
            size: 0,
            recipients: 0,
            tls_version: facts.tls.map_or(0, |tls| tls.version.number().into()),
            service: ph_bytes::new(facts.service.as_bytes()),
            peer: ph_bytes::new(peer.as_bytes()),
            hello: ph_bytes::new(facts.hello),
            login: ph_bytes::new(facts.login.unwrap_or_default().as_bytes()),
            address: ph_bytes::EMPTY,
            parameters: ph_bytes::EMPTY,
            tls_cipher: ph_bytes::new(facts.tls.map_or("", |tls| tls.cipher).as_bytes()),
            tls_server_name: named(facts.tls.and_then(|tls| tls.server_name.as_deref())),
            tls_client_name: named(facts.tls.and_then(|tls| tls.client_name.as_deref())),
        };
        match *question {
            Question::Connect => asked.kind = PH_POLICY_CONNECT,
            Question::Hello { name } => {
                asked.kind = PH_POLICY_HELLO;
                asked.address = ph_bytes::new(name);
            }
            Question::Auth { login } => {
                asked.kind = PH_POLICY_AUTH;
                asked.login = ph_bytes::new(login.as_bytes());
            }
            Question::Mail { from, parameters: given } => {
                asked.kind = PH_POLICY_MAIL;
                asked.address = ph_bytes::new(from.map_or(&[][..], |from| from.as_bytes()));
                given.relay_text(&mut parameters);
            }
            Question::Rcpt { to, parameters: given } => {
                asked.kind = PH_POLICY_RCPT;
                asked.address = ph_bytes::new(to.as_bytes());
                given.relay_text(&mut parameters);
            }
            Question::Data { recipients } => {
                asked.kind = PH_POLICY_DATA;
                asked.recipients = recipients;
            }
            Question::End { id, size } => {
                asked.kind = PH_POLICY_END;
                asked.message_id = id.0;
                asked.size = size;
            }
        }
        asked.parameters = ph_bytes::new(&parameters);
        let mut answer = ph_policy_answer {
            struct_size: size_of::<ph_policy_answer>() as u32,
            code: 0,
            subject: 0,
            detail: 0,
            text: ph_bytes::EMPTY,
        };
        let mut taking = ph_policy_later(std::mem::take(later));
        // What a host that has gone says.
        let mut said = PH_POLICY_REFUSE;
        self.0.call(|function, user_data| {
            // SAFETY: the host's function with the host's data, as documented at ph_policy_fn.
            said =
                unsafe { function(user_data, &raw const asked, &raw mut answer, &raw mut taking) };
        });
        *later = taking.0;
        match said {
            PH_POLICY_ACCEPT => Answer::Accept,
            PH_POLICY_LATER => Answer::Later,
            // SAFETY: the host has set text to what can be read.
            _ => Answer::Refuse(unsafe { refusal(&answer) }.unwrap_or_else(|error| {
                tracing::error!(%error, "policy hook");
                Refusal::new(451, (7, 1), "Refused by policy, try again later")
            })),
        }
    }
}

fn named(name: Option<&str>) -> ph_bytes {
    ph_bytes::new(name.unwrap_or_default().as_bytes())
}
