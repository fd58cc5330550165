#![no_main]

#[path = "../scenarios/parameter.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|data: &[u8]| scenario::run(data));
