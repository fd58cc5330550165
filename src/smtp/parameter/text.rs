//! Strings inside parameters: xtext (RFC 3461 4), and the addresses of ORCPT with their types (RFC 3461 4.2, RFC 6533 3).

use std::fmt;
use std::io::Write as _;

/// A string in the encoding that parameters have (RFC 3461 4), as it came: printable ASCII, where `+` and two hexadecimal
/// digits are one octet.
#[derive(Clone, PartialEq, Eq)]
pub struct Xtext(Vec<u8>);

impl Xtext {
    /// Takes `text` when it is xtext that decodes to printable ASCII and has at most `limit` octets itself.
    pub(crate) fn printable(text: &[u8], limit: usize) -> Option<Xtext> {
        Xtext::printable_in(text, limit, &mut Vec::new())
    }

    /// As [`Xtext::printable`], in the memory of `space`.
    pub(super) fn printable_in(text: &[u8], limit: usize, space: &mut Vec<u8>) -> Option<Xtext> {
        if text.len() > limit || !decode(text, |b| matches!(b, b' '..=b'~')) {
            return None;
        }
        space.clear();
        space.extend_from_slice(text);
        Some(Xtext(std::mem::take(space)))
    }

    /// Encodes `text`. `None`: it holds control characters or octets beyond ASCII.
    pub fn encode(text: &[u8]) -> Option<Xtext> {
        let mut encoded = Vec::with_capacity(text.len());
        for &octet in text {
            match octet {
                b'!'..=b'*' | b','..=b'<' | b'>'..=b'~' => encoded.push(octet),
                b' ' | b'+' | b'=' => {
                    // Writing to a vector cannot fail.
                    let _ = write!(encoded, "+{octet:02X}");
                }
                _ => return None,
            }
        }
        Some(Xtext(encoded))
    }

    /// The text as it stands on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The string behind it.
    pub fn decode(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(self.0.len());
        decode(&self.0, |octet| {
            octets.push(octet);
            true
        });
        octets
    }

    pub(super) fn into_memory(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.capacity()
    }
}

impl fmt::Debug for Xtext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Hands out the octets behind xtext one by one; `false` when it is none, or one is not taken.
fn decode(text: &[u8], mut take: impl FnMut(u8) -> bool) -> bool {
    let mut rest = text;
    while let Some((&octet, behind)) = rest.split_first() {
        rest = behind;
        let octet = match octet {
            b'+' => {
                let Some(([high, low], behind)) = rest.split_first_chunk::<2>() else {
                    return false;
                };
                let (Some(high), Some(low)) = (hexadecimal(*high), hexadecimal(*low)) else {
                    return false;
                };
                rest = behind;
                high << 4 | low
            }
            b'!'..=b'<' | b'>'..=b'~' => octet,
            _ => return false,
        };
        if !take(octet) {
            return false;
        }
    }
    true
}

/// A hexadecimal digit; only capitals are (RFC 3461 4, RFC 6533 3).
fn hexadecimal(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The address that the message was first sent to, with its type (RFC 3461 4.2).
///
/// Kept in the form that may pass any server: `rfc822;` and other types with xtext behind, `utf-8;` with `\x{...}` for
/// what is not ASCII, even when it came as plain UTF-8 (RFC 6533 3).
#[derive(Clone, PartialEq, Eq)]
pub struct OriginalRecipient {
    text: Vec<u8>,
    divider: usize,
}

impl OriginalRecipient {
    /// Takes ORCPT's value, in the memory of `space`. `utf8`: plain UTF-8 may stand in it.
    pub(super) fn parse(
        value: &[u8],
        limit: usize,
        utf8: bool,
        space: &mut Vec<u8>,
    ) -> Option<OriginalRecipient> {
        // What is longer already becomes no shorter; a character beyond ASCII becomes three times as long at most.
        if value.len() > limit {
            return None;
        }
        let divider = memchr::memchr(b';', value)?;
        let (kind, address) = (value.get(..divider)?, value.get(divider + 1..)?);
        if kind.is_empty() || !kind.iter().all(|&b| is_atom(b)) || address.is_empty() {
            return None;
        }
        space.clear();
        if kind.eq_ignore_ascii_case(b"utf-8") {
            space.extend_from_slice(kind);
            space.push(b';');
            unicode(address, utf8, |character| canonical(character, space))?;
        } else if decode(address, |b| matches!(b, b' '..=b'~')) {
            space.extend_from_slice(value);
        } else {
            return None;
        }
        (space.len() <= limit).then(|| OriginalRecipient { text: std::mem::take(space), divider })
    }

    /// The type, for instance `rfc822`, in the case it came in.
    pub fn kind(&self) -> &[u8] {
        self.text.get(..self.divider).unwrap_or_default()
    }

    /// The address, still encoded.
    pub fn address(&self) -> &[u8] {
        self.text.get(self.divider.saturating_add(1)..).unwrap_or_default()
    }

    /// Type, `;` and encoded address.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// The address behind the encoding: printable ASCII, or UTF-8 without control characters for the type `utf-8`.
    pub fn decode(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(self.text.len());
        if self.kind().eq_ignore_ascii_case(b"utf-8") {
            unicode(self.address(), false, |character| {
                octets.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            });
        } else {
            decode(self.address(), |octet| {
                octets.push(octet);
                true
            });
        }
        octets
    }

    pub(super) fn into_memory(self) -> Vec<u8> {
        self.text
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.text.capacity()
    }
}

impl fmt::Debug for OriginalRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text.escape_ascii())
    }
}

/// Octets of an atom that a type may have: those of an address's atoms that are ASCII and divide nothing here.
fn is_atom(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*/?^_`{|}~.-".contains(&octet)
}

/// Hands out the characters behind a utf-8-enc-addr (RFC 6533 3).
fn unicode(text: &[u8], utf8: bool, mut take: impl FnMut(char)) -> Option<()> {
    let text = std::str::from_utf8(text).ok()?;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = rest.get(character.len_utf8()..)?;
        let character = match character {
            '\\' => {
                let inner = rest.strip_prefix("x{")?;
                let (digits, behind) =
                    inner.split_at_checked(memchr::memchr(b'}', inner.as_bytes())?)?;
                rest = behind.get(1..)?;
                if !(2..=6).contains(&digits.len()) {
                    return None;
                }
                let point = digits
                    .bytes()
                    .try_fold(0u32, |sum, digit| Some(sum << 4 | u32::from(hexadecimal(digit)?)))?;
                let character = char::from_u32(point)?;
                // Only what could not stand there as it is.
                let plain =
                    matches!(character, '!'..='~') && !matches!(character, '\\' | '+' | '=');
                (!plain && !character.is_control()).then_some(character)?
            }
            '+' | '=' => return None,
            '!'..='~' => character,
            _ if utf8 && !character.is_ascii() && !character.is_control() => character,
            _ => return None,
        };
        take(character);
    }
    Some(())
}

/// Appends a character in the form that needs no SMTPUTF8.
fn canonical(character: char, out: &mut Vec<u8>) {
    if matches!(character, '!'..='~') && !matches!(character, '\\' | '+' | '=') {
        out.push(u8::try_from(character).unwrap_or(b'?'));
    } else {
        // Writing to a vector cannot fail.
        let _ = write!(out, "\\x{{{:02X}}}", u32::from(character));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_decodes_to_what_was_encoded_and_never_to_controls() {
        let text = Xtext::encode(b"a+b=c d~").expect("printable");
        assert_eq!(text.as_bytes(), b"a+2Bb+3Dc+20d~");
        assert_eq!(text.decode(), b"a+b=c d~");
        assert_eq!(Xtext::encode(b"a\nb"), None);
        assert_eq!(Xtext::encode("ü".as_bytes()), None);
        for text in ["+", "+4", "+4g", "+4a", "+0A", "+7F", "+80", "a=b", "a b", "ü"] {
            assert_eq!(Xtext::printable(text.as_bytes(), 100), None, "{text}");
        }
        assert!(Xtext::printable(&[b'x'; 100], 100).is_some());
        assert!(Xtext::printable(&[b'x'; 101], 100).is_none());
    }

    fn orcpt(text: &str, utf8: bool) -> Option<OriginalRecipient> {
        OriginalRecipient::parse(text.as_bytes(), 500, utf8, &mut Vec::new())
    }

    #[test]
    fn original_recipients_have_a_type_and_an_address() {
        let found = orcpt("rfc822;a+2Bb@x.test", false).expect("good");
        assert_eq!(
            (found.kind(), found.address()),
            (b"rfc822".as_slice(), b"a+2Bb@x.test".as_slice())
        );
        assert_eq!(found.decode(), b"a+b@x.test");
        assert!(orcpt("x400;/C=x/", false).is_none(), "an equals sign is no xtext");
        assert!(orcpt("x400;/C+3Dx/", false).is_some());
        for text in [
            "",
            "rfc822",
            "rfc822;",
            ";a@x",
            "a b;c",
            "a+b;c",
            "rfc822;+0A",
            "rfc822;ü@x",
            "rfc822;a\\x{FC}+",
        ] {
            assert_eq!(orcpt(text, true), None, "{text}");
        }
    }

    #[test]
    fn unicode_recipients_are_kept_in_ascii_and_decode_to_utf8() {
        let plain = orcpt("utf-8;jürgen@bücher.test", true).expect("good");
        assert_eq!(plain.as_bytes(), b"utf-8;j\\x{FC}rgen@b\\x{FC}cher.test");
        assert_eq!(plain.decode(), "jürgen@bücher.test".as_bytes());
        assert_eq!(orcpt("utf-8;j\\x{FC}rgen@b\\x{FC}cher.test", false), Some(plain));
        assert_eq!(
            orcpt("UTF-8;\\x{1F600}\\x{2B}\\x{5C}@x", false).expect("good").decode(),
            "😀+\\@x".as_bytes()
        );
        for text in [
            "utf-8;ü@x",
            "utf-8;a+2B@x",
            "utf-8;\\x{}",
            "utf-8;\\x{F}",
            "utf-8;\\x{fc}",
            "utf-8;\\x{41}",
            "utf-8;\\x{0A}",
            "utf-8;\\x{7F}",
            "utf-8;\\x{85}",
            "utf-8;\\x{D800}",
            "utf-8;\\x{110000}",
            "utf-8;\\x{FFFFFFF}",
            "utf-8;\\x{FC",
            "utf-8;\\y",
            "utf-8;\\",
            "utf-8;",
        ] {
            assert_eq!(orcpt(text, false), None, "{text}");
        }
        let long = |n: usize| orcpt(&format!("utf-8;{}", "ü".repeat(n)), true).is_some();
        assert!(long(82) && !long(83), "the limit counts what is passed on");
    }
}
