//! The state machine of a shard: what its log means. Pure code: no clock, no chance, no disk, no network, no task, and
//! no order of a hash map ever reaches what comes out of it. Two shards that applied the same entries are the same.
//!
//! In reading order:
//! - [`Command`] and [`commands`]: what a shard can be told; one file per command, with what applying it does
//! - [`EntryBuilder`] and [`EntryCommands`]: many commands in one entry of the log, bodies behind them
//! - [`Shard`]: the state; [`Shard::apply`] is the only way to change what replicas share, [`Outcome`] is the answer to
//!   the proposer, [`Effects`] is what others wait for
//! - [`StreamView`], [`GroupView`], [`Topic`] and the other views: what is read of it
//! - [`SealedIndex`]: the index of a range of the log on its way from the state into a file
//! - [`Shard::begin_capture`], [`Restore`]: checkpoints, written beside `apply`
//!
//! The log, the files of sealed indexes and Raft are not known here.

mod assertion;
pub mod codec;
mod command;
pub mod commands;
mod effects;
mod entry;
mod model;
mod outcome;
mod outcome_wire;
mod slots;

mod batches;
mod compacted;
mod digest;
mod features;
mod file_set;
mod groups;
mod metadata;
mod moving;
mod objects;
mod producers;
mod ranges;
mod sealing;
mod shard;
mod space;
mod stream;
mod table;
mod tables;
mod tenures;
mod uploads;

mod capture;
mod fuzz;
mod query;
mod restore;
mod stream_view;

pub use assertion::AssertionFailed;
pub use capture::{CaptureRunning, CaptureStart};
pub use codec::{DecodeError, Reader};
pub use command::Command;
pub use compacted::CompactedObject;
pub use effects::{Applied, Effects, Growth, ObjectChange};
pub use entry::{
    BODY_JOINED_BYTES, ENTRY_HEADER_BYTES, EntryBuilder, EntryCommands, EntryHeader, PlacedCommand, entry_head_bytes,
};
pub use features::{FEATURE_LEVEL, FIRST_FEATURE_LEVEL};
pub use file_set::FileSet;
pub use fuzz::{fuzz_apply, fuzz_entry, fuzz_restore};
pub use model::{
    CommittedOffset, ConfigResource, EpochStarts, GroupRecord, GroupState, GroupVersion, Member, MoveCursor, MoveId,
    MovedGroup, MovedProducer, NodeAddress, NodeRecord, OffsetKey, Placement, SLOTS_PER_MOVE_MAX, Settings,
    ShardRecord, SlotMove, SlotMoveId, Standing, StreamHome, StreamMove, Topic, TopicMode, TopicState,
};
pub use moving::MovingPiece;
pub use objects::{PlacedObject, Spot};
pub use outcome::{
    AbandonTopicError, AddPartitionsError, AdmitNodeError, AlterConfigError, AnnounceNodeError, AppendError, Appended,
    AssignSlotsError, CancelMoveError, CloseSlotsError, CloseStreamError, ClosedStream, CommitOffsetsError,
    CompleteMoveError, CreateStreamError, CreateTopicError, DeleteGroupError, DeleteRecordsError, DropSlotsError,
    EpochEnd, MoveSlotsError, MoveStreamError, Outcome, ProducerIdBlock, ProducerIdsExhausted, PutCompactedError,
    PutGroupError, PutObjectError, RaiseFeaturesError, ReceiveGroupsError, ReceiveStreamError, Received,
    ReceivedGroups, RegisterNodeError, SetCopiesError, SetStandingError, StageError, UnknownTopic,
};
pub use query::{GroupView, Intention};
pub use ranges::{PartsPage, RangeView};
pub use restore::{Restore, RestoreError};
pub use sealing::{SealedIndex, SealedStream};
pub use shard::Shard;
pub use slots::{SLOTS, slot_of};
pub use stream::epoch_of;
pub use stream_view::{Batches, FrontPlace, Located, StreamView};
pub use uploads::BATCH_BYTES_MAX;

#[cfg(test)]
mod tests;
