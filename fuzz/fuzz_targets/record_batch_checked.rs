//! A record batch whose magic, length and checksum are right, so that the rest of it is what is tested.
#![no_main]

use record::{BATCH_OVERHEAD, MAGIC, crc32c};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some(records) = input.get(BATCH_OVERHEAD..) else {
        return;
    };
    let mut batch = input[..BATCH_OVERHEAD].to_vec();
    batch.extend_from_slice(records);
    let length = i32::try_from(batch.len() - 12).unwrap_or(i32::MAX);
    batch[..8].fill(0);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = MAGIC.to_be_bytes()[0];
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    record::fuzz_batch(&batch);
});
