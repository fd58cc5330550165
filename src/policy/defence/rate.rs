//! Token buckets: so many events at once, refilled evenly.
//!
//! A bucket is one number: the instant at which it will be full again (the "theoretical arrival time" of the generic
//! cell rate algorithm, ITU-T I.371). Taking a token moves it by one interval; a token is there as long as it is not
//! further ahead than a whole period. Counted in microseconds, so that large rates lose nothing to rounding.

use crate::time::Time;

/// So many events in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    events: u32,
    period_millis: u64,
}

impl Rate {
    /// So many a minute; 0: any number.
    pub const fn per_minute(events: u32) -> Rate {
        Rate { events, period_millis: 60_000 }
    }

    /// So many an hour; 0: any number.
    pub const fn per_hour(events: u32) -> Rate {
        Rate { events, period_millis: 3_600_000 }
    }

    /// Whether any number is taken.
    pub const fn is_unlimited(self) -> bool {
        self.events == 0
    }
}

/// A bucket; a new one is full. 8 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it is full, in microseconds.
    full_at: u64,
}

impl Bucket {
    /// Takes so many tokens, all or none.
    ///
    /// # Errors
    /// There are not so many: milliseconds until there are, at least 1 (for more than the bucket holds, never).
    pub fn take(&mut self, rate: Rate, tokens: u32, now: Time) -> Result<(), u64> {
        if rate.is_unlimited() {
            return Ok(());
        }
        let now = now.0.saturating_mul(1000);
        let period = rate.period_millis.saturating_mul(1000);
        let interval = (period / u64::from(rate.events)).max(1);
        let next = self.full_at.max(now).saturating_add(interval.saturating_mul(u64::from(tokens)));
        let ahead = next.saturating_sub(now);
        // Rounding of the interval must not cost the last token.
        if ahead > period {
            return Err(ahead.saturating_sub(period).div_ceil(1000).max(1));
        }
        self.full_at = next;
        Ok(())
    }
}
