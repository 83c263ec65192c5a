//! Streams that a late step left on a shard of a cluster of one.

use std::collections::BTreeMap;
use std::path::Path;

use base::Env;
use base::time::{Duration, sleep, timeout};
use cluster::{Cluster, Config, METADATA, NewTopic};
use record::{ShardId, StreamId, TopicId};
use shard::commands::{CreateStreams, NewStream, SkipIds};
use shard::{Outcome, Placement};

async fn start(dir: &Path) -> Cluster {
    let config = Config { shards: 3, segment_bytes: 4 << 20, reserve_bytes: 0, ..Config::new(dir.join("data")) };
    Cluster::start(Env::real(), config).await.expect("started")
}

/// A topic of one partition on each shard, and its streams.
async fn create(cluster: &Cluster, name: &str) -> (TopicId, Vec<(ShardId, NewStream)>) {
    let topic = NewTopic { name: name.to_owned(), partitions: 3, configs: BTreeMap::new() };
    let id = cluster.create_topics(vec![topic]).await.remove(0).expect("made");
    let new = |placement: &Placement| NewStream {
        id: placement.stream,
        epoch_start: placement.epoch_start,
        first_offset: placement.history[0].from_offset,
    };
    let metadata = cluster.metadata();
    let partitions = &metadata.topic(id).expect("made").partitions;
    (id, partitions.iter().map(|placement| (placement.shard().expect("placed"), new(placement))).collect())
}

async fn make(cluster: &Cluster, shard: ShardId, stream: NewStream) {
    let made = cluster.propose(shard, CreateStreams { streams: vec![stream] }.into()).await;
    assert_eq!(made, Ok(Outcome::CreateStreams(vec![Ok(())])));
}

#[tokio::test]
async fn a_stream_that_belongs_to_no_topic_is_removed_and_one_that_was_never_given_out_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path()).await;
    let (_, kept) = create(&cluster, "kept").await;
    let (gone, streams) = create(&cluster, "gone").await;
    cluster.delete_topics(vec![gone]).await.remove(0).expect("deleted");
    assert!(cluster.metadata().topic(gone).is_none());
    // A step of making it that comes behind all that.
    for (shard, stream) in &streams {
        make(&cluster, *shard, *stream).await;
    }
    let never = NewStream { id: cluster.metadata().next_stream(), ..streams[0].1 };
    make(&cluster, ShardId(2), never).await;
    assert_ne!(cluster.leader(METADATA), None);
    cluster.shutdown().await;
    drop(cluster);
    let cluster = start(dir.path()).await;
    let is_there =
        |shard: ShardId, stream: StreamId| cluster.replica(shard).expect("here").state().stream(stream).is_some();
    let removed = async {
        while streams.iter().any(|(shard, stream)| is_there(*shard, stream.id)) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), removed).await.expect("nobody else would remove them");
    assert!(is_there(ShardId(2), never.id), "the metadata has lost it");
    assert!(kept.iter().all(|(shard, stream)| is_there(*shard, stream.id)));
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_stream_whose_topic_a_recovery_may_have_lost_stays() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = start(dir.path()).await;
    let (_, kept) = create(&cluster, "kept").await;
    let lost = NewStream { id: cluster.metadata().next_stream(), ..kept[0].1 };
    make(&cluster, kept[0].0, lost).await;
    // What a recovery does first.
    let skip = SkipIds { ids: 1 << 40, nodes: 0, epochs: 0, removed: vec![] };
    assert_eq!(cluster.propose(METADATA, skip.into()).await, Ok(Outcome::SkipIds));
    let (gone, streams) = create(&cluster, "gone").await;
    cluster.delete_topics(vec![gone]).await.remove(0).expect("deleted");
    let (shard, late) = *streams.iter().find(|(shard, _)| *shard == kept[0].0).expect("one on each");
    make(&cluster, shard, late).await;
    cluster.shutdown().await;
    drop(cluster);
    let cluster = start(dir.path()).await;
    let is_there = |stream: StreamId| cluster.replica(shard).expect("here").state().stream(stream).is_some();
    let removed = async {
        while is_there(late.id) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), removed).await.expect("that one belongs to no topic");
    assert!(is_there(lost.id), "nobody knows whose that was");
    cluster.shutdown().await;
}
