//! Stores the positions of a group, if the member that commits them is still one of its generation.

use std::sync::Arc;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{CommittedOffset, GroupState};
use crate::outcome::{CommitOffsetsError, Outcome};
use crate::shard::{Position, Shard};

/// Who commits. Without it the commit is one from outside the group protocol: allowed while the group has no members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitCheck {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
}

wire_struct!(CommitCheck { member_id: String, instance_id: Option<String>, generation: i32 });

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffsets {
    pub group_id: String,
    pub check: Option<CommitCheck>,
    pub offsets: Vec<CommittedOffset>,
}

wire_struct!(CommitOffsets { group_id: String, check: Option<CommitCheck>, offsets: Vec<CommittedOffset> });

impl CommitOffsets {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        if shard.groups.is_elsewhere(&self.group_id) {
            return Ok(Outcome::GroupElsewhere);
        }
        if let Err(error) = self.allowed(shard) {
            return Ok(Outcome::CommitOffsets(Err(error)));
        }
        // A group must not come to be by a commit of nothing.
        if !self.offsets.is_empty() {
            let slot = shard.groups.slot_or_insert(&self.group_id, &mut shard.scalars.next_group_number);
            for offset in self.offsets {
                shard.groups.commit(slot, offset);
            }
            if let Some(group) = shard.groups.table.at(slot) {
                effects.groups.push(Arc::clone(&group.id));
            }
        }
        Ok(Outcome::CommitOffsets(Ok(())))
    }

    /// The rules of Kafka's classic groups.
    fn allowed(&self, shard: &Shard) -> Result<(), CommitOffsetsError> {
        let group = shard.groups.get(&self.group_id);
        let Some(record) = group.and_then(|group| group.record.as_ref()) else {
            let outside = self.check.as_ref().is_none_or(|check| check.generation < 0);
            return match group {
                _ if outside => Ok(()),
                // Offsets alone make a group, one without members.
                Some(_) => Err(CommitOffsetsError::UnknownMember),
                None => Err(CommitOffsetsError::UnknownGroup),
            };
        };
        let empty = record.state == GroupState::Empty;
        match &self.check {
            None if empty => return Ok(()),
            None => return Err(CommitOffsetsError::UnknownMember),
            Some(check) if check.generation < 0 && empty => return Ok(()),
            Some(check) => {
                if let Some(instance_id) = &check.instance_id {
                    let mut members = record.members.iter();
                    let holder = members.find(|member| member.instance_id.as_ref() == Some(instance_id));
                    let holder = holder.ok_or(CommitOffsetsError::UnknownMember)?;
                    if holder.id != check.member_id {
                        return Err(CommitOffsetsError::FencedInstance);
                    }
                }
                record.member(&check.member_id).ok_or(CommitOffsetsError::UnknownMember)?;
                if check.generation != record.generation {
                    return Err(CommitOffsetsError::IllegalGeneration { current: record.generation });
                }
            }
        }
        // While a rebalance is being prepared the members still own what they had, and learn of it by heartbeat.
        match record.state {
            GroupState::CompletingRebalance => Err(CommitOffsetsError::RebalanceInProgress),
            GroupState::Empty | GroupState::PreparingRebalance | GroupState::Stable => Ok(()),
        }
    }
}
