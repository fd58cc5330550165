//! `posthouse-bench`: the store's figures against the raw limit of the same disk in the same run.
//!
//! - `append`: durable appends a second through the store, against a loop of pwrite and fdatasync with the same
//!   bytes a sync, to growing, allocated and written files;
//! - `opening`: CPU time of opening a store: clean, after kill -9, with a long tail to recover;
//! - `churn`: the head of the queue under inserts and removals;
//! - `mailbox`: a scan of all UIDs and flags of one mailbox, and the memory that it all took.
//!
//! # Method
//! Writers are transactions in flight, as connections are in the engine: one thread polls all tickets and puts the
//! next message in when one is answered. CPU time is that of the whole process, so the load's own is in it.
//! What is compared takes turns within a round, and who begins changes with the round; figures are medians of the
//! rounds. Directories are made under `--directory` and removed at the end.
//!
//! It is a program of the `cli` feature for the reasons that `benches/load/main.rs` gives. A figure that misses its bar
//! is marked; with `--strict` the exit code is then 1.

#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod append;
mod churn;
mod flight;
mod machine;
mod mailbox;
mod opening;
mod place;
mod raw;

/// Measures the store.
#[derive(Debug, Parser)]
#[command(name = "posthouse-bench", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Where files are made: choose the file system to be measured.
    #[arg(long, global = true, default_value = "target")]
    directory: PathBuf,
    /// Also writes the figures to this file, as JSON.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Exit code 1 when a bar is missed.
    #[arg(long, global = true)]
    strict: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Durable appends against the raw limit.
    Append(append::Arguments),
    /// CPU time of opening a store.
    Opening(opening::Arguments),
    /// The head of the queue under inserts and removals.
    Churn(churn::Arguments),
    /// A mailbox of many messages.
    Mailbox(mailbox::Arguments),
    /// A step of `opening` or `mailbox` in a process of its own.
    #[command(hide = true)]
    Step(opening::Step),
}

/// Any error ends the program with its text.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// What a benchmark found: its figures as JSON, and the bars that it missed.
pub struct Verdict {
    /// Figures.
    pub figures: serde_json::Value,
    /// One line a missed bar.
    pub missed: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let verdict = match &arguments.what {
        What::Append(what) => append::run(what, &arguments.directory),
        What::Opening(what) => opening::run(what, &arguments.directory),
        What::Churn(what) => churn::run(what, &arguments.directory),
        What::Mailbox(what) => mailbox::run(what, &arguments.directory),
        What::Step(step) => opening::step(step),
    };
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(e) => {
            eprintln!("posthouse-bench: {e}");
            return ExitCode::from(2);
        }
    };
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", verdict.figures);
        if let Err(e) = std::fs::write(path, text) {
            eprintln!("posthouse-bench: {}: {e}", path.display());
            return ExitCode::from(2);
        }
    }
    for line in &verdict.missed {
        println!("MISSED: {line}");
    }
    if arguments.strict && !verdict.missed.is_empty() {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    }
}
