//! Key compaction: the newest record of each key stays at its offset, on every member, whatever else shares the log.

mod fronts;

use std::collections::BTreeMap;
use std::sync::Arc;

use base::random::{Random, SeededRandom};
use base::time::{Duration, sleep, timeout};
use bytes::Bytes;
use record::{BatchBuilder, Compression, Limits, ObjectKey, StreamId, StreamOffset, TimestampMs, records, validate};
use replica::{CompactionPolicy, Config, Fetched, Replica};
use storage::object::Objects;

use crate::catch_up::{Cluster, Direct, WAIT_MAX, delete, id, pull, real, seal, some_batch};
use crate::support::{Batch, Files, Node, append};

/// What a record is: its offset, its time, its key, and its value, if it has one.
type Fact = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

const KEYED: u64 = 1;
const PLAIN: u64 = 2;

fn policy() -> CompactionPolicy {
    CompactionPolicy {
        dirty_ratio_min: 0.0,
        lag_ms_min: 0,
        lag_ms_max: i64::MAX,
        delete_retention_ms: i64::MAX / 4,
        unsealed_bytes_max: u64::MAX,
        unsealed_age_ms_max: i64::MAX,
        keeps_deletes: false,
    }
}

fn settings(node: u64) -> Config {
    let mut settings = crate::catch_up::settings(node);
    settings.log_hot_bytes = 1 << 20;
    settings.object_bytes_min = 1;
    settings.object_bytes_max = 300 << 10;
    settings.checkpoint_age_max = Duration::from_millis(200);
    settings
}

async fn start_on(cluster: &Cluster, node: u64, files: Files) -> (Node, Objects) {
    let objects = files.index.objects().clone();
    let node = cluster.start_with(node, files, settings(node)).await.expect("started");
    node.replica.allow_objects();
    (node, objects)
}

pub(crate) async fn start(cluster: &Cluster, node: u64) -> (Node, Objects) {
    let files = cluster.files(node).await.expect("files");
    start_on(cluster, node, files).await
}

/// Some records of a few keys; some delete theirs.
fn keyed(random: &SeededRandom, keys: u64) -> Batch {
    let compression = Compression::ALL[usize::try_from(random.below(5)).expect("small")];
    let mut builder = BatchBuilder::new(compression);
    for _ in 0..=random.below(6) {
        let key = format!("key {}", random.below(keys));
        let value = vec![b'v'; usize::try_from(random.below(3_000)).expect("small")];
        let value = (random.below(5) > 0).then_some(&value[..]);
        let time = TimestampMs(1_000 + i64::try_from(random.below(1_000)).expect("small"));
        builder.push(time, Some(key.as_bytes()), value, &[]).expect("fits");
    }
    let bytes = builder.build().expect("a batch");
    Batch { summary: validate(&bytes).expect("valid"), bytes }
}

/// Appends to both streams; what was appended to the first is added to `all`.
async fn fill(replica: &Replica, random: &SeededRandom, all: &mut Vec<Fact>, count: usize, keys: u64) {
    for number in 0..count {
        let batch = keyed(random, keys);
        let base = append(replica, KEYED, &batch).await.expect("appended").base_offset.0;
        all.extend(facts(base, &batch.bytes));
        if number % 3 == 0 {
            append(replica, PLAIN, &some_batch(number)).await.expect("appended");
        }
        if number % 100 == 50 {
            seal(replica).await;
        }
    }
    seal(replica).await;
}

fn facts(base: i64, batch: &Bytes) -> Vec<Fact> {
    let read = records(batch, Limits::default()).expect("a batch").map(|record| record.expect("readable"));
    let vec = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.to_vec());
    read.map(|record| (base + record.offset.0, record.timestamp.0, vec(record.key), vec(record.value))).collect()
}

/// All records, as a client reads them that goes on behind each batch.
async fn read(replica: &Replica, stream: u64) -> Vec<Fact> {
    read_from(replica, stream, 0).await
}

async fn read_from(replica: &Replica, stream: u64, from: i64) -> Vec<Fact> {
    let (mut from, mut all) = (StreamOffset(from), Vec::new());
    loop {
        let fetched = replica.fetch(StreamId(stream), from, 100_000, true).await.expect("fetched");
        let Fetched { batches, next_offset, .. } = fetched;
        if from == next_offset {
            return all;
        }
        assert!(!batches.is_empty(), "something is given before the end, at {from} of {next_offset}");
        for batch in batches {
            let next = StreamOffset(batch.base_offset.0 + i64::from(batch.record_count));
            assert!(next > from, "it goes on");
            from = next;
            let mut bytes = Vec::new();
            for chunk in batch.chunks {
                bytes.extend_from_slice(&chunk.into_bytes().await.expect("read"));
            }
            all.extend(facts(batch.base_offset.0, &Bytes::from(bytes)));
        }
    }
}

/// The newest of each key.
fn newest(all: &[Fact]) -> Vec<Fact> {
    let mut newest = BTreeMap::new();
    for (offset, _, key, _) in all {
        newest.insert(key.clone(), *offset);
    }
    all.iter().filter(|(offset, _, key, _)| newest[key] == *offset).cloned().collect()
}

fn same(found: &[Fact], expected: &[Fact], what: &str) {
    let first = found.iter().zip(expected).find(|(found, expected)| found != expected);
    let first = first.map(|(found, expected)| (found.0, &found.2, expected.0, &expected.2));
    assert!(found == expected, "{what}: {} of {}, the first other one: {first:?}", found.len(), expected.len());
}

fn cleaned_to(replica: &Replica) -> i64 {
    let state = replica.state();
    let view = state.stream(StreamId(KEYED)).expect("it is there");
    view.compacted().next_back().map_or(0, |compacted| compacted.cleaned_to.0)
}

/// Returns when everything that is sealed is compacted, and nothing of what that replaced is left here.
async fn compacted(replica: &Replica, policy: CompactionPolicy) {
    let done = async {
        loop {
            replica.compact([(StreamId(KEYED), policy)].into());
            let end = replica.state().stream(StreamId(KEYED)).expect("it is there").next_offset().0;
            let counts = replica.objects();
            if cleaned_to(replica) == end && counts.missing == 0 && counts.leaving == 0 {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let done = timeout(WAIT_MAX, done).await;
    assert!(done.is_ok(), "up to {} {:?}", cleaned_to(replica), replica.objects());
}

/// Fills stream 1, which is compacted, and stream 2, which is not.
pub(crate) async fn compact_some(replica: &Replica) {
    let mut all = Vec::new();
    fill(replica, &SeededRandom::new(1), &mut all, 300, 40).await;
    compacted(replica, policy()).await;
}

async fn settled(replica: &Replica) {
    let done = async {
        loop {
            let (counts, named) = (replica.objects(), replica.state().all_objects().len());
            if counts.missing == 0 && counts.leaving == 0 && counts.here == named {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_MAX, done).await.unwrap_or_else(|_| panic!("{:?}", replica.objects()));
}

fn keys(replica: &Replica) -> Vec<ObjectKey> {
    replica.state().all_objects().iter().map(|object| object.key).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_of_each_key_stays() {
    let (_dir, cluster) = real();
    let random = SeededRandom::new(1);
    let (node, objects) = start(&cluster, 1).await;
    node.create_streams(2).await;
    let mut all = Vec::new();
    for round in 0..3 {
        fill(&node.replica, &random, &mut all, 300, 40).await;
        let plain = read(&node.replica, PLAIN).await;
        // Meanwhile it may be compacted in part.
        let found = read(&node.replica, KEYED).await;
        let is_left = |fact: &&Fact| found.contains(fact);
        same(&all.iter().filter(is_left).cloned().collect::<Vec<_>>(), &found, "nothing is there that was not");
        let left = newest(&all);
        same(&left.iter().filter(is_left).cloned().collect::<Vec<_>>(), &left, "the newest are there");
        compacted(&node.replica, policy()).await;
        same(&read(&node.replica, KEYED).await, &newest(&all), &format!("round {round}"));
        assert_eq!(read(&node.replica, PLAIN).await, plain);
        for key in keys(&node.replica) {
            objects.verify(key).await.expect("it is whole");
        }
        let times = node.replica.offset_for_time(StreamId(KEYED), TimestampMs(1_500)).await.expect("found");
        let first = read(&node.replica, KEYED).await.into_iter().find(|(_, time, ..)| *time >= 1_500);
        assert_eq!(times.map(|timed| timed.offset.0), first.map(|(offset, ..)| offset));
    }
    let plain = read(&node.replica, PLAIN).await;
    cluster.stop(1, node).await;
    let (node, _) = start(&cluster, 1).await;
    same(&read(&node.replica, KEYED).await, &newest(&all), "the newest");
    assert_eq!(read(&node.replica, PLAIN).await, plain);
    // It goes with the stream.
    delete(&node.replica, &[KEYED]).await;
    settled(&node.replica).await;
    assert!(node.replica.state().compacted_objects().is_empty());
    assert_eq!(read(&node.replica, PLAIN).await, plain);
    cluster.stop(1, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_do_not_fit_take_several_passes() {
    let (_dir, cluster) = real();
    let random = SeededRandom::new(2);
    let (node, _) = start(&cluster, 1).await;
    node.create_streams(2).await;
    let mut all = Vec::new();
    // 32,768 fit.
    for _ in 0..90 {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        for _ in 0..1_000 {
            let key = random.below(60_000).to_be_bytes();
            builder.push(TimestampMs(1_000), Some(&key), Some(b"value"), &[]).expect("fits");
        }
        let bytes = builder.build().expect("a batch");
        let batch = Batch { summary: validate(&bytes).expect("valid"), bytes };
        let base = append(&node.replica, KEYED, &batch).await.expect("appended").base_offset.0;
        all.extend(facts(base, &batch.bytes));
    }
    seal(&node.replica).await;
    compacted(&node.replica, policy()).await;
    same(&read(&node.replica, KEYED).await, &newest(&all), "the newest");
    cluster.stop(1, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_go_when_their_time_has_come() {
    let (_dir, cluster) = real();
    let random = SeededRandom::new(3);
    let (node, _) = start(&cluster, 1).await;
    node.create_streams(2).await;
    let mut all = Vec::new();
    let at_once = CompactionPolicy { delete_retention_ms: 0, ..policy() };
    fill(&node.replica, &random, &mut all, 200, 30).await;
    let kept = CompactionPolicy { keeps_deletes: true, ..at_once };
    compacted(&node.replica, kept).await;
    same(&read(&node.replica, KEYED).await, &newest(&all), "a reader sees what was deleted");
    fill(&node.replica, &random, &mut all, 20, 30).await;
    compacted(&node.replica, kept).await;
    same(&read(&node.replica, KEYED).await, &newest(&all), "nothing may go here");
    fill(&node.replica, &random, &mut all, 1, 30).await;
    let met = cleaned_to(&node.replica);
    compacted(&node.replica, at_once).await;
    let is_left = |(offset, _, _, value): &Fact| value.is_some() || *offset >= met;
    let left: Vec<Fact> = newest(&all).into_iter().filter(is_left).collect();
    same(&read(&node.replica, KEYED).await, &left, "those that were met before go");
    cluster.stop(1, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn young_records_are_left_alone() {
    let (_dir, cluster) = real();
    let random = SeededRandom::new(4);
    let (node, _) = start(&cluster, 1).await;
    node.create_streams(2).await;
    let mut all = Vec::new();
    fill(&node.replica, &random, &mut all, 50, 10).await;
    // Times are of 1970, and the shard's is of now: nothing is young for an hour, everything for a century.
    let century = CompactionPolicy { lag_ms_min: 100 * 365 * 24 * 3_600_000, ..policy() };
    node.replica.compact([(StreamId(KEYED), century)].into());
    let not_dirty = CompactionPolicy { dirty_ratio_min: 1.0, ..policy() };
    sleep(Duration::from_millis(300)).await;
    node.replica.compact([(StreamId(KEYED), not_dirty)].into());
    sleep(Duration::from_millis(300)).await;
    same(&read(&node.replica, KEYED).await, &all, "all");
    let old = CompactionPolicy { lag_ms_max: 3_600_000, lag_ms_min: 3_600_000, unsealed_age_ms_max: 50, ..not_dirty };
    compacted(&node.replica, old).await;
    same(&read(&node.replica, KEYED).await, &newest(&all), "the newest");
    // What nobody seals is sealed for that.
    let batch = keyed(&random, 10);
    let base = append(&node.replica, KEYED, &batch).await.expect("appended").base_offset.0;
    all.extend(facts(base, &batch.bytes));
    compacted(&node.replica, old).await;
    same(&read(&node.replica, KEYED).await, &newest(&all), "the newest");
    cluster.stop(1, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_have_the_same() {
    let (_dir, cluster) = real();
    let random = SeededRandom::new(5);
    let (first, of_first) = start(&cluster, 1).await;
    first.create_streams(2).await;
    let mut others = Vec::new();
    for number in 2..=3 {
        others.push(start(&cluster, number).await);
        first.replica.add_learner(id(number)).await.expect("a learner");
    }
    first.replica.change_voters(&(1..=3).map(id).collect()).await.expect("voters");
    let mut all = Vec::new();
    for _ in 0..3 {
        fill(&first.replica, &random, &mut all, 200, 50).await;
        compacted(&first.replica, policy()).await;
    }
    settled(&first.replica).await;
    let same = async |node: &Node, objects: &Objects| {
        crate::catch_up::reach(&node.replica, first.replica.applied()).await;
        settled(&node.replica).await;
        assert_eq!(keys(&node.replica), keys(&first.replica));
        for key in keys(&first.replica) {
            let summary = of_first.verify(key).await.expect("it is whole");
            assert_eq!(objects.verify(key).await.expect("it is whole"), summary);
        }
        same(&read(&node.replica, KEYED).await, &newest(&all), "the newest");
        assert_eq!(read(&node.replica, PLAIN).await, read(&first.replica, PLAIN).await);
        assert_eq!(objects.keys().len(), keys(&first.replica).len(), "nothing else is left");
    };
    for (node, objects) in &others {
        same(node, objects).await;
    }
    // One that lost an object brings it.
    let lost = first.replica.state().compacted_objects()[0].object.key;
    let (second, of_second) = others.remove(0);
    cluster.stop(2, second).await;
    of_second.remove(lost).await.expect("removed");
    let (second, of_second) = start(&cluster, 2).await;
    same(&second, &of_second).await;
    // A new one is brought all.
    first.replica.checkpoint().await;
    let files = cluster.files(4).await.expect("files");
    pull(&files, 4, &Direct::new(&first.replica)).await.expect("installed");
    let (fourth, of_fourth) = start_on(&cluster, 4, files).await;
    first.replica.add_learner(id(4)).await.expect("a learner");
    same(&fourth, &of_fourth).await;
    cluster.stop(4, fourth).await;
    cluster.stop(2, second).await;
    for (number, (node, _)) in (3..).zip(others) {
        cluster.stop(number, node).await;
    }
    cluster.stop(1, first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_read_stay() {
    let (_dir, cluster) = real();
    let random = Arc::new(SeededRandom::new(6));
    let (node, _) = start(&cluster, 1).await;
    node.create_streams(2).await;
    let mut all = Vec::new();
    fill(&node.replica, &random, &mut all, 60, 10).await;
    // Of what is compressed the broker knows only that it came as it was sent.
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.push(TimestampMs(1_000), Some(b"key 1"), Some(&[7; 500]), &[]).expect("fits");
    let whole = builder.build().expect("a batch");
    let header = record::BatchHeader::parse(&whole).expect("a batch");
    let mut bytes = whole.to_vec();
    bytes[record::BATCH_OVERHEAD + 6] ^= 0x40;
    let crc = record::crc32c(&bytes[record::CRC_START..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let odd = Batch { summary: validate(&Bytes::from(bytes.clone())).expect("valid"), bytes: bytes.into() };
    assert_eq!(header.record_count, 1);
    append(&node.replica, KEYED, &odd).await.expect("appended");
    seal(&node.replica).await;
    compacted(&node.replica, policy()).await;
    let fetched = node.replica.fetch(StreamId(KEYED), StreamOffset(all.len() as i64), 1, true).await.expect("fetched");
    assert_eq!(fetched.batches[0].bytes as usize, odd.bytes.len(), "as it was sent");
    cluster.stop(1, node).await;
}
