//! What is known of a connection below the protocol: the peer's address, and what its TLS came to.
//!
//! The driver makes a [`Link`] when a connection begins and brings [`TlsFacts`] when a handshake has ended. Policy
//! asks it, the Received line and the events tell it.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::policy::Peer;
pub use crate::policy::TlsVersion;

/// Octets of channel binding data of the type `tls-exporter` (RFC 9266 section 2).
pub const EXPORTER_BYTES: usize = 32;

/// What a TLS handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// The version.
    pub version: TlsVersion,
    /// The cipher suite by its registered name (IANA), such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// The name that the client asked for (SNI, RFC 6066 section 3), in lower case.
    pub server_name: Option<Box<str>>,
    /// Whom the client's certificate names, when one was shown and verified: its first e-mail address, else its first
    /// DNS name (RFC 5280 4.2.1.6), else the common name of its subject. Text of the certificate: it may hold any
    /// character.
    pub client_name: Option<Box<str>>,
    /// Channel binding data `tls-exporter` (RFC 9266). TLS 1.3 only: with 1.2 it is safe only under the extended
    /// master secret (RFC 7627), and whether that was used cannot be learned.
    pub exporter: Option<[u8; EXPORTER_BYTES]>,
    /// The session is a resumed one.
    pub resumed: bool,
}

/// What a driver knows of a connection.
#[derive(Clone, Debug)]
pub struct Link {
    /// Where the peer is.
    pub peer: SocketAddr,
    /// What TLS came to; `None` while there is none.
    pub tls: Option<Arc<TlsFacts>>,
    /// TLS can be had on this listener by a command.
    pub starttls: bool,
}

impl Link {
    /// The peer as policy sees it.
    pub fn peer(&self, authenticated: bool) -> Peer {
        Peer { address: self.peer.ip(), tls: self.tls.is_some(), authenticated }
    }
}
