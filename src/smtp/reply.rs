//! Replies (RFC 5321 4.2) with enhanced status codes (RFC 2034, RFC 3463).

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
}
