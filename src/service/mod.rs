//! Answers the events of sessions with policy, directory, spool and mailbox.
//!
//! A protocol machine asks; a [`Conversation`] answers. It owns one machine and what belongs to one
//! connection (who the peer is, the transaction under way), and shares with all others the rooms below
//! through [`Shared`]. It still has no socket, no thread and no clock of its own: whoever drives it
//! (the engine's own listeners, or a host that owns its sockets) feeds bytes, writes out what comes,
//! and does the waiting. What cannot be answered at once is handed out as a [`Wait`]: a ticket of the
//! store, or a job that may block and belongs on a worker thread.
//!
//! Method of a driver: call [`Conversation::advance`]; write the output; do what [`Progress`] says; when
//! it was a wait, bring the result with [`Conversation::settle`]; again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::codec::address::Address;
use crate::directory::{Directory, Resolution};
use crate::mailbox::Mailboxes;
use crate::policy::{Defences, Rules};
use crate::spool::Spool;
use crate::store::{AccountId, MessageId, SpaceLevel, Store, StoreChange, Ticket};
use crate::sync::Mutex;
use crate::time::{Clock, Time};

pub mod counters;
pub mod event;
#[cfg(test)]
mod failure_tests;
mod guard;
pub mod header;
pub mod hook;
pub mod link;
pub mod login;
pub mod pop3;
pub mod protocols;
pub mod run;
pub mod smtp;
pub mod transaction;

pub use counters::Counters;
pub use link::{Link, TlsFacts, TlsVersion};
pub use protocols::Protocols;
pub use run::Deliver;

/// What the host wants to hear and to judge.
#[derive(Clone, Default)]
pub struct Host {
    /// Where events go.
    pub events: Option<event::EventSink>,
    /// Who judges beside our own rules.
    pub hooks: Option<hook::Hooks>,
}

/// What all conversations of an engine share.
pub struct Shared {
    /// Our name in greetings and trace headers.
    pub hostname: String,
    /// Who receives mail here.
    pub directory: Arc<Directory>,
    /// The queue.
    pub spool: Spool,
    /// The mailboxes.
    pub mailboxes: Mailboxes,
    /// The rules, replaced as a whole when the configuration changes.
    pub rules: ArcSwap<Rules>,
    /// Rates and lock-outs.
    pub defences: Defences,
    /// The clock of the defences, and the calendar for trace headers and queue entries.
    pub clock: Arc<dyn Clock>,
    /// Figures.
    pub counters: Counters,
    /// Where events go.
    pub events: Option<event::EventSink>,
    /// Who judges beside our own rules.
    pub hooks: Option<hook::Hooks>,
    /// Who delivers.
    delivery: ArcSwap<Option<Box<dyn Deliver>>>,
    /// A queue run is under way.
    running: AtomicBool,
    /// Sessions so far: the last one's number.
    sessions: AtomicU64,
    /// How clients log in, replaced as a whole.
    pub logins: ArcSwap<login::Logins>,
    /// Maildrops held by POP3 sessions (RFC 1939 section 3).
    maildrops: Arc<Mutex<HashSet<AccountId>>>,
}

impl Shared {
    /// Puts the rooms together.
    pub fn new(
        hostname: String,
        directory: Arc<Directory>,
        spool: Spool,
        mailboxes: Mailboxes,
        rules: Rules,
        clock: Arc<dyn Clock>,
        host: Host,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            hostname,
            directory,
            spool,
            mailboxes,
            rules: ArcSwap::from_pointee(rules),
            defences: Defences::default(),
            clock,
            counters: Counters::default(),
            events: host.events,
            hooks: host.hooks,
            delivery: ArcSwap::from_pointee(None),
            running: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
            logins: ArcSwap::default(),
            maildrops: Arc::default(),
        })
    }

    /// A number for a new session, from 1.
    fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Whether anybody hears of what messages are about.
    fn tells(&self) -> bool {
        self.events.is_some() || tracing::enabled!(tracing::Level::INFO)
    }

    /// This message has recipients to deliver to.
    pub fn wake_delivery(&self, id: MessageId) {
        if let Some(delivery) = self.delivery.load().as_ref() {
            delivery.look(id);
        }
    }

    /// The accounts that an address leads to, none when its domain is ours and nobody has it (any more). `None`: it leads
    /// to other servers.
    pub fn local_accounts(&self, address: &[u8]) -> Option<Vec<AccountId>> {
        match self.directory.resolve(&Address::parse(address, true)?) {
            Resolution::Deliver { accounts, .. } => Some(accounts).filter(|a| !a.is_empty()),
            Resolution::Unknown => Some(Vec::new()),
            Resolution::Foreign => None,
        }
    }

    /// Who delivers, and is told when there is something new; `None`: nobody.
    pub fn on_delivery(&self, delivery: Option<Box<dyn Deliver>>) {
        self.delivery.store(Arc::new(delivery));
    }

    /// Tells the host.
    pub fn emit(&self, event: &event::Event<'_>) {
        if let Some(sink) = &self.events {
            sink(event);
        }
    }

    /// From now on what happens to the store is told to the host. When a lane can be written again, deliveries between
    /// lanes that it stopped go on.
    pub fn watch(self: &Arc<Shared>, store: &Store) {
        // The store must not keep alive what keeps the store open.
        let shared = Arc::downgrade(self);
        store.on_state(move |change| {
            let Some(shared) = shared.upgrade() else { return };
            shared.emit(&match change {
                StoreChange::ReadOnly { lane, reason } => {
                    event::Event::StoreReadOnly { lane: *lane, reason }
                }
                StoreChange::Writable { lane } => event::Event::StoreWritable { lane: *lane },
                StoreChange::Space(SpaceLevel::Low) => event::Event::SpaceLow,
                StoreChange::Space(SpaceLevel::Full) => event::Event::SpaceFull,
                StoreChange::Space(SpaceLevel::Ample) => event::Event::SpaceAmple,
                StoreChange::Damage { finding } => event::Event::Damage { finding },
                StoreChange::IndexRepaired { lane, reason } => {
                    event::Event::IndexRepaired { lane: *lane, reason }
                }
            });
            if matches!(change, StoreChange::Writable { .. })
                && let Err(e) = shared.spool.resume()
            {
                tracing::warn!("deliveries between lanes: {e}");
            }
        });
    }

    /// Takes an account's maildrop for one session; `None` when another session holds it.
    fn lock_maildrop(&self, account: AccountId) -> Option<MaildropLock> {
        self.maildrops
            .lock()
            .insert(account)
            .then(|| MaildropLock { held: Arc::clone(&self.maildrops), account })
    }
}

/// A maildrop held by a session; dropping it lets it go, however the session ended.
pub struct MaildropLock {
    held: Arc<Mutex<HashSet<AccountId>>>,
    account: AccountId,
}

impl Drop for MaildropLock {
    fn drop(&mut self) {
        self.held.lock().remove(&self.account);
    }
}

/// One connection's protocol with everything behind it.
pub trait Conversation: Send {
    /// Feeds input; appends output. Answers how many bytes of the input are done with, and what comes next.
    fn advance(&mut self, now: Time, input: &[u8], out: &mut Vec<u8>) -> (usize, Progress);

    /// Brings the result of a [`Wait`].
    fn settle(&mut self, settled: Settled, out: &mut Vec<u8>);

    /// The handshake has ended as `facts` say. `unread` is plaintext that stands unconsumed behind the command that
    /// asked for it; when there is any no handshake was made, and the conversation can only end.
    fn tls_started(&mut self, facts: Option<Arc<TlsFacts>>, unread: &[u8]);

    /// The engine stops: the conversation is to end at the next place where its protocol allows it.
    fn shutdown(&mut self);

    /// The peer will send nothing more.
    fn eof(&mut self, now: Time);

    /// When to call `advance` even without input.
    fn deadline(&self) -> Option<Time>;
}

/// What comes after [`Conversation::advance`].
pub enum Progress {
    /// Write the output, then read.
    NeedInput,
    /// Write the output, then advance again with the same input.
    Blocked,
    /// Write the output, make the TLS handshake, then [`Conversation::tls_started`].
    StartTls,
    /// Write the output, wait, then [`Conversation::settle`].
    Wait(Wait),
    /// Write the output, then close.
    Closed,
}

/// Something to wait for.
pub enum Wait {
    /// An answer of the store.
    Ticket(Ticket<()>),
    /// A job that may block: run it on a worker thread and bring what it returns.
    Work(Work),
    /// A login that may block or keep a processor busy (a password's hash is slow on purpose): as [`Wait::Work`], but
    /// only a few at once, so that a flood of logins leaves threads for what others wait for.
    Login(Work),
    /// A judgement of the host: wait for it so long and no longer, and bring it, or nothing.
    Verdict(hook::Awaited),
    /// Nothing but time: bring [`Settled::Paused`] after so many milliseconds. Nothing is read meanwhile.
    Pause(u64),
}

/// A job that may block.
pub type Work = Box<dyn FnOnce() -> Settled + Send>;

/// The result of a [`Wait`].
pub enum Settled {
    /// What a ticket answered.
    Ticket(crate::Result<()>),
    /// What a login came to.
    Login(Option<Arc<crate::directory::Account>>),
    /// What opening a maildrop came to.
    Maildrop(Result<pop3::Opened, crate::pop3::server::Denial>),
    /// What the host says; `None` when it did not.
    Verdict(Option<hook::Verdict>),
    /// What a queue run came to.
    Run(crate::Result<run::Run>),
    /// Bytes of a message.
    Body(crate::Result<pop3::Piece>),
    /// The job did not come to its end.
    Failed,
    /// A pause has ended.
    Paused,
}
