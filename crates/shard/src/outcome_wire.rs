//! Outcomes as bytes, for the node that a command was forwarded from. They are never stored: the
//! nodes of one cluster agree on a version before they exchange any.

use record::{
    FileNumber, LeaderEpoch, NodeId, ProducerEpoch, ProducerId, Sequence, StreamOffset, TimestampMs, TopicId,
};
use smallvec::SmallVec;

use crate::codec::{DecodeError, Reader, Wire, decode, wire_struct};
use crate::model::{EpochStarts, GroupVersion, MoveCursor, MoveId, MovedProducer, SlotMoveId};
use crate::outcome::{
    AbandonTopicError, AddPartitionsError, AdmitNodeError, AlterConfigError, AnnounceNodeError, AppendError, Appended,
    AssignSlotsError, CancelMoveError, CloseSlotsError, CloseStreamError, ClosedStream, CommitOffsetsError,
    CompleteMoveError, CreateStreamError, CreateTopicError, DeleteGroupError, DeleteRecordsError, DropSlotsError,
    MoveSlotsError, MoveStreamError, Outcome, ProducerIdBlock, ProducerIdsExhausted, PutCompactedError, PutGroupError,
    PutObjectError, RaiseFeaturesError, ReceiveGroupsError, ReceiveStreamError, Received, ReceivedGroups,
    RegisterNodeError, SetCopiesError, SetStandingError, StageError, UnknownTopic,
};

impl Wire for () {
    const BYTES_MIN: usize = 0;
    fn put(&self, _: &mut Vec<u8>) {}
    fn take(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

impl<T: Wire, E: Wire> Wire for Result<T, E> {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        self.is_ok().put(out);
        match self {
            Ok(value) => value.put(out),
            Err(error) => error.put(out),
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::take(input)? { Ok(T::take(input)?) } else { Err(E::take(input)?) })
    }
}

/// A number for each variant, then its fields.
macro_rules! wire_enum {
    ($name:ident, $what:literal: $(
        $number:literal $variant:ident
        $(($inner:ident: $kind:ty))?
        $({ $($field:ident: $field_kind:ty),* })?
    ),* $(,)?) => {
        impl Wire for $name {
            const BYTES_MIN: usize = 1;
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $(($inner))? $({ $($field),* })? => {
                        out.push($number);
                        $($inner.put(out);)?
                        $($($field.put(out);)*)?
                    })*
                }
            }
            fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(match u8::take(input)? {
                    $($number => Self::$variant $((<$kind as Wire>::take(input)?))? $({ $($field: <$field_kind as Wire>::take(input)?),* })?,)*
                    value => return Err(DecodeError::Value { what: $what, value: u64::from(value) }),
                })
            }
        }
    };
}

wire_enum!(Outcome, "an outcome":
    1 CreateStreams(results: Vec<Result<(), CreateStreamError>>),
    2 DeleteStreams { deleted: u32 },
    3 Append(results: SmallVec<[Result<Appended, AppendError>; 1]>),
    4 StagePart(result: Result<(), StageError>),
    5 AbandonParts { abandoned: u32 },
    6 Seal { sealed: Option<FileNumber> },
    7 LeaderChange { changes: u32 },
    8 ExpireProducers { expired: u32 },
    9 Tick,
    10 Configure,
    11 DeleteRecords(results: Vec<Result<StreamOffset, DeleteRecordsError>>),
    12 PutObject(result: Result<(), PutObjectError>),
    13 PutCompacted(result: Result<(), PutCompactedError>),
    32 PutGroup(result: Result<GroupVersion, PutGroupError>),
    33 DeleteGroup(result: Result<(), DeleteGroupError>),
    34 CommitOffsets(result: Result<(), CommitOffsetsError>),
    35 DeleteOffsets { deleted: u32 },
    36 GroupElsewhere,
    64 CreateTopics(results: Vec<Result<TopicId, CreateTopicError>>),
    65 CompleteTopics { completed: u32 },
    66 DeleteTopics(results: Vec<Result<(), UnknownTopic>>),
    67 CompleteDeletion { completed: u32 },
    68 AddPartitions(result: Result<(), AddPartitionsError>),
    69 CompletePartitions(result: Result<(), UnknownTopic>),
    70 AlterConfigs(results: Vec<Result<u64, AlterConfigError>>),
    71 AllocateProducerIds(result: Result<ProducerIdBlock, ProducerIdsExhausted>),
    72 RegisterNode(result: Result<(), RegisterNodeError>),
    73 PutShards,
    74 AssignSlots(result: Result<(), AssignSlotsError>),
    75 CreateCluster { cluster_id: u128 },
    76 AdmitNode(result: Result<NodeId, AdmitNodeError>),
    77 AnnounceNode(result: Result<(), AnnounceNodeError>),
    78 SetStanding(result: Result<(), SetStandingError>),
    79 OpenShards { opened: u32 },
    80 CompleteShards { completed: u32 },
    81 MoveStreams(results: Vec<Result<MoveId, MoveStreamError>>),
    82 CloseStream(result: Result<ClosedStream, CloseStreamError>),
    83 ReceiveStream(result: Result<Received, ReceiveStreamError>),
    84 CompleteMove(result: Result<(), CompleteMoveError>),
    85 CancelMove(result: Result<(), CancelMoveError>),
    86 MoveSlots(result: Result<SlotMoveId, MoveSlotsError>),
    87 CloseSlots(result: Result<(), CloseSlotsError>),
    88 ReceiveGroups(result: Result<ReceivedGroups, ReceiveGroupsError>),
    89 CompleteSlots { completed: bool },
    90 DropSlots(result: Result<bool, DropSlotsError>),
    91 RaiseFeatures(result: Result<u32, RaiseFeaturesError>),
    92 SetRebalancing,
    93 SetCopies(result: Result<(), SetCopiesError>),
    94 AbandonTopics(results: Vec<Result<(), AbandonTopicError>>),
    95 SkipIds,
    96 SetLogStart(result: Result<StreamOffset, UnknownTopic>),
);

wire_enum!(DeleteRecordsError, "a refusal of a deletion of records":
    1 UnknownStream,
    2 OffsetOutOfRange,
    3 Ended,
);

wire_enum!(PutObjectError, "a refusal of an object":
    1 UnknownRanges,
    2 NothingLives,
    3 Replaced,
    4 PartsWait,
);

wire_enum!(PutCompactedError, "a refusal of a compacted object":
    1 UnknownStream,
    2 UnknownRanges,
    3 NothingLives,
    4 Replaced,
    5 OlderRangesLeft,
);

wire_enum!(AppendError, "a refusal of an append":
    1 UnknownStream,
    2 OutOfOrderSequence { producer: ProducerId, expected: Sequence, actual: Sequence },
    3 InvalidProducerEpoch { producer: ProducerId, current: ProducerEpoch, actual: ProducerEpoch },
    4 TooManyProducers { producers_max: u32 },
    5 InvalidBatch,
    6 Transactional,
    7 MissingParts,
    8 OffsetsExhausted,
    9 IndexFull { unsealed_batches_max: u32 },
    10 Closed,
);

wire_enum!(CreateStreamError, "a refusal of a stream":
    1 TooManyStreams { streams_max: u32 },
    2 OutOfRange,
);

wire_enum!(StageError, "a refusal of a part":
    1 OutOfOrder { expected: u32, actual: u32 },
    2 TooManyUploads { uploads_max: u32 },
    3 TooLarge { bytes_max: u64 },
);

wire_enum!(PutGroupError, "a refusal of a group":
    1 Conflict { expected: GroupVersion, actual: GroupVersion },
);

wire_enum!(DeleteGroupError, "a refusal to delete a group":
    1 NotFound,
    2 NotEmpty,
);

wire_enum!(CommitOffsetsError, "a refusal of offsets":
    1 UnknownGroup,
    2 UnknownMember,
    3 FencedInstance,
    4 IllegalGeneration { current: i32 },
    5 RebalanceInProgress,
);

wire_enum!(CreateTopicError, "a refusal of a topic":
    1 Exists,
    2 IdTaken,
    3 NoPartitions,
    4 StreamsExhausted,
);

wire_enum!(AddPartitionsError, "a refusal of partitions":
    1 UnknownTopic,
    2 CountChanged { current: u32 },
    3 InProgress,
    4 StreamsExhausted,
);

wire_enum!(AlterConfigError, "a refusal of a configuration":
    1 UnknownTopic,
    2 Conflict { current: u64 },
);

wire_enum!(RegisterNodeError, "a refusal of a node":
    1 Stale { current: u64 },
);

wire_enum!(AdmitNodeError, "a refusal of a new node":
    1 Removed,
    2 TooManyNodes,
);

wire_enum!(AnnounceNodeError, "a refusal of a node's addresses":
    1 Unknown,
    2 Stale { current: u64 },
);

wire_enum!(SetStandingError, "a refusal of a node's standing":
    1 UnknownNode,
    2 HasReplicas,
);

wire_enum!(SetCopiesError, "a refusal of a number of copies":
    1 Number,
);

wire_enum!(AbandonTopicError, "a refusal to abandon a topic":
    1 UnknownTopic,
    2 Complete,
);

wire_enum!(RaiseFeaturesError, "a refusal of a level of features":
    1 Unheard { node: NodeId },
);

wire_enum!(AssignSlotsError, "a refusal of slots":
    1 OutOfRange,
    2 UnknownShard,
);

wire_enum!(MoveStreamError, "a refusal to move a stream":
    1 UnknownTopic,
    2 UnknownPartition,
    3 Moving,
    4 UnknownShard,
    5 OnShard,
    6 TooManyMoves,
);

wire_enum!(CloseStreamError, "a refusal to end a stream":
    1 UnknownStream,
    2 Cancelled,
);

wire_enum!(ReceiveStreamError, "a refusal to receive a stream":
    1 TooManyStreams { streams_max: u32 },
    2 OutOfRange,
    3 HasEarlierRange,
    4 Stale,
    5 NoPlace,
);

wire_enum!(Received, "how far a stream is that is received":
    1 Place,
    2 Open { first_offset: StreamOffset, epoch: LeaderEpoch },
);

wire_enum!(CompleteMoveError, "a refusal to complete a move":
    1 UnknownMove,
    2 UnknownTopic,
    3 OutOfRange,
);

wire_enum!(CancelMoveError, "a refusal to give a move up":
    1 UnknownMove,
    2 Closed,
);

wire_struct!(ClosedStream {
    first_offset: StreamOffset,
    next_offset: StreamOffset,
    epoch: LeaderEpoch,
    epochs: EpochStarts,
    producers: Vec<MovedProducer>,
    more: bool,
});
wire_enum!(MoveSlotsError, "a refusal to move slots":
    1 OutOfRange,
    2 UnknownShard,
    3 NotThere,
    4 Moving,
);

wire_enum!(CloseSlotsError, "a refusal to close slots":
    1 OutOfRange,
    2 NotHeld,
    3 Stale { current: SlotMoveId },
);

wire_enum!(ReceiveGroupsError, "a refusal of groups that move":
    1 OutOfRange,
    2 NotDropped,
    3 Stale { current: SlotMoveId },
    4 Foreign,
);

wire_enum!(DropSlotsError, "a refusal to drop slots":
    1 OutOfRange,
    2 NotClosed,
);

wire_struct!(ReceivedGroups { cursor: Option<MoveCursor>, complete: bool });
wire_struct!(Appended {
    base_offset: StreamOffset,
    duplicate: bool,
    log_append_time: Option<TimestampMs>,
    log_start_offset: StreamOffset,
});
wire_struct!(ProducerIdBlock { first: ProducerId, count: u32 });
wire_struct!(UnknownTopic {});
wire_struct!(ProducerIdsExhausted {});

impl Outcome {
    /// Appends the outcome in its form between nodes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.put(out);
    }

    /// The outcome that `bytes` are, and nothing else.
    ///
    /// # Errors
    /// When they are none of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests;
