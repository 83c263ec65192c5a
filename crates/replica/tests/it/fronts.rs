//! The front of streams goes: what stays is read as it was, whatever was sealed, restarted or in parts, and what held nothing
//! else is gone from the disk.

use std::collections::BTreeMap;

use base::Env;
use base::random::{Random, SeededRandom};
use base::time::{Duration, sleep, timeout};
use bytes::Bytes;
use record::{LogIndex, StreamId, StreamOffset, TimestampMs};
use replica::{Config, FetchError};
use shard::Outcome;
use shard::commands::{DeleteRecords, Seal};

use crate::support::{Files, Node, batch, config, options};

const STREAMS: u64 = 3;

/// Offset, next offset and bytes of a batch.
type Stored = (i64, i64, Bytes);

/// What each stream has: the first offset that stays, and its batches from there on.
#[derive(Default)]
struct Model(BTreeMap<u64, (i64, Vec<Stored>)>);

impl Model {
    async fn append(&mut self, node: &Node, random: &SeededRandom, count: usize) {
        for number in 0..count {
            let stream = 1 + random.below(STREAMS);
            let bytes = if random.below(40) == 0 { 2_500_000 } else { 200 };
            let records = 1 + usize::try_from(random.below(4)).expect("small");
            let batch = batch(&format!("b{number}"), records, bytes, 1_000);
            let base = node.append(stream, &batch).await.expect("appended").base_offset.0;
            let (_, batches) = self.0.entry(stream).or_default();
            batches.push((base, base + i64::try_from(records).expect("few"), batch.bytes));
        }
    }

    /// Deletes up to some offset of a stream, in the middle of a batch or not.
    async fn delete(&mut self, node: &Node, random: &SeededRandom) {
        let stream = 1 + random.below(STREAMS);
        let Some((first, batches)) = self.0.get_mut(&stream) else { return };
        let next = batches.last().map_or(*first, |(_, next, _)| *next);
        let ahead = u64::try_from(next - *first).expect("small");
        *first += i64::try_from(random.below(1 + ahead / 2)).expect("small");
        delete(node, stream, *first).await;
        batches.retain(|(_, next, _)| next > first);
    }

    async fn check(&self, node: &Node) {
        for (stream, (first, batches)) in &self.0 {
            let mut read = Vec::new();
            let (mut from, mut end) = (StreamOffset(*first), false);
            while !end {
                let fetched = node.replica.fetch(StreamId(*stream), from, 1 << 20, true).await.expect("fetched");
                assert_eq!(fetched.first_offset.0, *first);
                end = fetched.batches.is_empty();
                for batch in fetched.batches {
                    let mut bytes = Vec::new();
                    for chunk in batch.chunks {
                        bytes.extend_from_slice(&chunk.into_bytes().await.expect("read"));
                    }
                    from = StreamOffset(batch.base_offset.0 + i64::from(batch.record_count));
                    read.push((batch.base_offset.0, from.0, Bytes::from(bytes)));
                }
            }
            assert!(read == *batches, "stream {stream} is as it was from {first} on");
            if *first > 0 {
                let before = StreamOffset(first - 1);
                let gone = node.replica.fetch(StreamId(*stream), before, 1 << 20, true).await;
                assert!(matches!(gone, Err(FetchError::OffsetOutOfRange { .. })), "{gone:?}");
            }
        }
    }
}

async fn delete(node: &Node, stream: u64, before: i64) {
    let front = node.replica.front(StreamId(stream), StreamOffset(before), false).await.expect("found");
    let outcome = node.replica.propose(DeleteRecords { fronts: vec![front] }.into()).await.expect("proposed");
    assert_eq!(outcome, Outcome::DeleteRecords(vec![Ok(StreamOffset(before))]));
}

fn settings(random: &SeededRandom) -> Config {
    let mut settings = config();
    settings.seal_batches = 10 + usize::try_from(random.below(60)).expect("small");
    settings
}

async fn run(seed: u64) {
    let random = SeededRandom::new(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let env = Env::real();
    let settings = settings(&random);
    let mut node = Node::start(&env, dir.path(), options(), settings.clone()).await;
    node.create_streams(STREAMS).await;
    let mut model = Model::default();
    for _ in 0..12 {
        let count = usize::try_from(random.below(60)).expect("small");
        model.append(&node, &random, count).await;
        for _ in 0..random.below(4) {
            model.delete(&node, &random).await;
        }
        model.check(&node).await;
        if random.below(3) == 0 {
            node.replica.checkpoint().await;
        }
        if random.below(4) == 0 {
            let digest = node.replica.digest();
            node.stop().await;
            node = Node::start(&env, dir.path(), options(), settings.clone()).await;
            assert!(node.replica.digest().0 >= digest.0);
            model.check(&node).await;
        }
    }
    // Everything goes, and nothing is left of it.
    for (stream, (_, batches)) in &model.0 {
        if let Some((_, next, _)) = batches.last() {
            delete(&node, *stream, *next).await;
        }
    }
    let sealed = async {
        loop {
            if node.replica.state().live_files().is_empty() {
                return;
            }
            let stream = 1 + random.below(STREAMS);
            for _ in 0..settings.seal_batches {
                let appended = node.append(stream, &batch("fill", 1, 10, 1_000)).await.expect("appended");
                delete(&node, stream, appended.base_offset.0 + 1).await;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), sealed).await.expect("all files are free");
    node.replica.checkpoint().await;
    let freed = async {
        let of_index = || env.disk.read_dir(&dir.path().join("index")).expect("read").len();
        while node.log.stats().segments > 3 || of_index() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), freed).await.expect("the space comes back");
    node.stop().await;
}

#[tokio::test]
async fn what_stays_is_as_it_was_and_what_goes_is_free() {
    for seed in 0..4 {
        run(seed).await;
    }
}

#[tokio::test]
async fn what_is_old_or_too_much_is_found_from_the_front() {
    let dir = tempfile::tempdir().expect("a directory");
    let env = Env::real();
    let mut settings = config();
    settings.seal_batches = 4;
    let node = Node::start(&env, dir.path(), options(), settings).await;
    node.create_streams(1).await;
    let times = [1_000, 3_000, 2_000, -1, 9_000, 1_000];
    let mut bytes = Vec::new();
    for time in times {
        // Two records, the second a millisecond later, or one without a time.
        let batch = batch("b", if time < 0 { 1 } else { 2 }, 100, time);
        bytes.push(batch.bytes.len() as u64);
        node.append(1, &batch).await.expect("appended");
    }
    let expired = |newest| node.replica.expired(StreamId(1), TimestampMs(newest));
    for (newest, before, count, next) in
        [(1_000, 0, 0, Some(1_001)), (1_001, 2, 1, Some(3_001)), (8_000, 6, 3, Some(9_001)), (9_001, 11, 6, None)]
    {
        let found = expired(newest).await.expect("found");
        assert_eq!((found.before.0, found.next.map(|next| next.0)), (before, next), "{newest}");
        assert_eq!(found.bytes, bytes[..count].iter().sum::<u64>());
    }
    let front = |bytes_max| node.replica.front_within(StreamId(1), bytes_max);
    for (bytes_max, before) in
        [(0, 0), (bytes[0], 2), (bytes[0] + bytes[1] - 1, 2), (bytes[0] + bytes[1], 4), (u64::MAX, 11)]
    {
        assert_eq!(front(bytes_max).await.expect("found").before.0, before, "{bytes_max}");
    }
    let counted = node.replica.bytes_from(StreamId(1), StreamOffset(4)).await.expect("found");
    assert_eq!(counted, (bytes[2..].iter().sum(), StreamOffset(11)));
    let behind = node.replica.front(StreamId(1), StreamOffset(12), false).await;
    assert!(matches!(behind, Err(FetchError::OffsetOutOfRange { .. })), "{behind:?}");
    let missing = node.replica.front(StreamId(2), StreamOffset(0), false).await;
    assert!(matches!(missing, Err(FetchError::UnknownStream(_))), "{missing:?}");
    node.stop().await;
}

/// After a crash the state is that of the last durable checkpoint, and is read before it has come as far as it was.
#[tokio::test]
async fn what_a_durable_checkpoint_refers_to_stays_until_the_next_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let env = Env::real();
    let files = Files::open(&env, dir.path(), options()).await.expect("opened");
    let replica = files.start(&env, config()).await.expect("started");
    let index = files.index.clone();
    let node = Node { log: files.log, replica };
    node.create_streams(2).await;
    let large = batch("large", 1, 3 << 20, 1_000);
    for _ in 0..4 {
        node.append(1, &large).await.expect("appended");
    }
    node.replica.propose(Seal { through: LogIndex(u64::MAX) }.into()).await.expect("sealed");
    node.append(2, &batch("small", 1, 100, 1_000)).await.expect("appended");
    node.replica.checkpoint().await;
    let (kept, segments) = (index.files(), node.log.stats().segments);
    assert_eq!(kept.len(), 1);
    delete(&node, 1, 4).await;
    // The task has looked at what died.
    sleep(Duration::from_millis(300)).await;
    assert_eq!((index.files(), node.log.stats().segments), (kept, segments), "a start would need them");
    node.replica.checkpoint().await;
    let gone = async {
        while !index.files().is_empty() || node.log.stats().segments >= segments {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.expect("nothing refers to them any more");
    node.stop().await;
}
