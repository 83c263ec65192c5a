//! Disks of some nodes are full: as long as a majority has room nothing is refused, and when none has, what frees room is
//! still done.

use std::path::Path;
use std::sync::Arc;

use base::Env;
use base::disk::{Disk, SimDisk, SimDiskOptions};
use base::time::{Duration, sleep, timeout};
use cluster::{Cluster, Config, CreateTopicError, NewTopic, PreferLeaderError};
use record::{BatchBuilder, Compression, ShardId, StreamId, TimestampMs, validate};
use replica::{ProposeError, Replica};
use shard::TopicState;

use crate::nodes::is_settled;
use crate::support::{config, data_shards, free_addresses, operate, stop, topic, until, until_status};

const RESERVE_BYTES: u64 = 32 << 20;
const SEGMENT_BYTES: u64 = 4 << 20;
const ROOM: u64 = 4 << 30;

struct Place {
    node: Cluster,
    disk: SimDisk,
}

impl Place {
    fn free(&self) -> u64 {
        self.disk.free_bytes(Path::new("/")).expect("told").available
    }

    fn leave(&self, free: u64) {
        let has = self.disk.free_bytes(Path::new("/")).expect("told");
        self.disk.set_options(|options| options.capacity_bytes = has.total - has.available + free);
    }

    fn leads(&self) -> usize {
        self.node.replicas().iter().filter(|replica| replica.is_leader()).count()
    }
}

fn leader(places: &[Place], shard: ShardId) -> Option<Replica> {
    places.iter().find_map(|place| place.node.replica(shard).filter(Replica::is_leader))
}

/// A batch of a megabyte to each stream that there is.
async fn append(places: &[Place], name: &str) -> Result<(), ProposeError> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(TimestampMs(1), None, Some(&vec![b'x'; 1 << 20]), &[]).expect("fits");
    let bytes = builder.build().expect("a batch");
    let streams: Vec<(ShardId, StreamId)> = {
        let metadata = places[0].node.metadata();
        let placements = &metadata.topic_by_name(name).expect("known").partitions;
        placements.iter().map(|placement| (placement.shard().expect("placed"), placement.stream)).collect()
    };
    for (shard, stream) in streams {
        loop {
            let Some(leader) = leader(places, shard) else {
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            let summary = validate(&bytes).expect("valid");
            match leader.append([stream].into(), summary, bytes.clone()).await {
                Ok(_) => break,
                Err(ProposeError::NotLeader { .. } | ProposeError::Unknown) => sleep(Duration::from_millis(10)).await,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

async fn create(node: &Cluster, name: &str) -> Result<record::TopicId, CreateTopicError> {
    let topic = NewTopic { name: name.to_owned(), partitions: 2, configs: std::collections::BTreeMap::new() };
    node.create_topics(vec![topic]).await.remove(0)
}

async fn until_named(places: &[Place], place: usize, state: &str) {
    let wanted = [places[place].node.node_id().to_string(), state.to_owned()];
    until_status(&places[0].node, |status| {
        status.lines().any(|line| line.split_whitespace().take(2).eq(wanted.iter()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_full_disk_of_three_refuses_nothing_two_refuse_data_and_room_mends_both() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(3);
    let started = (0..3).map(async |place| {
        let disk = SimDisk::new(place as u64, SimDiskOptions { capacity_bytes: ROOM, ..SimDiskOptions::default() });
        let env = Env { disk: Arc::new(disk.clone()), ..Env::real() };
        let config = Config { reserve_bytes: RESERVE_BYTES, ..config(dir.path(), place, &addresses) };
        Place { node: Cluster::start(env, config).await.expect("started"), disk }
    });
    let places = futures_util::future::join_all(started).await;
    let nodes: Vec<Cluster> = places.iter().map(|place| place.node.clone()).collect();
    until("three voters of every shard", || is_settled(&nodes, 6, 3)).await;
    until("each leads", || places.iter().all(|place| place.leads() > 0)).await;
    topic(&nodes[0], "t", 6).await;
    nodes[0].settled().await;
    append(&places, "t").await.expect("there is room");

    // One is full: the others do all.
    places[2].leave(RESERVE_BYTES - 1);
    until("it is full", || nodes[2].is_disk_full()).await;
    until("it leads nothing", || places[2].leads() == 0).await;
    until_named(&places, 2, "full").await;
    let its = data_shards(&nodes[0]).into_iter().find(|shard| nodes[0].voters(*shard)[0] == nodes[2].node_id());
    let its = its.expect("one that it should lead");
    let refused = loop {
        match nodes[0].prefer_leader(its).await {
            // Nobody leads at this moment.
            Err(PreferLeaderError::Unavailable) => sleep(Duration::from_millis(10)).await,
            other => break other,
        }
    };
    assert_eq!(refused, Err(PreferLeaderError::NotAvailable), "it would hand it back");
    for name in ["a", "b"] {
        create(&nodes[2], name).await.expect("the others have room");
    }
    nodes[2].allocate_producer_ids(1).await.expect("given");
    append(&places, "t").await.expect("the others have room");
    let front = |shard| leader(&places, shard).map_or(0, |leader| leader.applied().0);
    let has_all = |place: &Place| {
        data_shards(&place.node)
            .iter()
            .all(|shard| place.node.replica(*shard).is_some_and(|replica| replica.applied().0 >= front(*shard)))
    };
    until("it has what the others have", || has_all(&places[2])).await;
    // It follows for as long as half of the reserve is left, and then takes the metadata only.
    places[2].leave(RESERVE_BYTES / 2 - 1);
    until_named(&places, 2, "full").await;
    sleep(Duration::from_millis(500)).await;
    for _ in 0..8 {
        append(&places, "t").await.expect("the others have room");
    }
    assert!(places[2].free() > RESERVE_BYTES / 2 - 2 * SEGMENT_BYTES, "{} bytes are left", places[2].free());
    assert!(!has_all(&places[2]), "it would have no room for that");
    create(&nodes[0], "c").await.expect("the others have room");
    nodes[0].settled().await;
    assert!(nodes[2].metadata().topic_by_name("c").is_some(), "it follows the metadata");

    // Two are full: data is refused, by whoever leads.
    places[1].leave(RESERVE_BYTES - 1);
    until_named(&places, 1, "full").await;
    until("one leads all", || places[0].leads() == data_shards(&nodes[0]).len()).await;
    let mut appended = 0;
    while append(&places, "t").await != Err(ProposeError::DiskFull) {
        sleep(Duration::from_millis(100)).await;
        appended += 1;
        assert!(appended < 20, "no majority has room");
    }
    assert!(!nodes[0].is_disk_full());
    assert_eq!(create(&nodes[1], "d").await, Err(CreateTopicError::Propose(ProposeError::DiskFull)));
    nodes[1].allocate_producer_ids(1).await.expect("given");
    let free = places[1].free();
    let gone = nodes[0].metadata().topic_by_name("a").expect("known").id;
    assert_eq!(nodes[1].delete_topics(vec![gone]).await, [Ok(())]);
    assert!(nodes[0].metadata().topics().all(|topic| topic.id != gone || topic.state != TopicState::Live));
    assert!(places[1].free() + SEGMENT_BYTES >= free);
    // With less than half of the reserve, too: what has no data is taken by who has all before it.
    until("it has what there is", || has_all(&places[1])).await;
    places[1].leave(RESERVE_BYTES / 2 - 1);
    sleep(Duration::from_millis(500)).await;
    let gone = nodes[0].metadata().topic_by_name("b").expect("known").id;
    let deleted = timeout(Duration::from_secs(20), nodes[1].delete_topics(vec![gone])).await;
    assert_eq!(deleted.expect("nobody waits for room"), [Ok(())]);
    let status = operate(&nodes[0], &["status"]).await.expect("told");
    let both = format!("takes no data: the disks of {},{} are full", nodes[1].node_id(), nodes[2].node_id());
    let either = format!("takes no data: the disks of {},{} are full", nodes[2].node_id(), nodes[1].node_id());
    assert!(status.contains(&both) || status.contains(&either), "{status}");

    // Room for one, and there is a majority again; for all, and all have the same.
    places[1].leave(ROOM);
    until_named(&places, 1, "live").await;
    let mut refused = 0;
    while append(&places, "t").await.is_err() {
        sleep(Duration::from_millis(100)).await;
        refused += 1;
        assert!(refused < 100, "two have room");
    }
    places[2].leave(ROOM);
    until_named(&places, 2, "live").await;
    until("it has caught up", || has_all(&places[2])).await;
    until("each leads again", || places.iter().all(|place| place.leads() > 0)).await;
    append(&places, "t").await.expect("there is room");
    until("all are equal", || {
        data_shards(&nodes[0]).iter().all(|shard| {
            let digest = |place: &Place| place.node.replica(*shard).map(|replica| replica.digest());
            let first = digest(&places[0]);
            first.is_some() && places.iter().all(|place| digest(place) == first)
        })
    })
    .await;
    assert!(nodes.iter().all(|node| node.failure().borrow().is_none()));
    stop(&nodes).await;
}
