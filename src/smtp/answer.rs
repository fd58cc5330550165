//! Replies as a client reads them (RFC 5321 4.2): [`Parser`] takes them from the wire, [`Answer`] keeps what one said.
//!
//! # Method
//! One call takes one line from the front of the input. Nothing of the input is kept but the text; a line that is not
//! whole stays with the caller, whose buffer must be able to hold [`LINE_OCTETS`].
//!
//! # Invariants
//! - A reply is decided by its code, whose first digit is 2 to 5; the text is for people. Every line bears the same
//!   code. `250` alone is a whole reply (RFC 5321 4.2.1).
//! - An enhanced status code counts only when its class is the code's (RFC 2034 4).
//! - A line holds at most [`LINE_OCTETS`], a reply at most [`REPLY_LINES`]; more is a fault. Of the text
//!   [`TEXT_OCTETS`] are kept and the rest is dropped, which [`Answer::is_cut`] tells.
//! - A line ends at LF, whether a CR stands before it or not: nothing in a reply can become a command, so a
//!   sloppy peer does no harm here. Octets that are no UTF-8 and control characters become replacement characters.
//! - Same octets, same answer, however the input is cut; each octet is looked at once.

use std::fmt;

use memchr::memchr;

/// Longest line of a reply in octets, line end included (RFC 5321 4.5.3.1.5 says 512; peers exceed it).
pub const LINE_OCTETS: usize = 4096;
/// Most lines of a reply.
pub const REPLY_LINES: u32 = 256;
/// Octets of text that are kept of a reply.
pub const TEXT_OCTETS: usize = 8192;

/// What a peer said, or what the client says in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    code: u16,
    enhanced: Option<(u8, u16, u16)>,
    text: String,
    cut: bool,
}

impl Answer {
    /// An answer of the client's own. Its text begins with the enhanced status code, as a peer's would.
    pub(crate) fn own(code: u16, subject: u16, detail: u16, text: &str) -> Answer {
        let class = u8::try_from(code / 100).unwrap_or(5);
        Answer {
            code,
            enhanced: Some((class, subject, detail)),
            text: format!("{class}.{subject}.{detail} {text}"),
            cut: false,
        }
    }

    /// The code, 200 to 599; 0 when nothing was said yet.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The code's first digit.
    pub fn class(&self) -> u8 {
        u8::try_from(self.code / 100).unwrap_or(0)
    }

    /// The enhanced status code (RFC 3463), when the text began with one of the code's own class.
    pub fn enhanced(&self) -> Option<(u8, u16, u16)> {
        self.enhanced
    }

    /// The text behind the code, its enhanced status code included; lines are divided by LF.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether there was more text than is kept.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Octets of memory that it holds outside itself.
    pub fn memory_bytes(&self) -> usize {
        self.text.capacity()
    }

    fn clear(&mut self) {
        self.code = 0;
        self.enhanced = None;
        self.text.clear();
        self.cut = false;
    }

    fn line(&mut self, text: &[u8], first: bool) {
        if first {
            self.enhanced = enhanced_status(text).filter(|(class, ..)| *class == self.class());
        } else {
            self.push('\n');
        }
        for chunk in text.utf8_chunks() {
            for c in chunk.valid().chars() {
                self.push(if c == '\t' {
                    ' '
                } else if c.is_control() {
                    '?'
                } else {
                    c
                });
            }
            if !chunk.invalid().is_empty() {
                self.push(char::REPLACEMENT_CHARACTER);
            }
        }
    }

    fn push(&mut self, c: char) {
        if self.cut || self.text.len() + c.len_utf8() > TEXT_OCTETS {
            self.cut = true;
        } else {
            self.text.push(c);
        }
    }
}

/// The answer in one line: `550 5.1.1 No such user`; its lines are divided by ` / `.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.code)?;
        for (n, line) in self.text.split('\n').enumerate() {
            let divider = if n == 0 { " " } else { " / " };
            if !self.text.is_empty() {
                write!(f, "{divider}{line}")?;
            }
        }
        Ok(())
    }
}

/// What stands at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// No whole line is here yet. Consume nothing.
    Incomplete,
    /// A line: consume `consumed`; its text is `input[4..4 + text]`. Behind the `last` one [`Parser::answer`] is whole.
    Line {
        /// Octets of the line with its end.
        consumed: usize,
        /// Octets of the text behind code and divider.
        text: usize,
        /// The reply ends with it.
        last: bool,
    },
    /// This is no reply: the conversation cannot go on.
    Fault(Fault),
}

/// Why something is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A line longer than [`LINE_OCTETS`].
    LineTooLong,
    /// A line that does not begin with a code from 200 to 599.
    NoCode,
    /// A line with another code than the one before it.
    CodeChanges,
    /// More lines than [`REPLY_LINES`].
    TooManyLines,
}

impl Fault {
    /// What is wrong, for a person.
    pub const fn text(self) -> &'static str {
        match self {
            Fault::LineTooLong => "a line of a reply is too long",
            Fault::NoCode => "what was said is not an SMTP reply",
            Fault::CodeChanges => "the lines of a reply bear different codes",
            Fault::TooManyLines => "a reply has too many lines",
        }
    }
}

/// Takes replies from a stream.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    answer: Answer,
    /// Lines of the reply so far; 0 when the next line begins one.
    lines: u32,
    /// Octets at the front of the input that hold no line end.
    scanned: usize,
}

impl Parser {
    /// Looks at the front of `input`.
    pub fn next(&mut self, input: &[u8]) -> Parsed {
        let from = self.scanned.min(input.len());
        let window = input.get(from..LINE_OCTETS.min(input.len())).unwrap_or_default();
        let Some(at) = memchr(b'\n', window).map(|n| from + n) else {
            if input.len() >= LINE_OCTETS {
                return Parsed::Fault(Fault::LineTooLong);
            }
            self.scanned = input.len();
            return Parsed::Incomplete;
        };
        self.scanned = 0;
        let line = input.get(..at).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some((code, last, text)) = split(line) else { return Parsed::Fault(Fault::NoCode) };
        if self.lines == 0 {
            self.answer.clear();
            self.answer.code = code;
        } else if self.answer.code != code {
            return Parsed::Fault(Fault::CodeChanges);
        } else if self.lines >= REPLY_LINES {
            return Parsed::Fault(Fault::TooManyLines);
        }
        self.answer.line(text, self.lines == 0);
        self.lines = if last { 0 } else { self.lines + 1 };
        Parsed::Line { consumed: at + 1, text: text.len(), last }
    }

    /// The reply whose last line was taken; before that, what is known of it.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// Whether a reply has begun and its last line is still to come.
    pub fn is_inside(&self) -> bool {
        self.lines > 0
    }

    /// Forgets a reply that has begun: what comes next begins another.
    pub fn reset(&mut self) {
        self.lines = 0;
        self.scanned = 0;
    }
}

/// Code, whether it is the last line, and text.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (code, rest) = line.split_at_checked(3)?;
    if !code.iter().all(u8::is_ascii_digit) || !matches!(code.first(), Some(b'2'..=b'5')) {
        return None;
    }
    let code = code.iter().fold(0, |n, digit| n * 10 + u16::from(digit - b'0'));
    match rest.split_first() {
        None => Some((code, true, rest)),
        Some((b' ', text)) => Some((code, true, text)),
        Some((b'-', text)) => Some((code, false, text)),
        Some(_) => None,
    }
}

/// The enhanced status code at the front of a text (RFC 3463 2): `5.1.1` and then a space or nothing.
fn enhanced_status(text: &[u8]) -> Option<(u8, u16, u16)> {
    let end = memchr(b' ', text).unwrap_or(text.len());
    let mut parts = text.get(..end)?.split(|b| *b == b'.').map(|part| {
        let plain = matches!(part.len(), 1..=3) && part.iter().all(u8::is_ascii_digit);
        plain.then(|| part.iter().fold(0u16, |n, digit| n * 10 + u16::from(digit - b'0')))
    });
    let (class, subject, detail) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    Some((u8::try_from(class).ok()?, subject, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All replies of a stream that comes in pieces of `size` octets, and the fault that ended it.
    fn read(stream: &[u8], size: usize) -> (Vec<String>, Option<Fault>) {
        let (mut parser, mut buffer, mut replies) = (Parser::default(), Vec::new(), Vec::new());
        for piece in stream.chunks(size) {
            buffer.extend_from_slice(piece);
            loop {
                match parser.next(&buffer) {
                    Parsed::Incomplete => break,
                    Parsed::Fault(fault) => return (replies, Some(fault)),
                    Parsed::Line { consumed, text, last } => {
                        assert!(text + 4 <= consumed || text == 0);
                        buffer.drain(..consumed);
                        if last {
                            let answer = parser.answer();
                            replies.push(format!("{answer} {:?}", answer.enhanced()));
                        }
                    }
                }
            }
        }
        (replies, None)
    }

    fn every_cut(stream: &[u8]) -> (Vec<String>, Option<Fault>) {
        let whole = read(stream, stream.len());
        for size in 1..stream.len() {
            assert_eq!(read(stream, size), whole, "{} by {size}", stream.escape_ascii());
        }
        whole
    }

    #[test]
    fn replies_are_read_however_they_are_cut() {
        let stream = b"220 mx ready\r\n250-mx\r\n250-SIZE\r\n250 \r\n250\r\n550-5.1.1 No\n550 such user\n354 go\r\n";
        let (replies, fault) = every_cut(stream);
        assert_eq!(
            replies,
            [
                "220 mx ready None",
                "250 mx / SIZE /  None",
                "250 None",
                "550 5.1.1 No / such user Some((5, 1, 1))",
                "354 go None"
            ]
        );
        assert_eq!(fault, None);
    }

    #[test]
    fn the_class_of_the_enhanced_code_must_be_the_replys() {
        for (line, wanted) in [
            ("550 5.7.1 no\r\n", Some((5, 7, 1))),
            ("550 5.7.123\r\n", Some((5, 7, 123))),
            ("450 5.7.1 no\r\n", None),
            ("250 2.1.5.1 no\r\n", None),
            ("550 5.7.1234 no\r\n", None),
            ("550 5.7 no\r\n", None),
            ("550 5..1 no\r\n", None),
            ("550  5.1.1 no\r\n", None),
        ] {
            let mut parser = Parser::default();
            assert!(matches!(parser.next(line.as_bytes()), Parsed::Line { last: true, .. }));
            assert_eq!(parser.answer().enhanced(), wanted, "{line}");
        }
    }

    #[test]
    fn what_is_no_reply_is_a_fault() {
        for (stream, fault) in [
            ("hello\r\n", Fault::NoCode),
            ("\r\n", Fault::NoCode),
            ("25\r\n", Fault::NoCode),
            ("2500 x\r\n", Fault::NoCode),
            ("150 x\r\n", Fault::NoCode),
            ("650 x\r\n", Fault::NoCode),
            ("25a x\r\n", Fault::NoCode),
            ("250\tx\r\n", Fault::NoCode),
            ("250-a\r\n251 b\r\n", Fault::CodeChanges),
            ("250-a\r\nb\r\n", Fault::NoCode),
        ] {
            assert_eq!(every_cut(stream.as_bytes()), (vec![], Some(fault)), "{stream}");
        }
    }

    #[test]
    fn a_line_at_its_limit_passes_and_one_octet_more_is_a_fault() {
        let line = |length: usize| format!("250 {}\r\n", "x".repeat(length - 6)).into_bytes();
        assert_eq!(read(&line(LINE_OCTETS), 1000).1, None);
        for size in [1, 1000, usize::MAX] {
            let size = size.min(LINE_OCTETS + 1);
            let stream = line(LINE_OCTETS + 1);
            assert_eq!(read(&stream, size), (vec![], Some(Fault::LineTooLong)));
        }
    }

    #[test]
    fn a_reply_of_the_most_lines_passes_and_one_more_is_a_fault() {
        let reply = |lines: u32| {
            (1..lines).map(|n| format!("250-{n}\r\n")).collect::<String>() + "250 end\r\n"
        };
        assert_eq!(read(reply(REPLY_LINES).as_bytes(), 100).1, None);
        let more = reply(REPLY_LINES + 1);
        assert_eq!(read(more.as_bytes(), 100), (vec![], Some(Fault::TooManyLines)));
    }

    #[test]
    fn text_beyond_its_limit_is_dropped_and_said_so() {
        let line = format!("550-{}\r\n", "x".repeat(1000));
        let exact = "x".repeat(TEXT_OCTETS % 1001);
        let mut stream = line.repeat(TEXT_OCTETS / 1001);
        let mut parser = Parser::default();
        for tail in [format!("550 {exact}\r\n"), format!("550 {exact}y\r\n")] {
            let kept = stream.clone();
            stream.push_str(&tail);
            let mut rest = stream.as_bytes();
            while let Parsed::Line { consumed, .. } = parser.next(rest) {
                rest = &rest[consumed..];
            }
            assert_eq!(parser.answer().text().len(), TEXT_OCTETS);
            assert_eq!(parser.answer().is_cut(), tail.contains('y'));
            stream = kept;
        }
    }

    #[test]
    fn control_characters_and_stray_octets_become_harmless() {
        let mut parser = Parser::default();
        parser.next(b"550 a\0b\x1b[1m\tc\rd\xffe\xc3\xa9\r\n");
        assert_eq!(parser.answer().text(), "a?b?[1m c?d\u{fffd}e\u{e9}");
    }
}
