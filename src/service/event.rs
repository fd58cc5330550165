//! What the engine tells its host while it works: events for programs, log lines for people.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::instance::config::ListenAddress;
use crate::store::{Lane, MessageId};

/// Called for every event, on the thread where it happened. Must return soon and must not panic.
pub type EventSink = Arc<dyn Fn(&Event<'_>) + Send + Sync>;
/// Called for every log line: level, the room that speaks, the line without line end.
pub type LogSink = Arc<dyn Fn(LogLevel, &str, &str) + Send + Sync>;

/// Levels of the log, the most severe first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum LogLevel {
    /// Something must be done by somebody.
    Error = 1,
    /// Something is not as it should be.
    Warn = 2,
    /// What an operator wants to know.
    #[default]
    Info = 3,
    /// What a developer wants to know.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

/// What an attempt to deliver came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The other side has it.
    Delivered,
    /// Not now: it is tried again.
    Deferred,
    /// Never: the entry stays in the queue as failed.
    Failed,
}

impl Delivery {
    /// The word for logs.
    pub const fn name(self) -> &'static str {
        match self {
            Delivery::Delivered => "delivered",
            Delivery::Deferred => "deferred",
            Delivery::Failed => "failed",
        }
    }
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A listener serves.
    Listening {
        /// Its name (`smtp`).
        name: &'a str,
        /// Where it listens, with the port it really has.
        address: &'a ListenAddress,
    },
    /// A message is on disk and acknowledged.
    MessageAccepted {
        /// Its id, which is its queue id.
        id: MessageId,
        /// Reverse-path.
        from: &'a str,
        /// Accounts that have it in their INBOX.
        local: u32,
        /// Recipients that wait in the queue.
        remote: u32,
        /// Bytes.
        size: u64,
        /// Where it came from; `None` for `submit`.
        peer: Option<SocketAddr>,
        /// The session that brought it; 0 for `submit`.
        session: u64,
    },
    /// An SMTP, submission or LMTP session has begun.
    SessionBegun {
        /// Its number, from 1 since the engine was opened.
        session: u64,
        /// `smtp`, `submission` or `lmtp`.
        service: &'a str,
        /// Who speaks.
        peer: SocketAddr,
    },
    /// It has ended.
    SessionEnded {
        /// Its number.
        session: u64,
        /// `smtp`, `submission` or `lmtp`.
        service: &'a str,
        /// Who spoke.
        peer: SocketAddr,
        /// How: `quit`, `closed` (by us), `lost` (by the peer, without QUIT).
        reason: &'a str,
        /// Messages that were accepted.
        messages: u32,
        /// Recipients that were refused.
        refused: u32,
    },
    /// An attempt to deliver a queued message to a recipient has come to something.
    Delivery {
        /// The message, as in [`Event::MessageAccepted`].
        id: MessageId,
        /// The recipient.
        address: &'a str,
        /// What it came to.
        outcome: Delivery,
        /// Attempts so far, this one included.
        attempts: u32,
        /// When it is tried again, in milliseconds since 1970; 0 with the other outcomes.
        next: u64,
        /// The host that was asked, as configured or by its address.
        remote: &'a str,
        /// What was answered: by that host or, when it could not be asked, by us.
        answer: &'a str,
    },
    /// A recipient was refused.
    RecipientRefused {
        /// The forward-path.
        address: &'a str,
        /// The reply's code.
        code: u16,
        /// Who tried.
        peer: SocketAddr,
    },
    /// A login succeeded or failed.
    Login {
        /// The login name.
        login: &'a str,
        /// Whether it succeeded.
        accepted: bool,
        /// Who tried.
        peer: SocketAddr,
    },
    /// A lane of the store cannot be written: mail for it is answered 451, new SMTP connections 421. It is tried
    /// again by itself.
    StoreReadOnly {
        /// The lane.
        lane: Lane,
        /// Why, in words.
        reason: &'a str,
    },
    /// A lane of the store can be written again.
    StoreWritable {
        /// The lane.
        lane: Lane,
    },
    /// Space is low: mail is refused with 452, everything else goes on.
    SpaceLow,
    /// The disk was found full: as low space, and the ballast is gone.
    SpaceFull,
    /// There is enough space again.
    SpaceAmple,
    /// Data that was acknowledged is damaged on disk: found when the instance was opened, by a scrub, by an export or by a
    /// repair of the index. Each finding is told once; the rest is served. `posthouse repair` says what is lost.
    Damage {
        /// What and where, in words.
        finding: &'a str,
    },
    /// The index of a lane had failed, was repaired, and serves again. Nothing is lost.
    IndexRepaired {
        /// The lane.
        lane: Lane,
        /// What had failed, in words.
        reason: &'a str,
    },
    /// The engine has stopped serving.
    Stopped,
}
