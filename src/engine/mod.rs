//! The engine: an instance opened, and everything wired together.
//!
//! [`Engine::open`] recovers the store and can administer; [`Engine::start`] serves;
//! [`Engine::stop`] drains; [`Engine::close`] lets go. Several engines live in one process, each starts and
//! stops as often as wanted. Every method may be called from any thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::codec::address::Address;
use crate::delivery::{self, RouteTls, Routes};
use crate::directory::{Account, Alias, Directory, NewAccount};
use crate::error::{Error, Kind, Result};
use crate::instance::config::{ListenAddress, TlsConfig};
use crate::instance::{Config, ListenerConfig};
use crate::mailbox::Mailboxes;
use crate::policy::defence::Lockout;
use crate::runtime::control::ControlServer;
use crate::runtime::hosted::Crew;
use crate::runtime::tls::{Acceptor, Connector};
use crate::runtime::{Plan, Server, outbound};
use crate::sasl::Mechanism;
use crate::service::login::Logins;
use crate::service::run::{Node, Run};
use crate::service::transaction::{Origin, Recipient, Transaction};
use crate::service::{Host, Protocols, Shared};
use crate::smtp::client::{self, ClientConfig};
use crate::spool::Spool;
use crate::store::{
    CheckReport, CompactOptions, CompactReport, MailboxHead, MailboxId, MessageId, MessageReader,
    MessageRow, PIECE_BYTES, QueueEntry, RepairOptions, RepairReport, ScrubOptions, ScrubReport,
    Store, StoreState, envelope_flags,
};
use crate::sync::Mutex;
use crate::time::{Clock, SystemClock};
use crate::vfs::Fs;
use crate::vfs::os::OsFs;

pub mod admin;
mod hosted;
mod log;
mod status;
pub use crate::service::event;
pub use hosted::{Doing, HostedConnection, HostedOptions, HostedTls, Ready};

pub use crate::service::event::{Delivery, Event, EventSink, LogLevel, LogSink};
pub use crate::service::hook::{Hook, Hooks};
pub use crate::service::login::{TokenRequest, TokenVerifier};
pub use status::{LaneStatus, Status};

/// Most lock-outs that are listed.
pub const LOCKOUTS: usize = 10_000;

/// How an engine is opened.
#[derive(Clone, Default)]
pub struct Options {
    /// Called for every event; see [`Event`].
    pub events: Option<EventSink>,
    /// Called for every line of the log.
    pub log: Option<LogSink>,
    /// Lines below this level are not made.
    pub log_level: LogLevel,
    /// Asked at every step of SMTP, submission and LMTP sessions; see [`crate::service::hook`].
    pub hooks: Option<Hooks>,
    /// Threads that serve connections; 0: one for each core, at most 8.
    pub threads: usize,
    /// Who verifies bearer tokens; without it OAUTHBEARER and XOAUTH2 are not offered, whatever the configuration says.
    pub tokens: Option<Arc<dyn TokenVerifier>>,
}

/// Repairs an instance that nobody has open; see [`Store::repair`]. `progress(done, total)` counts bytes and begins anew
/// with each pass.
///
/// # Errors
/// As [`Engine::open`], except those of the configuration, which is not read.
pub fn repair(
    directory: &Path,
    options: &RepairOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<RepairReport> {
    let fs: Arc<dyn Fs> = Arc::new(OsFs::new());
    Store::repair(fs, SystemClock::shared(), directory, options, progress)
}

/// A listener that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// As configured.
    pub config: ListenerConfig,
    /// Where it listens, with the port it really has.
    pub address: ListenAddress,
}

/// Figures of one service since the engine was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ServiceStats {
    /// Sessions.
    pub sessions: u64,
    /// Messages accepted.
    pub messages: u64,
    /// Messages refused after their data had begun.
    pub messages_refused: u64,
}

/// Figures of an engine since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stats {
    /// Connections open now.
    pub connections: u64,
    /// Connections accepted.
    pub connections_total: u64,
    /// Connections turned away because of a limit.
    pub connections_refused: u64,
    /// Messages accepted (250 after the data, or by `submit`).
    pub messages_accepted: u64,
    /// Recipients refused.
    pub recipients_refused: u64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins that failed.
    pub logins_failed: u64,
    /// Messages read by POP3 clients.
    pub messages_retrieved: u64,
    /// Sessions, and messages that they brought or had refused after their data: of other servers,
    #[serde(default)]
    pub smtp: ServiceStats,
    /// of users' programs,
    #[serde(default)]
    pub submission: ServiceStats,
    /// and of a server beside us.
    #[serde(default)]
    pub lmtp: ServiceStats,
    /// Recipients delivered to other servers.
    #[serde(default)]
    pub delivered: u64,
    /// Attempts to deliver that are repeated later.
    #[serde(default)]
    pub deferred: u64,
    /// Recipients that failed for good.
    #[serde(default)]
    pub failed: u64,
    /// Syncs of log files.
    pub log_syncs: u64,
    /// Bytes written to log files.
    pub log_bytes: u64,
    /// Bytes written to index files.
    pub index_bytes: u64,
}

/// What serves while the engine is started. The control socket goes first: a program that administers sees
/// either a serving engine or none.
struct Running {
    control: ControlServer,
    server: Server,
}

/// Where TLS comes from: as configured when the engine was opened or reloaded, and what was made of it. All server sides
/// are made by one acceptor, so that a session can be resumed after a stop, and wherever it comes in.
struct Certificates {
    config: Option<TlsConfig>,
    acceptor: Option<Acceptor>,
}

/// An open instance. Dropping it closes it.
pub struct Engine {
    path: PathBuf,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    config: Config,
    store: Store,
    shared: Arc<Shared>,
    protocols: Arc<Protocols>,
    /// Runs what hosted connections wait for; made with the first of them.
    crew: Mutex<Option<Arc<Crew>>>,
    options: Options,
    running: Mutex<Option<Running>>,
    tls: Mutex<Certificates>,
    /// Held by whoever starts, stops or closes, for as long as it takes: a stop has drained, and its control file is
    /// gone, before the next start makes its own. Never while the host is told of an event.
    turn: Mutex<()>,
    closed: AtomicBool,
}

impl Engine {
    /// Opens an instance: takes its lock, recovers, reads configuration and directory. Serves nothing yet.
    ///
    /// # Errors
    /// `NotAnInstance`, `Config`, `Corrupt`, `FormatNewer`, `Locked` (with the holder's process where it is
    /// known), and those of the operating system. Nothing is changed on disk when it fails.
    pub fn open(directory: &Path, options: Options) -> Result<Arc<Engine>> {
        let fs: Arc<dyn Fs> = Arc::new(OsFs::new());
        let clock = SystemClock::shared();
        let config = Config::load(fs.as_ref(), directory)?;
        let store =
            Store::open(Arc::clone(&fs), Arc::clone(&clock), directory, config.store_options())?;
        let people = Directory::load(Arc::new(store.clone()))?;
        let shared = Shared::new(
            config.hostname.clone(),
            Arc::new(people),
            Spool::open(&store)?,
            Mailboxes::new(&store),
            config.rules.clone(),
            Arc::clone(&clock),
            Host { events: options.events.clone(), hooks: options.hooks.clone() },
        );
        shared.directory.keep_cram_md5(config.mechanisms.contains(Mechanism::CramMd5));
        shared.logins.store(Arc::new(Logins {
            mechanisms: config.mechanisms,
            tokens: options.tokens.clone(),
        }));
        shared.watch(&store);
        let tls = config.tls.clone();
        Ok(Arc::new(Engine {
            path: directory.to_owned(),
            fs,
            clock: Arc::clone(&clock),
            protocols: Arc::new(Protocols::new(
                Arc::clone(&shared),
                clock,
                &config.smtp,
                config.extensions,
                &config.pop3,
            )),
            crew: Mutex::new(None),
            config,
            store,
            shared,
            options,
            running: Mutex::new(None),
            tls: Mutex::new(Certificates { config: tls, acceptor: None }),
            turn: Mutex::new(()),
            closed: AtomicBool::new(false),
        }))
    }

    /// Where the instance is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its configuration, as read when it was opened.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Binds all listeners, then serves. When one cannot be bound none is kept, and the error names it.
    /// Without effect when it serves already.
    pub fn start(self: &Arc<Self>) -> Result<()> {
        let turn = self.turn.lock();
        self.opened()?;
        if self.running.lock().is_some() {
            return Ok(());
        }
        let tls = self.acceptor(true)?;
        let server = Server::start(Plan {
            listeners: self.config.listeners.clone(),
            tls,
            protocols: Arc::clone(&self.protocols),
            outbound: Some(self.outbound()?),
            drain_millis: self.config.drain_millis,
            threads: self.options.threads,
            on_thread_start: log::thread_hook(self.options.log.clone(), self.options.log_level),
        })?;
        let control = admin::control(server.handle(), &self.fs, &self.path, Arc::downgrade(self))?;
        *self.running.lock() = Some(Running { control, server });
        let listeners = self.listeners();
        drop(turn);
        for Listening { config, address } in &listeners {
            self.shared.emit(&Event::Listening { name: config.name, address });
        }
        Ok(())
    }

    /// How mail leaves, by the configuration.
    fn outbound(&self) -> Result<outbound::Plan> {
        let mut ways = Vec::with_capacity(self.config.routes.len());
        for route in &self.config.routes {
            let connector = match (route.tls, &route.authorities) {
                (RouteTls::None, _) => None,
                (RouteTls::Required, Some(path)) => {
                    Some(Connector::trusting(self.fs.as_ref(), path)?)
                }
                (RouteTls::Required, None) => {
                    let text =
                        format!("route {}: tls = \"required\" needs authorities", route.domain);
                    return Err(Error::new(Kind::Config, text));
                }
                (RouteTls::Opportunistic, _) => Some(Connector::opportunistic(self.fs.as_ref())?),
            };
            let client = ClientConfig {
                hostname: self.config.hostname.clone(),
                lmtp: route.protocol == delivery::Protocol::Lmtp,
                tls: match route.tls {
                    RouteTls::None => client::Tls::Never,
                    RouteTls::Opportunistic => client::Tls::WhenOffered,
                    RouteTls::Required => client::Tls::Required,
                },
                login: route.credentials.clone().map(client::Login::new),
                // Whoever writes both into the configuration wants it.
                auth_in_clear: route.tls == RouteTls::None,
                ..ClientConfig::default()
            };
            ways.push(outbound::Way { client: Arc::new(client), connector });
        }
        Ok(outbound::Plan {
            shared: Arc::clone(&self.shared),
            clock: Arc::clone(&self.clock),
            routes: Routes::new(self.config.routes.clone()),
            ways,
            schedule: self.config.schedule,
            down_millis: outbound::DOWN_MILLIS.min(self.config.schedule.first_millis),
        })
    }

    /// Reads the configuration and the certificates anew, without dropping a connection: the table `policy` holds from
    /// now on, new TLS connections get the new certificates. All of it takes effect, or, when anything is wrong,
    /// nothing. Listeners, the bounds of sessions and whether there is TLS at all hold until the next start, the store's
    /// settings until the next opening. Blocks on files.
    ///
    /// # Errors
    /// `Config`, `Certificate` or `PrivateKey`, with what is wrong; everything is then as it was.
    pub fn reload(&self) -> Result<()> {
        let _turn = self.turn.lock();
        self.opened()?;
        let config = Config::load(self.fs.as_ref(), &self.path)?;
        let mut tls = self.tls.lock();
        match (&config.tls, &tls.acceptor) {
            (Some(files), Some(acceptor)) => acceptor.reload(self.fs.as_ref(), files)?,
            // Tried all the same: the next start must not be where a mistake is found.
            (Some(files), None) => tls.acceptor = Some(Acceptor::load(self.fs.as_ref(), files)?),
            (None, _) => tls.acceptor = None,
        }
        self.shared.rules.store(Arc::new(config.rules));
        tls.config = config.tls;
        tracing::info!("configuration and certificates read anew");
        Ok(())
    }

    /// Who is locked out after failed logins now, at most [`LOCKOUTS`] of them: hosts first, each sorted.
    ///
    /// # Errors
    /// `Stopped`.
    pub fn lockouts(&self) -> Result<Vec<Lockout>> {
        self.opened()?;
        Ok(self.shared.defences.lockouts(self.clock.now(), LOCKOUTS))
    }

    /// Ends the lock-out of a host (any address in it) or of a login name, and forgets its failures.
    ///
    /// # Errors
    /// `NotFound` when nothing was held against it; `Stopped`.
    pub fn unlock(&self, whom: &str) -> Result<()> {
        self.opened()?;
        if self.shared.defences.unlock(&self.shared.rules.load().defence, whom) {
            return Ok(());
        }
        let text = format!("no failed logins are held against {}", whom.escape_debug());
        Err(Error::new(Kind::NotFound, text))
    }

    /// The certificates, when there are any. They are read once; `fresh`: and now.
    fn acceptor(&self, fresh: bool) -> Result<Option<Acceptor>> {
        let mut tls = self.tls.lock();
        let Some(files) = &tls.config else { return Ok(None) };
        match &tls.acceptor {
            Some(acceptor) if fresh => acceptor.reload(self.fs.as_ref(), files)?,
            Some(_) => {}
            None => tls.acceptor = Some(Acceptor::load(self.fs.as_ref(), files)?),
        }
        Ok(tls.acceptor.clone())
    }

    /// The listeners that serve now.
    pub fn listeners(&self) -> Vec<Listening> {
        let running = self.running.lock();
        let Some(running) = running.as_ref() else { return Vec::new() };
        running
            .server
            .listening()
            .iter()
            .map(|(config, address)| Listening { config: config.clone(), address: address.clone() })
            .collect()
    }

    /// Stops serving: no new connections, 421 to idle ones, running transactions may end within the
    /// configured time. Returns when every connection is gone. May be started again. Without effect when not started.
    pub fn stop(&self) -> Result<()> {
        let turn = self.turn.lock();
        let stopped = self.end_serving();
        drop(turn);
        if stopped {
            self.shared.emit(&Event::Stopped);
        }
        Ok(())
    }

    /// Stops serving within the caller's turn; whether there was anything to stop.
    fn end_serving(&self) -> bool {
        let Some(Running { control, server }) = self.running.lock().take() else { return false };
        control.stop();
        server.stop();
        true
    }

    /// Stops, closes the store, releases the lock. Later calls answer `Stopped`.
    pub fn close(&self) -> Result<()> {
        let turn = self.turn.lock();
        let stopped = self.end_serving();
        let crew = self.crew.lock().take();
        let closed =
            if self.closed.swap(true, Ordering::AcqRel) { Ok(()) } else { self.store.close() };
        // After the store, which has answered whatever was awaited of it.
        if let Some(crew) = crew {
            crew.end();
        }
        drop(turn);
        if stopped {
            self.shared.emit(&Event::Stopped);
        }
        closed
    }

    fn opened(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(
                Kind::Stopped,
                format!("instance {} is closed", self.path.display()),
            ));
        }
        Ok(())
    }

    fn account(&self, address: &str) -> Result<Arc<Account>> {
        self.opened()?;
        self.shared.directory.account(address).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("no account has the address {address}"))
        })
    }

    /// Makes an account with its INBOX. Slow on purpose (password hashing).
    pub fn account_add(&self, new: &NewAccount) -> Result<Account> {
        self.opened()?;
        let mailboxes = &self.shared.mailboxes;
        self.shared.directory.add_account(new, self.clock.unix_millis(), &mut |account| {
            mailboxes.create_inbox(account.id, account.uid_validity)
        })
    }

    /// Removes an account and its mail. Mail for it is refused first, then what it has is removed.
    pub fn account_remove(&self, address: &str) -> Result<()> {
        self.opened()?;
        let account = self.shared.directory.remove_account(address)?;
        self.shared.mailboxes.remove_all(account.id)
    }

    /// Sets a password.
    pub fn account_set_password(&self, address: &str, password: &str) -> Result<()> {
        self.opened()?;
        self.shared.directory.set_password(address, password)
    }

    /// All accounts, sorted by primary address.
    pub fn accounts(&self) -> Result<Vec<Arc<Account>>> {
        self.opened()?;
        Ok(self.shared.directory.accounts())
    }

    /// Adds an alias.
    pub fn alias_add(&self, alias: &Alias) -> Result<()> {
        self.opened()?;
        self.shared.directory.add_alias(alias)
    }

    /// Removes an alias.
    pub fn alias_remove(&self, address: &str) -> Result<()> {
        self.opened()?;
        self.shared.directory.remove_alias(address)
    }

    /// All aliases, sorted.
    pub fn aliases(&self) -> Result<Vec<Alias>> {
        self.opened()?;
        Ok(self.shared.directory.aliases())
    }

    /// Takes a message from the host: same rules as an authenticated submission. Blocks until it is on
    /// disk. `from` empty: the null reverse-path. Line ends in `message` must be CR LF.
    ///
    /// # Errors
    /// `Address` or `NotFound` with the address; `InvalidArgument` for no recipient, a NUL, or a CR or LF that
    /// does not belong to a CR LF (with its offset); `Limit` for a message over the SMTP limit.
    pub fn submit(&self, from: &str, recipients: &[&str], message: &[u8]) -> Result<MessageId> {
        self.opened()?;
        if recipients.is_empty() {
            return Err(Error::new(Kind::InvalidArgument, "a message needs a recipient"));
        }
        if !from.is_empty() {
            address(from)?;
        }
        let limit = self.config.smtp.message_bytes;
        if message.len() as u64 > limit {
            let text = format!("message of {} bytes is over the limit of {limit}", message.len());
            return Err(Error::new(Kind::Limit, text));
        }
        line_ends(message)?;
        let utf8 = !from.is_ascii() || recipients.iter().any(|to| !to.is_ascii());
        let flags = envelope_flags::AUTHENTICATED
            | if utf8 { envelope_flags::SMTPUTF8 } else { 0 }
            | if message.is_ascii() { 0 } else { envelope_flags::EIGHT_BIT };
        let mut transaction = Transaction::new(from.as_bytes(), flags);
        for to in recipients {
            if transaction.add(&self.shared, &address(to)?, b"", true) != Recipient::Accepted {
                return Err(Error::new(Kind::NotFound, format!("no such recipient: {to}")));
            }
        }
        let origin = Origin { hello: b"", address: None, with: "local", tls: None, header: None };
        let mut incoming = transaction.begin(&self.shared, &origin)?;
        for piece in message.chunks(PIECE_BYTES) {
            incoming.write(&self.shared, piece)?;
            if let Some(ticket) = incoming.pressure() {
                ticket.wait()?;
            }
        }
        let (ticket, pending) = incoming.finish(&self.shared, 0)?;
        ticket.wait()?;
        pending.acknowledged(&self.shared, None);
        Ok(pending.id)
    }

    /// Up to `limit` queue entries after `after`.
    pub fn queue_list(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<QueueEntry>> {
        self.opened()?;
        self.shared.spool.list(after, limit)
    }

    /// Tries now what waits in the queue for another attempt, and hosts that could not be reached: for this domain
    /// (behind `@` with its subdomains), or all. How many messages are meant. Entries without a route, held
    /// ones, and those that wait on their sender's wish are left alone. Durable; of an engine that does not serve it
    /// shows when it does.
    ///
    /// # Errors
    /// `InvalidArgument`: no domain. `NotFound`: no route leads there. `Busy`: another run is under way. What the disk
    /// reports.
    pub fn queue_run(&self, domain: Option<&str>) -> Result<u64> {
        self.opened()?;
        let node = domain.map_or(Ok(Node::All), Node::parse)?;
        match self.shared.queue_run(&node)? {
            Run::Started(count) => Ok(count),
            Run::NoRoute => {
                let domain = domain.unwrap_or_default();
                Err(Error::new(Kind::NotFound, format!("no route leads to {domain}")))
            }
            Run::Busy => Err(Error::new(Kind::Busy, "another queue run is under way")),
        }
    }

    /// Takes an entry out of the queue for ever.
    pub fn queue_remove(&self, id: MessageId) -> Result<()> {
        self.opened()?;
        if self.shared.spool.remove(id)? {
            Ok(())
        } else {
            Err(Error::new(Kind::NotFound, format!("no queue entry {id}")))
        }
    }

    /// The mailboxes of the account with this address.
    pub fn mailboxes(&self, address: &str) -> Result<Vec<MailboxHead>> {
        let account = self.account(address)?;
        self.shared.mailboxes.list(account.id)
    }

    /// Up to `limit` messages of a mailbox with UIDs above `after`.
    pub fn mailbox_list(
        &self,
        address: &str,
        mailbox: MailboxId,
        after: u32,
        limit: usize,
    ) -> Result<Vec<MessageRow>> {
        let account = self.account(address)?;
        self.shared.mailboxes.messages(account.id, mailbox, after, limit)
    }

    /// Opens a message's bytes.
    pub fn message(&self, id: MessageId) -> Result<MessageReader> {
        self.opened()?;
        self.shared.mailboxes.read(id)
    }

    /// Verifies the store while mail flows. `progress(done, total)` counts bytes.
    pub fn check(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<CheckReport> {
        self.opened()?;
        self.store.check(progress)
    }

    /// Gives back the space of what nothing refers to any more, in one pass now, while mail flows.
    pub fn compact(&self, options: &CompactOptions) -> Result<CompactReport> {
        self.opened()?;
        self.store.compact(options)
    }

    /// Verifies what was written long ago and counts references again, while mail flows. `progress(done, total)` counts
    /// bytes.
    pub fn scrub(
        &self,
        options: &ScrubOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<ScrubReport> {
        self.opened()?;
        self.store.scrub(options, progress)
    }

    /// What the store can and cannot do at the moment: lanes that are read-only and why, the room on the disk.
    pub fn state(&self) -> StoreState {
        self.store.state()
    }

    /// How the instance is, all together: whether it serves, what its store can do, what it takes on the disk, what was
    /// found. Lists a directory and reads a few rows of each index.
    ///
    /// # Errors
    /// `Stopped`, or what the system reports.
    pub fn status(&self) -> Result<Status> {
        self.opened()?;
        let serving = self.running.lock().is_some();
        Ok(Status::new(serving, self.store.state(), &self.store.usage()?, &self.store.stats()))
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        let store = self.store.stats();
        let service = |name| ServiceStats {
            sessions: counters.sessions.of(name).get(),
            messages: counters.messages.of(name).get(),
            messages_refused: counters.messages_refused.of(name).get(),
        };
        Stats {
            connections: counters.connections.get(),
            connections_total: counters.connections_total.get(),
            connections_refused: counters.connections_refused.get(),
            messages_accepted: counters.messages_accepted.get(),
            recipients_refused: counters.recipients_refused.get(),
            logins: counters.logins.get(),
            logins_failed: counters.logins_failed.get(),
            messages_retrieved: counters.messages_retrieved.get(),
            smtp: service("smtp"),
            submission: service("submission"),
            lmtp: service("lmtp"),
            delivered: counters.delivered.get(),
            deferred: counters.deferred.get(),
            failed: counters.failed.get(),
            log_syncs: store.log_syncs,
            log_bytes: store.log_bytes,
            index_bytes: store.index_bytes,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Nobody is left to be told of an error; what was acknowledged is on disk already.
        let _ = self.close();
    }
}

fn address(text: &str) -> Result<Address> {
    Address::parse(text.as_bytes(), true).ok_or_else(|| {
        Error::new(Kind::Address, format!("not a mail address: {}", text.escape_debug()))
    })
}

/// Every CR is followed by LF, every LF follows a CR, and there is no NUL.
fn line_ends(message: &[u8]) -> Result<()> {
    let mut previous = 0;
    for (offset, &byte) in message.iter().enumerate() {
        let what = match (previous, byte) {
            (_, 0) => "NUL",
            (b'\r', b'\n') => "",
            (b'\r', _) => "CR without LF",
            (_, b'\n') => "LF without CR",
            _ => "",
        };
        if !what.is_empty() {
            return Err(Error::new(
                Kind::InvalidArgument,
                format!("message has a {what} at octet {offset}"),
            ));
        }
        previous = byte;
    }
    if previous == b'\r' {
        return Err(Error::new(Kind::InvalidArgument, "message ends in a CR without LF"));
    }
    Ok(())
}
