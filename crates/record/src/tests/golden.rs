//! Batches written by Kafka's own Java library (`MemoryRecords.withIdempotentRecords` of kafka-clients 4.3.1), one for
//! each compression, all of the same 40 records.

use bytes::Bytes;

use crate::{
    BatchBuilder, BatchHeader, Compression, Limits, ProducerEpoch, ProducerId, ProducerStamp, Sequence, StreamOffset,
    TimestampMs, TimestampType, max_timestamp_offset, offset_for_timestamp, records, validate, validate_deep,
};

pub(super) fn golden(compression: Compression) -> Bytes {
    let hex = match compression {
        Compression::None => include_str!("../../golden/none.hex"),
        Compression::Gzip => include_str!("../../golden/gzip.hex"),
        Compression::Snappy => include_str!("../../golden/snappy.hex"),
        Compression::Lz4 => include_str!("../../golden/lz4.hex"),
        Compression::Zstd => include_str!("../../golden/zstd.hex"),
    };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap();
    hex.trim().as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

const BASE: i64 = 1_700_000_000_000;

fn timestamp(record: i64) -> i64 {
    BASE + (record * 37) % 11 - 5
}

#[test]
fn headers_are_read_and_written_as_kafka_does() {
    for compression in Compression::ALL {
        let batch = golden(compression);
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!(header.attributes.compression(), Some(compression));
        assert_eq!(header.total_bytes(), Some(batch.len()));
        assert_eq!(header.to_bytes(), batch[..61]);
        assert_eq!((header.record_count, header.last_offset_delta), (40, 39));
        assert_eq!(header.base_timestamp, TimestampMs(timestamp(0)));
    }
}

#[test]
fn kafkas_batches_are_valid() {
    for compression in Compression::ALL {
        let batch = golden(compression);
        let summary = validate(&batch).unwrap();
        assert_eq!(summary.bytes as usize, batch.len());
        assert_eq!(summary.record_count, 40);
        assert_eq!(summary.compression, compression);
        assert_eq!(summary.timestamp_type, TimestampType::CreateTime);
        assert_eq!(summary.max_timestamp, TimestampMs(BASE + 5));
        assert_eq!(summary.max_timestamp_correction, None);
        assert!(!summary.transactional && !summary.control);
        let stamp = ProducerStamp { id: ProducerId(4711), epoch: ProducerEpoch(3), base_sequence: Sequence(17) };
        assert_eq!(summary.producer, Some(stamp));
        assert_eq!(validate_deep(&batch, 1 << 20), Ok(summary));
    }
}

#[test]
fn kafkas_records_are_read() {
    for compression in Compression::ALL {
        let batch = golden(compression);
        let read: Vec<_> = records(&batch, Limits::default()).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), 40);
        for (number, record) in (0_i64..).zip(&read) {
            assert_eq!(record.offset, StreamOffset(number));
            assert_eq!(record.timestamp, TimestampMs(timestamp(number)));
            let key = (number % 3 != 0).then(|| format!("key-{number}"));
            assert_eq!(record.key.as_deref(), key.as_deref().map(str::as_bytes));
            let value = (number % 7 != 3).then(|| format!("value-{number}-to be, or not to be, that is the question"));
            assert_eq!(record.value.as_deref(), value.as_deref().map(str::as_bytes));
            let headers: Vec<_> = record.headers.iter().collect();
            assert_eq!(headers.len(), record.headers.len());
            if number % 4 == 0 {
                assert_eq!(
                    headers,
                    [
                        (Bytes::from_static(b"content-type"), Some(Bytes::from_static(b"text/plain"))),
                        (Bytes::from_static(b"n"), None)
                    ]
                );
            } else {
                assert!(record.headers.is_empty());
            }
        }
    }
}

#[test]
fn timestamps_lead_to_the_first_record_that_has_them() {
    for compression in Compression::ALL {
        let batch = golden(compression);
        for asked in BASE - 10..BASE + 10 {
            let expected = (0..40)
                .find(|record| timestamp(*record) >= asked)
                .map(|record| (StreamOffset(record), TimestampMs(timestamp(record))));
            let found = offset_for_timestamp(&batch, TimestampMs(asked), 0, Limits::default()).unwrap();
            assert_eq!(found, expected, "{compression:?} {asked}");
        }
        let max = (0..40).find(|record| timestamp(*record) == BASE + 5).unwrap();
        let expected = Some((StreamOffset(max), TimestampMs(BASE + 5)));
        assert_eq!(max_timestamp_offset(&batch, Limits::default()), Ok(expected));
    }
}

#[test]
fn a_lookup_that_would_take_too_much_leads_to_the_first_record() {
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let batch = golden(compression);
        let found = offset_for_timestamp(&batch, TimestampMs(BASE + 5), 0, Limits { bytes_max: 100 });
        assert_eq!(found, Ok(Some((StreamOffset(0), TimestampMs(BASE + 5)))), "{compression:?}");
    }
}

#[test]
fn a_lookup_in_a_bomb_holds_no_more_than_a_block() {
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(compression);
        builder.push(TimestampMs(1), None, Some(&vec![0; 32 << 20]), &[]).unwrap();
        builder.push(TimestampMs(2), None, Some(b"small"), &[]).unwrap();
        let batch = builder.build().unwrap();
        let found = offset_for_timestamp(&batch, TimestampMs(2), 0, Limits::default());
        assert_eq!(found, Ok(Some((StreamOffset(1), TimestampMs(2)))), "{compression:?}");
        let found = offset_for_timestamp(&batch, TimestampMs(2), 0, Limits { bytes_max: 1 << 20 });
        assert_eq!(found, Ok(Some((StreamOffset(0), TimestampMs(2)))), "{compression:?}");
    }
    // One block of 32 MiB: more than is held.
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(TimestampMs(1), None, Some(&vec![0; 32 << 20]), &[]).unwrap();
    let plain = builder.build().unwrap();
    let block = snap::raw::Encoder::new().compress_vec(&plain[61..]).unwrap();
    let mut header = BatchHeader::parse(&plain).unwrap();
    header.attributes = crate::Attributes::new(Compression::Snappy, TimestampType::CreateTime);
    let batch = [&header.to_bytes()[..], &block].concat().into();
    let found = offset_for_timestamp(&batch, TimestampMs(1), 0, Limits::default());
    assert_eq!(found, Ok(Some((StreamOffset(0), TimestampMs(1)))));
}

#[test]
fn a_zstd_window_that_is_too_large_leads_to_the_first_record() {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(TimestampMs(1), None, Some(&vec![7; 20 << 20]), &[]).unwrap();
    builder.push(TimestampMs(2), None, None, &[]).unwrap();
    let plain = builder.build().unwrap();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(26).unwrap();
    std::io::Write::write_all(&mut encoder, &plain[61..]).unwrap();
    let mut header = BatchHeader::parse(&plain).unwrap();
    header.attributes = crate::Attributes::new(Compression::Zstd, TimestampType::CreateTime);
    let compressed = encoder.finish().unwrap();
    header.batch_length = i32::try_from(49 + compressed.len()).unwrap();
    let batch = Bytes::from([&header.to_bytes()[..], &compressed].concat());
    let found = offset_for_timestamp(&batch, TimestampMs(2), 0, Limits::default());
    assert_eq!(found, Ok(Some((StreamOffset(0), TimestampMs(2)))));
    let wide: Result<Vec<_>, _> = records(&batch, Limits { bytes_max: 1 << 30 }).map(Iterator::collect);
    assert_eq!(wide.map(|read: Vec<Result<_, _>>| read.len()).unwrap_or(0), 2);
}
