//! Dates as mail headers spell them (RFC 5322 3.3).
//!
//! Always in UTC, written `+0000`: a server's local zone says nothing useful and leaks where it stands. The calendar
//! is the proleptic Gregorian one, leap seconds do not exist (POSIX time).

use std::fmt::{self, Write as _};

const DAY_SECONDS: u64 = 86_400;
/// Days of 400 Gregorian years.
const ERA_DAYS: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01. Counting years from March puts the leap day at a year's end.
const EPOCH_DAYS: u64 = 719_468;

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];

/// An instant, shown as `Sat, 21 Nov 2026 07:06:05 +0000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc5322 {
    /// Milliseconds since 1970-01-01T00:00:00Z. Instants beyond the year 9999 show as its last second.
    pub unix_millis: u64,
}

/// The last second of the year 9999: the grammar's years have four digits.
const LAST_SECOND: u64 = 253_402_300_799;

impl fmt::Display for Rfc5322 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = (self.unix_millis / 1000).min(LAST_SECOND);
        let (days, second) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
        let since_march = days + EPOCH_DAYS;
        let (era, day_of_era) = (since_march / ERA_DAYS, since_march % ERA_DAYS);
        // Take out the leap days of 4, 100 and 400 years; what is left are years of 365 days.
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // From March on, months have 31, 30, 31, 30, 31 days, again and again: 153 in five.
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let year = era * 400 + year_of_era + u64::from(month >= 10);
        write!(
            f,
            "{}, {day} {} {year} {:02}:{:02}:{:02} +0000",
            name(&WEEKDAYS, days % 7),
            name(&MONTHS, month),
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

impl Rfc5322 {
    /// Appends the date to `text`.
    pub fn append(self, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{self}");
    }
}

fn name(names: &[&'static str], index: u64) -> &'static str {
    usize::try_from(index).ok().and_then(|n| names.get(n).copied()).unwrap_or("???")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_are_spelled_right() {
        for (seconds, text) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (951_868_800, "Wed, 1 Mar 2000 00:00:00 +0000"),
            (1_000_000_000, "Sun, 9 Sep 2001 01:46:40 +0000"),
            (1_709_164_800, "Thu, 29 Feb 2024 00:00:00 +0000"),
            (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 +0000"),
            (u64::MAX / 1000, "Fri, 31 Dec 9999 23:59:59 +0000"),
        ] {
            assert_eq!(Rfc5322 { unix_millis: seconds * 1000 }.to_string(), text);
        }
    }

    #[test]
    fn every_day_of_400_years_follows_the_one_before() {
        let months =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let mut day = 0u64;
        for year in 1970..2370u64 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let lengths = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, length) in months.iter().zip(lengths) {
                for date in 1..=length {
                    let text = Rfc5322 { unix_millis: day * 86_400_000 }.to_string();
                    let expected = format!(", {date} {month} {year} 00:00:00 +0000");
                    assert_eq!(text[3..], expected);
                    day += 1;
                }
            }
        }
    }
}
