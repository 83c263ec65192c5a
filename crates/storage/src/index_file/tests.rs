//! Sealed indexes on real files, against a plain list of batches.

mod compacted;
mod parts;
mod placed;

use base::disk::RealDisk;
use base::random::{Random, SeededRandom};
use bytes::Bytes;
use proptest::prelude::*;
use record::{Extent, LeaderEpoch, ShardId, StreamOffset, TimestampMs};

use super::*;
use crate::batch_run;
use crate::object::DiskStore;

const STREAM: StreamId = StreamId(5);

async fn objects(dir: &Path) -> Objects {
    let store = Arc::new(DiskStore::new(Arc::new(RealDisk), dir.to_owned()));
    Objects::open(store, "objects".into(), ShardId(1), 1 << 20).await.unwrap()
}

async fn open(dir: &Path) -> IndexStore {
    IndexStore::open(Arc::new(RealDisk), dir, 1 << 20, objects(dir).await).await.unwrap()
}

async fn contents(path: &Path) -> Vec<u8> {
    let file = RealDisk.open(path, OpenOptions::read()).unwrap();
    file.read_at(0, 10 << 20).await.unwrap().to_vec()
}

fn batch(base_offset: i64, records: u32, time: i64, log_index: u64) -> BatchEntry {
    BatchEntry {
        base_offset: StreamOffset(base_offset),
        record_count: records,
        max_timestamp: TimestampMs(time),
        log_index: LogIndex(log_index),
        position: 100,
        bytes: 1_000,
        epoch: LeaderEpoch(3),
        earlier: None,
        object: None,
    }
}

/// Files of one stream among others, with random numbers of batches and times that go up and down.
async fn history(store: &IndexStore, files: u32, seed: u64) -> Vec<BatchEntry> {
    let random = SeededRandom::new(seed);
    let mut all = Vec::new();
    let (mut offset, mut previous) = (0, None);
    for file in 1..=files {
        let has_stream = file == 1 || random.below(4) > 0;
        let mut streams: Vec<SealedStream> = (0..120)
            .filter(|other| *other != STREAM.0)
            .map(|other| SealedStream {
                stream: StreamId(other),
                previous: None,
                oldest: None,
                batches: vec![batch(7, 1, 1, u64::from(file) * 1_000)],
            })
            .collect();
        if has_stream {
            let count = if random.below(5) == 0 { 400 } else { 1 + random.below(5) };
            let mut batches = Vec::new();
            for place in 0..count {
                let records = 1 + u32::try_from(random.below(9)).unwrap();
                let time = 1_000 + i64::from(file) * 50 + i64::try_from(random.below(300)).unwrap();
                batches.push(batch(offset, records, time, u64::from(file) * 1_000 + place));
                offset += i64::from(records);
            }
            all.extend(batches.iter().cloned());
            streams.push(SealedStream { stream: STREAM, previous, oldest: Some(FileNumber(1)), batches });
            previous = Some(FileNumber(file));
        }
        streams.sort_by_key(|sealed| sealed.stream);
        let range = LogIndex(u64::from(file) * 1_000)..=LogIndex(u64::from(file) * 1_000 + 999);
        store.write(FileNumber(file), range, streams).await.unwrap();
    }
    all
}

async fn newest(store: &IndexStore) -> FileNumber {
    for file in store.files().into_iter().rev() {
        if store.entry(file, STREAM).await.unwrap().is_some() {
            return file;
        }
    }
    panic!("no file has the stream");
}

#[tokio::test]
async fn every_batch_is_found_by_offset_and_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let all = history(&store, 60, 1).await;
    let newest = newest(&store).await;
    for store in [store, open(dir.path()).await] {
        assert_eq!(store.batches(newest, STREAM, StreamOffset(0), usize::MAX, u64::MAX).await.unwrap(), all);
        let end = all.last().unwrap().next_offset().0;
        for offset in (0..end + 3).step_by(3) {
            let expected: Vec<_> = all.iter().filter(|batch| batch.next_offset().0 > offset).take(3).cloned().collect();
            assert_eq!(
                store.batches(newest, STREAM, StreamOffset(offset), 3, u64::MAX).await.unwrap(),
                expected,
                "offset {offset}"
            );
        }
        let bytes = all[..7].iter().map(BatchEntry::total_bytes).sum();
        for (bytes_max, count) in [(1, 1), (bytes - 1, 7), (bytes, 7), (bytes + 1, 8)] {
            let found = store.batches(newest, STREAM, StreamOffset(0), usize::MAX, bytes_max).await.unwrap();
            assert_eq!(found, all[..count], "{bytes_max} bytes");
        }
        for (time, from) in (900..4_600).step_by(37).flat_map(|time| [(time, 0), (time, end / 2), (time, end - 1)]) {
            let expected = all.iter().find(|batch| batch.next_offset().0 > from && batch.max_timestamp.0 >= time);
            let found = store.find_by_time(newest, STREAM, StreamOffset(from), TimestampMs(time)).await.unwrap();
            assert_eq!(found.as_ref(), expected, "time {time} from {from}");
        }
        for from in [0, end / 2, end - 1, end] {
            let expected =
                all.iter().filter(|batch| batch.next_offset().0 > from).rev().max_by_key(|batch| batch.max_timestamp);
            let found = store.find_max_time(newest, STREAM, StreamOffset(from), None).await.unwrap();
            assert_eq!(found.as_ref(), expected, "from {from}");
            let mut in_order: Vec<_> = all.iter().filter(|batch| batch.next_offset().0 > from).collect();
            in_order.sort_by_key(|batch| (std::cmp::Reverse(batch.max_timestamp), batch.base_offset));
            let mut below = None;
            for expected in in_order.into_iter().take(5).map(Some).chain([None].into_iter().filter(|_| from == end)) {
                let found = store.find_max_time(newest, STREAM, StreamOffset(from), below).await.unwrap();
                assert_eq!(found.as_ref(), expected, "from {from} below {below:?}");
                below = expected.map(|batch| (batch.max_timestamp, batch.base_offset));
            }
        }
        let error = store.batches(newest, StreamId(999), StreamOffset(0), 9, u64::MAX).await.unwrap_err();
        assert!(error.to_string().ends_with("does not have the stream 999"), "{error}");
    }
}

#[tokio::test]
async fn any_file_is_reached_in_a_logarithmic_number_of_steps() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let files = 300_u32;
    for file in 1..=files {
        let index = LogIndex(u64::from(file));
        let batches = vec![batch(i64::from(file), 1, 0, u64::from(file))];
        let previous = (file > 1).then(|| FileNumber(file - 1));
        store
            .write(
                FileNumber(file),
                index..=index,
                vec![SealedStream { stream: STREAM, previous, oldest: Some(FileNumber(1)), batches }],
            )
            .await
            .unwrap();
    }
    for target in 1..=files {
        let (mut at, mut steps) = (files, 0);
        while at != target {
            let entry = store.entry(FileNumber(at), STREAM).await.unwrap().unwrap();
            at = if entry.jump >= target { entry.jump } else { entry.previous };
            steps += 1;
        }
        assert!(steps <= 3 * 9, "{steps} steps to file {target} of {files}");
    }
}

#[tokio::test]
async fn sealing_twice_gives_the_same_bytes_and_removal_ends_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let seal = |file: u32, previous| {
        let batches = vec![batch(i64::from(file) * 10, 10, 0, u64::from(file))];
        let index = LogIndex(u64::from(file));
        store.write(
            FileNumber(file),
            index..=index,
            vec![SealedStream { stream: STREAM, previous, oldest: Some(FileNumber(1)), batches }],
        )
    };
    seal(1, None).await.unwrap();
    seal(2, Some(FileNumber(1))).await.unwrap();
    let path = dir.path().join(name(2));
    let before = contents(&path).await;
    seal(2, Some(FileNumber(1))).await.unwrap();
    assert_eq!(contents(&path).await, before);
    store.remove(FileNumber(1)).await.unwrap();
    store.remove(FileNumber(1)).await.unwrap();
    assert_eq!(store.files(), [FileNumber(2)]);
    let found = store.batches(FileNumber(2), STREAM, StreamOffset(20), 9, u64::MAX).await.unwrap();
    assert_eq!(found.len(), 1);
}

/// Asserts that what was asked for needs the missing `file`.
fn assert_missing<T: std::fmt::Debug>(found: io::Result<T>, file: u32, what: &str) {
    let error = found.expect_err(what);
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{what}");
    assert!(error.to_string().contains(&name(file)), "{what}: {error}");
}

#[tokio::test]
async fn a_missing_file_is_never_passed_over() {
    // Each file has ten offsets, and times that rise with the offsets.
    let seal = |store: IndexStore, file: u32| async move {
        let base = i64::from(file) * 10;
        let batches = (0..10).map(|place| batch(base + place, 1, 1_000 + base + place, u64::from(file))).collect();
        let previous = (file > 1).then(|| FileNumber(file - 1));
        let index = LogIndex(u64::from(file));
        let streams = vec![SealedStream { stream: STREAM, previous, oldest: Some(FileNumber(1)), batches }];
        store.write(FileNumber(file), index..=index, streams).await.unwrap();
    };
    for missing in 1..=12_u32 {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        for file in 1..=12 {
            seal(store.clone(), file).await;
        }
        store.remove(FileNumber(missing)).await.unwrap();
        // What is sealed behind it does not hide it.
        for file in 13..=16 {
            seal(store.clone(), file).await;
        }
        let newest = FileNumber(16);
        let (from, to) = (i64::from(missing) * 10, i64::from(missing) * 10 + 10);
        for offset in 10..170 {
            let what = format!("offset {offset} without file {missing}");
            let is_lost = (from..to).contains(&offset);
            let (at, time) = (StreamOffset(offset), TimestampMs(1_000 + offset));
            let batches = store.batches(newest, STREAM, at, 1, u64::MAX).await;
            let by_time = store.find_by_time(newest, STREAM, StreamOffset(10), time).await;
            if is_lost {
                assert_missing(batches, missing, &what);
                assert_missing(by_time, missing, &what);
                continue;
            }
            // What lies before it may be out of reach, and what has a later time may stand in it.
            assert!(batches.is_ok() || offset < from, "{what}");
            match batches {
                Ok(batches) => assert_eq!(batches[0].base_offset, at, "{what}"),
                error => assert_missing(error, missing, &what),
            }
            match by_time {
                Ok(found) => assert_eq!(found.expect("found").base_offset, at, "{what}"),
                error => assert_missing(error, missing, &what),
            }
            let by_time = store.find_by_time(newest, STREAM, StreamOffset(to), time).await;
            if offset >= to {
                assert_eq!(by_time.unwrap().expect("found").base_offset, at, "{what}, from behind it");
            }
        }
        assert_missing(store.batches(newest, STREAM, StreamOffset(10), 1_000, u64::MAX).await, missing, "all batches");
        let behind = store.batches(newest, STREAM, StreamOffset(to), 1_000, u64::MAX).await.unwrap();
        assert_eq!(behind.len() as i64, 170 - to);
        let latest = store.find_max_time(newest, STREAM, StreamOffset(to), None).await.unwrap().unwrap();
        assert_eq!(latest.base_offset, StreamOffset(169));
    }
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for file in 1..=3 {
        seal(store.clone(), file).await;
    }
    store.remove(FileNumber(3)).await.unwrap();
    let newest = FileNumber(3);
    assert_missing(store.batches(newest, STREAM, StreamOffset(10), 1, u64::MAX).await, 3, "the newest");
    assert_missing(store.find_by_time(newest, STREAM, StreamOffset(10), TimestampMs(0)).await, 3, "the newest");
    assert_missing(store.find_max_time(newest, STREAM, StreamOffset(10), None).await, 3, "the newest");
}

#[tokio::test]
async fn a_flipped_bit_is_an_error_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let all: Vec<_> = (0..300).map(|place| batch(place, 1, place, 1)).collect();
    let streams = vec![SealedStream { stream: STREAM, previous: None, oldest: None, batches: all.clone() }];
    store.write(FileNumber(1), LogIndex(1)..=LogIndex(1), streams).await.unwrap();
    let path = dir.path().join(name(1));
    let bytes = contents(&path).await;
    let mut errors = 0;
    for position in (0..bytes.len()).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[position] ^= 0x10;
        let file = RealDisk.open(&path, OpenOptions::replace()).unwrap();
        file.write_at(0, &[IoSlice::new(&flipped)]).await.unwrap();
        match open(dir.path()).await.batches(FileNumber(1), STREAM, StreamOffset(0), usize::MAX, u64::MAX).await {
            Ok(found) => assert_eq!(found, all, "position {position}"),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                errors += 1;
            }
        }
    }
    assert!(errors > bytes.len() / 7 / 2);
}

#[test]
fn the_layout_is_as_documented() {
    let header = format::Header {
        file: 7,
        first_index: LogIndex(1),
        last_index: LogIndex(2),
        streams: 52,
        batches: 60,
        directory_at: 800,
        directory_blocks: 2,
        summary_crc: 9,
    };
    assert_eq!(header.encode().len(), 80);
    assert_eq!(&header.encode()[..8], b"RMQINDX\0");
    assert_eq!(format::Header::decode(&header.encode()), Some(header));
    assert_eq!(header.summary(), Some((800 + 2 * 4096, 16)));
    let batches: Vec<_> = (0..100).map(|place| batch(place, 1, 1_700_000_000_000 + place, 9)).collect();
    let bytes = batch_run::encode_chunk(&batches).len();
    assert!(bytes <= 900, "a batch takes about eight bytes, {bytes} for 100");
}

fn any_batch() -> impl Strategy<Value = BatchEntry> {
    let extent = (any::<u64>(), any::<u32>(), any::<u32>()).prop_map(|(log_index, position, bytes)| Extent {
        log_index: LogIndex(log_index),
        position,
        bytes,
    });
    let fields = (any::<i64>(), any::<u32>(), any::<i64>(), any::<u64>(), any::<u32>(), any::<u32>(), any::<i32>());
    (fields, proptest::collection::vec(extent, 0..3)).prop_map(
        |((base, count, time, index, position, bytes, epoch), earlier)| BatchEntry {
            base_offset: StreamOffset(base),
            record_count: count,
            max_timestamp: TimestampMs(time),
            log_index: LogIndex(index),
            position,
            bytes,
            epoch: LeaderEpoch(epoch),
            earlier: (!earlier.is_empty()).then(|| earlier.into()),
            object: None,
        },
    )
}

proptest! {
    #[test]
    fn any_batches_keep_their_fields(batches in proptest::collection::vec(any_batch(), 0..20)) {
        let count = u32::try_from(batches.len()).unwrap();
        prop_assert_eq!(batch_run::decode_chunk(&batch_run::encode_chunk(&batches), count), Some(batches));
    }

    #[test]
    fn any_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz_index_file(&bytes);
    }
}

#[test]
fn an_empty_list_of_earlier_extents_is_no_batch() {
    fuzz_index_file(&[0x08, 0x01, 0, 0, 0x01, 0, 0x01, 0]);
    assert_eq!(batch_run::decode_chunk(&[0x08, 0x01, 0, 0, 0x01, 0, 0x01, 0], 1), None);
}

#[tokio::test]
async fn a_file_from_elsewhere_is_taken_in_only_whole() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path()).await;
    let all = history(&store, 12, 3).await;
    let taken = open(other.path()).await;
    for file in store.files() {
        let bytes = store.size(file).unwrap();
        let import = async |whole: Vec<u8>| {
            let mut import = taken.import(file, whole.len() as u64).await?;
            for part in whole.chunks(1_000) {
                import.part(Bytes::copy_from_slice(part)).await?;
            }
            import.finish().await
        };
        let whole = store.raw(file, 0, usize::try_from(bytes).unwrap()).await.unwrap().unwrap().to_vec();
        for place in (0..whole.len()).step_by(1 + whole.len() / 200) {
            let mut flipped = whole.clone();
            flipped[place] ^= 0x10;
            assert_eq!(import(flipped).await.unwrap_err().kind(), io::ErrorKind::InvalidData, "byte {place}");
        }
        for length in [0, 50, whole.len() / 2, whole.len() - 1] {
            assert_eq!(import(whole[..length].to_vec()).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert!(!taken.contains(file));
        import(whole).await.unwrap();
    }
    let newest = newest(&taken).await;
    for store in [taken, open(other.path()).await] {
        assert_eq!(store.files().len(), 12);
        assert_eq!(store.batches(newest, STREAM, StreamOffset(0), usize::MAX, u64::MAX).await.unwrap(), all);
    }
    assert_eq!(RealDisk.read_dir(other.path()).unwrap().len(), 12, "nothing else is left");
}
