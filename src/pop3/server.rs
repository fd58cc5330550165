//! The POP3 server machine (RFC 1939, RFC 2449, RFC 5034, RFC 2595).

use std::sync::Arc;

use crate::sasl;
use crate::session::{Session, Step};
use crate::time::Time;

/// What is the same for all connections of a listener.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Our name in the greeting.
    pub hostname: String,
    /// Every bound, by name.
    pub limits: Limits,
}

/// Every bound of a POP3 session, by name.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest command line in octets, CR LF included (RFC 2449 4: 255).
    pub command_line: usize,
    /// Longest line of an AUTH exchange.
    pub auth_line: usize,
    /// Most failed commands before the connection is closed.
    pub errors: u32,
    /// Output above which `step` answers `Blocked`.
    pub output_bytes: usize,
    /// Milliseconds without a command before the session ends without deleting (RFC 1939 3: at least 10 minutes).
    pub idle_millis: u64,
    /// The same before authentication.
    pub login_millis: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            command_line: 512,
            auth_line: 12288,
            errors: 20,
            output_bytes: 64 << 10,
            idle_millis: 600_000,
            login_millis: 60_000,
        }
    }
}

/// What is known of this connection when it begins, and again after TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// TLS is on.
    pub tls: bool,
    /// STLS may be offered.
    pub stls: bool,
    /// Logging in is allowed.
    pub login: bool,
}

/// One message of a maildrop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Octets as RETR sends them, without dot-stuffing and without the final `.` line (RFC 1939 11).
    pub octets: u64,
    /// Its UID; with the maildrop's validity it makes the UIDL.
    pub uid: u32,
}

/// A maildrop as it stands when the session enters the TRANSACTION state. Frozen for the session.
#[derive(Clone, Debug, Default)]
pub struct Maildrop {
    /// UIDVALIDITY of the mailbox; part of every UIDL.
    pub validity: u32,
    /// The messages; message number n is at n - 1.
    pub entries: Vec<Entry>,
}

/// Why a login did not open the maildrop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Wrong login name or password: `-ERR [AUTH]` (RFC 3206).
    Credentials,
    /// Another session holds the maildrop: `-ERR [IN-USE]` (RFC 2449 8.1.2).
    InUse,
    /// Something of ours does not work now: `-ERR [SYS/TEMP]` (RFC 3206).
    Temporary,
}

/// What a POP3 session tells its caller.
#[derive(Debug)]
pub enum Event<'a> {
    /// The connection begins. *Pauses* for [`Server::accept`] or [`Server::refuse`].
    Connect,
    /// The answer to STLS stands in the output: write it out, make the handshake, then call
    /// [`Server::tls_started`]. *Pauses*.
    StartTls,
    /// Who is it? *Pauses* for [`Server::opened`] or [`Server::denied`]: the answer includes the maildrop,
    /// locked for this session.
    Auth(sasl::Question<'a>),
    /// Bytes of a message are needed. *Pauses* for [`Server::body`], [`Server::body_end`] or
    /// [`Server::body_failed`].
    NeedBody {
        /// Position in [`Maildrop::entries`].
        index: usize,
        /// Where to begin.
        offset: u64,
        /// Give at most this many bytes at once.
        max: usize,
    },
    /// QUIT in the TRANSACTION state: remove these messages (positions in [`Maildrop::entries`], sorted, perhaps none)
    /// and release the lock. *Pauses* for [`Server::updated`].
    Update {
        /// What to remove.
        deleted: &'a [usize],
    },
}

/// A server session: one POP3 connection's protocol.
pub struct Server {
    _config: Arc<ServerConfig>,
}

impl Server {
    /// A session for a new connection.
    pub fn new(config: Arc<ServerConfig>, offer: Offer, now: Time) -> Server {
        let _ = (offer, now);
        Server { _config: config }
    }
    /// Greets.
    pub fn accept(&mut self) {
        todo!()
    }
    /// Turns the peer away with `-ERR` and this text.
    pub fn refuse(&mut self, text: &str) {
        let _ = text;
        todo!()
    }
    /// TLS is on; see the SMTP session's method of the same name.
    pub fn tls_started(&mut self, offer: Offer, unread: &[u8]) {
        let _ = (offer, unread);
        todo!()
    }
    /// The login is right and the maildrop is locked for this session.
    pub fn opened(&mut self, maildrop: Maildrop) {
        let _ = maildrop;
        todo!()
    }
    /// The login does not open a maildrop.
    pub fn denied(&mut self, denial: Denial) {
        let _ = denial;
        todo!()
    }
    /// Some bytes of the message: appended to `out` with dots stuffed.
    pub fn body(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let _ = (bytes, out);
        todo!()
    }
    /// The message has no more bytes.
    pub fn body_end(&mut self, out: &mut Vec<u8>) {
        let _ = out;
        todo!()
    }
    /// The bytes cannot be read. Before the first byte: `-ERR [SYS/PERM]`; later the connection is closed
    /// without the final dot, so that the client cannot take a part for the whole.
    pub fn body_failed(&mut self, out: &mut Vec<u8>) {
        let _ = out;
        todo!()
    }
    /// The answer to [`Event::Update`]: whether all was removed.
    pub fn updated(&mut self, all_removed: bool) {
        let _ = all_removed;
        todo!()
    }
    /// The engine stops: `-ERR [SYS/TEMP]` and `Closed` at the next place where a reply may stand. Deletes nothing.
    pub fn shutdown(&mut self) {
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
