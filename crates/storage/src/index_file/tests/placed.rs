//! Objects in the place of files: the same batches are found, wherever they are.

use record::{ObjectKey, ShardId};

use super::*;
use crate::object::{ObjectId, StreamStart};

const SHARD: ShardId = ShardId(1);

/// Puts what the files from `first` to `last` have of the stream into an object, and it in their place.
async fn build(store: &IndexStore, objects: &Objects, all: &[BatchEntry], first: u32, last: u32) {
    let key = ObjectKey(u64::from(first) << 8 | u64::from(last));
    let id = ObjectId { shard: SHARD, key, first: FileNumber(first), last: FileNumber(last), stream: None };
    let mut writer = objects.begin(id).await.unwrap();
    let file_of = |batch: &BatchEntry| u32::try_from(batch.log_index.0 / 1_000).unwrap();
    let inside: Vec<_> = all.iter().filter(|batch| (first..=last).contains(&file_of(batch))).collect();
    if let Some(oldest) = inside.first() {
        let entry = store.known(FileNumber(file_of(oldest)), STREAM).await.unwrap().unwrap();
        let before = all.iter().filter(|batch| file_of(batch) < first).map(|batch| batch.max_timestamp).max();
        writer.stream(StreamStart {
            previous: entry.previous,
            jump: entry.jump,
            depth: entry.depth,
            max_timestamp_before: before.unwrap_or(TimestampMs(i64::MIN)),
            ..StreamStart::first(STREAM)
        });
        for batch in inside {
            writer.batch(batch, &[Bytes::from(vec![0; batch.bytes as usize])]).await.unwrap();
        }
    }
    objects.finish(writer).await.unwrap();
    store.place(FileNumber(first), FileNumber(last), key);
    for file in first..=last {
        store.remove(FileNumber(file)).await.unwrap();
    }
}

/// All but the place.
fn facts(batches: &[BatchEntry]) -> Vec<BatchEntry> {
    let nowhere =
        |batch: &BatchEntry| BatchEntry { log_index: LogIndex(0), position: 0, object: None, ..batch.clone() };
    batches.iter().map(nowhere).collect()
}

/// `all` from `first` on is found in every way.
async fn check(store: &IndexStore, newest: FileNumber, all: &[BatchEntry]) {
    let first = all[0].base_offset;
    let found = store.batches(newest, STREAM, first, usize::MAX, u64::MAX).await.unwrap();
    assert_eq!(facts(&found), facts(all));
    let end = all.last().unwrap().next_offset().0;
    for offset in (first.0..end).step_by(7) {
        let expected: Vec<_> = all.iter().filter(|batch| batch.next_offset().0 > offset).take(3).cloned().collect();
        let found = store.batches(newest, STREAM, StreamOffset(offset), 3, u64::MAX).await.unwrap();
        assert_eq!(facts(&found), facts(&expected), "offset {offset}");
        let file = store.file_of(newest, STREAM, StreamOffset(offset)).await.unwrap();
        assert!(store.is_here(file, STREAM), "{file}");
    }
    for (time, from) in (900..6_000).step_by(37).flat_map(|time| [(time, first.0), (time, (first.0 + end) / 2)]) {
        let expected = all.iter().find(|batch| batch.next_offset().0 > from && batch.max_timestamp.0 >= time);
        let found = store.find_by_time(newest, STREAM, StreamOffset(from), TimestampMs(time)).await.unwrap();
        assert_eq!(facts(found.as_slice()), facts(expected.cloned().as_slice()), "time {time} from {from}");
    }
    let largest = all.iter().rev().max_by_key(|batch| batch.max_timestamp).cloned();
    let found = store.find_max_time(newest, STREAM, first, None).await.unwrap();
    assert_eq!(facts(found.as_slice()), facts(largest.as_slice()));
}

#[tokio::test]
async fn what_objects_have_is_found_as_it_was_in_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("index")).await;
    let objects = store.objects().clone();
    let all = history(&store, 60, 4).await;
    let newest = newest(&store).await;
    check(&store, newest, &all).await;
    // In files, in one object, in several, in an object that has the place of some, and in nothing else.
    for (first, last) in [(5, 20), (21, 22), (40, 50), (23, 39), (5, 39), (1, 4), (1, 50), (51, 60), (1, 60)] {
        build(&store, &objects, &all, first, last).await;
        check(&store, newest, &all).await;
    }
    assert!(store.files().is_empty());
    let object = store.object_at(FileNumber(60), STREAM).unwrap();
    assert_eq!(object.first, FileNumber(1));
    store.take_out(FileNumber(1));
    let error = store.batches(newest, STREAM, StreamOffset(0), 1, u64::MAX).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn an_object_that_has_lost_a_stream_ends_the_way_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("index")).await;
    let objects = store.objects().clone();
    let all = history(&store, 60, 5).await;
    let newest = newest(&store).await;
    // The stream's front is gone so far that the first object has nothing of it.
    let left: Vec<_> = all.iter().filter(|batch| batch.log_index.0 >= 31_000).cloned().collect();
    let other = BatchEntry { log_index: LogIndex(30_000), ..batch(0, 1, 1, 30_000) };
    let id = ObjectId { shard: SHARD, key: ObjectKey(1), first: FileNumber(1), last: FileNumber(30), stream: None };
    let mut writer = objects.begin(id).await.unwrap();
    writer.stream(StreamStart::first(StreamId(3)));
    writer.batch(&other, &[Bytes::from(vec![0; other.bytes as usize])]).await.unwrap();
    objects.finish(writer).await.unwrap();
    store.place(FileNumber(1), FileNumber(30), ObjectKey(1));
    check(&store, newest, &left).await;
    // What is sealed behind hangs on what is left.
    let end = left.last().unwrap().next_offset();
    let next = batch(end.0, 1, 1, 61_000);
    let (previous, oldest) = (Some(newest), Some(FileNumber(5)));
    let sealed = SealedStream { stream: STREAM, previous, oldest, batches: vec![next.clone()] };
    store.write(FileNumber(61), LogIndex(61_000)..=LogIndex(61_000), vec![sealed]).await.unwrap();
    check(&store, FileNumber(61), &[left, vec![next]].concat()).await;
}
