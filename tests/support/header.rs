//! Makes `include/posthouse.h` from the sources of `src/capi/`.
//!
//! cbindgen gives types, functions and constants with their documentation. Around that go the chapters of
//! `include/posthouse.h.in`; into it go the constants of the error table (whose documentation stands in
//! `src/error.rs`), an `_INIT` macro behind every struct that begins with `struct_size`, and a heading before each handle's
//! functions. Last, the result is made valid C89.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use posthouse::Kind;

/// The files of `src/capi/` in the header's order, with the heading of their functions.
const FILES: &[(&str, &str)] = &[
    ("status", "Results"),
    ("bytes", "Octets"),
    ("version", "Versions"),
    ("instance", "Instances"),
    ("callback", "Callbacks"),
    ("policy", "Callbacks: policy"),
    ("token", "Callbacks: bearer tokens"),
    ("engine", "The engine"),
    ("listener", "The engine: listeners"),
    ("lockout", "The engine: lock-outs"),
    ("account", "The engine: accounts"),
    ("alias", "The engine: aliases"),
    ("queue", "The engine: the queue"),
    ("mailbox", "The engine: mailboxes"),
    ("message", "The engine: messages"),
    ("check", "The engine: verification"),
    ("compact", "The engine: giving space back"),
    ("scrub", "The engine: finding damage early"),
    ("store_state", "The engine: how its store is"),
    ("connection", "The engine: connections on the host's sockets"),
    ("repair", "Repair of an instance"),
    ("sasl", "Logins"),
    ("smtp_extension", "Sessions: extensions of ph_smtp_server"),
    ("smtp_server", "Sessions: ph_smtp_server"),
    ("smtp_client", "Sessions: ph_smtp_client"),
    ("pop3_server", "Sessions: ph_pop3_server"),
];

/// Widest line of the header.
const WIDTH: usize = 100;

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A public struct: its name and its fields as declared, in order.
pub struct Layout {
    pub name: String,
    pub fields: Vec<(String, String)>,
}

/// The whole header.
pub fn generate() -> String {
    let root = root();
    let capi = root.join("src/capi");
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut builder = cbindgen::Builder::new().with_config(config);
    for (file, _) in FILES {
        builder = builder.with_src(capi.join(format!("{file}.rs")));
    }
    let mut raw = Vec::new();
    builder.generate().expect("cbindgen").write(&mut raw);
    let raw = String::from_utf8(raw).expect("UTF-8");
    let template = std::fs::read_to_string(root.join("include/posthouse.h.in")).expect("template");
    let body = headings(&one_liners(&init_macros(&wrap(&c89(&raw)))), &capi);
    let constants = one_liners(&wrap(&error_constants(&root)));
    template
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@ERRORS@", constants.trim_end())
        .replace("@BODY@", body.trim())
}

/// Structs of a header, with their fields.
pub fn structs(header: &str) -> Vec<Layout> {
    let mut found: Vec<Layout> = Vec::new();
    let mut open: Option<Layout> = None;
    for line in header.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("typedef struct ").and_then(|l| l.strip_suffix(" {"))
        {
            open = Some(Layout { name: name.to_owned(), fields: Vec::new() });
        } else if line.starts_with('}') {
            found.extend(open.take());
        } else if let Some(layout) = &mut open
            && let Some(declaration) = line.strip_suffix(';')
            && !line.starts_with('*')
        {
            let name: String = declaration
                .split('[')
                .next()
                .unwrap_or_default()
                .chars()
                .rev()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            let name: String = name.chars().rev().collect();
            layout.fields.push((name, declaration.to_owned()));
        }
    }
    found
}

/// Every exported function of a header with the version that brought it, sorted.
pub fn functions(header: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut since = String::new();
    for line in header.lines() {
        if let Some(version) = line.trim().strip_prefix("* Since: ") {
            since = version.trim_end_matches('.').to_owned();
        }
        if line.starts_with([' ', '*', '/', '#', '}']) || line.starts_with("typedef") {
            continue;
        }
        let Some((head, _)) = line.split_once('(') else { continue };
        let name = head.rsplit([' ', '*']).next().unwrap_or_default();
        if name.starts_with("ph_") {
            assert!(!since.is_empty(), "{name} does not say since when it is there");
            found.insert(name.to_owned(), std::mem::take(&mut since));
        }
    }
    found
}

/// Turns what cbindgen writes into what a C89 compiler takes.
fn c89(raw: &str) -> String {
    let mut out = String::new();
    for line in raw.lines() {
        match line.find("//") {
            Some(at) if !line.trim_start().starts_with('*') => {
                let comment = line[at + 2..].trim();
                let _ = writeln!(out, "{}/* {comment} */", &line[..at]);
            }
            _ => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    // Types go by their short names everywhere but where they are made.
    out.replace("typedef struct ph_", "\u{1}")
        .replace("struct ph_", "ph_")
        .replace('\u{1}', "typedef struct ph_")
}

/// Puts a comment of one line onto one line.
fn one_liners(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (mut out, mut i) = (String::new(), 0);
    while let Some(line) = lines.get(i) {
        let short = match (lines.get(i + 1), lines.get(i + 2)) {
            (Some(middle), Some(end)) if line.trim() == "/**" && end.trim() == "*/" => {
                middle.trim().strip_prefix("* ").map(|words| {
                    format!("{}/** {words} */", &line[..line.len() - line.trim_start().len()])
                })
            }
            _ => None,
        };
        match short.filter(|short| short.len() <= WIDTH) {
            Some(short) => {
                let _ = writeln!(out, "{short}");
                i += 3;
            }
            None => {
                let _ = writeln!(out, "{line}");
                i += 1;
            }
        }
    }
    out
}

/// Refills the paragraphs of comments to the header's width.
fn wrap(text: &str) -> String {
    let mut out = String::new();
    let mut paragraph: Option<(String, String)> = None;
    fn flush(out: &mut String, paragraph: &mut Option<(String, String)>) {
        let Some((indent, words)) = paragraph.take() else { return };
        let mut line = String::new();
        for word in words.split_whitespace() {
            let starts = line.is_empty();
            if !starts && indent.len() + line.len() + word.len() + 4 > WIDTH {
                let _ = writeln!(out, "{indent}* {line}");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        let _ = writeln!(out, "{indent}* {line}");
    }
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = &line[..line.len() - trimmed.len()];
        let words = trimmed.strip_prefix("* ").map(str::trim);
        let label = words.is_some_and(|w| {
            let first = w.split(' ').next().unwrap_or_default();
            first.ends_with(':') && first.starts_with(|c: char| c.is_ascii_uppercase())
        });
        match (words, &mut paragraph) {
            (Some(words), Some((_, text))) if !label => {
                text.push(' ');
                text.push_str(words);
            }
            (Some(words), _) => {
                flush(&mut out, &mut paragraph);
                paragraph = Some((indent.to_owned(), words.to_owned()));
            }
            (None, _) => {
                flush(&mut out, &mut paragraph);
                let _ = writeln!(out, "{line}");
            }
        }
    }
    flush(&mut out, &mut paragraph);
    out
}

/// Puts the macro that begins each sized struct behind it.
fn init_macros(text: &str) -> String {
    let layouts = structs(text);
    let mut out = String::new();
    for line in text.lines() {
        let _ = writeln!(out, "{line}");
        let Some(name) = line.strip_prefix("} ").and_then(|l| l.strip_suffix(';')) else {
            continue;
        };
        let Some(layout) = layouts.iter().find(|l| l.name == name) else { continue };
        if layout.fields.first().is_none_or(|(first, _)| first != "struct_size") {
            continue;
        }
        let mut values = vec![format!("(uint32_t)sizeof({name})")];
        for (_, declaration) in &layout.fields[1..] {
            let value = if declaration.starts_with("ph_bytes ") && !declaration.contains('*') {
                "{ 0, 0 }"
            } else if declaration.contains('[') {
                "{ 0 }"
            } else {
                "0"
            };
            values.push(value.to_owned());
        }
        let short = name.strip_prefix("ph_").unwrap_or(name).to_uppercase();
        let mut row = String::from("   ");
        let mut rows = vec![format!("#define PH_{short}_INIT {{")];
        for (i, value) in values.iter().enumerate() {
            let comma = if i + 1 < values.len() { "," } else { "" };
            if row.len() + value.len() + 6 > WIDTH {
                rows.push(std::mem::replace(&mut row, String::from("   ")));
            }
            let _ = write!(row, " {value}{comma}");
        }
        rows.push(row);
        rows.push(String::from("}"));
        let _ = writeln!(out, "\n/** Begins a {name}: its size, and zero everywhere else. */");
        let _ = writeln!(out, "{}", rows.join(" \\\n"));
    }
    out
}

/// Puts a heading before the first function of each file.
fn headings(text: &str, capi: &Path) -> String {
    let mut first_of = BTreeMap::new();
    for (file, heading) in FILES {
        let source = std::fs::read_to_string(capi.join(format!("{file}.rs"))).expect("source");
        for line in source.lines() {
            if let Some((_, rest)) = line.split_once("extern \"C\" fn ")
                && let Some((name, _)) = rest.split_once('(')
                && line.starts_with("pub")
            {
                first_of.insert(name.to_owned(), *heading);
            }
        }
    }
    // Functions come behind their comment: look ahead from each comment to what it documents.
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    let mut current = "";
    for (i, line) in lines.iter().enumerate() {
        if *line == "/**" {
            let documented = lines[i..]
                .iter()
                .skip_while(|l| !l.starts_with(" */"))
                .nth(1)
                .and_then(|l| l.split_once('('))
                .and_then(|(head, _)| head.rsplit([' ', '*']).next());
            if let Some(heading) = documented.and_then(|name| first_of.get(name))
                && *heading != current
            {
                current = heading;
                let _ = writeln!(out, "/*\n * == {heading} ==\n */\n");
            }
        }
        let _ = writeln!(out, "{line}");
    }
    out
}

/// The constants of the error table, with the documentation of `src/error.rs`.
fn error_constants(root: &Path) -> String {
    let source = std::fs::read_to_string(root.join("src/error.rs")).expect("src/error.rs");
    let mut out = String::new();
    for kind in Kind::ALL {
        let constant = format!("\"{}\"", kind.constant());
        let lines: Vec<&str> = source.lines().collect();
        let at = lines.iter().position(|l| l.contains(&constant)).expect("the table's row");
        let mut doc: Vec<&str> =
            lines[..at].iter().rev().map_while(|l| l.trim().strip_prefix("/// ")).collect();
        doc.reverse();
        let _ = writeln!(out, "/**\n * {}\n */", doc.join("\n * "));
        let _ = writeln!(out, "#define {} ({})\n", kind.constant(), kind.code());
    }
    out
}
