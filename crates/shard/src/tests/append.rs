//! Appends: offsets, duplicates, bounds, epochs and batches in parts.

use record::{LeaderEpoch, NodeId, ProducerId, Sequence, StreamId, StreamOffset, Term, TimestampMs, TimestampType};

use super::harness::{Node, appended, plain, stamped};
use crate::commands::{
    AbandonParts, Append, Configure, DeleteStreams, ExpireProducers, LeaderChange, Seal, StagePart, Tick, UploadId,
};
use crate::{AppendError, Appended, CreateStreamError, Outcome, Settings, StageError};

#[test]
fn offsets_are_dense_and_an_entry_may_hold_many_appends() {
    let mut node = Node::with_streams([1, 2]);
    let applied = node.all(&[plain(1, 3).into(), plain(2, 1).into(), plain(1, 2).into()]);
    let offsets: Vec<_> = applied
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Append(results) => results[0].as_ref().unwrap().base_offset.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(offsets, [0, 0, 3]);
    let batches = node.read(StreamId(1));
    assert_eq!(batches.len(), 2);
    assert_eq!(batches[0].position + 200, batches[1].position, "bodies stand behind each other");
    assert_eq!(applied.effects.appended.len(), 3);
    assert_eq!(applied.effects.appended[2].next_offset, StreamOffset(5));
    assert_eq!(applied.effects.appended[2].bytes, 100);
}

#[test]
fn a_fan_out_stores_one_body_for_all_targets() {
    let mut node = Node::with_streams([1, 2]);
    node.append(plain(1, 5)).unwrap();
    let mut append = plain(1, 2);
    append.targets = [StreamId(1), StreamId(9), StreamId(2)].into_iter().collect();
    let Outcome::Append(results) = node.one(append) else { panic!() };
    assert_eq!(results[0], appended(5));
    assert_eq!(results[1], Err(AppendError::UnknownStream));
    assert_eq!(results[2], appended(0));
    let (one, two) = (node.read(StreamId(1)), node.read(StreamId(2)));
    assert_eq!(one[1].last_extent(), two[0].last_extent());
}

#[test]
fn a_duplicate_is_answered_with_the_first_offset_and_appends_nothing() {
    let mut node = Node::with_streams([1]);
    assert_eq!(node.append(stamped(1, 2, 7, 0, 0)), appended(0));
    assert_eq!(node.append(stamped(1, 2, 7, 0, 2)), appended(2));
    let again = node.append(stamped(1, 2, 7, 0, 0)).unwrap();
    assert_eq!((again.base_offset, again.duplicate), (StreamOffset(0), true));
    assert_eq!(node.shard.stream(StreamId(1)).unwrap().next_offset(), StreamOffset(4));
    let gap = AppendError::OutOfOrderSequence { producer: ProducerId(7), expected: Sequence(4), actual: Sequence(5) };
    assert_eq!(node.append(stamped(1, 2, 7, 0, 5)), Err(gap));
    node.check();
}

#[test]
fn log_append_time_is_answered_for_a_duplicate_too() {
    let mut node = Node::with_streams([1]);
    let mut append = stamped(1, 1, 7, 0, 0);
    append.batch.timestamp_type = TimestampType::LogAppendTime;
    append.batch.max_timestamp = TimestampMs(77);
    for duplicate in [false, true] {
        let answer = node.append(append.clone()).unwrap();
        assert_eq!((answer.duplicate, answer.log_append_time), (duplicate, Some(TimestampMs(77))));
        append.batch.max_timestamp = TimestampMs(99);
    }
}

#[test]
fn producers_expire_by_the_shards_time() {
    let mut node = Node::with_streams([1]);
    node.append(stamped(1, 1, 7, 0, 0)).unwrap();
    node.time = TimestampMs(1000 + 24 * 3600 * 1000 - 1);
    assert_eq!(node.one(ExpireProducers { count_max: 10 }), Outcome::ExpireProducers { expired: 0 });
    // A clock that went back changes nothing.
    node.time = TimestampMs(5);
    node.one(Tick {});
    assert_eq!(node.shard.time(), TimestampMs(1000 + 24 * 3600 * 1000 - 1));
    node.time = TimestampMs(1000 + 24 * 3600 * 1000);
    assert_eq!(node.one(ExpireProducers { count_max: 10 }), Outcome::ExpireProducers { expired: 1 });
    assert_eq!(node.shard.producers(), 0);
    assert_eq!(node.append(stamped(1, 1, 7, 0, 9)), appended(1));
}

#[test]
fn producers_are_bounded_and_only_idle_ones_make_room() {
    let mut node = Node::with_streams([1, 2]);
    let settings = Settings { producers_max: 2, producer_idle_ms_min: 100, ..Settings::default() };
    node.one(Configure { settings });
    node.append(stamped(1, 1, 7, 0, 0)).unwrap();
    node.append(stamped(2, 1, 7, 0, 0)).unwrap();
    let full = Err(AppendError::TooManyProducers { producers_max: 2 });
    assert_eq!(node.append(stamped(1, 1, 8, 0, 0)), full);
    node.time = TimestampMs(1099);
    node.append(stamped(1, 1, 7, 0, 1)).unwrap();
    assert_eq!(node.append(stamped(1, 1, 8, 0, 0)), full);
    node.time = TimestampMs(1100);
    assert_eq!(node.append(stamped(1, 1, 8, 0, 0)), appended(2));
    // The one on stream 2 was silent longest.
    assert_eq!(node.shard.stream(StreamId(2)).unwrap().producers(), 0);
    assert_eq!(node.shard.stream(StreamId(1)).unwrap().producers(), 2);
    assert_eq!(node.append(plain(1, 1)), appended(3));
}

#[test]
fn a_producer_counts_as_known_only_while_it_is_not_forgotten_soon() {
    let mut node = Node::with_streams([1, 2]);
    for (producers_max, forgotten) in [(10, 500), (1, 50)] {
        let settings =
            Settings { producers_max, producer_idle_ms_min: 100, producer_expiry_ms: 1_000, ..Settings::default() };
        node.one(Configure { settings });
        node.append(stamped(1, 1, 7, 0, 0)).unwrap();
        let used = node.time.0;
        let known = |stream, producer, time| {
            node.shard.remembers_producer(StreamId(stream), ProducerId(producer), TimestampMs(time))
        };
        assert!(known(1, 7, used) && known(1, 7, used + forgotten - 1));
        assert!(!known(1, 7, used + forgotten), "it may be forgotten before what is under way is applied");
        assert!(!known(2, 7, used) && !known(1, 8, used));
    }
}

#[test]
fn nonsense_is_refused() {
    let mut node = Node::with_streams([1]);
    assert_eq!(node.append(plain(1, 0)), Err(AppendError::InvalidBatch));
    assert_eq!(node.append(plain(1, u32::MAX)), Err(AppendError::InvalidBatch));
    assert_eq!(node.append(stamped(1, 1, 7, 0, -1)), Err(AppendError::InvalidBatch));
    assert_eq!(node.append(stamped(1, 1, -1, 0, 0)), Err(AppendError::InvalidBatch));
    let mut append = plain(1, 1);
    append.batch.transactional = true;
    assert_eq!(node.append(append), Err(AppendError::Transactional));
    let mut append = plain(1, 1);
    append.batch.control = true;
    assert_eq!(node.append(append), Err(AppendError::InvalidBatch));
    let mut append = plain(1, 1);
    append.batch.bytes += 1;
    assert_eq!(node.append(append), Err(AppendError::MissingParts));
    assert_eq!(node.append(plain(2, 1)), Err(AppendError::UnknownStream));
}

#[test]
fn the_index_in_memory_is_bounded() {
    let mut node = Node::with_streams([1]);
    node.one(Configure { settings: Settings { unsealed_batches_max: 2, ..Settings::default() } });
    node.append(plain(1, 1)).unwrap();
    node.append(plain(1, 1)).unwrap();
    assert_eq!(node.append(plain(1, 1)), Err(AppendError::IndexFull { unsealed_batches_max: 2 }));
    let through = node.log.last().unwrap().index;
    node.one(Seal { through });
    assert_eq!(node.append(plain(1, 1)), appended(2));
}

#[test]
fn streams_are_bounded_and_creation_may_come_again() {
    let mut node = Node::with_streams([1]);
    node.one(Configure { settings: Settings { streams_max: 2, ..Settings::default() } });
    let new = |id, epoch, offset| crate::commands::NewStream {
        id: StreamId(id),
        epoch_start: LeaderEpoch(epoch),
        first_offset: StreamOffset(offset),
    };
    let streams = vec![new(1, 0, 0), new(5, -1, 0), new(5, 0, -1), new(5, 0, i64::MAX), new(5, 3, 40), new(6, 0, 0)];
    let Outcome::CreateStreams(results) = node.one(crate::commands::CreateStreams { streams }) else { panic!() };
    let out = Err(CreateStreamError::OutOfRange);
    assert_eq!(results, [Ok(()), out, out, out, Ok(()), Err(CreateStreamError::TooManyStreams { streams_max: 2 })]);
    let view = node.shard.stream(StreamId(5)).unwrap();
    assert_eq!(
        (view.first_offset(), view.next_offset(), view.epoch()),
        (StreamOffset(40), StreamOffset(40), LeaderEpoch(3))
    );
}

#[test]
fn every_change_of_leader_raises_every_epoch_once() {
    let mut node = Node::with_streams([1, 2]);
    let epoch = |node: &Node, stream| node.shard.stream(StreamId(stream)).unwrap().epoch().0;
    node.one(LeaderChange { leader: NodeId(1) });
    assert_eq!(epoch(&node, 1), 1);
    node.one(LeaderChange { leader: NodeId(1) });
    assert_eq!(epoch(&node, 1), 1, "said twice in a term");
    node.append(plain(1, 4)).unwrap();
    for term in 2..5 {
        node.term = Term(term);
        node.one(LeaderChange { leader: NodeId(2) });
    }
    node.append(plain(1, 1)).unwrap();
    assert_eq!((epoch(&node, 1), epoch(&node, 2)), (4, 4));
    assert_eq!(node.read(StreamId(1)).iter().map(|batch| batch.epoch.0).collect::<Vec<_>>(), [1, 4]);
    let view = node.shard.stream(StreamId(1)).unwrap();
    let end = view.epoch_end(LeaderEpoch(3));
    assert_eq!((end.epoch, end.end_offset), (LeaderEpoch(1), StreamOffset(4)));
    // A stream made now begins at its own epoch.
    node.one(crate::commands::CreateStreams {
        streams: vec![crate::commands::NewStream {
            id: StreamId(3),
            epoch_start: LeaderEpoch(0),
            first_offset: StreamOffset(0),
        }],
    });
    assert_eq!(epoch(&node, 3), 0);
}

fn last_part(stream: u64, upload: u64, bytes: u32) -> Append {
    let mut append = plain(stream, 3);
    append.upload = Some(UploadId(upload));
    append.batch.bytes = bytes;
    append.body_bytes = 50;
    append
}

#[test]
fn parts_become_one_batch() {
    let mut node = Node::with_streams([1]);
    for part in 0..2 {
        let staged = node.one(StagePart { upload: UploadId(4), part, body_bytes: 30 });
        assert_eq!(staged, Outcome::StagePart(Ok(())));
        assert_eq!(
            node.shard.stream(StreamId(1)).unwrap().next_offset(),
            StreamOffset(0),
            "staged parts are invisible"
        );
    }
    assert_eq!(
        node.one(StagePart { upload: UploadId(4), part: 3, body_bytes: 30 }),
        Outcome::StagePart(Err(StageError::OutOfOrder { expected: 2, actual: 3 }))
    );
    assert_eq!(node.append(last_part(1, 4, 110)), appended(0));
    let batches = node.read(StreamId(1));
    assert_eq!(batches[0].total_bytes(), 110);
    assert_eq!(batches[0].extents().map(|extent| extent.bytes).collect::<Vec<_>>(), [30, 30, 50]);
    assert_eq!(node.shard.uploads(), 0);
    assert_eq!(node.append(last_part(1, 4, 110)), Err(AppendError::MissingParts), "parts are used once");
}

#[test]
fn parts_that_do_not_make_up_the_batch_are_dropped() {
    let mut node = Node::with_streams([1]);
    node.one(StagePart { upload: UploadId(4), part: 0, body_bytes: 30 });
    assert_eq!(node.append(last_part(1, 4, 110)), Err(AppendError::MissingParts));
    assert_eq!(node.shard.uploads(), 0);
}

#[test]
fn a_range_with_parts_is_live_until_they_are_abandoned_or_their_stream_is_gone() {
    let mut node = Node::with_streams([1]);
    let seal = |node: &mut Node| {
        let through = node.log.last().unwrap().index;
        node.one(Seal { through })
    };
    node.one(StagePart { upload: UploadId(4), part: 0, body_bytes: 30 });
    node.one(StagePart { upload: UploadId(5), part: 0, body_bytes: 30 });
    seal(&mut node);
    node.check();
    assert_eq!(node.shard.live_ranges().len(), 1);
    assert_eq!(
        node.one(AbandonParts { uploads: vec![UploadId(5), UploadId(5)] }),
        Outcome::AbandonParts { abandoned: 1 }
    );
    assert_eq!(node.shard.live_ranges().len(), 1);
    assert_eq!(node.append(last_part(1, 4, 80)), appended(0));
    node.check();
    assert_eq!(node.shard.live_ranges().len(), 1, "the stream holds the range now");
    seal(&mut node);
    node.check();
    let applied = node.all(&[DeleteStreams { streams: vec![StreamId(1)] }.into()]);
    assert_eq!(applied.effects.dead_files.len(), 2);
    assert_eq!(node.shard.live_ranges(), []);
}

#[test]
fn a_part_sealed_before_its_last_part_is_kept() {
    // The seal ends between a part and the append that uses it, and comes after both.
    let mut node = Node::with_streams([1]);
    node.one(StagePart { upload: UploadId(4), part: 0, body_bytes: 30 });
    let through = node.log.last().unwrap().index;
    node.append(last_part(1, 4, 80)).unwrap();
    node.one(Seal { through });
    node.check();
    assert_eq!(node.shard.live_ranges().len(), 1);
    node.one(DeleteStreams { streams: vec![StreamId(1)] });
    assert_eq!(node.shard.live_ranges(), []);
}

#[test]
fn a_new_leader_drops_what_the_old_one_staged() {
    let mut node = Node::with_streams([1]);
    node.one(StagePart { upload: UploadId(4), part: 0, body_bytes: 30 });
    let through = node.log.last().unwrap().index;
    node.one(Seal { through });
    node.term = Term(9);
    let applied = node.all(&[LeaderChange { leader: NodeId(2) }.into()]);
    assert_eq!(node.shard.uploads(), 0);
    assert_eq!(applied.effects.dead_files.len(), 1);
    node.check();
}

#[test]
fn a_duplicate_appended_answer_has_the_log_start() {
    let mut node = Node::with_streams([]);
    node.one(crate::commands::CreateStreams {
        streams: vec![crate::commands::NewStream {
            id: StreamId(3),
            epoch_start: LeaderEpoch(0),
            first_offset: StreamOffset(10),
        }],
    });
    let expected = Appended {
        base_offset: StreamOffset(10),
        duplicate: false,
        log_append_time: None,
        log_start_offset: StreamOffset(10),
    };
    assert_eq!(node.append(stamped(3, 1, 7, 0, 0)), Ok(expected));
    assert_eq!(node.append(stamped(3, 1, 7, 0, 0)), Ok(Appended { duplicate: true, ..expected }));
}
