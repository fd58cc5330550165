//! Foreign clients against the program: runs the scripts under `tests/interop/` and `scripts/`, each with a server
//! of its own on ports that the system chooses.
//!
//! Python 3 is needed. Without it these tests say so and pass, except where the environment has `CI=true`: there
//! nothing may be skipped.

#![cfg(feature = "cli")]
#![allow(clippy::disallowed_methods, missing_docs)]

use std::path::Path;
use std::process::Command;

fn python(script: &str, arguments: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new("python3")
        .arg("-B")
        .arg(root.join(script))
        .args(arguments)
        .env("POSTHOUSE", env!("CARGO_BIN_EXE_posthouse"))
        .env("POSTHOUSE_LOAD", env!("CARGO_BIN_EXE_posthouse-load"))
        .status();
    match status {
        Ok(status) => assert!(status.success(), "{script}: {status}"),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "python3: {error}");
            eprintln!("SKIP {script}: python3: {error}");
        }
    }
}

#[test]
fn load_generator_counts_exactly_what_arrives() {
    python("tests/interop/load.py", &[]);
}

#[test]
fn every_octet_comes_back_to_foreign_clients() {
    python("tests/interop/corpus.py", &[]);
}

#[test]
fn foreign_clients_log_in_by_every_mechanism() {
    python("tests/interop/auth.py", &[]);
}

#[test]
fn every_error_is_one_line_and_changes_nothing_on_disk() {
    python("tests/interop/errors.py", &[]);
}

#[test]
fn the_document_of_the_format_is_enough_to_read_a_store() {
    python("tests/interop/read_store.py", &[]);
}

#[test]
fn kill_9_script_notices_lost_doubled_damaged_and_returning_mail() {
    python("tests/interop/faulty.py", &[]);
}

#[test]
fn acknowledged_mail_survives_kill_9() {
    python("scripts/kill9.py", &["--rounds", "3"]);
}
