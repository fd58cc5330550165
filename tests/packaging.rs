//! What distributions and build systems use to find the library: pkg-config, CMake, and the C++ header.

#![allow(clippy::disallowed_methods, missing_docs)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[path = "support/c.rs"]
mod c;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A template with its places filled in.
fn filled(name: &str, prefix: &Path) -> String {
    let template = std::fs::read_to_string(c::root().join("bindings/c").join(name)).expect(name);
    template.replace("@VERSION@", VERSION).replace("@PREFIX@", &prefix.display().to_string())
}

/// An installation: the header, the libraries, and what finds them.
fn installation(name: &str) -> std::path::PathBuf {
    let prefix = c::scratch(name).join("prefix");
    for directory in ["include", "lib/pkgconfig", "lib/cmake/Posthouse"] {
        std::fs::create_dir_all(prefix.join(directory)).expect("prefix");
    }
    let copy = |from: &Path, to: &str| {
        let to = prefix.join(to);
        std::fs::hard_link(from, &to)
            .or_else(|_| std::fs::copy(from, &to).map(drop))
            .expect("copy");
    };
    copy(&c::root().join("include/posthouse.h"), "include/posthouse.h");
    for library in ["libposthouse.so", "libposthouse.so.0", "libposthouse.a"] {
        copy(&c::library_dir().join(library), &format!("lib/{library}"));
    }
    copy(
        &c::root().join("bindings/c/PosthouseConfig.cmake"),
        "lib/cmake/Posthouse/PosthouseConfig.cmake",
    );
    let write = |to: &str, text: String| std::fs::write(prefix.join(to), text).expect("write");
    write(
        "lib/cmake/Posthouse/PosthouseConfigVersion.cmake",
        filled("PosthouseConfigVersion.cmake.in", &prefix),
    );
    write("lib/pkgconfig/posthouse.pc", filled("posthouse.pc.in", &prefix));
    prefix
}

const PROGRAM: &str = "#include <stdio.h>\n#include <posthouse.h>\nint main(void)\n{\n    return puts(ph_version_str()) < 0;\n}\n";

#[test]
fn private_libraries_are_those_that_rustc_names() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let dir = c::scratch("native");
    let source = dir.join("empty.rs");
    std::fs::write(&source, "").expect("write");
    let output = c::run(
        Command::new(rustc)
            .args(["--crate-type", "staticlib", "--print", "native-static-libs", "--out-dir"])
            .arg(&dir)
            .arg(&source),
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let named = said.split_once("native-static-libs:").expect("the list").1;
    let named: BTreeSet<&str> =
        named.lines().next().unwrap_or_default().split_whitespace().collect();
    let ours: BTreeSet<&str> = c::NATIVE_LIBS.iter().copied().collect();
    assert!(named.is_subset(&ours), "rustc names {named:?}, we {ours:?}");
    let pc = filled("posthouse.pc.in", Path::new("/usr"));
    let private = pc.lines().find_map(|l| l.strip_prefix("Libs.private: ")).expect("Libs.private");
    assert_eq!(private.split(' ').collect::<BTreeSet<_>>(), ours);
}

#[test]
fn pkg_config_finds_the_library() {
    if !c::have("pkg-config") || !c::have("gcc") {
        return;
    }
    let prefix = installation("pkg-config");
    let source = prefix.join("program.c");
    std::fs::write(&source, PROGRAM).expect("write");
    for private in [false, true] {
        let mut ask = Command::new("pkg-config");
        ask.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(["--cflags", "--libs"]);
        if private {
            ask.arg("--static");
        }
        let said = c::run(ask.arg(format!("posthouse = {VERSION}"))).stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        let binary = prefix.join("program");
        c::run(
            Command::new("gcc").arg(&source).arg("-o").arg(&binary).args(said.split_whitespace()),
        );
        let output = c::run(Command::new(&binary).env("LD_LIBRARY_PATH", prefix.join("lib")));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), VERSION);
    }
}

#[test]
fn cmake_finds_both_libraries() {
    if !c::have("cmake") || !c::have("gcc") {
        return;
    }
    let prefix = installation("cmake");
    let project = prefix.join("project");
    std::fs::create_dir_all(&project).expect("project");
    std::fs::write(project.join("program.c"), PROGRAM).expect("write");
    std::fs::write(
        project.join("CMakeLists.txt"),
        "cmake_minimum_required(VERSION 3.13)\nproject(program C)\nfind_package(Posthouse 0.1 CONFIG REQUIRED)\n\
         add_executable(shared program.c)\ntarget_link_libraries(shared Posthouse::posthouse)\n\
         add_executable(static program.c)\ntarget_link_libraries(static Posthouse::static)\n",
    )
    .expect("write");
    let build = project.join("build");
    let configure = |version: &str| {
        let mut command = Command::new("cmake");
        command.arg("-S").arg(&project).arg("-B").arg(build.join(version));
        command.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
        command
    };
    c::run(&mut configure("good"));
    c::run(Command::new("cmake").arg("--build").arg(build.join("good")));
    for program in ["shared", "static"] {
        let output = c::run(&mut Command::new(build.join("good").join(program)));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), VERSION);
    }
    // A project that wants another version is told so.
    let lists = project.join("CMakeLists.txt");
    let wrong =
        std::fs::read_to_string(&lists).expect("read").replace("Posthouse 0.1 ", "Posthouse 0.9 ");
    std::fs::write(&lists, wrong).expect("write");
    assert!(!configure("bad").output().expect("cmake").status.success());
}

#[test]
fn handles_of_the_cpp_header_end_themselves() {
    let dir = c::scratch("hpp");
    let source = dir.join("program.cpp");
    std::fs::write(
        &source,
        "#include <cstdio>\n#include \"posthouse.hpp\"\n#include \"posthouse.hpp\"\n\
         int main()\n{\n    ph::smtp_server session;\n    ph::engine engine;\n    ph::error err;\n    std::size_t used = 0;\n\
         \x20   ph_smtp_event event = PH_SMTP_EVENT_INIT;\n\
         \x20   if (ph_engine_open(\"/nowhere/at/all\", nullptr, ph::out(engine), &err) == PH_OK) return 1;\n\
         \x20   if (err.code != PH_E_PATH_NOT_FOUND && err.code != PH_E_NOT_AN_INSTANCE) return 2;\n\
         \x20   if (ph_smtp_server_new(nullptr, 0, ph::out(session), &err) != PH_OK) return 3;\n\
         \x20   if (!session || engine) return 6;\n\
         \x20   if (ph_smtp_server_step(session.get(), 0, nullptr, 0, &used, &event) != PH_OK) return 4;\n\
         \x20   ph::smtp_server other(std::move(session));\n\
         \x20   std::string text(\"a\\0b\", 3);\n\
         \x20   return ph::copy(ph::view(text)) == text && other && !session ? 0 : 5;\n}\n",
    )
    .expect("write");
    for compiler in ["g++", "clang++"] {
        if !c::have(compiler) {
            continue;
        }
        for standard in ["c++11", "c++17", "c++20"] {
            let binary = dir.join(format!("{compiler}-{standard}"));
            let include = format!("-I{}", c::root().join("bindings/c").display());
            let flags = [&format!("-std={standard}"), include.as_str(), "-g", "-fsanitize=address"];
            let flags = if compiler == "g++" { &flags[..] } else { &flags[..3] };
            c::build(compiler, flags, std::slice::from_ref(&source), c::Link::Shared, &binary);
            c::run(&mut Command::new(&binary));
        }
    }
}
