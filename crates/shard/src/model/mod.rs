//! The records that commands carry and state keeps: what a group, a topic, a node is. Bytes and texts that belong to
//! clients stay opaque here.

mod config;
mod group;
mod moves;
mod node;
mod settings;
mod slots;
mod topic;

pub use config::ConfigResource;
pub use group::{CommittedOffset, GroupRecord, GroupState, GroupVersion, Member, OffsetKey};
pub use moves::{EpochStarts, MoveId, MovedProducer, StreamMove};
pub(crate) use moves::{RebalancingStopped, Transfer, TransferState};
pub(crate) use node::{ClusterFeatures, DoubtfulStreams, NodeStanding, ShardFounding, WantedCopies};
pub use node::{NodeAddress, NodeRecord, ShardRecord, Standing};
pub use settings::Settings;
pub use slots::{MoveCursor, MovedGroup, SLOTS_PER_MOVE_MAX, SlotMove, SlotMoveId};
pub use topic::{Placement, StreamHome, Topic, TopicMode, TopicState};
