//! Command lines.
//!
//! A handler answers `Err` with the reply that refuses the command, `Ok(None)` when it has said what there is to say,
//! or the signal that goes to the caller. `Ok(Some(Signal::Reset))` means that the transaction ended first and the
//! same line comes again.

use super::phrase::{
    HELLO_FIRST, NEEDS_SMTPUTF8, NO_ARGUMENT, NO_MAIL, NO_RECIPIENT, NO_VALID_RECIPIENT, OK,
    OUT_OF_PLACE, TOO_LARGE,
};
use super::{Dialect, Pause, Server, Signal, State, Transaction};
use crate::codec::address::Address;
use crate::codec::line::{Fault, Frame};
use crate::smtp::Reply;
use crate::smtp::command::{self, Verb};
use crate::time::Time;

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
        match self.framer.next(input, limit) {
            Frame::Line { length } => {
                self.deadline = None;
                let line = input.get(..length).unwrap_or_default();
                let signal = if response { self.response(line) } else { self.command(line) };
                match signal {
                    // The transaction ends first; the command comes again.
                    Some(Signal::Reset) => (0, Some(Signal::Reset)),
                    signal => (length + 2, signal),
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
        if line.iter().any(|b| *b < b' ' || *b == 0x7f) {
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
            Verb::Ehlo | Verb::Helo => return self.hello(argument, verb == Verb::Ehlo),
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
                if self.transaction.open {
                    self.transaction = Transaction::default();
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
            Verb::Vrfy if argument.is_empty() => {
                return Err(Reply::new(501, 5, 4, "Syntax: VRFY address"));
            }
            Verb::Vrfy => {
                self.say(Reply::new(252, 0, 0, "Not told here; send mail to find out"));
            }
            Verb::Help => self.say(Reply::new(
                214,
                0,
                0,
                "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH",
            )),
            Verb::Withheld => return Err(Reply::new(502, 5, 1, "Command not available here")),
            Verb::Unknown => return Err(Reply::new(500, 5, 1, "Command not recognized")),
        }
        Ok(None)
    }

    fn hello(&mut self, argument: &[u8], extended: bool) -> Result<Option<Signal>, Reply<'static>> {
        let name = command::hello(argument)?;
        if self.transaction.open {
            self.transaction = Transaction::default();
            return Ok(Some(Signal::Reset));
        }
        self.hello.clear();
        self.hello.extend_from_slice(name);
        self.extended = extended;
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
            return Err(HELLO_FIRST);
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
            return Err(HELLO_FIRST);
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
        let mail = command::mail(argument)?;
        let utf8 = mail.parameters.smtputf8;
        let null_sender = mail.mailbox.is_empty();
        if !null_sender && !self.sender.set(mail.mailbox, utf8) {
            return Err(refusal(mail.mailbox, utf8, command::BAD_SENDER));
        }
        if !null_sender && self.sender.domain().is_none() {
            return Err(command::BAD_SENDER);
        }
        if mail.parameters.size > self.config.limits.message_bytes {
            return Err(TOO_LARGE);
        }
        self.transaction =
            Transaction { null_sender, parameters: mail.parameters, ..Transaction::default() };
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
        let mailbox = command::rcpt(argument)?;
        let utf8 = self.transaction.parameters.smtputf8;
        if !self.recipient.set(mailbox, utf8) {
            self.transaction.refused = true;
            return Err(refusal(mailbox, utf8, command::BAD_RECIPIENT));
        }
        if self.transaction.recipients >= self.config.limits.recipients {
            return Err(Reply::new(452, 5, 3, "Too many recipients"));
        }
        self.pause = Pause::Rcpt;
        Ok(Some(Signal::Rcpt))
    }

    /// Whether a body may come.
    pub(super) fn body_may_come(&self) -> Result<(), Reply<'static>> {
        match &self.transaction {
            t if !t.open => Err(NO_MAIL),
            t if t.recipients > 0 => Ok(()),
            t if t.refused => Err(NO_VALID_RECIPIENT),
            _ => Err(NO_RECIPIENT),
        }
    }
}

/// Why an address is refused: because it needs SMTPUTF8, or because it is none.
fn refusal(mailbox: &[u8], utf8: bool, syntax: Reply<'static>) -> Reply<'static> {
    if !utf8 && Address::parse(mailbox, true).is_some() { NEEDS_SMTPUTF8 } else { syntax }
}
