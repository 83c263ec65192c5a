//! A request of the Kafka protocol from its first byte on: header, then the body that the header names.
#![no_main]

use bytes::Bytes;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    kafka::decode_any(&Bytes::copy_from_slice(input));
});
