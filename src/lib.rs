//! Posthouse: the mail engine that other programs embed.
//!
//! One library, one C header, no daemon of its own, no state outside its handles. What a host does with it,
//! from the whole to the parts:
//!
//! 1. **Instance** ([`instance`]): one mail system on disk, made by [`instance::setup`]: configuration,
//!    accounts, message log, index.
//! 2. **Engine** ([`engine::Engine`]): an instance opened. It owns listeners, threads, TLS, queue and mailboxes;
//!    [`Engine::start`](engine::Engine::start) serves, [`Engine::close`](engine::Engine::close) lets go.
//! 3. **Conversation** ([`service::Conversation`]): one connection without its socket: feed bytes, write what comes
//!    out; policy, queue and mailboxes are the engine's.
//! 4. **Session** ([`session::Session`]; [`smtp::server`], [`smtp::client`], [`pop3::server`]): a bare protocol machine, without I/O,
//!    clock, threads or storage. The host answers every question.
//!
//! A message's way: `runtime` reads bytes; `smtp` turns them into events; `service` asks `policy` and
//! `directory` and streams the body into `store`; one group commit makes message, envelope and mailbox rows
//! durable; only then is it acknowledged. POP3 reads the same bytes through `mailbox`; what is left in the
//! queue `delivery` plans and `runtime::outbound` sends.
//!
//! Rooms are floors: each uses what stands above it in this list, never below.

// What input can reach must not end the host's process.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

// ground
pub mod codec;
pub mod error;
pub mod session;
pub mod sync;
pub mod time;
pub mod vfs;
// protocols
pub mod pop3;
pub mod sasl;
pub mod smtp;
// memory
pub mod directory;
pub mod mailbox;
pub mod spool;
pub mod store;
// judgement
pub mod delivery;
pub mod policy;
// acts
pub mod engine;
pub mod instance;
pub mod runtime;
pub mod service;
// faces
mod capi;

pub use engine::Engine;
pub use error::{Error, Kind, Result};

/// The README's Rust is compiled and run with the tests of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
