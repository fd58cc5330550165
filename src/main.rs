//! The `posthouse` program: the engine's whole life from a command line.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
