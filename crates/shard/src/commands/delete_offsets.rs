//! Removes committed offsets: some of one group, or all of a topic that is deleted, whichever groups have them.

use std::collections::BTreeSet;
use std::sync::Arc;

use record::TopicId;

use crate::assertion::Broken;
use crate::codec::{DecodeError, Reader, Wire};
use crate::effects::Effects;
use crate::model::OffsetKey;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteOffsets {
    Group {
        group_id: String,
        partitions: Vec<OffsetKey>,
    },
    /// Of all groups on this shard, those of slots that move included. A step of deleting topics, so it may come
    /// again.
    Topics {
        topics: Vec<TopicId>,
    },
}

impl Wire for DeleteOffsets {
    const BYTES_MIN: usize = 5;
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Group { group_id, partitions } => {
                out.push(0);
                group_id.put(out);
                partitions.put(out);
            }
            Self::Topics { topics } => {
                out.push(1);
                topics.put(out);
            }
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(Self::Group { group_id: Wire::take(input)?, partitions: Wire::take(input)? }),
            1 => Ok(Self::Topics { topics: Wire::take(input)? }),
            value => Err(DecodeError::Value { what: "what offsets to delete", value: u64::from(value) }),
        }
    }
}

impl DeleteOffsets {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let deleted = match self {
            Self::Group { group_id, .. } if shard.groups.is_elsewhere(&group_id) => {
                return Ok(Outcome::GroupElsewhere);
            }
            Self::Group { group_id, partitions } => {
                let Some(slot) = shard.groups.slot(&group_id) else {
                    return Ok(Outcome::DeleteOffsets { deleted: 0 });
                };
                let partitions: BTreeSet<OffsetKey> = partitions.into_iter().collect();
                remove(shard, slot, effects, |key| partitions.contains(key))
            }
            Self::Topics { topics } => {
                let topics: BTreeSet<TopicId> = topics.into_iter().collect();
                let mut slots: Vec<(Arc<str>, u32)> = Vec::new();
                for (slot, group) in shard.groups.table.iter() {
                    if group.offsets.keys().any(|key| topics.contains(&key.topic)) {
                        slots.push((Arc::clone(&group.id), slot));
                    }
                }
                // By name, because the order in which groups are removed gives their places to later ones.
                slots.sort_unstable();
                slots.into_iter().map(|(_, slot)| remove(shard, slot, effects, |key| topics.contains(&key.topic))).sum()
            }
        };
        Ok(Outcome::DeleteOffsets { deleted })
    }
}

fn remove(shard: &mut Shard, slot: u32, effects: &mut Effects, which: impl Fn(&OffsetKey) -> bool) -> u32 {
    if let Some(group) = shard.groups.table.at(slot) {
        effects.groups.push(Arc::clone(&group.id));
    }
    shard.groups.remove_offsets(slot, which)
}
