//! Gives a move up. First the shard that has the stream is told, which refuses if it has ended the stream already, and
//! does not end it for that move any more; then the shard that has a place for it, which lets go of the place and of
//! nothing else; then the metadata group forgets the move.

use record::{StreamId, TopicId};

use crate::assertion::Broken;
use crate::codec::{DecodeError, Reader, Wire, wire_struct};
use crate::effects::Effects;
use crate::model::{MoveId, Transfer, TransferState};
use crate::outcome::{CancelMoveError, Outcome};
use crate::shard::{Position, Shard};
use crate::stream::Standing;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CancelMove {
    pub id: MoveId,
    pub at: CancelAt,
}

wire_struct!(CancelMove { id: MoveId, at: CancelAt });

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelAt {
    /// The shard that has the stream, or a place for it.
    Shard(StreamId),
    /// The metadata group.
    Metadata { topic: TopicId, partition: u32 },
}

impl Wire for CancelAt {
    const BYTES_MIN: usize = 9;
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Shard(stream) => {
                out.push(0);
                stream.put(out);
            }
            Self::Metadata { topic, partition } => {
                out.push(1);
                topic.put(out);
                partition.put(out);
            }
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(Self::Shard(Wire::take(input)?)),
            1 => Ok(Self::Metadata { topic: Wire::take(input)?, partition: Wire::take(input)? }),
            value => Err(DecodeError::Value { what: "where a move is given up", value: u64::from(value) }),
        }
    }
}

impl CancelMove {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let result = match self.at {
            CancelAt::Shard(stream) => self.keep(shard, stream, effects)?,
            CancelAt::Metadata { topic, partition } => self.forget(shard, (topic, partition), effects),
        };
        Ok(Outcome::CancelMove(result))
    }

    fn keep(
        &self,
        shard: &mut Shard,
        stream: StreamId,
        effects: &mut Effects,
    ) -> Result<Result<(), CancelMoveError>, Broken> {
        let Some(known) = shard.streams.get(&stream) else { return Ok(Err(CancelMoveError::UnknownMove)) };
        let standing = known.standing;
        let is_later = shard.transfers.get(&stream).is_some_and(|transfer| transfer.id > self.id);
        match standing {
            Standing::Closed => return Ok(Err(CancelMoveError::Closed)),
            Standing::Open | Standing::Receiving if is_later => {}
            Standing::Receiving => {
                shard.remove_stream(stream, effects)?;
            }
            Standing::Open => {
                shard.transfers.put(Transfer { stream, id: self.id, state: TransferState::Kept });
            }
        }
        Ok(Ok(()))
    }

    fn forget(&self, shard: &mut Shard, key: (TopicId, u32), effects: &mut Effects) -> Result<(), CancelMoveError> {
        let known = shard.metadata.moves.get(&key).filter(|known| known.id == self.id);
        known.ok_or(CancelMoveError::UnknownMove)?;
        shard.metadata_change(effects);
        shard.metadata.moves.remove(&key);
        Ok(())
    }
}
