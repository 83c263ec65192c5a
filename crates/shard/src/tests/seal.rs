//! Seals: what moves, what stays, who answers, and when a range dies.

use record::{FileNumber, LogIndex, StreamId, StreamOffset, TimestampMs};

use super::harness::{Node, contents, plain};
use crate::commands::{DeleteStreams, Seal};
use crate::{Located, Outcome};

fn seal(node: &mut Node, through: u64) -> Option<FileNumber> {
    match node.one(Seal { through: LogIndex(through) }) {
        Outcome::Seal { sealed } => sealed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_seal_moves_exactly_the_range_and_keeps_the_chain() {
    let mut node = Node::with_streams([1, 2, 3]);
    for stream in [1, 2, 1] {
        node.append(plain(stream, 2)).unwrap();
    }
    // Entries: 1 creates, 2 to 4 append.
    assert_eq!(seal(&mut node, 3), Some(FileNumber(1)));
    assert_eq!(node.shard.sealed_through(), Some(LogIndex(3)));
    let first = contents(&node.files[&FileNumber(1)]);
    assert_eq!(
        first.iter().map(|(stream, previous, batches)| (stream.0, *previous, batches.len())).collect::<Vec<_>>(),
        [(1, None, 1), (2, None, 1)]
    );
    assert_eq!(node.shard.unsealed_batches(), 1);
    assert_eq!(seal(&mut node, 100), Some(FileNumber(2)), "a seal never reaches its own entry");
    assert_eq!(node.shard.sealed_through(), Some(LogIndex(5)));
    let second = contents(&node.files[&FileNumber(2)]);
    assert_eq!(second.len(), 1);
    assert_eq!((second[0].0, second[0].1), (StreamId(1), Some(FileNumber(1))));
    assert_eq!(node.files[&FileNumber(2)].streams()[0].max_timestamp_before, TimestampMs(20));
    node.check();
}

#[test]
fn what_is_sealed_already_and_what_is_empty_makes_no_file() {
    let mut node = Node::with_streams([1]);
    assert_eq!(seal(&mut node, 1), None);
    assert_eq!(node.shard.sealed_through(), Some(LogIndex(1)));
    assert_eq!(node.shard.live_ranges(), []);
    node.append(plain(1, 1)).unwrap();
    assert_eq!(seal(&mut node, 1), None);
    assert_eq!(seal(&mut node, 3), Some(FileNumber(1)));
    assert_eq!(seal(&mut node, 3), None);
    assert_eq!(node.shard.live_ranges(), [LogIndex(2)..=LogIndex(3)]);
}

#[test]
fn memory_answers_until_the_file_is_durable() {
    let mut node = Node::with_streams([1]);
    for file in 1..=3 {
        node.append(plain(1, 1)).unwrap();
        assert_eq!(seal(&mut node, 1000), Some(FileNumber(file)));
    }
    node.append(plain(1, 1)).unwrap();
    let located = |node: &Node, offset| match node.shard.stream(StreamId(1)).unwrap().locate(StreamOffset(offset)) {
        Located::Memory(batches) => (0, batches.count()),
        Located::File(file) => (file.0, 0),
        other => panic!("{other:?}"),
    };
    assert_eq!((0..4).map(|offset| located(&node, offset)).collect::<Vec<_>>(), [(0, 4), (0, 3), (0, 2), (0, 1)]);
    // In order, whatever the order in which files become durable.
    node.shard.sealed_durable(FileNumber(2));
    assert_eq!(located(&node, 0), (0, 4));
    node.shard.sealed_durable(FileNumber(1));
    assert_eq!((0..4).map(|offset| located(&node, offset)).collect::<Vec<_>>(), [(2, 0), (2, 0), (0, 2), (0, 1)]);
    assert_eq!(node.shard.sealing(), 1);
    node.check();
    let view = node.shard.stream(StreamId(1)).unwrap();
    assert!(matches!(view.locate(StreamOffset(4)), Located::End));
    assert!(matches!(view.locate(StreamOffset(5)), Located::OutOfRange));
    assert!(matches!(view.locate(StreamOffset(-1)), Located::OutOfRange));
    assert_eq!(view.first_in_memory(), Some(StreamOffset(2)));
}

#[test]
fn a_range_dies_with_its_last_stream() {
    let mut node = Node::with_streams([1, 2]);
    node.append(plain(1, 1)).unwrap();
    node.append(plain(2, 1)).unwrap();
    seal(&mut node, 1000);
    node.append(plain(2, 1)).unwrap();
    seal(&mut node, 1000);
    node.append(plain(2, 1)).unwrap();
    assert_eq!(node.shard.live_ranges(), [LogIndex(0)..=LogIndex(5)]);
    let applied = node.all(&[DeleteStreams { streams: vec![StreamId(2), StreamId(7)] }.into()]);
    assert_eq!(applied.outcomes, [Outcome::DeleteStreams { deleted: 1 }]);
    assert_eq!(applied.effects.dead_files, [FileNumber(2)]);
    assert_eq!(node.shard.live_ranges(), [LogIndex(0)..=LogIndex(3)]);
    node.check();
    let applied = node.all(&[DeleteStreams { streams: vec![StreamId(1)] }.into()]);
    assert_eq!(applied.effects.dead_files, [FileNumber(1)]);
    assert_eq!(node.shard.unsealed_batches(), 0);
}
