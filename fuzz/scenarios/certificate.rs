//! Names of certificates: any octets, bounded names, and nothing of what is cut off.

use posthouse::codec::certificate::{NAMES, Names, names};

pub fn run(data: &[u8]) {
    let found = names(data);
    assert!(found.dns.len() <= NAMES && found.email.len() <= NAMES);
    assert!(found.dns.iter().all(|name| !name.bytes().any(|b| b.is_ascii_uppercase())));
    let octets: usize = found.dns.iter().chain(&found.email).map(String::len).sum();
    assert!(octets <= data.len());
    if found != Names::default() {
        // A certificate is one element: without its last octet it is none.
        let end = data.len().saturating_sub(1);
        let _ = names(data.get(..end).unwrap_or_default());
    }
}
