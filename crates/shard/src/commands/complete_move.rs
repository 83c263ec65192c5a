//! Says where a stream that was moved goes on: from here on its new shard is the one that is asked.

use record::{StreamOffset, TopicId};

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{MoveId, StreamHome, TopicState};
use crate::outcome::{CompleteMoveError, Outcome};
use crate::shard::{Position, Shard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompleteMove {
    pub id: MoveId,
    pub topic: TopicId,
    pub partition: u32,
    /// Where it ended on the shard before.
    pub from_offset: StreamOffset,
}

wire_struct!(CompleteMove { id: MoveId, topic: TopicId, partition: u32, from_offset: StreamOffset });

impl CompleteMove {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        Ok(Outcome::CompleteMove(self.complete(shard, effects)))
    }

    fn complete(&self, shard: &mut Shard, effects: &mut Effects) -> Result<(), CompleteMoveError> {
        let key = (self.topic, self.partition);
        let known = shard.metadata.moves.get(&key).filter(|known| known.id == self.id).copied();
        let known = known.ok_or(CompleteMoveError::UnknownMove)?;
        let topic = shard.metadata.topic(self.topic).filter(|topic| topic.state == TopicState::Live);
        let topic = topic.ok_or(CompleteMoveError::UnknownTopic)?;
        let place = usize::try_from(self.partition).map_err(|_| CompleteMoveError::UnknownTopic)?;
        let last = topic.partitions.get(place).and_then(|placement| placement.history.last());
        let last = last.ok_or(CompleteMoveError::UnknownTopic)?;
        if self.from_offset < last.from_offset {
            return Err(CompleteMoveError::OutOfRange);
        }
        let revision = shard.metadata_change(effects);
        shard.metadata.change_topic(self.topic, revision, |topic| {
            if let Some(placement) = topic.partitions.get_mut(place) {
                // The shard before stays in the list even if it has no record: it has the end of the stream, against
                // what comes late, and is to remove it with the topic.
                placement.history.push(StreamHome { from_offset: self.from_offset, shard: known.to });
            }
        });
        shard.metadata.moves.remove(&key);
        Ok(())
    }
}
