//! A stream on its way from one shard to another: the intention that the metadata group keeps, and what the two shards
//! note of it.

use record::{LeaderEpoch, ProducerEpoch, ProducerId, ShardId, StreamId, StreamOffset, TopicId};

use crate::codec::{DecodeError, Reader, Wire, wire_struct};
use crate::producers::ProducerBatch;
use crate::stream::Standing;

/// Names a move. A later one has a larger number, so that what comes late of an earlier one is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveId(pub u64);

impl Wire for MoveId {
    const BYTES_MIN: usize = 8;
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::take(input).map(Self)
    }
}

/// A move that is under way: whoever leads the metadata group brings it to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamMove {
    pub topic: TopicId,
    pub partition: u32,
    pub id: MoveId,
    pub stream: StreamId,
    pub from: ShardId,
    pub to: ShardId,
}

wire_struct!(StreamMove { topic: TopicId, partition: u32, id: MoveId, stream: StreamId, from: ShardId, to: ShardId });

/// An idempotent producer as it goes with its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedProducer {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    /// The oldest first.
    pub(crate) batches: Vec<ProducerBatch>,
}

wire_struct!(MovedProducer { id: ProducerId, epoch: ProducerEpoch, batches: Vec<ProducerBatch> });

impl MovedProducer {
    /// The producer.
    #[must_use]
    pub const fn id(&self) -> ProducerId {
        self.id
    }
}

/// Streams are not moved without being asked. There is one, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RebalancingStopped {}

wire_struct!(RebalancingStopped {});

impl RebalancingStopped {
    pub(crate) const KEY: u8 = 0;
}

/// What a shard that a stream moves from or to notes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) stream: StreamId,
    pub(crate) id: MoveId,
    pub(crate) state: TransferState,
}

wire_struct!(Transfer { stream: StreamId, id: MoveId, state: TransferState });

impl Transfer {
    pub(crate) const fn standing(&self) -> Standing {
        match self.state {
            TransferState::Receiving => Standing::Receiving,
            TransferState::Closed { .. } => Standing::Closed,
            TransferState::Kept => Standing::Open,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferState {
    /// It comes here; nobody sees it yet.
    Receiving,
    /// It has ended here, in that epoch, which stays its own whatever becomes of the shard's leader.
    Closed { epoch: LeaderEpoch },
    /// It is here: the move of that number brought it, or was given up, and no earlier one ends it.
    Kept,
}

impl Wire for TransferState {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Receiving => out.push(0),
            Self::Closed { epoch } => {
                out.push(1);
                epoch.put(out);
            }
            Self::Kept => out.push(2),
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(Self::Receiving),
            1 => Ok(Self::Closed { epoch: LeaderEpoch::take(input)? }),
            2 => Ok(Self::Kept),
            value => Err(DecodeError::Value { what: "how a stream moves", value: u64::from(value) }),
        }
    }
}

/// Epochs in which something was appended to a stream, and the first offset of each.
pub type EpochStarts = Vec<(LeaderEpoch, StreamOffset)>;
