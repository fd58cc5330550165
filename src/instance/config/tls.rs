//! What the configuration says of TLS.

use std::path::PathBuf;

use crate::policy::TlsVersion;

/// Most certificates of an instance.
pub const CERTIFICATES: usize = 1000;

/// A certificate's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Certificate chain, the server's own first; PEM.
    pub certificate: PathBuf,
    /// Its private key; PEM.
    pub key: PathBuf,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// No.
    #[default]
    None,
    /// Yes; who shows none, or one that is not verified, has no name.
    Request,
    /// Yes; without a verified one there is no handshake.
    Require,
}

/// The whole of it, when there is a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificates, at least one. The first serves clients that ask for no name, or for one that no
    /// certificate has.
    pub certificates: Vec<CertificateFiles>,
    /// The lowest version that is spoken.
    pub min_version: TlsVersion,
    /// Whether clients are asked for a certificate.
    pub client_certificate: ClientCertificate,
    /// PEM file of those who vouch for clients.
    pub client_ca: Option<PathBuf>,
}

impl TlsConfig {
    /// The defaults with one certificate.
    pub fn with(certificate: PathBuf, key: PathBuf) -> TlsConfig {
        TlsConfig {
            certificates: vec![CertificateFiles { certificate, key }],
            min_version: TlsVersion::default(),
            client_certificate: ClientCertificate::None,
            client_ca: None,
        }
    }
}
