//! `posthouse-load`: an SMTP load generator for benchmarks and for the tests that kill the server.
//!
//! It is a program of the `cli` feature rather than a `[[bench]]` target, for two reasons: scripts find it at a
//! fixed path beside `posthouse`, and one `cargo build --release --features cli` makes both without building
//! the development dependencies.
//!
//! # Method
//! One thread drives all connections; each is a small task that tries the socket first and waits only when the
//! kernel has nothing. A message costs two writes and two reads in the mode `grouped`, so the generator
//! takes little of the machine that it shares with the server. All connections are open and greeted before the
//! clock starts. Every reply code is checked. The latency of a message runs from the first octet of its
//! envelope to the reply that takes responsibility for it (RFC 5321 4.2.5).
//!
//! Modes:
//! - `grouped`: MAIL, RCPT and DATA in one write, the body and its final dot in the next (RFC 2920);
//! - `bdat`: MAIL, RCPT, BDAT LAST and the body in one write (RFC 3030);
//! - `plain`: one command at a time, as clients without PIPELINING do.
//!
//! With `--tls` all of it after STARTTLS. With `--sink` it is the other side: a server that keeps nothing.
//!
//! # Messages
//! Each message has an id that no other message of any run has, in its header and at the front of each line of its
//! body, and every other octet follows from its size. A reader who knows the layout (`tests/interop/message.py`)
//! can therefore tell a whole message from a damaged one, octet by octet, without a list of checksums.
//!
//! # Failures
//! A wrong reply or a broken connection before the body's end is an *error*; a connection lost between the body's
//! end and its reply leaves the message *unknown*: the server may or may not have taken it. No id is sent
//! twice. With `--retry` a worker connects again until its time is over (the server is expected to die); without,
//! it gives up, and the exit code is 1.
//!
//! RFCs: 5321, 2920, 3030.

#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tokio::sync::Notify;

mod connection;
mod sink;
mod template;
mod wire;

use connection::{Connection, Envelope, Failure, Mode};
use template::Template;

/// Sends generated mail over many SMTP connections and measures the replies.
#[derive(Debug, Parser)]
#[command(name = "posthouse-load", version)]
struct Arguments {
    /// Address and port of the server.
    #[arg(long, default_value = "127.0.0.1:2525")]
    target: SocketAddr,
    /// Send nothing: be a server at the target's address that takes everything and keeps nothing (port 0: any).
    #[arg(long)]
    sink: bool,
    /// Connections at the same time.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=9999))]
    connections: u16,
    /// Messages in all; without it, as many as fit into the seconds.
    #[arg(long)]
    messages: Option<u64>,
    /// Seconds to send for.
    #[arg(long)]
    seconds: Option<f64>,
    /// Octets of a message, header included.
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// How commands are sent.
    #[arg(long, value_enum, default_value_t = Mode::Grouped)]
    mode: Mode,
    /// Recipients are user1 to userN in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    users: u32,
    /// Domain of the recipients.
    #[arg(long, default_value = "example.test")]
    domain: String,
    /// STARTTLS before the first message; the server's certificate is not looked at.
    #[arg(long)]
    tls: bool,
    /// Reverse-path.
    #[arg(long, default_value = "load@sender.example")]
    from: String,
    /// QUIT and connect again after this many messages; 0: never.
    #[arg(long, default_value_t = 5000)]
    per_connection: u64,
    /// Seconds that one message may take.
    #[arg(long, default_value_t = 60.0)]
    timeout: f64,
    /// Append the id of every acknowledged message to this file, one a line.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Eight hexadecimal digits that begin every id; default: from the clock.
    #[arg(long, value_parser = parse_run)]
    run: Option<u32>,
    /// Connect again when the connection breaks, until the time is over.
    #[arg(long)]
    retry: bool,
}

fn parse_run(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 16).map_err(|_| "eight hexadecimal digits are needed".to_owned())
}

/// What all workers share.
struct Shared {
    arguments: Arguments,
    template: Template,
    run: u32,
    record: Option<Mutex<File>>,
    /// Messages not yet begun.
    left: AtomicU64,
    /// Workers that are ready, or have given up, before the start.
    ready: AtomicUsize,
    all_ready: Notify,
    start: Notify,
    deadline: Mutex<Option<Instant>>,
}

/// What one worker counted.
#[derive(Default)]
struct Tally {
    /// Microseconds of each acknowledged message.
    latencies: Vec<u32>,
    errors: u64,
    unknown: u64,
    reconnects: u64,
    first_error: Option<String>,
    ended: Option<Instant>,
}

impl Tally {
    fn error(&mut self, text: String) {
        self.errors += 1;
        self.first_error.get_or_insert(text);
    }
}

impl Shared {
    fn time_is_over(&self) -> bool {
        let deadline = self.deadline.lock().map(|deadline| *deadline).unwrap_or(None);
        deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Takes one message off the rest; false when there is none, or the time is over.
    fn take(&self) -> bool {
        !self.time_is_over()
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }

    fn acknowledged(&self, id: &[u8]) {
        if let Some(Ok(mut file)) = self.record.as_ref().map(Mutex::lock) {
            let mut line = id.to_vec();
            line.push(b'\n');
            if let Err(error) = file.write_all(&line) {
                eprintln!("posthouse-load: --record: {error}");
                std::process::exit(2);
            }
        }
    }

    /// Every worker calls this once; the clock starts when all have.
    fn count_ready(&self) {
        if self.ready.fetch_add(1, Ordering::Relaxed) + 1 == usize::from(self.arguments.connections)
        {
            self.all_ready.notify_one();
        }
    }
}

async fn open(shared: &Shared) -> Result<Connection, String> {
    let arguments = &shared.arguments;
    let limit = Duration::from_secs_f64(arguments.timeout);
    match tokio::time::timeout(
        limit,
        Connection::open(arguments.target, arguments.mode, arguments.tls),
    )
    .await
    {
        Ok(result) => result,
        Err(_) => Err("connect: timed out".to_owned()),
    }
}

async fn work(shared: Arc<Shared>, worker: u16) -> Tally {
    let mut tally = Tally::default();
    let arguments = &shared.arguments;
    let mut connection = match open(&shared).await {
        Ok(connection) => Some(connection),
        Err(text) => {
            tally.error(text);
            None
        }
    };
    let gave_up = connection.is_none() && !arguments.retry;
    // The future is made before the count: a notification between the two is not lost.
    let start = shared.start.notified();
    tokio::pin!(start);
    start.as_mut().enable();
    shared.count_ready();
    start.await;
    if gave_up {
        return tally;
    }

    let limit = Duration::from_secs_f64(arguments.timeout);
    let mail = format!("MAIL FROM:<{}>\r\n", arguments.from).into_bytes();
    let mut envelope = Envelope { mail, rcpt: Vec::new() };
    let mut body = Vec::new();
    let mut scratch = Vec::new();
    let mut sequence = 0u64;
    let mut on_this_connection = 0u64;
    let mut user = u64::from(worker);
    loop {
        let Some(open_connection) = connection.as_mut() else {
            if shared.time_is_over() {
                break;
            }
            match open(&shared).await {
                Ok(new) => {
                    tally.reconnects += 1;
                    on_this_connection = 0;
                    connection = Some(new);
                }
                Err(text) => {
                    if !arguments.retry {
                        tally.error(text);
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            continue;
        };
        if arguments.per_connection != 0 && on_this_connection >= arguments.per_connection {
            let _ = open_connection.send(b"QUIT\r\n").await;
            let _ = tokio::time::timeout(limit, open_connection.reply()).await;
            connection = None;
            continue;
        }
        if !shared.take() {
            let _ = open_connection.send(b"QUIT\r\n").await;
            break;
        }
        let id = format!("{:08x}-{worker:04}-{sequence:08}", shared.run);
        sequence += 1;
        on_this_connection += 1;
        envelope.rcpt.clear();
        let _ = write!(
            envelope.rcpt,
            "RCPT TO:<user{}@{}>\r\n",
            user % u64::from(arguments.users) + 1,
            arguments.domain
        );
        user += u64::from(arguments.connections);
        body.clear();
        shared.template.write(id.as_bytes(), &mut body);

        let begun = Instant::now();
        let outcome = tokio::time::timeout(
            limit,
            open_connection.message(arguments.mode, &envelope, &body, &mut scratch),
        )
        .await
        .unwrap_or_else(|_| Err(Failure::Unknown("timed out".to_owned())));
        match outcome {
            Ok(()) => {
                shared.acknowledged(id.as_bytes());
                let micros = begun.elapsed().as_micros();
                tally.latencies.push(u32::try_from(micros).unwrap_or(u32::MAX));
            }
            Err(failure) => {
                connection = None;
                match failure {
                    Failure::Refused(text) => tally.error(text),
                    Failure::Unknown(text) => {
                        tally.unknown += 1;
                        tally.first_error.get_or_insert(text);
                    }
                }
                if !arguments.retry {
                    break;
                }
            }
        }
    }
    tally.ended = Some(Instant::now());
    tally
}

fn percentile(sorted: &[u32], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    f64::from(sorted.get(at).copied().unwrap_or(0)) / 1000.0
}

async fn run(arguments: Arguments) -> Result<bool, String> {
    if arguments.sink {
        let ended = sink::serve(arguments.target).await;
        return ended.map(|()| true).map_err(|e| format!("sink: {e}"));
    }
    if arguments.messages.is_none() && arguments.seconds.is_none() {
        return Err("--messages or --seconds is needed".to_owned());
    }
    if arguments.retry && arguments.seconds.is_none() {
        return Err("--retry needs --seconds".to_owned());
    }
    let template = Template::new(arguments.size)?;
    let record = match &arguments.record {
        Some(path) => {
            let file = File::options().create(true).append(true).open(path);
            Some(Mutex::new(file.map_err(|e| format!("{}: {e}", path.display()))?))
        }
        None => None,
    };
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Milliseconds modulo 2^32: two runs of one day differ.
    let run = arguments.run.unwrap_or((clock.as_millis() & u128::from(u32::MAX)) as u32);
    let shared = Arc::new(Shared {
        left: AtomicU64::new(arguments.messages.unwrap_or(u64::MAX)),
        ready: AtomicUsize::new(0),
        all_ready: Notify::new(),
        start: Notify::new(),
        deadline: Mutex::new(None),
        arguments,
        template,
        run,
        record,
    });
    let connections = shared.arguments.connections;
    let workers: Vec<_> =
        (0..connections).map(|n| tokio::spawn(work(Arc::clone(&shared), n))).collect();
    shared.all_ready.notified().await;
    let began = Instant::now();
    if let (Some(seconds), Ok(mut deadline)) = (shared.arguments.seconds, shared.deadline.lock()) {
        *deadline = Some(began + Duration::from_secs_f64(seconds));
    }
    shared.start.notify_waiters();

    let mut all = Tally::default();
    for worker in workers {
        let tally = worker.await.map_err(|e| e.to_string())?;
        all.latencies.extend(tally.latencies);
        all.errors += tally.errors;
        all.unknown += tally.unknown;
        all.reconnects += tally.reconnects;
        all.first_error = all.first_error.or(tally.first_error);
        all.ended = all.ended.max(tally.ended);
    }
    let seconds = all.ended.unwrap_or(began).duration_since(began).as_secs_f64().max(1e-9);
    all.latencies.sort_unstable();
    let messages = all.latencies.len();
    let rate = messages as f64 / seconds;
    let (p50, p99) = (percentile(&all.latencies, 50), percentile(&all.latencies, 99));
    let mode = format!("{:?}", shared.arguments.mode).to_ascii_lowercase();
    eprintln!(
        "{messages} messages of {} octets over {connections} connections ({mode}) in {seconds:.2} s: \
         {rate:.0}/s, p50 {p50:.2} ms, p99 {p99:.2} ms, {} errors, {} unknown{}",
        shared.arguments.size,
        all.errors,
        all.unknown,
        all.first_error.as_ref().map(|e| format!(" (first: {e})")).unwrap_or_default(),
    );
    let line = serde_json::json!({
        "target": shared.arguments.target.to_string(),
        "mode": mode,
        "tls": shared.arguments.tls,
        "connections": connections,
        "size": shared.arguments.size,
        "run": format!("{:08x}", shared.run),
        "messages": messages,
        "seconds": seconds,
        "rate": rate,
        "p50_ms": p50,
        "p99_ms": p99,
        "max_ms": percentile(&all.latencies, 100),
        "errors": all.errors,
        "unknown": all.unknown,
        "reconnects": all.reconnects,
        "first_error": all.first_error,
    });
    println!("{line}");
    Ok(shared.arguments.retry || (all.errors == 0 && all.unknown == 0))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("posthouse-load: runtime: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("posthouse-load: {text}");
            ExitCode::from(2)
        }
    }
}
