//! Leaves out numbers that a lost part of the log may have given out. The first command after a group lost its majority for
//! good: what was given out there may be in use still, by clients or on other shards, and must not mean two things.

use record::{NodeId, StreamId};

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{ClusterFeatures, DoubtfulStreams, NodeStanding, Standing};
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

/// The level of features that has this command.
const FEATURE_LEVEL: u32 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkipIds {
    /// Of streams, producers, and changes of the metadata.
    pub ids: u64,
    /// Of nodes.
    pub nodes: u64,
    /// Of the epochs of every stream.
    pub epochs: u32,
    /// Nodes that are gone for good, also those that this part of the log never knew.
    pub removed: Vec<NodeId>,
}

wire_struct!(SkipIds { ids: u64, nodes: u64, epochs: u32, removed: Vec<NodeId> });

impl SkipIds {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let Self { ids, nodes, epochs, mut removed } = self;
        let scalars = &mut shard.scalars;
        scalars.leader_changes = scalars.leader_changes.saturating_add(epochs);
        if ids > 0 {
            scalars.next_stream = scalars.next_stream.saturating_add(ids);
            scalars.next_producer = scalars.next_producer.saturating_add(i64::try_from(ids).unwrap_or(i64::MAX));
            let before = StreamId(scalars.next_stream);
            scalars.metadata_version = scalars.metadata_version.saturating_add(ids);
            shard.metadata.doubtful_streams.put(DoubtfulStreams { before });
        }
        if nodes > 0 {
            removed.push(NodeId(shard.metadata.last_node().0.saturating_add(nodes)));
        }
        removed.retain(|id| shard.standing(*id).is_none());
        let raises = ids > 0 && shard.feature_level() < FEATURE_LEVEL;
        if raises || !removed.is_empty() {
            shard.metadata_change(effects);
        }
        if raises {
            // Whoever knows less cannot read this command, asked or not.
            shard.metadata.features.put(ClusterFeatures { level: FEATURE_LEVEL });
        }
        for id in removed {
            shard.metadata.standings.put(NodeStanding { id, birth: 0, standing: Standing::Removed });
        }
        Ok(Outcome::SkipIds)
    }
}
