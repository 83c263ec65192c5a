//! The semantics of the broker: topics, appends, waiting readers, consumer groups, configuration.
//!
//! Everything here is said in the words of brokers (topic, partition, group, generation), never in those of a
//! wire protocol: a protocol crate turns bytes into calls of [`Broker`] and its answers into bytes. What is kept
//! true: nothing is told to a client before it is durable in a shard, every queue and every wait has a bound, and
//! each operation can fail only in the ways its own error type lists.
//!
//! Absent: any protocol, any file, any socket, any consensus.

mod background;
mod barriers;
mod broker;
mod compaction;
pub mod config;
pub mod configs;
pub mod connections;
pub mod fetch;
pub mod groups;
pub mod log_dirs;
pub mod memory;
pub mod nodes;
pub mod offsets;
pub mod placement;
pub mod produce;
pub mod producer_ids;
pub mod quorum;
pub mod records;
mod retention;
mod sizes;
pub mod space;
pub mod topics;

pub use barriers::Barriers;
pub use broker::Broker;
pub use cluster::{PreferLeaderError, RemoveNodeError};
pub use config::Config;
