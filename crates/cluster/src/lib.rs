//! Which shards there are and where, the metadata group that says so, and the way to a shard's
//! leader wherever it is.
//!
//! What holds here:
//! - a node that starts alone is a cluster of one, on the code that several nodes run: its shards
//!   are groups with one voter, its metadata is shard 0;
//! - work over several shards (making and removing topics, adding partitions, moving slots) begins with an
//!   intention in shard 0, goes on in idempotent steps and ends with a completion in shard 0;
//!   whoever leads shard 0 resumes what has not ended;
//! - a failed write or sync of the commit log stops the node, a failed assertion only its shard.
//!
//! Absent: protocols, messages' contents, groups' rules.

mod announce;
mod balance;
mod belonging;
mod bootstrap;
mod client;
mod clock;
mod cluster;
mod config;
mod digest;
mod ended;
mod epochs;
mod errors;
mod features;
mod forward;
mod found;
mod giving_up;
mod hampered;
mod host;
mod in_sync;
mod join;
mod lagging;
mod lost;
mod members;
mod messages;
mod moves;
mod node;
mod open_shard;
mod operate;
mod orphans;
mod peers;
mod placement;
mod proposal;
mod reads;
mod recover;
mod resume;
mod serving;
mod several;
mod shards;
mod slots;
mod spread;
mod statuses;
mod succession;
mod switch;
mod topics;
mod work;

pub use client::operate;
pub use cluster::{Cluster, INTERNAL_LISTENER, METADATA};
pub use config::{Config, SHARDS_MAX};
pub use digest::{DigestError, digests};
pub use ended::{EndedError, EndedRange};
pub use errors::{
    AddPartitionsError, CreateTopicError, DeleteTopicError, PreferLeaderError, RemoveNodeError, StartError,
};
pub use in_sync::{Holders, Position};
pub use moves::MovesError;
pub use open_shard::OpenShardError;
#[cfg(feature = "fuzzing")]
pub use peers::fuzz_peer_messages;
pub use recover::{RecoverError, recover};
pub use replica::Replayed;
pub use shard::NodeAddress;
pub use shards::ShardHandle;
pub use topics::NewTopic;
