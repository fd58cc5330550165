//! A socket, and TLS on it when it was started.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

/// Octets read at once.
const READ_OCTETS: usize = 4 << 10;

/// One connection's octets.
pub struct Wire {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Ciphertext on its way.
    sealed: Vec<u8>,
}

impl Wire {
    /// Connects in clear.
    pub async fn connect(target: SocketAddr) -> io::Result<Wire> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(Wire { stream, tls: None, sealed: Vec::new() })
    }

    /// Makes a TLS handshake.
    pub async fn start_tls(&mut self) -> io::Result<()> {
        let name = ServerName::try_from("server.example").map_err(io::Error::other)?;
        let tls = ClientConnection::new(config()?, name).map_err(io::Error::other)?;
        let tls = self.tls.insert(Box::new(tls));
        let mut sealed = Vec::new();
        loop {
            sealed.clear();
            while tls.wants_write() {
                tls.write_tls(&mut sealed)?;
            }
            send(&self.stream, &sealed).await?;
            if !tls.is_handshaking() {
                return Ok(());
            }
            sealed.clear();
            read(&self.stream, &mut sealed).await?;
            let mut rest = sealed.as_slice();
            while !rest.is_empty() {
                tls.read_tls(&mut rest)?;
                tls.process_new_packets().map_err(io::Error::other)?;
            }
        }
    }

    /// Sends all of it.
    pub async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return send(&self.stream, octets).await };
        self.sealed.clear();
        let mut rest = octets;
        while !rest.is_empty() {
            let taken = tls.writer().write(rest)?;
            rest = &rest[taken..];
            while tls.wants_write() {
                tls.write_tls(&mut self.sealed)?;
            }
        }
        send(&self.stream, &self.sealed).await
    }

    /// Appends what comes next; at least one octet.
    pub async fn receive(&mut self, input: &mut Vec<u8>) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return read(&self.stream, input).await };
        let before = input.len();
        while input.len() == before {
            self.sealed.clear();
            read(&self.stream, &mut self.sealed).await?;
            let mut rest = self.sealed.as_slice();
            while !rest.is_empty() {
                tls.read_tls(&mut rest)?;
                let state = tls.process_new_packets().map_err(io::Error::other)?;
                let start = input.len();
                input.resize(start + state.plaintext_bytes_to_read(), 0);
                tls.reader().read_exact(&mut input[start..])?;
            }
        }
        Ok(())
    }
}

async fn send(stream: &TcpStream, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        match stream.try_write(octets) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => octets = &octets[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

async fn read(stream: &TcpStream, input: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; READ_OCTETS];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                input.extend_from_slice(&buffer[..n]);
                return Ok(());
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
            Err(e) => return Err(e),
        }
    }
}

fn config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    // Each connection is to pay for its own handshake.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

/// Takes any certificate, but verifies that the server has its key, as a client that looks would.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
