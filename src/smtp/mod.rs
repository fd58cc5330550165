//! SMTP as machines without I/O.
//!
//! [`server`] is the receiving side (RFC 5321, with its extensions; LMTP, RFC 2033, is its dialect), [`client`] the sending
//! one. [`reply`] is what a server says, [`answer`] what a client hears of it, [`extension`] what a server offers,
//! [`parameter`] what MAIL and RCPT ask for; the grammar of commands is in `command` and `xclient`.

pub mod answer;
pub mod client;
mod command;
pub mod extension;
pub mod parameter;
pub mod reply;
pub mod server;
mod xclient;

pub use answer::Answer;
pub use reply::Reply;

#[cfg(test)]
mod tests;
