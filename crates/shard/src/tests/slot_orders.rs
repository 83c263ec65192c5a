//! Slots that move from shard to shard with their groups, whatever order things happen in and however often.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use record::ShardId;

use super::harness::Node;
use super::slots::{begin, commit, metadata, offset, slots_of, stable};
use crate::commands::{CloseSlots, CompleteSlots, DropSlots, MoveSlots, PutGroup, ReceiveGroups};
use crate::{Command, CommittedOffset, OffsetKey, Outcome, ReceivedGroups, SlotMove, slot_of};

const GROUPS: [&str; 4] = ["a", "b", "c", "ü"];

/// What happens next.
#[derive(Clone, Debug)]
enum Op {
    Begin {
        groups: Vec<bool>,
        to: u32,
    },
    /// One of the steps of whoever drives the moves; several may do so at the same time, each from where it is.
    Advance {
        which: prop::sample::Index,
        step: u8,
        bytes_max: usize,
    },
    /// A step that was sent before comes again.
    Repeat(prop::sample::Index),
    /// By somebody who knows the metadata as it was at some time.
    Commit {
        group: usize,
        view: prop::sample::Index,
        partition: i32,
    },
    Put {
        group: usize,
        view: prop::sample::Index,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        2 => (vec(any::<bool>(), 4), 1_u32..4).prop_map(|(groups, to)| Op::Begin { groups, to }),
        12 => (index(), 0_u8..4, 1_usize..300).prop_map(|(which, step, bytes_max)| Op::Advance { which, step, bytes_max }),
        4 => index().prop_map(Op::Repeat),
        6 => (0_usize..4, index(), 0_i32..5).prop_map(|(group, view, partition)| Op::Commit { group, view, partition }),
        2 => (0_usize..4, index()).prop_map(|(group, view)| Op::Put { group, view }),
    ]
}

/// Three shards, what the metadata says and said, and what was promised to clients.
struct World {
    metadata: Node,
    data: Vec<Node>,
    /// The slots' shards, as they were at every time.
    views: Vec<Vec<ShardId>>,
    sent: Vec<(ShardId, Command)>,
    committed: BTreeMap<(usize, OffsetKey), CommittedOffset>,
    generations: BTreeMap<usize, i32>,
    next: i64,
}

impl World {
    fn new() -> Self {
        let metadata = metadata(3);
        Self {
            views: vec![metadata.shard.slot_shards().to_vec()],
            metadata,
            data: (0..3).map(|_| Node::default()).collect(),
            sent: Vec::new(),
            committed: BTreeMap::new(),
            generations: BTreeMap::new(),
            next: 1,
        }
    }

    fn at(&mut self, shard: ShardId) -> &mut Node {
        match shard.0 {
            0 => &mut self.metadata,
            number => &mut self.data[number as usize - 1],
        }
    }

    fn send(&mut self, shard: ShardId, command: impl Into<Command>) -> Outcome {
        let command = command.into();
        self.sent.push((shard, command.clone()));
        self.again(shard, command)
    }

    fn again(&mut self, shard: ShardId, command: Command) -> Outcome {
        let outcome = self.at(shard).one(command);
        self.views.push(self.metadata.shard.slot_shards().to_vec());
        outcome
    }

    fn advance(&mut self, known: &SlotMove, step: u8, bytes_max: usize) {
        let SlotMove { id, slots, from, to, switched } = known.clone();
        match (switched, step) {
            (false, 0) => drop(self.send(from, CloseSlots { id, slots })),
            (false, 1 | 2) => {
                let Outcome::ReceiveGroups(Ok(received)) = self.send(to, begin(id, &slots)) else { panic!("begun") };
                let after = received.cursor;
                let piece = self.at(from).shard.moving_piece(id, &slots, after.as_ref(), bytes_max);
                if let Some(piece) = piece.filter(|_| !received.complete) {
                    self.send(to, ReceiveGroups { id, slots, after, groups: piece.groups, last: piece.last });
                }
            }
            (false, _) => {
                let outcome = self.send(to, begin(id, &slots));
                if let Outcome::ReceiveGroups(Ok(ReceivedGroups { complete: true, .. })) = outcome {
                    self.send(ShardId(0), CompleteSlots { id, dropped: false });
                }
            }
            (true, _) => {
                if self.send(from, DropSlots { id, slots, count_max: 1 }) == Outcome::DropSlots(Ok(false)) {
                    self.send(ShardId(0), CompleteSlots { id, dropped: true });
                }
            }
        }
    }

    fn moves(&self) -> Vec<SlotMove> {
        self.metadata.shard.slot_moves().into_iter().cloned().collect()
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Begin { groups, to } => {
                let named: Vec<&str> =
                    GROUPS.iter().zip(groups).filter(|(_, taken)| *taken).map(|(group, _)| *group).collect();
                let slots = slots_of(&named);
                let Some(from) = slots.first().and_then(|slot| self.metadata.shard.slot_shard(*slot)) else { return };
                self.send(ShardId(0), MoveSlots { slots, from, to: ShardId(to) });
            }
            Op::Advance { which, step, bytes_max } => {
                let moves = self.moves();
                if !moves.is_empty() {
                    self.advance(which.get(&moves), step, bytes_max);
                }
            }
            Op::Repeat(which) => {
                // A move is begun once: whoever does not know whether it was looks.
                let sent: Vec<_> =
                    self.sent.iter().filter(|(_, command)| !matches!(command, Command::MoveSlots(_))).collect();
                if !sent.is_empty() {
                    let (shard, command) = (*which.get(&sent)).clone();
                    self.again(shard, command);
                }
            }
            Op::Commit { group, view, partition } => {
                let shard = self.owner(group, &view);
                self.next += 1;
                let offset = offset(partition, self.next);
                let generation = self.generations.get(&group).copied();
                let holds = self.at(shard).shard.slot_tenure(slot_of(GROUPS[group])).is_some();
                let outcome = self.at(shard).one(commit(GROUPS[group], generation, offset.clone()));
                if holds {
                    assert_eq!(outcome, Outcome::CommitOffsets(Ok(())));
                    self.committed.insert((group, offset.key()), offset);
                } else {
                    assert_eq!(outcome, Outcome::GroupElsewhere);
                }
            }
            Op::Put { group, view } => {
                let shard = self.owner(group, &view);
                let generation = self.generations.get(&group).copied().unwrap_or_default() + 1;
                let expected = self.at(shard).shard.group(GROUPS[group]).map(|view| view.version).unwrap_or_default();
                let outcome = self.at(shard).one(PutGroup { group: stable(GROUPS[group], generation), expected });
                if outcome == Outcome::GroupElsewhere {
                    return;
                }
                assert!(matches!(outcome, Outcome::PutGroup(Ok(_))), "{outcome:?}");
                self.generations.insert(group, generation);
            }
        }
    }

    fn owner(&self, group: usize, view: &prop::sample::Index) -> ShardId {
        view.get(&self.views)[usize::from(slot_of(GROUPS[group]))]
    }

    /// Of those who could be asked, one holds the slot at most; and what was promised is there, or where it left.
    fn check(&self) {
        for (group, group_id) in GROUPS.iter().enumerate() {
            let slot = slot_of(group_id);
            let asked: BTreeSet<ShardId> = self.views.iter().map(|view| view[usize::from(slot)]).collect();
            let shard = |shard: &ShardId| &self.data[shard.0 as usize - 1].shard;
            let holds: Vec<&ShardId> = asked.iter().filter(|id| shard(id).slot_tenure(slot).is_some()).collect();
            assert!(holds.len() <= 1, "{holds:?} hold {group_id}");
            let owner = self.metadata.shard.slot_shard(slot).unwrap();
            let moving = self.moves().into_iter().find(|known| known.slots.contains(&slot) && !known.switched);
            let target = moving.filter(|known| shard(&known.to).slot_tenure(slot) == Some(known.id));
            self.check_group(group, shard(&target.map_or(owner, |known| known.to)));
        }
    }

    fn check_group(&self, group: usize, shard: &crate::Shard) {
        let expected: Vec<&CommittedOffset> =
            self.committed.iter().filter(|((of, _), _)| *of == group).map(|(_, offset)| offset).collect();
        assert_eq!(shard.offsets(GROUPS[group]).collect::<Vec<_>>(), expected);
        let record = shard.group(GROUPS[group]).and_then(|view| view.record.cloned());
        let generation = self.generations.get(&group);
        assert_eq!(record.as_deref(), generation.map(|generation| stable(GROUPS[group], *generation)).as_ref());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_is_lost_and_one_shard_decides(ops in vec(op(), 0..120)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            world.check();
        }
        // Whatever was begun comes to its end.
        for round in 0..1_000_u32 {
            let Some(known) = world.moves().into_iter().next() else { break };
            world.advance(&known, u8::try_from(round % 4).unwrap(), 50);
            world.check();
        }
        prop_assert!(world.moves().is_empty());
        for group in GROUPS {
            let owner = world.metadata.shard.slot_shard(slot_of(group)).unwrap();
            for (place, node) in world.data.iter().enumerate() {
                if place + 1 != owner.0 as usize {
                    prop_assert!(node.shard.group(group).is_none());
                }
            }
        }
    }
}
