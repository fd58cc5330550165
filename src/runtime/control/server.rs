//! The serving side of the control socket.
//!
//! Tasks on the engine's runtime accept and frame; each request is worked on by a thread of its own, at most
//! [`RUNNING`] at once. They are plain threads because work may end in dropping the last handle of the
//! engine, and with it the runtime, which a thread of the runtime's own could only wait for in vain.
//! [`ControlServer::stop`] removes the file, ends the tasks and waits for the threads (but never
//! for the one that calls it).

use std::collections::{HashSet, VecDeque};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

use super::{
    ANSWER_BYTES, Administrator, Answer, FILE, GREETING, GREETING_BYTES, Place, REQUEST_BYTES,
    TOKEN_BYTES, welcome,
};
use crate::error::{Error, Kind, Result, kind_of_io};
use crate::sync::{Condvar, Mutex};
use crate::vfs::{self, Fs};

/// Most connections at once that have shown the token; further ones wait for their welcome.
const CONNECTIONS: usize = 16;
/// Most connections at once that have not. Anybody on the machine can make them, so a further one takes the
/// place of the oldest.
const STRANGERS: usize = 16;
/// Most requests that are worked on at once; further ones wait.
const RUNNING: usize = 4;
/// How long a client may take to show the token.
const GREETING_TIME: Duration = Duration::from_secs(5);
/// How long a client may take for its next request.
const REQUEST_TIME: Duration = Duration::from_secs(60);
/// How long a client may take to read an answer.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// How long a stop waits for work that has begun.
const STOP_TIME: Duration = Duration::from_secs(30);
/// Reports of progress that wait for a slow client; further ones are dropped.
const REPORTS: usize = 16;

/// The control socket of a serving engine. Dropping it stops it.
pub struct ControlServer {
    fs: Arc<dyn Fs>,
    file: PathBuf,
    accepting: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

struct Shared {
    token: String,
    proof: String,
    administrator: Arc<dyn Administrator>,
    connections: Semaphore,
    running: Arc<Semaphore>,
    /// Threads that work on requests now.
    threads: Mutex<HashSet<ThreadId>>,
    changed: Condvar,
}

impl ControlServer {
    /// Listens on a free loopback port and writes the control file of an instance. The runtime must drive
    /// sockets and time.
    ///
    /// # Errors
    /// The operating system's; nothing is kept then.
    pub fn start(
        runtime: &tokio::runtime::Handle,
        fs: &Arc<dyn Fs>,
        instance: &Path,
        administrator: Arc<dyn Administrator>,
    ) -> Result<ControlServer> {
        let listen = || {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            let _inside = runtime.enter();
            Ok((TcpListener::from_std(listener)?, port))
        };
        let (listener, port) = listen().map_err(|e: std::io::Error| {
            Error::new(kind_of_io(&e), format!("cannot listen for administration: {e}"))
        })?;
        let (token, proof) = (secret()?, secret()?);
        let file = instance.join(FILE);
        let text = Place { port, token: token.clone(), proof: proof.clone() }.text();
        vfs::replace(fs.as_ref(), &file, text.as_bytes())
            .map_err(|e| Error::io("write", &file, &e))?;
        let shared = Arc::new(Shared {
            token,
            proof,
            administrator,
            connections: Semaphore::new(CONNECTIONS),
            running: Arc::new(Semaphore::new(RUNNING)),
            threads: Mutex::new(HashSet::new()),
            changed: Condvar::new(),
        });
        let accepting = runtime.spawn(accept(listener, Arc::clone(&shared)));
        Ok(ControlServer {
            fs: Arc::clone(fs),
            file,
            accepting: Mutex::new(Some(accepting)),
            shared,
        })
    }

    /// Removes the control file, takes no more requests, and waits for those that are worked on. A call from
    /// within a request does not wait for that one. Calling it twice has no effect.
    pub fn stop(&self) {
        let Some(accepting) = self.accepting.lock().take() else { return };
        // A client that finds the file without a listener takes it for a dead engine's.
        let _ = self.fs.remove_file(&self.file);
        accepting.abort();
        self.shared.running.close();
        let own = std::thread::current().id();
        let mut threads = self.shared.threads.lock();
        let busy = |threads: &mut HashSet<ThreadId>| threads.iter().any(|id| *id != own);
        let _ = self.shared.changed.wait_while_for(&mut threads, busy, STOP_TIME);
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A token or a proof.
fn secret() -> Result<String> {
    use std::fmt::Write;
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(Kind::Io, format!("no randomness for the control token: {e}")))?;
    let mut text = String::with_capacity(TOKEN_BYTES * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut conversations = tokio::task::JoinSet::new();
    let mut strangers: VecDeque<(AbortHandle, Arc<AtomicBool>)> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while conversations.try_join_next().is_some() {}
                strangers
                    .retain(|(task, known)| !task.is_finished() && !known.load(Ordering::Acquire));
                if strangers.len() >= STRANGERS
                    && let Some((oldest, _)) = strangers.pop_front()
                {
                    oldest.abort();
                }
                let known = Arc::new(AtomicBool::new(false));
                let (shared, shown) = (Arc::clone(&shared), Arc::clone(&known));
                let task = conversations.spawn(async move {
                    // How a client fares is the client's matter.
                    let _ = converse(stream, &shared, &shown).await;
                });
                strangers.push_back((task, known));
            }
            // Out of descriptors, most likely: it passes when connections end.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Serves a connection. `shown` turns true when it has shown the token.
async fn converse(
    stream: TcpStream,
    shared: &Arc<Shared>,
    shown: &AtomicBool,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire { stream, input: Vec::new() };
    let Ok(greeting) = timeout(GREETING_TIME, wire.line(GREETING_BYTES)).await else {
        return Ok(());
    };
    let known = greeting?
        .and_then(|line| line.strip_prefix(GREETING.as_bytes()).map(<[u8]>::to_vec))
        .is_some_and(|token| bool::from(token.ct_eq(shared.token.as_bytes())));
    if !known {
        return Ok(());
    }
    shown.store(true, Ordering::Release);
    let Ok(_room) = shared.connections.acquire().await else { return Ok(()) };
    wire.send(format!("{}\n", welcome(&shared.proof)).as_bytes()).await?;
    loop {
        let Ok(request) = timeout(REQUEST_TIME, wire.line(REQUEST_BYTES)).await else {
            return Ok(());
        };
        let Some(request) = request? else { return Ok(()) };
        if !work(&mut wire, shared, request).await? {
            return Ok(());
        }
    }
}

/// Has a request worked on and answers it. `false`: no more requests are taken.
async fn work(wire: &mut Wire, shared: &Arc<Shared>, request: Vec<u8>) -> std::io::Result<bool> {
    let Ok(room) = Arc::clone(&shared.running).acquire_owned().await else { return Ok(false) };
    let (report, mut reports) = mpsc::channel::<(u64, u64)>(REPORTS);
    let (give, answered) = oneshot::channel();
    let (sent, was_sent) = oneshot::channel::<()>();
    let worker = {
        let shared = Arc::clone(shared);
        move || {
            let _room = room;
            let worker = Worker::begin(&shared);
            let mut progress = |done, total| {
                let _ = report.try_send((done, total));
            };
            let (line, then) = match shared.administrator.administer(&request, &mut progress) {
                Ok(Answer { json, then }) => (answer_line(&json), then),
                Err(e) => (error_line(&e), None),
            };
            drop(report);
            let _ = give.send(line);
            drop(worker);
            if let Some(then) = then {
                // Either end of it will do: the answer is sent, or nobody is there to take it.
                let _ = was_sent.blocking_recv();
                then();
            }
        }
    };
    let spawned = std::thread::Builder::new().name("posthouse-admin".to_owned()).spawn(worker);
    if let Err(e) = spawned {
        let error = Error::new(kind_of_io(&e), format!("cannot start a thread: {e}"));
        wire.send(&error_line(&error)).await?;
        return Ok(true);
    }
    while let Some((done, total)) = reports.recv().await {
        wire.send(format!("{{\"progress\":[{done},{total}]}}\n").as_bytes()).await?;
    }
    let line = answered.await.unwrap_or_else(|_| {
        error_line(&Error::new(Kind::Internal, "the request ended in a defect of the engine"))
    });
    wire.send(&line).await?;
    drop(sent);
    Ok(true)
}

fn answer_line(json: &str) -> Vec<u8> {
    if json.len().saturating_add(16) > ANSWER_BYTES || json.contains('\n') {
        return error_line(&Error::new(Kind::Internal, "the answer has not the form of one"));
    }
    format!("{{\"answer\":{json}}}\n").into_bytes()
}

fn error_line(error: &Error) -> Vec<u8> {
    let value = serde_json::json!({
        "error": { "code": error.kind().code(), "message": error.message() }
    });
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Stands in the list of working threads while it lives, also through a panic.
struct Worker<'a>(&'a Shared);

impl<'a> Worker<'a> {
    fn begin(shared: &'a Shared) -> Worker<'a> {
        shared.threads.lock().insert(std::thread::current().id());
        Worker(shared)
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.0.threads.lock().remove(&std::thread::current().id());
        self.0.changed.notify_all();
    }
}

/// A connection in lines.
struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Wire {
    /// The next line without its LF; `None` at the end of the connection. An error for a line over the limit.
    async fn line(&mut self, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let fresh = self.input.get(searched..).unwrap_or_default();
            if let Some(end) = memchr::memchr(b'\n', fresh).map(|n| searched.saturating_add(n)) {
                if end >= limit {
                    return Err(std::io::ErrorKind::InvalidData.into());
                }
                let mut line: Vec<u8> = self.input.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            searched = self.input.len();
            if searched >= limit {
                return Err(std::io::ErrorKind::InvalidData.into());
            }
            let mut buffer = [0; 4096];
            let read = self.stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(None);
            }
            self.input.extend_from_slice(buffer.get(..read).unwrap_or_default());
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match timeout(WRITE_TIME, self.stream.write_all(bytes)).await {
            Ok(result) => result,
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        }
    }
}
