//! A mailbox of many messages: CPU time of a scan of all UIDs and flags, and the most memory that the process that
//! delivered and scanned ever held.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::machine::median;
use crate::opening::child;
use crate::place::Place;
use crate::{Outcome, Verdict};

/// A mailbox of many messages.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Messages in the mailbox.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Messages that the measured process delivers before it scans.
    #[arg(long, default_value_t = 20_000)]
    deliver: u64,
    /// Keeps the instance here, and takes it from here when it is there already.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Measures.
pub fn run(arguments: &Arguments, directory: &Path) -> Outcome<Verdict> {
    let place = match &arguments.keep {
        Some(path) => Place::kept(path)?,
        None => Place::new(directory, "mailbox")?,
    };
    let path = place.path.as_path();
    let mut made = serde_json::Value::Null;
    if !place.holds_store() {
        let messages = arguments.messages.to_string();
        let mut step = vec!["make", "--messages", &messages, "--accounts", "1"];
        step.extend(["--size", "256", "--large", "0"]);
        made = child(path, &step, false)?;
        println!("made: {made}");
    }
    let deliver = arguments.deliver.to_string();
    let found = child(path, &["scan", "--messages", &deliver], false)?;
    println!("scanned: {found}");
    let millis: Vec<f64> = found["scan_cpu_millis"]
        .as_array()
        .map(|all| all.iter().filter_map(serde_json::Value::as_f64).collect())
        .unwrap_or_default();
    let millis = median(&millis);
    let mut missed = Vec::new();
    if millis > 50.0 {
        missed.push(format!("a scan of all UIDs and flags: {millis:.1} ms of CPU, the bar is 50"));
    }
    println!("| figure | value | bar |");
    println!("| --- | ---: | ---: |");
    println!("| CPU ms of a scan, median | {millis:.1} | 50 |");
    for (who, figures) in [("made the mailbox", &made), ("delivered and scanned", &found)] {
        let Some(kib) = figures["peak_kib"].as_u64() else { continue };
        println!("| most memory of who {who}, MiB | {:.0} | 300 |", kib as f64 / 1024.0);
        if kib > 300 << 10 {
            missed.push(format!("memory of who {who}: {} MiB, the bar is 300", kib >> 10));
        }
    }
    Ok(Verdict { figures: json!({"mailbox": {"made": made, "scanned": found}}), missed })
}
