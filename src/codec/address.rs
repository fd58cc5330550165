//! Mail addresses: mailboxes, domains, address literals (RFC 5321 4.1.2, 4.1.3; RFC 6531 3.3).
//!
//! An [`Address`] keeps its text exactly as it was given, because a relay must pass it on unchanged (RFC 5321 2.4),
//! and answers the values behind the text for looking up: `"a b"@Example.TEST.` has the local part `a b` and the
//! domain key `example.test`. Two addresses are the same mailbox when these two agree, whatever their quoting;
//! `==` compares the texts.
//!
//! The grammar is RFC 5321's with two allowances that change no meaning: one trailing dot after a domain, and `_`
//! inside a label, which real senders have. A bare `postmaster` in any case is an address (RFC 5321 4.5.1). Control
//! characters, NUL above all, never pass, in quotes neither. Octets above 127 pass only as valid UTF-8 and only when
//! the caller allows them. Lengths are those of RFC 5321 4.5.3.1, counted in octets of the text.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::punycode;

/// Longest local part in octets, quotes included (RFC 5321 4.5.3.1.1).
pub const LOCAL_PART_OCTETS: usize = 64;
/// Longest domain in octets (RFC 5321 4.5.3.1.2).
pub const DOMAIN_OCTETS: usize = 255;
/// Longest label of a domain in octets (RFC 1035 2.3.4).
pub const LABEL_OCTETS: usize = 63;
/// Longest address: a path without its brackets.
pub const ADDRESS_OCTETS: usize = crate::codec::path::PATH_OCTETS - 2;

/// A mailbox (`local-part@domain`, or a bare `postmaster`) that passed the grammar.
///
/// Keeps the text as it was given for relaying, and knows the values behind it for looking up.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    text: Vec<u8>,
    at: Option<usize>,
}

impl Address {
    /// Parses the text between the angle brackets of a path, without source route.
    ///
    /// `utf8` allows what SMTPUTF8 allows. `None`: not an address.
    pub fn parse(text: &[u8], utf8: bool) -> Option<Address> {
        let at = check(text, utf8)?;
        Some(Address { text: text.to_vec(), at })
    }

    /// An address that is not one yet: a place for [`Address::set`].
    pub(crate) const fn unset() -> Address {
        Address { text: Vec::new(), at: None }
    }

    /// Becomes the address that `text` is, in the memory it has. `false`: not an address, and nothing changed.
    #[must_use]
    pub(crate) fn set(&mut self, text: &[u8], utf8: bool) -> bool {
        let Some(at) = check(text, utf8) else { return false };
        self.text.clear();
        self.text.extend_from_slice(text);
        self.at = at;
        true
    }

    /// Octets of memory that it holds outside itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.text.capacity()
    }

    /// The text as it was given.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// The local part's value: quoted pairs and quotes resolved, case kept (RFC 5321 2.4).
    pub fn local_part(&self) -> Vec<u8> {
        self.local_value().into_owned()
    }

    /// The domain as it was given; `None` for a bare `postmaster`.
    pub fn domain(&self) -> Option<&[u8]> {
        self.text.get(self.at? + 1..)
    }

    /// The domain folded for comparison: lower case, no trailing dot, address literals in canonical form.
    pub fn domain_key(&self) -> Option<String> {
        let domain = self.domain()?;
        if let Some(literal) = literal(domain) {
            return Some(match literal {
                Literal::V4(address) => format!("[{address}]"),
                Literal::V6(address) => format!("[ipv6:{address}]"),
            });
        }
        let domain = domain.strip_suffix(b".").unwrap_or(domain);
        Some(String::from_utf8_lossy(domain).to_lowercase())
    }

    /// Whether the local part is `postmaster`, in any case, with or without a domain (RFC 5321 4.5.1).
    pub fn is_postmaster(&self) -> bool {
        self.local_value().eq_ignore_ascii_case(b"postmaster")
    }

    /// Whether both name the same mailbox by value. Local parts are compared with their case, domains as
    /// [`is_same_domain`] does.
    pub fn is_same_mailbox(&self, other: &Address) -> bool {
        let domains = match (self.domain_key(), other.domain_key()) {
            (Some(one), Some(two)) => is_same_domain(&one, &two),
            (one, two) => one == two,
        };
        domains && self.local_value() == other.local_value()
    }

    /// Whether it needs SMTPUTF8.
    pub fn is_utf8(&self) -> bool {
        !self.text.is_ascii()
    }

    fn local_value(&self) -> Cow<'_, [u8]> {
        let local = self.at.and_then(|at| self.text.get(..at)).unwrap_or(&self.text);
        let Some(inner) = local.strip_prefix(b"\"").and_then(|l| l.strip_suffix(b"\"")) else {
            return Cow::Borrowed(local);
        };
        let mut value = Vec::with_capacity(inner.len());
        let mut octets = inner.iter();
        while let Some(&octet) = octets.next() {
            match octet {
                b'\\' => value.extend(octets.next()),
                _ => value.push(octet),
            }
        }
        Cow::Owned(value)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text.escape_ascii())
    }
}

/// Where the `@` of an address is; `Some(None)` for a bare postmaster, `None` when it is no address.
fn check(text: &[u8], utf8: bool) -> Option<Option<usize>> {
    if text.len() > ADDRESS_OCTETS {
        return None;
    }
    if !text.is_ascii() && (!utf8 || std::str::from_utf8(text).is_err()) {
        return None;
    }
    if text.eq_ignore_ascii_case(b"postmaster") {
        return Some(None);
    }
    let at = if text.first() == Some(&b'"') { quoted_string(text)? } else { dot_string(text)? };
    let domain = text.get(at..)?.strip_prefix(b"@")?;
    (at <= LOCAL_PART_OCTETS && domain_is_valid(domain, utf8)).then_some(Some(at))
}

/// The length of the quoted string at the front, quotes included.
fn quoted_string(text: &[u8]) -> Option<usize> {
    let mut octets = text.iter().enumerate().skip(1);
    while let Some((n, &octet)) = octets.next() {
        match octet {
            b'"' => return Some(n + 1),
            b'\\' => {
                let (_, paired) = octets.next()?;
                if !matches!(paired, b' '..=b'~') {
                    return None;
                }
            }
            b' '..=b'~' | 0x80.. => {}
            _ => return None,
        }
    }
    None
}

/// The length of the dot-string at the front.
fn dot_string(text: &[u8]) -> Option<usize> {
    // A dot needs an atom before it and behind it.
    let mut after_atom = false;
    let mut length = 0;
    for &octet in text {
        if class(octet) & ATEXT != 0 {
            after_atom = true;
        } else if octet == b'.' && after_atom {
            after_atom = false;
        } else {
            break;
        }
        length += 1;
    }
    after_atom.then_some(length)
}

/// An octet of an atom (RFC 5322 3.2.3, RFC 6531 3.3).
const ATEXT: u8 = 1;
/// An octet of a label, ASCII.
const LABEL: u8 = 2;
/// An octet of UTF-8 beyond ASCII.
const WIDE: u8 = 4;

/// What each octet may be part of.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut octet = 0u8;
    loop {
        let mut class = 0;
        let label = octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
        if label {
            class |= LABEL;
        }
        let other = matches!(
            octet,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'/' | b'=' | b'?' | b'^' | b'`' | b'{'..=b'~'
        );
        if label || other || octet >= 0x80 {
            class |= ATEXT;
        }
        if octet >= 0x80 {
            class |= WIDE;
        }
        classes[octet as usize] = class;
        if octet == u8::MAX {
            break classes;
        }
        octet += 1;
    }
};

fn class(octet: u8) -> u8 {
    CLASSES.get(usize::from(octet)).copied().unwrap_or(0)
}

enum Literal {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

/// An address literal in brackets: IPv4, or `IPv6:` with its tag in any case (RFC 5321 4.1.3).
fn literal(domain: &[u8]) -> Option<Literal> {
    let inner = domain.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let inner = std::str::from_utf8(inner).ok()?;
    match inner.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("ipv6:") => {
            address.parse().ok().map(Literal::V6)
        }
        _ => inner.parse().ok().map(Literal::V4),
    }
}

/// Whether two domains, in the form of [`Address::domain_key`], are the same: an A-label (`xn--...`) and the
/// U-label behind it are (RFC 5890 2.3.2.1). Unicode is compared in lower case, as it is normalised already in a U-label.
pub fn is_same_domain(one: &str, two: &str) -> bool {
    if one == two {
        return true;
    }
    let unicode = |label: &str| {
        let text = label.strip_prefix("xn--").and_then(punycode::decode);
        text.map(|text| text.to_lowercase())
    };
    let (mut ones, mut twos) = (one.split('.'), two.split('.'));
    loop {
        match (ones.next(), twos.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) => match (unicode(a), unicode(b)) {
                (Some(text), None) if text == b => {}
                (None, Some(text)) if text == a => {}
                _ => return false,
            },
            _ => return false,
        }
    }
}

/// Whether this is a domain or an address literal (RFC 5321 4.1.2, 4.1.3).
pub fn domain_is_valid(domain: &[u8], utf8: bool) -> bool {
    if domain.first() == Some(&b'[') {
        return literal(domain).is_some();
    }
    let domain = domain.strip_suffix(b".").unwrap_or(domain);
    if domain.is_empty() || domain.len() > DOMAIN_OCTETS {
        return false;
    }
    let allowed = if utf8 { LABEL | WIDE } else { LABEL };
    // A label is between two dots, where the ends count as dots.
    let (mut before, mut length) = (b'.', 0);
    for &octet in domain {
        if class(octet) & allowed != 0 {
            if before == b'.' && octet == b'-' {
                return false;
            }
            length += 1;
        } else if octet != b'.' || matches!(before, b'.' | b'-') {
            return false;
        } else {
            length = 0;
        }
        if length > LABEL_OCTETS {
            return false;
        }
        before = octet;
    }
    !matches!(before, b'.' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Address> {
        Address::parse(text.as_bytes(), false)
    }

    fn valid(text: &str) -> Address {
        parse(text).unwrap_or_else(|| panic!("{text} is an address"))
    }

    #[test]
    fn ordinary_addresses_keep_their_text_and_local_case() {
        let address = valid("Some.One+tag@Mail.Example.TEST");
        assert_eq!(address.as_bytes(), b"Some.One+tag@Mail.Example.TEST");
        assert_eq!(address.local_part(), b"Some.One+tag");
        assert_eq!(address.domain(), Some(b"Mail.Example.TEST".as_slice()));
        assert_eq!(address.domain_key().as_deref(), Some("mail.example.test"));
    }

    #[test]
    fn a_quoted_local_part_is_compared_by_value_and_kept_as_text() {
        let quoted = valid(r#""a b\"c\\d"@x.test"#);
        assert_eq!(quoted.local_part(), br#"a b"c\d"#);
        assert_eq!(quoted.as_bytes(), br#""a b\"c\\d"@x.test"#);
        assert!(valid(r#""j.d"@X.test."#).is_same_mailbox(&valid("j.d@x.test")));
        assert!(valid(r#""\j.d"@x.test"#).is_same_mailbox(&valid("j.d@x.test")));
        assert!(!valid("J.d@x.test").is_same_mailbox(&valid("j.d@x.test")));
        assert_eq!(valid(r#""a@b"@c.test"#).domain(), Some(b"c.test".as_slice()));
        assert_eq!(valid(r#"""@c.test"#).local_part(), b"");
    }

    #[test]
    fn postmaster_needs_no_domain_in_any_case() {
        for text in ["postmaster", "Postmaster", "POSTMASTER", "PostMaster@x.test"] {
            assert!(valid(text).is_postmaster(), "{text}");
        }
        assert_eq!(valid("PostMaster").domain(), None);
        assert_eq!(valid("PostMaster").domain_key(), None);
        assert_eq!(valid("PostMaster").local_part(), b"PostMaster");
        assert!(parse("webmaster").is_none());
    }

    #[test]
    fn address_literals_have_one_key_for_each_address() {
        assert_eq!(valid("a@[127.0.0.1]").domain_key().as_deref(), Some("[127.0.0.1]"));
        let long = valid("a@[ipv6:2001:DB8:0:0:0:0:0:1]");
        assert_eq!(long.domain_key().as_deref(), Some("[ipv6:2001:db8::1]"));
        assert!(long.is_same_mailbox(&valid("a@[IPv6:2001:db8::1]")));
        for text in [
            "a@[]",
            "a@[127.0.0.256]",
            "a@[127.0.0.1",
            "a@127.0.0.1]",
            "a@[IPv6:::g]",
            "a@[::1]",
            "a@[IPv6:127.0.0.1]",
            "a@[tag:content]",
            "a@[127.0.0.1].",
            "a@[IPv6:]",
            "a@[ 127.0.0.1]",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_trailing_dot_is_folded() {
        assert_eq!(valid("a@x.test.").domain_key().as_deref(), Some("x.test"));
        assert_eq!(valid("a@x.test.").as_bytes(), b"a@x.test.");
        assert!(parse("a@x.test..").is_none());
        assert!(parse("a@.").is_none());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@b",
            "a@b@c",
            ".a@b",
            "a.@b",
            "a..b@c",
            "a b@c",
            "a@b c",
            "a@-b",
            "a@b-",
            "a@b..c",
            "a@.b",
            "a\t@b",
            "<a@b>",
            "a@b>",
            "\"a@b",
            "\"a\"b@c",
            "\"a\"",
            "a\"b\"@c",
            "a,b@c",
            "a@b\0",
            "\"a\0b\"@c",
            "\"a\\\0b\"@c",
            "\"a\rb\"@c",
            "\"a\x7fb\"@c",
            "a\x7f@b",
            "a(x)@b",
            "a\\b@c",
            "ü@b.test",
            "a@ü.test",
        ] {
            assert!(parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn utf8_passes_only_when_allowed_and_only_when_valid() {
        let address = Address::parse("jürgen@BÜCHER.test".as_bytes(), true).expect("an address");
        assert!(address.is_utf8());
        assert_eq!(address.domain_key().as_deref(), Some("bücher.test"));
        assert!(Address::parse("\"ü ö\"@x.test".as_bytes(), true).is_some());
        assert!(Address::parse(b"j\xfcrgen@x.test", true).is_none());
        assert!(Address::parse(b"\"\\\xc3\xbc\"@x.test", true).is_none(), "a quoted pair is ASCII");
    }

    #[test]
    fn lengths_at_the_limit_pass_and_one_more_does_not() {
        let local = |n: usize| format!("{}@x.test", "l".repeat(n));
        assert!(parse(&local(LOCAL_PART_OCTETS)).is_some());
        assert!(parse(&local(LOCAL_PART_OCTETS + 1)).is_none());
        let label = |n: usize| format!("a@{}.test", "l".repeat(n));
        assert!(parse(&label(LABEL_OCTETS)).is_some());
        assert!(parse(&label(LABEL_OCTETS + 1)).is_none());
        let domain = |n: usize| {
            let mut text = "d.".repeat(n / 2);
            text.truncate(n - 1);
            text.push('e');
            text
        };
        assert!(domain_is_valid(domain(DOMAIN_OCTETS).as_bytes(), false));
        assert!(!domain_is_valid(domain(DOMAIN_OCTETS + 2).as_bytes(), false));
        let whole = |n: usize| format!("a@{}", domain(n - 2));
        assert!(parse(&whole(ADDRESS_OCTETS)).is_some());
        assert!(parse(&whole(ADDRESS_OCTETS + 1)).is_none());
        assert!(parse(&whole(ADDRESS_OCTETS + 2)).is_none());
    }

    #[test]
    fn a_labels_and_u_labels_are_the_same_domain() {
        let wide = |text: &str| Address::parse(text.as_bytes(), true).expect("an address");
        assert!(wide("a@BÜCHER.test").is_same_mailbox(&wide("a@xn--bcher-kva.TEST.")));
        assert!(wide("a@xn--bcher-kva.test").is_same_mailbox(&wide("a@bücher.test")));
        assert!(is_same_domain("mail.xn--mnchen-3ya.test", "mail.münchen.test"));
        for (one, two) in [
            ("xn--bcher-kva.test", "bucher.test"),
            ("xn--bcher-kva.test", "bücher.test.org"),
            ("xn--bcher-kva", "xn--mnchen-3ya"),
            ("xn--999999999", "bücher"),
            ("x.test", "test"),
        ] {
            assert!(!is_same_domain(one, two), "{one} {two}");
        }
    }

    #[test]
    fn octets_of_atoms_are_those_of_the_grammar() {
        for octet in 0..=u8::MAX {
            let atext = octet.is_ascii_alphanumeric()
                || octet >= 0x80
                || b"!#$%&'*+-/=?^_`{|}~".contains(&octet);
            assert_eq!(class(octet) & ATEXT != 0, atext, "{octet}");
        }
    }

    #[test]
    fn setting_reuses_the_memory_and_changes_nothing_when_it_fails() {
        let mut address = Address::unset();
        assert!(address.set(b"someone@example.test", false));
        let memory = address.as_bytes().as_ptr();
        assert!(!address.set(b"no address", false));
        assert_eq!(address.as_bytes(), b"someone@example.test");
        assert!(address.set(b"a@b.test", false));
        assert_eq!(address.as_bytes().as_ptr(), memory);
    }
}
