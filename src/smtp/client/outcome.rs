//! What came of it: an [`Outcome`] for each recipient, a [`Failure`] of a connection.

use crate::smtp::answer::Answer;

/// What is to be done about a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The peer has the message for this recipient and answers for it.
    Delivered,
    /// Not delivered; try again later.
    Temporary,
    /// Not delivered, and never will be: report it to the sender.
    Permanent,
    /// The end of the message was sent and no answer to it came: the peer may have it. Try again later with the same
    /// Message-ID (RFC 1047, RFC 5321 4.5.4.1).
    Unknown,
    /// Not tried, because the peer takes no more recipients in this transaction (RFC 9422): begin another at once.
    NotTried,
}

/// Who said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The peer, in a reply.
    Peer,
    /// This side: what the peer offers does not suffice, a time-out, the connection was lost, the peer broke the protocol.
    Client,
}

/// Where the conversation stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the greeting.
    Greeting,
    /// EHLO, HELO or LHLO.
    Hello,
    /// STARTTLS and the handshake.
    StartTls,
    /// AUTH.
    Auth,
    /// Between transactions.
    Idle,
    /// Before anything of the transaction was sent.
    Begin,
    /// RSET and MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The text, its end not included.
    Body,
    /// The end of the text was sent.
    End,
    /// QUIT.
    Quit,
}

impl Phase {
    /// Its name in a log.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Greeting => "greeting",
            Phase::Hello => "hello",
            Phase::StartTls => "starttls",
            Phase::Auth => "auth",
            Phase::Idle => "idle",
            Phase::Begin => "begin",
            Phase::Mail => "mail",
            Phase::Rcpt => "rcpt",
            Phase::Data => "data",
            Phase::Body => "body",
            Phase::End => "end",
            Phase::Quit => "quit",
        }
    }
}

/// What came of one recipient. Said once for each.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// What is to be done about it.
    pub verdict: Verdict,
    /// Who said so.
    pub origin: Origin,
    /// At which point.
    pub phase: Phase,
    /// The reply, whole; with [`Origin::Client`] what the client says in its place.
    pub answer: &'a Answer,
    /// The peer answers for delivery status notifications (RFC 3461): the recipient's and the message's parameters were
    /// passed on. When false and the verdict is `Delivered`, a NOTIFY=SUCCESS is answered with a "relayed" notice (RFC 3461
    /// 5.2.2).
    pub dsn: bool,
    /// Worth another transaction at once, on this connection: the peer had enough recipients, and took some
    /// (RFC 5321 4.5.3.1.10, RFC 9422).
    pub again: bool,
}

/// A transaction is over; every recipient had its outcome before this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Recipients with the verdict `Delivered`.
    pub delivered: usize,
    /// The connection cannot be used again: `Closed` comes next. Otherwise another transaction may begin, or `quit`.
    pub closing: bool,
    /// Parameters that were given and not passed on, because the peer does not offer their extension.
    pub dropped: Dropped,
}

/// Parameters that could not be passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// RET, ENVID, NOTIFY or ORCPT (DSN, RFC 3461): this side answers for the notifications.
    pub dsn: bool,
    /// BY in mode N (DELIVERBY, RFC 2852).
    pub deliver_by: bool,
    /// MT-PRIORITY (RFC 6710).
    pub priority: bool,
    /// HOLDFOR or HOLDUNTIL (FUTURERELEASE, RFC 4865).
    pub hold: bool,
}

/// Nothing can be sent on this connection; `Closed` comes next. Never said while a transaction is open: then each
/// recipient hears of it.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// By the reply's first digit. A delivery tries another host, or later: RFC 5321 makes nothing but a reply
    /// to a recipient or a message final.
    pub verdict: Verdict,
    /// Who said so.
    pub origin: Origin,
    /// At which point.
    pub phase: Phase,
    /// The reply, or what the client says in its place.
    pub answer: &'a Answer,
    /// TLS failed and nothing demands it: another connection with [`Tls::Never`](super::Tls::Never) may be tried, unless the
    /// caller's policy forbids (RFC 7435).
    pub clear_may_do: bool,
}
