//! A sealed index file, opened and searched.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| storage::fuzz_index_file(input));
