//! Policy hooks: the host's judgement at every step of an SMTP, submission or LMTP session.
//!
//! # Method
//! A [`Hook`] is asked a [`Question`] after our own rules have accepted, with the [`Facts`] of the session. It answers
//! at once, or takes a [`Pending`] from [`Defer`] and answers [`Answer::Later`]: the session pauses, nothing is read
//! from the peer, and any thread completes the [`Pending`] when it knows. Without a hook nothing is asked and nothing
//! costs; an answer at once costs no memory.
//!
//! # Failure
//! A `Pending` that is dropped, or not completed within [`Hooks::millis`], is answered with [`Hooks::late`] (451
//! 4.7.1), and the session goes on; what is said to it afterwards has no effect. It may outlive the session, the
//! connection and the engine. A hook must not panic and should not block: it runs on a thread that serves other connections.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use super::TlsFacts;
use crate::codec::address::Address;
use crate::smtp::Reply;
use crate::smtp::parameter::{MailParameters, RcptParameters};
use crate::store::{Completion, MessageId, Ticket};

/// Judges sessions for the host.
pub trait Hook: Send + Sync {
    /// Answers a question, or takes it along in `later`.
    fn ask(&self, facts: &Facts<'_>, question: &Question<'_>, later: &mut Defer) -> Answer;
}

impl<F> Hook for F
where
    F: Fn(&Facts<'_>, &Question<'_>, &mut Defer) -> Answer + Send + Sync,
{
    fn ask(&self, facts: &Facts<'_>, question: &Question<'_>, later: &mut Defer) -> Answer {
        self(facts, question, later)
    }
}

/// A hook with its terms.
#[derive(Clone)]
pub struct Hooks {
    /// Who is asked.
    pub hook: Arc<dyn Hook>,
    /// Milliseconds that a [`Pending`] may take. 60,000 by default.
    pub millis: u64,
    /// What the peer is told when no answer came in time.
    pub late: Refusal,
}

impl Hooks {
    /// A hook with the default terms.
    pub fn new(hook: Arc<dyn Hook>) -> Hooks {
        Hooks {
            hook,
            millis: 60_000,
            late: Refusal::new(451, (7, 1), "Cannot decide now, try again later"),
        }
    }
}

/// What is known of a session.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The session's number, as in the events.
    pub session: u64,
    /// `smtp`, `submission` or `lmtp`.
    pub service: &'static str,
    /// The peer's address; loopback with port 0 for a Unix socket.
    pub peer: SocketAddr,
    /// TLS, while it is on.
    pub tls: Option<&'a TlsFacts>,
    /// What the peer calls itself; empty before it has.
    pub hello: &'a [u8],
    /// The login name of the account, once authenticated.
    pub login: Option<&'a str>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Question<'a> {
    /// A connection: may it speak? A refusal of 421 or 554 turns it away.
    Connect,
    /// HELO, EHLO or LHLO.
    Hello {
        /// What the peer calls itself.
        name: &'a [u8],
    },
    /// A login that is right: may it be used?
    Auth {
        /// The login name of the account.
        login: &'a str,
    },
    /// MAIL.
    Mail {
        /// The reverse-path; `None` is the null path.
        from: Option<&'a Address>,
        /// Its parameters.
        parameters: &'a MailParameters,
    },
    /// RCPT.
    Rcpt {
        /// The forward-path.
        to: &'a Address,
        /// Its parameters.
        parameters: &'a RcptParameters,
    },
    /// DATA, or the first BDAT.
    Data {
        /// Recipients that were accepted.
        recipients: u32,
    },
    /// The message is whole and not yet accepted.
    End {
        /// Its queue id.
        id: MessageId,
        /// Its octets as the peer sent them.
        size: u64,
    },
}

/// An answer of a hook.
#[derive(Debug)]
pub enum Answer {
    /// Go on.
    Accept,
    /// Refuse.
    Refuse(Refusal),
    /// The [`Pending`] that was taken says it. Without one taken: as if it had been dropped.
    Later,
}

/// What a [`Pending`] is completed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Accept,
    /// Refuse.
    Refuse(Refusal),
}

/// A refusal: a reply of class 4 or 5. Any other code becomes 451.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400 to 599.
    pub code: u16,
    /// Subject and detail of the enhanced code (RFC 3463).
    pub enhanced: Option<(u16, u16)>,
    /// What is said; lines divided by `\n`.
    pub text: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with an enhanced status code.
    pub const fn new(code: u16, (subject, detail): (u16, u16), text: &'static str) -> Refusal {
        Refusal { code, enhanced: Some((subject, detail)), text: Cow::Borrowed(text) }
    }

    /// As the machine says it.
    pub fn reply(&self) -> Reply<'_> {
        let code = if matches!(self.code, 400..=599) { self.code } else { 451 };
        match self.enhanced {
            Some((subject, detail)) => Reply::new(code, subject, detail, &self.text),
            None => Reply::bare(code, &self.text),
        }
    }
}

/// Where a hook takes the end that answers later.
#[derive(Default)]
pub struct Defer(Option<Ticket<Verdict>>);

impl Defer {
    /// The end that answers later. Taking it twice leaves the first without effect.
    pub fn take(&mut self) -> Pending {
        let (completion, ticket) = Ticket::new();
        self.0 = Some(ticket);
        Pending(completion)
    }

    /// Whether it was taken.
    pub fn is_taken(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn ticket(self) -> Option<Ticket<Verdict>> {
        self.0
    }
}

/// The end that answers a question, once, from any thread. Dropped without an answer it counts as too late.
pub struct Pending(Completion<Verdict>);

impl Pending {
    /// Answers. Without effect when the session has ended or its time has run out.
    pub fn complete(self, verdict: Verdict) {
        self.0.complete(Ok(verdict));
    }
}

/// A verdict to wait for.
pub struct Awaited {
    /// What answers; an error when the [`Pending`] was dropped.
    pub ticket: Ticket<Verdict>,
    /// Milliseconds to wait at most; then bring [`Settled::Verdict`](super::Settled::Verdict) without one.
    pub millis: u64,
}
