//! SASLprep (RFC 4013), by the crate `stringprep`.
//!
//! SCRAM asks for it (RFC 5802 2.2): the same password typed on two machines may differ in its code points, and what is
//! hashed must be the same. A text that SASLprep refuses (characters newer than Unicode 3.2, such as emoji; mixed
//! directions) passes as it is, on the client's side and on the server's alike, so that a password which works with
//! PLAIN works with SCRAM. Text in ASCII without control characters is never changed.

use std::borrow::Cow;

/// A name or password prepared for comparing and hashing.
pub fn prepare(text: &str) -> Cow<'_, str> {
    match stringprep::saslprep(text) {
        Ok(prepared) if !prepared.is_empty() => prepared,
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4013 3.
    #[test]
    fn examples_of_the_rfc() {
        assert_eq!(prepare("I\u{ad}X"), "IX");
        assert_eq!(prepare("user"), "user");
        assert_eq!(prepare("USER"), "USER");
        assert_eq!(prepare("\u{aa}"), "a");
        assert_eq!(prepare("\u{2168}"), "IX");
    }

    #[test]
    fn what_it_refuses_passes_as_it_is() {
        for text in ["\u{7}", "\u{627}1", "\u{1f600}", "\u{ad}", ""] {
            assert_eq!(prepare(text), text, "{text:?}");
        }
    }

    #[test]
    fn forms_of_one_character_become_the_same() {
        assert_eq!(prepare("u\u{308}ber"), prepare("\u{fc}ber"));
    }
}
