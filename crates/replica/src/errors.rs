//! What can go wrong at a replica, as its callers see it.

use std::io;
use std::path::PathBuf;

use record::{LogIndex, NodeId, ShardId, StreamId, StreamOffset};
use storage::Damage;
use thiserror::Error;

/// Why a proposal got no outcome. Everything but [`ProposeError::Unknown`] means that the command
/// was not applied and never will be, so that the caller may propose it again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Another node leads the shard, or nobody does for the moment.
    #[error("this node does not lead the shard")]
    NotLeader {
        /// The leader, where it is known.
        leader: Option<NodeId>,
    },
    /// More is waiting than the shard's queue may hold.
    #[error("the shard's queue is full")]
    Busy,
    /// The disk has no room besides the reserve.
    #[error("the disk is full")]
    DiskFull,
    /// The leader changed, or the node stops, while the command was under way: it may or may not
    /// be applied.
    #[error("it is not known whether the command was applied")]
    Unknown,
    /// The replica is stopping or out of service.
    #[error("the shard is out of service on this node")]
    Stopped,
    /// The command is larger than an entry may be.
    #[error("a command of {bytes} bytes is larger than the {bytes_max} bytes that an entry may have")]
    TooLarge {
        /// The command's size.
        bytes: usize,
        /// What an entry may have.
        bytes_max: usize,
    },
}

/// Why another member's request got no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// The bytes are no request of this version.
    #[error("not a request between members: {0}")]
    Message(String),
    /// Of the space that is kept free too much is used to take what others have.
    #[error("the disk is full")]
    DiskFull,
    /// The replica is stopping or out of service.
    #[error("the shard is out of service on this node")]
    Stopped,
}

/// Why a group's members were not changed, or are not known to have been.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MembersError {
    /// Another node leads the shard, or nobody does for the moment.
    #[error("this node does not lead the shard")]
    NotLeader {
        /// The leader, where it is known.
        leader: Option<NodeId>,
    },
    /// Another change is under way, or this one is none that may be made now.
    #[error("the members cannot be changed so now: {0}")]
    Refused(String),
    /// The replica is stopping or out of service.
    #[error("the shard is out of service on this node")]
    Stopped,
}

/// Why records could not be read.
#[derive(Debug, Clone, Error)]
pub enum FetchError {
    /// No such stream on this shard.
    #[error("stream {} does not exist on this shard", .0.0)]
    UnknownStream(StreamId),
    /// The offset lies before the first or after the next offset of the stream.
    #[error("offset {} is outside of {}..={}", offset.0, first.0, next.0)]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: StreamOffset,
        /// The stream's first offset.
        first: StreamOffset,
        /// The offset that the next record will get.
        next: StreamOffset,
    },
    /// What the index names is not what lies in the log: damage, reported and never served.
    #[error("stream {} offset {}: {reason}", stream.0, offset.0)]
    Damaged {
        /// The stream that was read.
        stream: StreamId,
        /// The offset of the batch.
        offset: StreamOffset,
        /// What was found.
        reason: String,
    },
    /// The file could not be read.
    #[error("the log could not be read: {0}")]
    Io(#[source] std::sync::Arc<io::Error>),
    /// The replica is out of service.
    #[error("the shard is out of service on this node")]
    Stopped,
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Io(std::sync::Arc::new(error))
    }
}

/// Why a replica is out of service on this node. Other shards go on.
#[derive(Debug, Clone, Error)]
pub enum OutOfService {
    /// A command broke an invariant of the state machine.
    #[error("shard {}: applying the entry {} failed an assertion: {what}", shard.0, index.0)]
    Assertion {
        /// The shard.
        shard: ShardId,
        /// The entry.
        index: LogIndex,
        /// The command and the assertion.
        what: String,
    },
    /// A file beside the log could not be written or synced; the node stops.
    #[error("shard {}: cannot {operation} {}: {source}", shard.0, path.display())]
    Files {
        /// The shard.
        shard: ShardId,
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// What the disk says.
        #[source]
        source: std::sync::Arc<io::Error>,
    },
    /// A task of the replica panicked.
    #[error("shard {}: the task `{task}` panicked", shard.0)]
    Panicked {
        /// The shard.
        shard: ShardId,
        /// Which one.
        task: &'static str,
    },
    /// The consensus library stopped.
    #[error("shard {}: consensus stopped: {reason}", shard.0)]
    Consensus {
        /// The shard.
        shard: ShardId,
        /// The library's reason.
        reason: String,
    },
}

/// Why a replica could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// A checkpoint could not be read or written.
    #[error("shard {}: its checkpoint cannot be read", shard.0)]
    Checkpoint {
        /// The shard.
        shard: ShardId,
        /// What the storage says.
        #[source]
        source: io::Error,
    },
    /// The checkpoint was read but does not describe a state.
    #[error("shard {}: its checkpoint is damaged: {reason}", shard.0)]
    Restore {
        /// The shard.
        shard: ShardId,
        /// What is wrong with it.
        reason: String,
    },
    /// The checkpoint is of a later program than this.
    #[error("shard {}: {reason}; start the node with the program that wrote it, or a later one", shard.0)]
    Later {
        /// The shard.
        shard: ShardId,
        /// What is not known.
        reason: String,
    },
    /// Entries that were durable are gone.
    #[error(
        "shard {}: {damage}: they are gone, and {needed}; bring the file back as it was, or make an empty file {} and \
         start again to go on without what is lost", shard.0, accept.display()
    )]
    Lost {
        /// The shard.
        shard: ShardId,
        /// Where they lay, as far as that can be told.
        damage: Damage,
        /// Why it matters.
        needed: &'static str,
        /// The file that accepts it.
        accept: PathBuf,
    },
    /// Entries that were durable are gone here, and other members have them.
    #[error(
        "shard {}: {damage}: they are gone, and {needed}; the other members of the shard's group have them: this copy neither \
         votes nor leads until it was brought here anew", shard.0
    )]
    SetAside {
        /// The shard.
        shard: ShardId,
        /// Where they lay, as far as that can be told.
        damage: Damage,
        /// Why it matters.
        needed: &'static str,
    },
    /// The log could not be read or written.
    #[error("shard {}: its log cannot be read or written", shard.0)]
    Log {
        /// The shard.
        shard: ShardId,
        /// What the storage says.
        #[source]
        source: io::Error,
    },
    /// The log does not reach back to the checkpoint.
    #[error("shard {}: the log begins after entry {}, the checkpoint ends at {}", shard.0, purged.0, checkpoint.0)]
    Gap {
        /// The shard.
        shard: ShardId,
        /// The last entry that the log has let go.
        purged: LogIndex,
        /// The last entry that the checkpoint covers.
        checkpoint: LogIndex,
    },
    /// The configuration is not usable.
    #[error("shard {}: {reason}", shard.0)]
    Config {
        /// The shard.
        shard: ShardId,
        /// What is wrong.
        reason: String,
    },
    /// The consensus library could not start.
    #[error("shard {}: consensus cannot start: {reason}", shard.0)]
    Consensus {
        /// The shard.
        shard: ShardId,
        /// The library's reason.
        reason: String,
    },
    /// What lay in the log was not applied in time.
    #[error("shard {}: the log was not recovered within {seconds} s", shard.0)]
    Recovery {
        /// The shard.
        shard: ShardId,
        /// How long was waited.
        seconds: u64,
    },
}
