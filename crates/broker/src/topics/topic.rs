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
    /// For what has changed since.
    cluster: Cluster,
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
    /// Where the stream was before, the oldest first; none for most.
    earlier: Box<[EarlierRange]>,
}

/// Offsets that a partition's stream has on a shard on which it does not grow any more.
#[derive(Debug)]
pub(crate) struct EarlierRange {
    from_offset: i64,
    /// Behind the last one.
    end_offset: i64,
    shard: Arc<ShardHandle>,
}

impl EarlierRange {
    pub(crate) fn shard(&self) -> ShardId {
        self.shard.id()
    }

    /// The first offset of the range that stays.
    pub(crate) fn begins_at(&self) -> i64 {
        self.from_offset
    }

    /// `None` while this node has no copy of that shard that is in service.
    pub(crate) fn replica(&self) -> Option<Replica> {
        self.shard.replica().filter(|replica| replica.failure().borrow().is_none())
    }
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
            let ranges = placement.history.windows(2).map(|homes| EarlierRange {
                from_offset: homes[0].from_offset.0,
                end_offset: homes[1].from_offset.0,
                shard: cluster.shard(homes[0].shard),
            });
            Partition { stream: placement.stream, shard: cluster.shard(shard), earlier: ranges.collect() }
        });
        Self {
            id: topic.id,
            name: Arc::from(topic.name.as_str()),
            partitions: partitions.collect(),
            settings,
            revision,
            cluster: cluster.clone(),
        }
    }

    /// Partition count, as protocols give it.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }
}

impl Partition {
    /// Whether this node can tell the partition's epoch without asking another.
    pub(crate) fn knows_epoch(&self) -> bool {
        self.shard.knows_epoch(self.stream)
    }

    /// Who serves the partition now; while nobody leads it, who did last, as far as this node knows: there what
    /// is committed can still be read.
    pub fn leader(&self) -> PartitionLeader {
        leader(&self.shard, self.stream)
    }

    /// Whether the stream has ended on the partition's shard, as far as this node's copy knows: then it goes on on
    /// another one, of which the metadata tell now or in a moment.
    pub(crate) fn has_ended(&self) -> bool {
        let replica = self.shard.replica();
        replica.is_some_and(|replica| replica.state().stream(self.stream).is_some_and(|view| view.is_closed()))
    }

    /// The shard that the partition's stream is on.
    pub fn shard(&self) -> ShardId {
        self.shard.id()
    }

    /// `None` while this node has no copy of the shard.
    pub(crate) fn replica(&self) -> Option<Replica> {
        self.shard.replica()
    }

    /// Where the stream was before it came to its shard, the oldest first.
    pub(crate) fn earlier(&self) -> &[EarlierRange] {
        &self.earlier
    }

    /// The range that has an offset, if that is not the one on the partition's shard.
    pub(crate) fn earlier_of(&self, offset: i64) -> Option<&EarlierRange> {
        self.earlier.iter().find(|range| (range.from_offset..range.end_offset).contains(&offset))
    }

    /// The first offset, given the first one that is on the partition's shard.
    pub fn log_start(&self, first_here: i64) -> i64 {
        self.earlier_left().next().map_or(first_here, |range| range.from_offset)
    }

    /// Those of [`Self::earlier`] in which something is left.
    pub(crate) fn earlier_left(&self) -> impl Iterator<Item = &EarlierRange> {
        self.earlier.iter().filter(|range| range.from_offset < range.end_offset)
    }

    /// Where the stream began on the partition's shard.
    pub(crate) fn came_at(&self) -> i64 {
        self.earlier.last().map_or(0, |range| range.end_offset)
    }
}

fn leader(shard: &ShardHandle, stream: StreamId) -> PartitionLeader {
    let Some(replica) = shard.replica() else {
        let told = shard.told_leader(stream);
        let epoch = told.and_then(|(_, epoch)| epoch).map_or(-1, |epoch| epoch.0);
        return PartitionLeader { node: told.map(|(node, _)| node), epoch };
    };
    // First the epoch: an earlier leader with a later epoch would be believed.
    let (epoch, last) = {
        let state = replica.state();
        (state.stream(stream).map(|view| view.epoch().0), state.leader())
    };
    PartitionLeader { node: shard.leader().or(last), epoch: epoch.unwrap_or(-1) }
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

    /// Whether there are other nodes, which may have led the partition a moment ago.
    pub fn may_be_led_elsewhere(&self) -> bool {
        self.topic.cluster.metadata().nodes().len() > 1
    }

    /// Who serves the partition now, also if it is on another shard since it was resolved.
    pub fn leader_now(&self) -> PartitionLeader {
        match self.moved_to() {
            Some(shard) => leader(&self.topic.cluster.shard(shard), self.partition().stream),
            None => self.partition().leader(),
        }
    }

    /// The shard on which the partition is since it was resolved, if that is another one.
    fn moved_to(&self) -> Option<ShardId> {
        let metadata = self.topic.cluster.metadata();
        let placement = metadata.topic(self.topic.id)?.partitions.get(self.index)?;
        placement.shard().filter(|shard| *shard != self.partition().shard())
    }

    /// Returns when the partition is on another shard than it was, or gone. May wait for ever.
    pub(crate) async fn moved(&self) {
        let mut metadata = self.topic.cluster.metadata_changed();
        while self.moved_to().is_none() && self.topic.cluster.metadata().topic(self.topic.id).is_some() {
            if metadata.changed().await.is_err() {
                return;
            }
        }
    }

    pub fn index(&self) -> i32 {
        i32::try_from(self.index).expect("the index came from an i32")
    }
}
