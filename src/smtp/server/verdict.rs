//! Verdicts and replies: what follows from a caller's answer, and how the session speaks.
//!
//! [`Server::answer`] is the one place where a verdict changes the state. Everything the session says goes through
//! [`Server::refuse`] when its code may count or close, and through [`Server::say`] when it cannot.

use std::mem;
use std::sync::Arc;

use super::phrase::{DATA_TAKEN, MAIL_TAKEN, OK, RCPT_TAKEN, SHUTDOWN, TOO_MANY_ERRORS, UNTOLD};
use super::{Dialect, Pause, Repeat, Server, State, Transaction};
use crate::codec::body::Decoder;
use crate::codec::date::Rfc3339;
use crate::smtp::extension::Lookup;
use crate::smtp::{Reply, reply, xclient};

impl Server {
    pub(super) fn answer(&mut self, reply: Option<Reply<'_>>) {
        let pause = mem::replace(&mut self.pause, Pause::None);
        self.deadline = None;
        let class = if matches!(pause, Pause::Data | Pause::Chunk) { 3 } else { 2 };
        let accepted = reply.is_none_or(|r| r.class() == class);
        let reply = reply.map(|r| fitting(r, class));
        let spoken = |own: Reply<'static>| reply.unwrap_or(own);
        match pause {
            Pause::None => {}
            Pause::StartTls => self.pause = pause,
            Pause::Connect => {
                self.state = State::Command;
                let own = self.greeting();
                self.greet(Reply { enhanced: None, ..spoken(own) }, accepted);
            }
            Pause::Forwarded => {
                let login = self.forwarded.take().is_some_and(|f| f.login.is_some());
                self.hello.clear();
                self.greeted = false;
                self.extended = false;
                self.authenticated = login && accepted;
                let own = self.greeting();
                self.greet(Reply { enhanced: None, ..spoken(own) }, accepted);
            }
            Pause::Verify { smtputf8 } | Pause::Expand { smtputf8 } => {
                self.refuse_in(spoken(UNTOLD), smtputf8);
            }
            Pause::Etrn => self.refuse(spoken(Reply::new(250, 0, 0, "Queuing for node started"))),
            Pause::Hello => {
                self.greeted = accepted;
                if accepted {
                    self.say_hello();
                } else {
                    self.refuse(Reply { enhanced: None, ..spoken(OK) });
                }
            }
            Pause::Auth => {
                self.reply_to_auth(reply, accepted);
            }
            Pause::Mail => {
                if accepted {
                    self.transaction.open = true;
                    self.transactions = self.transactions.saturating_add(1);
                }
                self.say_or(reply, MAIL_TAKEN);
                if !accepted {
                    self.close_transaction();
                }
            }
            Pause::Rcpt => {
                if accepted {
                    self.transaction.recipients = self.transaction.recipients.saturating_add(1);
                    if self.config.limits.recipient_domains > 0 {
                        self.domains.extend(self.recipient.domain_key());
                    }
                } else {
                    self.transaction.refused = true;
                }
                self.say_or(reply, RCPT_TAKEN);
            }
            Pause::Data => {
                if accepted {
                    let lenient = self.config.extensions.bare_lf;
                    let decoder = if lenient { Decoder::lenient() } else { Decoder::new() };
                    self.state = State::Data(decoder);
                } else {
                    self.abandon();
                }
                self.say_or(reply, DATA_TAKEN);
            }
            Pause::Chunk => {
                if accepted {
                    self.transaction.chunked = true;
                } else {
                    let recipients = self.transaction.recipients;
                    self.abandon();
                    self.refuse_chunk(spoken(OK), recipients);
                }
            }
            Pause::DataEnd if self.config.dialect == Dialect::Lmtp => {
                let left = self.transaction.recipients.saturating_sub(self.transaction.answered);
                let reply = spoken(OK);
                self.transaction.note(reply);
                self.say_to_each(reply, left);
                self.recipients_answered();
            }
            Pause::DataEnd => {
                // The sender must learn what became of its message, whatever its budget.
                let reply = spoken(OK);
                self.say(reply);
                self.close_transaction();
                if reply.code == 421 {
                    self.leave();
                } else if reply.class() == 5 {
                    self.errors = self.errors.saturating_add(1);
                    if self.errors > self.config.limits.errors {
                        self.say_with_host(TOO_MANY_ERRORS);
                        self.leave();
                    }
                }
            }
        }
    }

    /// In LMTP, at a message's end: the reply for the next recipient.
    pub(super) fn answer_recipient(&mut self, reply: Reply<'_>) {
        let reply = fitting(reply, 2);
        self.transaction.note(reply);
        self.say_to_each(reply, 1);
        self.transaction.answered = self.transaction.answered.saturating_add(1);
        if self.transaction.answered >= self.transaction.recipients {
            self.pause = Pause::None;
            self.deadline = None;
            self.recipients_answered();
        }
    }

    /// In LMTP: every recipient of the message has its reply.
    fn recipients_answered(&mut self) {
        let (kept, last_word) = (self.transaction.kept, self.transaction.last_word);
        self.close_transaction();
        if !kept {
            self.errors = self.errors.saturating_add(1);
        }
        if last_word {
            self.leave();
        }
    }

    /// Says the same reply so often: once now, the rest as the output takes it.
    fn say_to_each(&mut self, reply: Reply<'_>, recipients: u32) {
        let start = self.pending.len();
        if reply.code == 421 {
            self.say_with_host(reply);
        } else {
            self.say(reply);
        }
        if recipients > 1 {
            let text = self.pending.get(start..).unwrap_or_default().to_vec();
            self.repeat = Some(Box::new(Repeat { text, left: recipients.saturating_sub(1) }));
        }
    }

    /// Refuses a whole message at its end. In LMTP each recipient has its reply, and the errors' budget is looked at
    /// with the next command only: a 421 would be one reply too many.
    pub(super) fn refuse_message(&mut self, reply: Reply<'_>, recipients: u32) {
        if self.config.dialect != Dialect::Lmtp || recipients == 0 {
            return self.refuse(reply);
        }
        self.errors = self.errors.saturating_add(u32::from(reply.class() == 5));
        self.say_to_each(reply, recipients);
    }

    /// The engine stops at a message's end.
    pub(super) fn stop_message(&mut self, recipients: u32) {
        if self.config.dialect == Dialect::Lmtp {
            self.say_to_each(SHUTDOWN, recipients);
        } else {
            self.say_with_host(SHUTDOWN);
        }
        self.leave();
    }

    fn greeting(&self) -> Reply<'static> {
        match self.config.dialect {
            Dialect::Lmtp => Reply::bare(220, "LMTP ready"),
            Dialect::Smtp | Dialect::Submission => Reply::bare(220, "ESMTP ready"),
        }
    }

    fn greet(&mut self, reply: Reply<'_>, accepted: bool) {
        if accepted {
            self.say_with_host(reply);
        } else {
            self.turned_away = true;
            self.refuse(reply);
            if reply.class() == 4 {
                self.leave();
            }
        }
    }

    pub(super) fn say(&mut self, reply: Reply<'_>) {
        let utf8 = self.transaction.parameters.smtputf8;
        reply::write(&mut self.pending, &reply, "", utf8);
    }

    /// Says the caller's reply, or the machine's own line.
    fn say_or(&mut self, reply: Option<Reply<'_>>, own: &'static [u8]) {
        match reply {
            Some(reply) => self.refuse(reply),
            None => self.pending.extend_from_slice(own),
        }
    }

    pub(super) fn say_with_host(&mut self, reply: Reply<'_>) {
        reply::write(&mut self.pending, &reply, &self.config.hostname, false);
    }

    /// Says any reply, and draws what follows from its code: an error counts, 421 ends the session.
    pub(super) fn refuse(&mut self, reply: Reply<'_>) {
        self.refuse_in(reply, self.transaction.parameters.smtputf8);
    }

    /// As [`Server::refuse`]; `utf8`: the text may hold more than ASCII.
    fn refuse_in(&mut self, reply: Reply<'_>, utf8: bool) {
        if reply.class() == 5 {
            self.errors = self.errors.saturating_add(1);
            if self.errors > self.config.limits.errors {
                self.say_with_host(TOO_MANY_ERRORS);
                self.leave();
                return;
            }
        }
        if reply.code == 421 {
            self.say_with_host(reply);
            self.leave();
        } else {
            reply::write(&mut self.pending, &reply, "", utf8);
        }
    }

    /// The chunk that begins now is refused: it is eaten first, then the reply is sent. `recipients` are those of the
    /// transaction that ends by it: in LMTP, BDAT LAST owes each of them a reply.
    pub(super) fn refuse_chunk(&mut self, reply: Reply<'_>, recipients: u32) {
        let (left, last) =
            if let State::Chunk { left, last } = self.state { (left, last) } else { (0, true) };
        self.hold = true;
        self.state = State::Refused { left };
        if last {
            self.refuse_message(reply, recipients);
        } else {
            self.refuse(reply);
            if self.config.dialect == Dialect::Lmtp {
                self.lost_recipients = recipients;
            }
        }
        if left > self.config.limits.swallowed_bytes() {
            self.leave();
        }
    }

    fn say_hello(&mut self) {
        let config = Arc::clone(&self.config);
        let line = |pending: &mut Vec<u8>, mark: &[u8], text: &[u8]| {
            pending.extend_from_slice(b"250");
            pending.extend_from_slice(mark);
            pending.extend_from_slice(text);
            pending.extend_from_slice(b"\r\n");
        };
        let xclient = self.offers_xclient();
        let out = &mut self.pending;
        if !self.extended {
            line(out, b" ", config.hostname.as_bytes());
            return;
        }
        line(out, b"-", config.hostname.as_bytes());
        line(out, b"-", b"PIPELINING");
        line(out, b"-", format!("SIZE {}", config.limits.message_bytes).as_bytes());
        if config.extensions.eight_bit {
            line(out, b"-", b"8BITMIME");
        }
        let on = &config.extensions;
        if on.smtputf8 {
            line(out, b"-", b"SMTPUTF8");
        }
        if on.chunking {
            line(out, b"-", b"CHUNKING");
        }
        for (offered, name) in [
            (on.binarymime && on.chunking, "BINARYMIME"),
            (on.dsn, "DSN"),
            (on.requiretls && self.offer.tls, "REQUIRETLS"),
            (on.mt_priority, "MT-PRIORITY"),
            (on.etrn, "ETRN"),
            (on.vrfy == Lookup::Asked, "VRFY"),
            (on.expn == Lookup::Asked, "EXPN"),
        ] {
            if offered {
                line(out, b"-", name.as_bytes());
            }
        }
        match on.deliver_by {
            None => {}
            Some(0) => line(out, b"-", b"DELIVERBY"),
            Some(least) => line(out, b"-", format!("DELIVERBY {least}").as_bytes()),
        }
        if let (Some(most), Dialect::Submission) = (on.future_release, config.dialect) {
            let latest = Rfc3339 { unix_seconds: most.max_datetime };
            let text = format!("FUTURERELEASE {} {latest}", most.max_interval);
            line(out, b"-", text.as_bytes());
        }
        if on.limits {
            let limits = &config.limits;
            let mut text =
                format!("LIMITS MAILMAX={} RCPTMAX={}", limits.transactions, limits.recipients);
            if limits.recipient_domains > 0 {
                text.push_str(&format!(" RCPTDOMAINMAX={}", limits.recipient_domains));
            }
            line(out, b"-", text.as_bytes());
        }
        if xclient {
            line(
                out,
                b"-",
                format!("XCLIENT {}", xclient::announced(config.extensions.xclient_login))
                    .as_bytes(),
            );
        }
        if self.offer.starttls && !self.offer.tls {
            line(out, b"-", b"STARTTLS");
        }
        if self.offer.auth && !self.choice.mechanisms().is_empty() {
            line(out, b"-", format!("AUTH {}", self.choice.mechanisms().names()).as_bytes());
        }
        line(out, b" ", b"ENHANCEDSTATUSCODES");
    }

    pub(super) fn offers_xclient(&self) -> bool {
        self.trusted && self.config.extensions.xclient
    }

    /// HELP: the commands that there are.
    pub(super) fn say_help(&mut self) {
        let on = &self.config.extensions;
        let lmtp = self.config.dialect == Dialect::Lmtp;
        let mut text = String::from(if lmtp { "LHLO" } else { "EHLO HELO" });
        text.push_str(" MAIL RCPT DATA");
        for (offered, name) in [
            (on.chunking, " BDAT"),
            (true, " RSET NOOP"),
            (on.vrfy != Lookup::Withheld, " VRFY"),
            (on.expn != Lookup::Withheld, " EXPN"),
            (true, " HELP QUIT"),
            (self.offer.starttls && !self.offer.tls, " STARTTLS"),
            (self.offer.auth, " AUTH"),
            (on.etrn, " ETRN"),
            (self.offers_xclient(), " XCLIENT"),
        ] {
            if offered {
                text.push_str(name);
            }
        }
        self.say(Reply::new(214, 0, 0, &text));
    }
}

impl Transaction {
    /// Notes what a recipient's verdict means for the session.
    fn note(&mut self, reply: Reply<'_>) {
        self.kept |= reply.class() != 5;
        self.last_word |= reply.code == 421;
    }
}

/// The reply, or what stands for it when it cannot stand in this place: that must not go out as a success.
fn fitting(reply: Reply<'_>, class: u16) -> Reply<'_> {
    match reply.class() {
        4 | 5 => reply,
        c if c == class => reply,
        _ => Reply { code: 451, enhanced: Some((4, 3, 0)), text: reply.text },
    }
}
