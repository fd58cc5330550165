//! Dates as mail headers spell them (RFC 5322 3.3), and as protocols do (RFC 3339).
//!
//! Always in UTC, written `+0000`: a server's local zone says nothing useful and leaks where it stands. The calendar
//! is the proleptic Gregorian one, leap seconds do not exist (POSIX time).

use std::fmt::{self, Write as _};

const DAY_SECONDS: u64 = 86_400;
/// Days of 400 Gregorian years.
const ERA_DAYS: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01. Counting years from March puts the leap day at a year's end.
const EPOCH_DAYS: u64 = 719_468;

const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec", b"Jan", b"Feb",
];

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
        let (text, skip) = self.octets();
        let text = text.get(skip..).unwrap_or_default();
        f.write_str(std::str::from_utf8(text).unwrap_or_default())
    }
}

impl Rfc5322 {
    /// Appends the date to `text`.
    pub fn append(self, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{self}");
    }

    /// Appends the date's octets, which are ASCII.
    pub fn append_to(self, text: &mut Vec<u8>) {
        let (octets, skip) = self.octets();
        text.extend_from_slice(octets.get(skip..).unwrap_or_default());
    }

    /// The date in ASCII, behind so many octets. A line is written with it for every message: this takes a tenth of
    /// what formatting does.
    fn octets(self) -> ([u8; 31], usize) {
        let seconds = (self.unix_millis / 1000).min(LAST_SECOND);
        let (days, second) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
        let (year, month, day) = civil(days);
        let two = |n: u64| [b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
        let [a, b, c] = *name(&WEEKDAYS, days % 7);
        let [d, e, f] = *name(&MONTHS, month);
        let ([g, h], [i, j]) = (two(year / 100), two(year));
        let ([k, l], [m, n]) = (two(second / 3600), two(second / 60 % 60));
        let [o, p] = two(second % 60);
        let mut octets = [
            a, b, c, b',', b' ', b'0', b'0', b' ', d, e, f, b' ', g, h, i, j, b' ', k, l, b':', m,
            n, b':', o, p, b' ', b'+', b'0', b'0', b'0', b'0',
        ];
        let [q, r] = two(day);
        if day >= 10 {
            (octets[5], octets[6]) = (q, r);
            return (octets, 0);
        }
        // A day of one digit: what stands before it moves by one.
        octets[..7].copy_from_slice(&[b' ', a, b, c, b',', b' ', r]);
        (octets, 1)
    }
}

/// An instant, shown as `2026-11-21T07:06:05Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339 {
    /// Seconds since 1970-01-01T00:00:00Z. Instants beyond the year 9999 show as its last second.
    pub unix_seconds: u64,
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.unix_seconds.min(LAST_SECOND);
        let (days, second) = (seconds / DAY_SECONDS, seconds % DAY_SECONDS);
        let (year, month, day) = civil(days);
        let month = (month + 2) % 12 + 1;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// Reads `2026-11-21T07:06:05Z`, with a fraction of a second (which is cut off) or an offset, as RFC 3339 5.6 says.
///
/// Answers seconds since 1970-01-01T00:00:00Z. `None`: no such date, or one before 1970. A leap second counts as the
/// second behind it.
pub fn parse_rfc3339(text: &[u8]) -> Option<u64> {
    let number = |from: usize, to: usize| {
        text.get(from..to)?.iter().try_fold(0u64, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'))
        })
    };
    let is = |at: usize, octets: &[u8]| text.get(at).is_some_and(|b| octets.contains(b));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let marked = is(4, b"-") && is(7, b"-") && is(10, b"Tt") && is(13, b":") && is(16, b":");
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !marked || year < 1970 || !(1..=length).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    if is(at, b".") {
        at += 1;
        let digits = text.get(at..)?.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        at += digits;
    }
    let seconds = days_to(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second;
    if text.len() == at + 1 && is(at, b"Zz") {
        return Some(seconds);
    }
    let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
    if text.len() != at + 6 || !is(at + 3, b":") || hours > 23 || minutes > 59 {
        return None;
    }
    let offset = hours * 3600 + minutes * 60;
    // What is ahead of UTC by an hour was an hour ago there.
    match text.get(at)? {
        b'+' => seconds.checked_sub(offset),
        b'-' => Some(seconds + offset),
        _ => None,
    }
}

/// Year, month (0 is March) and day of the month of a day since the epoch.
fn civil(days: u64) -> (u64, u64, u64) {
    let since_march = days + EPOCH_DAYS;
    let (era, day_of_era) = (since_march / ERA_DAYS, since_march % ERA_DAYS);
    // Take out the leap days of 4, 100 and 400 years; what is left are years of 365 days.
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, months have 31, 30, 31, 30, 31 days, again and again: 153 in five.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    (era * 400 + year_of_era + u64::from(month >= 10), month, day)
}

/// The day since the epoch of a date from 1970 on; the way back of [`civil`].
fn days_to(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * ERA_DAYS + day_of_era).saturating_sub(EPOCH_DAYS)
}

fn name(names: &[&'static [u8; 3]], index: u64) -> &'static [u8; 3] {
    usize::try_from(index).ok().and_then(|n| names.get(n).copied()).unwrap_or(b"???")
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
    fn protocol_dates_read_back_and_odd_ones_do_not() {
        for seconds in [0, 951_782_399, 951_782_400, 1_709_164_800, 4_107_542_400, LAST_SECOND] {
            let text = Rfc3339 { unix_seconds: seconds }.to_string();
            assert_eq!(parse_rfc3339(text.as_bytes()), Some(seconds), "{text}");
        }
        for day in 0..150_000 {
            let text = Rfc3339 { unix_seconds: day * DAY_SECONDS }.to_string();
            assert_eq!(parse_rfc3339(text.as_bytes()), Some(day * DAY_SECONDS), "{text}");
        }
        assert_eq!(Rfc3339 { unix_seconds: 1_000_000_000 }.to_string(), "2001-09-09T01:46:40Z");
        assert_eq!(parse_rfc3339(b"2001-09-09t03:46:40.999+02:00"), Some(1_000_000_000));
        assert_eq!(parse_rfc3339(b"2001-09-08T23:16:40-02:30"), Some(1_000_000_000));
        for text in [
            "",
            "2001-09-09",
            "2001-09-09T01:46:40",
            "2001-09-09T01:46:40ZZ",
            "2001-09-09T01:46:40.Z",
            "2001-09-09T01:46:40+0200",
            "2001-09-09T01:46:40+24:00",
            "2001-13-09T01:46:40Z",
            "2001-00-09T01:46:40Z",
            "2001-02-29T01:46:40Z",
            "2001-09-00T01:46:40Z",
            "2001-09-09T24:46:40Z",
            "2001-09-09T01:60:40Z",
            "2001-09-09T01:46:61Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "2001/09/09T01:46:40Z",
            "20O1-09-09T01:46:40Z",
        ] {
            assert_eq!(parse_rfc3339(text.as_bytes()), None, "{text}");
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
