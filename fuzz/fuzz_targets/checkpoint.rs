//! The store over a damaged index.
#![no_main]

#[path = "../scenarios/checkpoint.rs"]
mod scenario;

// The engine of the index panics on damaged pages, and the store catches that: libFuzzer's hook, which ends the process at
// every panic, has to go. One that nobody catches still comes to libFuzzer.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static UNHOOKED: std::sync::Once = std::sync::Once::new();
    UNHOOKED.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
    scenario::run(data);
});
