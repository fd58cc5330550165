//! Certificates at set-up: the form of given PEM files, and self-signed ones.
//!
//! The form is checked here (blocks, base64, one key); whether the certificate can be used and the key
//! is its own is tried by the room that speaks TLS when the instance is opened. A self-signed
//! certificate names the host, `localhost` and `127.0.0.1`, so that a first try on one machine
//! verifies when its client is given the certificate; it is an ECDSA P-256 key's and lasts ten years.

use std::path::Path;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::vfs::{self, Fs};

/// Largest PEM file that is read, in bytes.
const PEM_BYTES: u64 = 1 << 20;

/// How long a self-signed certificate holds.
const VALID: Duration = Duration::from_secs(3652 * 24 * 3600);

/// How far in the past it begins, for clients whose clock is behind.
const EARLIER: Duration = Duration::from_secs(24 * 3600);

/// The latest beginning that is computed with, in seconds since 1970 (about the year 8000): beyond it calendars end.
const LATEST: u64 = 190_000_000_000;

/// A certificate chain and its private key as PEM text. The key is wiped when dropped.
pub struct Pair {
    /// Certificate chain, the server's own first.
    pub certificate: Vec<u8>,
    /// Private key.
    pub key: Zeroizing<Vec<u8>>,
}

/// Reads a certificate chain and a private key and checks their form.
///
/// # Errors
/// `Certificate` or `PrivateKey`, naming the file and what is wrong; those of the operating system.
pub fn read(fs: &dyn Fs, certificate: &Path, key: &Path) -> Result<Pair> {
    let chain = vfs::read_small(fs, certificate, PEM_BYTES)
        .map_err(|e| Error::io("read certificate", certificate, &e))?;
    let bad = |what: &str| {
        let text = format!("certificate {} cannot be used: {what}", certificate.display());
        Error::new(Kind::Certificate, text)
    };
    let mut certificates = 0_u32;
    for der in CertificateDer::pem_slice_iter(&chain) {
        let der = der.map_err(|e| bad(&flaw(&e)))?;
        // A certificate is a DER SEQUENCE (RFC 5280 4.1).
        if der.first() != Some(&0x30) {
            return Err(bad("a CERTIFICATE block does not hold a certificate"));
        }
        certificates = certificates.saturating_add(1);
    }
    if certificates == 0 {
        return Err(bad("there is no CERTIFICATE block in it"));
    }
    let private = vfs::read_small(fs, key, PEM_BYTES)
        .map(Zeroizing::new)
        .map_err(|e| Error::io("read private key", key, &e))?;
    match PrivateKeyDer::from_pem_slice(&private) {
        Ok(_) => Ok(Pair { certificate: chain, key: private }),
        Err(e) => {
            let what = match e {
                pem::Error::NoItemsFound => {
                    "there is no PRIVATE KEY block in it (or it is encrypted)".to_owned()
                }
                other => flaw(&other),
            };
            let text = format!("private key {} cannot be used: {what}", key.display());
            Err(Error::new(Kind::PrivateKey, text))
        }
    }
}

/// What is wrong with a PEM file (RFC 7468), in words.
pub fn flaw(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("the line -----END {}----- is missing", end_marker.escape_ascii())
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("a BEGIN line is broken: {}", line.escape_ascii())
        }
        pem::Error::Base64Decode(reason) => format!("what a block holds is not Base64: {reason}"),
        pem::Error::NoItemsFound => "there is no such block in it".to_owned(),
        other => other.to_string(),
    }
}

/// Makes a key and a certificate that is signed with it. `now` is Unix time in milliseconds.
///
/// # Errors
/// `Certificate` when the name does not fit into a certificate or no randomness is to be had.
pub fn self_signed(hostname: &str, now: u64) -> Result<Pair> {
    let failed = |e: rcgen::Error| {
        let text = format!("a self-signed certificate for {hostname} cannot be made: {e}");
        Error::new(Kind::Certificate, text)
    };
    let names = vec![hostname.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).map_err(failed)?;
    let mut subject = DistinguishedName::new();
    // A common name holds at most 64 characters (RFC 5280 appendix A); the names that count are above.
    subject.push(DnType::CommonName, hostname.get(..64).unwrap_or(hostname));
    params.distinguished_name = subject;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let begin = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs((now / 1000).min(LATEST));
    params.not_before = begin - EARLIER;
    params.not_after = begin + VALID;
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Pair {
        certificate: certificate.pem().into_bytes(),
        key: Zeroizing::new(key.serialize_pem().into_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_signed_certificate_has_the_form_and_the_names() {
        for now in [0, 1_800_000_000_000, u64::MAX] {
            let pair = self_signed("mail.example.test", now).unwrap();
            let chain: Vec<_> =
                CertificateDer::pem_slice_iter(&pair.certificate).map(|der| der.unwrap()).collect();
            assert_eq!(chain.len(), 1);
            for name in ["mail.example.test", "localhost"] {
                let found = chain[0].windows(name.len()).any(|w| w == name.as_bytes());
                assert!(found, "{name}");
            }
            // The address stands in octets (RFC 5280 4.2.1.6).
            assert!(chain[0].windows(6).any(|w| w == [0x87, 4, 127, 0, 0, 1]));
            PrivateKeyDer::from_pem_slice(&pair.key).unwrap();
        }
        let long = format!("{0}.{0}.test", "a".repeat(60));
        self_signed(&long, 0).unwrap();
    }
}
