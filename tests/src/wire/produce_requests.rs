//! Produce requests with more than one batch.

use super::Writer;

/// The body of a Produce request with one batch for each partition named.
pub fn body(topic: &str, acks: i16, timeout_ms: i32, batches: &[(i32, Vec<u8>)]) -> Vec<u8> {
    let mut body = Writer::new();
    body.null_string().i16(acks).i32(timeout_ms).i32(1).string(topic).count(batches.len());
    for (partition, batch) in batches {
        body.i32(*partition).bytes(batch);
    }
    body.0
}
