//! Several nodes in one process, and short words for what their clients ask.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};

use base::Env;
use base::time::{Duration, now, sleep};
use futures_util::future::join_all;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{CreateTopicsRequest, FindCoordinatorRequest, ListOffsetsRequest};
use record::ShardId;
use shard::SLOTS;

use crate::support::{Client, Node, PATIENCE, Place, Setup, text, topic_name};

/// Nodes with the ids from 1 on, in this order.
pub(crate) struct Nodes(pub(crate) Vec<Node>);

impl Nodes {
    /// When every shard is on all of them.
    pub(crate) async fn start() -> Self {
        Self::start_some(3).await
    }

    pub(crate) async fn start_some(count: usize) -> Self {
        Self::start_with(count, |_| {}).await
    }

    pub(crate) async fn start_with(count: usize, change: fn(&mut Setup)) -> Self {
        let nodes = Self::begin(count, change).await;
        until("three voters and a leader of every shard", || {
            // Each node brings two, beside the metadata's.
            nodes.shards().len() == 1 + 2 * count
                && nodes.shards().into_iter().all(|shard| nodes.is_whole(shard) && nodes.is_in_sync(shard, 3))
                && nodes.0.iter().all(|node| is_even(node, 2 * count))
        })
        .await;
        nodes
    }

    /// Two, of which every shard is on one: an even number of copies is no better.
    pub(crate) async fn start_two() -> Self {
        let nodes = Self::begin(2, |_| {}).await;
        until("one voter and a leader of every shard", || {
            nodes.shards().len() == 5
                && nodes.shards().into_iter().all(|shard| nodes.is_in_sync(shard, 1))
                && nodes.0.iter().all(|node| is_even(node, 4))
        })
        .await;
        nodes
    }

    async fn begin(count: usize, change: fn(&mut Setup)) -> Self {
        let all = free_addresses(count).await;
        let start = |place: usize| {
            let (listen, all) = (all[place], all.clone());
            let place = Place { listen, all, rack: format!("rack {place}") };
            Box::pin(Node::start_with(move |setup| {
                setup.place = Some(place);
                change(setup);
            }))
        };
        let mut nodes = join_all((0..count).map(start)).await;
        nodes.sort_by_key(|node| node.cluster.node_id());
        Self(nodes)
    }

    /// Whether all know that at least so many copies of the shard are in sync, and who leads it.
    pub(crate) fn is_in_sync(&self, shard: ShardId, copies: usize) -> bool {
        let leader = self.0[0].cluster.leader(shard);
        leader.is_some()
            && self.0.iter().all(|node| {
                let in_sync = node.cluster.holders().get(&shard).map_or(0, |holders| holders.in_sync.len());
                in_sync >= copies && node.cluster.leader(shard) == leader
            })
    }

    pub(crate) fn shards(&self) -> Vec<ShardId> {
        self.0[0].cluster.metadata().shard_records().iter().map(|record| record.id).collect()
    }

    /// Whether three have a copy of the shard that votes, one leads it, and all know.
    pub(crate) fn is_whole(&self, shard: ShardId) -> bool {
        let leader = self.0[0].cluster.leader(shard);
        let wanted = self.0[0].cluster.voters(shard);
        leader.is_some()
            && wanted.len() >= 3
            && self.0.iter().all(|node| {
                let (id, replica) = (node.cluster.node_id(), node.cluster.replica(shard));
                let leads = replica.as_ref().is_some_and(|replica| replica.is_leader());
                let members = replica.map(|replica| replica.members());
                let voters = members.as_ref().and_then(|members| members.voters.first().map(|voters| voters.len()));
                node.cluster.leader(shard) == leader
                    && leads == (Some(id) == leader)
                    && members.as_ref().is_none_or(|members| !members.is_changing())
                    && if wanted.contains(&id) { voters == Some(wanted.len()) } else { true }
            })
    }

    /// Where the leader is.
    pub(crate) fn leader(&self, shard: ShardId) -> usize {
        let leads = |node: &Node| node.cluster.replica(shard).is_some_and(|replica| replica.is_leader());
        self.0.iter().position(leads).expect("one leads")
    }

    /// Makes another node the leader; where it is.
    pub(crate) async fn move_leader(&self, shard: ShardId) -> usize {
        let to = (self.leader(shard) + 1) % 3;
        self.move_leader_to(shard, to).await;
        to
    }

    pub(crate) async fn move_leader_to(&self, shard: ShardId, to: usize) {
        let from = self.leader(shard);
        let replica = self.0[from].cluster.replica(shard).expect("it leads");
        replica.transfer_leader(self.0[to].cluster.node_id()).await.expect("it is asked");
        let leads = || self.0[to].cluster.replica(shard).is_some_and(|replica| replica.is_leader());
        until("another leader", || leads() && self.is_whole(shard)).await;
    }

    pub(crate) fn shard_of(&self, topic: &str) -> ShardId {
        self.0[0].broker.topics().resolve(topic).expect("it exists").partitions[0].shard()
    }

    pub(crate) async fn stop(self) {
        join_all(self.0.into_iter().map(Node::stop)).await;
    }
}

/// Addresses that nobody uses now, nor comes to use before: they are of a host of their own, at which no connection begins.
pub(crate) async fn free_addresses(count: usize) -> Vec<SocketAddr> {
    static CALLS: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let any = SocketAddr::from(([127, high | 64, low, CALLS.fetch_add(1, Ordering::Relaxed)], 0));
    let network = Env::real().network;
    let bound = join_all((0..count).map(|_| network.listen(any))).await;
    bound.iter().map(|listener| listener.as_ref().expect("bound").local_address().expect("bound")).collect()
}

/// Whether as many slots are on each of the data shards, by what the node knows, and none moves.
pub(crate) fn is_even(node: &Node, shards: usize) -> bool {
    let metadata = node.cluster.metadata();
    let mut counts: BTreeMap<ShardId, usize> = BTreeMap::new();
    (0..SLOTS).filter_map(|slot| metadata.slot_shard(slot)).for_each(|shard| *counts.entry(shard).or_default() += 1);
    let (most, fewest) = (counts.values().max().copied().unwrap_or(0), counts.values().min().copied().unwrap_or(0));
    counts.len() == shards && most - fewest <= 1 && metadata.slot_moves().is_empty()
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = now() + 3 * PATIENCE;
    while !condition() {
        assert!(now() < deadline, "{what} did not come to be");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn create(client: &mut Client, name: &str, factor: i16) -> (i16, i16) {
    let topic =
        CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(1).with_replication_factor(factor);
    let response = client.call(7, &CreateTopicsRequest::default().with_topics(vec![topic])).await;
    (response.topics[0].error_code, response.topics[0].replication_factor)
}

pub(crate) async fn described(client: &mut Client, name: &str) -> MetadataResponseTopic {
    client.metadata(Some(&[name]), false).await.topics.remove(0)
}

pub(crate) async fn latest(client: &mut Client, topic: &str) -> (i16, i64) {
    listed(client, topic, -1).await
}

pub(crate) async fn earliest(client: &mut Client, topic: &str) -> (i16, i64) {
    listed(client, topic, -2).await
}

async fn listed(client: &mut Client, topic: &str, timestamp: i64) -> (i16, i64) {
    let partition = ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    let response = client.call(9, &request).await;
    let partition = &response.topics[0].partitions[0];
    (partition.error_code, partition.offset)
}

pub(crate) async fn coordinator(client: &mut Client, group: &str) -> (i16, i32) {
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
    let found = client.call(4, &request).await.coordinators.remove(0);
    (found.error_code, found.node_id.0)
}
