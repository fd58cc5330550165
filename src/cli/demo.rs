//! `demo`: the main job on one machine, with nothing prepared.
//!
//! It makes an instance, serves it in this process, sends mail over real sockets as another server and as a
//! user would, reads it back over POP3, and compares every byte. Each step is one line with its figures. Then
//! it keeps serving and prints lines to try, with the real ports and passwords; with `--once` it ends instead, and
//! its exit code tells whether all bytes came back.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use posthouse::Engine;
use posthouse::directory::NewAccount;
use posthouse::engine::Options;
use posthouse::instance::{self, ListenerConfig, Setup, TlsSetup, parse_listener};
use posthouse::runtime::tls::Connector;
use posthouse::time::SystemClock;
use posthouse::vfs::{Fs, os::OsFs};

use super::conversation::{Pop3, Smtp};
use super::message::{numbered, samples, split_trace};
use super::output::{count, size};
use super::serve::watch_signals;
use super::{Failure, Outcome};

const HOSTNAME: &str = "mail.example.test";
const OUTSIDE: &str = "sender@elsewhere.example";
const USER1: &str = "user1@example.test";
const USER2: &str = "user2@example.test";

/// Listeners with the ports that they have when those are free.
const LISTENERS: [(&str, u16); 3] = [("smtp", 2525), ("submission", 2587), ("pop3", 2110)];

/// Connections that send at once.
const SENDERS: usize = 8;

#[derive(clap::Args)]
pub struct Args {
    /// End after the round trip: exit code 0 when all bytes came back
    #[arg(long)]
    once: bool,
    /// Make the instance in this directory and keep it; otherwise a temporary one is removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Messages of 4 KiB to send besides those of special shape
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    messages: u32,
}

pub fn run(args: &Args) -> Outcome {
    let (wake, woken) = channel();
    watch_signals(wake)?;
    let home = Home::new(args.dir.as_deref())?;
    let demo = Demo::begin(&home.instance)?;
    let outcome = demo.round_trip(args.messages as usize);
    if outcome.is_ok() && !args.once {
        demo.invite()?;
        // A signal, or the end of the thread that watches for them: either ends the demo.
        let _ = woken.recv();
        writeln!(io::stdout(), "\nstopping")?;
    }
    let closed = demo.engine.close();
    drop(home);
    outcome?;
    Ok(closed?)
}

/// Where the instance lives; a temporary one is removed when dropped.
struct Home {
    instance: PathBuf,
    temporary: bool,
}

impl Home {
    fn new(dir: Option<&Path>) -> Result<Home, Failure> {
        if let Some(dir) = dir {
            return Ok(Home { instance: dir.to_owned(), temporary: false });
        }
        let name = format!("posthouse-demo-{}", secret()?);
        Ok(Home { instance: std::env::temp_dir().join(name), temporary: true })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.instance);
        }
    }
}

/// Sixteen random letters and digits.
fn secret() -> Result<String, Failure> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::new(format_args!("no randomness is to be had: {e}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The running demo.
struct Demo {
    instance: PathBuf,
    engine: Arc<Engine>,
    certificate: PathBuf,
    connector: Connector,
    passwords: [String; 2],
    smtp: SocketAddr,
    submission: SocketAddr,
    pop3: SocketAddr,
}

/// Prints a step's line: what was done, with its figures.
fn step(what: impl std::fmt::Display) -> Outcome {
    let mut out = io::stdout().lock();
    writeln!(out, "  {what}")?;
    out.flush()?;
    Ok(())
}

fn millis(since: Instant) -> u128 {
    since.elapsed().as_millis()
}

/// The preferred port when it is free, any free one otherwise.
fn listener(name: &str, port: u16) -> Result<ListenerConfig, Failure> {
    let free = TcpListener::bind(("127.0.0.1", port)).is_ok();
    let port = if free { port } else { 0 };
    Ok(parse_listener(&format!("{name}=127.0.0.1:{port}"))?)
}

impl Demo {
    /// Makes the instance and serves it.
    fn begin(instance: &Path) -> Result<Demo, Failure> {
        writeln!(io::stdout(), "posthouse {} demo", env!("CARGO_PKG_VERSION"))?;
        let fs: Arc<dyn Fs> = Arc::new(OsFs::new());
        let since = Instant::now();
        let setup = Setup {
            hostname: HOSTNAME.to_owned(),
            domains: vec!["example.test".to_owned()],
            postmaster_password: secret()?,
            listeners: LISTENERS
                .iter()
                .map(|(name, port)| listener(name, *port))
                .collect::<Result<_, _>>()?,
            tls: TlsSetup::SelfSigned,
            lanes: 0,
        };
        instance::setup(&fs, &SystemClock::shared(), instance, &setup)?;
        step(format_args!("made an instance in {} ({} ms)", instance.display(), millis(since)))?;

        let since = Instant::now();
        let engine = Engine::open(instance, Options::default())?;
        let passwords = [secret()?, secret()?];
        for ((login, address), password) in
            [("user1", USER1), ("user2", USER2)].iter().zip(&passwords)
        {
            engine.account_add(&NewAccount {
                addresses: vec![(*address).to_owned()],
                login: Some((*login).to_owned()),
                password: password.clone(),
            })?;
        }
        step(format_args!("added the accounts {USER1} and {USER2} ({} ms)", millis(since)))?;

        engine.start()?;
        let listening = engine.listeners();
        let address = |name: &str| {
            listening
                .iter()
                .find(|l| l.config.name == name)
                .and_then(|l| l.address.tcp())
                .ok_or_else(|| Failure::new(format_args!("listener {name} does not serve")))
        };
        let (smtp, submission, pop3) = (address("smtp")?, address("submission")?, address("pop3")?);
        step(format_args!("serves smtp={smtp} submission={submission} pop3={pop3}"))?;
        let certificate = engine
            .config()
            .tls
            .as_ref()
            .and_then(|tls| tls.certificates.first())
            .map(|files| files.certificate.clone())
            .ok_or_else(|| Failure::new("the instance has no certificate"))?;
        let connector = Connector::trusting(fs.as_ref(), &certificate)?;
        let instance = instance.to_owned();
        Ok(Demo { instance, engine, certificate, connector, passwords, smtp, submission, pop3 })
    }

    /// Sends, reads back, compares.
    fn round_trip(&self, number: usize) -> Outcome {
        let mut sent = Expected::default();
        self.send_samples(&mut sent)?;
        self.send_many(number, &mut sent)?;
        self.submit(&mut sent)?;
        self.read_back(0, &sent.user1)?;
        self.read_back(1, &sent.user2)?;
        let waiting = self.engine.queue_list(None, 10)?;
        let found: Vec<_> = waiting.iter().flat_map(|entry| &entry.recipients).collect();
        match found.as_slice() {
            [recipient] if recipient.address == b"friend@elsewhere.example" => {}
            _ => return Err(Failure::new("the queue does not hold what was sent elsewhere")),
        }
        step("the queue holds the recipient elsewhere, once")?;
        let stats = self.engine.stats();
        step(format_args!(
            "{} accepted with {} and {} of log",
            count(stats.messages_accepted, "message"),
            count(stats.log_syncs, "disk sync"),
            size(stats.log_bytes)
        ))?;
        let all = sent.user1.len() + sent.user2.len();
        writeln!(io::stdout(), "all {all} messages came back byte for byte")?;
        Ok(())
    }

    /// As another server, over STARTTLS: messages of special shape.
    fn send_samples(&self, sent: &mut Expected) -> Outcome {
        let since = Instant::now();
        let mut client = Smtp::connect(self.smtp)?;
        client.start_tls(&self.connector, HOSTNAME)?;
        let samples = samples();
        let mut bytes = 0;
        for sample in samples {
            client.send(OUTSIDE, &[USER1], &sample.bytes).map_err(|e| match e {
                Failure::Told(text) => Failure::new(format_args!("{}: {text}", sample.about)),
                other => other,
            })?;
            bytes += sample.bytes.len() as u64;
            sent.user1.push(Message {
                from: OUTSIDE,
                about: sample.about.to_owned(),
                bytes: sample.bytes,
            });
        }
        client.quit()?;
        step(format_args!(
            "sent {} of special shape over SMTP with STARTTLS, {} ({} ms)",
            count(sent.user1.len() as u64, "message"),
            size(bytes),
            millis(since)
        ))
    }

    /// As other servers, several at once: messages of 4 KiB.
    fn send_many(&self, number: usize, sent: &mut Expected) -> Outcome {
        if number == 0 {
            return Ok(());
        }
        let bar = bar(number);
        let since = Instant::now();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut client = Smtp::connect(self.smtp)?;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= number {
                    return client.quit();
                }
                client.send(OUTSIDE, &[USER1], &numbered(n))?;
                bar.inc(1);
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..SENDERS).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(outcome) => outcome,
                Err(_) => Err(Failure::new("a sender panicked")),
            })
        })?;
        let seconds = since.elapsed().as_secs_f64();
        bar.finish_and_clear();
        let mut bytes = 0;
        for n in 0..number {
            let message = numbered(n);
            bytes += message.len() as u64;
            sent.user1.push(Message {
                from: OUTSIDE,
                about: format!("number {n}"),
                bytes: message,
            });
        }
        step(format_args!(
            "sent {} over {SENDERS} connections, {} ({:.0} ms, {:.0} a second, each on disk before its 250)",
            count(number as u64, "message"),
            size(bytes),
            seconds * 1000.0,
            number as f64 / seconds.max(1e-9)
        ))
    }

    /// As a user, logged in over STARTTLS: to a user here and to one elsewhere.
    fn submit(&self, sent: &mut Expected) -> Outcome {
        let since = Instant::now();
        let mut client = Smtp::connect(self.submission)?;
        client.start_tls(&self.connector, HOSTNAME)?;
        client.log_in("user1", &self.passwords[0])?;
        // Whole as it is: submission would add what lacks of these.
        let bytes = b"From: <user1@example.test>\r\nTo: <user2@example.test>\r\n\
            Cc: <friend@elsewhere.example>\r\nDate: Fri, 1 Jan 2027 00:00:00 +0000\r\n\
            Message-ID: <submitted@example.test>\r\nSubject: submitted\r\n\r\nHello.\r\n"
            .to_vec();
        client.send(USER1, &[USER2, "friend@elsewhere.example"], &bytes)?;
        client.quit()?;
        sent.user2.push(Message { from: USER1, about: "the submitted message".to_owned(), bytes });
        step(format_args!(
            "submitted a message as user1 over TLS, to a user here and one elsewhere ({} ms)",
            millis(since)
        ))
    }

    /// Reads a mailbox over POP3 with STLS and compares: every message there, once, and nothing else.
    fn read_back(&self, user: usize, sent: &[Message]) -> Outcome {
        let login = format!("user{}", user + 1);
        let since = Instant::now();
        let password = self.passwords.get(user).map_or("", String::as_str);
        let mut client = Pop3::connect(self.pop3, &self.connector, HOSTNAME, &login, password)?;
        let messages = client.messages()?;
        let bar = bar(messages as usize);
        // What was sent and did not come back yet, by its bytes.
        let mut missing: HashMap<&[u8], Vec<&Message>> = HashMap::new();
        for message in sent {
            missing.entry(&message.bytes).or_default().push(message);
        }
        let mut octets = 0;
        for number in 1..=messages {
            let received = client.retrieve(number)?;
            octets += received.len() as u64;
            let from = sent.first().map_or(OUTSIDE, |message| message.from);
            let (_, body) = split_trace(&received, from)?;
            if missing.get_mut(body).and_then(Vec::pop).is_none() {
                return Err(Failure::new(format_args!(
                    "message {number} of {login} is not one that was sent: {} octets behind the trace",
                    body.len()
                )));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        client.quit()?;
        if let Some(message) = missing.values().flatten().next() {
            let lost: usize = missing.values().map(Vec::len).sum();
            return Err(Failure::new(format_args!(
                "{} did not come back to {login}, the first is {:?}",
                count(lost as u64, "message"),
                message.about
            )));
        }
        step(format_args!(
            "read {} of {login} over POP3 with STLS, {}, all as sent behind Return-Path and Received ({} ms)",
            count(u64::from(messages), "message"),
            size(octets),
            millis(since)
        ))
    }

    /// Prints what can be tried now.
    fn invite(&self) -> Outcome {
        let certificate = self.certificate.display();
        let instance = self.instance.display();
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("posthouse"));
        let program = program.display();
        let (smtp, submission, pop3) = (self.smtp, self.submission, self.pop3);
        let [one, two] = &self.passwords;
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "\nIt keeps serving; Ctrl-C ends it. Accounts: user1 with password {one}, user2 with password {two}.\n\
             Try:\n\
             \n  # a message from outside\n\
             \x20 swaks --server {smtp} --from {OUTSIDE} --to {USER1}\n\
             \n  # a message from a user, logged in over TLS (swaks needs Net::SSLeay for --tls)\n\
             \x20 swaks --server {submission} --tls --auth PLAIN --auth-user user1 --auth-password {one} \
             --from {USER1} --to {USER2}\n\
             \n  # the same with curl\n\
             \x20 printf 'Subject: hello\\r\\n\\r\\nfrom curl\\r\\n' | curl --ssl-reqd --cacert {certificate} \
             --resolve {HOSTNAME}:{submission_port}:127.0.0.1 --url smtp://{HOSTNAME}:{submission_port} \
             --user user1:{one} --mail-from {USER1} --mail-rcpt {USER2} --upload-file -\n\
             \n  # read a mailbox\n\
             \x20 curl --ssl-reqd --cacert {certificate} --user user2:{two} pop3://localhost:{pop3_port}/\n\
             \x20 curl --ssl-reqd --cacert {certificate} --user user2:{two} pop3://localhost:{pop3_port}/1\n\
             \n  # look at the TLS\n\
             \x20 openssl s_client -connect {submission} -starttls smtp -servername {HOSTNAME} -CAfile {certificate}\n\
             \n  # administer while it runs\n\
             \x20 {program} queue list --instance {instance}\n\
             \x20 {program} mailbox list --instance {instance} --account {USER2}\n\
             \x20 {program} check --instance {instance}\n\
             \n  # a mail program: account user1, POP3 {pop3} and SMTP {submission}, both with STARTTLS",
            submission_port = submission.port(),
            pop3_port = pop3.port(),
        )?;
        out.flush()?;
        Ok(())
    }
}

/// What was sent to whom.
#[derive(Default)]
struct Expected {
    user1: Vec<Message>,
    user2: Vec<Message>,
}

struct Message {
    from: &'static str,
    about: String,
    bytes: Vec<u8>,
}

/// Progress in messages, drawn on terminals only.
fn bar(messages: usize) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("  {bar:40} {pos}/{len} {per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(messages as u64).with_style(style)
}
