//! The command line: what can be said, and how it ends.
//!
//! Each subcommand is a file. All keep the same rules: results go to standard output; whatever went
//! wrong is one line on standard error that begins with `posthouse: `; the exit code is 0, 1 for a
//! failure, 2 for a command line that cannot be understood. A reader that closes the pipe early (`| head`)
//! is no failure.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use posthouse::Error;

mod access;
mod administration;
mod conversation;
mod defence;
mod demo;
mod message;
mod output;
mod password;
mod serve;
mod setup;

/// The mail engine that other programs embed, as a program of its own.
#[derive(Parser)]
#[command(name = "posthouse", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an instance: configuration, store, directory with postmaster
    Setup(setup::Args),
    /// Serve an instance in the foreground; SIGTERM or Ctrl-C drains and stops
    Serve(serve::Args),
    /// Add, list, remove accounts; set passwords
    #[command(subcommand)]
    Account(administration::Account),
    /// Add, list, remove aliases
    #[command(subcommand)]
    Alias(administration::Alias),
    /// List, show, remove what waits in the queue
    #[command(subcommand)]
    Queue(administration::Queue),
    /// List mailboxes and their messages
    #[command(subcommand)]
    Mailbox(administration::Mailbox),
    /// Verify every checksum and reference of an instance
    Check(InstanceArgs),
    /// Give back the space of messages that nothing refers to any more
    Compact(InstanceArgs),
    /// Verify what was written long ago, and count references again
    Scrub(InstanceArgs),
    /// Make the index of an instance again, and say which messages are lost; nobody may have it open
    Repair(administration::RepairArgs),
    /// Say how an instance is: whether it serves, what cannot be done and why, room, damage
    Status(administration::StatusArgs),
    /// Have the server of an instance read its policy and certificates anew
    Reload(InstanceArgs),
    /// List who is locked out after failed logins
    Lockouts(InstanceArgs),
    /// End the lock-out of a host or a login name
    Unlock(defence::UnlockArgs),
    /// Stop the server of an instance as SIGTERM does
    Stop(InstanceArgs),
    /// Try it: an instance in a temporary directory, real mail in and out, then it keeps serving
    Demo(demo::Args),
    /// Print the version
    Version,
}

/// The instance that is meant.
#[derive(clap::Args)]
struct InstanceArgs {
    /// Directory of the instance
    #[arg(long, value_name = "DIR")]
    instance: PathBuf,
}

/// Why a subcommand failed.
enum Failure {
    /// Said on standard error.
    Told(String),
    /// The reader of standard output has gone: nobody is left to be told.
    Pipe,
}

type Outcome = Result<(), Failure>;

impl Failure {
    fn new(text: impl fmt::Display) -> Failure {
        Failure::Told(text.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Told(error.message().to_owned())
    }
}

impl From<io::Error> for Failure {
    /// For writing to standard output, which every subcommand does.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Pipe,
            _ => Failure::Told(format!("cannot write to standard output: {error}")),
        }
    }
}

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if !e.use_stderr() => {
            // Help and version, asked for.
            let _ = write!(io::stdout(), "{e}");
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            complain(&usage(&e));
            return ExitCode::from(2);
        }
    };
    let outcome = match cli.command {
        Command::Setup(args) => setup::run(args),
        Command::Serve(args) => serve::run(&args),
        Command::Account(command) => administration::account(command),
        Command::Alias(command) => administration::alias(command),
        Command::Queue(command) => administration::queue(command),
        Command::Mailbox(command) => administration::mailbox(command),
        Command::Check(args) => administration::check(&args.instance),
        Command::Compact(args) => administration::compact(&args.instance),
        Command::Scrub(args) => administration::scrub(&args.instance),
        Command::Repair(args) => administration::repair(&args),
        Command::Status(args) => administration::status(&args),
        Command::Reload(args) => defence::reload(&args),
        Command::Lockouts(args) => defence::lockouts(&args),
        Command::Unlock(args) => defence::unlock(args),
        Command::Stop(args) => administration::stop(&args.instance),
        Command::Demo(args) => demo::run(&args),
        Command::Version => version(),
    };
    match outcome.and_then(|()| io::stdout().flush().map_err(Failure::from)) {
        Ok(()) | Err(Failure::Pipe) => ExitCode::SUCCESS,
        Err(Failure::Told(text)) => {
            complain(&text);
            ExitCode::FAILURE
        }
    }
}

fn complain(text: &str) {
    // Nothing can be done when standard error is closed.
    let _ = writeln!(io::stderr(), "posthouse: {}", output::one_line(text));
}

/// What clap found, on one line.
fn usage(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    let line = words.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a subcommand is missing; `posthouse --help` lists them".to_owned();
    }
    format!("{line}; see --help")
}

fn version() -> Outcome {
    writeln!(io::stdout(), "posthouse {}", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(words: &[&str]) -> String {
        match Cli::try_parse_from(words) {
            Ok(_) => panic!("{words:?} was understood"),
            Err(e) => usage(&e),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_are_one_line() {
        for (words, expected) in [
            (vec!["posthouse"], "a subcommand is missing"),
            (vec!["posthouse", "fly"], "unrecognized subcommand 'fly'"),
            (vec!["posthouse", "serve"], "--instance <DIR>"),
            (vec!["posthouse", "serve", "--instance", "x", "--fast"], "'--fast'"),
            (
                vec!["posthouse", "setup", "--instance", "x", "--tls-cert", "c"],
                "arguments were not provided",
            ),
        ] {
            let line = refusal(&words);
            assert!(line.contains(expected), "{words:?}: {line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }
}
