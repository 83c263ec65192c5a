//! Compacted objects in the place of what one stream has in files: it is found there, and others where they were.

use record::{ObjectKey, ShardId};

use super::*;
use crate::object::{ObjectId, ObjectWriter, StreamStart};

const SHARD: ShardId = ShardId(1);
const OTHER: StreamId = StreamId(STREAM.0 + 1);

fn file_of(batch: &BatchEntry) -> u32 {
    u32::try_from(batch.log_index.0 / 1_000).unwrap()
}

/// Every file has both streams, which have the same offsets.
async fn history_of_two(store: &IndexStore, files: u32) -> Vec<BatchEntry> {
    let mut all: Vec<BatchEntry> = Vec::new();
    for file in 1..=files {
        let first = all.last().map_or(0, |last| last.next_offset().0);
        let batches: Vec<BatchEntry> = (0_u32..3)
            .map(|number| {
                batch(first + 5 * i64::from(number), 5, 1_000 + 10 * i64::from(file), u64::from(file * 1_000 + number))
            })
            .collect();
        all.extend(batches.iter().cloned());
        let (previous, oldest) = ((file > 1).then(|| FileNumber(file - 1)), Some(FileNumber(1)));
        let sealed = [STREAM, OTHER].map(|stream| SealedStream { stream, previous, oldest, batches: batches.clone() });
        let range = LogIndex(u64::from(file) * 1_000)..=LogIndex(u64::from(file) * 1_000 + 999);
        store.write(FileNumber(file), range, sealed.to_vec()).await.unwrap();
    }
    all
}

async fn put(writer: &mut ObjectWriter, store: &IndexStore, stream: StreamId, all: &[BatchEntry], hangs_on: u32) {
    let oldest = all.first().unwrap();
    let entry = store.known(FileNumber(file_of(oldest)), stream).await.unwrap().unwrap();
    assert_eq!(entry.previous, hangs_on);
    writer.stream(StreamStart { previous: entry.previous, jump: entry.jump, ..StreamStart::first(stream) });
    for batch in all {
        writer.batch(batch, &[Bytes::from(vec![0; batch.bytes as usize])]).await.unwrap();
    }
}

/// Leaves every second batch of a stream, and the last one.
async fn compact(store: &IndexStore, all: &mut Vec<BatchEntry>, first: u32, last: u32) {
    let key = ObjectKey(u64::from(first) << 8 | u64::from(last));
    let id = ObjectId { shard: SHARD, key, first: FileNumber(first), last: FileNumber(last), stream: Some(STREAM) };
    let end = all.iter().rfind(|batch| file_of(batch) <= last).unwrap().base_offset;
    let mut number = 0;
    all.retain(|batch| {
        number += 1;
        !(first..=last).contains(&file_of(batch)) || number % 2 == 0 || batch.base_offset == end
    });
    let inside: Vec<_> = all.iter().filter(|batch| (first..=last).contains(&file_of(batch))).cloned().collect();
    let part = store.part_at(FileNumber(first), STREAM).await.unwrap().unwrap();
    let (previous, jump, _) = part.links();
    let mut writer = store.objects().begin(id).await.unwrap();
    writer.stream(StreamStart { previous, jump, ..StreamStart::first(STREAM) });
    for batch in &inside {
        writer.batch(batch, &[Bytes::from(vec![0; batch.bytes as usize])]).await.unwrap();
    }
    store.objects().finish(writer).await.unwrap();
    store.objects().verify(key).await.unwrap();
    store.place_compacted(STREAM, FileNumber(first), FileNumber(last), key);
}

fn places(batches: &[BatchEntry]) -> Vec<(i64, u32)> {
    batches.iter().map(|batch| (batch.base_offset.0, batch.record_count)).collect()
}

async fn check(store: &IndexStore, stream: StreamId, newest: u32, all: &[BatchEntry]) {
    let newest = FileNumber(newest);
    let end = all.last().unwrap().next_offset().0;
    for offset in 0..end {
        let expected: Vec<_> = all.iter().filter(|batch| batch.next_offset().0 > offset).take(4).cloned().collect();
        let found = store.batches(newest, stream, StreamOffset(offset), 4, u64::MAX).await.unwrap();
        assert_eq!(places(&found), places(&expected), "offset {offset} of {stream}");
    }
    for time in (1_000..1_500).step_by(7) {
        let expected = all.iter().find(|batch| batch.max_timestamp.0 >= time);
        let found = store.find_by_time(newest, stream, StreamOffset(0), TimestampMs(time)).await.unwrap();
        assert_eq!(places(found.as_slice()), places(expected.cloned().as_slice()), "time {time} of {stream}");
    }
}

#[tokio::test]
async fn what_is_compacted_is_found_and_nothing_else_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("index")).await;
    let whole = history_of_two(&store, 40).await;
    let mut left = whole.clone();
    for (first, last) in [(1, 7), (8, 8), (9, 20), (1, 8), (1, 20), (21, 39), (1, 40)] {
        compact(&store, &mut left, first, last).await;
        check(&store, STREAM, 40, &left).await;
        check(&store, OTHER, 40, &whole).await;
    }
    let part = store.part_at(FileNumber(17), STREAM).await.unwrap().unwrap();
    assert_eq!(part.files(), FileNumber(1)..=FileNumber(40));
    let part = store.part_at(FileNumber(17), OTHER).await.unwrap().unwrap();
    assert_eq!(part.files(), FileNumber(17)..=FileNumber(17));
}

#[tokio::test]
async fn what_an_object_of_all_has_from_before_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("index")).await;
    let whole = history_of_two(&store, 30).await;
    // It was built when nothing was compacted, and is read when something is.
    let id = ObjectId { shard: SHARD, key: ObjectKey(77), first: FileNumber(1), last: FileNumber(20), stream: None };
    let mut writer = store.objects().begin(id).await.unwrap();
    let within: Vec<_> = whole.iter().filter(|batch| file_of(batch) <= 20).cloned().collect();
    put(&mut writer, &store, STREAM, &within, 0).await;
    put(&mut writer, &store, OTHER, &within, 0).await;
    store.objects().finish(writer).await.unwrap();
    let mut left = whole.clone();
    compact(&store, &mut left, 1, 7).await;
    store.place(FileNumber(1), FileNumber(20), ObjectKey(77));
    for file in 1..=20 {
        store.remove(FileNumber(file)).await.unwrap();
    }
    check(&store, STREAM, 30, &left).await;
    check(&store, OTHER, 30, &whole).await;
    let part = store.part_at(FileNumber(15), STREAM).await.unwrap().unwrap();
    let end = store.compacted_end(STREAM).await.unwrap().unwrap();
    assert_eq!((part.first_offset(), *part.files().start()), (end, FileNumber(8)));
    let batches = store.batches_in(&part, StreamOffset(0), 1_000).await.unwrap();
    assert!(batches.iter().all(|batch| batch.base_offset >= end) && batches[0].base_offset == end);
    compact(&store, &mut left, 1, 20).await;
    check(&store, STREAM, 30, &left).await;
    // One that is missing is missed, where an object does not have the stream any more.
    store.take_out_compacted(STREAM, FileNumber(1));
    let id = ObjectId { shard: SHARD, key: ObjectKey(78), first: FileNumber(1), last: FileNumber(20), stream: None };
    let mut writer = store.objects().begin(id).await.unwrap();
    put(&mut writer, &store, OTHER, &within, 0).await;
    store.objects().finish(writer).await.unwrap();
    store.place(FileNumber(1), FileNumber(20), ObjectKey(78));
    store.await_compacted(STREAM, FileNumber(1), FileNumber(20));
    let error = store.batches(FileNumber(30), STREAM, StreamOffset(0), 4, u64::MAX).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn an_object_of_all_may_have_the_place_of_compacted_files_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("index")).await;
    let whole = history_of_two(&store, 30).await;
    let mut left = whole.clone();
    compact(&store, &mut left, 1, 12).await;
    // Of the compacted stream it has what lies behind.
    let id = ObjectId { shard: SHARD, key: ObjectKey(77), first: FileNumber(5), last: FileNumber(20), stream: None };
    let mut writer = store.objects().begin(id).await.unwrap();
    let within = |first: u32| -> Vec<_> {
        whole.iter().filter(|batch| (first..=20).contains(&file_of(batch))).cloned().collect()
    };
    put(&mut writer, &store, STREAM, &within(13), 12).await;
    put(&mut writer, &store, OTHER, &within(5), 4).await;
    store.objects().finish(writer).await.unwrap();
    store.objects().verify(ObjectKey(77)).await.unwrap();
    store.place(FileNumber(5), FileNumber(20), ObjectKey(77));
    for file in 5..=20 {
        store.remove(FileNumber(file)).await.unwrap();
    }
    check(&store, STREAM, 30, &left).await;
    check(&store, OTHER, 30, &whole).await;
    let part = store.part_at(FileNumber(15), STREAM).await.unwrap().unwrap();
    assert_eq!(part.files(), FileNumber(13)..=FileNumber(20), "not what is compacted");
    compact(&store, &mut left, 1, 20).await;
    check(&store, STREAM, 30, &left).await;
    check(&store, OTHER, 30, &whole).await;
}
