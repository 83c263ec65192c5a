//! What a command led to, for whoever proposed it: one variant per command, with an enum of exactly the errors that
//! the command can meet. An error is an answer like any other: it is the same on every replica.

use record::{LeaderEpoch, NodeId, ProducerEpoch, ProducerId, Sequence, StreamOffset, TimestampMs, TopicId};
use smallvec::SmallVec;

use crate::model::{GroupVersion, MoveId, SlotMoveId};

mod moves;

pub use moves::{
    CancelMoveError, CloseSlotsError, CloseStreamError, ClosedStream, CompleteMoveError, DropSlotsError,
    MoveSlotsError, MoveStreamError, ReceiveGroupsError, ReceiveStreamError, Received, ReceivedGroups,
};

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// One per stream, in the order of the command.
    CreateStreams(Vec<Result<(), CreateStreamError>>),
    /// How many of the streams existed.
    DeleteStreams {
        deleted: u32,
    },
    /// One per target, in the order of the command.
    Append(SmallVec<[Result<Appended, AppendError>; 1]>),
    StagePart(Result<(), StageError>),
    AbandonParts {
        abandoned: u32,
    },
    Seal {
        sealed: Option<record::FileNumber>,
    },
    /// The count of leader changes after the command.
    LeaderChange {
        changes: u32,
    },
    ExpireProducers {
        expired: u32,
    },
    Tick,
    Configure,
    /// The first offset, one per stream, in the order of the command.
    DeleteRecords(Vec<Result<StreamOffset, DeleteRecordsError>>),
    PutObject(Result<(), PutObjectError>),
    PutCompacted(Result<(), PutCompactedError>),
    PutGroup(Result<GroupVersion, PutGroupError>),
    DeleteGroup(Result<(), DeleteGroupError>),
    CommitOffsets(Result<(), CommitOffsetsError>),
    DeleteOffsets {
        deleted: u32,
    },
    /// One per topic, in the order of the command.
    CreateTopics(Vec<Result<TopicId, CreateTopicError>>),
    CompleteTopics {
        completed: u32,
    },
    DeleteTopics(Vec<Result<(), UnknownTopic>>),
    CompleteDeletion {
        completed: u32,
    },
    AddPartitions(Result<(), AddPartitionsError>),
    CompletePartitions(Result<(), UnknownTopic>),
    /// The resource's new version, one per alteration.
    AlterConfigs(Vec<Result<u64, AlterConfigError>>),
    AllocateProducerIds(Result<ProducerIdBlock, ProducerIdsExhausted>),
    RegisterNode(Result<(), RegisterNodeError>),
    PutShards,
    AssignSlots(Result<(), AssignSlotsError>),
    /// The cluster's id: the one given if there was none before.
    CreateCluster {
        cluster_id: u128,
    },
    /// The node's id.
    AdmitNode(Result<NodeId, AdmitNodeError>),
    AnnounceNode(Result<(), AnnounceNodeError>),
    SetStanding(Result<(), SetStandingError>),
    /// How many there were not before.
    OpenShards {
        opened: u32,
    },
    CompleteShards {
        completed: u32,
    },
    /// One per move, in the order of the command.
    MoveStreams(Vec<Result<MoveId, MoveStreamError>>),
    CloseStream(Result<ClosedStream, CloseStreamError>),
    ReceiveStream(Result<Received, ReceiveStreamError>),
    CompleteMove(Result<(), CompleteMoveError>),
    CancelMove(Result<(), CancelMoveError>),
    /// Of a command about a group whose slot is on another shard, or on its way: nothing was changed.
    GroupElsewhere,
    MoveSlots(Result<SlotMoveId, MoveSlotsError>),
    CloseSlots(Result<(), CloseSlotsError>),
    ReceiveGroups(Result<ReceivedGroups, ReceiveGroupsError>),
    /// Whether it was news.
    CompleteSlots {
        completed: bool,
    },
    /// Whether something is left.
    DropSlots(Result<bool, DropSlotsError>),
    /// The cluster's level.
    RaiseFeatures(Result<u32, RaiseFeaturesError>),
    SetRebalancing,
    SetCopies(Result<(), SetCopiesError>),
    /// One per topic, in the order of the command.
    AbandonTopics(Vec<Result<(), AbandonTopicError>>),
    SkipIds,
    /// Where the first piece begins that is left.
    SetLogStart(Result<StreamOffset, UnknownTopic>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    #[error("the stream is not on this shard")]
    UnknownStream,
    #[error("the offset is behind the stream's end")]
    OffsetOutOfRange,
    #[error("the stream goes on on another shard")]
    Ended,
}

/// Why an object is not put in its place: it is an orphan then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutObjectError {
    #[error("there are no such sealed ranges")]
    UnknownRanges,
    #[error("nothing in these ranges lives any more")]
    NothingLives,
    #[error("another object has the place of some of these ranges")]
    Replaced,
    #[error("a range holds parts of a batch that is still to come")]
    PartsWait,
}

/// Why a compacted object is not one of the shard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutCompactedError {
    #[error("the stream does not exist")]
    UnknownStream,
    #[error("there are no such sealed ranges")]
    UnknownRanges,
    #[error("nothing of the stream in these ranges lives any more")]
    NothingLives,
    #[error("another compacted object has the place of some of these ranges")]
    Replaced,
    #[error("what the stream has in earlier ranges is not compacted")]
    OlderRangesLeft,
}

/// A batch is in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Of the batch's first record; for a duplicate, the one that it was given the first time.
    pub base_offset: StreamOffset,
    /// The same batch of the same producer was there already and nothing was appended.
    pub duplicate: bool,
    /// The batch's timestamp, where the broker and not the producer gave it.
    pub log_append_time: Option<TimestampMs>,
    /// The stream's first offset.
    pub log_start_offset: StreamOffset,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("the stream is not on this shard")]
    UnknownStream,
    #[error("sequence {actual} of producer {producer} does not follow, {expected} does")]
    OutOfOrderSequence { producer: ProducerId, expected: Sequence, actual: Sequence },
    #[error("epoch {actual} of producer {producer} is older than {current}")]
    InvalidProducerEpoch { producer: ProducerId, current: ProducerEpoch, actual: ProducerEpoch },
    #[error("{producers_max} producers are active on the shard, no other can begin")]
    TooManyProducers { producers_max: u32 },
    #[error("the batch is not one that can be stored")]
    InvalidBatch,
    #[error("transactional batches are not supported")]
    Transactional,
    #[error("parts of the batch are missing")]
    MissingParts,
    #[error("the stream has no offsets left")]
    OffsetsExhausted,
    #[error("the index of {unsealed_batches_max} batches waits to be sealed")]
    IndexFull { unsealed_batches_max: u32 },
    #[error("the stream goes on on another shard")]
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateStreamError {
    #[error("the shard holds {streams_max} streams, no more are possible")]
    TooManyStreams { streams_max: u32 },
    #[error("the first offset or epoch is out of range")]
    OutOfRange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    #[error("part {expected} was expected, part {actual} came")]
    OutOfOrder { expected: u32, actual: u32 },
    #[error("{uploads_max} batches are being staged already")]
    TooManyUploads { uploads_max: u32 },
    #[error("the batch is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutGroupError {
    #[error("the group's version is {} but {} was expected", actual.0, expected.0)]
    Conflict { expected: GroupVersion, actual: GroupVersion },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteGroupError {
    #[error("there is no such group")]
    NotFound,
    #[error("the group has members")]
    NotEmpty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitOffsetsError {
    #[error("the group is not managed by this coordinator any more, or never was")]
    UnknownGroup,
    #[error("the group has no such member")]
    UnknownMember,
    #[error("the member's instance id belongs to another member")]
    FencedInstance,
    #[error("the group is in generation {current}")]
    IllegalGeneration { current: i32 },
    #[error("the group waits for its assignment")]
    RebalanceInProgress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateTopicError {
    #[error("a topic of that name exists")]
    Exists,
    #[error("the topic id is taken")]
    IdTaken,
    #[error("a topic needs at least one partition")]
    NoPartitions,
    #[error("no stream ids are left")]
    StreamsExhausted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such topic")]
pub struct UnknownTopic;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddPartitionsError {
    #[error("there is no such topic")]
    UnknownTopic,
    #[error("the topic has {current} partitions")]
    CountChanged { current: u32 },
    #[error("the topic is being created, or partitions are being added to it")]
    InProgress,
    #[error("no stream ids are left")]
    StreamsExhausted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlterConfigError {
    #[error("there is no such topic")]
    UnknownTopic,
    #[error("the configuration's version is {current}")]
    Conflict { current: u64 },
}

/// Ids from `first` on, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    pub first: ProducerId,
    pub count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no producer ids are left")]
pub struct ProducerIdsExhausted;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterNodeError {
    #[error("the node has started again since, with start number {current}")]
    Stale { current: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitNodeError {
    #[error("the node was removed from the cluster: an emptied data directory makes a new node of it")]
    Removed,
    #[error("the cluster has had as many nodes as it can have")]
    TooManyNodes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceNodeError {
    #[error("the cluster has no such node: it was removed, or never joined")]
    Unknown,
    #[error("the node has started again since, with start number {current}")]
    Stale { current: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetStandingError {
    #[error("the cluster has no such node")]
    UnknownNode,
    #[error("shards have replicas on the node")]
    HasReplicas,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetCopiesError {
    #[error("a shard has 1, 3 or 5 copies")]
    Number,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbandonTopicError {
    #[error("there is no such topic")]
    UnknownTopic,
    #[error("the topic is complete")]
    Complete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaiseFeaturesError {
    #[error("node {node} was not heard to know the level")]
    Unheard { node: NodeId },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignSlotsError {
    #[error("slots are numbered from 0 to 1023")]
    OutOfRange,
    #[error("there is no such shard")]
    UnknownShard,
}

/// Until which offset an epoch reaches, in the terms of KIP-320.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch that is not above the one asked for and has records; [`LeaderEpoch::NONE`] if there is none.
    pub epoch: LeaderEpoch,
    /// Behind its last record; -1 if there is none.
    pub end_offset: StreamOffset,
}
