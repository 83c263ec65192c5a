//! One file per command: its fields, its form in the log, and what applying it does.
//!
//! A command's `apply` reads the command and the shard, nothing else. What it cannot do it says by its outcome; what
//! must not be possible is a [`Broken`](crate::assertion::Broken) assertion.

mod abandon_parts;
mod add_partitions;
mod admit_node;
mod allocate_producer_ids;
mod alter_configs;
mod announce_node;
mod append;
mod assign_slots;
mod commit_offsets;
mod complete_deletion;
mod complete_partitions;
mod complete_shards;
mod complete_topics;
mod configure;
mod create_cluster;
mod create_streams;
mod create_topics;
mod delete_group;
mod delete_offsets;
mod delete_streams;
mod delete_topics;
mod expire_producers;
mod leader_change;
mod open_shards;
mod put_group;
mod put_shards;
mod register_node;
mod seal;
mod set_standing;
mod stage_part;
mod tick;

pub use abandon_parts::AbandonParts;
pub use add_partitions::AddPartitions;
pub use admit_node::AdmitNode;
pub use allocate_producer_ids::AllocateProducerIds;
pub use alter_configs::{AlterConfigs, ConfigAlteration};
pub use announce_node::AnnounceNode;
pub use append::Append;
pub use assign_slots::{AssignSlots, SlotRange};
pub use commit_offsets::{CommitCheck, CommitOffsets};
pub use complete_deletion::CompleteDeletion;
pub use complete_partitions::CompletePartitions;
pub use complete_shards::CompleteShards;
pub use complete_topics::CompleteTopics;
pub use configure::Configure;
pub use create_cluster::CreateCluster;
pub use create_streams::{CreateStreams, NewStream};
pub use create_topics::{CreateTopics, NewTopic};
pub use delete_group::DeleteGroup;
pub use delete_offsets::DeleteOffsets;
pub use delete_streams::DeleteStreams;
pub use delete_topics::DeleteTopics;
pub use expire_producers::ExpireProducers;
pub use leader_change::LeaderChange;
pub use open_shards::{NewShard, OpenShards};
pub use put_group::PutGroup;
pub use put_shards::PutShards;
pub use register_node::RegisterNode;
pub use seal::Seal;
pub use set_standing::SetStanding;
pub use stage_part::{StagePart, UploadId};
pub use tick::Tick;
