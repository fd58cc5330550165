//! Listeners: their names, what each speaks, and where it listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// Most listeners of an instance.
pub const LISTENERS: usize = 64;

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `smtp`: mail from other servers, STARTTLS offered.
    Smtp,
    /// `submission`: mail from users' programs, STARTTLS offered.
    Submission,
    /// `lmtp`: mail from another server of ours that has a queue (RFC 2033).
    Lmtp,
    /// `pop3`: POP3, STLS offered.
    Pop3,
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Offered as a command.
    StartTls,
    /// From the first byte (`smtps`, `submissions`, `pop3s`).
    Implicit,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address with a port; port 0 means any free one.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// The address with its port, of what is not a Unix socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        }
    }

    /// The path of a Unix socket.
    pub fn unix(&self) -> Option<&Path> {
        match self {
            ListenAddress::Tcp(_) => None,
            ListenAddress::Unix(path) => Some(path),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) => path.display().fmt(f),
        }
    }
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Its name in the file and in messages: `smtp`, `smtps`, `submission`, `submissions`, `lmtp`, `pop3`, `pop3s`.
    pub name: &'static str,
    /// What it speaks.
    pub protocol: Protocol,
    /// When TLS begins.
    pub tls: TlsMode,
    /// Where it listens.
    pub address: ListenAddress,
}

/// The names of listeners, with what each speaks and when its TLS begins.
const NAMES: [(&str, Protocol, TlsMode); 7] = [
    ("smtp", Protocol::Smtp, TlsMode::StartTls),
    ("smtps", Protocol::Smtp, TlsMode::Implicit),
    ("submission", Protocol::Submission, TlsMode::StartTls),
    ("submissions", Protocol::Submission, TlsMode::Implicit),
    ("lmtp", Protocol::Lmtp, TlsMode::StartTls),
    ("pop3", Protocol::Pop3, TlsMode::StartTls),
    ("pop3s", Protocol::Pop3, TlsMode::Implicit),
];

impl ListenerConfig {
    /// A listener by its name and address as text: `ADDRESS:PORT`, or for `lmtp` also a path that begins with `/`.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown name; `AddressInvalid` for what is no such address, for a path where the system
    /// has no Unix sockets, and for LMTP on port 25, where a server that knows only SMTP would meet it (RFC 2033
    /// section 5).
    pub fn new(name: &str, address: &str) -> Result<ListenerConfig> {
        let Some(&(name, protocol, tls)) = NAMES.iter().find(|(known, ..)| *known == name) else {
            let known: Vec<&str> = NAMES.iter().map(|(known, ..)| *known).collect();
            let text = format!("listener {name:?} is not one of {}", known.join(", "));
            return Err(Error::new(Kind::InvalidArgument, text));
        };
        let bad = |what: String| {
            Err(Error::new(Kind::AddressInvalid, format!("listener {name}: {what}")))
        };
        let address = if protocol == Protocol::Lmtp && address.starts_with('/') {
            if cfg!(not(unix)) {
                return bad(format!("{address:?}: this system has no Unix sockets"));
            }
            if address.contains('\0') {
                return bad(format!("{address:?} is no path"));
            }
            ListenAddress::Unix(PathBuf::from(address))
        } else {
            match address.parse() {
                Ok(address) => ListenAddress::Tcp(address),
                Err(_) => {
                    let or = if protocol == Protocol::Lmtp { ", or a path from /" } else { "" };
                    return bad(format!(
                        "{address:?} is not an address with a port, \
                         such as 127.0.0.1:2525 or [::1]:2525{or}"
                    ));
                }
            }
        };
        if protocol == Protocol::Lmtp && address.tcp().is_some_and(|a| a.port() == 25) {
            return bad("port 25 is SMTP's; LMTP must not be offered there".to_owned());
        }
        Ok(ListenerConfig { name, protocol, tls, address })
    }

    /// Whether both would listen in the same place, so that the second could not be bound.
    fn clashes(&self, other: &ListenerConfig) -> bool {
        let (a, b) = match (&self.address, &other.address) {
            (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => (a, b),
            (a, b) => return a == b,
        };
        a.port() == b.port()
            && a.port() != 0
            && a.is_ipv4() == b.is_ipv4()
            && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
    }
}

/// Parses a listener as on the command line: `smtp=127.0.0.1:2525`, `lmtp=/run/posthouse/lmtp`.
pub fn parse_listener(text: &str) -> Result<ListenerConfig> {
    match text.split_once('=') {
        Some((name, address)) => ListenerConfig::new(name, address),
        None => {
            let text = format!("listener {text:?} has not the form NAME=ADDRESS:PORT");
            Err(Error::new(Kind::InvalidArgument, text))
        }
    }
}

/// Checks a set of listeners: not too many, no two in the same place, TLS where it is needed.
pub(in crate::instance) fn check_listeners(
    listeners: &[ListenerConfig],
    has_tls: bool,
) -> Result<()> {
    if listeners.len() > LISTENERS {
        let text = format!("{} listeners, the limit is {LISTENERS}", listeners.len());
        return Err(Error::new(Kind::Limit, text));
    }
    for (n, listener) in listeners.iter().enumerate() {
        if let Some(other) = listeners.iter().take(n).find(|other| other.clashes(listener)) {
            let text = format!(
                "listener {}: {} is taken by listener {} ({})",
                listener.name, listener.address, other.name, other.address
            );
            return Err(Error::new(Kind::AddressInUse, text));
        }
        if listener.tls == TlsMode::Implicit && !has_tls {
            let text =
                format!("listener {} needs a certificate, and none is configured", listener.name);
            return Err(Error::new(Kind::Certificate, text));
        }
    }
    Ok(())
}
