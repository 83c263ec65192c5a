//! What must hold for any sequence of commands.

use proptest::prelude::*;
use record::{StreamId, Term, TimestampMs};

use super::harness::{Node, dump, restore};
use super::strategies::{Beside, Step, step};
use crate::commands::{CreateStreams, NewStream};

fn begin() -> Node {
    let mut node = Node::default();
    let streams = (1..4)
        .map(|id| NewStream {
            id: StreamId(id),
            epoch_start: record::LeaderEpoch(0),
            first_offset: record::StreamOffset(0),
        })
        .collect();
    node.one(CreateStreams { streams });
    node
}

fn advance(node: &mut Node, step: &Step) {
    node.term = Term(node.term.0 + u64::from(step.new_term));
    node.time = TimestampMs(step.time_ms);
}

fn durable(node: &mut Node) {
    let files: Vec<_> = node.files.keys().copied().collect();
    for file in files {
        node.shard.sealed_durable(file);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// No decodable sequence of commands fails an assertion; nothing that was appended gets lost or moves; exactly the
    /// ranges that are wanted are live.
    #[test]
    fn any_commands_keep_the_invariants(steps in proptest::collection::vec(step(), 0..60)) {
        let mut node = begin();
        for step in steps {
            advance(&mut node, &step);
            node.all(&step.commands);
            if matches!(step.beside, Beside::Durable) {
                durable(&mut node);
            }
            node.check();
        }
    }

    /// Two shards that apply the same entries are the same at every index, whatever each does beside: outcomes, effects,
    /// digests, and all that is in them.
    #[test]
    fn apply_is_deterministic(steps in proptest::collection::vec(step(), 0..60)) {
        let mut one = begin();
        let mut two = begin();
        for step in steps {
            advance(&mut one, &step);
            let first = one.all(&step.commands);
            match step.beside {
                Beside::Durable => durable(&mut one),
                Beside::Begin { base } => drop(one.shard.begin_capture(base)),
                Beside::Capture { budget } => drop(one.shard.capture_some(budget)),
                Beside::Abort => one.shard.abort_capture(),
                Beside::Digest => drop(one.shard.digest()),
                Beside::Nothing => {}
            }
            let entry = one.log.last().unwrap().clone();
            two.log.push(entry.clone());
            let second = two.replay(&entry);
            prop_assert_eq!(format!("{first:?}"), format!("{second:?}"));
        }
        prop_assert_eq!(dump(&one.shard), dump(&two.shard));
        prop_assert_eq!(one.shard.digest(), two.shard.digest());
    }

    /// A checkpoint that began anywhere and was captured beside whatever was applied, restored, with the tail of the log
    /// behind it, is the shard that applied everything.
    #[test]
    fn checkpoint_and_tail_are_as_replay_of_all(steps in proptest::collection::vec(step(), 0..80)) {
        let mut node = begin();
        // The chunks of each complete checkpoint since the last base, and the chunks of the one in progress.
        let mut chain: Vec<(usize, Vec<Vec<u8>>)> = Vec::new();
        let mut open: Option<(bool, usize, Vec<Vec<u8>>)> = None;
        for step in &steps {
            advance(&mut node, step);
            node.all(&step.commands);
            match step.beside {
                Beside::Durable => durable(&mut node),
                Beside::Begin { base } => {
                    if let Ok(start) = node.shard.begin_capture(base) {
                        prop_assert_eq!(start.applied.map(|(index, _)| index), node.log.last().map(|entry| entry.index));
                        prop_assert!(start.base || !chain.is_empty());
                        open = Some((start.base, node.log.len(), Vec::new()));
                    }
                }
                Beside::Abort => {
                    node.shard.abort_capture();
                    open = None;
                }
                Beside::Digest => drop(node.shard.digest()),
                Beside::Nothing | Beside::Capture { .. } => {}
            }
            let Beside::Capture { budget } = step.beside else { continue };
            let chunk = node.shard.capture_some(budget);
            prop_assert_eq!(chunk.is_some(), open.is_some());
            let Some((base, length, mut chunks)) = open.take() else { continue };
            chunks.extend(chunk);
            if node.shard.capturing() {
                open = Some((base, length, chunks));
            } else {
                if base {
                    chain.clear();
                }
                chain.push((length, chunks));
            }
        }
        let Some((length, _)) = chain.last() else { return Ok(()) };
        let tail = node.log[*length..].to_vec();
        let mut restored = Node { shard: restore(chain.iter().flat_map(|(_, chunks)| chunks)), ..Node::default() };
        restored.log = node.log[..*length].to_vec();
        restored.files = node.files.clone();
        restored.deleted = node.deleted.clone();
        let mut replayed = Node::default();
        for entry in &restored.log {
            replayed.replay(entry);
        }
        prop_assert_eq!(dump(&restored.shard), dump(&replayed.shard));
        for entry in &tail {
            restored.log.push(entry.clone());
            restored.replay(entry);
        }
        restored.check();
        prop_assert_eq!(dump(&restored.shard), dump(&node.shard));
        prop_assert_eq!(restored.shard.digest(), node.shard.digest());
    }
}
