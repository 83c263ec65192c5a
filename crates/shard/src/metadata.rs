//! What only the metadata group holds: topics, nodes, shards, slots and configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use record::{NodeId, ShardId, StreamId, TopicId};

use crate::codec::{DecodeError, Reader, Wire, wire_struct};
use crate::model::{
    ClusterFeatures, ConfigResource, DoubtfulStreams, NodeRecord, NodeStanding, RebalancingStopped, ShardFounding,
    ShardRecord, SlotMove, SlotMoveId, StreamMove, Topic, TopicState, Transfer, WantedCopies,
};
use crate::table::{Record, Table};

#[derive(Debug)]
pub(crate) struct TopicEntry(pub(crate) Arc<Topic>);

impl Wire for TopicEntry {
    const BYTES_MIN: usize = Topic::BYTES_MIN;
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Topic::take(input).map(|topic| Self(Arc::new(topic)))
    }
}

impl Record for TopicEntry {
    type Key = TopicId;
    const TABLE: u8 = 7;
    fn key(&self) -> TopicId {
        self.0.id
    }
}

impl Record for NodeRecord {
    type Key = NodeId;
    const TABLE: u8 = 8;
    fn key(&self) -> NodeId {
        self.id
    }
}

impl Record for ShardRecord {
    type Key = ShardId;
    const TABLE: u8 = 9;
    fn key(&self) -> ShardId {
        self.id
    }
}

impl Record for NodeStanding {
    type Key = NodeId;
    const TABLE: u8 = 11;
    fn key(&self) -> NodeId {
        self.id
    }
}

impl Record for ShardFounding {
    type Key = ShardId;
    const TABLE: u8 = 12;
    fn key(&self) -> ShardId {
        self.id
    }
}

impl Record for StreamMove {
    type Key = (TopicId, u32);
    const TABLE: u8 = 13;
    fn key(&self) -> (TopicId, u32) {
        (self.topic, self.partition)
    }
}

impl Record for RebalancingStopped {
    type Key = u8;
    const TABLE: u8 = 17;
    fn key(&self) -> u8 {
        Self::KEY
    }
}

impl Record for Transfer {
    type Key = StreamId;
    const TABLE: u8 = 18;
    fn key(&self) -> StreamId {
        self.stream
    }
}

impl Record for SlotMove {
    type Key = SlotMoveId;
    const TABLE: u8 = 14;
    fn key(&self) -> SlotMoveId {
        self.id
    }
}

/// There is one at most.
impl Record for ClusterFeatures {
    type Key = ();
    const TABLE: u8 = 15;
    fn key(&self) {}
}

/// There is one at most.
impl Record for WantedCopies {
    type Key = ();
    const TABLE: u8 = 19;
    fn key(&self) {}
}

/// There is one at most.
impl Record for DoubtfulStreams {
    type Key = ();
    const TABLE: u8 = 20;
    fn key(&self) {}
}

/// The keys that were set on something that is no topic.
#[derive(Debug)]
pub(crate) struct ConfigEntry {
    pub(crate) resource: ConfigResource,
    pub(crate) version: u64,
    pub(crate) values: BTreeMap<String, String>,
}

wire_struct!(ConfigEntry { resource: ConfigResource, version: u64, values: BTreeMap<String, String> });

impl Record for ConfigEntry {
    type Key = ConfigResource;
    const TABLE: u8 = 10;
    fn key(&self) -> ConfigResource {
        self.resource.clone()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Metadata {
    pub(crate) topics: Table<TopicEntry>,
    pub(crate) nodes: Table<NodeRecord>,
    pub(crate) shards: Table<ShardRecord>,
    pub(crate) configs: Table<ConfigEntry>,
    pub(crate) standings: Table<NodeStanding>,
    pub(crate) foundings: Table<ShardFounding>,
    pub(crate) moves: Table<StreamMove>,
    pub(crate) slot_moves: Table<SlotMove>,
    pub(crate) features: Table<ClusterFeatures>,
    pub(crate) rebalancing_stopped: Table<RebalancingStopped>,
    pub(crate) wanted_copies: Table<WantedCopies>,
    pub(crate) doubtful_streams: Table<DoubtfulStreams>,
    /// Derived: the topics that are not being deleted.
    pub(crate) names: BTreeMap<Arc<str>, TopicId>,
    /// Derived: the topics on which work on other shards is to be done.
    pub(crate) unfinished: BTreeSet<TopicId>,
}

impl Metadata {
    pub(crate) fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id).map(|entry| &entry.0)
    }

    /// The largest id that a node ever had.
    pub(crate) fn last_node(&self) -> NodeId {
        let nodes = self.nodes.iter().map(|(_, node)| node.id);
        nodes.chain(self.standings.iter().map(|(_, standing)| standing.id)).max().unwrap_or(NodeId(0))
    }

    pub(crate) fn insert_topic(&mut self, topic: Topic) {
        self.names.insert(Arc::from(topic.name.as_str()), topic.id);
        self.note_progress(&topic);
        self.topics.insert(TopicEntry(Arc::new(topic)));
    }

    /// Changes a topic, if it is there, and whatever is derived from it.
    pub(crate) fn change_topic<T>(
        &mut self,
        id: TopicId,
        revision: u64,
        change: impl FnOnce(&mut Topic) -> T,
    ) -> Option<T> {
        let slot = self.topics.slot(&id)?;
        let topic = Arc::make_mut(&mut self.topics.change(slot)?.0);
        let result = change(topic);
        topic.revision = revision;
        if topic.state == TopicState::Deleting && self.names.get(topic.name.as_str()) == Some(&id) {
            self.names.remove(topic.name.as_str());
        }
        if topic.unfinished() {
            self.unfinished.insert(id);
        } else {
            self.unfinished.remove(&id);
        }
        Some(result)
    }

    pub(crate) fn remove_topic(&mut self, id: TopicId) {
        if let Some(entry) = self.topics.remove(&id)
            && self.names.get(entry.0.name.as_str()) == Some(&id)
        {
            self.names.remove(entry.0.name.as_str());
        }
        self.unfinished.remove(&id);
        // None of its streams exist any more, wherever they were to go.
        let mut moves: Vec<(TopicId, u32)> = self.moves.iter().map(|(_, moving)| moving.key()).collect();
        moves.retain(|(topic, _)| *topic == id);
        moves.sort_unstable();
        for key in moves {
            self.moves.remove(&key);
        }
    }

    fn note_progress(&mut self, topic: &Topic) {
        if topic.unfinished() {
            self.unfinished.insert(topic.id);
        }
    }

    /// After a restore: names and unfinished work.
    pub(crate) fn relink(&mut self) {
        let topics: Vec<Arc<Topic>> = self.topics.iter().map(|(_, entry)| Arc::clone(&entry.0)).collect();
        for topic in topics {
            if topic.state != TopicState::Deleting {
                self.names.insert(Arc::from(topic.name.as_str()), topic.id);
            }
            self.note_progress(&topic);
        }
    }
}
