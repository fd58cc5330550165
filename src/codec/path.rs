//! Paths: an address in angle brackets, perhaps behind a source route (RFC 5321 4.1.2, appendix C).
//!
//! [`Path::split`] only finds where things are; what stands between the brackets is judged by
//! [`Address::parse`](crate::codec::address::Address::parse). It knows quoted strings and address literals, because
//! both may hold the octets that divide a path.

use crate::codec::address::domain_is_valid;

/// Longest path in octets, angle brackets included (RFC 5321 4.5.3.1.3).
pub const PATH_OCTETS: usize = 256;

/// A path found at the front of a text. Borrows from the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<'a> {
    /// What stands between the brackets, the source route taken off. Empty for the null path `<>`.
    pub mailbox: &'a [u8],
    /// What stands behind the closing bracket.
    pub rest: &'a [u8],
}

impl Path<'_> {
    /// Finds the path at the front of `text`. `None`: no brackets, too long, or a source route that is none.
    pub fn split(text: &[u8]) -> Option<Path<'_>> {
        let inner = text.strip_prefix(b"<")?;
        let window = inner.get(..PATH_OCTETS - 1).unwrap_or(inner);
        let end = match memchr::memchr3(b'>', b'"', b'\\', window) {
            Some(at) if window.get(at) == Some(&b'>') => at,
            // Only quotes and backslashes need a closer look.
            Some(_) => Self::end(window)?,
            None => return None,
        };
        let (path, rest) = inner.split_at_checked(end)?;
        let mailbox = if path.starts_with(b"@") { after_route(path)? } else { path };
        Some(Path { mailbox, rest: rest.get(1..)? })
    }

    /// Where the closing bracket stands.
    fn end(window: &[u8]) -> Option<usize> {
        let mut quoted = false;
        let mut escaped = false;
        window.iter().position(|&byte| {
            if escaped {
                escaped = false;
                return false;
            }
            match byte {
                b'"' => quoted = !quoted,
                b'\\' => escaped = quoted,
                b'>' => return !quoted,
                _ => {}
            }
            false
        })
    }
}

/// What stands behind the colon of `@a,@b:user@c`. The hosts are checked for their form and forgotten.
fn after_route(path: &[u8]) -> Option<&[u8]> {
    let mut rest = path;
    loop {
        rest = rest.strip_prefix(b"@")?;
        // An address literal may hold colons of its own.
        let literal = if rest.starts_with(b"[") { memchr::memchr(b']', rest)? } else { 0 };
        let end = literal + memchr::memchr2(b',', b':', rest.get(literal..)?)?;
        let (host, behind) = rest.split_at_checked(end)?;
        if !domain_is_valid(host, true) {
            return None;
        }
        let (mark, behind) = behind.split_first()?;
        if *mark == b':' {
            // A route to nowhere is no path.
            return if behind.is_empty() { None } else { Some(behind) };
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(text: &str) -> Option<&str> {
        Path::split(text.as_bytes()).map(|p| std::str::from_utf8(p.mailbox).expect("UTF-8"))
    }

    #[test]
    fn brackets_quotes_and_routes_are_found() {
        assert_eq!(mailbox("<>"), Some(""));
        assert_eq!(mailbox("<a@b> SIZE=1"), Some("a@b"));
        assert_eq!(mailbox(r#"<"a>b"@c>"#), Some(r#""a>b"@c"#));
        assert_eq!(mailbox(r#"<"a\">b"@c>"#), Some(r#""a\">b"@c"#));
        assert_eq!(mailbox("<@one.test:a@b>"), Some("a@b"));
        assert_eq!(mailbox("<@one.test,@two.test:a@b>"), Some("a@b"));
        assert_eq!(mailbox("<@[IPv6:::1],@[127.0.0.1]:a@b>"), Some("a@b"));
        let rest = Path::split(b"<a@b> SIZE=1").expect("a path").rest;
        assert_eq!(rest, b" SIZE=1");
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "",
            "<",
            "a@b",
            "<a@b",
            r#"<"a@b>"#,
            "<@one.test>",
            "<@one.test:>",
            "<@:a@b>",
            "<@one.test,two.test:a@b>",
            "<@[::1:a@b>",
            "<@-x:a@b>",
        ] {
            assert_eq!(mailbox(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_of_256_octets_passes_and_257_does_not() {
        let path = |n: usize| format!("<{}>", "x".repeat(n - 2));
        assert!(mailbox(&path(PATH_OCTETS)).is_some());
        assert!(mailbox(&path(PATH_OCTETS + 1)).is_none());
    }
}
