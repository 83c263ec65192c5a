//! Which slots go where next. What is decided depends on what is given alone.

use std::collections::BTreeMap;

use record::ShardId;
use shard::SLOTS_PER_MOVE_MAX;
use shard::commands::MoveSlots;

/// How many slots each shard has, and how many it is to have. The fullest keep the ones that are left over, so that no
/// slot moves for the sake of another.
fn shares(slots: &[ShardId], shards: &[ShardId]) -> BTreeMap<ShardId, (usize, usize)> {
    let mut shares: BTreeMap<ShardId, (usize, usize)> = shards.iter().map(|shard| (*shard, (0, 0))).collect();
    for shard in slots {
        shares.entry(*shard).or_default().0 += 1;
    }
    let mut wanted: Vec<(usize, ShardId)> = shards.iter().map(|shard| (shares[shard].0, *shard)).collect();
    wanted.sort_by_key(|(count, shard)| (std::cmp::Reverse(*count), *shard));
    wanted.dedup();
    let (each, over) = (slots.len() / wanted.len().max(1), slots.len() % wanted.len().max(1));
    for (place, (_, shard)) in wanted.iter().enumerate() {
        if let Some(share) = shares.get_mut(shard) {
            share.1 = each + usize::from(place < over);
        }
    }
    shares
}

/// The next move, if there is one: from the shard that has most too many to the one that lacks most. `slots` has the
/// shard of each slot, `shards` are those that slots may be on.
pub(crate) fn plan_slots(slots: &[ShardId], shards: &[ShardId]) -> Option<MoveSlots> {
    if shards.is_empty() {
        return None;
    }
    let shares = shares(slots, shards);
    let over = |(shard, (has, wants)): (&ShardId, &(usize, usize))| (has.saturating_sub(*wants), *shard);
    let lack = |(shard, (has, wants)): (&ShardId, &(usize, usize))| (wants.saturating_sub(*has), *shard);
    let (over, from) = shares.iter().map(over).max_by_key(|(count, shard)| (*count, std::cmp::Reverse(*shard)))?;
    let (lack, to) = shares.iter().map(lack).max_by_key(|(count, shard)| (*count, std::cmp::Reverse(*shard)))?;
    let count = over.min(lack).min(SLOTS_PER_MOVE_MAX);
    if count == 0 {
        return None;
    }
    assert_ne!(from, to, "no shard has too many and too few");
    let held = (0..).zip(slots).filter(|(_, shard)| **shard == from).map(|(slot, _): (u16, _)| slot);
    let mut slots: Vec<u16> = held.collect();
    slots.drain(..slots.len() - count);
    Some(MoveSlots { slots, from, to })
}

/// How many slots are still to move.
pub(crate) fn left(slots: &[ShardId], shards: &[ShardId]) -> usize {
    if shards.is_empty() {
        return 0;
    }
    shares(slots, shards).values().map(|(has, wants)| has.saturating_sub(*wants)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use shard::SLOTS;

    use super::*;

    fn carry_out(slots: &mut [ShardId], planned: &MoveSlots) {
        assert!((1..=SLOTS_PER_MOVE_MAX).contains(&planned.slots.len()));
        assert!(planned.slots.is_sorted_by(|one, two| one < two));
        for slot in &planned.slots {
            let shard = &mut slots[usize::from(*slot)];
            assert_eq!(*shard, planned.from);
            *shard = planned.to;
        }
    }

    #[test]
    fn a_cluster_that_grew_from_one_node_to_three() {
        let all: Vec<ShardId> = (1..=6).map(ShardId).collect();
        let mut slots: Vec<ShardId> = (0..SLOTS).map(|slot| ShardId(1 + u32::from(slot / 512))).collect();
        let mut moves = 0;
        while let Some(planned) = plan_slots(&slots, &all) {
            carry_out(&mut slots, &planned);
            moves += 1;
        }
        assert_eq!(moves, 24);
        let counts: Vec<usize> = all.iter().map(|shard| slots.iter().filter(|known| *known == shard).count()).collect();
        assert_eq!(counts, [171, 171, 171, 171, 170, 170]);
    }

    proptest! {
        /// It ends, evenly; no slot moves twice, nor more of them than must; and then it stays.
        #[test]
        fn slots_come_to_be_spread_evenly(
            places in vec(0_u32..9, usize::from(SLOTS)),
            ids in proptest::collection::btree_set(1_u32..12, 1..9),
        ) {
            let all: Vec<ShardId> = ids.into_iter().map(ShardId).collect();
            let mut slots: Vec<ShardId> = places.into_iter().map(ShardId).collect();
            let mut left_over = left(&slots, &all);
            let mut moved = std::collections::BTreeSet::new();
            while let Some(planned) = plan_slots(&slots, &all) {
                for slot in &planned.slots {
                    prop_assert!(moved.insert(*slot), "slot {slot} moves twice");
                }
                carry_out(&mut slots, &planned);
                prop_assert_eq!(left(&slots, &all), left_over - planned.slots.len());
                left_over -= planned.slots.len();
            }
            prop_assert_eq!(left_over, 0);
            let count = |shard: &ShardId| slots.iter().filter(|known| *known == shard).count();
            let counts: Vec<usize> = all.iter().map(count).collect();
            prop_assert_eq!(counts.iter().sum::<usize>(), usize::from(SLOTS));
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        }
    }
}
