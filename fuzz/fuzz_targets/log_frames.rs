//! A segment of the commit log as recovery reads it after a crash.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| storage::fuzz_frames(input));
