//! One shard on this node: a member of a Raft group, its state machine and its part of the commit log.
//!
//! What holds here:
//! - proposals enter the log in the order in which they were made, and none enters twice: an
//!   entry is tried again only when consensus refused it before appending and nothing behind it
//!   was accepted;
//! - an outcome is told only when the entry is durable on a quorum and applied;
//! - only applied, hence committed, data is read;
//! - a checkpoint covers nothing whose index files are not durable, and the log lets go of nothing
//!   that the last durable checkpoint does not cover;
//! - a replica that lacks the log before a member's purge mark is started on a state and on live data
//!   that were brought here from another member, all of them durable;
//! - a failed assertion takes this shard out of service on this node, and no other.
//!
//! Absent: any protocol, topics and their names, and every knowledge of other shards.

mod apply;
mod catch_up;
mod checkpoint;
mod config;
mod core;
mod errors;
mod fetch;
mod full_disk;
mod guard;
mod leadership;
mod lifecycle;
mod liveness;
mod losses;
mod maintenance;
mod members;
mod objects;
mod parts;
mod pending;
mod proposer;
mod purging;
mod raft;
mod recover;
mod replay;
mod replica;
mod replication;
mod retention;
mod sealing;
mod space;
mod times;
mod waiters;

pub use catch_up::{
    Donor, InstallError, InstallParts, InstallPhase, InstallProgress, Later, give_way, install, let_go, set_aside,
};
pub use config::{COMMAND_BYTES_MAX, Config};
pub use errors::{AnswerError, FetchError, MembersError, OutOfService, ProposeError, StartError};
pub use fetch::{AnswerMemory, Fetched, LookUp, Plan, Planned, Repeated, StoredBatch, Wish, read_plans, read_within};
pub use leadership::Leadership;
pub use lifecycle::{Founding, Parts};
pub use members::Members;
pub use objects::{CompactionPolicy, ObjectCounts, Pace, Work, WorkKind};
pub use pending::{Pending, ProposeResult};
pub use raft::act_together;
#[cfg(feature = "fuzzing")]
pub use raft::fuzz_messages;
pub use raft::network::{Alone, AnswerStream, Lane, Peer, Transport};
pub use recover::{Found, examine, make_alone};
pub use replay::{ReplayError, Replayed, replay, replay_state};
pub use replica::{Replica, StateGuard};
pub use replication::MemberProgress;
pub use retention::Expired;
pub use space::{ShardSpace, Taken};
pub use times::{EpochEnd, TimedOffset};
pub use waiters::{Seat, Waiter};
