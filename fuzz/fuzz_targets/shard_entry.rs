//! An entry of the log taken apart into commands; what decodes encodes to the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shard::fuzz_entry(input));
