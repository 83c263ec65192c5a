//! What one node says to another: handshakes, frames, proposals and their answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| cluster::fuzz_peer_messages(input));
