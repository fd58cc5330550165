//! Mail addresses: mailboxes, paths, domains, address literals (RFC 5321 4.1.2, 4.1.3; RFC 6531 3.3).

use std::fmt;

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
        let _ = (text, utf8);
        todo!()
    }

    /// The text as it was given.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// The local part's value: quoted pairs and quotes resolved, case kept (RFC 5321 2.4).
    pub fn local_part(&self) -> Vec<u8> {
        let _ = self.at;
        todo!()
    }

    /// The domain as it was given; `None` for a bare `postmaster`.
    pub fn domain(&self) -> Option<&[u8]> {
        todo!()
    }

    /// The domain folded for comparison: lower case, no trailing dot, address literals in canonical form.
    pub fn domain_key(&self) -> Option<String> {
        todo!()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text.escape_ascii())
    }
}
