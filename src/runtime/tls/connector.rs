//! The client side: whom it trusts.
//!
//! It does not depend on the system: trusted certificates come from a PEM file that the caller names, or nobody is
//! verified at all (opportunistic TLS, RFC 7435: better than clear text against those who only listen, and no protection
//! against those who interfere). Sessions are resumed within one connector, and so never under another trust.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::{PLAINTEXT_BYTES, Tls, bad, certificates, not_set_up, provider, read, roots, versions};
use crate::error::{Error, Kind, Result};
use crate::instance::certificate::flaw;
use crate::instance::config::CertificateFiles;
use crate::policy::TlsVersion;
use crate::vfs::Fs;

/// Makes client sides of connections. Cloning shares it.
#[derive(Clone)]
pub struct Connector(Arc<rustls::ClientConfig>);

/// How a connector is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectorOptions<'a> {
    /// PEM file of the certificates that are trusted; `None`: the server is not verified.
    pub trusted: Option<&'a Path>,
    /// The lowest version that is spoken.
    pub min_version: TlsVersion,
    /// The certificate that is shown when the server asks for one.
    pub identity: Option<&'a CertificateFiles>,
}

impl Connector {
    /// A client.
    ///
    /// # Errors
    /// `Certificate` or `PrivateKey`, with the file's name and what is wrong with it.
    pub fn new(fs: &dyn Fs, options: &ConnectorOptions<'_>) -> Result<Connector> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(options.min_version))
            .map_err(|e| not_set_up(&e))?;
        let builder = match options.trusted {
            Some(path) => builder.with_root_certificates(roots(fs, path)?),
            None => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(algorithms)))
            }
        };
        let config = match options.identity {
            None => builder.with_no_client_auth(),
            Some(CertificateFiles { certificate, key }) => {
                let pem = zeroize::Zeroizing::new(read(fs, key)?);
                let private = PrivateKeyDer::from_pem_slice(&pem)
                    .map_err(|e| bad(Kind::PrivateKey, "private key", key, &flaw(&e)))?;
                builder
                    .with_client_auth_cert(certificates(fs, certificate)?, private)
                    .map_err(|e| bad(Kind::PrivateKey, "private key", key, &e))?
            }
        };
        Ok(Connector(Arc::new(config)))
    }

    /// A client that trusts the certificates in this PEM file and nobody else.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn trusting(fs: &dyn Fs, certificate: &Path) -> Result<Connector> {
        Connector::new(fs, &ConnectorOptions { trusted: Some(certificate), ..Default::default() })
    }

    /// A client that verifies nobody.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn opportunistic(fs: &dyn Fs) -> Result<Connector> {
        Connector::new(fs, &ConnectorOptions::default())
    }

    /// The client side of a new connection to the server of this name, which is asked for (SNI), or to an IP address,
    /// for which nothing is asked.
    ///
    /// # Errors
    /// `InvalidArgument` for what is neither.
    pub fn connect(&self, name: &str) -> Result<Tls> {
        let server = ServerName::try_from(name.to_owned())
            .map_err(|e| Error::new(Kind::InvalidArgument, format!("server name {name}: {e}")))?;
        let mut connection = rustls::ClientConnection::new(Arc::clone(&self.0), server)
            .map_err(|e| Error::new(Kind::Tls, format!("TLS cannot begin: {e}")))?;
        connection.set_buffer_limit(Some(PLAINTEXT_BYTES));
        Ok(Tls(connection.into(), None))
    }
}

/// Takes any server. That it has the key of the certificate it shows is verified all the same.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
