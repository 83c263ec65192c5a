//! Begins to move streams to other shards. Nothing has moved yet: the record is what whoever leads goes on with, until
//! [`CompleteMove`](super::CompleteMove) or [`CancelMove`](super::CancelMove).

use record::{ShardId, TopicId};

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{MoveId, StreamMove, TopicState};
use crate::outcome::{MoveStreamError, Outcome};
use crate::shard::{Position, Shard};

/// Moves that are under way together.
const MOVES_MAX: usize = 1_024;
/// The metadata group holds no stream.
const METADATA: ShardId = ShardId(0);

/// Where the stream of a partition is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewMove {
    pub topic: TopicId,
    pub partition: u32,
    pub to: ShardId,
}

wire_struct!(NewMove { topic: TopicId, partition: u32, to: ShardId });

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveStreams {
    pub moves: Vec<NewMove>,
}

wire_struct!(MoveStreams { moves: Vec<NewMove> });

impl MoveStreams {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let results = self.moves.into_iter().map(|new| begin(shard, new, effects)).collect();
        Ok(Outcome::MoveStreams(results))
    }
}

fn begin(shard: &mut Shard, new: NewMove, effects: &mut Effects) -> Result<MoveId, MoveStreamError> {
    let NewMove { topic, partition, to } = new;
    let metadata = &shard.metadata;
    let known = metadata.topic(topic).filter(|topic| topic.state == TopicState::Live);
    let known = known.ok_or(MoveStreamError::UnknownTopic)?;
    let placement = usize::try_from(partition).ok().and_then(|place| known.live().get(place));
    let placement = placement.ok_or(MoveStreamError::UnknownPartition)?;
    let from = placement.shard().ok_or(MoveStreamError::UnknownPartition)?;
    if metadata.moves.get(&(topic, partition)).is_some() {
        return Err(MoveStreamError::Moving);
    }
    if to == METADATA || metadata.shards.get(&to).is_none() {
        return Err(MoveStreamError::UnknownShard);
    }
    // Two ranges of one stream on one shard could not be told apart.
    if placement.history.iter().any(|home| home.shard == to) {
        return Err(MoveStreamError::OnShard);
    }
    if metadata.moves.len() >= MOVES_MAX {
        return Err(MoveStreamError::TooManyMoves);
    }
    let stream = placement.stream;
    let id = MoveId(shard.metadata_change(effects));
    shard.metadata.moves.insert(StreamMove { topic, partition, id, stream, from, to });
    Ok(id)
}
