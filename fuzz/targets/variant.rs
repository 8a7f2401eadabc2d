#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| _native::fuzz::run("variant", bytes));
