//! Command lines.
//!
//! A handler answers `Err` with the reply that refuses the command, `Ok(None)` when it has said what there is to say,
//! or the signal that goes to the caller. `Ok(Some(Signal::Reset))` means that the transaction ended first and the
//! same line comes again.

use super::phrase::{
    HELLO_FIRST, NEEDS_SMTPUTF8, NO_ARGUMENT, NO_MAIL, NO_RECIPIENT, NO_VALID_RECIPIENT, OK,
    OUT_OF_PLACE, TOO_LARGE, UNKNOWN_COMMAND, UNTOLD, WITHHELD,
};
use super::{Dialect, Forwarded, Pause, Server, Signal, State};
use crate::codec::address::Address;
use crate::codec::body::Exact;
use crate::codec::line::{Fault, Frame};
use crate::codec::path::Path;
use crate::smtp::Reply;
use crate::smtp::command::{self, Verb};
use crate::smtp::extension::Lookup;
use crate::smtp::parameter::grammar::{self, Offered};
use crate::smtp::parameter::{Body, RcptParameters};
use crate::time::Time;

/// Octets of VRFY, EXPN and ETRN.
const VERB_OCTETS: usize = 4;

impl Server {
    pub(super) fn line(&mut self, now: Time, input: &[u8]) -> (usize, Option<Signal>) {
        if self.shutting {
            self.stop();
            return (0, None);
        }
        let limits = &self.config.limits;
        let response = matches!(self.state, State::Response);
        let auth = self.offer.auth
            && input.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        let limit = if response || auth { limits.longest_line() } else { limits.command_line };
        let frame = if self.config.extensions.bare_lf {
            self.framer.next_lenient(input, limit)
        } else {
            self.framer.next(input, limit)
        };
        match frame {
            Frame::Line { length, end } => {
                self.deadline = None;
                let line = input.get(..length).unwrap_or_default();
                let signal = if response { self.response(line) } else { self.command(line) };
                match signal {
                    // The transaction ends first; the command comes again.
                    Some(Signal::Reset) => (0, Some(Signal::Reset)),
                    signal => {
                        self.lines = self.lines.saturating_add(1);
                        (length + end, signal)
                    }
                }
            }
            Frame::Skipped { skip } => {
                self.deadline = None;
                (skip, None)
            }
            Frame::Incomplete { skip } => (skip, self.wait(now)),
            Frame::Refused(fault) => {
                if response {
                    self.exchange = None;
                    self.state = State::Command;
                }
                self.refuse(match fault {
                    Fault::TooLong if response || auth => {
                        Reply::new(500, 5, 6, "Authentication exchange line is too long")
                    }
                    Fault::TooLong => Reply::new(500, 5, 2, "Line too long"),
                    Fault::BareCr => Reply::new(500, 5, 2, "Bare CR; lines end with CR LF"),
                    Fault::BareLf => Reply::new(500, 5, 2, "Bare LF; lines end with CR LF"),
                });
                (0, None)
            }
        }
    }

    fn command(&mut self, line: &[u8]) -> Option<Signal> {
        if has_control(line) {
            self.refuse(Reply::new(500, 5, 2, "Control character in a command line"));
            return None;
        }
        let (verb, argument) = command::split(line);
        if self.turned_away && !matches!(verb, Verb::Quit | Verb::Bdat) {
            self.refuse(Reply::new(503, 5, 1, "No service here; only QUIT is answered"));
            return None;
        }
        match self.dispatch(verb, argument) {
            Ok(signal) => signal,
            Err(reply) => {
                self.refuse(reply);
                None
            }
        }
    }

    fn dispatch(&mut self, verb: Verb, argument: &[u8]) -> Result<Option<Signal>, Reply<'static>> {
        let bare = || if argument.is_empty() { Ok(()) } else { Err(NO_ARGUMENT) };
        match verb {
            Verb::Ehlo | Verb::Helo | Verb::Lhlo => return self.hello(verb, argument),
            Verb::Mail => return self.mail(argument),
            Verb::Rcpt => return self.rcpt(argument),
            Verb::Data => {
                bare()?;
                return self.data();
            }
            Verb::Bdat => return Ok(self.bdat(argument)),
            Verb::StartTls => {
                bare()?;
                return self.start_tls();
            }
            Verb::Auth => return self.authenticate(argument),
            Verb::Rset | Verb::Quit => {
                bare()?;
                self.lost_recipients = 0;
                if self.transaction.open {
                    self.close_transaction();
                    return Ok(Some(Signal::Reset));
                }
                if verb == Verb::Quit {
                    self.say_with_host(Reply::new(221, 0, 0, "closing the connection"));
                    self.leave();
                    return Ok(Some(Signal::Quit));
                }
                self.say(OK);
            }
            Verb::Noop => self.say(OK),
            Verb::Vrfy | Verb::Expn => return self.lookup(verb, argument),
            Verb::Help if self.config.extensions.help => self.say_help(),
            Verb::Etrn => return self.etrn(argument),
            Verb::Xclient => return self.forwarded(argument),
            Verb::Help | Verb::Withheld => return Err(WITHHELD),
            Verb::Unknown => return Err(UNKNOWN_COMMAND),
        }
        Ok(None)
    }

    fn hello(&mut self, verb: Verb, argument: &[u8]) -> Result<Option<Signal>, Reply<'static>> {
        if (verb == Verb::Lhlo) != (self.config.dialect == Dialect::Lmtp) {
            return Err(UNKNOWN_COMMAND);
        }
        let name = command::hello(argument)?;
        self.lost_recipients = 0;
        if self.transaction.open {
            self.close_transaction();
            return Ok(Some(Signal::Reset));
        }
        self.hello.clear();
        self.hello.extend_from_slice(name);
        self.extended = verb != Verb::Helo;
        self.pause = Pause::Hello;
        Ok(Some(Signal::Hello))
    }

    fn start_tls(&mut self) -> Result<Option<Signal>, Reply<'static>> {
        if self.offer.tls {
            return Err(Reply::new(503, 5, 1, "TLS is on already"));
        }
        if !self.offer.starttls {
            return Err(Reply::new(502, 5, 1, "STARTTLS is not offered"));
        }
        if !self.greeted {
            return Err(self.hello_first());
        }
        if self.transaction.open {
            return Err(OUT_OF_PLACE);
        }
        self.say(Reply::new(220, 0, 0, "Ready to start TLS"));
        self.pause = Pause::StartTls;
        Ok(Some(Signal::StartTls))
    }

    fn mail(&mut self, argument: &[u8]) -> Result<Option<Signal>, Reply<'static>> {
        if !self.greeted {
            return Err(self.hello_first());
        }
        if self.transaction.open {
            return Err(OUT_OF_PLACE);
        }
        if self.config.dialect == Dialect::Submission && !self.authenticated {
            return Err(Reply::new(530, 7, 0, "Authentication required"));
        }
        if self.transactions >= self.config.limits.transactions {
            return Err(Reply::new(421, 7, 0, "Too many messages on one connection"));
        }
        let path = command::mail(argument)?;
        self.transaction.clear(&mut self.memory);
        let begun = self.reverse_path(path);
        if begun.is_err() {
            // Nothing of it stays: SMTPUTF8 would change how its refusal is written.
            self.transaction.clear(&mut self.memory);
        }
        begun
    }

    /// Reads MAIL's path and parameters into the transaction, which is cleared.
    fn reverse_path(&mut self, path: Path<'_>) -> Result<Option<Signal>, Reply<'static>> {
        let offered = Offered {
            extensions: &self.config.extensions,
            tls: self.offer.tls,
            hold: self.config.dialect == Dialect::Submission,
        };
        let parameters = &mut self.transaction.parameters;
        grammar::mail(path.rest, offered, parameters, &mut self.memory)?;
        let utf8 = parameters.smtputf8;
        let null_sender = path.mailbox.is_empty();
        if !null_sender && !self.sender.set(path.mailbox, utf8) {
            return Err(refusal(path.mailbox, utf8, command::BAD_SENDER));
        }
        if !null_sender && self.sender.domain().is_none() {
            return Err(command::BAD_SENDER);
        }
        if parameters.size > self.config.limits.message_bytes {
            return Err(TOO_LARGE);
        }
        self.lost_recipients = 0;
        self.transaction.null_sender = null_sender;
        if parameters.body == Body::Binary {
            self.transaction.exact = Exact::binary();
        }
        self.pause = Pause::Mail;
        Ok(Some(Signal::Mail))
    }

    fn rcpt(&mut self, argument: &[u8]) -> Result<Option<Signal>, Reply<'static>> {
        if !self.transaction.open {
            return Err(NO_MAIL);
        }
        if self.transaction.chunked {
            return Err(OUT_OF_PLACE);
        }
        let path = command::rcpt(argument)?;
        let utf8 = self.transaction.parameters.smtputf8;
        if !path.rest.is_empty() || self.rcpt_parameters != RcptParameters::default() {
            self.rcpt_parameters.clear(&mut self.memory);
            let offered = Offered {
                extensions: &self.config.extensions,
                tls: self.offer.tls,
                hold: self.config.dialect == Dialect::Submission,
            };
            let (found, memory) = (&mut self.rcpt_parameters, &mut self.memory);
            grammar::rcpt(path.rest, offered, utf8, found, memory)?;
        }
        if !self.recipient.set(path.mailbox, utf8) {
            self.transaction.refused = true;
            return Err(refusal(path.mailbox, utf8, command::BAD_RECIPIENT));
        }
        if self.transaction.recipients >= self.config.limits.recipients {
            return Err(Reply::new(452, 5, 3, "Too many recipients"));
        }
        if self.is_one_domain_too_many() {
            return Err(Reply::new(452, 5, 3, "Recipients of too many domains"));
        }
        self.pause = Pause::Rcpt;
        Ok(Some(Signal::Rcpt))
    }

    pub(super) fn hello_first(&self) -> Reply<'static> {
        match self.config.dialect {
            Dialect::Lmtp => Reply::new(503, 5, 1, "LHLO comes first"),
            Dialect::Smtp | Dialect::Submission => HELLO_FIRST,
        }
    }

    /// Whether the recipient's domain is a new one, and one more than may be.
    fn is_one_domain_too_many(&self) -> bool {
        let limit = self.config.limits.recipient_domains;
        if limit == 0 || u32::try_from(self.domains.len()).is_ok_and(|n| n < limit) {
            return false;
        }
        self.recipient.domain_key().is_some_and(|domain| !self.domains.contains(&domain))
    }

    fn lookup(&mut self, verb: Verb, argument: &[u8]) -> Result<Option<Signal>, Reply<'static>> {
        let extensions = &self.config.extensions;
        let (policy, syntax) = match verb {
            Verb::Vrfy => (extensions.vrfy, "Syntax: VRFY address"),
            _ => (extensions.expn, "Syntax: EXPN list"),
        };
        if policy == Lookup::Withheld {
            return Err(WITHHELD);
        }
        let (text, smtputf8) = command::lookup(argument, extensions.smtputf8 && self.extended);
        if text.is_empty() {
            return Err(Reply::new(501, 5, 4, syntax));
        }
        if policy == Lookup::Untold {
            self.say(UNTOLD);
            return Ok(None);
        }
        let plain = text.is_ascii() || (smtputf8 && std::str::from_utf8(text).is_ok());
        if !plain {
            return Err(Reply::new(501, 5, 2, "Text beyond ASCII needs SMTPUTF8"));
        }
        // The argument stands behind the verb and one space.
        let (skip, length) = (VERB_OCTETS + 1, text.len());
        if verb == Verb::Vrfy {
            self.pause = Pause::Verify { smtputf8 };
            Ok(Some(Signal::Verify { skip, length, smtputf8 }))
        } else {
            self.pause = Pause::Expand { smtputf8 };
            Ok(Some(Signal::Expand { skip, length, smtputf8 }))
        }
    }

    fn etrn(&mut self, argument: &[u8]) -> Result<Option<Signal>, Reply<'static>> {
        if !self.config.extensions.etrn {
            return Err(WITHHELD);
        }
        if !self.greeted {
            return Err(self.hello_first());
        }
        if self.transaction.open {
            return Err(OUT_OF_PLACE);
        }
        let node = command::etrn(argument)?;
        self.pause = Pause::Etrn;
        Ok(Some(Signal::Etrn { skip: VERB_OCTETS + 1, length: node.len() }))
    }

    fn forwarded(&mut self, argument: &[u8]) -> Result<Option<Signal>, Reply<'static>> {
        if !self.offers_xclient() {
            return Err(WITHHELD);
        }
        if self.transaction.open {
            return Err(OUT_OF_PLACE);
        }
        let forwarded = Forwarded::parse(argument).ok_or(Reply::new(
            501,
            5,
            4,
            "Syntax: XCLIENT attribute=value ...",
        ))?;
        if forwarded.login.is_some() && !self.config.extensions.xclient_login {
            return Err(Reply::new(550, 7, 0, "LOGIN is not taken here, use AUTH"));
        }
        self.forwarded = Some(Box::new(forwarded));
        self.pause = Pause::Forwarded;
        Ok(Some(Signal::Forwarded))
    }

    /// Whether a body may come.
    pub(super) fn body_may_come(&self) -> Result<(), Reply<'static>> {
        match &self.transaction {
            t if !t.open => Err(NO_MAIL),
            t if t.recipients > 0 => Ok(()),
            // RFC 2033 4.2 wants 503 here.
            t if t.refused && self.config.dialect == Dialect::Lmtp => {
                Err(Reply::new(503, 5, 1, "No valid recipients"))
            }
            t if t.refused => Err(NO_VALID_RECIPIENT),
            _ => Err(NO_RECIPIENT),
        }
    }
}

/// Whether a line holds a control character: an octet below a space, or DEL. Eight octets at once.
fn has_control(line: &[u8]) -> bool {
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // A borrow crosses octets only where one was a control character already, so "any" is exact.
    let odd = |octets: &[u8; 8]| {
        let word = u64::from_ne_bytes(*octets);
        let control = word.wrapping_sub(u64::from_ne_bytes([b' '; 8])) & !word;
        let delete = word ^ u64::from_ne_bytes([0x7f; 8]);
        let delete = delete.wrapping_sub(u64::from_ne_bytes([1; 8])) & !delete;
        (control | delete) & HIGH != 0
    };
    let (words, _) = line.as_chunks::<8>();
    match line.last_chunk::<8>() {
        // What is left behind the whole words is in the last one, with some of what was seen.
        Some(last) => words.iter().fold(odd(last), |found, word| found | odd(word)),
        None => line.iter().any(|&b| b < b' ' || b == 0x7f),
    }
}

/// Why an address is refused: because it needs SMTPUTF8, or because it is none.
fn refusal(mailbox: &[u8], utf8: bool, syntax: Reply<'static>) -> Reply<'static> {
    if !utf8 && Address::parse(mailbox, true).is_some() { NEEDS_SMTPUTF8 } else { syntax }
}

#[cfg(test)]
mod tests {
    use super::has_control;

    #[test]
    fn control_characters_are_seen_at_every_place_and_nothing_else_is_one() {
        for length in 0..40 {
            for at in 0..length {
                for around in [b' ', b'~', 0x80, 0xff] {
                    for octet in 0..=u8::MAX {
                        let mut line = vec![around; length];
                        line[at] = octet;
                        let control = octet < b' ' || octet == 0x7f;
                        assert_eq!(has_control(&line), control, "{octet} at {at} of {length}");
                    }
                }
            }
            assert!(!has_control(&vec![b'a'; length]));
        }
    }
}
