//! Bytes to values and back: pure functions without input or output.

pub mod address;
pub mod date;
