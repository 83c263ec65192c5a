//! A cluster of one on real files: what a start makes, and changes of topics that are interrupted
//! at every step.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base::Env;
use base::time::{Duration, timeout};
use bytes::Bytes;
use cluster::{
    AddPartitionsError, Cluster, Config, CreateTopicError, DeleteTopicError, METADATA, NewTopic, StartError,
};
use record::{NodeId, ShardId, TimestampMs, TopicId};
use replica::{Pending, ProposeError};
use shard::commands::{self, AddPartitions, CreateStreams, CreateTopics, DeleteTopics, NewStream};
use shard::{EntryBuilder, Outcome, TopicState};
use storage::data_dir::{DataDir, covered};
use storage::{CommitLog, Entry, EntryKind, LogId, Options, Payload};

fn config(dir: &Path) -> Config {
    Config { shards: 3, segment_bytes: 4 << 20, reserve_bytes: 0, ..Config::new(dir.join("data")) }
}

async fn start(dir: &Path) -> Cluster {
    Cluster::start(Env::real(), config(dir)).await.expect("started")
}

fn topic(name: &str, partitions: u32) -> NewTopic {
    NewTopic { name: name.to_owned(), partitions, configs: BTreeMap::from([("a".to_owned(), "b".to_owned())]) }
}

async fn create(cluster: &Cluster, name: &str, partitions: u32) -> TopicId {
    cluster.create_topics(vec![topic(name, partitions)]).await.remove(0).expect("created")
}

/// All streams of live topics exist on their shards, and no others do.
fn check_streams(cluster: &Cluster) {
    let mut expected = 0;
    let topics: Vec<_> = cluster.metadata().topics().cloned().collect();
    for topic in topics {
        assert_eq!(topic.state, TopicState::Live, "{}", topic.name);
        assert!(!topic.unfinished(), "{}", topic.name);
        for placement in topic.live() {
            let shard = placement.shard().expect("placed");
            let replica = cluster.replica(shard).expect("here");
            assert!(replica.state().stream(placement.stream).is_some(), "{} {:?}", topic.name, placement.stream);
            expected += 1;
        }
    }
    let existing: usize = cluster.replicas().iter().map(|replica| replica.state().streams()).sum();
    assert_eq!(existing, expected);
    assert!(cluster.metadata().intentions(10).is_empty());
}

#[tokio::test]
async fn a_node_that_starts_alone_is_a_cluster_of_one_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path()).await;
    let id = cluster.cluster_id();
    assert_ne!(id, 0);
    assert_eq!(cluster.replicas().len(), 3);
    let homes: Vec<ShardId> = (0..100).map(|number| cluster.slot_shard(&format!("group {number}"))).collect();
    assert!((1..=3).all(|shard| homes.contains(&ShardId(shard))), "{homes:?}");
    let first = cluster.allocate_producer_ids(1_000).await.unwrap();
    cluster.shutdown().await;
    drop(cluster);

    let other_shards = Config { shards: 7, ..config(dir.path()) };
    let cluster = Cluster::start(Env::real(), other_shards).await.unwrap();
    assert_eq!(cluster.cluster_id(), id);
    assert_eq!(cluster.replicas().len(), 3, "shards are made at the first start");
    let again: Vec<ShardId> = (0..100).map(|number| cluster.slot_shard(&format!("group {number}"))).collect();
    assert_eq!(again, homes);
    let second = cluster.allocate_producer_ids(1_000).await.unwrap();
    assert!(second.first.0 >= first.first.0 + i64::from(first.count), "ids are never given twice");
    assert_eq!(cluster.metadata().node(cluster.node_id()).unwrap().start_number, 2);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path()).await;
    let second = Cluster::start(Env::real(), config(dir.path())).await;
    assert!(matches!(second, Err(StartError::DataDir(_))), "{second:?}");
    cluster.shutdown().await;
}

#[tokio::test]
async fn topics_are_made_spread_widened_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path()).await;
    let results = cluster.create_topics(vec![topic("a", 6), topic("b", 1), topic("a", 2), topic("none", 0)]).await;
    let a = *results[0].as_ref().unwrap();
    assert!(results[1].is_ok());
    assert_eq!(results[2], Err(CreateTopicError::Refused(shard::CreateTopicError::Exists)));
    assert_eq!(results[3], Err(CreateTopicError::Refused(shard::CreateTopicError::NoPartitions)));
    check_streams(&cluster);
    let mut used: Vec<ShardId> =
        cluster.metadata().topic(a).unwrap().partitions.iter().map(|placement| placement.shard().unwrap()).collect();
    used.sort_unstable();
    assert_eq!(used, [1, 1, 2, 2, 3, 3].map(ShardId));

    cluster.add_partitions(a, 10).await.unwrap();
    assert_eq!(cluster.metadata().topic(a).unwrap().live().len(), 10);
    assert_eq!(cluster.add_partitions(a, 10).await, Err(AddPartitionsError::NotMore { current: 10 }));
    check_streams(&cluster);

    let deleted = cluster.delete_topics(vec![a, TopicId(77)]).await;
    assert_eq!(deleted, [Ok(()), Err(DeleteTopicError::UnknownTopic)]);
    assert!(cluster.metadata().topic(a).is_none());
    check_streams(&cluster);
    let again = create(&cluster, "a", 3).await;
    assert_ne!(again, a, "a topic of the same name is another topic");
    cluster.shutdown().await;
    drop(cluster);
    let cluster = start(dir.path()).await;
    assert_eq!(cluster.metadata().topic_count(), 2);
    check_streams(&cluster);
    cluster.shutdown().await;
}

/// An entry with a command that no version has.
fn unknown_command() -> Bytes {
    let mut builder = EntryBuilder::new();
    let tick = shard::Command::from(commands::Tick {});
    builder.push(&tick, None);
    let mut head = builder.finish(TimestampMs(0)).remove(0).to_vec();
    let place = head.windows(2).rposition(|bytes| bytes == [tick.number(), 1]).expect("number and version");
    head[place] = u8::MAX;
    Bytes::from(head)
}

/// Puts an entry behind a shard's log that breaks its state machine.
async fn break_shard(dir: &Path, shard: ShardId) {
    let env = Env::real();
    let data_dir = DataDir::open(&env, &dir.join("data")).await.expect("the log");
    let options = Options {
        segment_bytes: 4 << 20,
        reserve_bytes: 0,
        salt: data_dir.identity().salt(),
        covered: covered(&*env.disk, &dir.join("data")).await.expect("the log"),
        ..Options::default()
    };
    let (log, _) = CommitLog::open(Arc::clone(&env.disk), &data_dir.log_dir(), options).await.expect("the log");
    let last = log.shard(shard).log_state().last.expect("the log");
    let id = LogId { term: last.term, index: last.index.next() };
    let entry = Entry { id, kind: EntryKind::Commands, payload: Payload::from(unknown_command()) };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let done = Box::new(move |result: std::io::Result<()>| sender.send(result.is_ok()).expect("waited for"));
    log.shard(shard).append(vec![entry], done).expect("the log");
    assert!(receiver.await.expect("the log"));
    log.close().await;
}

#[tokio::test]
async fn a_shard_that_is_out_of_service_at_the_start_leaves_the_others_serving() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path()).await;
    create(&cluster, "before", 3).await;
    cluster.shutdown().await;
    drop(cluster);
    let broken = ShardId(2);
    break_shard(dir.path(), broken).await;
    for _ in 0..2 {
        let cluster = start(dir.path()).await;
        let serving: Vec<ShardId> =
            cluster.replicas().iter().filter(|replica| replica.is_leader()).map(replica::Replica::shard_id).collect();
        assert_eq!(serving, [ShardId(1), ShardId(3)]);
        assert!(cluster.replica(broken).unwrap().failure().borrow().is_some());
        let name = format!("after {}", cluster.metadata().topic_count());
        let id = create(&cluster, &name, 4).await;
        let topic = cluster.metadata().topic(id).unwrap().clone();
        assert!(topic.live().iter().all(|placement| placement.shard() != Some(broken)));
        cluster.shutdown().await;
    }
}

#[tokio::test]
async fn metadata_of_a_later_version_are_called_that() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).await.shutdown().await;
    break_shard(dir.path(), METADATA).await;
    let refused = Cluster::start(Env::real(), config(dir.path())).await.expect_err("it knows no such command");
    assert!(refused.to_string().contains("later version of the program"), "{refused}");
}

#[tokio::test]
async fn many_topics_at_once_and_in_parallel() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path()).await;
    let many = (0..5_000).map(|number| topic(&format!("many-{number}"), 1)).collect();
    assert!(cluster.create_topics(many).await.iter().all(Result::is_ok));
    let single = futures_util::future::join_all((0..200).map(|number| {
        let cluster = cluster.clone();
        async move { create(&cluster, &format!("single-{number}"), 2).await }
    }));
    single.await;
    check_streams(&cluster);
    let spread: Vec<usize> = cluster.replicas().iter().map(|replica| replica.state().streams()).collect();
    assert!(spread.iter().max().unwrap() - spread.iter().min().unwrap() < 300, "{spread:?}");
    cluster.shutdown().await;
    drop(cluster);
    let cluster = start(dir.path()).await;
    assert_eq!(cluster.metadata().topic_count(), 5_200);
    check_streams(&cluster);
    cluster.shutdown().await;
}

/// Proposes the intention to make a topic of one partition on each shard; gives its streams.
async fn begin_creation(cluster: &Cluster, id: TopicId) -> Vec<(ShardId, NewStream)> {
    let partitions = (1..=3).map(ShardId).collect();
    let new = commands::NewTopic { id, name: format!("topic {id}"), partitions, configs: BTreeMap::new() };
    let outcome = cluster.propose(METADATA, CreateTopics { topics: vec![new] }.into()).await.expect("led");
    assert_eq!(outcome, Outcome::CreateTopics(vec![Ok(id)]));
    streams_of(cluster, id, 0)
}

fn streams_of(cluster: &Cluster, id: TopicId, from: usize) -> Vec<(ShardId, NewStream)> {
    let metadata = cluster.metadata();
    let partitions = &metadata.topic(id).expect("begun").partitions[from..];
    let new = |placement: &shard::Placement| NewStream {
        id: placement.stream,
        epoch_start: placement.epoch_start,
        first_offset: placement.history[0].from_offset,
    };
    partitions.iter().map(|placement| (placement.shard().expect("placed"), new(placement))).collect()
}

async fn make_streams(cluster: &Cluster, streams: &[(ShardId, NewStream)]) {
    for (shard, stream) in streams {
        cluster.propose(*shard, CreateStreams { streams: vec![*stream] }.into()).await.expect("led");
    }
}

#[tokio::test]
async fn what_was_interrupted_at_any_step_is_ended_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    for steps in 0..=3 {
        let cluster = start(dir.path()).await;
        let (made, widened, removed) =
            (TopicId(100 + steps as u128), TopicId(200 + steps as u128), TopicId(300 + steps as u128));
        // Made up to some step.
        let streams = begin_creation(&cluster, made).await;
        make_streams(&cluster, &streams[..steps]).await;
        // Widened up to some step.
        let streams = begin_creation(&cluster, widened).await;
        make_streams(&cluster, &streams).await;
        let complete = commands::CompleteTopics { topics: vec![widened] };
        cluster.propose(METADATA, complete.into()).await.unwrap();
        let added = (1..=3).map(ShardId).collect();
        let add = AddPartitions { topic: widened, current: 3, added };
        assert_eq!(cluster.propose(METADATA, add.into()).await, Ok(Outcome::AddPartitions(Ok(()))));
        make_streams(&cluster, &streams_of(&cluster, widened, 3)[..steps]).await;
        assert_eq!(cluster.metadata().topic(widened).unwrap().live().len(), 3);
        // Removed up to some step.
        let streams = begin_creation(&cluster, removed).await;
        make_streams(&cluster, &streams).await;
        let complete = commands::CompleteTopics { topics: vec![removed] };
        cluster.propose(METADATA, complete.into()).await.unwrap();
        cluster.propose(METADATA, DeleteTopics { topics: vec![removed] }.into()).await.unwrap();
        for (shard, stream) in &streams[..steps] {
            let delete = commands::DeleteStreams { streams: vec![stream.id] };
            cluster.propose(*shard, delete.into()).await.unwrap();
        }
        // Some may be gone on with before the stop, on a machine that took its time.
        assert!(cluster.metadata().intentions(10).len() <= 3);
        cluster.shutdown().await;
        drop(cluster);

        let cluster = start(dir.path()).await;
        all_resumed(&cluster).await;
        check_streams(&cluster);
        assert!(cluster.metadata().topic(removed).is_none());
        assert_eq!(cluster.metadata().topic(made).unwrap().live().len(), 3);
        assert_eq!(cluster.metadata().topic(widened).unwrap().live().len(), 6);
        cluster.shutdown().await;
    }
}

/// Returns once nothing is left to be resumed.
async fn all_resumed(cluster: &Cluster) {
    let mut changed = cluster.metadata_changed();
    let resumed = async {
        while !cluster.metadata().intentions(1).is_empty() {
            changed.changed().await.expect("the cluster runs");
        }
    };
    timeout(Duration::from_secs(60), resumed).await.expect("what was begun ends by itself");
}

#[tokio::test]
async fn what_was_interrupted_is_ended_without_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path()).await;
    begin_creation(&cluster, TopicId(100)).await;
    all_resumed(&cluster).await;
    check_streams(&cluster);
    cluster.propose(METADATA, DeleteTopics { topics: vec![TopicId(100)] }.into()).await.unwrap();
    // Callers that go away after some steps.
    for polls in 1..6 {
        let name = format!("left-{polls}");
        let mut left = Box::pin(cluster.create_topics(vec![topic(&name, 5)]));
        for _ in 0..polls {
            if futures_util::poll!(left.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    // Behind everything that was proposed.
    cluster.allocate_producer_ids(1).await.unwrap();
    all_resumed(&cluster).await;
    check_streams(&cluster);
    assert!(cluster.metadata().topic(TopicId(100)).is_none());
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_start_does_not_wait_for_a_shard_that_nobody_leads_nor_what_needs_others_only() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path()).await;
    let unled = shard::ShardRecord { id: ShardId(9), voters: vec![NodeId(77)] };
    cluster.propose(METADATA, commands::PutShards { shards: vec![unled] }.into()).await.unwrap();
    let stuck: Vec<TopicId> = (100..120).map(TopicId).collect();
    for id in &stuck {
        begin_creation(&cluster, *id).await;
    }
    cluster.propose(METADATA, DeleteTopics { topics: stuck.clone() }.into()).await.unwrap();
    // Behind all of these.
    let made = TopicId(500);
    begin_creation(&cluster, made).await;
    cluster.shutdown().await;
    drop(cluster);
    let restart = async {
        let cluster = start(dir.path()).await;
        let mut changed = cluster.metadata_changed();
        while cluster.metadata().topic(made).unwrap().state != TopicState::Live {
            changed.changed().await.expect("the cluster runs");
        }
        cluster
    };
    let cluster = timeout(Duration::from_secs(9), restart).await.expect("none waits for a shard without a leader");
    assert!(cluster.metadata().topic_by_name("topic 100").is_none(), "it is gone for whoever asks");
    assert_eq!(cluster.metadata().intentions(100).len(), stuck.len());
    cluster.shutdown().await;
}

#[tokio::test]
async fn steps_do_not_lose_to_writers_that_keep_the_queues_full() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { queue_bytes_max: 1, ..config(dir.path()) };
    let cluster = Cluster::start(Env::real(), config).await.unwrap();
    // Larger than the bound of a queue together, so that for some time nothing else finds room.
    let flood = |cluster: &Cluster| -> Vec<Pending> {
        let replica = cluster.replica(ShardId(1)).unwrap();
        let uploads: Vec<_> = (0..100_000).map(commands::UploadId).collect();
        let command = || commands::AbandonParts { uploads: uploads.clone() };
        (0..8).map(|_| replica.propose(command().into())).collect()
    };
    for round in 0..3 {
        let flooded = flood(&cluster);
        let id = create(&cluster, &format!("topic-{round}"), 3).await;
        let flooded_again = flood(&cluster);
        assert_eq!(cluster.delete_topics(vec![id]).await, [Ok(())]);
        assert!(cluster.metadata().topic(id).is_none(), "every step was taken");
        for pending in flooded.into_iter().chain(flooded_again) {
            assert!(matches!(pending.await, Ok(_) | Err(ProposeError::Busy)));
        }
    }
    check_streams(&cluster);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_topic_that_can_never_be_whole_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path()).await;
    let settings = shard::Settings { streams_max: 2, ..*cluster.replica(ShardId(2)).unwrap().state().settings() };
    cluster.propose(ShardId(2), commands::Configure { settings }.into()).await.unwrap();
    let results = cluster.create_topics(vec![topic("large", 12)]).await;
    assert!(matches!(results[0], Err(CreateTopicError::Stream(_))), "{results:?}");
    assert!(cluster.metadata().topic_by_name("large").is_none());
    check_streams(&cluster);
    create(&cluster, "large", 3).await;
    check_streams(&cluster);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_cluster_that_was_shut_down_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path()).await;
    cluster.shutdown().await;
    assert_eq!(cluster.allocate_producer_ids(1).await, Err(ProposeError::Stopped));
    let results = cluster.create_topics(vec![topic("late", 1)]).await;
    assert_eq!(results, [Err(CreateTopicError::Propose(ProposeError::Stopped))]);
}
