//! What a listing shows of a message: who, what about, when (RFC 5322 3.6, RFC 2047).
//!
//! The only file that names `mail-parser`. That parser has no bounds of its own, so it never sees a message: this
//! file walks the header itself, stops at [`HEADER_OCTETS`] and [`HEADER_FIELDS`], and hands over the first From,
//! Subject, Message-ID and Date field alone. What comes back is cut to [`VALUE_CHARACTERS`], and control characters
//! (which encoded words can smuggle in) become spaces. Reading never fails; what is missing or broken is empty.

use mail_parser::{HeaderName, MessageParser};

/// Octets of a header that are looked at.
pub const HEADER_OCTETS: usize = 64 << 10;
/// Fields of a header that are looked at.
pub const HEADER_FIELDS: usize = 1000;
/// Octets of one field that are decoded; a longer one counts as missing.
pub const FIELD_OCTETS: usize = 8 << 10;
/// Characters of a value that are kept.
pub const VALUE_CHARACTERS: usize = 500;

/// What a listing shows of a message. Decoded; every text is one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The first author as `Name <address>`, or the address alone. Empty when there is none.
    pub from: String,
    /// The subject. Empty when there is none.
    pub subject: String,
    /// The message's own name, without angle brackets. Empty when there is none.
    pub message_id: String,
    /// Seconds since 1970-01-01T00:00:00Z by the Date field.
    pub date: Option<i64>,
}

/// The summary of the message that begins with `headers`. What follows the first empty line is not looked at.
pub fn summary(headers: &[u8]) -> Summary {
    const WANTED: [&[u8]; 4] = [b"from", b"subject", b"message-id", b"date"];
    let mut found = [false; 4];
    let mut picked = Vec::new();
    for field in fields(headers).take(HEADER_FIELDS) {
        let Some(colon) = memchr::memchr(b':', field) else { continue };
        let name = field.get(..colon).unwrap_or_default().trim_ascii_end();
        let wanted = WANTED.iter().zip(&mut found).find(|(w, _)| w.eq_ignore_ascii_case(name));
        if let Some((_, seen)) = wanted
            && !*seen
            && field.len() <= FIELD_OCTETS
        {
            *seen = true;
            picked.extend_from_slice(field);
        }
    }
    picked.extend_from_slice(b"\r\n");
    decode(&picked)
}

/// The fields of a header, folded lines included, each with its line end. A line ends at LF, however it came here.
fn fields(headers: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = headers.get(..HEADER_OCTETS).unwrap_or(headers);
    std::iter::from_fn(move || {
        if rest.is_empty() || rest.starts_with(b"\r\n") || rest.starts_with(b"\n") {
            return None;
        }
        let end = memchr::memchr_iter(b'\n', rest)
            .map(|n| n + 1)
            .find(|&n| !matches!(rest.get(n), Some(b' ' | b'\t')))?;
        let (field, behind) = rest.split_at_checked(end)?;
        rest = behind;
        Some(field)
    })
}

fn decode(header: &[u8]) -> Summary {
    let parsed = MessageParser::new()
        .header_address(HeaderName::From)
        .header_text(HeaderName::Subject)
        .header_id(HeaderName::MessageId)
        .header_date(HeaderName::Date)
        .parse_headers(header);
    let Some(parsed) = parsed else { return Summary::default() };
    let from = parsed.from().and_then(|list| list.first()).map(|author| {
        match (author.name(), author.address().unwrap_or_default()) {
            (Some(name), "") => name.to_owned(),
            (Some(name), address) => format!("{name} <{address}>"),
            (None, address) => address.to_owned(),
        }
    });
    Summary {
        from: one_line(from.as_deref().unwrap_or_default()),
        subject: one_line(parsed.subject().unwrap_or_default()),
        message_id: one_line(parsed.message_id().unwrap_or_default()),
        date: parsed.date().filter(|date| date.is_valid()).map(|date| date.to_timestamp()),
    }
}

fn one_line(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(VALUE_CHARACTERS).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_unfolded_and_decoded() {
        let summary = summary(
            b"Received: from x\r\n\tby y; Sat, 1 Jan 2000 00:00:00 +0000\r\n\
              FROM: =?utf-8?Q?J=C3=BCrgen?= <j@x.test>, second@x.test\r\n\
              Subject: =?iso-8859-1?B?R3L832U=?=\r\n and more\r\n\
              Message-ID: <1.2@x.test>\r\n\
              Date: Sat, 21 Nov 2026 08:06:05 +0100\r\n\
              Subject: second\r\n\
              \r\n\
              Subject: body\r\n",
        );
        assert_eq!(summary.from, "J\u{fc}rgen <j@x.test>");
        assert_eq!(summary.subject, "Gr\u{fc}\u{df}e and more");
        assert_eq!(summary.message_id, "1.2@x.test");
        assert_eq!(summary.date, Some(1_795_244_765));
    }

    #[test]
    fn what_is_missing_or_broken_is_empty() {
        for header in [
            b"".as_slice(),
            b"\r\n",
            b"\r\nSubject: body\r\n",
            b"no colon\r\n",
            b":\r\n",
            b"Subject",
            b"From:\r\nSubject:\r\nDate: never\r\nMessage-ID: \r\n",
            b"Date: Sat, 99 Foo 2026 99:99:99 +9999\r\n",
            b"\xff\xfe\0\0:\0\r\n",
        ] {
            assert_eq!(summary(header), Summary::default(), "{}", header.escape_ascii());
        }
    }

    #[test]
    fn values_are_one_bounded_line() {
        let bell = summary(b"Subject: =?utf-8?Q?a=0D=0AX-Injected:_b=07?=\r\n\r\n");
        assert_eq!(bell.subject, "a  X-Injected: b");
        let long = format!("Subject: {}\r\n\r\n", "s".repeat(VALUE_CHARACTERS + 1));
        assert_eq!(summary(long.as_bytes()).subject.len(), VALUE_CHARACTERS);
    }

    #[test]
    fn fields_beyond_the_bounds_are_not_looked_at() {
        let filled = |n: usize| "X: y\r\n".repeat(n) + "Subject: s\r\n\r\n";
        assert_eq!(summary(filled(HEADER_FIELDS - 1).as_bytes()).subject, "s");
        assert_eq!(summary(filled(HEADER_FIELDS).as_bytes()).subject, "");
        let padded = |n: usize| format!("X: {}\r\nSubject: s\r\n\r\n", "y".repeat(n));
        assert_eq!(summary(padded(HEADER_OCTETS - 30).as_bytes()).subject, "s");
        assert_eq!(summary(padded(HEADER_OCTETS).as_bytes()).subject, "");
        let field = |n: usize| format!("Subject: {}\r\n\r\n", "s".repeat(n - 11));
        assert!(!summary(field(FIELD_OCTETS).as_bytes()).subject.is_empty());
        assert!(summary(field(FIELD_OCTETS + 1).as_bytes()).subject.is_empty());
    }
}
