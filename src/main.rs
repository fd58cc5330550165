//! The `posthouse` program.
fn main() {}
