//! C programs against the header and the library: each of `tests/c/` is built by gcc and clang, bound to the shared and to
//! the static library, and run plain, with AddressSanitizer and its leak detection, and under valgrind.

#![allow(clippy::disallowed_methods, missing_docs)]

use std::process::Command;

#[path = "support/c.rs"]
mod c;

/// What valgrind reports and is not ours, each with its reason.
const SUPPRESSIONS: &str = "tests/c/valgrind.supp";

fn program(name: &str) -> std::path::PathBuf {
    c::root().join(format!("tests/c/{name}.c"))
}

/// Runs a program in a directory of its own; its last line must be `NAME: ok`.
fn passes(name: &str, command: &mut Command) {
    let output = c::run(command);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.ends_with(&format!("{name}: ok\n")), "{command:?} said {said}");
}

fn plain(name: &str) {
    for compiler in ["gcc", "clang"] {
        if !c::have(compiler) {
            continue;
        }
        for link in [c::Link::Shared, c::Link::Static] {
            let dir = c::scratch(&format!("{name}-{compiler}-{link:?}"));
            let binary = dir.join(name);
            c::build(compiler, &["-std=c99", "-g"], &[program(name)], link, &binary);
            passes(name, Command::new(&binary).arg(&dir));
        }
    }
}

fn sanitized(name: &str) {
    for compiler in ["gcc", "clang"] {
        if !c::have_sanitizer(compiler, name) {
            continue;
        }
        let dir = c::scratch(&format!("{name}-{compiler}-asan"));
        let binary = dir.join(name);
        let flags =
            ["-std=c99", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
        c::build(compiler, &flags, &[program(name)], c::Link::Shared, &binary);
        passes(name, Command::new(&binary).arg(&dir).env("ASAN_OPTIONS", "detect_leaks=1"));
    }
}

fn valgrind(name: &str) {
    if !c::have("gcc") || !c::have("valgrind") {
        return;
    }
    let dir = c::scratch(&format!("{name}-valgrind"));
    let binary = dir.join(name);
    c::build("gcc", &["-std=c99", "-g"], &[program(name)], c::Link::Shared, &binary);
    passes(
        name,
        Command::new("valgrind")
            .args(["--quiet", "--error-exitcode=1", "--leak-check=full"])
            .arg(format!("--suppressions={}", c::root().join(SUPPRESSIONS).display()))
            .arg(&binary)
            .arg(&dir),
    );
}

macro_rules! programs {
    ($($name:ident),*) => {
        $(mod $name {
            #[test]
            fn passes_with_both_compilers_and_both_libraries() {
                super::plain(stringify!($name));
            }
            #[test]
            fn passes_under_address_sanitizer() {
                super::sanitized(stringify!($name));
            }
            #[test]
            fn passes_under_valgrind() {
                super::valgrind(stringify!($name));
            }
        })*

        #[test]
        fn every_program_is_run() {
            let mut listed = vec![$(concat!(stringify!($name), ".c").to_owned()),*];
            listed.sort();
            let mut there: Vec<String> = std::fs::read_dir(c::root().join("tests/c"))
                .expect("tests/c")
                .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
                .filter(|name| name.ends_with(".c"))
                .collect();
            there.sort();
            assert_eq!(listed, there);
        }
    };
}

programs!(connections, engine, errors, messages, sequences, sessions);
