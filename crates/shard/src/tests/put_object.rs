//! Objects in the place of sealed ranges: what dies with whom, and what is refused.

use record::{FileNumber, LogIndex, ObjectKey, StreamId};

use super::harness::{LoggedEntry, Node, capture, dump, plain, put_object, restore};
use crate::commands::{DeleteStreams, PutObject, Seal, StagePart, UploadId};
use crate::{ObjectChange, Outcome, PutObjectError};

fn put(node: &mut Node, first: u32, last: u32) -> Result<(), PutObjectError> {
    match node.one(put_object(first, last)) {
        Outcome::PutObject(result) => {
            node.check();
            result
        }
        other => panic!("{other:?}"),
    }
}

/// First, last and names of each object.
fn objects(node: &Node) -> Vec<(u32, u32, u64)> {
    node.shard.objects().iter().map(|object| (object.first.0, object.last.0, object.streams)).collect()
}

#[test]
fn an_object_has_the_place_of_ranges_and_of_objects() {
    let mut node = Node::with_sealed_streams();
    put(&mut node, 2, 3).unwrap();
    assert_eq!(objects(&node), [(2, 3, 3)]);
    assert_eq!(node.shard.live_files(), [1, 4].map(FileNumber));
    assert_eq!(node.shard.live_ranges().len(), 2, "the log between is the objects'");
    put(&mut node, 1, 4).unwrap();
    assert_eq!(objects(&node), [(1, 4, 6)]);
    assert!(node.shard.live_files().is_empty() && node.shard.live_ranges().is_empty());
    let object = node.shard.object_of(FileNumber(3)).unwrap();
    let whole = (LogIndex(0), node.shard.sealed_through().unwrap());
    assert_eq!((object.from, object.through), whole, "all of the log that it stands for");
    assert_eq!(node.shard.object_of(FileNumber(5)), None);
}

#[test]
fn an_object_dies_with_the_last_stream_that_names_it() {
    let mut node = Node::with_sealed_streams();
    put(&mut node, 1, 3).unwrap();
    node.delete_before(1, 12);
    assert_eq!(objects(&node), [(1, 3, 1)]);
    node.one(DeleteStreams { streams: vec![StreamId(2)] });
    node.check();
    assert_eq!((objects(&node), node.shard.live_files()), (vec![], vec![FileNumber(4)]));
    node.append(plain(1, 1)).unwrap();
    put(&mut node, 4, 4).unwrap();
    assert_eq!(objects(&node), [(4, 4, 1)]);
}

#[test]
fn what_comes_and_goes_is_told() {
    let mut node = Node::with_sealed_streams();
    let told = |node: &mut Node, entry: &LoggedEntry| -> Vec<(bool, u32, u32)> {
        node.log.push(entry.clone());
        let told = |change: &ObjectChange| match change {
            ObjectChange::Put(object) => (true, object.first.0, object.last.0),
            ObjectChange::Gone(object) => (false, object.first.0, object.last.0),
        };
        node.replay(entry).effects.objects.iter().map(told).collect()
    };
    let entry = node.entry(&[put_object(2, 3).into()]);
    assert_eq!(told(&mut node, &entry), [(true, 2, 3)]);
    let entry = node.entry(&[put_object(1, 3).into()]);
    assert_eq!(told(&mut node, &entry), [], "it says nothing of the one it replaces");
    let replaces = node.shard.objects().iter().map(|object| object.key).collect();
    let entry = node.entry(&[PutObject { replaces, ..put_object(1, 3) }.into()]);
    assert_eq!(told(&mut node, &entry), [(true, 1, 3)], "the other one is in it");
    let entry = node.entry(&[DeleteStreams { streams: vec![StreamId(1), StreamId(2)] }.into()]);
    assert_eq!(told(&mut node, &entry), [(false, 1, 3)]);
}

#[test]
fn streams_with_parts_in_ranges_are_found() {
    let mut node = Node::with_streams(1..=20);
    for (number, stream) in [(1, 3), (2, 17)] {
        let upload = UploadId(number);
        node.one(StagePart { upload, part: 0, body_bytes: 10 });
        node.one(Seal { through: LogIndex(u64::MAX) });
        assert!(node.shard.sealed_ranges().iter().any(|range| range.has_staged));
        let mut last = plain(stream, 3);
        (last.batch.bytes, last.body_bytes, last.upload) = (110, 100, Some(upload));
        node.append(last).unwrap();
        node.one(Seal { through: LogIndex(u64::MAX) });
    }
    let found = |first: u32, last: u32| {
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(next) = from {
            let page = node.shard.part_streams(FileNumber(first), FileNumber(last), next, 7);
            found.extend(page.streams.iter().map(|stream| stream.0));
            from = page.next;
        }
        found
    };
    let ranges = node.shard.sealed_ranges();
    assert!(ranges.windows(2).all(|pair| pair[0].file < pair[1].file && pair[0].through < pair[1].from));
    let with_parts: Vec<u32> =
        ranges.iter().map(|range| range.file.0).filter(|file| !found(*file, *file).is_empty()).collect();
    assert_eq!(with_parts.len(), 2, "{ranges:?}");
    assert_eq!(found(with_parts[0], with_parts[0]), [3]);
    assert_eq!(found(with_parts[1], 99), [17]);
    assert_eq!(found(0, 99), [3, 17]);
    assert_eq!(found(99, 99), [0; 0]);
}

#[test]
fn a_part_of_an_object_is_not_let_go_of() {
    let mut node = Node::with_sealed_streams();
    put(&mut node, 1, 4).unwrap();
    node.delete_before(1, 9);
    assert_eq!(objects(&node), [(1, 4, 6)], "the rest of the stream is in it");
    node.delete_before(1, 16);
    assert_eq!(objects(&node), [(1, 4, 2)]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut node = Node::with_sealed_streams();
    for (first, last) in [(3, 2), (4, 5), (9, 9)] {
        assert_eq!(put(&mut node, first, last), Err(PutObjectError::UnknownRanges));
    }
    put(&mut node, 2, 3).unwrap();
    for (first, last) in [(1, 2), (3, 4), (2, 2), (3, 3)] {
        assert_eq!(put(&mut node, first, last), Err(PutObjectError::Replaced), "half of another");
    }
    // Built before that other one had its place.
    let entry = node.entry(&[put_object(1, 4).into()]);
    node.log.push(entry.clone());
    assert_eq!(node.replay(&entry).outcomes, [Outcome::PutObject(Err(PutObjectError::Replaced))]);
    let wrong = PutObject { replaces: vec![ObjectKey(99)], ..put_object(2, 3) };
    let entry = node.entry(&[wrong.into()]);
    node.log.push(entry.clone());
    assert_eq!(node.replay(&entry).outcomes, [Outcome::PutObject(Err(PutObjectError::Replaced))]);
    node.delete_before(1, 4);
    assert_eq!(put(&mut node, 1, 1), Err(PutObjectError::NothingLives));
    assert_eq!(put(&mut node, 0, 1), Err(PutObjectError::NothingLives));
}

#[test]
fn parts_that_wait_keep_their_range() {
    let mut node = Node::with_sealed_streams();
    let upload = UploadId(5);
    node.one(StagePart { upload, part: 0, body_bytes: 10 });
    node.append(plain(1, 1)).unwrap();
    node.one(Seal { through: LogIndex(u64::MAX) });
    assert_eq!(put(&mut node, 4, 5), Err(PutObjectError::PartsWait));
    let mut last = plain(2, 3);
    (last.batch.bytes, last.body_bytes, last.upload) = (110, 100, Some(upload));
    node.append(last).unwrap();
    // The batch is in no range yet.
    assert_eq!(node.one(put_object(4, 5)), Outcome::Tick);
    node.one(Seal { through: LogIndex(u64::MAX) });
    assert_eq!(node.one(put_object(4, 5)), Outcome::Tick, "it is in the next one");
    put(&mut node, 4, 6).unwrap();
    assert_eq!(objects(&node), [(4, 6, 4)], "the second stream has nothing but a part in the fifth");
}

#[test]
fn objects_are_in_checkpoints() {
    let mut node = Node::with_sealed_streams();
    put(&mut node, 1, 2).unwrap();
    let mut chunks = capture(&mut node.shard, true);
    assert_eq!(dump(&restore(&chunks)), dump(&node.shard));
    node.delete_before(1, 12);
    put(&mut node, 2, 4).unwrap_err();
    put(&mut node, 1, 3).unwrap();
    chunks.extend(capture(&mut node.shard, false));
    let restored = restore(&chunks);
    assert_eq!(dump(&restored), dump(&node.shard));
    assert_eq!(restored.object_of(FileNumber(2)), node.shard.object_of(FileNumber(2)));
}
