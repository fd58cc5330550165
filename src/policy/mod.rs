//! What is allowed: relaying, recipients, logging in, limits. Pure decisions without sockets.

use std::net::IpAddr;

pub mod network;

pub use network::Network;

/// When a client may log in without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaintextLogin {
    /// Never.
    Never,
    /// From loopback addresses only.
    #[default]
    Loopback,
    /// From everywhere (for networks that are safe by other means).
    Always,
}

/// The rules of an instance.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Networks whose clients may relay without authentication.
    pub relay_networks: Vec<Network>,
    /// When a client may log in without TLS.
    pub plaintext_login: PlaintextLogin,
    /// Most connections at once, all services together.
    pub connections: u32,
    /// Most connections at once from one address (loopback included).
    pub connections_per_address: u32,
}

/// Who speaks to us.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// TLS is on.
    pub tls: bool,
    /// It has authenticated.
    pub authenticated: bool,
}

impl Rules {
    /// Whether this peer may log in now.
    pub fn may_log_in(&self, peer: &Peer) -> bool {
        let _ = peer;
        todo!()
    }

    /// Whether this peer may send to recipients elsewhere.
    pub fn may_relay(&self, peer: &Peer) -> bool {
        let _ = peer;
        todo!()
    }
}
