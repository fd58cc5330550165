//! POP3 as machines without I/O.
//!
//! [`server`] is the serving side (RFC 1939 with its extensions): one state machine, complete. `command` is the
//! grammar of its command lines, `body` sends messages: dot-stuffing, and where TOP ends.

mod body;
mod command;
pub mod server;
