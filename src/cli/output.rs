//! Text for people: columns, times, sizes, and values that came from strangers made harmless.

use std::io::{self, Write};

use posthouse::codec::date::Rfc5322;

/// The text on one line, without anything that a terminal would act on.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An instant as `2026-11-21T07:06:05Z`.
pub fn time(unix_millis: u64) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    // `Sat, 21 Nov 2026 07:06:05 +0000`: the calendar is reckoned in one place only.
    let date = Rfc5322 { unix_millis }.to_string();
    let mut parts = date.split_whitespace().skip(1);
    let mut part = || parts.next().unwrap_or_default();
    let (day, month, year, clock) = (part(), part(), part(), part());
    let month = MONTHS.find(month).map_or(0, |at| at / 3 + 1);
    format!("{year}-{month:02}-{day:0>2}T{clock}Z")
}

/// A number of bytes in the unit that suits it.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).unwrap_or(&"?"))
}

/// `1 message`, `2 messages`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Writes rows in columns; the last column is as long as it is.
pub fn columns(out: &mut dyn Write, rows: &[Vec<String>]) -> io::Result<()> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (n, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(n) {
                Some(widest) => *widest = (*widest).max(width),
                None => widths.push(width),
            }
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&one_line(cell));
            let blank = width.saturating_sub(cell.chars().count());
            line.extend(std::iter::repeat_n(' ', blank.saturating_add(2)));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_order_that_sorts() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_795_245_965_123), "2026-11-21T07:26:05Z");
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00Z");
    }

    #[test]
    fn sizes_have_fitting_units() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(25 << 20), "25.0 MiB");
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn columns_are_aligned_and_strangers_text_stays_on_its_line() {
        let mut out = Vec::new();
        let rows = [
            vec!["a".to_owned(), "x\r\n\u{1b}[2J".to_owned()],
            vec!["longer".to_owned(), "y".to_owned()],
        ];
        columns(&mut out, &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a       x   [2J\nlonger  y\n");
    }
}
