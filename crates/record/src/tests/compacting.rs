//! What key compaction leaves of a batch.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::{
    BatchBuilder, BatchHeader, Compacted, Compression, Limits, ProducerEpoch, ProducerId, ProducerStamp, Record,
    Sequence, TimestampMs, batch_is_whole, compacted, emptied, keyed_records, records, records_without_key,
    with_log_append_time,
};

const HORIZON: TimestampMs = TimestampMs(5_000_000);

/// Records of these keys; those of odd keys have no value.
fn batch(compression: Compression, keys: &[u8]) -> Bytes {
    let stamp = ProducerStamp { id: ProducerId(7), epoch: ProducerEpoch(2), base_sequence: Sequence(90) };
    let mut builder = BatchBuilder::new(compression).producer(stamp);
    for (number, key) in (0_i64..).zip(keys) {
        let value = (key % 2 == 0).then_some(&b"a value"[..]);
        let headers: [(&[u8], Option<&[u8]>); 1] = [(b"header", None)];
        builder.push(TimestampMs(1_000 + 10 * number), Some(&[*key]), value, &headers).unwrap();
    }
    builder.build().unwrap()
}

fn read(batch: &Bytes) -> Vec<Record> {
    records(batch, Limits::default()).unwrap().map(Result::unwrap).collect()
}

fn changed(batch: &Bytes, stays: impl Fn(u32) -> bool) -> (Bytes, TimestampMs) {
    match compacted(batch, Limits::default(), HORIZON, |record| stays(record.delta)).unwrap() {
        Compacted::Changed { batch, max_timestamp } => (batch, max_timestamp),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_stays_is_as_it_was() {
    for compression in Compression::ALL {
        let whole = batch(compression, &[0, 2, 4, 6, 8]);
        let (left, max_timestamp) = changed(&whole, |delta| delta == 1 || delta == 3);
        let all = read(&whole);
        assert_eq!(read(&left), [all[1].clone(), all[3].clone()]);
        assert!(batch_is_whole(std::slice::from_ref(&left)));
        assert_eq!(max_timestamp, TimestampMs(1_030), "the largest of what stays");
        let (before, after) = (BatchHeader::parse(&whole).unwrap(), BatchHeader::parse(&left).unwrap());
        let same = BatchHeader {
            batch_length: before.batch_length,
            crc: before.crc,
            max_timestamp: before.max_timestamp,
            record_count: before.record_count,
            ..after
        };
        assert_eq!(same, before, "producer, sequence, compression and offsets stay");
        assert_eq!((after.record_count, after.max_timestamp), (2, max_timestamp));
    }
}

#[test]
fn nothing_is_written_anew_without_need() {
    let whole = batch(Compression::Lz4, &[0, 2, 4]);
    let stays_all = |batch: &Bytes| compacted(batch, Limits::default(), HORIZON, |_| true).unwrap();
    assert_eq!(stays_all(&whole), Compacted::Whole);
    assert_eq!(compacted(&whole, Limits::default(), HORIZON, |_| false).unwrap(), Compacted::Nothing);
    let mut builder = BatchBuilder::new(Compression::None).control();
    builder.push(TimestampMs(5), None, Some(b"x"), &[]).unwrap();
    let marker = builder.build().unwrap();
    assert_eq!(compacted(&marker, Limits::default(), HORIZON, |_| false).unwrap(), Compacted::Whole);
}

#[test]
fn how_long_deletes_stay_is_set_once() {
    for compression in Compression::ALL {
        let whole = batch(compression, &[0, 1, 2]);
        let (left, _) = changed(&whole, |_| true);
        let header = BatchHeader::parse(&left).unwrap();
        assert_eq!(header.delete_horizon(), Some(HORIZON));
        assert_eq!(header.max_timestamp, TimestampMs(1_020));
        assert_eq!(read(&left), read(&whole), "times are what they were");
        // A later pass keeps the time that an earlier one set.
        let again = compacted(&left, Limits::default(), TimestampMs(9_000_000), |_| true).unwrap();
        assert_eq!(again, Compacted::Whole);
        let later = compacted(&left, Limits::default(), TimestampMs(9_000_000), |record| record.delta > 0).unwrap();
        let Compacted::Changed { batch: later, .. } = later else { panic!("{later:?}") };
        assert_eq!(BatchHeader::parse(&later).unwrap().delete_horizon(), Some(HORIZON));
        assert_eq!(read(&later), read(&whole)[1..]);
    }
    let (left, _) = changed(&batch(Compression::None, &[0, 1, 2]), |delta| delta != 1);
    assert_eq!(BatchHeader::parse(&left).unwrap().delete_horizon(), None, "no delete stays");
}

#[test]
fn the_time_of_the_append_stays() {
    let patched = with_log_append_time(&batch(Compression::Zstd, &[0, 1, 2, 3]), TimestampMs(77_000)).unwrap().joined();
    for stays in [|delta: u32| delta == 2, |delta: u32| delta == 1] {
        let (left, max_timestamp) = changed(&patched, stays);
        assert_eq!(max_timestamp, TimestampMs(77_000));
        assert_eq!(
            read(&left),
            read(&patched)
                .into_iter()
                .filter(|record| stays(u32::try_from(record.offset.0).unwrap()))
                .collect::<Vec<_>>()
        );
    }
}

#[test]
fn an_empty_batch_has_its_offsets() {
    for whole in [batch(Compression::Snappy, &[0, 1, 2]), changed(&batch(Compression::None, &[1, 1]), |_| true).0] {
        let (empty, before) = (emptied(&whole).unwrap(), BatchHeader::parse(&whole).unwrap());
        let header = BatchHeader::parse(&empty).unwrap();
        assert!(batch_is_whole(std::slice::from_ref(&empty)) && empty.len() == 61);
        assert_eq!((header.last_offset_delta, header.max_timestamp), (before.last_offset_delta, before.max_timestamp));
        assert_eq!((header.producer_id, header.base_sequence), (before.producer_id, before.base_sequence));
        assert_eq!((header.attributes.compression(), header.delete_horizon()), (Some(Compression::None), None));
        assert!(read(&empty).is_empty());
        assert_eq!(compacted(&empty, Limits::default(), HORIZON, |_| true).unwrap(), Compacted::Whole);
    }
}

#[test]
fn records_without_a_key_are_found() {
    for compression in Compression::ALL {
        let mut builder = BatchBuilder::new(compression);
        for key in [Some(&b"k"[..]), None, Some(b""), None, None] {
            builder.push(TimestampMs(5), key, Some(&[1; 40_000]), &[]).unwrap();
        }
        let batch = builder.build().unwrap();
        let found = |count_max| records_without_key(&batch, Limits::default(), count_max).unwrap();
        assert_eq!((found(9), found(2)), (vec![1, 3, 4], vec![1, 3]));
        let small = Limits { bytes_max: 50_000 };
        assert!(records_without_key(&batch, small, 9).is_err() || compression == Compression::None);
    }
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let whole = batch(Compression::Gzip, &[0, 2, 4]);
    for len in [0, 30, 61, whole.len() - 1] {
        let cut = whole.slice(..len);
        assert!(compacted(&cut, Limits::default(), HORIZON, |_| true).is_err(), "{len}");
        assert!(keyed_records(&cut, Limits::default(), |_| ()).is_err(), "{len}");
    }
    let limits = Limits { bytes_max: 10 };
    assert!(compacted(&whole, limits, HORIZON, |_| false).is_err());
}

type Built = (i64, Option<Vec<u8>>, Option<Vec<u8>>, bool);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever goes, in however many passes: what stays is what it was, at its offset.
    #[test]
    fn records_stay_or_go_as_a_whole(
        written in vec((0_i64..1 << 45, option::of(vec(any::<u8>(), 0..9)), option::of(vec(any::<u8>(), 0..300)), any::<bool>()), 1..40),
        number in 0_usize..5,
        passes in vec(vec(any::<bool>(), 40), 1..4),
        append_time in any::<bool>(),
    ) {
        let mut builder = BatchBuilder::new(Compression::ALL[number]);
        for (timestamp, key, value, _) in &written {
            builder.push(TimestampMs(*timestamp), key.as_deref(), value.as_deref(), &[]).unwrap();
        }
        let mut batch = builder.build().unwrap();
        if append_time {
            batch = with_log_append_time(&batch, TimestampMs(1 << 40)).unwrap().joined();
        }
        let written: &[Built] = &written;
        let mut left = read(&batch);
        for pass in &passes {
            left.retain(|record| pass[usize::try_from(record.offset.0).unwrap()]);
            let mut seen = Vec::new();
            let result = compacted(&batch, Limits::default(), HORIZON, |record| {
                let (_, key, value, _) = &written[record.delta as usize];
                assert_eq!((record.key, record.has_value), (key.as_deref(), value.is_some()));
                seen.push(record.delta);
                pass[record.delta as usize]
            });
            batch = match result.unwrap() {
                Compacted::Whole => batch,
                Compacted::Changed { batch, .. } => batch,
                Compacted::Nothing => emptied(&batch).unwrap(),
            };
            prop_assert!(seen.is_sorted());
            prop_assert!(batch_is_whole(std::slice::from_ref(&batch)));
            prop_assert_eq!(&read(&batch), &left);
            let header = BatchHeader::parse(&batch).unwrap();
            prop_assert_eq!(usize::try_from(header.last_offset_delta).unwrap(), written.len() - 1);
            prop_assert!(left.iter().all(|record| record.timestamp <= header.max_timestamp));
            if left.is_empty() {
                break;
            }
        }
        crate::fuzz_batch(&batch);
    }
}
