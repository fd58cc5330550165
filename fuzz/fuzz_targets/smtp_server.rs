#![no_main]

#[path = "../scenarios/smtp_server.rs"]
mod scenario;

libfuzzer_sys::fuzz_target!(|data: &[u8]| scenario::run(data));
