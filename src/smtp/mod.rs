//! SMTP as machines without I/O.
//!
//! [`server`] is the receiving side (RFC 5321, with its extensions), [`client`] the sending one. [`reply`] is what a server
//! says, [`answer`] what a client hears of it; the grammar of what a server hears is in `command` and `parameter`.

pub mod answer;
pub mod client;
mod command;
mod parameter;
pub mod reply;
pub mod server;

pub use answer::Answer;
pub use reply::Reply;

#[cfg(test)]
mod tests;
