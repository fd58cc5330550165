//! The floors of the house: which room may use which, checked against the sources.
//!
//! Rooms are the modules at the crate's root. Each stands on a floor and may use the floors below its own, never
//! its own or one above; the ground rooms may use one another. A room that is not listed fails, so a new one gets
//! its floor here, on purpose. The same walk checks that a dependency is named in its own room only, and that
//! `unsafe` stands where it may.
//!
//! The check reads the text of every file below `src/`, with comments and literals taken out, and looks at every path
//! that begins with `crate::` or with enough `super::` to reach the crate's root. Tests inside `src/` keep the rules
//! as well.

#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms that may use one another, below all others.
const GROUND: u32 = 0;

/// Every room and its floor.
const FLOORS: &[(&str, u32)] = &[
    ("error", GROUND),
    ("time", GROUND),
    ("sync", GROUND),
    ("fault", GROUND),
    ("session", GROUND),
    ("vfs", GROUND),
    ("codec", GROUND),
    // Protocols: no files, sockets, threads, clocks.
    ("sasl", 10),
    ("smtp", 11),
    ("pop3", 11),
    ("imap", 11),
    ("sieve", 11),
    ("milter", 11),
    // Memory: what is kept.
    ("store", 20),
    ("dns", 20),
    ("spool", 21),
    ("mailbox", 21),
    ("directory", 21),
    // Judgement: decides, touches no socket.
    ("policy", 30),
    ("delivery", 30),
    // Acts.
    ("instance", 40),
    ("service", 41),
    ("runtime", 42),
    ("engine", 43),
    // Faces.
    ("capi", 50),
    ("cli", 50),
    ("main", 51),
    ("sim", 51),
];

/// Protocol rooms know nothing of what is kept, and memory rooms nothing of protocols.
const STRANGERS: &[(&[&str], &[&str])] = &[(
    &["store", "spool", "mailbox", "directory", "dns"],
    &["smtp", "pop3", "imap", "sieve", "milter"],
)];

/// Dependencies that live in one room, and where that is.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("redb", &["src/store/index/redb.rs"]),
    ("mail_parser", &["src/codec/mime.rs"]),
    ("hickory_resolver", &["src/dns/hickory.rs"]),
    ("hickory_proto", &["src/dns/hickory.rs"]),
    ("rustls", &["src/runtime/tls.rs", "src/runtime/tls/"]),
    // TLS hands it to rustls.
    ("ring", &["src/sasl/crypto.rs", "src/runtime/tls.rs", "src/runtime/tls/"]),
    ("stringprep", &["src/sasl/prep.rs"]),
    ("rcgen", &["src/instance/certificate.rs"]),
    ("toml_edit", &["src/instance/config/", "src/instance/config.rs"]),
    ("tokio", &["src/runtime/", "src/cli/"]),
    ("argon2", &["src/directory/password.rs"]),
    ("ldap3", &["src/directory/ldap.rs"]),
    ("mail_auth", &["src/policy/"]),
    ("tokio_postgres", &["src/store/remote/"]),
    ("object_store", &["src/store/remote/"]),
    ("parking_lot", &["src/sync.rs"]),
    ("crossbeam", &["src/sync.rs"]),
    ("rustix", &["src/vfs/os.rs", "src/vfs/os/"]),
    ("windows_sys", &["src/vfs/os.rs", "src/vfs/os/", "src/capi/", "src/cli/"]),
    ("clap", &["src/cli/", "src/main.rs"]),
    ("indicatif", &["src/cli/", "src/main.rs"]),
];

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["src/capi/", "src/vfs/os.rs", "src/vfs/os/"];

/// Files that only say what there is.
const FREE: &[&str] = &["src/lib.rs"];

fn floor(room: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// What is wrong with one file, one line each. `path` is relative to the project, with `/`.
fn problems(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let inner = path.strip_prefix("src/").and_then(|p| p.strip_suffix(".rs")).unwrap_or(path);
    let mut module: Vec<&str> = inner.split('/').collect();
    if module.last() == Some(&"mod") {
        module.pop();
    }
    let tokens = tokens(text);
    if !FREE.contains(&path) {
        let room = module.first().copied().unwrap_or_default();
        match floor(room) {
            None => found.push(format!("{path}: room `{room}` has no floor in tests/layers.rs")),
            Some(from) => {
                for used in uses(&tokens, module.len()) {
                    let Some(to) = floor(&used) else { continue };
                    let strangers = STRANGERS.iter().any(|(rooms, others)| {
                        rooms.contains(&room) && others.contains(&used.as_str())
                    });
                    let below = to < from || (to == GROUND && from == GROUND);
                    if used != room && (!below || strangers) {
                        found.push(format!("{path}: `{room}` must not use `{used}`"));
                    }
                }
            }
        }
    }
    for (dependency, places) in DEPENDENCIES {
        let allowed = places.iter().any(|place| path.starts_with(place));
        if !allowed && names(&tokens, dependency) {
            found.push(format!("{path}: `{dependency}` is named outside {}", places.join(", ")));
        }
    }
    if !UNSAFE.iter().any(|place| path.starts_with(place)) && tokens.contains(&"unsafe") {
        found.push(format!("{path}: `unsafe` outside {}", UNSAFE.join(", ")));
    }
    found
}

/// The modules of the crate's root that a file names. `depth` is the number of modules it is inside of.
fn uses(tokens: &[&str], depth: usize) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = at.checked_sub(1).and_then(|n| tokens.get(n));
        if before == Some(&"::") {
            at += 1;
            continue;
        }
        let mut next = at;
        let mut supers = 0;
        if tokens[at] == "crate" {
            next += 1;
        } else {
            while tokens[next..].starts_with(&["super"])
                && tokens.get(next + 1).is_some_and(|t| *t == "::")
            {
                supers += 1;
                next += 2;
            }
            next = next.saturating_sub(1);
        }
        let from_root = tokens[at] == "crate" || supers >= depth.max(1);
        if from_root && tokens.get(next) == Some(&"::") {
            first_segments(tokens.get(next + 1..).unwrap_or_default(), &mut rooms);
        }
        at = next.max(at) + 1;
    }
    rooms
}

/// The first segments of `a::b`, or of every path of `{a::b, c, d::{e, f}}`.
fn first_segments(tokens: &[&str], rooms: &mut BTreeSet<String>) {
    if tokens.first() != Some(&"{") {
        rooms.extend(tokens.first().map(|t| (*t).to_owned()));
        return;
    }
    let (mut depth, mut first) = (0usize, true);
    for token in tokens {
        match *token {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
            "," => first = depth == 1,
            name if first && depth == 1 => {
                rooms.insert(name.to_owned());
                first = false;
            }
            _ => {}
        }
    }
}

/// Whether a file names an external crate: `use name`, `name::`, `::name`, `extern crate name`.
fn names(tokens: &[&str], name: &str) -> bool {
    // A module of the same name that is declared here is ours.
    if tokens.windows(2).any(|pair| pair == ["mod", name]) {
        return false;
    }
    tokens.iter().enumerate().any(|(at, token)| {
        let before = |n: usize| at.checked_sub(n).and_then(|n| tokens.get(n)).copied();
        // `index::redb` is a module of ours; `use ::redb` and `<::redb` are not.
        let path_of_ours = before(1) == Some("::")
            && before(2) != Some("use")
            && before(2).is_some_and(|t| t.starts_with(|c: char| c.is_alphabetic() || c == '_'));
        *token == name
            && !path_of_ours
            && (tokens.get(at + 1) == Some(&"::") || matches!(before(1), Some("use" | "crate")))
    })
}

/// Identifiers, `::` and single signs, without comments, strings and characters.
fn tokens(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        if rest.starts_with(b"//") {
            at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        } else if rest.starts_with(b"/*") {
            let mut depth = 0usize;
            loop {
                let rest = &bytes[at.min(bytes.len())..];
                if rest.starts_with(b"/*") {
                    depth += 1;
                    at += 2;
                } else if rest.starts_with(b"*/") {
                    depth -= 1;
                    at += 2;
                } else {
                    at += 1;
                }
                if depth == 0 || rest.is_empty() {
                    break;
                }
            }
        } else if byte == b'"' {
            at += 1;
            while let Some(&b) = bytes.get(at) {
                at += if b == b'\\' { 2 } else { 1 };
                if b == b'"' {
                    break;
                }
            }
        } else if byte == b'\'' {
            // A character, or a lifetime, which is a quote and a name.
            let escaped = bytes.get(at + 1) == Some(&b'\\');
            let width = text[at + 1..].chars().next().map_or(1, char::len_utf8);
            if escaped {
                at += 3;
                at +=
                    bytes[at.min(bytes.len())..].iter().position(|b| *b == b'\'').unwrap_or(0) + 1;
            } else if bytes.get(at + 1 + width) == Some(&b'\'') {
                at += width + 2;
            } else {
                at += 1;
            }
        } else if is_name(byte) {
            let length = rest.iter().position(|b| !is_name(*b)).unwrap_or(rest.len());
            let name = &text[at..at + length];
            let after = &rest[length..];
            let hashes = after.iter().position(|b| *b != b'#').unwrap_or(after.len());
            if matches!(name, "r" | "br" | "cr") && after.get(hashes) == Some(&b'"') {
                let end = format!("\"{}", "#".repeat(hashes));
                let inside = at + length + hashes + 1;
                at = text[inside..].find(&end).map_or(text.len(), |n| inside + n + end.len());
            } else {
                tokens.push(name);
                at += length;
            }
        } else if rest.starts_with(b"::") {
            tokens.push("::");
            at += 2;
        } else {
            if !byte.is_ascii_whitespace() {
                tokens.push(&text[at..=at]);
            }
            at += 1;
        }
    }
    tokens
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn every_room_keeps_to_its_floor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    files.sort();
    assert!(files.len() > 20, "the sources were not found");
    let mut found = Vec::new();
    for file in files {
        let path =
            file.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
        found.extend(problems(&path, &fs::read_to_string(&file).expect("a readable file")));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn an_arrow_upwards_is_caught_however_it_is_written() {
    for (path, text) in [
        ("src/pop3/server.rs", "use crate::mailbox::Mailboxes;"),
        ("src/pop3/mod.rs", "use super::store;"),
        ("src/pop3/server.rs", "use super::super::store::Rows;"),
        ("src/store/index/redb.rs", "use super::super::super::engine::Engine;"),
        ("src/pop3/server.rs", "use crate::{time::Time, directory::{self, Account}};"),
        ("src/pop3/server.rs", "use crate :: {\n    time,\n    store,\n};"),
        ("src/pop3/server.rs", "use {std::io, crate::policy::Rules};"),
        ("src/pop3/server.rs", "fn f() { let _ = crate::engine::open(); }"),
        ("src/pop3/server.rs", "pub(crate) use crate::smtp::Reply;"),
        ("src/error.rs", "fn f(_: crate::store::Lane) {}"),
        ("src/store/mod.rs", "use crate::sasl::Verdict; use crate::smtp::Reply;"),
        ("src/mailbox/mod.rs", "use crate::directory::Account;"),
        ("src/runtime/mod.rs", "mod tests { use crate::engine::Engine; }"),
        ("src/engine.rs", "use crate::capi;"),
        ("src/new_room/mod.rs", ""),
        ("src/policy/mod.rs", "fn f() -> char { '\"' } use crate::engine::Engine; fn g() { \"\" }"),
        ("src/policy/mod.rs", "fn f<'a>(_: &'a str) { let _ = '\\''; } use crate::engine::Engine;"),
    ] {
        assert_eq!(problems(path, text).len(), 1, "{path}: {text}: {:?}", problems(path, text));
    }
}

#[test]
fn an_arrow_downwards_a_comment_and_a_string_are_no_problem() {
    for (path, text) in [
        ("src/pop3/server.rs", "use crate::{sasl, session::Session, time::Time, pop3::Entry};"),
        ("src/pop3/server.rs", "use super::body::Writer; use super::command;"),
        (
            "src/pop3/server.rs",
            "// use crate::store::Store;\n/* crate::store /* */ crate::store */",
        ),
        (
            "src/pop3/server.rs",
            "/// See [`crate::store::Store`].\nfn f() { \"crate::store \\\" crate::store\" }",
        ),
        ("src/pop3/server.rs", "const A: &str = r#\"crate::store \" unsafe\"#;"),
        ("src/pop3/server.rs", "pub(crate) struct A; fn f() { store::g(); self::store::g(); }"),
        ("src/pop3/server/tests.rs", "use super::super::store::X;"),
        ("src/vfs/sim.rs", "use crate::{error::Error, sync::Mutex};"),
        ("src/directory/mod.rs", "use crate::store::Rows; use crate::codec::address::Address;"),
        ("src/engine/mod.rs", "use crate::{runtime, service, instance, policy, store};"),
        ("src/lib.rs", "pub use crate::engine::Engine; pub mod anything;"),
        ("src/main.rs", "use posthouse::engine::Engine; fn f() { crate::cli::run() }"),
    ] {
        assert_eq!(problems(path, text), [""; 0], "{path}: {text}");
    }
}

#[test]
fn a_dependency_outside_its_room_is_caught() {
    for (path, text) in [
        ("src/store/mod.rs", "use redb::Database;"),
        ("src/store/mod.rs", "use ::redb::Database;"),
        ("src/store/mod.rs", "use redb as kv;"),
        ("src/store/mod.rs", "fn f() -> redb::Result<()> { g() }"),
        ("src/store/mod.rs", "extern crate redb;"),
        ("src/service/smtp.rs", "async fn f() { tokio::task::yield_now().await }"),
        ("src/pop3/server.rs", "use {std::io, parking_lot::Mutex};"),
        ("src/smtp/server.rs", "use mail_parser::Message;"),
    ] {
        assert_eq!(problems(path, text).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        ("src/store/index/redb.rs", "use redb::Database;"),
        ("src/store/index/mod.rs", "pub mod redb; pub use redb::RedbIndex;"),
        ("src/store/mod.rs", "use self::index::redb::RedbIndex; use crate::store::index::redb::X;"),
        ("src/runtime/listener.rs", "use tokio::net::TcpListener;"),
        ("src/store/mod.rs", "let redb = 1; f(redb);"),
    ] {
        assert_eq!(problems(path, text), [""; 0], "{path}: {text}");
    }
}

#[test]
fn unsafe_outside_its_rooms_is_caught() {
    assert_eq!(problems("src/store/mod.rs", "fn f() { unsafe { g() } }").len(), 1);
    assert_eq!(problems("src/lib.rs", "unsafe extern \"C\" {}").len(), 1);
    assert_eq!(problems("src/capi/mod.rs", "unsafe { g() }"), [""; 0]);
    assert_eq!(problems("src/vfs/os.rs", "unsafe { g() }"), [""; 0]);
    assert_eq!(problems("src/store/mod.rs", "#![deny(unsafe_code)] // unsafe"), [""; 0]);
}
