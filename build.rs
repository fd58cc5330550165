//! Gives the shared library its SONAME: the name that programs linked to it ask the loader for. It changes only with
//! an ABI that breaks, that is once, at 1.0.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if matches!(target.as_str(), "linux" | "android" | "freebsd" | "netbsd" | "openbsd") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libposthouse.so.0");
    }
}
