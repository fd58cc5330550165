//! Connections whose sockets the host owns.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Engine, log};
use crate::error::{Error, Kind, Result};
use crate::instance::config::Protocol;
use crate::runtime::hosted::{Crew, Hosted, TlsBy};
pub use crate::runtime::hosted::{Doing, Ready};
use crate::service::{Link, Shared, TlsFacts};

/// Who makes TLS on a connection of the host, and when.
#[derive(Clone, Debug, Default)]
pub enum HostedTls {
    /// Nobody.
    #[default]
    None,
    /// The engine with its certificate, when the peer asks for it (STARTTLS, STLS).
    Engine,
    /// The engine with its certificate, from the first octet.
    EngineImplicit,
    /// The host, when the peer asks for it.
    Host,
    /// The host has made it already; what it came to.
    HostImplicit(Arc<TlsFacts>),
}

/// A connection that the host has accepted.
pub struct HostedOptions {
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Where the peer is.
    pub peer: SocketAddr,
    /// Who makes TLS.
    pub tls: HostedTls,
    /// Called, on a thread of the engine, when what [`Doing::Waiting`] waits for has come. Must be short and must not call
    /// the engine or the connection: it wakes the host's loop.
    pub ready: Ready,
}

/// A connection whose socket is the host's. Dropping it ends it.
pub struct HostedConnection {
    hosted: Hosted,
    engine: Arc<Engine>,
    _counted: Counted,
}

/// One of the connections that are open now.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counters.connections.down();
    }
}

impl Engine {
    /// Begins a connection on a socket that the host owns. The engine need not be started, and how many of these there are is
    /// the host's affair: the limits of listeners do not count them.
    ///
    /// # Errors
    /// `Stopped`; `Certificate` when TLS is to be the engine's and none is configured; `Certificate`, `PrivateKey` when it
    /// cannot be used.
    pub fn connect(self: &Arc<Self>, options: HostedOptions) -> Result<HostedConnection> {
        self.opened()?;
        let crew = self.crew()?;
        let (by, implicit, facts) = match options.tls {
            HostedTls::None => (TlsBy::Nobody, false, None),
            HostedTls::Host => (TlsBy::Host, false, None),
            HostedTls::HostImplicit(facts) => (TlsBy::Nobody, true, Some(facts)),
            HostedTls::Engine | HostedTls::EngineImplicit => {
                let acceptor = self.acceptor(false)?.ok_or_else(|| {
                    Error::new(Kind::Certificate, "no certificate is configured (tls.certificate)")
                })?;
                let implicit = matches!(options.tls, HostedTls::EngineImplicit);
                (TlsBy::Engine(acceptor), implicit, None)
            }
        };
        let starttls = !implicit && !matches!(by, TlsBy::Nobody);
        let (protocols, protocol, peer) =
            (Arc::clone(&self.protocols), options.protocol, options.peer);
        let converse = Box::new(move |seen: Option<Arc<TlsFacts>>| {
            protocols.converse(protocol, Link { peer, tls: seen.or(facts), starttls })
        });
        let clock = Arc::clone(&self.clock);
        let hosted = Hosted::new(converse, by, implicit, clock, crew, options.ready)?;
        self.shared.counters.connections_total.up();
        self.shared.counters.connections.up();
        let _counted = Counted(Arc::clone(&self.shared));
        Ok(HostedConnection { hosted, engine: Arc::clone(self), _counted })
    }

    fn crew(&self) -> Result<Arc<Crew>> {
        let _turn = self.turn.lock();
        self.opened()?;
        let mut crew = self.crew.lock();
        if let Some(crew) = crew.as_ref() {
            return Ok(Arc::clone(crew));
        }
        let hook = log::thread_hook(self.options.log.clone(), self.options.log_level);
        let made = Crew::new(hook)?;
        *crew = Some(Arc::clone(&made));
        Ok(made)
    }
}

impl HostedConnection {
    /// Consumes a prefix of `input` (what the host has read and was not consumed before), appends to `out` what is to be
    /// written, and says what comes next.
    ///
    /// # Errors
    /// `Stopped`: the engine was closed.
    pub fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(usize, Doing)> {
        self.engine.opened()?;
        Ok(self.hosted.step(input, out))
    }

    /// The host has made the handshake that [`Doing::StartTls`] asked for. `unread` is what it had read in clear and `step` had not
    /// consumed: when there is any, the connection ends (RFC 3207 4.2).
    pub fn tls_started(&mut self, facts: Option<Arc<TlsFacts>>, unread: &[u8]) {
        self.hosted.tls_started(facts, unread);
    }

    /// The peer will send nothing more. Step afterwards.
    pub fn eof(&mut self) {
        self.hosted.eof();
    }

    /// The connection is to end where its protocol allows it. Step afterwards.
    pub fn shutdown(&mut self) {
        self.hosted.shutdown();
    }

    /// Milliseconds until `step` is to be called even without input; `None`: never.
    pub fn timeout_millis(&self) -> Option<u64> {
        self.hosted.timeout_millis()
    }
}
