//! Time as a parameter: [`Time`] for what machines measure, [`Clock`] for who tells it.
//!
//! Nothing in the core reads a clock by itself. A protocol machine gets [`Time`] with every step; a
//! room that needs the calendar (a Received line, a queue entry) gets a [`Clock`]. A test or a
//! simulation makes any instant it likes, so days pass in microseconds.

use std::sync::Arc;

/// Milliseconds on a monotonic clock chosen by the caller. Only differences mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The instant `milliseconds` later; stays at the end of time instead of wrapping.
    #[must_use]
    pub const fn after(self, milliseconds: u64) -> Time {
        Time(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds from `earlier` to this instant, zero when `earlier` is later.
    pub const fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Who tells the time. Any thread may call.
pub trait Clock: Send + Sync {
    /// The monotonic instant.
    fn now(&self) -> Time;
    /// Milliseconds since 1970-01-01T00:00:00Z, as the machine believes.
    fn unix_millis(&self) -> u64;
}

/// The machine's own clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic zero is now.
    #[allow(clippy::disallowed_methods)] // this file is where the machine's clocks are read
    pub fn new() -> SystemClock {
        SystemClock { origin: std::time::Instant::now() }
    }

    /// The same, ready to be shared.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(SystemClock::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    #[allow(clippy::disallowed_methods)] // this file is where the machine's clocks are read
    fn unix_millis(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}
