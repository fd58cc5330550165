//! Command lines: where one ends, and what is no line at all.
//!
//! A line ends at CR LF and nowhere else (RFC 5321 2.3.8). A CR without LF, an LF without CR, and a line longer than
//! its limit make the line refused: it is reported once, as soon as it is seen, and everything up to the next CR LF
//! is dropped. So neither the tail of a long line nor what follows a bare LF is ever taken for a command.
//!
//! The framer buffers nothing. A line that is not whole yet stays in the caller's buffer, which must be able to hold
//! the limit's octets. It remembers how far it has looked, so a line that arrives octet by octet is looked at once.

use memchr::memchr2;

/// Finds the lines in a stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Framer {
    /// Octets at the front of the input that hold neither CR nor LF.
    scanned: usize,
    /// Inside a refused line: drop up to and including the next CR LF.
    skipping: bool,
}

/// What stands at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A line of so many octets, its end not counted. The caller consumes `length + end` octets.
    Line {
        /// Octets before the line's end.
        length: usize,
        /// Octets of the line's end: 2, or 1 where a bare LF may stand for CR LF.
        end: usize,
    },
    /// `skip` octets belong to a refused line and are done with; of what is left, the line's end is not here yet.
    Incomplete {
        /// Octets to consume.
        skip: usize,
    },
    /// `skip` octets end a refused line; look again behind them.
    Skipped {
        /// Octets to consume.
        skip: usize,
    },
    /// The line is refused. Nothing is consumed; the next frames drop it.
    Refused(Fault),
}

/// Why a line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No CR LF within the limit.
    TooLong,
    /// A CR that no LF follows.
    BareCr,
    /// An LF that no CR precedes.
    BareLf,
}

impl Framer {
    /// Looks at the front of `input`. `limit` is the longest line in octets with its CR LF.
    ///
    /// The answer depends on the octets alone, never on how they were cut into inputs.
    pub fn next(&mut self, input: &[u8], limit: usize) -> Frame {
        self.find(input, limit, false)
    }

    /// As [`Framer::next`], but a bare LF ends a line too: for old peers that one trusts.
    pub fn next_lenient(&mut self, input: &[u8], limit: usize) -> Frame {
        self.find(input, limit, true)
    }

    fn find(&mut self, input: &[u8], limit: usize, bare_lf: bool) -> Frame {
        if self.skipping {
            return self.skip(input, bare_lf);
        }
        let from = self.scanned.min(input.len());
        let window = input.get(from..limit.min(input.len())).unwrap_or_default();
        match memchr2(b'\r', b'\n', window) {
            Some(n) => {
                let at = from + n;
                self.scanned = at;
                if window.get(n) == Some(&b'\n') {
                    if bare_lf {
                        self.scanned = 0;
                        return Frame::Line { length: at, end: 1 };
                    }
                    return self.refuse(Fault::BareLf);
                }
                match input.get(at + 1) {
                    // The CR is the limit's last octet: its LF would be one too many.
                    Some(b'\n') if at + 2 > limit => self.refuse(Fault::TooLong),
                    Some(b'\n') => {
                        self.scanned = 0;
                        Frame::Line { length: at, end: 2 }
                    }
                    Some(_) => self.refuse(Fault::BareCr),
                    None => Frame::Incomplete { skip: 0 },
                }
            }
            None if input.len() >= limit => self.refuse(Fault::TooLong),
            None => {
                self.scanned = input.len();
                Frame::Incomplete { skip: 0 }
            }
        }
    }

    /// Whether the rest of a refused line is being dropped.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    fn refuse(&mut self, fault: Fault) -> Frame {
        self.scanned = 0;
        self.skipping = true;
        Frame::Refused(fault)
    }

    fn skip(&mut self, input: &[u8], bare_lf: bool) -> Frame {
        if bare_lf {
            return match memchr::memchr(b'\n', input) {
                Some(at) => {
                    self.skipping = false;
                    Frame::Skipped { skip: at + 1 }
                }
                None => Frame::Incomplete { skip: input.len() },
            };
        }
        match memchr::memmem::find(input, b"\r\n") {
            Some(at) => {
                self.skipping = false;
                Frame::Skipped { skip: at + 2 }
            }
            // A CR at the end may be the first half of CR LF: it stays.
            None => {
                let half = usize::from(input.last() == Some(&b'\r'));
                Frame::Incomplete { skip: input.len() - half }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines and faults of a stream that comes in pieces of `size` octets.
    fn frames(stream: &[u8], limit: usize, size: usize) -> Vec<String> {
        let mut framer = Framer::default();
        let (mut seen, mut buffer) = (Vec::new(), Vec::new());
        for piece in stream.chunks(size) {
            buffer.extend_from_slice(piece);
            loop {
                match framer.next(&buffer, limit) {
                    Frame::Line { length, end } => {
                        seen.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                        buffer.drain(..length + end);
                    }
                    Frame::Refused(fault) => seen.push(format!("{fault:?}")),
                    Frame::Skipped { skip } => drop(buffer.drain(..skip)),
                    Frame::Incomplete { skip } => {
                        buffer.drain(..skip);
                        break;
                    }
                }
            }
            assert!(buffer.len() <= limit, "the caller holds more than the limit");
        }
        seen
    }

    #[test]
    fn lines_and_faults_do_not_depend_on_the_cuts() {
        let cases: [(&[u8], &[&str]); 9] = [
            (b"NOOP\r\nQUIT\r\n", &["NOOP", "QUIT"]),
            (b"\r\n\r\n", &["", ""]),
            (b"NOOP\nQUIT\r\nRSET\r\n", &["BareLf", "RSET"]),
            (b"NOOP\n\r\nRSET\r\n", &["BareLf", "RSET"]),
            (b"NO\rOP\r\nRSET\r\n", &["BareCr", "RSET"]),
            (b"NOOP\r\r\nRSET\r\n", &["BareCr", "RSET"]),
            (b"12345678\r\nRSET\r\n", &["12345678", "RSET"]),
            (b"123456789\r\nRSET\r\n", &["TooLong", "RSET"]),
            (b"123456789abcdefgh\rQUIT\nQUIT\r\nRSET\r\n", &["TooLong", "RSET"]),
        ];
        for (stream, expected) in cases {
            for size in 1..=stream.len() {
                assert_eq!(
                    frames(stream, 10, size),
                    expected,
                    "{} by {size}",
                    stream.escape_ascii()
                );
            }
        }
    }
}
