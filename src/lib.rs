//! Posthouse: the mail engine that other programs embed.

pub mod codec;
pub mod directory;
pub mod engine;
pub mod error;
pub mod instance;
pub mod mailbox;
pub mod policy;
pub mod pop3;
pub mod runtime;
pub mod sasl;
pub mod service;
pub mod session;
pub mod smtp;
pub mod spool;
pub mod store;
pub mod sync;
pub mod time;
pub mod vfs;

mod capi;

pub use engine::Engine;
pub use error::{Error, Kind, Result};
