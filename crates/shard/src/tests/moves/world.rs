//! Whatever steps of moves come, come again and come late: each record is once in one range, the ranges meet, and a
//! producer's batch that comes again is known on the new shard.

use std::collections::BTreeMap;

use proptest::prelude::*;
use record::{LeaderEpoch, NodeId, StreamOffset, Term};

use super::{SHARDS, STREAM, TOPIC, begin, completion, history, metadata, piece};
use crate::commands::{CancelAt, CancelMove, CloseStream, CreateStreams, LeaderChange, NewStream, ReceiveStream};
use crate::tests::harness::{Node, stamped};
use crate::{AppendError, CloseStreamError, ClosedStream, MoveId, Outcome, ReceiveStreamError, Received, StreamMove};

/// What is done next, to the shard or the step of that number where there is one.
#[derive(Clone, Debug)]
enum Act {
    /// A batch of the next sequence of a producer, to every shard where the stream ever was.
    Append {
        producer: i64,
        records: u32,
    },
    /// The last batch of a producer once more, where the metadata say that the stream is.
    Repeat {
        producer: i64,
    },
    Begin {
        to: u32,
    },
    /// The next step of the move, or one that was made before.
    Step {
        again: Option<prop::sample::Index>,
    },
    Cancel,
    NewLeader {
        shard: u32,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_i64..5, 1_u32..4).prop_map(|(producer, records)| Act::Append { producer, records }),
        3 => (0_i64..5).prop_map(|producer| Act::Repeat { producer }),
        2 => (1..=SHARDS).prop_map(|to| Act::Begin { to }),
        10 => proptest::option::weighted(0.3, any::<prop::sample::Index>()).prop_map(|again| Act::Step { again }),
        1 => Just(Act::Cancel),
        1 => (1..=SHARDS).prop_map(|shard| Act::NewLeader { shard }),
    ]
}

/// Sequence, records, offset.
type Last = (i32, u32, i64);

/// A cluster of shards without anything between them, and what was told to producers.
struct World {
    metadata: Node,
    shards: BTreeMap<u32, Node>,
    /// Every step that was ever made, to come again.
    steps: Vec<(u32, crate::Command)>,
    /// Of the move at hand: how far it is.
    closed: Option<(MoveId, ClosedStream)>,
    /// What was appended: base offset, records.
    told: Vec<(i64, u32)>,
    /// For each producer its next sequence and its last batch.
    producers: BTreeMap<i64, (i32, Option<Last>)>,
}

impl World {
    fn new() -> Self {
        let mut shards: BTreeMap<u32, Node> = (1..=SHARDS).map(|shard| (shard, Node::default())).collect();
        let new = NewStream { id: STREAM, epoch_start: LeaderEpoch(0), first_offset: StreamOffset(0) };
        shards.get_mut(&1).unwrap().one(CreateStreams { streams: vec![new] });
        Self {
            metadata: metadata(),
            shards,
            steps: Vec::new(),
            closed: None,
            told: Vec::new(),
            producers: BTreeMap::new(),
        }
    }

    fn home(&self) -> u32 {
        history(&self.metadata).last().unwrap().1
    }

    fn moving(&self) -> Option<StreamMove> {
        self.metadata.shard.stream_move(TOPIC, 0)
    }

    fn make(&mut self, shard: u32, command: impl Into<crate::Command>) -> Outcome {
        let command = command.into();
        self.steps.push((shard, command.clone()));
        self.at(shard).one(command)
    }

    fn at(&mut self, shard: u32) -> &mut Node {
        if shard == 0 { &mut self.metadata } else { self.shards.get_mut(&shard).unwrap() }
    }

    fn append(&mut self, producer: i64, records: u32) {
        let (next, _) = *self.producers.entry(producer).or_insert((0, None));
        let append = stamped(1, records, producer, 0, next);
        let mut taken = None;
        // Whoever writes finds the shard by the metadata, of now or of any time before.
        for (_, shard) in history(&self.metadata) {
            if let Ok(appended) = self.at(shard).append(append.clone()) {
                assert!(!appended.duplicate);
                assert!(taken.replace(appended.base_offset.0).is_none(), "two shards take the same batch");
            }
        }
        if let Some(offset) = taken {
            self.told.push((offset, records));
            self.producers.insert(producer, (next + i32::try_from(records).unwrap(), Some((next, records, offset))));
        }
    }

    fn repeat(&mut self, producer: i64) {
        let Some((_, Some((sequence, records, offset)))) = self.producers.get(&producer).copied() else { return };
        let home = self.home();
        match self.at(home).append(stamped(1, records, producer, 0, sequence)) {
            Ok(appended) => assert!(appended.duplicate && appended.base_offset.0 == offset, "{appended:?}"),
            Err(error) => assert_eq!(error, AppendError::Closed),
        }
    }

    /// The next step of the move at hand.
    fn step(&mut self) {
        let Some(moving) = self.moving() else { return };
        let StreamMove { id, from, to, .. } = moving;
        let (from, to) = (from.0, to.0);
        match self.make(to, ReceiveStream::prepare(id, STREAM)) {
            Outcome::ReceiveStream(Ok(Received::Open { first_offset, .. })) => {
                self.make(0, completion(id, first_offset.0));
                self.closed = None;
                return;
            }
            Outcome::ReceiveStream(Ok(Received::Place)) => {}
            Outcome::ReceiveStream(Err(ReceiveStreamError::HasEarlierRange | ReceiveStreamError::Stale)) => {
                return self.cancel();
            }
            other => panic!("{other:?}"),
        }
        let after = match &self.closed {
            Some((of, closed)) if *of == id => closed.producers.last().map(|producer| producer.id),
            _ => None,
        };
        match self.make(from, CloseStream { id, stream: STREAM, after }) {
            Outcome::CloseStream(Ok(closed)) => {
                let outcome = self.make(to, piece(id, &closed));
                assert!(matches!(outcome, Outcome::ReceiveStream(Ok(_))), "{outcome:?}");
                self.closed = Some((id, closed));
            }
            Outcome::CloseStream(Err(CloseStreamError::Cancelled)) => self.cancel(),
            other => panic!("{other:?}"),
        }
    }

    fn cancel(&mut self) {
        let Some(moving) = self.moving() else { return };
        let at = CancelAt::Shard(STREAM);
        if self.make(moving.from.0, CancelMove { id: moving.id, at }) == Outcome::CancelMove(Ok(())) {
            self.make(moving.to.0, CancelMove { id: moving.id, at });
            self.make(0, CancelMove { id: moving.id, at: CancelAt::Metadata { topic: TOPIC, partition: 0 } });
        }
    }

    /// All ranges, one behind the other, are what was told.
    fn check(&mut self) {
        let mut ranges = history(&self.metadata);
        if let Some(moving) = self.moving()
            && let Some(view) = self.shards[&moving.to.0].shard.stream(STREAM)
        {
            ranges.push((view.first_offset().0, moving.to.0));
        }
        let mut read = Vec::new();
        for (place, (from, shard)) in ranges.iter().enumerate() {
            let node = &self.shards[shard];
            let view = node.shard.stream(STREAM).unwrap();
            assert_eq!(view.first_offset().0, *from);
            let last = place + 1 == ranges.len();
            assert!(last || view.is_closed(), "an earlier range does not grow");
            read.extend(node.read(STREAM).iter().map(|batch| (batch.base_offset.0, batch.record_count)));
        }
        assert_eq!(read, self.told);
        self.shards.values().for_each(Node::check);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_comes_again_each_record_is_once_where_it_belongs(acts in proptest::collection::vec(act(), 0..80)) {
        let mut world = World::new();
        for act in acts {
            match act {
                Act::Append { producer, records } => world.append(producer, records),
                Act::Repeat { producer } => world.repeat(producer),
                Act::Begin { to } => drop(begin(&mut world.metadata, TOPIC, 0, to)),
                Act::Step { again: None } => world.step(),
                Act::Step { again: Some(again) } if !world.steps.is_empty() => {
                    let (shard, command) = world.steps[again.index(world.steps.len())].clone();
                    world.at(shard).one(command);
                }
                Act::Step { again: Some(_) } => {}
                Act::Cancel => world.cancel(),
                Act::NewLeader { shard } => {
                    let node = world.at(shard);
                    node.term = Term(node.term.0 + 1);
                    node.one(LeaderChange { leader: NodeId(1) });
                }
            }
            world.check();
        }
        // Whatever is under way comes to its end.
        for _ in 0..20 {
            world.step();
        }
        prop_assert!(world.moving().is_none());
        world.check();
        world.append(99, 1);
        prop_assert_eq!(world.told.last().map(|(_, records)| *records), Some(1));
    }
}
