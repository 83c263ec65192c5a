//! Deleting the front of a stream: what is read, what dies, and what of it a checkpoint shows.

use record::{FileNumber, LeaderEpoch, LogIndex, StreamId, StreamOffset, Term};

use super::harness::{Node, capture, dump, plain, restore};
use crate::commands::{CloseStream, DeleteRecords, LeaderChange, Seal, StreamFront};
use crate::{DeleteRecordsError, FrontPlace, MoveId, Outcome};

/// What goes, without a word of what that frees.
fn front(stream: u64, before: i64) -> StreamFront {
    let none = FileNumber(0);
    StreamFront { stream: StreamId(stream), before: StreamOffset(before), files: none, part_files: none, ended: false }
}

fn delete(node: &mut Node, stream: u64, before: i64) -> Result<i64, DeleteRecordsError> {
    match node.one(DeleteRecords { fronts: vec![front(stream, before)] }) {
        Outcome::DeleteRecords(results) => results[0].map(|first| first.0),
        other => panic!("{other:?}"),
    }
}

fn seal(node: &mut Node) {
    node.one(Seal { through: LogIndex(u64::MAX) });
}

/// Three files of four records each, and four that are in memory.
fn node() -> Node {
    let mut node = Node::with_streams([1, 2]);
    for file in 1..=4 {
        node.append(plain(1, 2)).unwrap();
        node.append(plain(1, 2)).unwrap();
        if file < 4 {
            seal(&mut node);
        }
    }
    node
}

fn first_in_files(node: &Node) -> Vec<u32> {
    node.shard.stream(StreamId(1)).unwrap().files().iter().map(|file| file.0).collect()
}

#[test]
fn the_front_goes_and_what_held_nothing_else_dies() {
    let mut node = node();
    assert_eq!(delete(&mut node, 1, 3), Ok(3), "in the middle of a batch");
    node.check();
    assert_eq!(first_in_files(&node), [1, 2, 3]);
    assert_eq!(node.read(StreamId(1))[0].base_offset, StreamOffset(2), "which is read as a whole");
    assert_eq!(delete(&mut node, 1, 4), Ok(4));
    assert_eq!(first_in_files(&node), [2, 3]);
    assert_eq!(node.shard.live_files(), [FileNumber(2), FileNumber(3)]);
    assert_eq!(delete(&mut node, 1, 1), Ok(4), "what is gone stays gone");
    assert_eq!(delete(&mut node, 1, 13), Ok(13));
    assert_eq!(first_in_files(&node), [] as [u32; 0]);
    node.check();
    assert_eq!(delete(&mut node, 1, 16), Ok(16), "all that there is");
    assert!(node.read(StreamId(1)).is_empty());
    node.check();
    seal(&mut node);
    assert_eq!((node.shard.live_ranges(), node.shard.unsealed_batches()), (vec![], 0), "nothing of it is sealed");
    node.append(plain(1, 1)).unwrap();
    seal(&mut node);
    assert_eq!(first_in_files(&node), [4]);
    node.check();
}

#[test]
fn what_is_not_there_is_refused() {
    let mut node = node();
    assert_eq!(delete(&mut node, 7, 0), Err(DeleteRecordsError::UnknownStream));
    let behind = StreamFront { files: FileNumber(9), part_files: FileNumber(9), ..front(1, 17) };
    let outcome = node.one(DeleteRecords { fronts: vec![behind] });
    // The node of the tests asks for the end at most.
    assert_eq!(outcome, Outcome::DeleteRecords(vec![Ok(StreamOffset(16))]));
    let entry = node.entry(&[DeleteRecords { fronts: vec![behind] }.into()]);
    node.log.push(entry.clone());
    let refused = Outcome::DeleteRecords(vec![Err(DeleteRecordsError::OffsetOutOfRange)]);
    assert_eq!(node.replay(&entry).outcomes, [refused]);
}

#[test]
fn the_front_of_what_waits_for_its_seal_is_not_in_the_file() {
    let mut node = node();
    delete(&mut node, 1, 15).unwrap();
    seal(&mut node);
    let sealed = &node.files[&FileNumber(4)];
    let offsets: Vec<i64> = sealed.streams()[0].batches().map(|batch| batch.base_offset.0).collect();
    assert_eq!(offsets, [14]);
    assert_eq!((sealed.batches(), sealed.streams()[0].previous), (1, None));
    node.check();
}

#[test]
fn epochs_begin_with_the_first_record() {
    let mut node = Node::with_streams([1]);
    for leader in 1..=3 {
        node.term = Term(leader);
        node.one(LeaderChange { leader: record::NodeId(leader) });
        node.append(plain(1, 4)).unwrap();
    }
    let ends = |node: &Node| -> Vec<(i32, i64)> {
        let view = node.shard.stream(StreamId(1)).unwrap();
        let ends = (0..4).map(|epoch| view.epoch_end(LeaderEpoch(epoch)));
        ends.map(|end| (end.epoch.0, end.end_offset.0)).collect()
    };
    assert_eq!(ends(&node), [(0, 0), (1, 4), (2, 8), (3, 12)]);
    delete(&mut node, 1, 6).unwrap();
    assert_eq!(ends(&node), [(0, 6), (1, 6), (2, 8), (3, 12)], "as of epochs without records");
    delete(&mut node, 1, 8).unwrap();
    assert_eq!(ends(&node), [(0, 8), (1, 8), (2, 8), (3, 12)]);
    delete(&mut node, 1, 12).unwrap();
    assert_eq!(ends(&node), [(0, 12), (1, 12), (2, 12), (3, 12)]);
}

#[test]
fn where_the_front_lies_is_known_without_a_look_into_files() {
    let mut node = node();
    let front = |node: &Node, before| node.shard.stream(StreamId(1)).unwrap().front(StreamOffset(before));
    let all = |node: &Node| [0, 3, 4, 11, 12, 16].map(|before| front(node, before));
    let from = |file| FrontPlace::From(FileNumber(file));
    assert_eq!(all(&node), [from(1), from(1), from(2), from(3), from(4), from(4)]);
    node.shard.sealed_durable(FileNumber(1));
    node.shard.sealed_durable(FileNumber(2));
    let in_files = FrontPlace::InFiles(FileNumber(2));
    assert_eq!(all(&node), [in_files, in_files, in_files, from(3), from(4), from(4)]);
    delete(&mut node, 1, 16).unwrap();
    seal(&mut node);
    assert_eq!(front(&node, 16), from(4), "the number is still to be given");
}

#[test]
fn a_checkpoint_shows_what_was_there_when_it_began() {
    let mut node = node();
    node.append(plain(2, 1)).unwrap();
    node.shard.begin_capture(false).unwrap();
    let expected = dump(&node.shard);
    let mut chunks: Vec<_> = node.shard.capture_some(1).into_iter().collect();
    delete(&mut node, 1, 16).unwrap();
    seal(&mut node);
    node.append(plain(1, 1)).unwrap();
    chunks.extend(std::iter::from_fn(|| node.shard.capture_some(1)));
    let restored = restore(&chunks);
    assert_eq!(dump(&restored), expected);
    assert_eq!(restored.stream(StreamId(1)).unwrap().in_memory().count(), 2, "files have the others");
    // And one that begins behind it.
    let chunks = capture(&mut node.shard, true);
    assert_eq!(dump(&restore(&chunks)), dump(&node.shard));
}

#[test]
fn a_stream_that_has_ended_loses_only_what_the_metadata_gave_up() {
    let mut node = node();
    let closed = CloseStream { id: MoveId(4), stream: StreamId(1), after: None };
    assert!(matches!(node.one(closed), Outcome::CloseStream(Ok(_))));
    assert_eq!(delete(&mut node, 1, 4), Err(DeleteRecordsError::Ended));
    let ended = StreamFront { ended: true, ..front(1, 4) };
    let deleted = node.one(DeleteRecords { fronts: vec![ended] });
    assert_eq!(deleted, Outcome::DeleteRecords(vec![Ok(StreamOffset(4))]));
    node.check();
}
