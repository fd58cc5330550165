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
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Octets of an id: `RRRRRRRR-WWWW-SSSSSSSS`, run, worker, sequence.
const ID_LENGTH: usize = 22;
/// Octets of a full body line, CR LF included.
const LINE_LENGTH: usize = 64;
/// Longest reply line accepted (RFC 5321 4.5.3.1.5 allows 512; extensions may need more).
const REPLY_LINE: usize = 4096;
/// What stands behind the id and the line number in a body line.
const FILL: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Envelope in one write, body in the next.
    Grouped,
    /// Envelope and body in one write, with BDAT.
    Bdat,
    /// One command at a time.
    Plain,
}

/// Sends generated mail over many SMTP connections and measures the replies.
#[derive(Debug, Parser)]
#[command(name = "posthouse-load", version)]
struct Arguments {
    /// Address and port of the server.
    #[arg(long, default_value = "127.0.0.1:2525")]
    target: SocketAddr,
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

/// The text of a message; the id is put in for each one.
struct Template {
    octets: Vec<u8>,
    /// Where the id stands.
    places: Vec<usize>,
}

impl Template {
    fn new(size: usize) -> Result<Template, String> {
        let blank = [b'0'; ID_LENGTH];
        let mut octets = b"From: <load@sender.example>\r\nSubject: load\r\nX-Load-Id: ".to_vec();
        let mut places = vec![octets.len()];
        octets.extend_from_slice(&blank);
        octets.extend_from_slice(format!("\r\nX-Load-Size: {size:08}\r\n\r\n").as_bytes());
        let Some(mut left) = size.checked_sub(octets.len()).filter(|left| *left >= 2) else {
            return Err(format!("--size {size} is too small: at least {}", octets.len() + 2));
        };
        let mut number = 0u32;
        // The last line takes what is left over, between 2 and 65 octets, and has no id.
        while left >= LINE_LENGTH + 2 {
            places.push(octets.len());
            octets.extend_from_slice(&blank);
            octets.extend_from_slice(format!(" {number:06} ").as_bytes());
            let fill = LINE_LENGTH - ID_LENGTH - 8 - 2;
            octets.extend_from_slice(FILL.get(..fill).unwrap_or(FILL));
            octets.extend_from_slice(b"\r\n");
            left -= LINE_LENGTH;
            number += 1;
        }
        octets.resize(octets.len() + left - 2, b'x');
        octets.extend_from_slice(b"\r\n");
        Ok(Template { octets, places })
    }

    fn write(&self, id: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.octets);
        for place in &self.places {
            out[start + place..start + place + ID_LENGTH].copy_from_slice(id);
        }
    }
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

/// Why a message was not acknowledged.
enum Failure {
    /// The server certainly has not taken it.
    Refused(String),
    /// The body's end was sent and no reply came.
    Unknown(String),
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    consumed: usize,
}

impl Connection {
    /// Connects, and greets.
    async fn open(target: SocketAddr, mode: Mode) -> Result<Connection, String> {
        let stream = TcpStream::connect(target).await.map_err(|e| format!("connect: {e}"))?;
        stream.set_nodelay(true).map_err(|e| format!("TCP_NODELAY: {e}"))?;
        let mut connection = Connection { stream, input: Vec::new(), consumed: 0 };
        connection.expect(b"220", "greeting").await?;
        connection.send(b"EHLO load.sender.example\r\n").await.map_err(|e| format!("EHLO: {e}"))?;
        let reply = connection.expect(b"250", "EHLO").await?;
        let needed = match mode {
            Mode::Grouped => "PIPELINING",
            Mode::Bdat => "CHUNKING",
            Mode::Plain => "",
        };
        if !reply.to_ascii_uppercase().contains(needed) {
            return Err(format!("the server does not offer {needed}"));
        }
        Ok(connection)
    }

    async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let mut rest = octets;
        while !rest.is_empty() {
            match self.stream.try_write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.stream.writable().await?,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// One line without its CR LF, as a range of `input`.
    async fn line(&mut self) -> io::Result<std::ops::Range<usize>> {
        let mut searched = self.consumed;
        loop {
            if let Some(at) = self.input[searched..].iter().position(|octet| *octet == b'\n') {
                let begin = self.consumed;
                let end = searched + at;
                self.consumed = end + 1;
                let end = if self.input[begin..end].ends_with(b"\r") { end - 1 } else { end };
                return Ok(begin..end);
            }
            if self.consumed > 0 {
                self.input.drain(..self.consumed);
                self.consumed = 0;
            }
            searched = self.input.len();
            if searched > REPLY_LINE {
                return Err(io::Error::other("reply line too long"));
            }
            let mut buffer = [0u8; 4096];
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.stream.readable().await?,
                Err(e) => return Err(e),
            }
        }
    }

    /// One whole reply, its lines joined by line feeds.
    async fn reply(&mut self) -> io::Result<String> {
        let mut text = String::new();
        loop {
            let line = self.line().await?;
            let line = &self.input[line];
            let last = line.get(3) != Some(&b'-');
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&String::from_utf8_lossy(line));
            if last {
                return Ok(text);
            }
        }
    }

    /// Reads the reply to `command` and checks its code. Expected one-line replies make no garbage.
    async fn expect(&mut self, code: &[u8; 3], command: &str) -> Result<String, String> {
        let reply = self.reply().await.map_err(|e| format!("{command}: {e}"))?;
        if reply.as_bytes().starts_with(code) {
            return Ok(reply);
        }
        Err(format!("{command}: {reply}"))
    }

    /// As `expect`, for replies of one line whose text nobody reads.
    async fn expect_code(&mut self, code: &[u8; 3], command: &str) -> Result<(), String> {
        let line = self.line().await.map_err(|e| format!("{command}: {e}"))?;
        let line = &self.input[line];
        if line.starts_with(code) && line.get(3) != Some(&b'-') {
            return Ok(());
        }
        Err(format!("{command}: {}", String::from_utf8_lossy(line)))
    }

    async fn message(
        &mut self,
        mode: Mode,
        envelope: &Envelope,
        body: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let refused = |text: String| Failure::Refused(text);
        let broken = |e: io::Error| Failure::Refused(format!("send: {e}"));
        scratch.clear();
        match mode {
            Mode::Grouped => {
                scratch.extend_from_slice(&envelope.mail);
                scratch.extend_from_slice(&envelope.rcpt);
                scratch.extend_from_slice(b"DATA\r\n");
                self.send(scratch).await.map_err(broken)?;
                self.expect_code(b"250", "MAIL").await.map_err(refused)?;
                self.expect_code(b"250", "RCPT").await.map_err(refused)?;
                self.expect_code(b"354", "DATA").await.map_err(refused)?;
            }
            Mode::Plain => {
                self.send(&envelope.mail).await.map_err(broken)?;
                self.expect_code(b"250", "MAIL").await.map_err(refused)?;
                self.send(&envelope.rcpt).await.map_err(broken)?;
                self.expect_code(b"250", "RCPT").await.map_err(refused)?;
                self.send(b"DATA\r\n").await.map_err(broken)?;
                self.expect_code(b"354", "DATA").await.map_err(refused)?;
            }
            Mode::Bdat => {
                scratch.extend_from_slice(&envelope.mail);
                scratch.extend_from_slice(&envelope.rcpt);
                scratch.extend_from_slice(format!("BDAT {} LAST\r\n", body.len()).as_bytes());
                scratch.extend_from_slice(body);
                // From here on the whole message may be there, whatever becomes of the connection.
                let unknown = |text: String| Failure::Unknown(text);
                self.send(scratch).await.map_err(|e| unknown(format!("send: {e}")))?;
                self.expect_code(b"250", "MAIL").await.map_err(unknown)?;
                self.expect_code(b"250", "RCPT").await.map_err(unknown)?;
                return self.taken("BDAT").await;
            }
        }
        scratch.clear();
        scratch.extend_from_slice(body);
        scratch.extend_from_slice(b".\r\n");
        self.send(scratch).await.map_err(|e| Failure::Unknown(format!("send body: {e}")))?;
        self.taken("end of data").await
    }

    /// The reply that takes responsibility. A reply of another class is a refusal; silence is unknown.
    async fn taken(&mut self, command: &str) -> Result<(), Failure> {
        let line = self.line().await.map_err(|e| Failure::Unknown(format!("{command}: {e}")))?;
        let line = &self.input[line];
        if line.starts_with(b"250") {
            return Ok(());
        }
        Err(Failure::Refused(format!("{command}: {}", String::from_utf8_lossy(line))))
    }
}

struct Envelope {
    mail: Vec<u8>,
    rcpt: Vec<u8>,
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
    let limit = Duration::from_secs_f64(shared.arguments.timeout);
    match tokio::time::timeout(
        limit,
        Connection::open(shared.arguments.target, shared.arguments.mode),
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
