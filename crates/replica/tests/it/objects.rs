//! Batches that lie in objects are read as those that lie in the log.

use base::Env;
use bytes::Bytes;
use record::{
    BatchBuilder, BatchEntry, Compression, FileNumber, ObjectKey, ProducerEpoch, ProducerId, ProducerStamp, Sequence,
    StreamId, StreamOffset, TimestampMs, validate,
};
use replica::FetchError;
use shard::Outcome;
use shard::commands::Seal;
use storage::index_file::IndexStore;
use storage::object::{ObjectId, Objects, StreamStart};

use crate::support::{Batch, Files, Node, SHARD, batch, config, options};

const STREAMS: std::ops::RangeInclusive<u64> = 1..=3;

/// Puts all that the files up to `last` have into an object, which is read in their place from then on; the files go.
async fn put_into_object(index: &IndexStore, objects: &Objects, last: FileNumber, read: &[(u64, Vec<(i64, Bytes)>)]) {
    let id = ObjectId { shard: SHARD, key: ObjectKey(77), first: FileNumber(1), last, stream: None };
    let mut writer = objects.begin(id).await.expect("begun");
    for (stream, bodies) in read {
        let found = index.batches(last, StreamId(*stream), StreamOffset(0), usize::MAX, u64::MAX).await;
        let entries: Vec<BatchEntry> = found.expect("in the files");
        assert_eq!(entries.len(), bodies.len());
        writer.stream(StreamStart::first(StreamId(*stream)));
        for (entry, (offset, body)) in entries.iter().zip(bodies) {
            assert_eq!(entry.base_offset.0, *offset);
            writer.batch(entry, std::slice::from_ref(body)).await.expect("written");
        }
    }
    objects.finish(writer).await.expect("whole");
    index.place(FileNumber(1), last, ObjectKey(77));
    for file in 1..=last.0 {
        index.remove(FileNumber(file)).await.expect("removed");
    }
}

async fn seal(node: &Node) -> FileNumber {
    let outcome = node.replica.propose(Seal { through: record::LogIndex(u64::MAX) }.into()).await;
    let Ok(Outcome::Seal { sealed: Some(file) }) = outcome else { panic!("{outcome:?}") };
    // Its file is durable then.
    node.replica.checkpoint().await;
    file
}

fn stamped(stamp: ProducerStamp) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None).producer(stamp);
    builder.push(TimestampMs(5_000), None, Some(b"stamped"), &[]).expect("fits");
    let bytes = builder.build().expect("a batch");
    Batch { summary: validate(&bytes).expect("valid"), bytes }
}

#[tokio::test]
async fn batches_are_read_from_objects() {
    let (dir, env) = (tempfile::tempdir().expect("a directory"), Env::real());
    let files = Files::open(&env, dir.path(), options()).await.expect("opened");
    let objects = files.index.objects().clone();
    let replica = files.start(&env, config()).await.expect("started");
    let index = files.index.clone();
    let node = Node { log: files.log, replica };
    node.create_streams(*STREAMS.end()).await;
    let stamp = ProducerStamp { id: ProducerId(9), epoch: ProducerEpoch(0), base_sequence: Sequence(0) };
    node.append(1, &stamped(stamp)).await.expect("appended");
    for number in 0..120_usize {
        let size = [300, 5_000, 70_000, 400_000, 3_000_000][if number % 60 == 7 { 4 } else { number % 4 }];
        let time = 1_000 + i64::try_from(number * 7 % 400).expect("small");
        let batch = batch(&format!("b{number}"), 1 + number % 4, size, time);
        node.append(1 + number as u64 % 3, &batch).await.expect("appended");
        if number % 25 == 24 {
            seal(&node).await;
        }
    }
    let last = seal(&node).await;
    let mut expected = Vec::new();
    for stream in STREAMS {
        expected.push((stream, node.read_all(stream, 1 << 20).await));
    }
    let times: Vec<i64> = (900..1_450).step_by(13).collect();
    let looked_up = async || {
        let mut found = Vec::new();
        for stream in STREAMS.map(StreamId) {
            for time in &times {
                found.push(node.replica.offset_for_time(stream, TimestampMs(*time)).await.expect("looked up"));
            }
            found.push(node.replica.max_timestamp(stream).await.expect("looked up"));
        }
        found
    };
    let by_time = looked_up().await;
    put_into_object(&index, &objects, last, &expected).await;
    for bytes_max in [1, 1_000, 200_000, 8 << 20] {
        for (stream, expected) in &expected {
            assert!(
                node.read_all(*stream, bytes_max).await == *expected,
                "stream {stream}, {bytes_max} bytes at a time"
            );
        }
    }
    assert_eq!(looked_up().await, by_time);
    let repeated = node.replica.find_repeated(StreamId(1), stamp, 1).await.expect("looked up");
    assert_eq!(repeated.map(|repeated| repeated.base_offset), Some(StreamOffset(0)));
    // What comes behind is in the log.
    node.append(1, &batch("later", 1, 100, 9_000)).await.expect("appended");
    assert_eq!(node.read_all(1, 1 << 20).await.len(), expected[0].1.len() + 1);
    // Damage is told, and nothing else is given.
    objects.remove(ObjectKey(77)).await.expect("removed");
    let missing = node.replica.fetch(StreamId(2), StreamOffset(0), 1_000, true).await;
    assert!(matches!(missing, Err(FetchError::Damaged { .. })), "{missing:?}");
    node.stop().await;
}
