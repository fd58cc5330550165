//! POP3 as machines without I/O.
//!
//! [`server`] is the serving side (RFC 1939 with its extensions): one state machine, complete. `command` is the
//! grammar of its command lines, `maildrop` is what a session knows of the messages, `body` sends one: dot-stuffing,
//! and where TOP ends.

mod body;
mod command;
mod maildrop;
mod reply;
pub mod server;
