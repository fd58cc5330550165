//! The primitives of SCRAM: the only file that names ring for them.

use std::num::NonZeroU32;

use ring::{digest, hmac, pbkdf2};
use zeroize::Zeroizing;

/// Octets of SHA-256.
pub(super) const OCTETS: usize = 32;

/// HMAC-SHA-256 over the parts, one after the other.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; OCTETS] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    array(context.sign().as_ref())
}

/// SHA-256.
pub(super) fn sha256(octets: &[u8]) -> [u8; OCTETS] {
    array(digest::digest(&digest::SHA256, octets).as_ref())
}

/// RFC 5802's `Hi`: PBKDF2 (RFC 8018 5.2) with HMAC-SHA-256.
pub(super) fn pbkdf2(
    password: &[u8],
    salt: &[u8],
    iterations: NonZeroU32,
) -> Zeroizing<[u8; OCTETS]> {
    let mut key = Zeroizing::new([0; OCTETS]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, key.as_mut_slice());
    key
}

fn array(octets: &[u8]) -> [u8; OCTETS] {
    let mut array = [0; OCTETS];
    for (to, from) in array.iter_mut().zip(octets) {
        *to = *from;
    }
    array
}
