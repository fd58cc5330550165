//! Conversations of `tests/transcripts/`, played against the machines.

#[path = "support/transcript.rs"]
mod transcript;

#[path = "support/pop3.rs"]
mod pop3;
