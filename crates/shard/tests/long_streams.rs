//! A checkpoint of a stream with many batches in memory, in items as large as they are outside of the crate's own tests.

use bytes::Bytes;
use record::{
    BatchSummary, Compression, LeaderEpoch, LogIndex, ShardId, StreamId, StreamOffset, Term, TimestampMs, TimestampType,
};
use shard::commands::{Append, CreateStreams, NewStream};
use shard::{Command, EntryBuilder, Restore, Shard};

fn apply(shard: &mut Shard, index: u64, command: &Command) {
    let mut entry = EntryBuilder::new();
    entry.push(command, [Bytes::from(vec![0; command.body_bytes() as usize])]);
    let entry = entry.finish(TimestampMs(0));
    shard.apply(LogIndex(index), Term(1), &entry[0]).expect("no assertion fails");
}

#[test]
fn every_batch_comes_back_once() {
    const STREAM: StreamId = StreamId(7);
    let mut shard = Shard::new(ShardId(1));
    let stream = NewStream { id: STREAM, epoch_start: LeaderEpoch(0), first_offset: StreamOffset(0) };
    apply(&mut shard, 1, &CreateStreams { streams: vec![stream] }.into());
    let mut chunks = Vec::new();
    for index in 2..3000 {
        let batch = BatchSummary {
            bytes: 100,
            record_count: u32::try_from(index % 20).unwrap() + 1,
            compression: Compression::None,
            timestamp_type: TimestampType::CreateTime,
            base_timestamp: TimestampMs(0),
            max_timestamp: TimestampMs(0),
            max_timestamp_correction: None,
            producer: None,
            transactional: false,
            control: false,
        };
        apply(&mut shard, index, &Append::new([STREAM].into_iter().collect(), batch).into());
        // A base, and deltas behind it.
        if index % 700 == 0 {
            shard.begin_capture(false).unwrap();
            chunks.extend(std::iter::from_fn(|| shard.capture_some(3)));
        }
    }
    shard.begin_capture(false).unwrap();
    chunks.extend(std::iter::from_fn(|| shard.capture_some(3)));
    let mut restore = Restore::new(ShardId(1));
    for chunk in &chunks {
        restore.chunk(chunk).unwrap();
    }
    let mut restored = restore.finish().unwrap();
    let batches = |shard: &Shard| shard.stream(STREAM).unwrap().in_memory().collect::<Vec<_>>();
    assert_eq!(batches(&restored), batches(&shard));
    assert_eq!(restored.digest(), shard.digest());
}
