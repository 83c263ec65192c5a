//! A sequence of commands applied to a shard: no sequence that decodes may fail an assertion.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shard::fuzz_apply(input));
