//! Replies: lines with CR LF, and the codes in brackets.

use std::fmt;

/// Codes of RFC 2449 8 and RFC 3206, with the space behind them.
pub(super) mod code {
    pub(in crate::pop3) const NONE: &str = "";
    pub(in crate::pop3) const AUTH: &str = "[AUTH] ";
    pub(in crate::pop3) const IN_USE: &str = "[IN-USE] ";
    pub(in crate::pop3) const TEMPORARY: &str = "[SYS/TEMP] ";
    pub(in crate::pop3) const PERMANENT: &str = "[SYS/PERM] ";
}

/// Appends a line and CR LF.
pub(super) fn line(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    struct Sink<'o>(&'o mut Vec<u8>);
    impl fmt::Write for Sink<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    // Writing into memory does not fail.
    let _ = fmt::Write::write_fmt(&mut Sink(out), text);
    out.extend_from_slice(b"\r\n");
}
