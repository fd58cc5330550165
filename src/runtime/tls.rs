//! TLS: the only files that name rustls.
//!
//! The crypto provider (ring) is handed in explicitly for every configuration; nothing is installed for
//! the process. A [`Tls`] is one side of a connection, in memory: ciphertext goes in and comes out
//! through buffers of the caller, so that the same pump serves any kind of socket. [`Acceptor`] makes server sides,
//! [`Connector`] client sides. ALPN is not used: SMTP has no use for it.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::codec::certificate;
use crate::error::{Error, Kind, Result};
use crate::instance::certificate::flaw;
use crate::policy::TlsVersion;
use crate::service::link::{EXPORTER_BYTES, TlsFacts};
use crate::vfs::{self, Fs};

mod acceptor;
mod connector;

pub use acceptor::Acceptor;
pub use connector::{Connector, ConnectorOptions};

/// Largest PEM file that is read.
const PEM_BYTES: u64 = 1 << 20;

/// Most bytes of a connection's plaintext that TLS keeps until they are encrypted.
const PLAINTEXT_BYTES: usize = 64 << 10;

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Every version.
static ALL: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS13, &rustls::version::TLS12];

fn versions(least: TlsVersion) -> &'static [&'static rustls::SupportedProtocolVersion] {
    match least {
        TlsVersion::Tls12 => &ALL,
        TlsVersion::Tls13 => ALL.split_at(1).0,
    }
}

/// All certificates of a PEM file; at least one.
fn certificates(fs: &dyn Fs, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = read(fs, path)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| bad(Kind::Certificate, "certificate", path, &flaw(&e)))?;
    if chain.is_empty() {
        return Err(bad(Kind::Certificate, "certificate", path, &"no CERTIFICATE block in it"));
    }
    Ok(chain)
}

/// The certificates of a PEM file as those that others' certificates are verified with.
fn roots(fs: &dyn Fs, path: &Path) -> Result<Arc<rustls::RootCertStore>> {
    let mut roots = rustls::RootCertStore::empty();
    for root in certificates(fs, path)? {
        roots.add(root).map_err(|e| bad(Kind::Certificate, "certificate", path, &e))?;
    }
    Ok(Arc::new(roots))
}

fn not_set_up(error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Tls, format!("TLS cannot be set up: {error}"))
}

fn read(fs: &dyn Fs, path: &Path) -> Result<Vec<u8>> {
    vfs::read_small(fs, path, PEM_BYTES).map_err(|e| Error::io("read", path, &e))
}

fn bad(kind: Kind, what: &str, path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::new(kind, format!("{what} {} cannot be used: {reason}", path.display()))
}

/// One connection's TLS, in memory.
pub struct Tls(rustls::Connection, Option<Arc<dyn ClientCertVerifier>>);

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
            client_name: self.client_name(),
            exporter,
            resumed: self.0.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        })
    }

    /// Whom the client's certificate names, if it showed one that is verified now. A resumed session brings the
    /// certificate of the first one, and it is verified again.
    fn client_name(&self) -> Option<Box<str>> {
        let verifier = self.1.as_ref()?;
        let (end, between) = self.0.peer_certificates()?.split_first()?;
        verifier.verify_client_cert(end, between, UnixTime::now()).ok()?;
        let names = certificate::names(end);
        let first = |list: Vec<String>| list.into_iter().next();
        let name = first(names.email).or(first(names.dns)).or(names.common)?;
        Some(name.into_boxed_str())
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
