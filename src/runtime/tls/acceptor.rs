//! The server side: certificates chosen by name, client certificates, resumption, and how all of it is replaced.
//!
//! **Choice.** Each certificate serves the DNS names that stand in it (its common name when it has none); a wildcard
//! `*.example.com` serves every name with one label more (RFC 9525 6.3). The client's name (SNI) is looked up whole,
//! then as a wildcard. The first certificate is the default: for clients that ask for no name or for one that
//! nobody has. Of several certificates for one name (one with an RSA and one with an ECDSA key) the first that the
//! client can verify is taken; and a client that cannot verify the default gets the first one that it can.
//!
//! **Replacing.** [`Acceptor::reload`] reads everything anew, and only when all of it is good puts it in the place of
//! the old; connections that stand are not touched, handshakes under way end as they began.
//!
//! **Resumption** is by tickets (RFC 8446 4.6.1, RFC 5077), whose keys live in memory, rotate every six hours and
//! hold for twelve. They outlive a reload, unless what is demanded of clients has changed: then a session that was
//! begun under the old demands is not resumed.
//!
//! **Client certificates.** Asked for, they are taken whatever they are, since other mail servers show certificates of
//! their own; only one that `client_ca` vouches for gives the client a name. Required, a handshake without a good one
//! fails.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::{PLAINTEXT_BYTES, Tls, bad, certificates, not_set_up, provider, read, roots, versions};
use crate::codec::certificate;
use crate::error::{Error, Kind, Result};
use crate::instance::certificate::flaw;
use crate::instance::config::{CertificateFiles, ClientCertificate, TlsConfig};
use crate::vfs::Fs;

/// Makes server sides of connections. Cloning shares it; all clones follow a reload.
#[derive(Clone)]
pub struct Acceptor(Arc<ArcSwap<Current>>);

/// What new connections get.
struct Current {
    config: Arc<rustls::ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    demands: Demands,
    tickets: Arc<dyn ProducesTickets>,
}

/// What is demanded of clients.
#[derive(PartialEq)]
struct Demands {
    client: ClientCertificate,
    roots: Vec<CertificateDer<'static>>,
}

impl Acceptor {
    /// Reads all files and tries them out.
    ///
    /// # Errors
    /// `Certificate` or `PrivateKey`, with the file's name and what is wrong with it.
    pub fn load(fs: &dyn Fs, config: &TlsConfig) -> Result<Acceptor> {
        Ok(Acceptor(Arc::new(ArcSwap::from_pointee(current(fs, config, None)?))))
    }

    /// Reads all files anew; connections that begin from now on get what they hold.
    ///
    /// # Errors
    /// As [`Acceptor::load`]; everything is then as it was.
    pub fn reload(&self, fs: &dyn Fs, config: &TlsConfig) -> Result<()> {
        let new = current(fs, config, Some(&self.0.load()))?;
        self.0.store(Arc::new(new));
        Ok(())
    }

    /// The server side of a new connection.
    pub fn accept(&self) -> Result<Tls> {
        let current = self.0.load();
        let mut connection = rustls::ServerConnection::new(Arc::clone(&current.config))
            .map_err(|e| Error::new(Kind::Tls, format!("TLS cannot begin: {e}")))?;
        connection.set_buffer_limit(Some(PLAINTEXT_BYTES));
        Ok(Tls(connection.into(), current.verifier.clone()))
    }
}

fn current(fs: &dyn Fs, config: &TlsConfig, former: Option<&Current>) -> Result<Current> {
    let keys = config
        .certificates
        .iter()
        .map(|pair| certified(fs, pair).map(Arc::new))
        .collect::<Result<Vec<_>>>()?;
    let chooser = Chooser::new(keys)
        .ok_or_else(|| Error::new(Kind::Certificate, "no certificate is configured"))?;
    let demands = Demands {
        client: config.client_certificate,
        roots: match (&config.client_ca, config.client_certificate) {
            (Some(path), ClientCertificate::Request | ClientCertificate::Require) => {
                certificates(fs, path)?
            }
            _ => Vec::new(),
        },
    };
    let verifier = match &config.client_ca {
        Some(path) if !demands.roots.is_empty() => {
            let strict = WebPkiClientVerifier::builder_with_provider(roots(fs, path)?, provider())
                .build()
                .map_err(|e| bad(Kind::Certificate, "certificate", path, &e))?;
            Some(strict)
        }
        _ => None,
    };
    let tickets = match former.filter(|former| former.demands == demands) {
        Some(former) => Arc::clone(&former.tickets),
        None => ring::Ticketer::new().map_err(|e| not_set_up(&e))?,
    };
    let builder = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(config.min_version))
        .map_err(|e| not_set_up(&e))?;
    let builder = match (&verifier, demands.client) {
        (None, _) => builder.with_no_client_auth(),
        (Some(strict), ClientCertificate::Require) => {
            builder.with_client_cert_verifier(Arc::clone(strict))
        }
        (Some(strict), _) => {
            builder.with_client_cert_verifier(Arc::new(Asking(Arc::clone(strict))))
        }
    };
    let mut server = builder.with_cert_resolver(Arc::new(chooser));
    server.ticketer = Arc::clone(&tickets);
    // A client that resumes uses up one; what it does not use is work for nothing.
    server.send_tls13_tickets = 1;
    Ok(Current { config: Arc::new(server), verifier, demands, tickets })
}

/// A certificate chain (leaf first) with its private key, which must be its own.
fn certified(fs: &dyn Fs, pair: &CertificateFiles) -> Result<CertifiedKey> {
    let chain = certificates(fs, &pair.certificate)?;
    let key_pem = zeroize::Zeroizing::new(read(fs, &pair.key)?);
    let private = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|e| bad(Kind::PrivateKey, "private key", &pair.key, &flaw(&e)))?;
    let signing = ring::sign::any_supported_type(&private)
        .map_err(|e| bad(Kind::PrivateKey, "private key", &pair.key, &e))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(certified)
        }
        Err(rustls::Error::InconsistentKeys(_)) => {
            let reason = format!("it is not the key of {}", pair.certificate.display());
            Err(bad(Kind::PrivateKey, "private key", &pair.key, &reason))
        }
        Err(e) => Err(bad(Kind::Certificate, "certificate", &pair.certificate, &e)),
    }
}

/// Chooses a certificate by the name that a client asks for.
#[derive(Debug)]
struct Chooser {
    default: Arc<CertifiedKey>,
    /// All, in the order of the configuration.
    all: Vec<Arc<CertifiedKey>>,
    names: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Chooser {
    fn new(keys: Vec<Arc<CertifiedKey>>) -> Option<Chooser> {
        let default = Arc::clone(keys.first()?);
        let mut names: HashMap<String, Vec<_>> = HashMap::new();
        for key in &keys {
            let Some(leaf) = key.cert.first() else { continue };
            let found = certificate::names(leaf);
            let mut served = found.dns;
            if served.is_empty() {
                served.extend(found.common.map(|name| name.to_ascii_lowercase()));
            }
            for name in served {
                names.entry(name).or_default().push(Arc::clone(key));
            }
        }
        Some(Chooser { default, all: keys, names })
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Arc<CertifiedKey> {
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let find = |name: &str| self.names.get(name).and_then(|keys| keys.iter().find(usable));
        let chosen = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let above = || name.split_once('.').map(|(_, above)| format!("*.{above}"));
            find(&name).or_else(|| find(&above()?))
        });
        let chosen = chosen.or_else(|| self.all.iter().find(usable));
        Arc::clone(chosen.unwrap_or(&self.default))
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.choose(hello.server_name(), hello.signature_schemes()))
    }
}

/// Asks for a certificate and takes any, or none. That the client has its key is verified; what it is worth is told
/// by the verifier inside, once the handshake has ended.
#[derive(Debug)]
struct Asking(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> std::result::Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that signs by one scheme only, and never does.
    #[derive(Debug)]
    struct Key(SignatureScheme);

    impl rustls::sign::SigningKey for Key {
        fn choose_scheme(
            &self,
            offered: &[SignatureScheme],
        ) -> Option<Box<dyn rustls::sign::Signer>> {
            offered.contains(&self.0).then(|| Box::new(Key(self.0)) as _)
        }
        fn algorithm(&self) -> rustls::SignatureAlgorithm {
            rustls::SignatureAlgorithm::ECDSA
        }
    }

    impl rustls::sign::Signer for Key {
        fn sign(&self, _: &[u8]) -> std::result::Result<Vec<u8>, rustls::Error> {
            Err(rustls::Error::HandshakeNotComplete)
        }
        fn scheme(&self) -> SignatureScheme {
            self.0
        }
    }

    /// Many mail servers ask for no name, and some of them know RSA only.
    #[test]
    fn a_client_that_cannot_verify_the_first_certificate_gets_one_that_it_can() {
        let (ecdsa, rsa) =
            (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256);
        let keys = [ecdsa, rsa].map(|s| Arc::new(CertifiedKey::new(Vec::new(), Arc::new(Key(s)))));
        let chooser = Chooser::new(keys.to_vec()).unwrap();
        let chosen = |name, schemes: &[SignatureScheme]| {
            let key = chooser.choose(name, schemes);
            keys.iter().position(|one| Arc::ptr_eq(one, &key)).unwrap()
        };
        for name in [None, Some("nobody.test")] {
            assert_eq!(chosen(name, &[rsa, ecdsa]), 0);
            assert_eq!(chosen(name, &[rsa]), 1);
            // There is none: the handshake says so.
            assert_eq!(chosen(name, &[SignatureScheme::ED25519]), 0);
        }
    }
}
