//! Each way in which a batch can be wrong, and the error that names it.

use proptest::prelude::*;

use super::golden::golden;
use crate::crc::batch_crc;
use crate::varint::{put_varint, put_varlong};
use crate::{
    Attributes, BATCH_OVERHEAD, BatchError, BatchHeader, Compression, Limits, ProducerEpoch, RecordError, Sequence,
    StreamOffset, TimestampMs, records, validate, validate_deep,
};

/// The golden batch without compression after a change of its header, with the CRC that belongs to it.
fn changed(change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
    let batch = golden(Compression::None);
    let mut header = BatchHeader::parse(&batch).unwrap();
    change(&mut header);
    signed([&header.to_bytes()[..], &batch[BATCH_OVERHEAD..]].concat())
}

fn signed(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = batch_crc(&batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn check(batch: &[u8], expected: BatchError) {
    assert_eq!(validate(batch), Err(expected));
}

#[test]
fn the_frame() {
    let batch = golden(Compression::None);
    check(&[], BatchError::Empty);
    check(&batch[..60], BatchError::TooShort { bytes: 60 });
    check(&batch[..10], BatchError::TooShort { bytes: 10 });
    check(&batch[..batch.len() - 1], BatchError::Truncated { stated: batch.len(), present: batch.len() - 1 });
    check(&[&batch[..], &[0]].concat(), BatchError::TrailingBytes { bytes: 1 });
    check(&[&batch[..], &batch[..]].concat(), BatchError::TrailingBytes { bytes: batch.len() });
    for length in [-1, 0, 48, i32::MIN] {
        check(&changed(|header| header.batch_length = length), BatchError::InvalidLength { length });
    }
    let stated = i32::MAX as usize + 12;
    check(&changed(|header| header.batch_length = i32::MAX), BatchError::Truncated { stated, present: batch.len() });
}

#[test]
fn old_formats_are_told_by_their_magic() {
    for magic in [0, 1, 3, -1] {
        check(&changed(|header| header.magic = magic), BatchError::UnsupportedMagic { magic });
        // A message of an old format may be shorter than a batch's header.
        check(&changed(|header| header.magic = magic)[..30], BatchError::UnsupportedMagic { magic });
    }
}

#[test]
fn every_flipped_bit_behind_the_prefix_is_found() {
    let batch = golden(Compression::Zstd);
    for place in 17..batch.len() {
        let mut damaged = batch.to_vec();
        damaged[place] ^= 0x10;
        assert!(matches!(validate(&damaged), Err(BatchError::Crc { .. })), "byte {place}");
    }
}

#[test]
fn counts_and_stamps() {
    check(&changed(|header| header.base_offset = StreamOffset(7)), BatchError::BaseOffset { base_offset: 7 });
    check(&changed(|header| header.attributes = Attributes(5)), BatchError::UnknownCompression { number: 5 });
    check(&changed(|header| header.attributes = Attributes(0).with_control()), BatchError::Control);
    for count in [0, -1, i32::MIN] {
        check(&changed(|header| header.record_count = count), BatchError::InvalidCount { count });
    }
    check(
        &changed(|header| header.last_offset_delta = 38),
        BatchError::InconsistentCount { count: 40, last_offset_delta: 38 },
    );
    check(
        &changed(|header| header.base_sequence = Sequence(-1)),
        BatchError::InvalidSequence { producer_id: 4711, sequence: -1 },
    );
    check(
        &changed(|header| header.producer_epoch = ProducerEpoch(-1)),
        BatchError::InvalidProducerEpoch { producer_id: 4711, epoch: -1 },
    );
    let anonymous = validate(&changed(|header| header.producer_id = crate::ProducerId::NONE)).unwrap();
    assert_eq!(anonymous.producer, None);
    let transactional = validate(&changed(|header| header.attributes = Attributes(0).with_transactional())).unwrap();
    assert!(transactional.transactional);
}

#[test]
fn more_or_fewer_records_than_stated() {
    let more = changed(|header| (header.record_count, header.last_offset_delta) = (41, 40));
    check(&more, BatchError::Record { record: 40, cause: RecordError::Varint });
    let fewer = changed(|header| (header.record_count, header.last_offset_delta) = (39, 38));
    assert!(matches!(validate(&fewer), Err(BatchError::BytesAfterRecords { .. })));
    // A count of two billion costs nothing: the walk ends with the bytes.
    let many = changed(|header| (header.record_count, header.last_offset_delta) = (i32::MAX, i32::MAX - 1));
    check(&many, BatchError::Record { record: 40, cause: RecordError::Varint });
}

#[test]
fn a_wrong_largest_timestamp_is_corrected() {
    let summary = validate(&changed(|header| header.max_timestamp = TimestampMs(5))).unwrap();
    assert_eq!(summary.max_timestamp_correction, Some(TimestampMs(1_700_000_000_005)));
    let batch = changed(|header| {
        header.max_timestamp = TimestampMs(5);
        header.attributes = header.attributes.with_timestamp_type(crate::TimestampType::LogAppendTime);
    });
    assert_eq!(validate(&batch).unwrap().max_timestamp_correction, None);
    check(
        &changed(|header| header.base_timestamp = TimestampMs(i64::MAX)),
        BatchError::Record { record: 1, cause: RecordError::Timestamp },
    );
}

/// A batch of one record with these fields.
fn of_record(fields: &[u8], length: i32) -> Vec<u8> {
    let mut record = Vec::new();
    put_varint(&mut record, length);
    record.extend_from_slice(fields);
    let mut header = BatchHeader::parse(&golden(Compression::None)).unwrap();
    header.record_count = 1;
    header.last_offset_delta = 0;
    header.batch_length = i32::try_from(BATCH_OVERHEAD - 12 + record.len()).unwrap();
    signed([&header.to_bytes()[..], &record].concat())
}

fn check_record(fields: &[u8], cause: RecordError) {
    check(&of_record(fields, i32::try_from(fields.len()).unwrap()), BatchError::Record { record: 0, cause });
}

#[test]
fn fields_of_records() {
    // Attributes, timestamp delta, offset delta, key length, value length, header count.
    let good = [0, 0, 0, 1, 1, 0];
    assert!(validate(&of_record(&good, 6)).is_ok());
    check_record(&[0, 0, 2, 1, 1, 0], RecordError::OffsetDelta { expected: 0, actual: 1 });
    check_record(&[0, 0, 1, 1, 1, 0], RecordError::OffsetDelta { expected: 0, actual: -1 });
    check_record(&[0, 0, 0, 3, 1, 0], RecordError::Length { length: -2 });
    check_record(&[0, 0, 0, 1, 3, 0], RecordError::Length { length: -2 });
    check_record(&[0, 0, 0, 4, 1, 0], RecordError::Varint);
    check_record(&[0, 0, 0, 8, 1, 0], RecordError::Short);
    check_record(&[0, 0, 0, 1, 1, 1], RecordError::HeaderCount { count: -1 });
    check_record(&[0, 0, 0, 1, 1, 2, 1, 1], RecordError::NullHeaderKey);
    check_record(&[0, 0, 0, 1, 1, 2, 0], RecordError::Varint);
    check_record(&[], RecordError::Short);
    check_record(&[0, 0, 0, 1, 1, 0, 9], RecordError::LengthMismatch { stated: 7, used: 6 });
    let length = |length| BatchError::Record { record: 0, cause: RecordError::Length { length } };
    check(&of_record(&good, -1), length(-1));
    check(&of_record(&good, i32::MIN), length(i64::from(i32::MIN)));
    check(&of_record(&good, 7), BatchError::Record { record: 0, cause: RecordError::Short });
    check(&of_record(&good, i32::MAX), BatchError::Record { record: 0, cause: RecordError::Short });
    // Two billion headers in ten bytes.
    let mut many = vec![0, 0, 0, 1, 1];
    put_varint(&mut many, i32::MAX);
    many.extend_from_slice(&[0, 1]);
    check_record(&many, RecordError::Varint);
    // A number of eleven bytes.
    let mut long = vec![0];
    put_varlong(&mut long, i64::MIN);
    let last = long.len() - 1;
    long[last] |= 0x80;
    long.push(0);
    check_record(&long, RecordError::Varint);
}

#[test]
fn the_records_of_a_compressed_batch_are_checked_only_when_asked() {
    let batch = golden(Compression::None);
    let mut header = BatchHeader::parse(&batch).unwrap();
    header.attributes = Attributes(4);
    let not_zstd = signed([&header.to_bytes()[..], &batch[BATCH_OVERHEAD..]].concat());
    assert!(validate(&not_zstd).is_ok());
    let error = BatchError::Compression { compression: "zstd" };
    assert_eq!(validate_deep(&not_zstd.clone().into(), 1 << 20), Err(error.clone()));
    let mut read = records(&not_zstd.into(), Limits::default()).unwrap();
    assert_eq!(read.next(), Some(Err(error)));
    assert_eq!(read.next(), None, "the first error ends it");
    for compression in Compression::ALL {
        let result = validate_deep(&golden(compression), 100);
        let bound = compression != Compression::None;
        assert_eq!(result.is_err(), bound, "{compression:?}: {result:?}");
    }
}

#[test]
fn reading_stops_at_the_limit() {
    let mut read = records(&golden(Compression::Gzip), Limits { bytes_max: 100 }).unwrap();
    assert_eq!(read.next(), Some(Err(BatchError::TooLarge { bytes_max: 100 })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzz_batch(&noise);
    }

    /// Damage with a CRC that fits, so that what is behind the CRC is reached.
    #[test]
    fn damage_never_panics(number in 0_usize..5, places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut batch = golden(Compression::ALL[number]).to_vec();
        for (place, value) in places {
            let place = 12 + place.index(batch.len() - 12);
            batch[place] = value;
        }
        crate::fuzz_batch(&signed(batch));
    }
}
