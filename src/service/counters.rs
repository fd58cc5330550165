//! Figures that conversations and the runtime count: plain atomics, read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

/// A figure that only grows, or (connections) goes up and down. Relaxed: figures order nothing.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn up(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    /// Takes one away.
    pub fn down(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
    /// The figure.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A figure for each service that takes mail.
#[derive(Debug, Default)]
pub struct Services {
    /// Mail from other servers.
    pub smtp: Counter,
    /// Mail from users' programs.
    pub submission: Counter,
    /// Mail for mailboxes from a server beside us.
    pub lmtp: Counter,
}

impl Services {
    /// The figure of the service of this name.
    pub fn of(&self, service: &str) -> &Counter {
        match service {
            "submission" => &self.submission,
            "lmtp" => &self.lmtp,
            _ => &self.smtp,
        }
    }
}

/// The figures of an engine.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections open now.
    pub connections: Counter,
    /// Connections accepted.
    pub connections_total: Counter,
    /// Connections turned away because of a limit.
    pub connections_refused: Counter,
    /// Sessions of each service.
    pub sessions: Services,
    /// Messages accepted by sessions of each service; those of `submit` are not here.
    pub messages: Services,
    /// Messages refused by sessions of each service after their data had begun.
    pub messages_refused: Services,
    /// Recipients delivered to other servers.
    pub delivered: Counter,
    /// Attempts after which a recipient waits for the next one.
    pub deferred: Counter,
    /// Recipients that failed for good.
    pub failed: Counter,
    /// Messages accepted.
    pub messages_accepted: Counter,
    /// Recipients refused.
    pub recipients_refused: Counter,
    /// Logins that succeeded.
    pub logins: Counter,
    /// Logins that failed.
    pub logins_failed: Counter,
    /// Messages read by POP3 clients.
    pub messages_retrieved: Counter,
}
