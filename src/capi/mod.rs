//! The C ABI: what `include/posthouse.h` declares, and nothing else.
//!
//! Every C type has a file here, named like the type without its prefix, that holds its layout, its
//! functions and their documentation. The header is made from these files (`tests/header.rs`), so the
//! documentation of an exported function is written for somebody who has the header and nothing else.
//!
//! # Method
//! Four small floors carry the rest: [`boundary`] stands around every export (no panic crosses it, a
//! panic poisons the handle, a one-at-a-time handle notices overlap, a callback's call into its own handle is
//! refused), [`record`] moves structs with a `struct_size` across the line, [`bytes`] does the same for
//! text and octets, [`status`] turns an [`Error`](crate::Error) into a number and a `ph_error`.
//!
//! # Invariants
//! - An export does nothing before it is inside [`boundary!`](boundary); a test reads the sources for it.
//! - A handle is a `Box` made by one constructor and dropped by one `free` or `close`. What is made from an
//!   engine holds a share of it, so handles may be destroyed in any order.
//! - After `ph_engine_close` has answered, none of the host's callbacks runs or will run.
//! - Out-parameters are written only when the call succeeds, except that a handle's out-parameter is set to
//!   NULL first.
//! - Additive only: no exported name, constant, field or meaning changes once it has been released.
//!
//! # Unsafe
//! The only unsafe code of the crate besides `vfs/os.rs`. What C promises (a pointer is NULL or points to
//! what its type says, one call at a time where the header says so) is named in the header's chapters,
//! and each block's SAFETY line names the promise that it stands on.

#![allow(non_camel_case_types)] // the types bear the names that C sees

#[macro_use]
mod boundary;
mod account;
mod alias;
mod bytes;
mod callback;
mod check;
mod compact;
mod connection;
mod cursor;
mod engine;
mod instance;
mod listener;
mod lockout;
mod mailbox;
mod message;
mod pending;
mod policy;
mod pop3_server;
mod queue;
mod record;
mod repair;
mod report;
mod sasl;
mod scrub;
mod smtp_client;
mod smtp_extension;
mod smtp_server;
mod status;
mod store_state;
mod token;
mod version;

#[cfg(test)]
mod tests;
