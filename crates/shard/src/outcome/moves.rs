//! What moving streams and slots from shard to shard led to.

use record::{LeaderEpoch, StreamOffset};

use crate::model::{EpochStarts, MoveCursor, MovedProducer, SlotMoveId};

/// A stream that has ended on a shard, and a piece of what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedStream {
    pub first_offset: StreamOffset,
    /// Where it ended.
    pub next_offset: StreamOffset,
    /// Its last epoch here.
    pub epoch: LeaderEpoch,
    pub epochs: EpochStarts,
    pub producers: Vec<MovedProducer>,
    /// There are more producers than these.
    pub more: bool,
}

/// How far a stream is that is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It has its place.
    Place,
    /// It is there, and begins with that offset.
    Open { first_offset: StreamOffset, epoch: LeaderEpoch },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveStreamError {
    #[error("there is no such topic")]
    UnknownTopic,
    #[error("the topic has no such partition")]
    UnknownPartition,
    #[error("the partition is moving already")]
    Moving,
    #[error("there is no such shard")]
    UnknownShard,
    #[error("the partition is on the shard, or was")]
    OnShard,
    #[error("as many moves as possible are under way")]
    TooManyMoves,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseStreamError {
    #[error("the stream is not on this shard")]
    UnknownStream,
    #[error("the move was given up")]
    Cancelled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveStreamError {
    #[error("the shard holds {streams_max} streams, no more are possible")]
    TooManyStreams { streams_max: u32 },
    #[error("an offset, an epoch or a producer is out of range")]
    OutOfRange,
    #[error("the stream is on this shard, or an earlier range of it")]
    HasEarlierRange,
    #[error("the stream is received by a later move")]
    Stale,
    #[error("the stream has no place here")]
    NoPlace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompleteMoveError {
    #[error("there is no such move")]
    UnknownMove,
    #[error("there is no such topic any more")]
    UnknownTopic,
    #[error("the offset is before those that the stream has")]
    OutOfRange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelMoveError {
    #[error("there is no such move")]
    UnknownMove,
    #[error("the stream has moved, or is about to")]
    Closed,
}

/// How far a shard is with the groups that move to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedGroups {
    /// Behind what has come; `None` before the first of it, and when all has.
    pub cursor: Option<MoveCursor>,
    /// All has come, and the slots are the shard's.
    pub complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveSlotsError {
    #[error("not slots of one move: some, ascending, each once")]
    OutOfRange,
    #[error("there is no such shard")]
    UnknownShard,
    #[error("not all of the slots are on the shard that they are to leave")]
    NotThere,
    #[error("some of the slots are moving")]
    Moving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseSlotsError {
    #[error("not slots of one move: some, ascending, each once")]
    OutOfRange,
    #[error("the shard does not hold all of the slots")]
    NotHeld,
    #[error("the later move {} has concerned the slots since", current.0)]
    Stale { current: SlotMoveId },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveGroupsError {
    #[error("not slots of one move: some, ascending, each once")]
    OutOfRange,
    #[error("the shard still has something of the slots")]
    NotDropped,
    #[error("the later move {} has concerned the slots since", current.0)]
    Stale { current: SlotMoveId },
    #[error("the groups are not of the slots, or out of order")]
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropSlotsError {
    #[error("not slots of one move: some, ascending, each once")]
    OutOfRange,
    #[error("the slots were not closed by the move")]
    NotClosed,
}
