//! Sending a message: dot-stuffing (RFC 1939 3), and where TOP ends (RFC 1939 7).
//!
//! A message comes in pieces that are cut anywhere. A line that begins with a dot gets one more, wherever the cut
//! is; the end gets CR LF if the message has none, and the line with the lone dot.
//!
//! Lines end in CR LF. An LF without CR is not expected in a stored message, yet many clients would take it for
//! the end of a line, and a dot behind it for the end of the message: what follows would pass as our replies. So a
//! dot behind any LF is stuffed.

use memchr::{memchr, memmem};

/// What was sent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    Nothing,
    Cr,
    CrLf,
    /// An LF without CR.
    Lf,
    Other,
}

/// How much of a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// All of it.
    Whole,
    /// The header, then so many lines. `line` counts the octets of the line so far, and stops at 2.
    Header { lines: u64, line: u8 },
    /// So many lines more.
    Lines(u64),
    /// Nothing more.
    Enough,
}

/// Sends one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer {
    tail: Tail,
    extent: Extent,
}

impl Writer {
    /// For RETR.
    pub(super) const fn whole() -> Writer {
        Writer { tail: Tail::Nothing, extent: Extent::Whole }
    }

    /// For TOP: the header, the empty line behind it, and `lines` lines of the body.
    pub(super) const fn top(lines: u64) -> Writer {
        Writer { tail: Tail::Nothing, extent: Extent::Header { lines, line: 0 } }
    }

    /// Whether more of the message is not wanted.
    pub(super) fn has_enough(&self) -> bool {
        self.extent == Extent::Enough
    }

    /// Appends a piece of the message to `out`. What lies beyond the extent is left out.
    pub(super) fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let piece = match self.extent {
            Extent::Whole => piece,
            _ => piece.get(..self.measure(piece)).unwrap_or(piece),
        };
        let (Some(first), Some(last)) = (piece.first(), piece.last()) else { return };
        if *first == b'.' && matches!(self.tail, Tail::Nothing | Tail::CrLf | Tail::Lf) {
            out.push(b'.');
        }
        let mut rest = piece;
        while let Some(at) = memmem::find(rest, b"\n.") {
            let (line, next) = rest.split_at(at + 1);
            out.extend_from_slice(line);
            out.push(b'.');
            rest = next;
        }
        out.extend_from_slice(rest);
        let before = match piece {
            [.., before, _] => *before == b'\r',
            _ => self.tail == Tail::Cr,
        };
        self.tail = match (last, before) {
            (b'\n', true) => Tail::CrLf,
            (b'\n', false) => Tail::Lf,
            (b'\r', _) => Tail::Cr,
            _ => Tail::Other,
        };
    }

    /// Ends the message: CR LF if it has none at its end, and the lone dot.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.tail, Tail::Nothing | Tail::CrLf) {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }

    /// How many octets of a piece belong to the extent; takes them off it.
    fn measure(&mut self, piece: &[u8]) -> usize {
        let mut taken = 0;
        loop {
            let rest = piece.get(taken..).unwrap_or_default();
            let end = memchr(b'\n', rest);
            match (&mut self.extent, end) {
                (Extent::Whole, _) => return piece.len(),
                (Extent::Enough, _) => return taken,
                (Extent::Header { line, .. }, None) => {
                    let more = u8::try_from(rest.len()).unwrap_or(u8::MAX);
                    // One octet alone may be the CR of an empty line. Two cannot, nor can another octet.
                    *line = if rest == b"\r" && *line == 0 {
                        1
                    } else {
                        line.saturating_add(more.saturating_mul(2))
                    };
                    return piece.len();
                }
                (Extent::Header { lines, line }, Some(at)) => {
                    let empty = match *line {
                        0 => at == 0 || rest.get(..at) == Some(b"\r"),
                        1 => at == 0,
                        _ => false,
                    };
                    *line = 0;
                    if empty {
                        let lines = *lines;
                        self.extent =
                            if lines == 0 { Extent::Enough } else { Extent::Lines(lines) };
                    }
                    taken += at + 1;
                }
                (Extent::Lines(_), None) => return piece.len(),
                (Extent::Lines(lines), Some(at)) => {
                    *lines -= 1;
                    if *lines == 0 {
                        self.extent = Extent::Enough;
                    }
                    taken += at + 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message as it is sent when it comes in pieces of `size` octets; a writer that has enough gets no more.
    fn send(writer: Writer, message: &[u8], size: usize) -> Vec<u8> {
        let (mut writer, mut out) = (writer, Vec::new());
        for piece in message.chunks(size) {
            if writer.has_enough() {
                break;
            }
            writer.write(piece, &mut out);
        }
        writer.finish(&mut out);
        out
    }

    #[track_caller]
    fn sends(writer: Writer, message: &[u8], expected: &[u8]) {
        for size in 1..=message.len().max(1) {
            let out = send(writer, message, size);
            assert_eq!(
                out.escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "in pieces of {size}"
            );
        }
    }

    #[test]
    fn dots_at_the_start_of_lines_are_doubled_wherever_the_cut_is() {
        sends(Writer::whole(), b"a\r\n.\r\n..b\r\nc.d\r\n", b"a\r\n..\r\n...b\r\nc.d\r\n.\r\n");
        sends(Writer::whole(), b".\r\n.\r\n", b"..\r\n..\r\n.\r\n");
        sends(Writer::whole(), b".", b"..\r\n.\r\n");
        sends(Writer::whole(), b"a\r\n\r\n.x\r\n", b"a\r\n\r\n..x\r\n.\r\n");
    }

    #[test]
    fn the_end_gets_cr_lf_when_the_message_has_none() {
        sends(Writer::whole(), b"", b".\r\n");
        sends(Writer::whole(), b"a", b"a\r\n.\r\n");
        sends(Writer::whole(), b"a\r\n", b"a\r\n.\r\n");
        sends(Writer::whole(), b"a\r", b"a\r\r\n.\r\n");
        sends(Writer::whole(), b"a\n", b"a\n\r\n.\r\n");
        sends(Writer::whole(), b"\r\n", b"\r\n.\r\n");
    }

    #[test]
    fn a_dot_behind_a_bare_lf_cannot_end_the_message() {
        sends(Writer::whole(), b"a\n.\r\nb\r\n", b"a\n..\r\nb\r\n.\r\n");
        sends(Writer::whole(), b"a\r.\r\n", b"a\r.\r\n.\r\n");
    }

    #[test]
    fn top_is_the_header_and_so_many_lines() {
        let message = b"A: 1\r\nB: 2\r\n\r\none\r\n.two\r\n\r\nfour";
        sends(Writer::top(0), message, b"A: 1\r\nB: 2\r\n\r\n.\r\n");
        sends(Writer::top(1), message, b"A: 1\r\nB: 2\r\n\r\none\r\n.\r\n");
        sends(Writer::top(2), message, b"A: 1\r\nB: 2\r\n\r\none\r\n..two\r\n.\r\n");
        sends(Writer::top(3), message, b"A: 1\r\nB: 2\r\n\r\none\r\n..two\r\n\r\n.\r\n");
        let whole = b"A: 1\r\nB: 2\r\n\r\none\r\n..two\r\n\r\nfour\r\n.\r\n";
        sends(Writer::top(4), message, whole);
        sends(Writer::top(u64::MAX), message, whole);
    }

    #[test]
    fn top_of_messages_without_header_or_body() {
        sends(Writer::top(0), b"", b".\r\n");
        sends(Writer::top(0), b"\r\nbody\r\n", b"\r\n.\r\n");
        sends(Writer::top(1), b"\r\nbody\r\nmore\r\n", b"\r\nbody\r\n.\r\n");
        sends(Writer::top(5), b"A: 1\r\n", b"A: 1\r\n.\r\n");
        sends(Writer::top(0), b"A: 1\r\nx\r\r\n\r\nbody", b"A: 1\r\nx\r\r\n\r\n.\r\n");
        sends(Writer::top(0), b"a\r\n\rb\r\n\r\nbody", b"a\r\n\rb\r\n\r\n.\r\n");
        sends(Writer::top(0), b"A: 1\n\nbody\n", b"A: 1\n\n\r\n.\r\n");
    }
}
