//! Takes in a stream that was on another shard: first a place for it, before it is ended there; then its idempotent
//! producers, in pieces; with the last piece it opens, and goes on where it ended. Until then nobody sees it. A step of
//! moving a stream, so it may come again: what comes again changes nothing, nor does anything once the stream is open.

use std::cmp::Ordering;

use record::{LeaderEpoch, StreamId, StreamOffset};

use super::append::make_room_for_producer;
use super::create_streams::{EPOCH_START_MAX, FIRST_OFFSET_MAX};
use crate::assertion::{Broken, ensure};
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{EpochStarts, MoveId, MovedProducer, Transfer, TransferState};
use crate::outcome::{Outcome, ReceiveStreamError, Received};
use crate::producers::BATCHES_REMEMBERED;
use crate::shard::{Position, Shard};
use crate::stream::{EPOCHS_MAX, Standing, Stream};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveStream {
    pub id: MoveId,
    pub stream: StreamId,
    /// Some of its producers. A command without any and without `open` asks for a place.
    pub producers: Vec<MovedProducer>,
    /// With the last piece.
    pub open: Option<OpenStream>,
}

wire_struct!(ReceiveStream { id: MoveId, stream: StreamId, producers: Vec<MovedProducer>, open: Option<OpenStream> });

/// How a stream goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenStream {
    /// Where it ended.
    pub first_offset: StreamOffset,
    /// Above every epoch that it had.
    pub epoch_start: LeaderEpoch,
    /// Those that it had.
    pub epochs: EpochStarts,
}

wire_struct!(OpenStream { first_offset: StreamOffset, epoch_start: LeaderEpoch, epochs: EpochStarts });

impl OpenStream {
    fn is_possible(&self) -> bool {
        (0..=FIRST_OFFSET_MAX).contains(&self.first_offset.0)
            && (0..=EPOCH_START_MAX).contains(&self.epoch_start.0)
            && self.epochs.len() <= EPOCHS_MAX
            && self.epochs.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1)
            && self.epochs.last().is_none_or(|(epoch, at)| *epoch < self.epoch_start && *at <= self.first_offset)
    }
}

impl ReceiveStream {
    /// Asks for a place.
    #[must_use]
    pub const fn prepare(id: MoveId, stream: StreamId) -> Self {
        Self { id, stream, producers: Vec::new(), open: None }
    }

    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        self.receive(shard, effects).map(Outcome::ReceiveStream)
    }

    fn receive(self, shard: &mut Shard, effects: &mut Effects) -> Result<Result<Received, ReceiveStreamError>, Broken> {
        let whole = |producer: &MovedProducer| {
            producer.batches.len() <= BATCHES_REMEMBERED && producer.id.0 >= 0 && producer.epoch.0 >= 0
        };
        if !self.producers.iter().all(whole) || self.open.as_ref().is_some_and(|open| !open.is_possible()) {
            return Ok(Err(ReceiveStreamError::OutOfRange));
        }
        if let Some(refused_or_open) = self.make_place(shard, effects)? {
            return Ok(refused_or_open);
        }
        let Some(slot) = shard.streams.slot(&self.stream) else {
            return Err(Broken { what: format!("there is no place for stream {}", self.stream) });
        };
        for producer in self.producers {
            // One that is in use elsewhere is never refused: then the stream could neither go nor stay.
            make_room_for_producer(shard);
            shard.scalars.producer_uses += 1;
            let used = (shard.scalars.time, shard.scalars.producer_uses);
            let Some(stream) = shard.streams.derived_mut(slot) else {
                return Err(Broken { what: format!("stream {} has gone while it was received", self.stream) });
            };
            shard.producers.receive(self.stream, &mut stream.first_producer, producer, used);
        }
        let Some(OpenStream { first_offset, epoch_start, epochs }) = self.open else {
            return Ok(Ok(Received::Place));
        };
        let leader_changes = shard.scalars.leader_changes;
        let Some(stream) = shard.streams.change(slot) else {
            return Err(Broken { what: format!("stream {} has gone while it was opened", self.stream) });
        };
        ensure!(stream.next_offset == stream.first_offset, "stream {} has records before it is open", self.stream);
        (stream.first_offset, stream.next_offset) = (first_offset, first_offset);
        stream.epoch_shift = i64::from(epoch_start.0) - i64::from(leader_changes);
        stream.epochs = epochs;
        stream.standing = Standing::Open;
        shard.transfers.put(Transfer { stream: self.stream, id: self.id, state: TransferState::Kept });
        effects.created.push(self.stream);
        Ok(Ok(Received::Open { first_offset, epoch: epoch_start }))
    }

    /// The answer, unless the stream has its place here and is still to be opened.
    fn make_place(
        &self,
        shard: &mut Shard,
        effects: &mut Effects,
    ) -> Result<Option<Result<Received, ReceiveStreamError>>, Broken> {
        let asks_for_place = self.producers.is_empty() && self.open.is_none();
        let known = shard.streams.get(&self.stream);
        let earlier = shard.transfers.get(&self.stream).map(|transfer| transfer.id);
        let replaces = match known {
            None => false,
            Some(stream) => match stream.standing {
                // Only what this move brought is what this move wants.
                Standing::Open if earlier == Some(self.id) => {
                    let epoch = stream.epoch(shard.scalars.leader_changes);
                    return Ok(Some(Ok(Received::Open { first_offset: stream.first_offset, epoch })));
                }
                Standing::Open | Standing::Closed => return Ok(Some(Err(ReceiveStreamError::HasEarlierRange))),
                Standing::Receiving => match earlier.cmp(&Some(self.id)) {
                    Ordering::Equal => return Ok(None),
                    Ordering::Greater => return Ok(Some(Err(ReceiveStreamError::Stale))),
                    Ordering::Less => true,
                },
            },
        };
        if !asks_for_place {
            return Ok(Some(Err(ReceiveStreamError::NoPlace)));
        }
        if replaces {
            shard.remove_stream(self.stream, effects)?;
        }
        let streams_max = shard.scalars.settings.streams_max;
        if shard.streams.len() >= streams_max as usize {
            return Ok(Some(Err(ReceiveStreamError::TooManyStreams { streams_max })));
        }
        let stream = Stream { standing: Standing::Receiving, ..Stream::new(self.stream, StreamOffset(0), 0) };
        shard.streams.insert(stream);
        shard.transfers.put(Transfer { stream: self.stream, id: self.id, state: TransferState::Receiving });
        Ok(None)
    }
}
