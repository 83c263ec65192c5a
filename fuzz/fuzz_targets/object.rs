//! An object, its header, trailer, pages and runs.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| storage::fuzz_object(input));
