//! Policy: what is allowed.
//!
//! Pure decisions over values that the caller brings: no socket, no file, no clock. An instance has
//! one [`Rules`], read from its configuration; the rooms above ask it and act.
//!
//! Two things are refused unless something speaks for them:
//! - **Relaying** (recipients of other servers) needs an authenticated peer, or a peer from a network
//!   that the configuration names. Being local, or knowing a local sender's address, is no reason:
//!   reverse-paths are free to invent (RFC 5321 7.1).
//! - **Logging in** needs TLS, because every mechanism that is offered shows the password
//!   (RFC 8314 3, 4). [`PlaintextLogin`] is the exception that an operator chooses; by default it
//!   holds for loopback addresses, where nobody else listens.

use std::net::IpAddr;

pub mod defence;
pub mod network;

pub use defence::{DefenceRules, Defences};
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

/// What an authenticated sender may put into a message (RFC 6409 6.1). Postfix (`reject_sender_login_mismatch`) and Stalwart
/// (`must-match-sender`) look at the envelope only; RFC 6409 leaves the header to the site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SenderRights {
    /// Who has logged in may send in any name.
    Login,
    /// The reverse-path is an address or alias of the account, or the null path.
    #[default]
    Envelope,
    /// So are all addresses in From, Sender, Resent-From and Resent-Sender.
    Header,
}

/// A version of TLS; older ones are never spoken (RFC 8996).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// As it stands in headers, logs and the configuration: `TLS1.2`, `TLS1.3`.
    pub const fn name(self) -> &'static str {
        match self {
            TlsVersion::Tls12 => "TLS1.2",
            TlsVersion::Tls13 => "TLS1.3",
        }
    }

    /// As it stands on the wire: 0x0303, 0x0304.
    pub const fn number(self) -> u16 {
        match self {
            TlsVersion::Tls12 => 0x0303,
            TlsVersion::Tls13 => 0x0304,
        }
    }
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
    /// What an authenticated sender may put into a message.
    pub sender_rights: SenderRights,
    /// Most octets of a message's header.
    pub header_bytes: u64,
    /// Most connections at once from one network; see [`defence`].
    pub connections_per_network: u32,
    /// Milliseconds that an SMTP client is watched before it is greeted; 0: it is greeted at once.
    pub greeting_delay: u64,
    /// Who speaks before the greeting is refused with 554; otherwise it is noted in the log.
    pub refuse_early_talkers: bool,
    /// Rates, pauses and lock-out.
    pub defence: DefenceRules,
    /// Networks whose peers may say for whom they speak (XCLIENT).
    pub xclient_trusted: Vec<Network>,
    /// Networks of proxies that say for whom they speak (PROXY protocol). Their connections must begin with it.
    pub proxy_trusted: Vec<Network>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            relay_networks: Vec::new(),
            plaintext_login: PlaintextLogin::Loopback,
            connections: 4096,
            connections_per_address: 256,
            connections_per_network: 1024,
            greeting_delay: 0,
            refuse_early_talkers: true,
            defence: DefenceRules::default(),
            xclient_trusted: Vec::new(),
            proxy_trusted: Vec::new(),
            sender_rights: SenderRights::default(),
            header_bytes: 1 << 20,
        }
    }
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
        peer.tls
            || match self.plaintext_login {
                PlaintextLogin::Never => false,
                PlaintextLogin::Loopback => peer.address.to_canonical().is_loopback(),
                PlaintextLogin::Always => true,
            }
    }

    /// Whether this peer may say for whom it speaks (XCLIENT).
    pub fn may_forward(&self, address: IpAddr) -> bool {
        self.xclient_trusted.iter().any(|net| net.contains(address))
    }

    /// Whether this peer is a proxy, whose connections begin with the PROXY protocol.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxy_trusted.iter().any(|net| net.contains(address))
    }

    /// Whether this peer may send to recipients elsewhere.
    pub fn may_relay(&self, peer: &Peer) -> bool {
        peer.authenticated || self.relay_networks.iter().any(|net| net.contains(peer.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(plaintext_login: PlaintextLogin, networks: &[&str]) -> Rules {
        Rules {
            relay_networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
            plaintext_login,
            ..Rules::default()
        }
    }

    fn peer(address: &str, tls: bool, authenticated: bool) -> Peer {
        Peer { address: address.parse().unwrap(), tls, authenticated }
    }

    #[test]
    fn logging_in_without_tls_is_for_loopback_addresses_by_default() {
        let rules = rules(PlaintextLogin::default(), &[]);
        for address in ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"] {
            assert!(rules.may_log_in(&peer(address, false, false)), "{address}");
        }
        for address in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "0.0.0.0", "::"] {
            assert!(!rules.may_log_in(&peer(address, false, false)), "{address}");
            assert!(rules.may_log_in(&peer(address, true, false)), "{address}");
        }
    }

    #[test]
    fn logging_in_without_tls_follows_the_setting() {
        let never = rules(PlaintextLogin::Never, &[]);
        assert!(!never.may_log_in(&peer("127.0.0.1", false, false)));
        assert!(never.may_log_in(&peer("127.0.0.1", true, false)));
        let always = rules(PlaintextLogin::Always, &[]);
        assert!(always.may_log_in(&peer("192.0.2.1", false, false)));
    }

    #[test]
    fn relaying_needs_authentication_or_a_named_network() {
        let rules = rules(PlaintextLogin::Always, &["10.0.0.0/8", "2001:db8::/32"]);
        assert!(rules.may_relay(&peer("192.0.2.1", false, true)));
        assert!(rules.may_relay(&peer("10.9.8.7", false, false)));
        assert!(rules.may_relay(&peer("::ffff:10.9.8.7", false, false)));
        assert!(rules.may_relay(&peer("2001:db8::25", false, false)));
        assert!(!rules.may_relay(&peer("192.0.2.1", false, false)));
        assert!(
            !rules.may_relay(&peer("192.0.2.1", true, false)),
            "TLS alone is no right to relay"
        );
        assert!(!rules.may_relay(&peer("127.0.0.1", false, false)), "nor is loopback");
    }
}
