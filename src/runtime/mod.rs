//! Sockets, threads, TLS, timers: the only room that has them.
//!
//! A [`Server`] is a private tokio runtime with its listeners. It is made by [`Server::start`] and gone
//! when [`Server::stop`] returns: no thread, socket or timer stays behind, no signal handler is installed,
//! nothing of it is shared with another engine in the process. The runtime lives on a thread of its own, so
//! it may be started and stopped from any thread, also from one that drives another runtime.
//!
//! Stopping happens in three steps: listeners close; conversations are told (421 where SMTP allows it;
//! a message whose end has come still gets its verdict); what is left after the drain time is dropped.

#![allow(clippy::disallowed_methods)] // the room with the sockets and the threads

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::coop::consume_budget;

use crate::error::{Error, Result, kind_of_io};
use crate::instance::config::{ListenAddress, ListenerConfig};
use crate::service::Protocols;

/// A runtime's handle, for rooms above that block on its tasks.
pub use tokio::runtime::Handle;

pub mod connection;
pub mod control;
mod entry;
pub mod gate;
pub mod hosted;
mod listener;
pub mod outbound;
mod stream;
pub mod tls;

use entry::Visitor;
use gate::Gate;
use listener::Bound;
use stream::Stream;
use tls::Acceptor;

/// Worker threads for jobs that may block: password hashing, reading messages.
const BLOCKING_THREADS: usize = 8;

/// Most of them that work on logins at once; the rest is always there for readers.
const LOGINS: usize = BLOCKING_THREADS / 2;

/// How a server is made.
pub struct Plan {
    /// What to listen on.
    pub listeners: Vec<ListenerConfig>,
    /// The certificate; without one, STARTTLS is not offered and implicit TLS cannot be had.
    pub tls: Option<Acceptor>,
    /// What is spoken.
    pub protocols: Arc<Protocols>,
    /// How mail leaves; `None`: it does not.
    pub outbound: Option<outbound::Plan>,
    /// Milliseconds that a stop waits for conversations to end by themselves.
    pub drain_millis: u64,
    /// Threads that serve connections; 0: one for each core, at most 8.
    pub threads: usize,
    /// Called at the start of every thread.
    pub on_thread_start: Arc<dyn Fn() + Send + Sync>,
}

/// Listeners that serve.
pub struct Server {
    thread: Option<std::thread::JoinHandle<()>>,
    stopping: watch::Sender<bool>,
    handle: tokio::runtime::Handle,
    listening: Vec<(ListenerConfig, ListenAddress)>,
}

/// What all connections of a server share.
struct Context {
    plan: Plan,
    gate: Gate,
    /// Room for logins that are worked on.
    logins: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl Server {
    /// Binds every listener, then serves. When one cannot be bound, nothing is kept.
    ///
    /// # Errors
    /// The listener's name and address with the system's words; `Certificate` for implicit TLS without one.
    pub fn start(mut plan: Plan) -> Result<Server> {
        let runtime = build(&plan)?;
        let bound = {
            let _inside = runtime.enter();
            plan.listeners
                .iter()
                .map(|config| Bound::new(config, plan.tls.is_some()))
                .collect::<Result<Vec<_>>>()
        };
        let bound = match bound {
            Ok(bound) => bound,
            Err(error) => {
                // Dropping it would wait for its threads, which panics where the host runs tasks of its own.
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let listening: Vec<_> =
            bound.iter().map(|bound| (bound.config.clone(), bound.address.clone())).collect();
        let (stopping, receiver) = watch::channel(false);
        let leaving = plan.outbound.take();
        let context = Arc::new(Context {
            gate: Gate::default(),
            logins: Arc::new(Semaphore::new(LOGINS)),
            stopping: receiver,
            plan,
        });
        let handle = runtime.handle().clone();
        let on_start = Arc::clone(&context.plan.on_thread_start);
        let thread = std::thread::Builder::new()
            .name("posthouse-main".to_owned())
            .spawn(move || {
                on_start();
                runtime.block_on(serve(context, bound, leaving));
                runtime.shutdown_timeout(Duration::from_secs(10));
            })
            .map_err(|e| Error::new(kind_of_io(&e), format!("cannot start a thread: {e}")))?;
        Ok(Server { thread: Some(thread), stopping, handle, listening })
    }

    /// What is served, with the addresses as bound.
    pub fn listening(&self) -> &[(ListenerConfig, ListenAddress)] {
        &self.listening
    }

    /// The runtime's handle, for other tasks that live as long as the server.
    pub fn handle(&self) -> &tokio::runtime::Handle {
        &self.handle
    }

    /// Stops serving and waits until everything has ended; see the head of this room.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stopping.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has ended the runtime too: nothing is left to stop.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn build(plan: &Plan) -> Result<tokio::runtime::Runtime> {
    let threads = match plan.threads {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get().min(8)),
        n => n,
    };
    let on_start = Arc::clone(&plan.on_thread_start);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("posthouse-io")
        .on_thread_start(move || on_start())
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e| Error::new(kind_of_io(&e), format!("cannot start the runtime: {e}")))
}

async fn serve(context: Arc<Context>, bound: Vec<Bound>, leaving: Option<outbound::Plan>) {
    // Every connection holds a sender: the receiver ends when the last one is gone.
    let (alive, mut gone) = mpsc::channel::<()>(1);
    let mut accepting = Vec::new();
    for bound in bound {
        accepting.push(tokio::spawn(accept(Arc::clone(&context), bound, alive.clone())));
    }
    if let Some(plan) = leaving {
        tokio::spawn(outbound::run(plan, context.stopping.clone(), alive.clone()));
    }
    drop(alive);
    let mut stopping = context.stopping.clone();
    // An error means that the server was dropped, which ends it too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
    for task in accepting {
        task.abort();
        let _ = task.await;
    }
    let drain = Duration::from_millis(context.plan.drain_millis);
    let _ = tokio::time::timeout(drain, gone.recv()).await;
}

async fn accept(context: Arc<Context>, bound: Bound, alive: mpsc::Sender<()>) {
    let config = Arc::new(bound.config.clone());
    loop {
        match bound.accept().await {
            Ok((stream, peer)) => admit(&context, &config, stream, peer, &alive),
            // That one is gone, and says nothing about the next: a pause would let its peer hold up the others.
            Err(error) if is_about_one(&error) => consume_budget().await,
            Err(error) => {
                // Out of descriptors or memory: the kernel keeps the connection for us. Try again soon.
                tracing::warn!(listener = config.name, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Whether a connection could not be accepted because its peer had gone.
fn is_about_one(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

fn admit(
    context: &Arc<Context>,
    config: &Arc<ListenerConfig>,
    stream: Stream,
    peer: SocketAddr,
    alive: &mpsc::Sender<()>,
) {
    let shared = context.plan.protocols.shared();
    let admission = match context.gate.enter(&shared.rules.load()) {
        Ok(admission) => admission,
        Err(full) => {
            shared.counters.connections_refused.up();
            tracing::warn!(listener = config.name, %peer, ?full, "connection refused: limit reached");
            entry::turn_away(config, &stream);
            return;
        }
    };
    shared.counters.connections_total.up();
    shared.counters.connections.up();
    let visitor = Visitor { stream, peer, admission, early: Vec::new() };
    let leaving = Leaving { context: Arc::clone(context), _alive: alive.clone() };
    let config = Arc::clone(config);
    tokio::spawn(async move {
        // Boxed: what a connection needs on its way in is not kept while it lives.
        let context = &leaving.context;
        let entered = Box::pin(visitor.enter(context, &config, context.stopping.clone())).await;
        if let Some((connection, _admission)) = entered {
            connection.run().await;
        }
    });
}

/// Keeps the books of a connection; dropping it closes them.
struct Leaving {
    context: Arc<Context>,
    _alive: mpsc::Sender<()>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.context.plan.protocols.shared().counters.connections.down();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    /// A peer that opens connections and breaks them must not slow down who comes behind it.
    #[test]
    fn a_peer_that_has_gone_before_it_was_accepted_holds_nobody_up() {
        for (kind, one) in [
            (ErrorKind::ConnectionAborted, true),
            (ErrorKind::ConnectionReset, true),
            (ErrorKind::OutOfMemory, false),
            (ErrorKind::Other, false),
        ] {
            assert_eq!(is_about_one(&Error::from(kind)), one, "{kind}");
        }
        #[cfg(unix)]
        assert!(!is_about_one(&Error::from_raw_os_error(24)), "EMFILE");
    }
}
