//! A chunk of a checkpoint restored.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| shard::fuzz_restore(input));
