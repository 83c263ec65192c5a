//! A topic as requests hold it.

use std::sync::Arc;

use cluster::{Cluster, ShardHandle};
use record::{NodeId, ShardId, StreamId, TopicId};
use replica::Replica;

use crate::configs::TopicSettings;

/// A topic as it was when it was resolved: immutable, shared, cheap to hold.
#[derive(Debug)]
pub struct Topic {
    pub id: TopicId,
    pub name: Arc<str>,
    /// By index, from 0.
    pub partitions: Vec<Partition>,
    pub(crate) settings: TopicSettings,
    pub(crate) revision: Revision,
}

/// Of what the resolved topic was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Revision {
    pub(crate) topic: u64,
    /// Of the configuration below the topic's own.
    pub(crate) layers: u64,
}

/// One partition of a topic.
#[derive(Debug)]
pub struct Partition {
    pub(crate) stream: StreamId,
    shard: Arc<ShardHandle>,
}

/// Who serves a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionLeader {
    /// `None` while there is none, or it is not known.
    pub node: Option<NodeId>,
    /// The partition's leader epoch; -1 if this node does not know it.
    pub epoch: i32,
}

impl Topic {
    pub(crate) fn new(topic: &shard::Topic, settings: TopicSettings, revision: Revision, cluster: &Cluster) -> Self {
        let partitions = topic.live().iter().map(|placement| {
            let shard = placement.shard().expect("a placement names the shard where its stream grows");
            Partition { stream: placement.stream, shard: cluster.shard(shard) }
        });
        Self {
            id: topic.id,
            name: Arc::from(topic.name.as_str()),
            partitions: partitions.collect(),
            settings,
            revision,
        }
    }

    /// Partition count, as protocols give it.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }
}

impl Partition {
    /// Who serves the partition now; while nobody leads it, who did last, as far as this node's copy knows: there what
    /// is committed can still be read.
    pub fn leader(&self) -> PartitionLeader {
        // First the epoch: an earlier leader with a later epoch would be believed.
        let (epoch, last) = match self.shard.replica() {
            Some(replica) => {
                let state = replica.state();
                (state.stream(self.stream).map(|view| view.epoch().0), state.leader())
            }
            None => (None, None),
        };
        PartitionLeader { node: self.shard.leader().or(last), epoch: epoch.unwrap_or(-1) }
    }

    /// The shard that the partition's stream is on.
    pub fn shard(&self) -> ShardId {
        self.shard.id()
    }

    /// `None` while this node has no copy of the shard.
    pub(crate) fn replica(&self) -> Option<Replica> {
        self.shard.replica()
    }
}

/// A partition with its topic.
#[derive(Debug, Clone)]
pub struct PartitionRef {
    topic: Arc<Topic>,
    index: usize,
}

impl PartitionRef {
    /// `None` if the topic has no such partition.
    pub fn new(topic: Arc<Topic>, index: i32) -> Option<Self> {
        let index = usize::try_from(index).ok().filter(|index| *index < topic.partitions.len())?;
        Some(Self { topic, index })
    }

    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    pub fn partition(&self) -> &Partition {
        &self.topic.partitions[self.index]
    }

    pub fn index(&self) -> i32 {
        i32::try_from(self.index).expect("the index came from an i32")
    }
}
