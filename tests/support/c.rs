//! C and C++ compilers for tests: which are here, how they are called, and where our library is.

#![allow(dead_code)] // each test program uses its own part

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

/// Warnings that every program of ours has to pass.
pub const STRICT: &[&str] = &["-Wall", "-Wextra", "-pedantic-errors", "-Werror"];

/// What a program needs beside our static library, as `rustc --print native-static-libs` says.
pub const NATIVE_LIBS: &[&str] = &["-lpthread", "-ldl", "-lm", "-lgcc_s", "-lutil", "-lrt", "-lc"];

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A fresh directory of this name, of this test program.
pub fn scratch(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("scratch directory");
    dir
}

/// Whether a tool is on this machine. A missing one is said loudly, and is a failure where `CI` says that everything is to
/// be tested.
pub fn have(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{tool} is not installed");
        eprintln!("SKIP: {tool} is not installed; what needs it was not tested");
    }
    found
}

/// Whether a compiler has what AddressSanitizer needs, which some systems package apart. Said like a missing tool.
pub fn have_sanitizer(compiler: &str, name: &str) -> bool {
    if !have(compiler) {
        return false;
    }
    let dir = scratch(&format!("sanitizer-{compiler}-{}-{name}", std::process::id()));
    let source = dir.join("nothing.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").expect("write");
    let linked = Command::new(compiler)
        .args(["-fsanitize=address,undefined", "-o"])
        .arg(dir.join("nothing"))
        .arg(source)
        .output()
        .is_ok_and(|o| o.status.success());
    if !linked {
        let text = format!("{compiler} has no sanitizer library (Debian: libclang-rt-dev)");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{text}");
        eprintln!("SKIP: {text}; what needs it was not tested");
    }
    linked
}

/// Runs a command and panics with everything it said when it fails.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}\n{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The directory with `libposthouse.so`, `libposthouse.so.0` and `libposthouse.a` of this build, which lie beside the
/// test programs, since cargo makes all kinds of a library at once.
pub fn library_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let program = std::env::current_exe().expect("test program");
        let deps = program.parent().expect("its directory").to_owned();
        let shared = deps.join("libposthouse.so");
        if !shared.exists() || !deps.join("libposthouse.a").exists() {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let target = deps.parent().and_then(Path::parent).expect("target directory");
            run(Command::new(cargo)
                .args(["build", "--lib", "--quiet", "--target-dir"])
                .arg(target)
                .current_dir(root()));
        }
        // A directory for each build: the name that programs are linked to has to be there, and the loader must not
        // meet a half-written library when another build runs.
        let made = std::fs::metadata(&shared).and_then(|m| m.modified()).expect("its time");
        let made = made.duration_since(UNIX_EPOCH).expect("a time after 1970").as_nanos();
        let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let dir = tmp.join(format!("lib-{made}"));
        if dir.exists() {
            return dir;
        }
        forget_old_builds(&tmp);
        let draft = tmp.join(format!("lib-{made}.{}", std::process::id()));
        std::fs::create_dir_all(&draft).expect("library directory");
        for (from, to) in [
            ("libposthouse.so", "libposthouse.so.0"),
            ("libposthouse.so", "libposthouse.so"),
            ("libposthouse.a", "libposthouse.a"),
        ] {
            let (from, to) = (deps.join(from), draft.join(to));
            std::fs::hard_link(&from, &to)
                .or_else(|_| std::fs::copy(&from, &to).map(drop))
                .unwrap_or_else(|e| panic!("cannot link {}: {e}", from.display()));
        }
        if std::fs::rename(&draft, &dir).is_err() {
            // Another test program was quicker.
            let _ = std::fs::remove_dir_all(&draft);
        }
        dir
    })
}

/// Links to libraries of earlier builds keep their space; an hour later nobody runs with them any more.
fn forget_old_builds(tmp: &Path) {
    for entry in std::fs::read_dir(tmp).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if entry.file_name().to_string_lossy().starts_with("lib-")
            && age.is_some_and(|age| age.as_secs() > 3600)
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// How a program is bound to our library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Shared,
    Static,
}

/// Compiles C or C++ sources into a program that uses our library.
pub fn build(compiler: &str, flags: &[&str], sources: &[PathBuf], link: Link, program: &Path) {
    let dir = library_dir();
    let mut command = Command::new(compiler);
    command.args(STRICT).args(flags).arg("-I").arg(root().join("include")).args(sources);
    command.arg("-o").arg(program);
    match link {
        Link::Shared => {
            command.arg("-L").arg(dir).arg("-lposthouse");
            command.arg(format!("-Wl,-rpath,{}", dir.display()));
            command.arg("-lpthread");
        }
        Link::Static => {
            command.arg(dir.join("libposthouse.a")).args(NATIVE_LIBS);
        }
    }
    run(&mut command);
}
