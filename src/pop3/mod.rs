//! POP3 as a machine without I/O: [`server`].

pub mod server;
