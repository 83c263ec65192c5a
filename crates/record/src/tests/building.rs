//! What is built is what Kafka builds, and reads as it was put in.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::golden::golden;
use crate::{
    BatchBuilder, BuildError, Compression, Limits, ProducerEpoch, ProducerId, ProducerStamp, Sequence, TimestampMs,
    records, validate, validate_deep,
};

/// Built anew from the records of a golden batch: without compression the very bytes that Kafka wrote.
#[test]
fn a_batch_is_built_as_kafka_builds_it() {
    for compression in Compression::ALL {
        let stamp = ProducerStamp { id: ProducerId(4711), epoch: ProducerEpoch(3), base_sequence: Sequence(17) };
        let mut builder = BatchBuilder::new(compression).producer(stamp);
        for record in records(&golden(Compression::None), Limits::default()).unwrap() {
            let record = record.unwrap();
            let headers: Vec<_> = record.headers.iter().collect();
            let headers: Vec<_> = headers.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
            builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers).unwrap();
        }
        assert_eq!((builder.len(), builder.bytes()), (40, golden(Compression::None).len()));
        let built = builder.build().unwrap();
        if compression == Compression::None {
            assert_eq!(built[16..], golden(Compression::None)[16..]);
        }
        let read: Vec<_> = records(&built, Limits::default()).unwrap().collect();
        let expected: Vec<_> = records(&golden(compression), Limits::default()).unwrap().collect();
        assert_eq!(read, expected);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut builder = BatchBuilder::new(Compression::None);
    assert!(builder.is_empty());
    builder.push(TimestampMs(-2), None, None, &[]).unwrap();
    assert_eq!(builder.push(TimestampMs(i64::MAX), None, None, &[]), Err(BuildError::Timestamp));
    assert_eq!(builder.len(), 1);
    assert_eq!(BatchBuilder::new(Compression::Zstd).build(), Err(BuildError::Empty));
}

#[test]
fn marks_are_set() {
    let mut builder = BatchBuilder::new(Compression::None).transactional();
    builder.push(TimestampMs(5), None, Some(b"x"), &[]).unwrap();
    assert!(validate(&builder.build().unwrap()).unwrap().transactional);
    let mut builder = BatchBuilder::new(Compression::None).control();
    builder.push(TimestampMs(5), None, Some(b"x"), &[]).unwrap();
    assert_eq!(validate(&builder.build().unwrap()), Err(crate::BatchError::Control));
}

type Built = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..20),
        (0_u8..4, 0_usize..3000).prop_map(|(byte, count)| std::vec::from_elem(byte, count))
    ]
}

fn record() -> impl Strategy<Value = Built> {
    (0_i64..1 << 45, option::of(bytes()), option::of(bytes()), vec((bytes(), option::of(bytes())), 0..3))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// What is built is valid, shallow and deep, and reads as it was put in.
    #[test]
    fn built_reads_as_it_was_put_in(written in vec(record(), 1..30), number in 0_usize..5) {
        let mut builder = BatchBuilder::new(Compression::ALL[number]);
        for (timestamp, key, value, headers) in &written {
            let headers: Vec<_> = headers.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
            builder.push(TimestampMs(*timestamp), key.as_deref(), value.as_deref(), &headers).unwrap();
        }
        let batch = builder.build().unwrap();
        let summary = validate(&batch).unwrap();
        prop_assert_eq!(summary.max_timestamp_correction, None);
        prop_assert_eq!(validate_deep(&batch, 1 << 24), Ok(summary));
        let read: Result<Vec<_>, _> = records(&batch, Limits::default()).unwrap().collect();
        let read: Vec<Built> = read.unwrap().into_iter().map(|record| {
            let headers = record.headers.iter().map(|(key, value)| (key.to_vec(), value.map(Vec::from))).collect();
            (record.timestamp.0, record.key.map(Vec::from), record.value.map(Vec::from), headers)
        }).collect();
        prop_assert_eq!(read, written);
        crate::fuzz_batch(&batch);
    }
}
