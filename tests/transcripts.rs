//! Conversations of `tests/transcripts/`, played against the machines.

#![allow(clippy::disallowed_methods)]

#[path = "support/pop3.rs"]
mod pop3;
#[path = "support/smtp_machine.rs"]
mod smtp_machine;
#[path = "support/transcript.rs"]
mod transcript;

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
