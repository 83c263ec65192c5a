//! Record batches: the unit that is stored, replicated and read, byte for byte as the producer sent it, in the
//! layout of Kafka's record batch of magic 2. And the ids that every crate above speaks in.
//!
//! Nothing here reads a clock, a file or a socket, and nothing copies a record's bytes unless they were compressed.
//! Bytes that someone sent lead to an error or to a bounded amount of memory, never to a panic.

mod ids;

mod entry;
mod error;
mod header;
mod summary;

mod builder;
mod compacted;
mod compression;
mod crc;
mod patch;
mod record;
mod records;
mod timestamps;
mod validate;
mod varint;

pub use builder::{BatchBuilder, BuildError};
pub use compacted::{Compacted, KeyedRecord, compacted, emptied, keyed_records};
pub use compression::decompress;
pub use crc::{batch_is_whole, crc32c, crc32c_of_two};
pub use entry::{BatchEntry, Extent};
pub use error::{BatchError, RecordError};
pub use header::{
    Attributes, BATCH_OVERHEAD, BATCH_PREFIX, BatchHeader, CRC_START, Compression, LENGTH_OVERHEAD, MAGIC,
    TimestampType, read_prefix,
};
pub use ids::{
    FileNumber, LeaderEpoch, LogIndex, NodeId, ObjectKey, Partition, ProducerEpoch, ProducerId, Sequence, ShardId,
    StreamId, StreamOffset, Term, TimestampMs, TopicId,
};
pub use patch::{Patched, with_log_append_time, with_max_timestamp};
pub use record::{Headers, Record};
pub use records::{Limits, Records, records};
pub use summary::{BatchSummary, ProducerStamp};
pub use timestamps::{max_timestamp_offset, offset_for_timestamp, records_without_key};
pub use validate::{validate, validate_deep};

/// Everything a hostile batch can reach, for a fuzz target: must neither panic nor take more than bounded memory.
pub fn fuzz_batch(input: &[u8]) {
    let limits = Limits { bytes_max: 1024 * 1024 };
    let batch = bytes::Bytes::copy_from_slice(input);
    let shallow = validate(&batch);
    let deep = validate_deep(&batch, limits.bytes_max);
    if let (Ok(shallow), Ok(deep)) = (&shallow, &deep) {
        assert_eq!(shallow.record_count, deep.record_count);
    }
    if let Ok(found) = records(&batch, limits) {
        let mut read = 0_u32;
        let mut failed = false;
        for record in found {
            match record {
                Ok(record) => {
                    read += 1;
                    assert_eq!(record.headers.iter().count(), record.headers.len());
                }
                Err(_) => failed = true,
            }
        }
        if let Ok(deep) = &deep {
            assert!(!failed && read == deep.record_count, "a deeply valid batch reads whole");
        }
    }
    for timestamp in [0, 1_700_000_000_000, i64::MAX] {
        let _ = offset_for_timestamp(&batch, TimestampMs(timestamp), 0, limits);
    }
    let _ = max_timestamp_offset(&batch, limits);
    let _ = records_without_key(&batch, limits, 3);
    fuzz_compaction(&batch, limits);
    if deep.is_ok()
        && let Ok(patched) = with_log_append_time(&batch, TimestampMs(1))
    {
        assert!(validate(&patched.joined()).is_ok(), "a patched batch is as valid as before");
    }
}

/// What is left of a batch without every second record is a batch of the others.
fn fuzz_compaction(batch: &bytes::Bytes, limits: Limits) {
    let mut stay = Vec::new();
    let compacted = compacted(batch, limits, TimestampMs(1 << 41), |record| {
        let stays = record.delta % 2 == 0;
        stay.extend(stays.then_some(record.delta));
        stays
    });
    let left = match compacted {
        Ok(Compacted::Changed { batch, .. }) => batch,
        Ok(Compacted::Nothing) => {
            assert!(stay.is_empty());
            emptied(batch).expect("its header was read")
        }
        Ok(Compacted::Whole) | Err(_) => return,
    };
    let mut found = Vec::new();
    // What takes more memory than allowed only now was compressed better before.
    let limits = Limits { bytes_max: 2 * limits.bytes_max };
    keyed_records(&left, limits, |record| found.push(record.delta)).expect("what is left is a batch");
    assert_eq!(found, stay);
}

#[cfg(test)]
mod tests;
