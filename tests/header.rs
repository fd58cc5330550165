//! The contract with C: the header is what the sources make, compiles everywhere, and names exactly what the library
//! exports. `PH_BLESS=1` rewrites the files that are checked in; whoever does that on purpose adds a line `ABI:` to
//! CHANGELOG.md.

#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use posthouse::Kind;

#[path = "support/c.rs"]
mod c;
#[path = "support/header.rs"]
mod header;

/// Compares with a file that is checked in, or rewrites it.
fn golden(path: &Path, now: &str) {
    if std::env::var_os("PH_BLESS").is_some() {
        std::fs::write(path, now).expect("bless");
        return;
    }
    let then = std::fs::read_to_string(path).unwrap_or_default();
    let differs = now.lines().zip(then.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or_else(|| now.lines().count().min(then.lines().count()));
    assert!(
        now == then,
        "{} is not what the sources make, from line {}:\n  made: {}\n  file: {}\nIf that is meant, run with PH_BLESS=1.",
        path.display(),
        line + 1,
        now.lines().nth(line).unwrap_or("(end)"),
        then.lines().nth(line).unwrap_or("(end)"),
    );
}

/// The header, or what it is about to become.
fn checked_in() -> String {
    if std::env::var_os("PH_BLESS").is_some() {
        return header::generate();
    }
    std::fs::read_to_string(c::root().join("include/posthouse.h")).expect("include/posthouse.h")
}

#[test]
fn header_is_what_the_sources_make() {
    golden(&c::root().join("include/posthouse.h"), &header::generate());
}

#[test]
fn error_constants_are_the_error_table() {
    let in_header: BTreeMap<String, i32> = checked_in()
        .lines()
        .filter_map(|l| l.strip_prefix("#define PH_E_"))
        .filter_map(|l| l.split_once(" ("))
        .map(|(name, code)| {
            (format!("PH_E_{name}"), code.trim_end_matches(')').parse().expect("a number"))
        })
        .collect();
    let in_table: BTreeMap<String, i32> =
        Kind::ALL.iter().map(|k| (k.constant().to_owned(), k.code())).collect();
    assert_eq!(in_header, in_table);
}

#[test]
fn symbols_are_listed_documented_and_exported() {
    let functions = header::functions(&header::generate());
    assert!(functions.len() > 50, "only {} functions found", functions.len());
    let mut list = String::from(
        "# Every exported name and the version that brought it. Names are added, never removed or changed.\n",
    );
    for (name, since) in &functions {
        let _ = writeln!(list, "{name} {since}");
    }
    golden(&c::root().join("include/posthouse.symbols"), &list);

    if !c::have("nm") {
        return;
    }
    let output = c::run(
        Command::new("nm")
            .args(["-D", "--defined-only"])
            .arg(c::library_dir().join("libposthouse.so")),
    );
    let exported: BTreeSet<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|l| l.rsplit(' ').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(exported, functions.into_keys().collect::<BTreeSet<_>>());
}

#[test]
fn every_function_says_what_it_returns_who_may_call_it_and_since_when() {
    let header = header::generate();
    let lines: Vec<&str> = header.lines().collect();
    let functions = header::functions(&header);
    for name in functions.keys() {
        let at = lines
            .iter()
            .position(|l| !l.starts_with([' ', '#', 't']) && l.contains(&format!("{name}(")))
            .unwrap_or_else(|| panic!("{name} is not declared"));
        let start = lines[..at].iter().rposition(|l| *l == "/**").expect("a comment");
        let comment = lines[start..at].join("\n");
        let mut wanted = vec!["Thread: ", "Since: "];
        if !lines[at].starts_with("void ") {
            wanted.push("Returns: ");
        }
        if lines[at].starts_with("ph_status ") {
            wanted.push("Errors: ");
        }
        if !lines[at].ends_with("(void);") {
            wanted.push("Parameters: ");
        }
        for label in wanted {
            assert!(comment.contains(&format!(" * {label}")), "{name} does not say {label}");
        }
        let declaration: String =
            lines[at..].iter().take_while(|l| !l.is_empty()).copied().collect();
        let makes_a_handle = declaration.contains("**out");
        assert!(!makes_a_handle || comment.contains("Ownership: "), "{name}: whose is the handle?");
    }
}

#[test]
fn every_export_stands_inside_the_boundary() {
    for entry in std::fs::read_dir(c::root().join("src/capi")).expect("src/capi") {
        let path = entry.expect("entry").path();
        let source = std::fs::read_to_string(&path).expect("source");
        for piece in source.split("#[unsafe(no_mangle)]").skip(1) {
            let body = piece.split_once("{\n").expect("a body").1;
            let name = piece.split('(').next().unwrap_or_default().trim();
            assert!(
                body.trim_start().starts_with("boundary!("),
                "{}: {name} does something outside boundary!",
                path.display()
            );
        }
    }
}

#[test]
#[cfg(target_pointer_width = "64")]
fn sizes_and_offsets_of_public_structs_stay() {
    if !c::have("gcc") {
        return;
    }
    let dir = c::scratch("layout");
    let mut program =
        String::from("#include <stdio.h>\n#include \"posthouse.h\"\nint main(void)\n{\n");
    let structs = header::structs(&checked_in());
    assert!(structs.len() > 20, "only {} structs found", structs.len());
    for layout in structs.iter().filter(|l| !l.fields.is_empty()) {
        let name = &layout.name;
        let _ = writeln!(program, "    printf(\"{name} %lu\\n\", (unsigned long)sizeof({name}));");
        for (field, _) in &layout.fields {
            let _ = writeln!(
                program,
                "    printf(\"  {field} %lu %lu\\n\", (unsigned long)offsetof({name}, {field}), (unsigned long)sizeof((({name} *)0)->{field}));"
            );
        }
    }
    program.push_str("    return 0;\n}\n");
    let source = dir.join("layout.c");
    std::fs::write(&source, program).expect("write");
    let binary = dir.join("layout");
    c::build("gcc", &["-std=c99"], &[source], c::Link::Shared, &binary);
    let output = c::run(&mut Command::new(&binary));
    let layout = format!(
        "# Size of every public struct on a 64-bit machine; offset and size of its fields.\n{}",
        String::from_utf8_lossy(&output.stdout)
    );
    golden(&c::root().join("tests/golden/layout.txt"), &layout);
}

/// Two units that both include the header twice, use every `_INIT` macro and every constant, and are linked together.
fn units(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let header = checked_in();
    let mut values = String::new();
    for layout in header::structs(&header).iter().filter(|l| l.fields[0].0 == "struct_size") {
        let macro_name = layout.name.trim_start_matches("ph_").to_uppercase();
        let _ = writeln!(values, "    {} v_{} = PH_{macro_name}_INIT;", layout.name, layout.name);
        let _ = writeln!(values, "    sum += v_{}.struct_size;", layout.name);
    }
    // C89 wants declarations first: one block for each.
    let values: String = values
        .split_inclusive(".struct_size;\n")
        .fold(String::new(), |all, two| all + "    {\n" + two + "    }\n");
    let mut constants = String::new();
    for line in header.lines().filter_map(|l| l.strip_prefix("#define PH_")) {
        let name = line.split(' ').next().unwrap_or_default();
        if line.contains(' ') && !name.ends_with("_INIT") && name != "VERSION" {
            let _ = writeln!(constants, "    sum += (unsigned long)(PH_{name});");
        }
    }
    let include = "#include \"posthouse.h\"\n#include \"posthouse.h\"\n";
    let one = format!(
        "{include}unsigned long second(void);\nint main(void)\n{{\n    unsigned long sum = 0;\n{values}    \
         return sum == 0 || second() == 0 || ph_abi_level() < PH_ABI_LEVEL;\n}}\n"
    );
    let two = format!(
        "{include}unsigned long second(void);\nunsigned long second(void)\n{{\n    unsigned long sum = 0;\n{constants}    \
         return sum + (PH_VERSION[0] == '\\0') + ph_version();\n}}\n"
    );
    [("one", one), ("two", two)]
        .into_iter()
        .map(|(name, text)| {
            let path = dir.join(format!("{name}.{extension}"));
            std::fs::write(&path, text).expect("write");
            path
        })
        .collect()
}

#[test]
fn header_compiles_in_every_dialect() {
    let dir = c::scratch("matrix");
    let c_standards = ["c89", "c99", "c11", "c17", "c2x"];
    let cpp_standards = ["c++98", "c++11", "c++14", "c++17", "c++20"];
    let mut compiled = 0;
    for (compiler, extension, standards) in [
        ("gcc", "c", c_standards),
        ("clang", "c", c_standards),
        ("g++", "cpp", cpp_standards),
        ("clang++", "cpp", cpp_standards),
    ] {
        if !c::have(compiler) {
            continue;
        }
        let sources = units(&dir, extension);
        for standard in standards {
            let binary = dir.join(format!("{compiler}-{standard}"));
            c::build(compiler, &[&format!("-std={standard}")], &sources, c::Link::Shared, &binary);
            c::run(&mut Command::new(&binary));
            compiled += 1;
        }
    }
    eprintln!("{compiled} of 20 dialects compiled");
}

/// What stands between two markers, each alone on its line behind `prefix`.
fn between(text: &str, prefix: &str, begin: &str, end: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        let line = line.strip_prefix(prefix).unwrap_or(line.trim_start_matches(" *"));
        if line == begin {
            open = Some(String::new());
        } else if line == end {
            found.extend(open.take());
        } else if let Some(block) = &mut open {
            block.push_str(line);
            block.push('\n');
        }
    }
    found
}

#[test]
fn examples_in_header_and_readme_compile() {
    let dir = c::scratch("examples");
    let mut examples = between(&checked_in(), " * ", "@example", "@end");
    assert_eq!(examples.len(), 1, "the header's example");
    match std::fs::read_to_string(c::root().join("README.md")) {
        Ok(readme) => examples.extend(between(&readme, "", "```c", "```")),
        Err(_) => eprintln!("SKIP: there is no README.md"),
    }
    for compiler in ["gcc", "clang"] {
        if !c::have(compiler) {
            continue;
        }
        for (i, example) in examples.iter().enumerate() {
            let source = dir.join(format!("example{i}.c"));
            std::fs::write(&source, example).expect("write");
            let binary = dir.join(format!("example{i}-{compiler}"));
            c::build(compiler, &["-std=c99"], &[source], c::Link::Shared, &binary);
        }
    }
}
