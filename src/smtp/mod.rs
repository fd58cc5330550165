//! SMTP as machines without I/O.
//!
//! [`server`] is the receiving side (RFC 5321, with its extensions); the client side comes beside it. [`reply`] is
//! what a server says; the grammar of what it hears is in `command` and `parameter`.

mod command;
mod parameter;
pub mod reply;
pub mod server;

pub use reply::Reply;

#[cfg(test)]
mod tests;
