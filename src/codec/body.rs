//! Message bodies on the wire: [`Decoder`] for DATA (RFC 5321 4.1.1.4, 4.5.2), [`Exact`] for BDAT (RFC 3030 2).
//!
//! For DATA, only CR LF `.` CR LF ends the body, where the CR LF of the DATA line itself counts as the first: an empty message
//! is `.` CR LF alone. A dot at the start of a line that holds more is removed. A CR without LF, an LF without CR and
//! a NUL make the body faulty, wherever they stand; the decoder says so and can be asked to go on looking for the
//! end, by the same rule, so a `.` between bare line ends never ends anything (CVE-2023-51764 and its kin).
//!
//! For old clients that one trusts the DATA decoder can be lenient: a bare LF ends a line of text, which is reported as a
//! line end to put in its place. It never takes part in the end of the body: a dot alone behind a bare LF, or before one,
//! is text.
//!
//! The DATA decoder copies nothing and holds no octets. Its whole memory is whether a line starts here, and behind what. What cannot
//! be decided yet (a CR at the end of the input, a dot that may be the end) stays unconsumed: two octets at most.
//! Lines have no limit: a line is never split and never shortened.

use memchr::memchr3;

/// Decodes one body.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    at: Place,
    lenient: bool,
}

/// Where in a body the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Inside a line.
    Line,
    /// Behind CR LF: a dot may be the end.
    Start,
    /// Behind a bare LF that counts as a line's end: a dot is never the end.
    LooseStart,
}

/// What stands at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `input[skip..skip + length]` is text of the body; consume `skip + length`.
    Text {
        /// Octets before the text that do not belong to it (a removed dot): 0 or 1.
        skip: usize,
        /// Octets of text, at least 1.
        length: usize,
    },
    /// A line of text ends here with a bare LF (lenient decoders only): the body's text is CR LF; consume `skip`.
    LineEnd {
        /// Octets to consume.
        skip: usize,
    },
    /// The body is over; consume `skip`.
    End {
        /// Octets to consume.
        skip: usize,
    },
    /// The input goes on with what no body may hold; consume `skip` and go on if the end still matters.
    Fault {
        /// Octets to consume.
        skip: usize,
        /// What it is.
        fault: Fault,
    },
    /// More octets are needed to decide. Consume nothing.
    Incomplete,
}

/// What no body may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A CR that no LF follows.
    BareCr,
    /// An LF that no CR precedes.
    BareLf,
    /// A NUL.
    Nul,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder::new()
    }
}

impl Decoder {
    /// A decoder for the octets right behind the DATA command's CR LF.
    pub const fn new() -> Decoder {
        Decoder { at: Place::Start, lenient: false }
    }

    /// As [`Decoder::new`], but a bare LF ends a line of text.
    pub const fn lenient() -> Decoder {
        Decoder { at: Place::Start, lenient: true }
    }

    /// Looks at the front of `input`. One answer spans as many lines as stand there without a dot to remove.
    pub fn next(&mut self, input: &[u8]) -> Part {
        let mut skip = 0;
        if self.at != Place::Line && input.first() == Some(&b'.') {
            match (input.get(1), input.get(2)) {
                (None, _) | (Some(b'\r'), None) => return Part::Incomplete,
                (Some(b'\r'), Some(b'\n')) if self.at == Place::Start => {
                    return Part::End { skip: 3 };
                }
                // A dot alone that ends nothing is text.
                (Some(b'\r'), Some(b'\n')) => {}
                (Some(b'\n'), _) if self.lenient => {}
                _ => skip = 1,
            }
        }
        let text = input.get(skip..).unwrap_or_default();
        let (length, starts_line) = Self::text(text);
        if length > 0 {
            self.at = if starts_line { Place::Start } else { Place::Line };
            return Part::Text { skip, length };
        }
        let fault = match (text.first(), text.get(1)) {
            (Some(b'\n'), _) if self.lenient => {
                self.at = Place::LooseStart;
                return Part::LineEnd { skip: skip + 1 };
            }
            (Some(b'\n'), _) => Fault::BareLf,
            (Some(0), _) => Fault::Nul,
            (Some(b'\r'), Some(_)) => Fault::BareCr,
            // A dot is never taken off without the octet behind it, so only an undecided CR is left here.
            _ => return Part::Incomplete,
        };
        self.at = Place::Line;
        Part::Fault { skip: skip + 1, fault }
    }

    /// How many octets from the front of `text` are good and free of dots to remove, and whether a line starts
    /// behind them.
    fn text(text: &[u8]) -> (usize, bool) {
        let mut at = clean::<true>(text);
        // Whether `at` stands at a line's start.
        let mut start = at > 0 && text.get(at - 1) == Some(&b'\n');
        loop {
            let rest = text.get(at..).unwrap_or_default();
            let Some(n) = memchr3(b'\r', b'\n', 0, rest) else {
                return (text.len(), start && rest.is_empty());
            };
            if rest.get(n) != Some(&b'\r') || rest.get(n + 1) != Some(&b'\n') {
                return (at + n, n == 0 && start);
            }
            at += n + 2;
            start = true;
            if text.get(at) == Some(&b'.') {
                return (at, true);
            }
        }
    }
}

/// Octets that are looked at together.
const BLOCK: usize = 128;

/// How many octets at the front of `text` are good, as far as that can be told in blocks: no CR without LF behind it, no LF
/// without CR before it, no NUL, and with `DOTS` no dot at the start of a line but perhaps the first. Never divides a CR LF.
///
/// The loop over a block has no branch, so that it becomes vector instructions.
fn clean<const DOTS: bool>(text: &[u8]) -> usize {
    // What begins with a fault is not worth a look at a block.
    match (text.first(), text.get(1)) {
        (Some(b'\n' | 0), _) => return 0,
        (Some(b'\r'), second) if second != Some(&b'\n') => return 0,
        _ => {}
    }
    let mut at = 0;
    while let Some(block) = text.get(at..at + BLOCK + 1) {
        let (Some(octets), Some(behind)) = (block.get(..BLOCK), block.get(1..)) else { break };
        let mut odd = false;
        for (&octet, &next) in octets.iter().zip(behind) {
            odd |= (octet == b'\r') ^ (next == b'\n');
            odd |= octet == 0;
            if DOTS {
                odd |= (octet == b'\n') & (next == b'.');
            }
        }
        if odd {
            break;
        }
        at += BLOCK;
    }
    if at > 0 && text.get(at - 1) == Some(&b'\r') { at - 1 } else { at }
}

/// Looks through a body whose octets are counted: chunk after chunk, as they come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exact {
    /// The last octet was a CR: an LF must come next, in the next chunk if need be.
    after_cr: bool,
    /// Every octet is good.
    binary: bool,
}

impl Exact {
    /// A body of which nothing was seen yet.
    pub const fn new() -> Exact {
        Exact { after_cr: false, binary: false }
    }

    /// A body that may hold any octets (BINARYMIME).
    pub const fn binary() -> Exact {
        Exact { after_cr: false, binary: true }
    }

    /// How many octets at the front of `input` are good, and what comes behind them if that is not everything.
    ///
    /// A CR counts as good until the octet behind it shows that it is not.
    pub fn check(&mut self, input: &[u8]) -> (usize, Option<Fault>) {
        if input.is_empty() || self.binary {
            return (input.len(), None);
        }
        let mut at = 0;
        if self.after_cr {
            if input.first() != Some(&b'\n') {
                return (0, Some(Fault::BareCr));
            }
            self.after_cr = false;
            at = 1;
        }
        at += clean::<false>(input.get(at..).unwrap_or_default());
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let Some(n) = memchr3(b'\r', b'\n', 0, rest) else { return (input.len(), None) };
            match (rest.get(n), rest.get(n + 1)) {
                (Some(b'\r'), Some(b'\n')) => at += n + 2,
                (Some(b'\r'), Some(_)) => return (at + n + 1, Some(Fault::BareCr)),
                (Some(b'\r'), None) => {
                    self.after_cr = true;
                    return (input.len(), None);
                }
                (Some(b'\n'), _) => return (at + n, Some(Fault::BareLf)),
                _ => return (at + n, Some(Fault::Nul)),
            }
        }
    }

    /// The body is over: a CR may not be its last octet.
    pub fn end(&self) -> Option<Fault> {
        self.after_cr.then_some(Fault::BareCr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_bodies_keep_every_octet_and_faults_do_not_depend_on_the_cuts() {
        use Fault::{BareCr, BareLf, Nul};
        let cases: [(&[u8], usize, Option<Fault>); 8] = [
            (b".\r\n..\r\n", 7, None),
            (b"no line end", 11, None),
            (b"a\r\n\r\n", 5, None),
            (b"a\nb", 1, Some(BareLf)),
            (b"a\rb", 2, Some(BareCr)),
            (b"a\r\r\n", 2, Some(BareCr)),
            (b"a\r", 2, Some(BareCr)),
            (b"a\0", 1, Some(Nul)),
        ];
        for (stream, good, fault) in cases {
            for size in 1..=stream.len() {
                let (mut exact, mut seen, mut found) = (Exact::new(), 0, None);
                for piece in stream.chunks(size) {
                    let (n, f) = exact.check(piece);
                    seen += n;
                    found = f;
                    if found.is_some() {
                        break;
                    }
                }
                let found = found.or(exact.end());
                assert_eq!((seen, found), (good, fault), "{} by {size}", stream.escape_ascii());
            }
        }
    }

    /// The body, the faults, and what was left behind the end, for input in pieces of `size` octets.
    fn decode(
        mut decoder: Decoder,
        stream: &[u8],
        size: usize,
    ) -> (Vec<u8>, Vec<Fault>, Option<Vec<u8>>) {
        let (mut body, mut faults, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
        for (n, piece) in stream.chunks(size).enumerate() {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.next(&buffer) {
                    Part::Text { skip, length } => {
                        assert!(length > 0 && skip < 2);
                        body.extend_from_slice(&buffer[skip..skip + length]);
                        buffer.drain(..skip + length);
                    }
                    Part::LineEnd { skip } => {
                        body.extend_from_slice(b"\r\n");
                        buffer.drain(..skip);
                    }
                    Part::Fault { skip, fault } => {
                        faults.push(fault);
                        buffer.drain(..skip);
                    }
                    Part::End { skip } => {
                        buffer.drain(..skip);
                        let later = stream.chunks(size).skip(n + 1).flatten().copied();
                        buffer.extend(later);
                        return (body, faults, Some(buffer));
                    }
                    Part::Incomplete => break,
                }
                if buffer.is_empty() {
                    break;
                }
            }
            assert!(buffer.len() <= 2, "{} octets held back", buffer.len());
        }
        (body, faults, None)
    }

    #[test]
    fn bodies_end_only_at_crlf_dot_crlf_however_they_are_cut() {
        use Fault::{BareCr, BareLf, Nul};
        type Case = (&'static [u8], &'static [u8], &'static [Fault], Option<&'static [u8]>);
        let cases: [Case; 18] = [
            (b".\r\nX", b"", &[], Some(b"X")),
            (b"a\r\n.\r\n", b"a\r\n", &[], Some(b"")),
            (b"..first\r\n.\r\nQUIT\r\n", b".first\r\n", &[], Some(b"QUIT\r\n")),
            (b"..\r\n...\r\n.x\r\n.\r\n", b".\r\n..\r\nx\r\n", &[], Some(b"")),
            (b"a\r\n\r\n\r\n.\r\n", b"a\r\n\r\n\r\n", &[], Some(b"")),
            (b"a.b\r\n.\r\n", b"a.b\r\n", &[], Some(b"")),
            (b"a\n.\r\nQUIT\r\n.\r\n", b"a.\r\nQUIT\r\n", &[BareLf], Some(b"")),
            (b"a\r\n.\nQUIT\r\n.\r\n", b"a\r\nQUIT\r\n", &[BareLf], Some(b"")),
            (b"a\n.\nQUIT\r\n.\r\n", b"a.QUIT\r\n", &[BareLf, BareLf], Some(b"")),
            (b"a\r.\rQUIT\r\n.\r\n", b"a.QUIT\r\n", &[BareCr, BareCr], Some(b"")),
            (b"a\r.\r\nQUIT\r\n.\r\n", b"a.\r\nQUIT\r\n", &[BareCr], Some(b"")),
            (b"x\r\n.\r\r\n.\r\n", b"x\r\n\r\n", &[BareCr], Some(b"")),
            (b"x\r\r\n.\r\n", b"x\r\n", &[BareCr], Some(b"")),
            (b"x\0y\r\n.\r\n", b"xy\r\n", &[Nul], Some(b"")),
            (b"\r\n\0.\r\n.\r\n", b"\r\n.\r\n", &[Nul], Some(b"")),
            (b".\0\r\n.\r\n", b"\r\n", &[Nul], Some(b"")),
            (b"no end\r\n.", b"no end\r\n", &[], None),
            (b"no end\r\n.\r", b"no end\r\n", &[], None),
        ];
        for (stream, body, faults, rest) in cases {
            for size in 1..=stream.len() {
                let (b, f, r) = decode(Decoder::new(), stream, size);
                let name = format!("{} by {size}", stream.escape_ascii());
                assert_eq!(b.escape_ascii().to_string(), body.escape_ascii().to_string(), "{name}");
                assert_eq!(f, faults, "{name}");
                assert_eq!(r.as_deref(), rest, "{name}");
            }
        }
    }

    #[test]
    fn a_lenient_body_takes_bare_lf_for_lines_and_never_for_the_end() {
        use Fault::{BareCr, Nul};
        type Case = (&'static [u8], &'static [u8], &'static [Fault], Option<&'static [u8]>);
        let cases: [Case; 12] = [
            (b"a\nb\r\n.\r\nX", b"a\r\nb\r\n", &[], Some(b"X")),
            (b"a\n.\r\nQUIT\r\n.\r\n", b"a\r\n.\r\nQUIT\r\n", &[], Some(b"")),
            (b"a\n.\nQUIT\r\n.\r\n", b"a\r\n.\r\nQUIT\r\n", &[], Some(b"")),
            (b"a\r\n.\nQUIT\r\n.\r\n", b"a\r\n.\r\nQUIT\r\n", &[], Some(b"")),
            (b".\nQUIT\r\n.\r\n", b".\r\nQUIT\r\n", &[], Some(b"")),
            (b"a\n..b\n.c\r\n.\r\n", b"a\r\n.b\r\nc\r\n", &[], Some(b"")),
            (b"a\n..\n..\r\n.\r\n", b"a\r\n.\r\n.\r\n", &[], Some(b"")),
            (b"\n\n.\r\n.\r\n", b"\r\n\r\n.\r\n", &[], Some(b"")),
            (b"a\n.\r.\r\n.\r\n", b"a\r\n.\r\n", &[BareCr], Some(b"")),
            (b"a\r\r\n.\r\n", b"a\r\n", &[BareCr], Some(b"")),
            (b"a\n\0.\r\n.\r\n", b"a\r\n.\r\n", &[Nul], Some(b"")),
            (b"a\n.\r", b"a\r\n", &[], None),
        ];
        for (stream, body, faults, rest) in cases {
            for size in 1..=stream.len() {
                let (b, f, r) = decode(Decoder::lenient(), stream, size);
                let name = format!("{} by {size}", stream.escape_ascii());
                assert_eq!(b.escape_ascii().to_string(), body.escape_ascii().to_string(), "{name}");
                assert_eq!(f, faults, "{name}");
                assert_eq!(r.as_deref(), rest, "{name}");
            }
        }
    }

    #[test]
    fn long_bodies_are_read_as_short_ones() {
        // Every odd thing at every place of a body of several blocks, against the same body in small pieces.
        let line = [&b"x".repeat(60)[..], b"\r\n"].concat().repeat(6);
        for odd in [
            &b"\r"[..],
            b"\n",
            b"\0",
            b".",
            b"\r\n",
            b"\r\n.",
            b"\n.",
            b"\r\n.\r\n",
            b"\r\r\n",
            b"",
        ] {
            for at in 0..line.len() {
                let mut stream = line.clone();
                stream.splice(at..at, odd.iter().copied());
                stream.extend_from_slice(b".\r\n");
                let whole = decode(Decoder::new(), &stream, stream.len());
                let pieces = decode(Decoder::new(), &stream, 7);
                assert_eq!(whole, pieces, "{} at {at}", odd.escape_ascii());
                let (good, fault) = Exact::new().check(&stream);
                let (mut exact, mut seen, mut found) = (Exact::new(), 0, None);
                for piece in stream.chunks(7) {
                    let (n, f) = exact.check(piece);
                    seen += n;
                    found = f;
                    if found.is_some() {
                        break;
                    }
                }
                assert_eq!((good, fault), (seen, found), "{} at {at}", odd.escape_ascii());
            }
        }
    }

    #[test]
    fn a_binary_body_takes_every_octet() {
        let mut exact = Exact::binary();
        assert_eq!(exact.check(b"a\rb\nc\0\r"), (7, None));
        assert_eq!(exact.check(b""), (0, None));
        assert_eq!(exact.end(), None);
    }
}
