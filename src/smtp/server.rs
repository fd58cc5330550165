//! The SMTP server machine.

use std::sync::Arc;

use crate::codec::address::Address;
use crate::sasl;
use crate::session::{Session, Step};
use crate::smtp::Reply;
use crate::time::Time;

/// Which rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Mail from other servers (RFC 5321).
    Smtp,
    /// Mail from users' programs: AUTH is needed before MAIL (RFC 6409).
    Submission,
}

/// What is the same for all connections of a listener.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Our name in greeting and EHLO reply.
    pub hostname: String,
    /// Which rules apply.
    pub dialect: Dialect,
    /// Every bound, by name.
    pub limits: Limits,
    /// Offer CHUNKING (RFC 3030).
    pub chunking: bool,
}

/// Every bound of a server session, by name.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest command line in octets, CR LF included, extensions' allowances included. Over: 500 5.5.2.
    pub command_line: usize,
    /// Longest line of an AUTH exchange (RFC 4954 4: 12288). Over: 500 5.5.6.
    pub auth_line: usize,
    /// Most octets of a message; announced in SIZE. Over: 552 5.3.4.
    pub message_bytes: u64,
    /// Most recipients of a transaction. Over: 452 4.5.3.
    pub recipients: u32,
    /// Most replies of class 5 or protocol errors before 421.
    pub errors: u32,
    /// Most transactions of a connection before 421.
    pub transactions: u32,
    /// Output above which `step` answers `Blocked`.
    pub output_bytes: usize,
    /// Milliseconds that the peer may take for its next command (RFC 5321 4.5.3.2.7: 5 minutes).
    pub command_millis: u64,
    /// Milliseconds that the peer may take for the next block of data (RFC 5321 4.5.3.2.5: 3 minutes).
    pub data_millis: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            command_line: 4096,
            auth_line: 12288,
            message_bytes: 50 << 20,
            recipients: 1000,
            errors: 20,
            transactions: 10_000,
            output_bytes: 16 << 10,
            command_millis: 300_000,
            data_millis: 180_000,
        }
    }
}

/// What is known of this connection when it begins, and again after TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// TLS is on.
    pub tls: bool,
    /// STARTTLS may be offered (never together with `tls`).
    pub starttls: bool,
    /// AUTH may be offered.
    pub auth: bool,
}

/// What a server session tells its caller. Those marked *pauses* need a verdict before the next step:
/// [`Server::accept`] for the machine's own positive reply, or [`Server::reply`].
#[derive(Debug)]
pub enum Event<'a> {
    /// The connection begins; nothing was sent yet. *Pauses*; a reply of 421 or 554 turns the peer away.
    Connect,
    /// HELO or EHLO. *Pauses*.
    Hello {
        /// What the peer calls itself.
        name: &'a [u8],
        /// EHLO.
        extended: bool,
    },
    /// The 220 stands in the output: write it out, make the TLS handshake, then call
    /// [`Server::tls_started`]. *Pauses*.
    StartTls,
    /// A mechanism asks. *Pauses* for [`Server::auth`].
    Auth(sasl::Question<'a>),
    /// MAIL. *Pauses*.
    Mail {
        /// The reverse-path; `None` is the null path `<>`.
        from: Option<&'a Address>,
        /// Its parameters.
        parameters: &'a MailParameters,
    },
    /// RCPT. *Pauses*.
    Rcpt {
        /// The forward-path.
        to: &'a Address,
    },
    /// DATA, or the first BDAT: the body is about to begin. *Pauses*; `accept` begins it.
    DataStart,
    /// A piece of the message: dots removed, CR LF kept. Borrowed from the input.
    DataChunk(&'a [u8]),
    /// The message is whole. *Pauses*: `accept`, or a reply, after it is safe.
    DataEnd {
        /// Its octets.
        size: u64,
    },
    /// The transaction is over without a message (RSET, EHLO, QUIT, an error, the end of the connection):
    /// forget what MAIL, RCPT and DataChunk brought. Does not pause.
    Reset,
    /// QUIT; the reply stands in the output. Does not pause.
    Quit,
}

/// MAIL's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// SIZE (RFC 1870), 0 when not given.
    pub size: u64,
    /// BODY=8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
}

/// A server session: one SMTP connection's protocol.
pub struct Server {
    _config: Arc<ServerConfig>,
}

impl Server {
    /// A session for a new connection.
    pub fn new(config: Arc<ServerConfig>, offer: Offer, now: Time) -> Server {
        let _ = (offer, now);
        Server { _config: config }
    }

    /// The machine's own positive answer to the event that pauses. Without such an event: no effect.
    pub fn accept(&mut self) {
        todo!()
    }

    /// A reply to the event that pauses. A code of class 2 (3 for `DataStart`) accepts; every other refuses.
    pub fn reply(&mut self, reply: Reply<'_>) {
        let _ = reply;
        todo!()
    }

    /// The answer to [`Event::Auth`].
    pub fn auth(&mut self, verdict: sasl::Verdict) {
        let _ = verdict;
        todo!()
    }

    /// TLS is on: everything known before is forgotten (RFC 3207 4.2). `unread` is plaintext that came after
    /// STARTTLS in the clear and was not consumed: when it is not empty the session refuses to go on.
    pub fn tls_started(&mut self, offer: Offer, unread: &[u8]) {
        let _ = (offer, unread);
        todo!()
    }

    /// The engine stops: 421 at the next place where a reply may stand, then `Closed`. A message whose
    /// end was already reported still gets its verdict first.
    pub fn shutdown(&mut self) {
        todo!()
    }

    /// Whether the peer is authenticated.
    pub fn authenticated(&self) -> bool {
        todo!()
    }

    /// What the peer called itself in its last HELO or EHLO; empty before.
    pub fn hello_name(&self) -> &[u8] {
        todo!()
    }

    /// The keyword for `with` in a Received line: SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, UTF8SMTP...
    /// (RFC 3848, RFC 6531 4.3).
    pub fn with_keyword(&self) -> &'static str {
        todo!()
    }
}

impl Session for Server {
    type Event<'a> = Event<'a>;

    fn step<'a>(&'a mut self, now: Time, input: &'a [u8], out: &mut Vec<u8>) -> Step<Event<'a>> {
        let _ = (now, input, out);
        todo!()
    }

    fn eof(&mut self, now: Time) {
        let _ = now;
        todo!()
    }

    fn deadline(&self) -> Option<Time> {
        todo!()
    }
}
