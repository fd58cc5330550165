//! CPU time of opening a store.
//!
//! Each step is a process of its own, so that what one left in memory is not there for the next, and so that one can
//! die: it aborts in the middle of its deliveries, as kill -9 would have it. Four cases:
//! - *clean*: an instance of many messages that was closed;
//! - *killed*: the same, killed under load with the default checkpoints;
//! - *tail*: the same, killed with so many bytes in each lane that no checkpoint covers.
//!
//! Only the call that opens is measured, all threads of the process; the pages of the files are in memory.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use posthouse::store::{AccountId, CreateOptions, MailboxId, OpenOptions, Store};
use serde_json::json;

use crate::machine::{cpu, median, peak_kib};
use crate::place::{self, Place};
use crate::{Outcome, Verdict, flight};

/// Opening a store.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Messages in the instance.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Accounts that hold them.
    #[arg(long, default_value_t = 100)]
    accounts: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// Messages of 1 MiB besides: the last segment of the large lane is read at each opening.
    #[arg(long, default_value_t = 200)]
    large: u64,
    /// MiB in each lane behind the last checkpoint.
    #[arg(long, default_value_t = 64)]
    tail: u64,
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Keeps the instance here, and takes it from here when it is there already.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// A step in a process of its own.
#[derive(Debug, clap::Args)]
pub struct Step {
    #[command(subcommand)]
    kind: Kind,
    /// The instance.
    #[arg(long, global = true, default_value = ".")]
    instance: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum Kind {
    /// Makes an instance.
    Make {
        #[arg(long)]
        messages: u64,
        #[arg(long)]
        accounts: u32,
        #[arg(long)]
        size: usize,
        #[arg(long)]
        large: u64,
    },
    /// Opens, and closes in order.
    Open,
    /// Delivers for these seconds, then dies.
    Kill {
        #[arg(long)]
        seconds: f64,
    },
    /// Delivers so many MiB to each lane without a checkpoint, then dies.
    Tail {
        #[arg(long)]
        mib: u64,
    },
    /// Opens, delivers, scans account 1's inbox.
    Scan {
        #[arg(long)]
        messages: u64,
    },
}

/// Does a step; its figures go to standard output as one line of JSON.
pub fn step(step: &Step) -> Outcome<Verdict> {
    let path = &step.instance;
    let figures = match step.kind {
        Kind::Make { messages, accounts, size, large } => {
            make(path, messages, accounts, (size, large))?
        }
        Kind::Open => {
            let (store, seconds) = timed_open(path, OpenOptions::default())?;
            let report = store.recovery_report();
            let figures = json!({"cpu_seconds": seconds, "replayed": report.replayed,
                "rebuilt": report.rebuilt, "damage": report.damage});
            store.close()?;
            figures
        }
        Kind::Kill { seconds } => {
            let store = place::open(path, OpenOptions::default())?;
            place::inboxes(&store, 64)?;
            let begun = Instant::now();
            send(&store, 64, 4096, |_| begun.elapsed().as_secs_f64() < seconds)?;
            std::process::abort();
        }
        Kind::Tail { mib } => {
            let day = 86_400_000;
            let options = OpenOptions {
                checkpoint_millis: day,
                checkpoint_bytes: u64::MAX,
                ..OpenOptions::default()
            };
            let store = place::open(path, options)?;
            place::inboxes(&store, 64)?;
            let bytes = (mib << 20) * u64::from(store.lanes());
            let before = store.stats().log_bytes;
            send(&store, 64, 4096, |_| store.stats().log_bytes - before < bytes)?;
            std::process::abort();
        }
        Kind::Scan { messages } => scan(path, messages)?,
    };
    println!("{figures}");
    Ok(Verdict { figures, missed: Vec::new() })
}

fn timed_open(path: &Path, options: OpenOptions) -> Outcome<(Store, f64)> {
    let before = cpu();
    let store = place::open(path, options)?;
    Ok((store, (cpu() - before).as_secs_f64()))
}

fn make(
    path: &Path,
    messages: u64,
    accounts: u32,
    (size, large): (usize, u64),
) -> Outcome<serde_json::Value> {
    place::create(path, CreateOptions::default().lanes)?;
    let store = place::open(path, OpenOptions::default())?;
    place::inboxes(&store, accounts)?;
    let (begun, before) = (Instant::now(), cpu());
    let bytes = vec![b'm'; size];
    let mut sent = 0_u64;
    flight::fly(
        256,
        |_| {
            if sent == messages {
                return Ok(None);
            }
            let account = AccountId(1 + u32::try_from(sent % u64::from(accounts.max(1)))?);
            sent += 1;
            let change = place::delivery(&store, account, &bytes)?;
            Ok(Some(store.commit(store.lane_of(account), vec![change])))
        },
        |_, _| {},
    )?;
    let mut sent = 0;
    let bytes = vec![b'l'; 1 << 20];
    flight::fly(
        8,
        |_| {
            if sent == large {
                return Ok(None);
            }
            sent += 1;
            let change = place::delivery(&store, AccountId(1), &bytes)?;
            Ok(Some(store.commit(store.lane_of(AccountId(1)), vec![change])))
        },
        |_, _| {},
    )?;
    let spent = (cpu() - before).as_secs_f64();
    store.close()?;
    Ok(
        json!({"seconds": begun.elapsed().as_secs_f64(), "cpu_seconds": spent, "peak_kib": peak_kib()}),
    )
}

/// Sends messages to accounts 1 to 64 while `go_on(sent)` holds.
fn send(store: &Store, writers: usize, size: usize, go_on: impl Fn(u64) -> bool) -> Outcome<()> {
    let bytes = vec![b'k'; size];
    let mut sent = 0_u64;
    flight::fly(
        writers,
        |_| {
            if !go_on(sent) {
                return Ok(None);
            }
            sent += 1;
            let account = AccountId(1 + u32::try_from(sent % 64)?);
            let change = place::delivery(store, account, &bytes)?;
            Ok(Some(store.commit(store.lane_of(account), vec![change])))
        },
        |_, _| {},
    )
}

fn scan(path: &Path, messages: u64) -> Outcome<serde_json::Value> {
    let (store, opened) = timed_open(path, OpenOptions::default())?;
    let account = AccountId(1);
    let lane = store.lane_of(account);
    let mut sent = 0;
    flight::fly(
        64,
        |_| {
            if sent == messages {
                return Ok(None);
            }
            sent += 1;
            let change = place::delivery(&store, account, &[b's'; 4096])?;
            Ok(Some(store.commit(lane, vec![change])))
        },
        |_, _| {},
    )?;
    let inbox = MailboxId::INBOX;
    let mut millis = Vec::new();
    let mut rows = 0;
    for _ in 0..7 {
        // What the deliveries left to do is not the scan's.
        std::thread::sleep(Duration::from_millis(1500));
        let before = cpu();
        let columns = store.mailbox_uids_and_flags(account, inbox, 0)?;
        millis.push((cpu() - before).as_secs_f64() * 1e3);
        rows = columns.uids.len();
    }
    // The old way, for comparison; not in the memory's figure.
    let peak = peak_kib();
    let before = cpu();
    let all = store.mailbox_scan(account, inbox, 0, usize::MAX)?;
    let rows_millis = (cpu() - before).as_secs_f64() * 1e3;
    if all.len() != rows {
        return Err(format!("the scans differ: {} and {rows} messages", all.len()).into());
    }
    store.close()?;
    Ok(json!({"open_cpu_seconds": opened, "messages": rows, "scan_cpu_millis": millis,
        "rows_cpu_millis": rows_millis, "peak_kib": peak}))
}

/// Runs a step in a process of its own; its figures, or nothing when it is to die.
pub fn child(instance: &Path, step: &[&str], dies: bool) -> Outcome<serde_json::Value> {
    let output = Command::new(std::env::current_exe()?)
        .arg("step")
        .args(step)
        .arg("--instance")
        .arg(instance)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    match (dies, output.status.success(), output.status.code()) {
        (false, true, _) => Ok(serde_json::from_slice(&output.stdout)?),
        // Died as it should; 2 is what an error ends with.
        (true, false, code) if code != Some(2) => Ok(serde_json::Value::Null),
        _ => Err(format!("step {step:?} ended with {}", output.status).into()),
    }
}

/// Measures.
pub fn run(arguments: &Arguments, directory: &Path) -> Outcome<Verdict> {
    let place = match &arguments.keep {
        Some(path) => Place::kept(path)?,
        None => Place::new(directory, "opening")?,
    };
    let path = place.path.as_path();
    if !place.holds_store() {
        let [messages, accounts, size, large] = [
            arguments.messages.to_string(),
            arguments.accounts.to_string(),
            arguments.size.to_string(),
            arguments.large.to_string(),
        ];
        let mut step = vec!["make", "--messages", &messages, "--accounts", &accounts];
        step.extend(["--size", &size, "--large", &large]);
        println!("made: {}", child(path, &step, false)?);
    }
    let tail = arguments.tail.to_string();
    let cases: [(&str, Option<Vec<&str>>, f64); 3] = [
        ("clean", None, 0.3),
        ("killed", Some(vec!["kill", "--seconds", "1.7"]), 1.0),
        ("tail", Some(vec!["tail", "--mib", &tail]), 0.5),
    ];
    let mut figures = serde_json::Map::new();
    let mut missed = Vec::new();
    println!("| opening | CPU s, median | each | records applied again | bar |");
    println!("| --- | ---: | --- | --- | ---: |");
    for (name, before, bar) in cases {
        let (mut seconds, mut replayed) = (Vec::new(), Vec::new());
        for _ in 0..arguments.rounds.max(1) {
            if let Some(step) = &before {
                child(path, step, true)?;
            }
            let found = child(path, &["open"], false)?;
            let damage = found["damage"].as_array().map_or(0, Vec::len);
            if damage > 0 || found["rebuilt"].as_u64() != Some(0) {
                return Err(format!("{name}: the instance is damaged: {found}").into());
            }
            seconds.push(found["cpu_seconds"].as_f64().unwrap_or(f64::NAN));
            replayed.push(found["replayed"].as_u64().unwrap_or(0));
        }
        let middle = median(&seconds);
        println!("| {name} | {middle:.3} | {seconds:.3?} | {replayed:?} | {bar} |");
        if middle > bar {
            missed.push(format!("opening {name}: {middle:.3} s of CPU, the bar is {bar}"));
        }
        figures.insert(name.into(), json!({"cpu_seconds": seconds, "replayed": replayed}));
    }
    std::io::stdout().flush()?;
    Ok(Verdict { figures: json!({"opening": figures}), missed })
}
