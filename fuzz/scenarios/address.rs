//! Addresses and paths: whatever the octets, what parses keeps its text, has values, and parses again to the same.

use posthouse::codec::address::{ADDRESS_OCTETS, Address, LOCAL_PART_OCTETS};
use posthouse::codec::path::{PATH_OCTETS, Path};

pub fn run(data: &[u8]) {
    if let Some(path) = Path::split(data) {
        assert!(path.mailbox.len() <= PATH_OCTETS - 2);
        assert!(data.ends_with(path.rest));
        address(path.mailbox);
    }
    address(data);
}

fn address(text: &[u8]) {
    let plain = Address::parse(text, false);
    let wide = Address::parse(text, true);
    assert!(plain.is_none() || plain == wide, "what passes as ASCII passes as UTF-8");
    let Some(address) = wide else { return };
    assert_eq!(address.as_bytes(), text);
    assert_eq!(plain.is_some(), text.is_ascii());
    assert!(text.len() <= ADDRESS_OCTETS);
    assert!(text.iter().all(|b| *b >= b' ' && *b != 0x7f), "no control characters");
    let local = address.local_part();
    assert!(local.len() <= LOCAL_PART_OCTETS);
    assert_eq!(address.domain().is_none(), address.domain_key().is_none());
    assert!(address.is_same_mailbox(&address));
    let Some(key) = address.domain_key() else {
        assert!(text.eq_ignore_ascii_case(b"postmaster"));
        return;
    };
    // The key is a domain of its own, and its own key.
    let mut again = b"x@".to_vec();
    again.extend_from_slice(key.as_bytes());
    if let Some(again) = Address::parse(&again, true) {
        assert_eq!(again.domain_key().as_deref(), Some(key.as_str()));
    } else {
        // Folding can lengthen a label beyond ASCII.
        assert!(!key.is_ascii(), "{key}");
    }
    // The value quoted is the same mailbox.
    let mut quoted = b"\"".to_vec();
    for byte in &local {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.extend_from_slice(b"\"@");
    quoted.extend_from_slice(address.domain().unwrap_or_default());
    if let Some(quoted) = Address::parse(&quoted, true) {
        assert!(quoted.is_same_mailbox(&address));
    }
}
