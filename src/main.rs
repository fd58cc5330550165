//! The `posthouse` program: the engine's whole life from a command line.

#![allow(clippy::disallowed_methods)] // a program may have files, sockets, threads and clocks

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
