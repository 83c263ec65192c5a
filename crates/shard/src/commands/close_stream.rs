//! Ends a stream on this shard, because it goes on on another: from here on nothing is appended to it here, and what it
//! takes along does not change any more. A step of moving a stream, so it may come again, and comes once for each piece
//! of what is taken along.

use record::{ProducerId, StreamId};

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{MoveId, Transfer, TransferState};
use crate::outcome::{CloseStreamError, ClosedStream, Outcome};
use crate::shard::{Position, Shard};
use crate::stream::Standing;

/// Producers in one piece: with five batches each some 300 KiB. Few in tests, so that there are several pieces.
const PRODUCERS_PER_PIECE: usize = if cfg!(test) { 2 } else { 2_000 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseStream {
    pub id: MoveId,
    pub stream: StreamId,
    /// The piece behind the one that ended with this producer; the first one if there is none.
    pub after: Option<ProducerId>,
}

wire_struct!(CloseStream { id: MoveId, stream: StreamId, after: Option<ProducerId> });

impl CloseStream {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        Ok(Outcome::CloseStream(self.close(shard, effects)))
    }

    fn close(&self, shard: &mut Shard, effects: &mut Effects) -> Result<ClosedStream, CloseStreamError> {
        let slot = shard.streams.slot(&self.stream).ok_or(CloseStreamError::UnknownStream)?;
        let stream = shard.streams.at(slot).ok_or(CloseStreamError::UnknownStream)?;
        let known = shard.transfers.get(&self.stream).copied();
        let epoch = match (stream.standing, known) {
            // Not here yet, so it cannot go.
            (Standing::Receiving, _) => return Err(CloseStreamError::UnknownStream),
            (_, Some(Transfer { id, .. })) if id > self.id => return Err(CloseStreamError::Cancelled),
            (Standing::Open, Some(Transfer { id, .. })) if id == self.id => return Err(CloseStreamError::Cancelled),
            (Standing::Closed, Some(Transfer { state: TransferState::Closed { epoch }, .. })) => epoch,
            (Standing::Open | Standing::Closed, _) => stream.epoch(shard.scalars.leader_changes),
        };
        let state = TransferState::Closed { epoch };
        if known.is_none_or(|known| known.id < self.id) {
            shard.transfers.put(Transfer { stream: self.stream, id: self.id, state });
        }
        if let Some(stream) = shard.streams.derived_mut(slot)
            && stream.standing == Standing::Open
        {
            stream.standing = Standing::Closed;
            effects.closed.push(self.stream);
        }
        let stream = shard.streams.at(slot).ok_or(CloseStreamError::UnknownStream)?;
        let (producers, more) = shard.producers.moved(stream.first_producer, self.after, PRODUCERS_PER_PIECE);
        Ok(ClosedStream {
            first_offset: stream.first_offset,
            next_offset: stream.next_offset,
            epoch,
            epochs: stream.epochs.clone(),
            producers,
            more,
        })
    }
}
