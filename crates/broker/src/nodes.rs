//! The nodes of the cluster and where the copies of each shard are, as of one moment.
//!
//! A view is made when the metadata, the liveness of a node or who is in sync has changed, and shared by all requests until
//! then. What is in it never changes; whoever holds one sees nodes and copies that fit each other. Where copies should be is
//! the metadata's to say, who is in sync only a shard's leader's: a node that is to have a copy and pulls it is not.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::{Cluster, Holders};
use parking_lot::Mutex;
use record::{NodeId, ShardId};
use shard::{NodeAddress, NodeRecord, ShardRecord};
use tokio::sync::watch;

/// Gives the current view.
#[derive(Debug)]
pub(crate) struct Nodes {
    cluster: Cluster,
    metadata: watch::Receiver<u64>,
    liveness: watch::Receiver<u64>,
    holders: watch::Receiver<u64>,
    current: Mutex<Option<(Versions, Arc<ClusterView>)>>,
}

/// Of what a view was made.
type Versions = (u64, u64, u64);

/// See the module.
#[derive(Debug)]
pub struct ClusterView {
    /// By id.
    nodes: Vec<Node>,
    copies: BTreeMap<ShardId, Copies>,
    copies_max: usize,
}

/// A node that the metadata knows.
#[derive(Debug, Clone)]
pub struct Node {
    pub id: NodeId,
    pub rack: Option<String>,
    /// Whether it was heard of just now.
    pub is_live: bool,
    /// Rises with every start of the node's process.
    pub start_number: u64,
    /// What clients are told to dial, one for each listener.
    pub addresses: Vec<Address>,
}

/// Where clients that came in by a listener of that name reach a node.
#[derive(Debug, Clone)]
pub struct Address {
    pub listener: String,
    pub host: String,
    pub port: u16,
}

/// Where the copies of a shard, hence of its partitions, are and are to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copies {
    /// Where they are to be, in the order in which they should lead.
    pub wanted: Vec<NodeId>,
    /// The same, and behind them those that vote now and are to go.
    pub replicas: Vec<NodeId>,
    /// Those of the replicas that vote now, as the shard's leader said last; none while nobody did.
    pub voters: Vec<NodeId>,
    /// Those of the replicas that vote, are live and have what is committed, or had it a moment ago, in their order.
    pub in_sync: Vec<NodeId>,
    /// Those of the replicas that are not live.
    pub offline: Vec<NodeId>,
}

impl Nodes {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let (metadata, liveness, holders) =
            (cluster.metadata_changed(), cluster.nodes_changed(), cluster.holders_changed());
        Self { cluster, metadata, liveness, holders, current: Mutex::default() }
    }

    pub(crate) fn view(&self) -> Arc<ClusterView> {
        // Read before what they count: a later state passes for an earlier version, and is made anew.
        let versions = (*self.metadata.borrow(), *self.liveness.borrow(), *self.holders.borrow());
        let mut current = self.current.lock();
        if let Some((made_of, view)) = &*current
            && *made_of == versions
        {
            return Arc::clone(view);
        }
        let (records, shards, copies_max) = {
            let metadata = self.cluster.metadata();
            let nodes: Vec<NodeRecord> = metadata.nodes().into_iter().cloned().collect();
            let shards: Vec<ShardRecord> = metadata.shard_records().into_iter().cloned().collect();
            (nodes, shards, metadata.copies().into())
        };
        let is_live = |node| self.cluster.is_live(node);
        let nodes = records.into_iter().map(|record| Node::of(record, is_live)).collect();
        let (holders, nobody) = (self.cluster.holders(), Holders::default());
        let copies = shards.into_iter().map(|record| {
            let holders = holders.get(&record.id).unwrap_or(&nobody);
            (record.id, Copies::of(record.voters, holders, is_live))
        });
        let view = Arc::new(ClusterView::new(nodes, copies.collect(), copies_max));
        *current = Some((versions, Arc::clone(&view)));
        view
    }
}

impl ClusterView {
    /// `nodes` MUST be in the order of their ids.
    pub fn new(nodes: Vec<Node>, copies: BTreeMap<ShardId, Copies>, copies_max: usize) -> Self {
        assert!(nodes.is_sorted_by_key(|node| node.id), "nodes are looked up by halving");
        Self { nodes, copies, copies_max }
    }

    /// All nodes that the metadata knows, by id.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node that the metadata knows.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.binary_search_by_key(&id, |node| node.id).ok().map(|at| &self.nodes[at])
    }

    /// Where the copies of a shard are; none if the metadata does not say.
    pub fn copies(&self, shard: ShardId) -> Option<&Copies> {
        self.copies.get(&shard)
    }

    /// The nodes that decide for a shard with data are at most so many: Kafka's replicas of a partition.
    pub fn copies_max(&self) -> usize {
        self.copies_max
    }

    /// All shards.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &Copies)> {
        self.copies.iter().map(|(shard, copies)| (*shard, copies))
    }
}

impl Node {
    fn of(record: NodeRecord, is_live: impl Fn(NodeId) -> bool) -> Self {
        let NodeRecord { id, start_number, rack, addresses } = record;
        let address = |address: NodeAddress| {
            let NodeAddress { listener, host, port } = address;
            Address { listener, host, port }
        };
        Self { id, rack, is_live: is_live(id), start_number, addresses: addresses.into_iter().map(address).collect() }
    }

    /// Where clients of that listener reach the node.
    pub fn address(&self, listener: &str) -> Option<&Address> {
        self.addresses.iter().find(|address| address.listener == listener)
    }
}

impl Copies {
    fn of(wanted: Vec<NodeId>, holders: &Holders, is_live: impl Fn(NodeId) -> bool) -> Self {
        let mut replicas = wanted.clone();
        replicas.extend(holders.voters.iter().filter(|node| !wanted.contains(node)));
        let those = |is: &dyn Fn(NodeId) -> bool| replicas.iter().copied().filter(|node| is(*node)).collect();
        let voters = those(&|node| holders.voters.contains(&node));
        let in_sync = those(&|node| holders.in_sync.contains(&node) && is_live(node));
        let offline = those(&|node| !is_live(node));
        Self { wanted, voters, in_sync, offline, replicas }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn ids(nodes: &[u64]) -> Vec<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    /// Nodes numbered from 1, with shards numbered from 0 on these of them.
    pub(crate) fn view(nodes: u64, shards: &[&[u64]]) -> ClusterView {
        let node = |id| Node { id: NodeId(id), rack: None, is_live: true, start_number: 1, addresses: Vec::new() };
        let copies = |(shard, voters): (u32, &&[u64])| {
            let holders = Holders { voters: ids(voters), learners: Vec::new(), in_sync: ids(voters) };
            (ShardId(shard), Copies::of(ids(voters), &holders, |_| true))
        };
        ClusterView::new((1..=nodes).map(node).collect(), (0..).zip(shards).map(copies).collect(), 3)
    }

    fn check(voters: &[u64], in_sync: &[u64], expected: [&[u64]; 4]) {
        let holders = Holders { voters: ids(voters), learners: Vec::new(), in_sync: ids(in_sync) };
        // Node 1 is away.
        let Copies { wanted, replicas, voters, in_sync, offline } =
            Copies::of(ids(&[3, 1, 2]), &holders, |node| node != NodeId(1));
        assert_eq!(wanted, ids(&[3, 1, 2]));
        assert_eq!([replicas, voters, in_sync, offline], expected.map(ids));
    }

    #[test]
    fn who_votes_has_caught_up_and_is_there_is_in_sync() {
        check(&[1, 2, 3], &[1, 2, 3], [&[3, 1, 2], &[3, 1, 2], &[3, 2], &[1]]);
        check(&[1, 2, 3], &[2], [&[3, 1, 2], &[3, 1, 2], &[2], &[1]]);
    }

    #[test]
    fn a_copy_that_is_only_wanted_is_not_in_sync_and_one_that_is_to_go_is() {
        check(&[2], &[2], [&[3, 1, 2], &[2], &[2], &[1]]);
        check(&[2, 3, 4], &[2, 3, 4], [&[3, 1, 2, 4], &[3, 2, 4], &[3, 2, 4], &[1]]);
        check(&[], &[], [&[3, 1, 2], &[], &[], &[1]]);
    }

    #[test]
    fn nodes_and_copies_are_found_by_id() {
        let view = view(3, &[&[1], &[2, 3]]);
        assert_eq!(view.node(NodeId(2)).map(|node| node.id), Some(NodeId(2)));
        assert!(view.node(NodeId(4)).is_none());
        assert_eq!(view.copies(ShardId(1)).map(|copies| copies.replicas.len()), Some(2));
        assert_eq!(view.copies(ShardId(2)), None);
    }
}
