//! Connections whose sockets are the host's: the host reads and writes, the engine answers.
//!
//! A [`Hosted`] is what [`Connection`](super::connection) is without a socket and without a task: the host feeds what it
//! read with [`Hosted::step`], writes what comes out, and waits for whatever it waits for in its own loop. TLS is the engine's when it
//! was asked for (octets in and out are then ciphertext), or the host's.
//!
//! What a conversation waits for (the store's word, a password's hash) runs in a [`Crew`], a small runtime of its own beside the
//! listeners', made when the first such connection is. When it has come, the host's `ready` is called on one of the crew's threads,
//! once for each time that `step` answered [`Doing::Waiting`]; also when the crew ends before.
//!
//! While something is awaited nothing is consumed: the host keeps its input, stops reading, and the peer's pipelining waits
//! in the kernel.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::connection::settle;
use super::tls::{Acceptor, Tls};
use crate::error::{Error, Result, kind_of_io};
use crate::service::{Conversation, Progress, Settled, TlsFacts, Wait};
use crate::sync::Mutex;
use crate::time::{Clock, Time};

/// Ciphertext that is taken in at once.
const CIPHERTEXT_BYTES: usize = 64 << 10;
/// Milliseconds for a TLS handshake.
const HANDSHAKE_MILLIS: u64 = 30_000;
/// Threads of the crew for jobs that may block.
const BLOCKING_THREADS: usize = 4;
/// Seconds that the crew's end waits for jobs that run.
const END_SECONDS: u64 = 10;

/// Runs what hosted connections wait for.
pub struct Crew {
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    /// Room for logins that are worked on: half of the threads.
    logins: Arc<Semaphore>,
}

impl Crew {
    /// One thread, and a few for jobs that block; `on_thread_start` is called at the start of each.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn new(on_thread_start: Arc<dyn Fn() + Send + Sync>) -> Result<Arc<Crew>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("posthouse-crew")
            .enable_time()
            .on_thread_start(move || on_thread_start())
            .build()
            .map_err(|e| Error::new(kind_of_io(&e), format!("cannot start the runtime: {e}")))?;
        let logins = Arc::new(Semaphore::new(BLOCKING_THREADS / 2));
        Ok(Arc::new(Crew { runtime: Mutex::new(Some(runtime)), logins }))
    }

    /// Ends it: what is awaited has failed.
    pub fn end(&self) {
        let runtime = self.runtime.lock().take();
        if let Some(runtime) = runtime {
            runtime.shutdown_timeout(Duration::from_secs(END_SECONDS));
        }
    }

    fn run(&self, wait: Wait, answer: Answer) {
        let runtime = self.runtime.lock();
        // Without a runtime `answer` is dropped, which answers.
        if let Some(runtime) = runtime.as_ref() {
            let logins = Arc::clone(&self.logins);
            runtime.spawn(async move { answer.give(settle(wait, &logins).await) });
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().take() {
            // Waiting here would panic where the host runs tasks of its own.
            runtime.shutdown_background();
        }
    }
}

/// Called when what was awaited has come. On a thread of the crew.
pub type Ready = Arc<dyn Fn() + Send + Sync>;

type Slot = Arc<Mutex<Option<Settled>>>;

/// Brings what was awaited, whatever becomes of who brings it.
struct Answer {
    slot: Slot,
    ready: Option<Ready>,
}

impl Answer {
    fn give(self, settled: Settled) {
        *self.slot.lock() = Some(settled);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.slot.lock().get_or_insert(Settled::Failed);
        if let Some(ready) = self.ready.take() {
            ready();
        }
    }
}

/// Who does TLS.
#[derive(Clone)]
pub enum TlsBy {
    /// Nobody: it is not offered.
    Nobody,
    /// The host: [`Doing::StartTls`] asks for it.
    Host,
    /// The engine.
    Engine(Acceptor),
}

/// What comes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Write the output; then read more, or wait for the time-out.
    NeedInput,
    /// Write the output, then step again.
    Blocked,
    /// Write the output, then wait for `ready`, and step again.
    Waiting,
    /// Write the output, make the handshake, then [`Hosted::tls_started`].
    StartTls,
    /// Write the output and close.
    Closed,
}

/// A conversation that is begun once it is known whether TLS is on.
pub type Converse = Box<dyn FnOnce(Option<Arc<TlsFacts>>) -> Box<dyn Conversation> + Send>;

enum Phase {
    /// The first handshake is under way.
    Before(Converse),
    /// It talks.
    Talking(Box<dyn Conversation>),
    /// It is over.
    Over,
}

/// One connection.
pub struct Hosted {
    phase: Phase,
    by: TlsBy,
    tls: Option<Box<Tls>>,
    handshake_until: Option<Time>,
    clock: Arc<dyn Clock>,
    crew: Arc<Crew>,
    ready: Ready,
    waiting: Option<Slot>,
    /// Plaintext that came out of TLS and is not used up.
    plain: Vec<u8>,
    eof: bool,
}

impl Hosted {
    /// A connection that begins now. `implicit`: TLS by the engine from the first octet.
    ///
    /// # Errors
    /// TLS cannot begin.
    pub fn new(
        converse: Converse,
        by: TlsBy,
        implicit: bool,
        clock: Arc<dyn Clock>,
        crew: Arc<Crew>,
        ready: Ready,
    ) -> Result<Hosted> {
        let mut hosted = Hosted {
            phase: Phase::Over,
            by,
            tls: None,
            handshake_until: None,
            clock,
            crew,
            ready,
            waiting: None,
            plain: Vec::new(),
            eof: false,
        };
        match &hosted.by {
            TlsBy::Engine(acceptor) if implicit => {
                hosted.tls = Some(Box::new(acceptor.accept()?));
                hosted.handshake_until = Some(hosted.clock.now().after(HANDSHAKE_MILLIS));
                hosted.phase = Phase::Before(converse);
            }
            _ => hosted.phase = Phase::Talking(converse(None)),
        }
        Ok(hosted)
    }

    /// Consumes a prefix of `input` and appends what is to be written. The rest of the input comes again with the next step.
    pub fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Doing) {
        if let Some(slot) = &self.waiting {
            let Some(settled) = slot.lock().take() else { return (0, Doing::Waiting) };
            self.waiting = None;
            if let Phase::Talking(conversation) = &mut self.phase {
                let mut said = Vec::new();
                conversation.settle(settled, &mut said);
                self.say(&said, out);
            }
        }
        let mut used = 0;
        // What was read before goes first, so that no more than two pieces are ever held.
        let mut given = self.plain.len() >= CIPHERTEXT_BYTES;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            if self.tls.is_some() && !given {
                given = true;
                let taken = rest.len().min(CIPHERTEXT_BYTES);
                used += taken;
                self.unseal(rest.get(..taken).unwrap_or_default(), out);
                continue;
            }
            let (consumed, doing) = self.advance(rest, out);
            used += consumed;
            match doing {
                Some(Doing::NeedInput) if self.tls.is_some() && used < input.len() => given = false,
                Some(doing) => return (used, doing),
                None => given = true,
            }
        }
    }

    /// Advances the conversation once; `None`: there is more to do at once.
    fn advance(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Doing>) {
        let now = self.clock.now();
        let conversation = match &mut self.phase {
            Phase::Talking(_) if self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) => {
                return (0, Some(self.still_handshaking(now)));
            }
            Phase::Talking(conversation) => conversation,
            Phase::Before(_) => return (0, Some(self.still_handshaking(now))),
            Phase::Over => return (input.len(), Some(Doing::Closed)),
        };
        let mut said = Vec::new();
        let sealed = self.tls.is_some();
        let (used, progress) =
            conversation.advance(now, if sealed { &self.plain } else { input }, &mut said);
        self.say(&said, out);
        let used = if sealed {
            self.plain.drain(..used.min(self.plain.len()));
            0
        } else {
            used
        };
        let doing = match progress {
            Progress::NeedInput => Doing::NeedInput,
            Progress::Blocked => Doing::Blocked,
            Progress::Wait(wait) => {
                let slot = Slot::default();
                let answer =
                    Answer { slot: Arc::clone(&slot), ready: Some(Arc::clone(&self.ready)) };
                self.waiting = Some(slot);
                self.crew.run(wait, answer);
                Doing::Waiting
            }
            Progress::StartTls => {
                return self.start_tls(now, used, input.get(used..).unwrap_or_default());
            }
            Progress::Closed => {
                self.end(out);
                Doing::Closed
            }
        };
        (used, Some(doing))
    }

    fn still_handshaking(&mut self, now: Time) -> Doing {
        if self.eof || self.handshake_until.is_none_or(|until| now >= until) {
            self.phase = Phase::Over;
            return Doing::Closed;
        }
        Doing::NeedInput
    }

    fn start_tls(&mut self, now: Time, used: usize, unread: &[u8]) -> (usize, Option<Doing>) {
        let TlsBy::Engine(acceptor) = &self.by else { return (used, Some(Doing::StartTls)) };
        if !unread.is_empty() {
            if let Phase::Talking(conversation) = &mut self.phase {
                conversation.tls_started(None, unread);
            }
            return (used + unread.len(), None);
        }
        match acceptor.accept() {
            Ok(tls) => {
                self.tls = Some(Box::new(tls));
                self.handshake_until = Some(now.after(HANDSHAKE_MILLIS));
                (used, Some(Doing::NeedInput))
            }
            Err(error) => {
                tracing::warn!(%error, "TLS cannot begin");
                self.phase = Phase::Over;
                (used, Some(Doing::Closed))
            }
        }
    }

    /// Takes in ciphertext.
    fn unseal(&mut self, ciphertext: &[u8], out: &mut Vec<u8>) {
        let Some(tls) = &mut self.tls else { return };
        let was_handshaking = tls.is_handshaking();
        let result = tls.put_ciphertext(ciphertext, &mut self.plain);
        let sent = tls.take_ciphertext(out);
        match result {
            Ok(true) if sent.is_ok() => {}
            Ok(_) => self.eof(),
            Err(error) => {
                tracing::debug!(%error, "TLS failed");
                self.phase = Phase::Over;
                return;
            }
        }
        let Some(tls) = &self.tls else { return };
        if was_handshaking && !tls.is_handshaking() {
            self.handshake_until = None;
            let facts = tls.facts().map(Arc::new);
            self.phase = match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Before(converse) => Phase::Talking(converse(facts)),
                Phase::Talking(mut conversation) => {
                    conversation.tls_started(facts, &[]);
                    Phase::Talking(conversation)
                }
                Phase::Over => Phase::Over,
            };
        }
    }

    /// Output of the conversation, sealed when TLS is the engine's.
    fn say(&mut self, said: &[u8], out: &mut Vec<u8>) {
        match &mut self.tls {
            None => out.extend_from_slice(said),
            Some(tls) => {
                if tls.put_plaintext(said, out).is_err() {
                    self.phase = Phase::Over;
                }
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.phase = Phase::Over;
        if let Some(tls) = &mut self.tls {
            tls.close();
            let _ = tls.take_ciphertext(out);
        }
    }

    /// The host has made the handshake that [`Doing::StartTls`] asked for. `unread` is what it had read in clear and `step` had not
    /// consumed.
    pub fn tls_started(&mut self, facts: Option<Arc<TlsFacts>>, unread: &[u8]) {
        if let Phase::Talking(conversation) = &mut self.phase {
            conversation.tls_started(facts, unread);
        }
    }

    /// The peer will send nothing more. Call `step` afterwards.
    pub fn eof(&mut self) {
        self.eof = true;
        let now = self.clock.now();
        if let Phase::Talking(conversation) = &mut self.phase {
            conversation.eof(now);
        }
    }

    /// The conversation is to end where its protocol allows it (421). Call `step` afterwards.
    pub fn shutdown(&mut self) {
        match &mut self.phase {
            Phase::Talking(conversation) => conversation.shutdown(),
            phase => *phase = Phase::Over,
        }
    }

    /// Milliseconds until `step` is to be called even without input; `None`: never.
    pub fn timeout_millis(&self) -> Option<u64> {
        if self.waiting.is_some() {
            return None;
        }
        let deadline = match (&self.phase, self.handshake_until) {
            (Phase::Over, _) => None,
            (_, Some(until)) => Some(until),
            (Phase::Talking(conversation), None) => conversation.deadline(),
            (Phase::Before(_), None) => None,
        };
        Some(deadline?.since(self.clock.now()))
    }
}
