//! SMTP as machines without I/O.
//!
//! [`server`] is the receiving side (RFC 5321, with its extensions); the client side comes beside it.

pub mod reply;
pub mod server;

pub use reply::Reply;
