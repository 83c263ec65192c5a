//! Compacted objects in the place of what one stream has in sealed ranges: what is freed by them, and what is refused.

use record::{FileNumber, LogIndex, ObjectKey, StreamId};

use super::harness::{Node, capture, dump, plain, put_compacted, put_object, restore};
use crate::commands::{DeleteStreams, PutCompacted, Seal, StagePart, UploadId};
use crate::{Command, ObjectChange, Outcome, PutCompactedError};

fn put(node: &mut Node, command: impl Into<Command>) -> Result<(), PutCompactedError> {
    match node.one(command) {
        Outcome::PutCompacted(result) => {
            node.check();
            result
        }
        other => panic!("{other:?}"),
    }
}

/// As it is, with nothing found out for it.
fn put_as_is(node: &mut Node, command: PutCompacted) -> Outcome {
    let entry = node.entry(&[command.into()]);
    node.log.push(entry.clone());
    let mut outcomes = node.replay(&entry).outcomes;
    node.check();
    outcomes.remove(0)
}

/// Stream, first and last of each.
fn compacted(node: &Node) -> Vec<(u64, u32, u32)> {
    let place = |object: &crate::PlacedObject| (object.stream.map_or(0, |id| id.0), object.first.0, object.last.0);
    node.shard.compacted_objects().iter().map(|compacted| place(&compacted.object)).collect()
}

#[test]
fn ranges_that_hold_nothing_else_are_freed() {
    let mut node = Node::with_sealed_streams();
    put(&mut node, put_compacted(1, 1, 3)).unwrap();
    assert_eq!(compacted(&node), [(1, 1, 3)]);
    assert_eq!(node.shard.live_files(), [2, 4].map(FileNumber), "the second stream is in them");
    let object = node.shard.compacted_objects()[0].object.clone();
    assert_eq!((object.from, object.streams), (LogIndex(0), 1));
    let view = node.shard.stream(StreamId(1)).unwrap();
    assert_eq!((view.files().first(), view.compacted_through()), (Some(FileNumber(4)), Some(FileNumber(3))));
    assert_eq!(node.read(StreamId(1)).len(), 4, "it is read through all of them");
    // More of the same, in the place of the first.
    put(&mut node, put_compacted(1, 1, 4)).unwrap();
    assert_eq!(compacted(&node), [(1, 1, 4)]);
    node.append(plain(1, 2)).unwrap();
    node.one(Seal { through: LogIndex(u64::MAX) });
    put(&mut node, put_compacted(1, 5, 5)).unwrap();
    assert_eq!(compacted(&node), [(1, 1, 4), (1, 5, 5)]);
    assert_eq!(node.shard.live_files(), [2, 4].map(FileNumber));
    put(&mut node, put_compacted(2, 2, 4)).unwrap();
    assert!(node.shard.live_files().is_empty() && node.shard.live_ranges().is_empty());
}

#[test]
fn an_object_of_all_loses_what_is_compacted() {
    let mut node = Node::with_sealed_streams();
    assert_eq!(node.one(put_object(1, 2)), Outcome::PutObject(Ok(())));
    put(&mut node, put_compacted(1, 1, 3)).unwrap();
    let objects: Vec<u64> = node.shard.objects().iter().map(|object| object.streams).collect();
    assert_eq!(objects, [1], "the second stream is in it");
    let entry = node.entry(&[put_compacted(2, 2, 2).into()]);
    node.log.push(entry.clone());
    let effects = node.replay(&entry).effects;
    let told = effects.objects.iter().map(|change| match change {
        ObjectChange::Put(object) => (true, object.stream.map(|id| id.0), object.first.0, object.last.0),
        ObjectChange::Gone(object) => (false, object.stream.map(|id| id.0), object.first.0, object.last.0),
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [(true, Some(2), 2, 2), (false, None, 1, 2)], "first what is read in place of what goes");
    node.check();
    assert!(node.shard.objects().is_empty());
}

#[test]
fn it_goes_with_its_records_and_with_its_stream() {
    let mut node = Node::with_sealed_streams();
    put(&mut node, put_compacted(1, 1, 2)).unwrap();
    put(&mut node, put_compacted(1, 3, 3)).unwrap();
    node.delete_before(1, 6);
    assert_eq!(compacted(&node), [(1, 1, 2), (1, 3, 3)], "the rest of the stream is in it");
    node.delete_before(1, 8);
    assert_eq!(compacted(&node), [(1, 3, 3)]);
    node.one(DeleteStreams { streams: vec![StreamId(1)] });
    node.check();
    assert_eq!(compacted(&node), []);
}

#[test]
fn earlier_parts_keep_their_range() {
    let mut node = Node::with_streams([1]);
    let upload = UploadId(5);
    node.one(StagePart { upload, part: 0, body_bytes: 10 });
    node.append(plain(1, 1)).unwrap();
    node.one(Seal { through: LogIndex(u64::MAX) });
    let mut last = plain(1, 3);
    (last.batch.bytes, last.body_bytes, last.upload) = (110, 100, Some(upload));
    node.append(last).unwrap();
    node.one(Seal { through: LogIndex(u64::MAX) });
    put(&mut node, put_compacted(1, 1, 1)).unwrap();
    assert_eq!(node.shard.live_files(), [1, 2].map(FileNumber), "a part of what is in the second is in the first");
    put(&mut node, put_compacted(1, 2, 2)).unwrap();
    assert!(node.shard.live_files().is_empty(), "in the object it is in one piece");
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut node = Node::with_sealed_streams();
    assert_eq!(put(&mut node, put_compacted(9, 1, 2)), Err(PutCompactedError::UnknownStream));
    assert_eq!(put(&mut node, put_compacted(1, 3, 2)), Err(PutCompactedError::UnknownRanges));
    assert_eq!(put(&mut node, put_compacted(1, 8, 9)), Err(PutCompactedError::UnknownRanges));
    assert_eq!(put(&mut node, put_compacted(1, 2, 3)), Err(PutCompactedError::OlderRangesLeft));
    assert_eq!(put(&mut node, put_compacted(2, 1, 1)), Err(PutCompactedError::NothingLives));
    put(&mut node, put_compacted(1, 1, 3)).unwrap();
    let refused = Outcome::PutCompacted(Err(PutCompactedError::Replaced));
    for (first, last) in [(1, 2), (2, 4), (3, 3)] {
        let half = PutCompacted { replaces: vec![ObjectKey(1 << 48 | 1 << 24 | 3)], ..put_compacted(1, first, last) };
        assert_eq!(put_as_is(&mut node, half), refused, "half of another");
    }
    assert_eq!(put_as_is(&mut node, put_compacted(1, 1, 4)), refused, "built before the other had its place");
    assert_eq!(compacted(&node), [(1, 1, 3)]);
}

#[test]
fn it_is_in_checkpoints() {
    let mut node = Node::with_sealed_streams();
    put(&mut node, put_compacted(1, 1, 2)).unwrap();
    put(&mut node, put_compacted(2, 2, 2)).unwrap();
    let mut chunks = capture(&mut node.shard, true);
    assert_eq!(dump(&restore(&chunks)), dump(&node.shard));
    node.delete_before(1, 8);
    put(&mut node, put_compacted(1, 3, 4)).unwrap();
    chunks.extend(capture(&mut node.shard, false));
    let restored = restore(&chunks);
    assert_eq!(dump(&restored), dump(&node.shard));
    assert_eq!(restored.stream(StreamId(1)).unwrap().compacted_through(), Some(FileNumber(4)));
}
