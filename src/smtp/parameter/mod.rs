//! What MAIL and RCPT ask for beside a path: the parameters of the extensions, as values.
//!
//! `grammar` reads them from a command line. [`MailParameters::relay_text`] and [`RcptParameters::relay_text`] give
//! the canonical text of those that the next hop must hear of, which a queue keeps; `from_relay_text` reads it back.
//! The text is ASCII, without spaces in front or behind, each parameter once, in one order: the same values, the same text.
//!
//! Strings have their limits here ([`ENVID_OCTETS`], [`ORCPT_OCTETS`], [`AUTH_OCTETS`]), counted as they stand on the
//! wire, and never decode to control characters: what a peer sent cannot break a line of a report.

pub(crate) mod grammar;
mod text;

use std::io::Write as _;

pub use self::text::{OriginalRecipient, Xtext};
use crate::smtp::extension::Extensions;

/// Longest ENVID in characters, as xtext (RFC 3461 4.4).
pub const ENVID_OCTETS: usize = 100;
/// Longest ORCPT in characters, address type included (RFC 3461 4.2).
pub const ORCPT_OCTETS: usize = 500;
/// Longest value of MAIL's AUTH in characters, as xtext (RFC 4954 3).
pub const AUTH_OCTETS: usize = 500;

/// MAIL's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// SIZE in octets (RFC 1870), 0 when not given.
    pub size: u64,
    /// BODY (RFC 6152, RFC 3030).
    pub body: Body,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// RET (RFC 3461 4.3).
    pub ret: Option<Ret>,
    /// ENVID (RFC 3461 4.4).
    pub envid: Option<Xtext>,
    /// AUTH (RFC 4954 5): who first submitted the message, as the peer says; `<>` when it does not know or trust.
    pub auth: Option<Xtext>,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// BY (RFC 2852).
    pub deliver_by: Option<DeliverBy>,
    /// HOLDFOR or HOLDUNTIL (RFC 4865).
    pub hold: Option<Hold>,
    /// MT-PRIORITY, -9 to 9 (RFC 6710).
    pub priority: Option<i8>,
}

/// RCPT's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParameters {
    /// NOTIFY (RFC 3461 4.1).
    pub notify: Option<Notify>,
    /// ORCPT (RFC 3461 4.2, RFC 6533 3).
    pub orcpt: Option<OriginalRecipient>,
}

/// What the octets of a message are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Body {
    /// Lines of ASCII: BODY=7BIT, or nothing was said.
    #[default]
    SevenBit,
    /// Lines with octets beyond ASCII: BODY=8BITMIME (RFC 6152).
    EightBit,
    /// Any octets: BODY=BINARYMIME (RFC 3030). Comes by BDAT only.
    Binary,
}

/// How much of the message a report of failure returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

/// When the message must have arrived, and what happens if it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverBy {
    /// Seconds from the moment MAIL was said; beyond it when not above 0. At most nine digits.
    pub seconds: i32,
    /// Give up and report (R); else report and go on (N).
    pub return_it: bool,
    /// Report each relay (T).
    pub trace: bool,
}

/// Not before when the message may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// So many seconds from now.
    For(u32),
    /// This instant, in seconds since 1970-01-01T00:00:00Z.
    Until(u64),
}

/// Of what the sender wants to hear. Nothing of all: NEVER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// SUCCESS.
    pub success: bool,
    /// FAILURE.
    pub failure: bool,
    /// DELAY.
    pub delay: bool,
}

impl Notify {
    /// NEVER.
    pub const NEVER: Notify = Notify { success: false, failure: false, delay: false };
}

impl MailParameters {
    /// Appends the canonical text of what must be passed on: RET, ENVID, BY, MT-PRIORITY, REQUIRETLS.
    ///
    /// BY's seconds are those that the peer gave; who passes them on later subtracts what has gone by (RFC 2852 4.3).
    pub fn relay_text(&self, out: &mut Vec<u8>) {
        let mut list = List::new(out);
        if let Some(ret) = self.ret {
            list.add(match ret {
                Ret::Full => b"RET=FULL",
                Ret::Headers => b"RET=HDRS",
            });
        }
        if let Some(envid) = &self.envid {
            list.add(b"ENVID=").extend_from_slice(envid.as_bytes());
        }
        if let Some(by) = self.deliver_by {
            let mode = if by.return_it { 'R' } else { 'N' };
            let trace = if by.trace { "T" } else { "" };
            // Writing to a vector cannot fail.
            let _ = write!(list.add(b"BY="), "{};{mode}{trace}", by.seconds);
        }
        if let Some(priority) = self.priority {
            let _ = write!(list.add(b"MT-PRIORITY="), "{priority}");
        }
        if self.require_tls {
            list.add(b"REQUIRETLS");
        }
    }

    /// Reads what [`MailParameters::relay_text`] wrote. `None`: that is no such text.
    pub fn from_relay_text(text: &[u8]) -> Option<MailParameters> {
        let mut parameters = MailParameters::default();
        if !text.is_empty() {
            let text = [b" ", text].concat();
            let offered = grammar::Offered { extensions: &Extensions::ALL, tls: true, hold: true };
            grammar::mail(&text, offered, &mut parameters, &mut Memory::default()).ok()?;
        }
        Some(parameters)
    }
}

impl RcptParameters {
    /// Appends the canonical text of what must be passed on: NOTIFY, ORCPT.
    pub fn relay_text(&self, out: &mut Vec<u8>) {
        let mut list = List::new(out);
        if let Some(notify) = self.notify {
            let out = list.add(b"NOTIFY=");
            let mut mark = b"".as_slice();
            for (on, word) in [
                (notify.success, b"SUCCESS".as_slice()),
                (notify.failure, b"FAILURE"),
                (notify.delay, b"DELAY"),
                (notify == Notify::NEVER, b"NEVER"),
            ] {
                if on {
                    out.extend_from_slice(mark);
                    out.extend_from_slice(word);
                    mark = b",";
                }
            }
        }
        if let Some(orcpt) = &self.orcpt {
            list.add(b"ORCPT=").extend_from_slice(orcpt.as_bytes());
        }
    }

    /// Reads what [`RcptParameters::relay_text`] wrote. `None`: that is no such text.
    pub fn from_relay_text(text: &[u8]) -> Option<RcptParameters> {
        let mut parameters = RcptParameters::default();
        if !text.is_empty() {
            let text = [b" ", text].concat();
            let offered = grammar::Offered { extensions: &Extensions::ALL, tls: true, hold: true };
            let memory = &mut Memory::default();
            grammar::rcpt(&text, offered, true, &mut parameters, memory).ok()?;
        }
        Some(parameters)
    }
}

/// Memory that parameters' strings take, and give back when they are cleared: so the parameters of one transaction
/// after the other need no new one.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    envid: Vec<u8>,
    auth: Vec<u8>,
    orcpt: Vec<u8>,
}

impl Memory {
    /// Gives back to the system what is larger than so many octets.
    pub(crate) fn shrink(&mut self, kept: usize) {
        for space in [&mut self.envid, &mut self.auth, &mut self.orcpt] {
            if space.capacity() > kept {
                *space = Vec::new();
            }
        }
    }

    /// Octets that it holds outside itself.
    pub(crate) fn bytes(&self) -> usize {
        self.envid.capacity() + self.auth.capacity() + self.orcpt.capacity()
    }
}

/// Words with a space between.
struct List<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl List<'_> {
    fn new(out: &mut Vec<u8>) -> List<'_> {
        List { out, first: true }
    }

    fn add(&mut self, word: &[u8]) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b' ');
        }
        self.out.extend_from_slice(word);
        self.out
    }
}
