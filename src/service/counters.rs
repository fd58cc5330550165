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

/// The figures of an engine.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections open now.
    pub connections: Counter,
    /// Connections accepted.
    pub connections_total: Counter,
    /// Connections turned away because of a limit.
    pub connections_refused: Counter,
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
