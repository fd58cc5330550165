//! Names as keys: addresses, domains and login names folded so that equal ones compare equal.
//!
//! What a person typed is kept for showing; what is looked up is a key. Domains are folded as
//! [`Address::domain_key`] folds them. Local parts keep their case on the way to other servers
//! (RFC 5321 2.4), but the domains here are ours, and we say that case does not count in them.
//! Login names fold ASCII letters only.

use crate::codec::address::Address;
use crate::error::{Error, Kind, Result};

/// Most octets of a login name: as long as the longest address (64 + 1 + 255, RFC 5321 4.5.3.1).
pub const LOGIN_MAX: usize = 320;

/// The local part that every domain has (RFC 5321 4.5.1).
pub(super) const POSTMASTER: &str = "postmaster";

/// An address as a key: folded local part, `@`, folded domain. A domain has no `@`, so the last one
/// parts the two and different addresses have different keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AddressKey(String);

impl AddressKey {
    /// The key of an address with a domain; `None` for a bare `postmaster`.
    pub(super) fn of(address: &Address) -> Option<AddressKey> {
        let text = address.as_bytes();
        let domain = address.domain()?;
        // What nearly every address is: its text with small letters is its key.
        if text.is_ascii() && !text.starts_with(b"\"") && !domain.starts_with(b"[") {
            let text = text.strip_suffix(b".").unwrap_or(text).to_ascii_lowercase();
            return String::from_utf8(text).ok().map(AddressKey);
        }
        let domain = address.domain_key()?;
        Some(AddressKey(format!("{}@{domain}", local_key(address))))
    }

    /// The folded domain.
    pub(super) fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// Postmaster of this folded domain.
    pub(super) fn postmaster(domain: &str) -> AddressKey {
        AddressKey(format!("{POSTMASTER}@{domain}"))
    }

    /// Whether this is the postmaster of some domain.
    pub(super) fn is_postmaster(&self) -> bool {
        self.0.rsplit_once('@').is_some_and(|(local, _)| local == POSTMASTER)
    }

    /// The key as a row's key.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The local part folded for looking up on our own domains.
pub(super) fn local_key(address: &Address) -> String {
    String::from_utf8_lossy(&address.local_part()).to_lowercase()
}

/// Parses an address that a person gave.
pub(super) fn address(text: &str) -> Result<Address> {
    Address::parse(text.as_bytes(), true)
        .ok_or_else(|| Error::new(Kind::Address, format!("{text:?} is not a mail address")))
}

/// Checks a mail domain and folds it.
///
/// Labels are letters, digits and hyphens (RFC 5321 2.3.5), or letters of other scripts
/// (U-labels, RFC 5890), at most 63 octets each and 255 together. A dot at the end is dropped.
pub(super) fn domain(text: &str) -> Result<String> {
    let bad = |what: &str| {
        Error::new(Kind::InvalidArgument, format!("{text:?} is not a mail domain: {what}"))
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(bad("it is empty"));
    }
    if name.len() > 255 {
        return Err(bad("it is longer than 255 octets"));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(bad("a label is empty"));
        }
        if label.len() > 63 {
            return Err(bad("a label is longer than 63 octets"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(bad("a label begins or ends with a hyphen"));
        }
        if !label.chars().all(|c| {
            c == '-' || c.is_ascii_alphanumeric() || (!c.is_ascii() && c.is_alphanumeric())
        }) {
            return Err(bad("only letters, digits, hyphens and dots may stand in it"));
        }
    }
    // Four numbers are an address without its brackets, never a name (RFC 3696 2).
    if name.rsplit('.').next().is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit())) {
        return Err(bad("its last label is a number"));
    }
    Address::parse(format!("{POSTMASTER}@{name}").as_bytes(), true)
        .and_then(|address| address.domain_key())
        .ok_or_else(|| bad("no address can have it"))
}

/// A login name folded for comparing.
pub(super) fn login_key(login: &str) -> String {
    login.to_ascii_lowercase()
}

/// Checks a login name that differs from the addresses.
pub(super) fn check_login(login: &str) -> Result<()> {
    let bad = |what: &str| {
        Error::new(Kind::InvalidArgument, format!("{login:?} is not a login name: {what}"))
    };
    if login.is_empty() {
        Err(bad("it is empty"))
    } else if login.len() > LOGIN_MAX {
        Err(bad("it is longer than 320 octets"))
    } else if login.chars().any(char::is_control) {
        Err(bad("it has a control character"))
    } else if login.trim() != login {
        Err(bad("it begins or ends with white space"))
    } else {
        Ok(())
    }
}
