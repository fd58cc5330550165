//! One connection: a socket, perhaps TLS, and a conversation.
//!
//! The task sleeps until the socket is readable, and only then borrows a buffer: all connections of a
//! thread share one for reading, so an idle connection holds none. What a conversation does not use up
//! (half a command; commands behind one whose verdict is awaited) is kept aside and comes first next time.
//! While something is awaited nothing is read: the peer's pipelining waits in the kernel's buffers, which
//! is the back-pressure. All output of one turn leaves in one write.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::coop::consume_budget;
use tokio::time::Sleep;

use super::stream::Stream;
use super::tls::{Acceptor, Tls};
use crate::service::{Conversation, Progress, Settled, TlsFacts, Wait};
use crate::time::{Clock, Time};

#[cfg(test)]
mod tests;

/// Bytes read from a socket at once.
const READ_BYTES: usize = 64 << 10;

/// Milliseconds that a peer may take to take our output before the connection is given up.
const WRITE_MILLIS: u64 = 180_000;

/// Milliseconds for a TLS handshake.
const HANDSHAKE_MILLIS: u64 = 30_000;

/// Most milliseconds that the end of a connection waits for the peer to close its side.
const LINGER_MILLIS: u64 = 1_000;

/// Output buffers up to this many bytes are kept while a connection is idle.
const KEPT_OUTPUT: usize = 256;

thread_local! {
    /// The buffer that the connections of this thread read into, one after the other. It is empty between
    /// uses, and taken out while in use.
    static READ_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What a connection is served with.
pub struct Means {
    /// Makes TLS; `None`: there is none.
    pub acceptor: Option<Acceptor>,
    /// The clock of deadlines.
    pub clock: Arc<dyn Clock>,
    /// Room for logins that are worked on.
    pub logins: Arc<Semaphore>,
    /// Turns true when the engine stops.
    pub stopping: watch::Receiver<bool>,
}

/// A connection being served.
pub struct Connection {
    stream: Stream,
    tls: Option<Box<Tls>>,
    acceptor: Option<Acceptor>,
    conversation: Box<dyn Conversation>,
    clock: Arc<dyn Clock>,
    logins: Arc<Semaphore>,
    /// Turns true when the engine stops.
    stopping: watch::Receiver<bool>,
    /// The same to wait for, from the first wait on.
    stop: Option<Stop>,
    told: bool,
    timer: Option<Timer>,
    /// Input that was not used up yet.
    pending: Vec<u8>,
    out: Vec<u8>,
}

/// Waits for the engine's end. It lives as long as the connection: to begin to wait costs more than to go on waiting.
type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Wakes at an instant that is not behind the conversation's deadline. A deadline moves with every command, mostly
/// away: the timer stays where it is until then, and is set anew when it has come.
struct Timer {
    at: Time,
    sleep: Pin<Box<Sleep>>,
}

/// The peer is gone, or too slow, or breaks TLS: nothing more can be said to it.
pub(super) struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Gone {
        Gone
    }
}

impl Connection {
    /// A connection for a socket just accepted. `implicit`: TLS from the first byte; the handshake is made here.
    /// `early`: what the peer has sent already. `converse` makes the conversation, told what TLS came to. `None`: the peer is gone or broke the handshake.
    pub async fn open(
        stream: Stream,
        early: Vec<u8>,
        implicit: bool,
        converse: impl FnOnce(Option<Arc<TlsFacts>>) -> Box<dyn Conversation>,
        means: Means,
    ) -> Option<Connection> {
        let Means { acceptor, clock, logins, stopping } = means;
        let mut pending = early;
        let (tls, facts) = if implicit {
            let hello = std::mem::take(&mut pending);
            let tls = handshake(&stream, &acceptor, &stopping, hello, &mut pending).await.ok()?;
            let facts = tls.facts().map(Arc::new);
            (Some(tls), facts)
        } else {
            (None, None)
        };
        let conversation = converse(facts);
        Some(Connection {
            stream,
            tls,
            acceptor,
            conversation,
            clock,
            logins,
            stopping,
            stop: None,
            told: false,
            timer: None,
            pending,
            out: Vec::new(),
        })
    }

    /// Serves until the conversation or the connection ends.
    pub async fn run(mut self) {
        // Why it ended is the conversation's business (it has said what could be said).
        let _: Result<(), Gone> = self.serve().await;
    }

    async fn serve(&mut self) -> Result<(), Gone> {
        let mut progress = self.advance_pending();
        loop {
            // A socket that is ready at once, again and again, never makes a task wait: without this a peer that
            // does not stop sending would have its thread for itself.
            consume_budget().await;
            if !matches!(progress, Progress::NeedInput) || !self.out.is_empty() {
                self.flush().await?;
            }
            progress = match progress {
                Progress::NeedInput => self.next_input().await?,
                Progress::Blocked => self.advance_pending(),
                Progress::Wait(Wait::Pause(millis)) => {
                    // A stop ends it early.
                    let mut stopping = self.stopping.clone();
                    let stopped = stopping.wait_for(|stopping| *stopping);
                    let _ = tokio::time::timeout(Duration::from_millis(millis), stopped).await;
                    self.conversation.settle(Settled::Paused, &mut self.out);
                    self.advance_pending()
                }
                Progress::Wait(wait) => {
                    let settled = settle(wait, &self.logins).await;
                    self.conversation.settle(settled, &mut self.out);
                    self.advance_pending()
                }
                Progress::StartTls => {
                    let unread = std::mem::take(&mut self.pending);
                    let mut facts = None;
                    if unread.is_empty() {
                        // Boxed: a handshake needs more room than all else, and only once.
                        let tls = Box::pin(handshake(
                            &self.stream,
                            &self.acceptor,
                            &self.stopping,
                            Vec::new(),
                            &mut self.pending,
                        ));
                        let tls = tls.await?;
                        facts = tls.facts().map(Arc::new);
                        self.tls = Some(tls);
                    }
                    self.conversation.tls_started(facts, &unread);
                    self.advance_pending()
                }
                Progress::Closed => return self.close().await,
            };
        }
    }

    /// Feeds what was kept aside.
    fn advance_pending(&mut self) -> Progress {
        let now = self.clock.now();
        let (used, progress) = self.conversation.advance(now, &self.pending, &mut self.out);
        if used >= self.pending.len() {
            self.pending = Vec::new();
        } else {
            self.pending.drain(..used);
        }
        progress
    }

    /// Waits for input, for the conversation's deadline or for the engine's end, and advances.
    async fn next_input(&mut self) -> Result<Progress, Gone> {
        if self.out.capacity() > KEPT_OUTPUT {
            self.out = Vec::new();
        }
        loop {
            // Asked first, because a peer that does not stop sending would always be first.
            if !self.told && !matches!(self.stopping.has_changed(), Ok(false)) {
                return Ok(self.tell_of_the_end());
            }
            match self.wait_readable().await? {
                Wake::Deadline => return Ok(self.advance_pending()),
                Wake::Stopping => return Ok(self.tell_of_the_end()),
                Wake::Readable => {
                    if let Some(progress) = self.read()? {
                        return Ok(progress);
                    }
                }
            }
        }
    }

    /// Waits until there may be something to read, for the conversation's deadline, or for the engine's end.
    async fn wait_readable(&mut self) -> Result<Wake, Gone> {
        let deadline = self.conversation.deadline();
        let Connection { stream, stop, timer, stopping, clock, told, .. } = self;
        let mut readable = pin!(stream.readable());
        poll_fn(|context| {
            if let Poll::Ready(ready) = readable.as_mut().poll(context) {
                return Poll::Ready(ready.map(|()| Wake::Readable).map_err(Gone::from));
            }
            if !*told {
                let stop = stop.get_or_insert_with(|| {
                    let mut stopping = stopping.clone();
                    // An error means that the server is gone, which is a stop too.
                    Box::pin(async move { drop(stopping.wait_for(|stopping| *stopping).await) })
                });
                if stop.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Ok(Wake::Stopping));
                }
            }
            let Some(at) = deadline else { return Poll::Pending };
            loop {
                let set = timer.take().filter(|timer| timer.at <= at).unwrap_or_else(|| {
                    let left = Duration::from_millis(at.since(clock.now()));
                    Timer { at, sleep: Box::pin(tokio::time::sleep(left)) }
                });
                if timer.insert(set).sleep.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                *timer = None;
                if clock.now() >= at {
                    return Poll::Ready(Ok(Wake::Deadline));
                }
            }
        })
        .await
    }

    fn tell_of_the_end(&mut self) -> Progress {
        self.told = true;
        self.conversation.shutdown();
        self.advance_pending()
    }

    /// Reads once and advances; `None` when there was nothing to read after all.
    fn read(&mut self) -> Result<Option<Progress>, Gone> {
        let mut buffer = READ_BUFFER.take();
        buffer.clear();
        buffer.reserve(READ_BYTES);
        let result = self.read_into(&mut buffer);
        buffer.clear();
        if buffer.capacity() <= 2 * READ_BYTES {
            READ_BUFFER.set(buffer);
        }
        result
    }

    fn read_into(&mut self, buffer: &mut Vec<u8>) -> Result<Option<Progress>, Gone> {
        let read = match self.stream.try_read_buf(buffer) {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(_) => 0,
        };
        let open = match &mut self.tls {
            None => read != 0,
            Some(tls) => match tls.put_ciphertext(buffer, &mut self.pending) {
                Ok(open) => open && read != 0,
                Err(error) => {
                    tracing::debug!(%error, "TLS failed");
                    // The alert is the last that the peer hears of us.
                    let mut alert = Vec::new();
                    tls.take_ciphertext(&mut alert)?;
                    let _ = self.stream.try_write(&alert);
                    return Err(Gone);
                }
            },
        };
        let now = self.clock.now();
        if !open {
            self.conversation.eof(now);
        } else if self.tls.is_none() {
            if self.pending.is_empty() {
                // The common way: straight from the buffer, and only what is left over is copied.
                let (used, progress) = self.conversation.advance(now, buffer, &mut self.out);
                self.pending.extend_from_slice(buffer.get(used..).unwrap_or_default());
                return Ok(Some(progress));
            }
            self.pending.extend_from_slice(buffer);
        }
        Ok(Some(self.advance_pending()))
    }

    /// Writes out all output.
    async fn flush(&mut self) -> Result<(), Gone> {
        let mut bytes = std::mem::take(&mut self.out);
        if let Some(tls) = &mut self.tls {
            let mut ciphertext = Vec::new();
            tls.put_plaintext(&bytes, &mut ciphertext)?;
            tls.take_ciphertext(&mut ciphertext)?;
            bytes = ciphertext;
        }
        let written = write_some(&self.stream, &bytes)?;
        if written < bytes.len() {
            // It waits for a peer that may take its time: no more is held than what it has not taken.
            bytes.drain(..written);
            bytes.shrink_to_fit();
            self.pending.shrink_to_fit();
            write_all(&self.stream, &bytes).await?;
        }
        bytes.clear();
        self.out = bytes;
        Ok(())
    }

    /// Says goodbye in order: what was written reaches the peer before the socket is gone. Closing a socket
    /// with unread input would reset the connection and could destroy our last reply on its way.
    async fn close(&mut self) -> Result<(), Gone> {
        if let Some(tls) = &mut self.tls {
            tls.close();
        }
        self.flush().await?;
        Ok(linger(&mut self.stream).await?)
    }
}

/// Ends a connection so that what was written reaches the peer.
pub(super) async fn linger(stream: &mut Stream) -> io::Result<()> {
    stream.shut_down_writing().await?;
    let drained = async {
        loop {
            // Else the time-out around this would never be looked at while the peer sends.
            consume_budget().await;
            stream.readable().await?;
            let mut sink = READ_BUFFER.take();
            sink.clear();
            sink.reserve(READ_BYTES);
            let read = stream.try_read_buf(&mut sink);
            sink.clear();
            READ_BUFFER.set(sink);
            match read {
                Ok(0) => return Ok::<(), io::Error>(()),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(LINGER_MILLIS), drained).await;
    Ok(())
}

enum Wake {
    Readable,
    Deadline,
    Stopping,
}

/// Waits for what a conversation waits for; `logins` bounds the logins that are worked on at once. A job that panics is a job that failed.
pub(super) async fn settle(wait: Wait, logins: &Semaphore) -> Settled {
    match wait {
        Wait::Ticket(ticket) => Settled::Ticket(pin!(ticket).await),
        Wait::Verdict(awaited) => {
            let time = Duration::from_millis(awaited.millis);
            let verdict = tokio::time::timeout(time, pin!(awaited.ticket)).await;
            Settled::Verdict(verdict.ok().and_then(Result::ok))
        }
        Wait::Pause(millis) => {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Settled::Paused
        }
        Wait::Login(work) => {
            // The permit is held until the job has ended; the semaphore is never closed.
            let _permit = logins.acquire().await;
            tokio::task::spawn_blocking(work).await.unwrap_or(Settled::Failed)
        }
        Wait::Work(work) => tokio::task::spawn_blocking(work).await.unwrap_or(Settled::Failed),
    }
}

/// Writes what the socket takes at once; how many bytes that were.
fn write_some(stream: &Stream, bytes: &[u8]) -> Result<usize, Gone> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match stream.try_write(rest) {
            Ok(0) => return Err(Gone),
            Ok(n) => written += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => return Err(Gone),
        }
    }
    Ok(written)
}

pub(super) async fn write_all(stream: &Stream, mut bytes: &[u8]) -> Result<(), Gone> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(0) => return Err(Gone),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                within(WRITE_MILLIS, stream.writable()).await??;
            }
            Err(_) => return Err(Gone),
        }
    }
    Ok(())
}

pub(super) async fn within<T>(millis: u64, future: impl Future<Output = T>) -> Result<T, Gone> {
    tokio::time::timeout(Duration::from_millis(millis), future).await.map_err(|_| Gone)
}

/// Makes a TLS handshake as a server; `hello` is what of it has come already.
async fn handshake(
    stream: &Stream,
    acceptor: &Option<Acceptor>,
    stopping: &watch::Receiver<bool>,
    hello: Vec<u8>,
    early: &mut Vec<u8>,
) -> Result<Box<Tls>, Gone> {
    let mut tls = match acceptor {
        Some(acceptor) => Box::new(acceptor.accept().map_err(|_| Gone)?),
        None => return Err(Gone),
    };
    let shaken = shake_hands(stream, &mut tls, hello, early);
    let mut stopping = stopping.clone();
    tokio::select! {
        result = within(HANDSHAKE_MILLIS, shaken) => result??,
        _ = stopping.wait_for(|stopping| *stopping) => return Err(Gone),
    }
    Ok(tls)
}

/// Makes a TLS handshake; plaintext that came with its last flight goes to `early`.
async fn shake_hands(
    stream: &Stream,
    tls: &mut Tls,
    hello: Vec<u8>,
    early: &mut Vec<u8>,
) -> Result<(), Gone> {
    let mut buffer = hello;
    while tls.is_handshaking() {
        if buffer.is_empty() {
            stream.readable().await?;
            buffer.reserve(16 << 10);
            match stream.try_read_buf(&mut buffer) {
                Ok(0) => return Err(Gone),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return Err(Gone),
            }
        }
        let result = tls.put_ciphertext(&buffer, early);
        buffer.clear();
        let mut answer = Vec::new();
        tls.take_ciphertext(&mut answer)?;
        write_all(stream, &answer).await?;
        result?;
    }
    let mut rest = Vec::new();
    tls.take_ciphertext(&mut rest)?;
    write_all(stream, &rest).await
}
