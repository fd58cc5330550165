//! TLS: the only file that names rustls.
//!
//! The crypto provider (ring) is handed in explicitly for every configuration; nothing is installed for
//! the process. A [`Tls`] is one side of a connection, in memory: ciphertext goes in and comes out
//! through buffers of the caller, so that the same pump serves any kind of socket.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, Kind, Result};
use crate::instance::certificate::flaw;
use crate::service::link::{EXPORTER_BYTES, TlsFacts, TlsVersion};
use crate::vfs::{self, Fs};

/// Largest PEM file that is read.
const PEM_BYTES: u64 = 1 << 20;

/// A certificate chain with its key, ready to serve. Cloning shares it.
#[derive(Clone)]
pub struct Acceptor(Arc<rustls::ServerConfig>);

impl Acceptor {
    /// Reads a certificate chain (leaf first) and its private key from PEM files and tries them out.
    ///
    /// # Errors
    /// `Certificate` or `PrivateKey`, with the file's name and what is wrong with it.
    pub fn load(fs: &dyn Fs, certificate: &Path, key: &Path) -> Result<Acceptor> {
        let chain_pem = read(fs, certificate)?;
        let chain = CertificateDer::pem_slice_iter(&chain_pem)
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|e| bad(Kind::Certificate, "certificate", certificate, &flaw(&e)))?;
        if chain.is_empty() {
            let reason = "no CERTIFICATE block in it";
            return Err(bad(Kind::Certificate, "certificate", certificate, &reason));
        }
        let key_pem = zeroize::Zeroizing::new(read(fs, key)?);
        let private = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|e| bad(Kind::PrivateKey, "private key", key, &flaw(&e)))?;
        let signing = ring::sign::any_supported_type(&private)
            .map_err(|e| bad(Kind::PrivateKey, "private key", key, &e))?;
        let certified = rustls::sign::CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                let reason = format!("it is not the key of {}", certificate.display());
                return Err(bad(Kind::PrivateKey, "private key", key, &reason));
            }
            Err(e) => return Err(bad(Kind::Certificate, "certificate", certificate, &e)),
        }
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|e| Error::new(Kind::Tls, format!("TLS cannot be set up: {e}")))?
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        Ok(Acceptor(Arc::new(config)))
    }

    /// The server side of a new connection.
    pub fn accept(&self) -> Result<Tls> {
        rustls::ServerConnection::new(Arc::clone(&self.0))
            .map(|connection| Tls(connection.into()))
            .map_err(|e| Error::new(Kind::Tls, format!("TLS cannot begin: {e}")))
    }
}

/// The client side: whom it trusts. Cloning shares it.
#[derive(Clone)]
pub struct Connector(Arc<rustls::ClientConfig>);

impl Connector {
    /// A client that trusts the certificates in this PEM file and nobody else.
    pub fn trusting(fs: &dyn Fs, certificate: &Path) -> Result<Connector> {
        let mut roots = rustls::RootCertStore::empty();
        let pem = read(fs, certificate)?;
        for root in CertificateDer::pem_slice_iter(&pem) {
            root.map_err(|e| bad(Kind::Certificate, "certificate", certificate, &flaw(&e)))
                .and_then(|root| {
                    roots
                        .add(root)
                        .map_err(|e| bad(Kind::Certificate, "certificate", certificate, &e))
                })?;
        }
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|e| Error::new(Kind::Tls, format!("TLS cannot be set up: {e}")))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        Ok(Connector(Arc::new(config)))
    }

    /// A client that takes every certificate, so that the connection is at least encrypted (RFC 7435).
    pub fn opportunistic() -> Result<Connector> {
        let provider = Arc::new(ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::new(Kind::Tls, format!("TLS cannot be set up: {e}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth();
        Ok(Connector(Arc::new(config)))
    }

    /// The client side of a new connection to the server of this name.
    pub fn connect(&self, name: &str) -> Result<Tls> {
        let server = rustls_pki_types::ServerName::try_from(name.to_owned())
            .map_err(|e| Error::new(Kind::InvalidArgument, format!("server name {name}: {e}")))?;
        rustls::ClientConnection::new(Arc::clone(&self.0), server)
            .map(|connection| Tls(connection.into()))
            .map_err(|e| Error::new(Kind::Tls, format!("TLS cannot begin: {e}")))
    }
}

/// Takes every certificate; that the other side has its key is verified all the same.
#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> std::result::Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn read(fs: &dyn Fs, path: &Path) -> Result<Vec<u8>> {
    vfs::read_small(fs, path, PEM_BYTES).map_err(|e| Error::io("read", path, &e))
}

fn bad(kind: Kind, what: &str, path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::new(kind, format!("{what} {} cannot be used: {reason}", path.display()))
}

/// One connection's TLS, in memory.
pub struct Tls(rustls::Connection);

impl Tls {
    /// Takes ciphertext; appends the plaintext that came out. `false`: the peer has closed its side.
    ///
    /// # Errors
    /// The peer broke the protocol; an alert may stand ready for [`Tls::take_ciphertext`].
    pub fn put_ciphertext(
        &mut self,
        mut bytes: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> io::Result<bool> {
        while !bytes.is_empty() {
            let taken = self.0.read_tls(&mut bytes)?;
            let state = self
                .0
                .process_new_packets()
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let start = plaintext.len();
                plaintext.resize(start.saturating_add(left), 0);
                let Some(space) = plaintext.get_mut(start..) else { break };
                let read = self.0.reader().read(space)?;
                plaintext.truncate(start.saturating_add(read));
                left = left.saturating_sub(read.max(1));
            }
            if state.peer_has_closed() {
                return Ok(false);
            }
            if taken == 0 {
                break;
            }
        }
        Ok(true)
    }

    /// Encrypts all of `plaintext` and appends what is to be sent.
    pub fn put_plaintext(&mut self, plaintext: &[u8], ciphertext: &mut Vec<u8>) -> io::Result<()> {
        let mut rest = plaintext;
        while !rest.is_empty() {
            let taken = self.0.writer().write(rest)?;
            rest = rest.get(taken..).unwrap_or_default();
            self.take_ciphertext(ciphertext)?;
            if taken == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Appends what is to be sent: handshake messages, alerts.
    pub fn take_ciphertext(&mut self, ciphertext: &mut Vec<u8>) -> io::Result<()> {
        while self.0.wants_write() {
            self.0.write_tls(ciphertext)?;
        }
        Ok(())
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    /// What the handshake came to; `None` while it is under way.
    pub fn facts(&self) -> Option<TlsFacts> {
        if self.0.is_handshaking() {
            return None;
        }
        let version = match self.0.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_3 => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        };
        let exporter = match version {
            TlsVersion::Tls12 => None,
            // RFC 9266 section 2: the label, no context, 32 octets.
            TlsVersion::Tls13 => self
                .0
                .export_keying_material([0; EXPORTER_BYTES], b"EXPORTER-Channel-Binding", None)
                .ok(),
        };
        let server_name = match &self.0 {
            rustls::Connection::Server(server) => server.server_name().map(Box::from),
            rustls::Connection::Client(_) => None,
        };
        Some(TlsFacts {
            version,
            cipher: registered(self.0.negotiated_cipher_suite()?.suite()),
            server_name,
            client_name: None,
            exporter,
            resumed: self.0.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        })
    }

    /// Says to the peer that nothing more will come.
    pub fn close(&mut self) {
        self.0.send_close_notify();
    }
}

/// The registered name (IANA) of the cipher suite with this number; `unknown` when there is none by it.
pub fn cipher_name(number: u16) -> &'static str {
    registered(rustls::CipherSuite::from(number))
}

/// The registered name of a cipher suite; rustls writes those of TLS 1.3 with a number in the prefix.
fn registered(suite: rustls::CipherSuite) -> &'static str {
    let name = suite.as_str().unwrap_or("unknown");
    match name {
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        other => other,
    }
}
