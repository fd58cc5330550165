//! Replies (RFC 5321 4.2) with enhanced status codes (RFC 2034, RFC 3463).
//!
//! [`Reply`] is what a caller says; [`write()`] is the one place where a reply becomes octets. Whatever the text holds
//! (a policy's words, an address that a peer chose), the wire sees whole lines of at most [`LINE_OCTETS`], printable,
//! with the same code on every line, and an enhanced code whose class is the code's.

/// Longest reply line in octets, CR LF included (RFC 5321 4.5.3.1.5).
pub const LINE_OCTETS: usize = 512;
/// Longest text of a reply in octets; what is beyond is cut off.
pub const TEXT_OCTETS: usize = 4096;

/// A reply, borrowed. The text may have several lines, divided by `\n`; CR, LF and control characters in
/// it never reach the wire as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// 200 to 599.
    pub code: u16,
    /// Class, subject, detail; the class must be the code's first digit. `None`: none is sent.
    pub enhanced: Option<(u8, u16, u16)>,
    /// The text after the codes.
    pub text: &'a str,
}

impl<'a> Reply<'a> {
    /// A reply with an enhanced status code whose class is the code's.
    pub const fn new(code: u16, subject: u16, detail: u16, text: &'a str) -> Reply<'a> {
        Reply { code, enhanced: Some(((code / 100) as u8, subject, detail)), text }
    }

    /// A reply without an enhanced status code.
    pub const fn bare(code: u16, text: &'a str) -> Reply<'a> {
        Reply { code, enhanced: None, text }
    }

    /// The code's first digit.
    pub const fn class(&self) -> u16 {
        self.code / 100
    }
}

/// Appends the reply's lines to `out`. `host` stands before the first line's text when it is not empty. Characters
/// beyond ASCII pass only with `utf8` (RFC 6531 3.7.4.1), otherwise each becomes `?`, as control characters do.
pub fn write(out: &mut Vec<u8>, reply: &Reply<'_>, host: &str, utf8: bool) {
    if !host.is_empty() || !write_plain(out, reply) {
        write_any(out, reply, host, utf8);
    }
}

/// Writes the reply that nearly every reply is: one short line of printable ASCII. `false`: it is another.
fn write_plain(out: &mut Vec<u8>, reply: &Reply<'_>) -> bool {
    let text = reply.text.as_bytes();
    // Without a branch inside, this is a few vector instructions.
    let odd = text.iter().fold(false, |odd, b| odd | !matches!(b, b' '..=b'~'));
    let short = text.len() <= LINE_OCTETS - 16 && text.last().is_some_and(|&b| b != b' ');
    if odd || !short || !(200..600).contains(&reply.code) {
        return false;
    }
    let digit = |n: u16| b'0' | u8::try_from(n % 10).unwrap_or(0);
    let code = [digit(reply.code / 100), digit(reply.code / 10), digit(reply.code)];
    let [class, tens, ones] = code;
    match reply.enhanced.filter(|_| class != b'3') {
        None => out.extend_from_slice(&[class, tens, ones, b' ']),
        Some((_, subject @ 0..=9, detail @ 0..=9)) => {
            let (subject, detail) = (digit(subject), digit(detail));
            let front = [class, tens, ones, b' ', class, b'.', subject, b'.', detail, b' '];
            out.extend_from_slice(&front);
        }
        Some(_) => return false,
    }
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
    true
}

/// Writes any reply.
fn write_any(out: &mut Vec<u8>, reply: &Reply<'_>, host: &str, utf8: bool) {
    // A class 3 reply carries no enhanced code (RFC 2034 4).
    let enhanced = reply.enhanced.filter(|_| reply.class() != 3);
    let cut = reply.text.floor_char_boundary(TEXT_OCTETS);
    let text = reply.text.get(..cut).unwrap_or_default();
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut host = host;
    let mut lines = text.split('\n').peekable();
    while let Some(mut line) = lines.next() {
        loop {
            let start = out.len();
            number(out, reply.code.clamp(200, 599));
            let mark = out.len();
            out.push(b' ');
            if let Some((_, subject, detail)) = enhanced {
                number(out, reply.class());
                out.push(b'.');
                number(out, subject.min(999));
                out.push(b'.');
                number(out, detail.min(999));
                out.push(b' ');
            }
            if !host.is_empty() {
                out.extend_from_slice(host.as_bytes());
                out.push(b' ');
                host = "";
            }
            let room = LINE_OCTETS.saturating_sub(2 + out.len() - start).max(4);
            let (now, later) = line.split_at(line.floor_char_boundary(room));
            if now.bytes().all(|b| matches!(b, b' '..=b'~')) {
                out.extend_from_slice(now.as_bytes());
            } else {
                push_printable(out, now, utf8);
            }
            while out.len() > mark + 1 && out.last() == Some(&b' ') {
                out.pop();
            }
            out.extend_from_slice(b"\r\n");
            if (!later.is_empty() || lines.peek().is_some())
                && let Some(divider) = out.get_mut(mark)
            {
                *divider = b'-';
            }
            line = later;
            if line.is_empty() {
                break;
            }
        }
    }
}

fn push_printable(out: &mut Vec<u8>, text: &str, utf8: bool) {
    for character in text.chars() {
        if matches!(character, ' '..='~')
            || (utf8 && !character.is_ascii() && !character.is_control())
        {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            // A CR before the LF that divides lines is no character to show.
            if character != '\r' {
                out.push(b'?');
            }
        }
    }
}

/// A number of up to three digits.
fn number(out: &mut Vec<u8>, value: u16) {
    let digit = |n: u16| b'0' + u8::try_from(n % 10).unwrap_or(0);
    if value >= 100 {
        out.push(digit(value / 100));
    }
    if value >= 10 {
        out.push(digit(value / 10));
    }
    out.push(digit(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reply: Reply<'_>, utf8: bool) -> String {
        let mut out = Vec::new();
        write(&mut out, &reply, "", utf8);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn every_line_has_the_codes_and_only_the_last_a_space() {
        let reply = Reply::new(550, 1, 1, "No such user\nAsk postmaster\n");
        assert_eq!(text(reply, false), "550-5.1.1 No such user\r\n550 5.1.1 Ask postmaster\r\n");
        assert_eq!(text(Reply::bare(220, "hi"), false), "220 hi\r\n");
        assert_eq!(text(Reply::bare(250, ""), false), "250 \r\n");
        assert_eq!(text(Reply::new(250, 0, 0, ""), false), "250 2.0.0\r\n");
        assert_eq!(text(Reply::new(354, 0, 0, "go"), false), "354 go\r\n");
    }

    #[test]
    fn the_class_is_the_codes_and_numbers_stay_in_their_bounds() {
        let wrong = Reply { code: 450, enhanced: Some((5, 7, 65_535)), text: "x" };
        assert_eq!(text(wrong, false), "450 4.7.999 x\r\n");
        assert_eq!(text(Reply::bare(7, "x"), false), "200 x\r\n");
        assert_eq!(text(Reply::bare(65_535, "x"), false), "599 x\r\n");
    }

    #[test]
    fn short_replies_are_written_as_any_other() {
        let texts = ["Ok", "", " ", "a b", "end ", "tab\t", "a\nb", "\u{e9}", "~", "x\x7f"];
        let long = "x".repeat(LINE_OCTETS - 16);
        let longer = "x".repeat(LINE_OCTETS - 15);
        for text in texts.into_iter().chain([long.as_str(), longer.as_str()]) {
            for code in [7, 199, 200, 250, 354, 421, 599, 600] {
                for enhanced in [None, Some((2, 0, 0)), Some((5, 7, 10)), Some((4, 9, 9))] {
                    let reply = Reply { code, enhanced, text };
                    let (mut short, mut any) = (Vec::new(), Vec::new());
                    write(&mut short, &reply, "", false);
                    write_any(&mut any, &reply, "", false);
                    assert_eq!(short.escape_ascii().to_string(), any.escape_ascii().to_string());
                }
            }
        }
    }

    #[test]
    fn line_ends_and_control_characters_cannot_be_injected() {
        let reply = Reply::bare(550, "a\r\n250 b\rc\0d\x7f\u{85}\u{e9}");
        assert_eq!(text(reply, false), "550-a\r\n550 250 bc?d???\r\n");
        assert_eq!(text(reply, true), "550-a\r\n550 250 bc?d??\u{e9}\r\n");
    }

    #[test]
    fn long_text_is_divided_at_the_line_limit_and_cut_at_the_text_limit() {
        let long = "\u{e9}".repeat(TEXT_OCTETS);
        let lines = text(Reply::new(550, 1, 1, &long), true);
        let lines: Vec<_> = lines.split_inclusive("\r\n").collect();
        assert!(lines.iter().all(|l| l.len() <= LINE_OCTETS && l.starts_with("550")), "{lines:?}");
        assert!(lines.iter().rev().skip(1).all(|l| l.len() >= LINE_OCTETS - 2));
        assert!(lines.last().is_some_and(|l| l.starts_with("550 ")));
        let total: usize = lines.iter().map(|l| l.len() - "550-5.1.1 \r\n".len()).sum();
        assert_eq!(total, TEXT_OCTETS);
    }
}
