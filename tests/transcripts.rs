//! Conversations of `tests/transcripts/`, played against the machines.

#![allow(clippy::disallowed_methods)]

#[path = "support/client_machine.rs"]
mod client_machine;
#[path = "support/pop3.rs"]
mod pop3;
#[path = "support/sasl.rs"]
mod sasl;
#[path = "support/smtp_machine.rs"]
mod smtp_machine;
#[path = "support/transcript.rs"]
mod transcript;

#[test]
fn smtp_client_conversations_go_as_written() {
    let played = transcript::play_folder::<client_machine::ClientMachine<false>>("smtp_client");
    println!("{played} conversations");
}

#[test]
fn lmtp_client_conversations_go_as_written() {
    let played = transcript::play_folder::<client_machine::ClientMachine<true>>("lmtp_client");
    println!("{played} conversations");
}

#[test]
fn smtp_conversations_go_as_written() {
    let played = transcript::play_folder::<smtp_machine::SmtpMachine>("smtp");
    println!("{played} conversations");
}

#[test]
fn lmtp_conversations_go_as_written() {
    let played = transcript::play_folder::<smtp_machine::SmtpMachine>("lmtp");
    println!("{played} conversations");
}
