//! Stores a group's record, if nobody else changed it since the proposer looked.

use std::sync::Arc;

use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{GroupRecord, GroupVersion};
use crate::outcome::{Outcome, PutGroupError};
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutGroup {
    pub group: GroupRecord,
    /// The version that the record has now; 0 if there is none.
    pub expected: GroupVersion,
}

wire_struct!(PutGroup { group: GroupRecord, expected: GroupVersion });

impl PutGroup {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let group_id = self.group.group_id.as_str();
        if shard.groups.is_elsewhere(group_id) {
            return Ok(Outcome::GroupElsewhere);
        }
        let actual = shard.groups.get(group_id).map_or(GroupVersion(0), |group| group.version);
        if actual != self.expected {
            return Ok(Outcome::PutGroup(Err(PutGroupError::Conflict { expected: self.expected, actual })));
        }
        let slot = shard.groups.slot_or_insert(group_id, &mut shard.scalars.next_group_number);
        // Never a version that an earlier record of the same name had.
        let version = GroupVersion(shard.scalars.next_group_version);
        shard.scalars.next_group_version += 1;
        let Some(group) = shard.groups.table.change(slot) else {
            return Err(Broken { what: format!("group {group_id} has gone while it was stored") });
        };
        group.version = version;
        group.record = Some(Arc::new(self.group));
        effects.groups.push(Arc::clone(&group.id));
        Ok(Outcome::PutGroup(Ok(version)))
    }
}
