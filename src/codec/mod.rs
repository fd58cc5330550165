//! Bytes to values and back: pure functions without input or output.
//!
//! [`address`] and [`path`] know mail addresses, [`mod@line`] and [`body`] frame what comes over a wire, [`base64`] and
//! [`date`] spell values, [`mime`] reads a message's header. None of them keeps state between calls except the two
//! framers, whose state is a few bits. Everything here takes hostile input.

pub mod address;
pub mod base64;
pub mod body;
pub mod certificate;
pub mod date;
pub mod line;
pub mod mailbox;
pub mod mime;
pub mod path;
pub mod proxy;
mod punycode;
