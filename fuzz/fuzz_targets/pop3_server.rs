#![no_main]

#[path = "../scenarios/pop3_server.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|data: &[u8]| scenario::run(data));
