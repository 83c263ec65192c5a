//! Takes in a piece of the groups of slots that move here. The first makes the slots incoming, each names where it
//! goes on, and the last makes the slots this shard's own: before that nothing of them can be changed or used.

use std::sync::Arc;

use crate::assertion::{Broken, ensure};
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::model::{GroupVersion, MoveCursor, MovedGroup, SlotMoveId};
use crate::outcome::{Outcome, ReceiveGroupsError, ReceivedGroups};
use crate::shard::{Position, Shard};
use crate::slots::slot_of;
use crate::tenures::{Tenure, are_slots};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveGroups {
    pub id: SlotMoveId,
    /// All of the move.
    pub slots: Vec<u16>,
    /// Where the piece goes on. One that goes on elsewhere than behind what has come changes nothing.
    pub after: Option<MoveCursor>,
    pub groups: Vec<MovedGroup>,
    /// Nothing is behind it.
    pub last: bool,
}

wire_struct!(ReceiveGroups {
    id: SlotMoveId,
    slots: Vec<u16>,
    after: Option<MoveCursor>,
    groups: Vec<MovedGroup>,
    last: bool,
});

impl ReceiveGroups {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let cursor = match self.stands(shard) {
            Ok(Stands::Complete) => return Ok(received(None, true)),
            Ok(Stands::Incoming(cursor)) => cursor,
            Ok(Stands::New) => {
                shard.groups.stand(self.id, &self.slots, &Tenure::Incoming(None));
                effects.slots_changed = true;
                None
            }
            Err(error) => return Ok(Outcome::ReceiveGroups(Err(error))),
        };
        if self.after != cursor {
            return Ok(received(cursor, false));
        }
        if !self.is_in_order() {
            return Ok(Outcome::ReceiveGroups(Err(ReceiveGroupsError::Foreign)));
        }
        let Self { id, slots, groups, last, .. } = self;
        let cursor = groups.last().map(MovedGroup::end).or(cursor);
        for group in groups {
            take_in(shard, group, effects)?;
        }
        let tenure = if last { Tenure::Held } else { Tenure::Incoming(cursor.clone()) };
        shard.groups.stand(id, &slots, &tenure);
        effects.slots_changed |= last;
        Ok(received(cursor.filter(|_| !last), last))
    }

    /// How this shard stands to the slots, all of which stand the same way unless something went wrong.
    fn stands(&self, shard: &Shard) -> Result<Stands, ReceiveGroupsError> {
        if !are_slots(&self.slots) || self.id == SlotMoveId(0) {
            return Err(ReceiveGroupsError::OutOfRange);
        }
        let mut all: Option<Stands> = None;
        for slot in &self.slots {
            let stands = match shard.groups.tenures.get(slot) {
                None => Stands::New,
                Some(known) if known.id > self.id => return Err(ReceiveGroupsError::Stale { current: known.id }),
                Some(known) if known.id < self.id => match known.tenure {
                    Tenure::Dropped => Stands::New,
                    Tenure::Incoming(_) | Tenure::Held | Tenure::Closed => return Err(ReceiveGroupsError::NotDropped),
                },
                Some(known) => match &known.tenure {
                    Tenure::Incoming(cursor) => Stands::Incoming(cursor.clone()),
                    Tenure::Held => Stands::Complete,
                    Tenure::Closed | Tenure::Dropped => return Err(ReceiveGroupsError::NotDropped),
                },
            };
            if all.as_ref().is_some_and(|all| *all != stands) {
                return Err(ReceiveGroupsError::NotDropped);
            }
            all = Some(stands);
        }
        let stands = all.ok_or(ReceiveGroupsError::OutOfRange)?;
        // What is here of them would be mixed up with what comes.
        if stands == Stands::New && !shard.groups.of_slots(&self.slots, None).is_empty() {
            return Err(ReceiveGroupsError::NotDropped);
        }
        Ok(stands)
    }

    /// Whether the groups are of these slots, and come in order behind what has come.
    fn is_in_order(&self) -> bool {
        let mut before = self.after.clone();
        for group in &self.groups {
            let same = group.record.as_ref().is_none_or(|record| record.group_id == group.group_id);
            let keys = group.offsets.is_sorted_by(|one, two| one.key() < two.key());
            let begin = MoveCursor {
                group_id: group.group_id.clone(),
                offset: if group.record.is_some() { None } else { group.offsets.first().map(|first| first.key()) },
            };
            if !same || !keys || Some(&begin) <= before.as_ref() || !self.slots.contains(&slot_of(&group.group_id)) {
                return false;
            }
            before = Some(group.end());
        }
        true
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stands {
    New,
    Incoming(Option<MoveCursor>),
    Complete,
}

fn received(cursor: Option<MoveCursor>, complete: bool) -> Outcome {
    Outcome::ReceiveGroups(Ok(ReceivedGroups { cursor, complete }))
}

fn take_in(shard: &mut Shard, moved: MovedGroup, effects: &mut Effects) -> Result<(), Broken> {
    let MovedGroup { group_id, record, offsets } = moved;
    if record.is_none() && offsets.is_empty() {
        return Ok(());
    }
    let place = shard.groups.slot_or_insert(&group_id, &mut shard.scalars.next_group_number);
    if let Some(record) = record {
        // One that no record here ever had: versions of the other shard say nothing here.
        let version = GroupVersion(shard.scalars.next_group_version);
        shard.scalars.next_group_version += 1;
        let Some(group) = shard.groups.table.change(place) else {
            return Err(Broken { what: format!("group {group_id} has gone while it was taken in") });
        };
        ensure!(group.version < version, "group {group_id} has version {} before {}", group.version.0, version.0);
        group.version = version;
        group.record = Some(Arc::new(record));
    }
    for offset in offsets {
        shard.groups.commit(place, offset);
    }
    if let Some(group) = shard.groups.table.at(place) {
        effects.groups.push(Arc::clone(&group.id));
    }
    Ok(())
}
