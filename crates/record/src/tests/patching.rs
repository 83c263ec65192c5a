//! What may change in a batch, and that nothing else does.

use super::golden::golden;
use crate::{
    BatchHeader, Compression, LeaderEpoch, Limits, StreamOffset, TimestampMs, TimestampType, max_timestamp_offset,
    offset_for_timestamp, read_prefix, records, validate, with_log_append_time, with_max_timestamp,
};

#[test]
fn log_append_time_is_that_of_all_records_and_copies_none() {
    for compression in Compression::ALL {
        let batch = golden(compression);
        let patched = with_log_append_time(&batch, TimestampMs(99)).unwrap();
        assert_eq!(patched.records.as_ptr(), batch[61..].as_ptr());
        let whole = patched.joined();
        let summary = validate(&whole).unwrap();
        assert_eq!((summary.timestamp_type, summary.max_timestamp), (TimestampType::LogAppendTime, TimestampMs(99)));
        assert_eq!(summary.compression, compression);
        assert!(records(&whole, Limits::default()).unwrap().all(|record| record.unwrap().timestamp == TimestampMs(99)));
        // Found without a look at the records.
        let nothing = Limits { bytes_max: 0 };
        let first = Some((StreamOffset(0), TimestampMs(99)));
        assert_eq!(offset_for_timestamp(&whole, TimestampMs(99), 0, nothing), Ok(first));
        assert_eq!(offset_for_timestamp(&whole, TimestampMs(100), 0, nothing), Ok(None));
        assert_eq!(max_timestamp_offset(&whole, nothing), Ok(first));
    }
}

#[test]
fn the_largest_timestamp_is_corrected_in_place() {
    let batch = golden(Compression::None);
    let wrong = with_max_timestamp(&batch, TimestampType::CreateTime, TimestampMs(1)).unwrap().joined();
    let right = validate(&wrong).unwrap().max_timestamp_correction.unwrap();
    let corrected = with_max_timestamp(&wrong, TimestampType::CreateTime, right).unwrap().joined();
    assert_eq!(corrected, batch);
}

#[test]
fn a_lookup_finds_the_largest_timestamp_of_the_records_whatever_the_header_says() {
    for compression in Compression::ALL {
        let batch = golden(compression);
        let largest = max_timestamp_offset(&batch, Limits::default()).unwrap();
        let above = TimestampMs(largest.unwrap().1.0 + 1_000);
        let lying = with_max_timestamp(&batch, TimestampType::CreateTime, above).unwrap().joined();
        assert_eq!(max_timestamp_offset(&lying, Limits::default()), Ok(largest), "{compression:?}");
        assert_eq!(offset_for_timestamp(&lying, above, 0, Limits::default()), Ok(None), "{compression:?}");
    }
}

#[test]
fn the_prefix_is_outside_the_crc() {
    let batch = golden(Compression::Lz4);
    let length = i32::try_from(batch.len() - 12).unwrap();
    let prefix = read_prefix(StreamOffset(1 << 40), length, LeaderEpoch(12));
    let read = [&prefix[..], &batch[16..]].concat();
    let header = BatchHeader::parse(&read).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch), (StreamOffset(1 << 40), LeaderEpoch(12)));
    assert_eq!(header.crc, crate::crc::batch_crc(&read));
    let last = records(&read.into(), Limits::default()).unwrap().last().unwrap().unwrap();
    assert_eq!(last.offset, StreamOffset((1 << 40) + 39));
}
