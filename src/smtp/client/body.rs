//! A message on its way out: line ends made CR LF, then dots stuffed, in that order (RFC 5321 2.3.8, 4.5.2).
//!
//! The message comes in pieces that are cut anywhere; the state over a cut is what the last octet was. A CR at a piece's end is
//! held back until the octet behind it shows whether it was a line's end. No bare CR and no bare LF is ever sent: each
//! becomes CR LF, or is a fault, as configured. A NUL is a fault always: it may stand in a binary message only (RFC 5321
//! 4.5.2 leaves it out of text, and receivers cut texts at it).

use memchr::memchr3;

/// What happens to a CR or an LF that stands alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineEnds {
    /// It becomes CR LF.
    #[default]
    Normalise,
    /// The message is not sent: 554 5.6.0, permanent.
    Refuse,
}

/// What no text may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A CR or an LF alone, where the configuration refuses them.
    LineEnd,
    Nul,
}

/// What was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// Nothing, or a line's end.
    LineStart,
    /// A CR came and is not written yet.
    Cr,
    Other,
}

/// Writes one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoder {
    line_ends: LineEnds,
    /// For DATA.
    dots: bool,
    /// Octets pass as they are.
    exact: bool,
    tail: Tail,
}

impl Encoder {
    /// For DATA.
    pub(super) const fn dotted(line_ends: LineEnds) -> Encoder {
        Encoder { line_ends, dots: true, exact: false, tail: Tail::LineStart }
    }

    /// For BDAT. `binary`: nothing is touched.
    pub(super) const fn counted(line_ends: LineEnds, binary: bool) -> Encoder {
        Encoder { line_ends, dots: false, exact: binary, tail: Tail::LineStart }
    }

    /// Appends a piece of the message. After a fault nothing more can be written.
    pub(super) fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.exact {
            out.extend_from_slice(piece);
            return Ok(());
        }
        let mut rest = piece;
        if self.tail == Tail::Cr && !rest.is_empty() {
            match rest.strip_prefix(b"\n") {
                Some(behind) => {
                    rest = behind;
                    self.line_end(out);
                }
                None => self.bare(out)?,
            }
        }
        while let Some(first) = rest.first() {
            if self.dots && self.tail == Tail::LineStart && *first == b'.' {
                out.push(b'.');
            }
            let Some(at) = memchr3(b'\r', b'\n', 0, rest) else {
                out.extend_from_slice(rest);
                self.tail = Tail::Other;
                break;
            };
            let (line, behind) = rest.split_at(at);
            out.extend_from_slice(line);
            rest = match behind {
                [b'\r', b'\n', behind @ ..] => {
                    self.line_end(out);
                    behind
                }
                [b'\r'] => {
                    self.tail = Tail::Cr;
                    break;
                }
                [b'\r' | b'\n', behind @ ..] => {
                    self.bare(out)?;
                    behind
                }
                _ => return Err(Fault::Nul),
            };
        }
        Ok(())
    }

    /// The message is whole: a line that has no end gets one. For DATA the lone dot follows.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self.tail {
            Tail::LineStart => {}
            Tail::Cr => self.bare(out)?,
            Tail::Other => self.line_end(out),
        }
        if self.dots {
            out.extend_from_slice(b".\r\n");
        }
        Ok(())
    }

    fn line_end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.tail = Tail::LineStart;
    }

    fn bare(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self.line_ends {
            LineEnds::Normalise => {
                self.line_end(out);
                Ok(())
            }
            LineEnds::Refuse => Err(Fault::LineEnd),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(encoder: Encoder, text: &[u8], size: usize) -> Result<String, Fault> {
        let (mut encoder, mut out) = (encoder, Vec::new());
        for piece in text.chunks(size) {
            encoder.write(piece, &mut out)?;
        }
        encoder.finish(&mut out)?;
        Ok(out.escape_ascii().to_string())
    }

    fn every_cut(encoder: Encoder, text: &[u8]) -> Result<String, Fault> {
        let whole = encode(encoder, text, text.len().max(1));
        for size in 1..text.len().max(1) {
            assert_eq!(encode(encoder, text, size), whole, "{} by {size}", text.escape_ascii());
        }
        whole
    }

    #[test]
    fn line_ends_are_made_whole_and_then_dots_are_stuffed_at_every_cut() {
        let encoder = Encoder::dotted(LineEnds::Normalise);
        for (text, wire) in [
            ("", ".\\r\\n"),
            (".", "..\\r\\n.\\r\\n"),
            ("a", "a\\r\\n.\\r\\n"),
            ("a\r\n", "a\\r\\n.\\r\\n"),
            ("a\r\n.\r\nb\r\n", "a\\r\\n..\\r\\nb\\r\\n.\\r\\n"),
            ("a\r\n..\r\n.b", "a\\r\\n...\\r\\n..b\\r\\n.\\r\\n"),
            ("a\n.\nb\n", "a\\r\\n..\\r\\nb\\r\\n.\\r\\n"),
            ("a\r.\rb\r", "a\\r\\n..\\r\\nb\\r\\n.\\r\\n"),
            ("a\r\r\n.\r\n", "a\\r\\n\\r\\n..\\r\\n.\\r\\n"),
            ("a\n\r\n.\r", "a\\r\\n\\r\\n..\\r\\n.\\r\\n"),
            ("a.b\r\n", "a.b\\r\\n.\\r\\n"),
        ] {
            assert_eq!(every_cut(encoder, text.as_bytes()).as_deref(), Ok(wire), "{text:?}");
        }
    }

    #[test]
    fn bare_line_ends_can_be_refused_and_nul_always_is() {
        let strict = Encoder::dotted(LineEnds::Refuse);
        for text in ["a\nb", "a\rb", "a\r", "\n", "a\r\r\n"] {
            assert_eq!(every_cut(strict, text.as_bytes()), Err(Fault::LineEnd), "{text:?}");
        }
        assert_eq!(every_cut(strict, b"a\r\nb").as_deref(), Ok("a\\r\\nb\\r\\n.\\r\\n"));
        for encoder in [strict, Encoder::dotted(LineEnds::Normalise)] {
            assert_eq!(every_cut(encoder, b"a\0b"), Err(Fault::Nul));
        }
    }

    #[test]
    fn chunks_have_no_dots_and_binary_passes_untouched() {
        let text = Encoder::counted(LineEnds::Normalise, false);
        assert_eq!(every_cut(text, b".\n..x").as_deref(), Ok(".\\r\\n..x\\r\\n"));
        let binary = Encoder::counted(LineEnds::Refuse, true);
        assert_eq!(every_cut(binary, b".\n\0\r.x\xff").as_deref(), Ok(".\\n\\x00\\r.x\\xff"));
    }
}
