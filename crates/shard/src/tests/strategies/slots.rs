//! Moves of slots.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use record::{Partition, ShardId};

use super::{group, name, offset, topic};
use crate::commands::{CloseSlots, CompleteSlots, DropSlots, MoveSlots, ReceiveGroups};
use crate::{Command, CommittedOffset, MoveCursor, MovedGroup, OffsetKey, SlotMoveId, slot_of};

/// The slots of the names, so that moves meet groups.
fn slots() -> impl Strategy<Value = Vec<u16>> {
    let named: Vec<u16> = ["a", "b", "ü"].map(slot_of).into();
    prop_oneof![
        8 => prop::sample::subsequence(named, 1..=3).prop_map(|mut slots| {
            slots.sort_unstable();
            slots
        }),
        1 => vec(0_u16..1030, 0..3),
    ]
}

fn slot_move_id() -> impl Strategy<Value = SlotMoveId> {
    (0_u64..5).prop_map(SlotMoveId)
}

fn moved_group() -> impl Strategy<Value = MovedGroup> {
    (option::of(group()), name(), vec(offset(), 0..3)).prop_map(|(record, name, mut offsets)| {
        offsets.sort_by_key(CommittedOffset::key);
        let group_id = record.as_ref().map_or(name, |record| record.group_id.clone());
        MovedGroup { group_id, record, offsets }
    })
}

pub(super) fn slot_command() -> impl Strategy<Value = Command> {
    let shard = || (0_u32..4).prop_map(ShardId);
    let cursor = (name(), option::of((topic(), 0_i32..3))).prop_map(|(group_id, offset)| {
        let key = |(topic, partition)| OffsetKey { topic, partition: Partition(partition) };
        MoveCursor { group_id, offset: offset.map(key) }
    });
    let after = prop_oneof![4 => Just(None), 1 => cursor.prop_map(Some)];
    prop_oneof![
        2 => (slots(), shard(), shard()).prop_map(|(slots, from, to)| MoveSlots { slots, from, to }.into()),
        2 => (slot_move_id(), slots()).prop_map(|(id, slots)| CloseSlots { id, slots }.into()),
        4 => (slot_move_id(), slots(), after, vec(moved_group(), 0..3), any::<bool>())
            .prop_map(|(id, slots, after, groups, last)| ReceiveGroups { id, slots, after, groups, last }.into()),
        2 => (0_u64..40, any::<bool>()).prop_map(|(id, dropped)| CompleteSlots { id: SlotMoveId(id), dropped }.into()),
        2 => (slot_move_id(), slots(), 0_u32..3).prop_map(|(id, slots, count_max)| DropSlots { id, slots, count_max }.into()),
    ]
}
