//! Replays the fuzzing corpus through the scenarios of `fuzz/scenarios`, so that what fuzzing once found stays found.

#![allow(clippy::disallowed_methods)]

use std::path::Path;

#[path = "../fuzz/scenarios/address.rs"]
mod address;
#[path = "../fuzz/scenarios/certificate.rs"]
mod certificate;
#[path = "../fuzz/scenarios/checkpoint.rs"]
mod checkpoint;
#[path = "../fuzz/scenarios/export.rs"]
mod export;
#[path = "../fuzz/scenarios/format.rs"]
mod format;
#[path = "../fuzz/scenarios/header.rs"]
mod header;
#[path = "../fuzz/scenarios/parameter.rs"]
mod parameter;
#[path = "../fuzz/scenarios/pop3_server.rs"]
mod pop3_server;
#[path = "../fuzz/scenarios/proxy.rs"]
mod proxy;
#[path = "../fuzz/scenarios/record.rs"]
mod record;
#[path = "../fuzz/scenarios/reply.rs"]
mod reply;
#[path = "../fuzz/scenarios/sasl.rs"]
mod sasl;
#[path = "../fuzz/scenarios/segment.rs"]
mod segment;
#[path = "../fuzz/scenarios/smtp_client.rs"]
mod smtp_client;
#[path = "../fuzz/scenarios/smtp_server.rs"]
mod smtp_server;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut played = 0;
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let seed = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        println!("{}", path.display());
        run(&seed);
        // Every beginning of a seed is a seed too.
        for end in (0..seed.len()).step_by(7) {
            run(&seed[..end]);
        }
        played += 1;
    }
    assert!(played > 0, "no seeds in {}", folder.display());
}

#[test]
fn smtp_server_corpus_holds() {
    replay("smtp_server", smtp_server::run);
}

#[test]
fn smtp_client_corpus_holds() {
    replay("smtp_client", smtp_client::run);
}

#[test]
fn reply_corpus_holds() {
    replay("reply", reply::run);
}

#[test]
fn pop3_server_corpus_holds() {
    replay("pop3_server", pop3_server::run);
}

#[test]
fn sasl_corpus_holds() {
    replay("sasl", sasl::run);
}

#[test]
fn address_corpus_holds() {
    replay("address", address::run);
}

#[test]
fn proxy_corpus_holds() {
    replay("proxy", proxy::run);
}

#[test]
fn certificate_corpus_holds() {
    replay("certificate", certificate::run);
}

#[test]
fn header_corpus_holds() {
    replay("header", header::run);
}

#[test]
fn segment_corpus_holds() {
    replay("segment", segment::run);
}

#[test]
fn record_corpus_holds() {
    replay("record", record::run);
}

#[test]
fn export_corpus_holds() {
    replay("export", export::run);
}

#[test]
fn format_corpus_holds() {
    replay("format", format::run);
}

#[test]
fn checkpoint_corpus_holds() {
    replay("checkpoint", checkpoint::run);
}

#[test]
fn parameter_corpus_holds() {
    replay("parameter", parameter::run);
}
