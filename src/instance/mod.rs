//! An instance on disk: set-up, configuration.

pub mod config;
pub mod setup;

pub use config::{Config, ListenerConfig, Protocol, TlsMode};
pub use setup::{Setup, TlsSetup, setup};
