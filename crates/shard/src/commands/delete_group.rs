//! Removes a group without members, and its offsets.

use std::sync::Arc;

use crate::assertion::{Broken, ensure};
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::GroupState;
use crate::outcome::{DeleteGroupError, Outcome};
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteGroup {
    pub group_id: String,
}

wire_struct!(DeleteGroup { group_id: String });

impl DeleteGroup {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        if shard.groups.is_elsewhere(&self.group_id) {
            return Ok(Outcome::GroupElsewhere);
        }
        let Some(slot) = shard.groups.slot(&self.group_id) else {
            return Ok(Outcome::DeleteGroup(Err(DeleteGroupError::NotFound)));
        };
        let Some(group) = shard.groups.table.change(slot) else {
            return Ok(Outcome::DeleteGroup(Err(DeleteGroupError::NotFound)));
        };
        if group.record.as_ref().is_some_and(|record| record.state != GroupState::Empty || !record.members.is_empty()) {
            return Ok(Outcome::DeleteGroup(Err(DeleteGroupError::NotEmpty)));
        }
        group.record = None;
        effects.groups.push(Arc::clone(&group.id));
        shard.groups.remove_offsets(slot, |_| true);
        ensure!(shard.groups.slot(&self.group_id).is_none(), "group {} is deleted but still there", self.group_id);
        Ok(Outcome::DeleteGroup(Ok(())))
    }
}
