//! What a connection goes through before its conversation: the PROXY header, the limits, the watch for early talkers,
//! TLS from the first byte.
//!
//! Of a peer in `policy.proxy_trusted` the first octets must be a PROXY header ([`crate::codec::proxy`]); everything after
//! it, limits included, goes by the address that it names. A connection from there without one ends, with a line in the
//! log; from anywhere else such octets are what the protocol makes of them.
//!
//! Everything here is bounded in time ([`PROXY_MILLIS`], the greeting's delay, the handshake) and in memory (a PROXY
//! header), and its memory is given back before the conversation begins.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::Context;
use super::connection::{Connection, Gone, Means, linger, within, write_all};
use super::gate::Admission;
use super::stream::Stream;
use crate::codec::proxy::{self, Header};
use crate::instance::config::{ListenerConfig, Protocol, TlsMode};
use crate::policy::defence::Counted;
use crate::service::Link;

/// Milliseconds that a proxy may take for its header.
const PROXY_MILLIS: u64 = 10_000;

/// Octets of an early talker that are taken in at once.
const EARLY_BYTES: usize = 512;

/// A socket just accepted, and for whom it was opened.
pub(super) struct Visitor {
    pub stream: Stream,
    pub peer: SocketAddr,
    pub admission: Admission,
    /// What came behind a PROXY header.
    pub early: Vec<u8>,
}

impl Visitor {
    /// Brings the visitor to its conversation. `None`: it has been turned away, or is gone.
    pub async fn enter(
        mut self,
        context: &Arc<Context>,
        config: &ListenerConfig,
        stopping: watch::Receiver<bool>,
    ) -> Option<(Connection, Admission)> {
        let rules = context.plan.protocols.shared().rules.load_full();
        if matches!(self.stream, Stream::Tcp(_)) && rules.is_proxy(self.peer.ip()) {
            let headed = within(PROXY_MILLIS, self.proxy(config.name));
            headed.await.ok()?.ok()?;
        }
        let (peer, name) = (self.peer, config.name);
        let shared = context.plan.protocols.shared();
        let address = peer.ip();
        let refused = match self.admission.claim(address, &rules) {
            Err(full) => {
                tracing::warn!(listener = name, %peer, ?full, "connection refused: limit reached");
                true
            }
            Ok(()) if rules.defence.is_exempt(address) => false,
            Ok(()) => {
                let now = context.plan.protocols.clock().now();
                shared
                    .defences
                    .count(&rules.defence, address, Counted::Connection, 1, now)
                    .inspect_err(|e| {
                        tracing::warn!(listener = name, %peer, ?e, "connection refused: rate");
                    })
                    .is_err()
            }
        };
        if refused {
            shared.counters.connections_refused.up();
            turn_away(config, &self.stream);
            return None;
        }
        let implicit = config.tls == TlsMode::Implicit;
        let mail = matches!(config.protocol, Protocol::Smtp | Protocol::Submission);
        if !implicit && mail && rules.greeting_delay > 0 {
            if self.early.is_empty() {
                // That the time is up is the good case.
                let _ = within(rules.greeting_delay, self.listen()).await;
            }
            if !self.early.is_empty() {
                tracing::warn!(listener = name, %peer, "early talker");
                if rules.refuse_early_talkers {
                    shared.counters.connections_refused.up();
                    let words = b"554 5.5.1 You spoke before the greeting\r\n";
                    write_all(&self.stream, words).await.ok()?;
                    let _ = linger(&mut self.stream).await;
                    return None;
                }
            }
        }
        let Visitor { stream, peer, admission, early } = self;
        let begin = |tls| {
            let link = Link { peer, tls, starttls: context.plan.tls.is_some() };
            context.plan.protocols.converse(config.protocol, link)
        };
        let means = Means {
            acceptor: context.plan.tls.clone(),
            clock: Arc::clone(context.plan.protocols.clock()),
            logins: Arc::clone(&context.logins),
            stopping,
        };
        let connection = Connection::open(stream, early, implicit, begin, means);
        Some((connection.await?, admission))
    }

    /// Waits until the peer speaks, or is gone. What it says comes to the conversation first.
    async fn listen(&mut self) -> Result<(), Gone> {
        loop {
            self.stream.readable().await?;
            self.early.reserve(EARLY_BYTES);
            match self.stream.try_read_buf(&mut self.early) {
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return Err(Gone),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Reads the PROXY header that must come first.
    async fn proxy(&mut self, listener: &str) -> Result<(), Gone> {
        let mut header = Vec::with_capacity(256);
        loop {
            match proxy::parse(&header) {
                Ok(None) => {}
                Ok(Some((used, what))) => {
                    if let Header::Passed { source, .. } = what {
                        self.peer = source;
                    }
                    self.early = header.split_off(used);
                    return Ok(());
                }
                Err(flaw) => {
                    tracing::warn!(listener, proxy = %self.peer, "connection of a proxy ended: {flaw}");
                    return Err(Gone);
                }
            }
            self.stream.readable().await?;
            header.reserve(256);
            match self.stream.try_read_buf(&mut header) {
                Ok(0) => {
                    tracing::warn!(listener, proxy = %self.peer, "connection of a proxy ended before its PROXY header");
                    return Err(Gone);
                }
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Gone),
            }
        }
    }
}

/// Tells a peer that there is no room. What cannot be written at once is not worth waiting for.
pub(super) fn turn_away(config: &ListenerConfig, stream: &Stream) {
    if config.tls == TlsMode::StartTls {
        let line: &[u8] = match config.protocol {
            Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => {
                b"421 4.3.2 Too many connections, try again later\r\n"
            }
            Protocol::Pop3 => b"-ERR [SYS/TEMP] Too many connections, try again later\r\n",
        };
        let _ = stream.try_write(line);
    }
}
