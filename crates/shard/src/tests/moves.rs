//! The steps by which a stream moves from one shard to another, one by one.

mod world;

use std::collections::BTreeMap;

use record::{LeaderEpoch, NodeId, ProducerId, ShardId, StreamId, StreamOffset, Term, TopicId};

use super::harness::{Node, plain, stamped};
use crate::commands::{
    CancelAt, CancelMove, CloseStream, CompleteMove, CompleteTopics, CreateTopics, DeleteTopics, LeaderChange,
    MoveStreams, NewMove, NewTopic, OpenStream, PutShards, ReceiveStream, SetLogStart,
};
use crate::{
    AppendError, CancelMoveError, CloseStreamError, ClosedStream, CompleteMoveError, MoveId, MoveStreamError, Outcome,
    ReceiveStreamError, Received, ShardRecord, StreamHome, UnknownTopic,
};

const TOPIC: TopicId = TopicId(9);
const STREAM: StreamId = StreamId(1);
/// One metadata group and so many shards for data, from 1 on.
const SHARDS: u32 = 4;

/// The metadata group, which has one topic of one partition on shard 1.
fn metadata() -> Node {
    let mut node = Node::default();
    let shard = |id| ShardRecord { id: ShardId(id), voters: vec![NodeId(1)] };
    node.one(PutShards { shards: (0..=SHARDS).map(shard).collect() });
    let partitions = vec![ShardId(1)];
    node.one(CreateTopics {
        topics: vec![NewTopic { id: TOPIC, name: "t".to_owned(), partitions, configs: BTreeMap::new() }],
    });
    node.one(CompleteTopics { topics: vec![TOPIC] });
    node
}

fn begin(node: &mut Node, topic: TopicId, partition: u32, to: u32) -> Result<MoveId, MoveStreamError> {
    match node.one(MoveStreams { moves: vec![NewMove { topic, partition, to: ShardId(to) }] }) {
        Outcome::MoveStreams(mut results) => results.remove(0),
        other => panic!("{other:?}"),
    }
}

fn close(node: &mut Node, id: MoveId, after: Option<ProducerId>) -> Result<ClosedStream, CloseStreamError> {
    match node.one(CloseStream { id, stream: STREAM, after }) {
        Outcome::CloseStream(result) => result,
        other => panic!("{other:?}"),
    }
}

fn receive(node: &mut Node, command: ReceiveStream) -> Result<Received, ReceiveStreamError> {
    match node.one(command) {
        Outcome::ReceiveStream(result) => result,
        other => panic!("{other:?}"),
    }
}

fn complete(node: &mut Node, command: CompleteMove) -> Result<(), CompleteMoveError> {
    match node.one(command) {
        Outcome::CompleteMove(result) => result,
        other => panic!("{other:?}"),
    }
}

fn cancel(node: &mut Node, id: MoveId, at: CancelAt) -> Result<(), CancelMoveError> {
    match node.one(CancelMove { id, at }) {
        Outcome::CancelMove(result) => result,
        other => panic!("{other:?}"),
    }
}

fn completion(id: MoveId, from_offset: i64) -> CompleteMove {
    CompleteMove { id, topic: TOPIC, partition: 0, from_offset: StreamOffset(from_offset) }
}

fn piece(id: MoveId, closed: &ClosedStream) -> ReceiveStream {
    let open = OpenStream {
        first_offset: closed.next_offset,
        epoch_start: LeaderEpoch(closed.epoch.0 + 1),
        epochs: closed.epochs.clone(),
    };
    ReceiveStream { id, stream: STREAM, producers: closed.producers.clone(), open: (!closed.more).then_some(open) }
}

fn history(node: &Node) -> Vec<(i64, u32)> {
    let home = |home: &StreamHome| (home.from_offset.0, home.shard.0);
    node.shard.topic(TOPIC).unwrap().partitions[0].history.iter().map(home).collect()
}

fn source() -> Node {
    Node::with_streams([1])
}

#[test]
fn what_cannot_move_is_refused() {
    let mut node = metadata();
    assert_eq!(begin(&mut node, TopicId(1), 0, 2), Err(MoveStreamError::UnknownTopic));
    assert_eq!(begin(&mut node, TOPIC, 1, 2), Err(MoveStreamError::UnknownPartition));
    assert_eq!(begin(&mut node, TOPIC, 0, 0), Err(MoveStreamError::UnknownShard));
    assert_eq!(begin(&mut node, TOPIC, 0, SHARDS + 1), Err(MoveStreamError::UnknownShard));
    assert_eq!(begin(&mut node, TOPIC, 0, 1), Err(MoveStreamError::OnShard));
    let id = begin(&mut node, TOPIC, 0, 2).unwrap();
    assert_eq!(begin(&mut node, TOPIC, 0, 3), Err(MoveStreamError::Moving));
    assert_eq!(node.shard.stream_move(TOPIC, 0).unwrap().to, ShardId(2));
    assert_eq!(complete(&mut node, completion(id, 5)), Ok(()));
    assert_eq!(history(&node), [(0, 1), (5, 2)]);
    assert_eq!(complete(&mut node, completion(id, 5)), Err(CompleteMoveError::UnknownMove), "again");
    assert_eq!(begin(&mut node, TOPIC, 0, 1), Err(MoveStreamError::OnShard), "it has an earlier range");
    let id = begin(&mut node, TOPIC, 0, 3).unwrap();
    assert_eq!(complete(&mut node, completion(id, 4)), Err(CompleteMoveError::OutOfRange));
    node.one(DeleteTopics { topics: vec![TOPIC] });
    assert_eq!(complete(&mut node, completion(id, 9)), Err(CompleteMoveError::UnknownTopic));
    assert_eq!(cancel(&mut node, id, CancelAt::Metadata { topic: TOPIC, partition: 0 }), Ok(()));
    assert_eq!(node.shard.stream_moves(), []);
}

#[test]
fn a_range_without_records_stays_in_the_history() {
    let mut node = metadata();
    let revision = node.shard.topic(TOPIC).unwrap().revision;
    for to in [2, 3] {
        let id = begin(&mut node, TOPIC, 0, to).unwrap();
        assert_eq!(complete(&mut node, completion(id, 0)), Ok(()));
    }
    assert_eq!(history(&node), [(0, 1), (0, 2), (0, 3)]);
    assert!(node.shard.topic(TOPIC).unwrap().revision > revision);
}

#[test]
fn a_partition_begins_later_than_it_did_where_it_was() {
    let mut node = metadata();
    for (to, from_offset) in [(2, 5), (3, 9)] {
        let id = begin(&mut node, TOPIC, 0, to).unwrap();
        assert_eq!(complete(&mut node, completion(id, from_offset)), Ok(()));
    }
    let set = |node: &mut Node, topic, partition, before| match node.one(SetLogStart {
        topic,
        partition,
        before: StreamOffset(before),
    }) {
        Outcome::SetLogStart(result) => result.map(|first| first.0),
        other => panic!("{other:?}"),
    };
    assert_eq!(set(&mut node, TOPIC, 0, 3), Ok(3));
    assert_eq!(history(&node), [(3, 1), (5, 2), (9, 3)]);
    let revision = node.shard.topic(TOPIC).unwrap().revision;
    assert_eq!(set(&mut node, TOPIC, 0, 2), Ok(3), "what is gone stays gone");
    assert_eq!(node.shard.topic(TOPIC).unwrap().revision, revision, "and nothing has changed");
    assert_eq!(set(&mut node, TOPIC, 0, 7), Ok(7));
    assert_eq!(history(&node), [(7, 1), (7, 2), (9, 3)]);
    assert_eq!(set(&mut node, TOPIC, 0, 20), Ok(20));
    assert_eq!(history(&node), [(20, 1), (20, 2), (20, 3)]);
    assert_eq!(set(&mut node, TOPIC, 1, 0), Err(UnknownTopic));
    assert_eq!(set(&mut node, TopicId(1), 0, 0), Err(UnknownTopic));
    node.one(DeleteTopics { topics: vec![TOPIC] });
    assert_eq!(set(&mut node, TOPIC, 0, 0), Err(UnknownTopic), "it is going");
}

#[test]
fn a_closed_stream_refuses_everything_and_keeps_its_epoch() {
    let mut node = source();
    node.append(stamped(1, 2, 7, 0, 0)).unwrap();
    let closed = close(&mut node, MoveId(4), None).unwrap();
    assert_eq!((closed.first_offset, closed.next_offset), (StreamOffset(0), StreamOffset(2)));
    assert_eq!(close(&mut node, MoveId(4), None), Ok(closed.clone()), "again");
    assert_eq!(close(&mut node, MoveId(3), None), Err(CloseStreamError::Cancelled), "of an earlier move");
    for append in [plain(1, 1), stamped(1, 2, 7, 0, 0), stamped(1, 1, 7, 0, 9)] {
        assert_eq!(node.append(append), Err(AppendError::Closed));
    }
    let epoch = node.shard.stream(STREAM).unwrap().epoch();
    node.term = Term(9);
    node.one(LeaderChange { leader: NodeId(2) });
    let view = node.shard.stream(STREAM).unwrap();
    assert!(view.is_closed());
    assert_eq!((view.epoch(), view.next_offset()), (epoch, StreamOffset(2)));
    assert_eq!(close(&mut node, MoveId(4), None), Ok(closed));
    assert_eq!(cancel(&mut node, MoveId(4), CancelAt::Shard(STREAM)), Err(CancelMoveError::Closed));
    node.check();
}

#[test]
fn what_was_given_up_is_not_closed_by_a_late_step() {
    let mut node = source();
    assert_eq!(cancel(&mut node, MoveId(4), CancelAt::Shard(STREAM)), Ok(()));
    assert_eq!(close(&mut node, MoveId(4), None), Err(CloseStreamError::Cancelled));
    node.append(plain(1, 1)).unwrap();
    assert!(close(&mut node, MoveId(5), None).is_ok(), "a later move may");
}

#[test]
fn only_a_place_is_let_go_of() {
    let mut node = Node::default();
    let at = CancelAt::Shard(STREAM);
    assert_eq!(receive(&mut node, ReceiveStream::prepare(MoveId(4), STREAM)), Ok(Received::Place));
    assert_eq!(cancel(&mut node, MoveId(3), at), Ok(()), "of an earlier move");
    assert_eq!(node.shard.streams(), 1);
    assert_eq!(cancel(&mut node, MoveId(4), at), Ok(()));
    assert_eq!(node.shard.streams(), 0);
    let closed = close(&mut source(), MoveId(5), None).unwrap();
    receive(&mut node, ReceiveStream::prepare(MoveId(5), STREAM)).unwrap();
    receive(&mut node, piece(MoveId(5), &closed)).unwrap();
    for late in [4, 5] {
        assert_eq!(cancel(&mut node, MoveId(late), at), Ok(()));
        assert_eq!(node.append(plain(1, 1)).unwrap().base_offset, StreamOffset(i64::try_from(late).unwrap() - 4));
    }
}

#[test]
fn a_stream_is_not_seen_before_it_is_open_and_opens_once() {
    let mut source = source();
    source.append(stamped(1, 3, 7, 0, 0)).unwrap();
    let closed = close(&mut source, MoveId(4), None).unwrap();
    let mut target = Node::default();
    assert_eq!(receive(&mut target, piece(MoveId(4), &closed)), Err(ReceiveStreamError::NoPlace));
    assert_eq!(receive(&mut target, ReceiveStream::prepare(MoveId(4), STREAM)), Ok(Received::Place));
    assert!(target.shard.stream(STREAM).is_none());
    assert_eq!(target.append(plain(1, 1)), Err(AppendError::Closed));
    assert_eq!(close(&mut target, MoveId(9), None), Err(CloseStreamError::UnknownStream));
    assert_eq!(
        receive(&mut target, ReceiveStream::prepare(MoveId(3), STREAM)),
        Err(ReceiveStreamError::Stale),
        "of an earlier move"
    );
    let open = Ok(Received::Open { first_offset: StreamOffset(3), epoch: LeaderEpoch(closed.epoch.0 + 1) });
    assert_eq!(receive(&mut target, piece(MoveId(4), &closed)), open);
    let again = target.append(stamped(1, 3, 7, 0, 0)).unwrap();
    assert!(again.duplicate && again.base_offset == StreamOffset(0), "{again:?}");
    assert_eq!(target.append(stamped(1, 1, 7, 0, 3)).unwrap().base_offset, StreamOffset(3));
    for late in [ReceiveStream::prepare(MoveId(4), STREAM), piece(MoveId(4), &closed)] {
        assert_eq!(receive(&mut target, late), open);
    }
    let view = target.shard.stream(STREAM).unwrap();
    assert_eq!((view.first_offset(), view.next_offset()), (StreamOffset(3), StreamOffset(4)));
    // Of epochs that were on the other shard, too.
    assert_eq!(view.epoch_end(closed.epoch).end_offset, StreamOffset(3));
    assert_eq!(
        receive(&mut source, ReceiveStream::prepare(MoveId(8), STREAM)),
        Err(ReceiveStreamError::HasEarlierRange)
    );
    target.check();
}
