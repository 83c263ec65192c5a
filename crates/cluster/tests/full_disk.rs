//! A node that starts on a disk without room for data: that is where topics are deleted to make some.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base::Env;
use base::disk::{Disk, SimDisk, SimDiskOptions};
use base::random::SeededRandom;
use base::time::{Duration, now, sleep};
use cluster::{Cluster, Config, CreateTopicError, NewTopic};
use record::{BatchBuilder, Compression, TimestampMs, validate};
use replica::ProposeError;
use shard::commands::AnnounceNode;
use shard::{NodeRecord, TopicState};

const DIR: &str = "/node";
const RESERVE_BYTES: u64 = 64 << 20;

fn env(disk: &SimDisk) -> Env {
    Env { disk: Arc::new(disk.clone()), random: Arc::new(SeededRandom::new(1)), ..Env::real() }
}

fn config() -> Config {
    let config = Config::new(Path::new(DIR).to_owned());
    Config { shards: 2, segment_bytes: 4 << 20, reserve_bytes: RESERVE_BYTES, ..config }
}

fn leave(disk: &SimDisk, free: u64) {
    let has = disk.free_bytes(Path::new(DIR)).expect("told");
    disk.set_options(|options| options.capacity_bytes = has.total - has.available + free);
}

async fn create(cluster: &Cluster, name: &str) -> Result<record::TopicId, CreateTopicError> {
    let topic = NewTopic { name: name.to_owned(), partitions: 2, configs: BTreeMap::new() };
    cluster.create_topics(vec![topic]).await.remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_node_starts_below_the_reserve_and_deletes_topics() {
    let _simulated = base::task::simulate();
    for (free, bounds_change) in [(RESERVE_BYTES - 1, false), (1 << 20, true), (0, false), (0, true)] {
        let disk = SimDisk::new(1, SimDiskOptions { capacity_bytes: 1 << 30, ..SimDiskOptions::default() });
        let cluster = Cluster::start(env(&disk), config()).await.expect("started");
        let topic = create(&cluster, "old").await.expect("created");
        let starts = cluster.metadata().node(cluster.node_id()).unwrap().start_number;
        drop(cluster);
        disk.crash();
        leave(&disk, free);
        let mut config = config();
        if bounds_change {
            config.producers_per_shard_max /= 2;
        }
        let cluster = Cluster::start(env(&disk), config).await.expect("started on a full disk");
        assert!(cluster.is_disk_full());
        assert_eq!(cluster.metadata().node(cluster.node_id()).unwrap().start_number, starts + 1);
        let node = cluster.metadata().node(cluster.node_id()).cloned().unwrap();
        let node = NodeRecord { rack: Some("rack".to_owned()), ..node };
        cluster.decide(AnnounceNode { node }.into()).await.expect("announced");
        let refused = create(&cluster, "new").await;
        assert_eq!(refused, Err(CreateTopicError::Propose(ProposeError::DiskFull)));
        assert_eq!(cluster.delete_topics(vec![topic]).await, [Ok(())], "with {free} bytes free");
        assert!(cluster.metadata().topics().all(|topic| topic.state != TopicState::Live));
        assert!(cluster.failure().borrow().is_none());
        cluster.shutdown().await;
        drop(cluster);
        leave(&disk, 1 << 30);
        let cluster = Cluster::start(env(&disk), self::config()).await.expect("started with room");
        create(&cluster, "new").await.expect("created");
        cluster.shutdown().await;
    }
}

async fn append(cluster: &Cluster, name: &str) -> Result<(), ProposeError> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(TimestampMs(1), None, Some(&vec![b'x'; 512 << 10]), &[]).expect("fits");
    let bytes = builder.build().expect("a batch");
    let (shard, stream) = {
        let metadata = cluster.metadata();
        let placement = &metadata.topic_by_name(name).expect("known").partitions[0];
        (placement.shard().expect("placed"), placement.stream)
    };
    let replica = cluster.replica(shard).expect("here");
    replica.append([stream].into(), validate(&bytes).expect("valid"), bytes).await.map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_from_a_full_disk_makes_room_within_seconds() {
    const ROOM_AFTER_MAX: Duration = Duration::from_secs(10);
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(1, SimDiskOptions { capacity_bytes: 192 << 20, ..SimDiskOptions::default() });
    let cluster = Cluster::start(env(&disk), Config { shards: 1, ..config() }).await.expect("started");
    let old = create(&cluster, "old").await.expect("created");
    create(&cluster, "new").await.expect("created");
    cluster.settled().await;
    let mut appended = 0;
    let refused = loop {
        match append(&cluster, "old").await {
            Ok(()) => appended += 1,
            Err(error) => break error,
        }
        // The free space is looked at now and then.
        sleep(Duration::from_millis(100)).await;
        assert!(appended < 1_000, "the disk is never full");
    };
    assert_eq!(refused, ProposeError::DiskFull);
    assert!(appended > 50, "{appended} batches were taken");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(append(&cluster, "new").await, Err(ProposeError::DiskFull), "all of it is wanted");
    // A checkpoint is made of it: the next one would not be soon.
    for replica in cluster.replicas() {
        replica.checkpoint().await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.delete_topics(vec![old]).await, [Ok(())]);
    let deleted_at = now();
    while let Err(error) = append(&cluster, "new").await {
        assert_eq!(error, ProposeError::DiskFull);
        let waited = now() - deleted_at;
        assert!(waited < ROOM_AFTER_MAX, "{waited:?} after the deletion there is no room");
        sleep(Duration::from_millis(100)).await;
    }
    cluster.shutdown().await;
}
