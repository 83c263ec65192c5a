//! One replica on real files: what is appended is read back the same, whatever lay between.

use crate::support::{Batch, Node, batch, config, options, text};
use base::Env;
use base::time::{Duration, sleep, timeout};
use bytes::Bytes;
use record::{
    BatchBuilder, Compression, LeaderEpoch, ProducerEpoch, ProducerId, ProducerStamp, Sequence, StreamId, StreamOffset,
    TimestampMs,
};
use replica::{FetchError, ProposeError, Repeated, Waiter};
use shard::commands::DeleteStreams;
use shard::{Command, Outcome};
use smallvec::smallvec;

/// Appends `count` batches of `bytes` bytes to streams 1..=3 in turn; gives what each stream has.
async fn fill(node: &Node, name: &str, count: usize, bytes: usize) -> Vec<(u64, i64, Batch)> {
    let mut appended = Vec::new();
    for number in 0..count {
        let stream = 1 + number as u64 % 3;
        let batch = batch(&format!("{name}-{number}"), 1 + number % 4, bytes, 1_000 + number as i64);
        let result = node.append(stream, &batch).await.expect("appended");
        assert!(!result.duplicate);
        appended.push((stream, result.base_offset.0, batch));
    }
    appended
}

async fn check(node: &Node, appended: &[(u64, i64, Batch)], bytes_max: usize) {
    for stream in 1..=3 {
        let expected: Vec<(i64, Bytes)> = appended
            .iter()
            .filter(|(of, ..)| *of == stream)
            .map(|(_, offset, batch)| (*offset, batch.bytes.clone()))
            .collect();
        let read = node.read_all(stream, bytes_max).await;
        assert_eq!(read.len(), expected.len(), "stream {stream}");
        for ((offset, bytes), (expected_offset, expected_bytes)) in read.iter().zip(&expected) {
            assert_eq!(offset, expected_offset);
            assert!(
                bytes == expected_bytes,
                "stream {stream} offset {offset}: {} is not {}",
                text(bytes),
                text(expected_bytes)
            );
        }
    }
}

#[tokio::test]
async fn what_was_appended_is_read_back_from_memory_files_and_sealed_indexes() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let mut settings = config();
    settings.seal_batches = 100;
    let node = Node::start(&env, dir.path(), options(), settings.clone()).await;
    node.create_streams(3).await;
    let mut appended = fill(&node, "small", 250, 300).await;
    appended.extend(fill(&node, "large", 40, 200_000).await);
    for bytes_max in [1, 1_000, 1 << 20] {
        check(&node, &appended, bytes_max).await;
    }
    node.replica.checkpoint().await;
    appended.extend(fill(&node, "behind", 20, 500).await);
    node.stop().await;
    let node = Node::start(&env, dir.path(), options(), settings).await;
    check(&node, &appended, 1 << 20).await;
    appended.extend(fill(&node, "again", 150, 400).await);
    check(&node, &appended, 10_000).await;
    node.stop().await;
}

#[tokio::test]
async fn a_large_batch_travels_in_parts_and_is_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let node = Node::start(&env, dir.path(), options(), config()).await;
    node.create_streams(3).await;
    let mut appended = fill(&node, "first", 3, 100).await;
    let large = batch("large", 3, 3_500_000, 5_000);
    let result = node.append(1, &large).await.unwrap();
    appended.push((1, result.base_offset.0, large));
    appended.extend(fill(&node, "last", 3, 100).await);
    check(&node, &appended, 1 << 20).await;
    node.stop().await;
    let node = Node::start(&env, dir.path(), options(), config()).await;
    check(&node, &appended, 1 << 20).await;
    assert_eq!(node.replica.state().uploads(), 0);
    node.stop().await;
}

#[tokio::test]
async fn batches_above_one_segment_are_refused_by_size_or_stored() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&Env::real(), dir.path(), options(), config()).await;
    node.create_streams(1).await;
    let large = batch("huge", 1, 10_000_000, 5_000);
    node.append(1, &large).await.unwrap();
    let read = node.read_all(1, 1).await;
    assert!(read[0].1 == large.bytes);
    node.stop().await;
}

#[tokio::test]
async fn epochs_rise_with_every_start_and_end_where_the_next_begins() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let mut ends = Vec::new();
    for life in 0..3 {
        let node = Node::start(&env, dir.path(), options(), config()).await;
        if life == 0 {
            node.create_streams(3).await;
        }
        fill(&node, "life", 6, 100).await;
        let epoch = node.replica.state().stream(StreamId(1)).unwrap().epoch();
        let next = node.replica.state().stream(StreamId(1)).unwrap().next_offset();
        ends.push((epoch, next));
        for (epoch, end) in &ends {
            let found = node.replica.epoch_end(StreamId(1), *epoch).unwrap();
            assert_eq!((found.epoch, found.end_offset), (*epoch, *end));
        }
        node.stop().await;
    }
    assert!(ends.windows(2).all(|pair| pair[0].0 < pair[1].0), "{ends:?}");
    assert!(ends[0].0 >= LeaderEpoch(0));
}

#[tokio::test]
async fn a_timestamp_leads_to_the_first_record_that_is_not_older() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = config();
    settings.seal_batches = 10;
    let node = Node::start(&Env::real(), dir.path(), options(), settings).await;
    node.create_streams(1).await;
    for number in 0..35 {
        node.append(1, &batch("t", 2, 100, 1_000 + number * 10)).await.unwrap();
    }
    for (time, offset, timestamp) in [(0, 0, 1_000), (1_001, 1, 1_001), (1_002, 2, 1_010), (1_331, 67, 1_331)] {
        let found = node.replica.offset_for_time(StreamId(1), TimestampMs(time)).await.unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (StreamOffset(offset), TimestampMs(timestamp)), "time {time}");
    }
    assert!(node.replica.offset_for_time(StreamId(1), TimestampMs(1_342)).await.unwrap().is_none());
    let last = node.replica.max_timestamp(StreamId(1)).await.unwrap().unwrap();
    assert_eq!((last.offset, last.timestamp), (StreamOffset(69), TimestampMs(1_341)));
    node.stop().await;
}

#[tokio::test]
async fn a_fetch_from_memory_gives_a_bounded_number_of_batches() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&Env::real(), dir.path(), options(), config()).await;
    node.create_streams(1).await;
    let small = batch("x", 1, 10, 0);
    let appends = (0..2_500).map(|_| node.append(1, &small));
    assert!(futures_util::future::join_all(appends).await.iter().all(Result::is_ok));
    let fetched = node.replica.fetch(StreamId(1), StreamOffset(0), 50 << 20, true).await.unwrap();
    assert_eq!(fetched.batches.len(), 1_024);
    assert_eq!(fetched.next_offset, StreamOffset(2_500));
    assert_eq!(node.read_all(1, 50 << 20).await.len(), 2_500);
    node.stop().await;
}

#[tokio::test]
async fn offsets_outside_of_the_stream_are_told_from_unknown_streams() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&Env::real(), dir.path(), options(), config()).await;
    node.create_streams(1).await;
    node.append(1, &batch("one", 1, 10, 0)).await.unwrap();
    let fetch = |stream, offset| node.replica.fetch(StreamId(stream), StreamOffset(offset), 1_000, true);
    assert!(matches!(fetch(9, 0).await, Err(FetchError::UnknownStream(StreamId(9)))));
    assert!(matches!(fetch(1, -1).await, Err(FetchError::OffsetOutOfRange { .. })));
    assert!(matches!(fetch(1, 2).await, Err(FetchError::OffsetOutOfRange { .. })));
    assert!(fetch(1, 1).await.unwrap().batches.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn a_waiter_is_woken_by_growth_and_by_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&Env::real(), dir.path(), options(), config()).await;
    node.create_streams(2).await;
    let waiter = Waiter::new(1);
    let seat = node.replica.subscribe(StreamId(1), &waiter);
    node.append(2, &batch("other", 1, 10, 0)).await.unwrap();
    let woken = timeout(Duration::from_millis(1), waiter.woken()).await;
    assert!(woken.is_err(), "another stream grew");
    node.append(1, &batch("one", 1, 10, 0)).await.unwrap();
    waiter.woken().await;
    waiter.want(1 << 40);
    let deletion = node.replica.propose(DeleteStreams { streams: vec![StreamId(1)] }.into());
    assert_eq!(deletion.await, Ok(Outcome::DeleteStreams { deleted: 1 }));
    waiter.woken().await;
    node.replica.unsubscribe(seat);
    node.stop().await;
}

#[tokio::test]
async fn a_stopped_replica_refuses_and_a_large_command_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&Env::real(), dir.path(), options(), config()).await;
    let large = Command::from(DeleteStreams { streams: vec![StreamId(1); 600_000] });
    assert!(matches!(node.replica.propose(large).await, Err(ProposeError::TooLarge { .. })));
    node.replica.shutdown().await;
    let refused = node.replica.propose(DeleteStreams { streams: Vec::new() }.into()).await;
    assert_eq!(refused, Err(ProposeError::Stopped));
    let one = batch("one", 1, 10, 0);
    let refused = node.replica.append(smallvec![StreamId(1)], one.summary, one.bytes).await;
    assert_eq!(refused, Err(ProposeError::Stopped));
    assert_eq!(node.replica.read_barrier().await, Err(ProposeError::Stopped));
    node.log.close().await;
}

#[tokio::test]
async fn what_no_stream_needs_any_more_frees_segments() {
    let dir = tempfile::tempdir().unwrap();
    let env = Env::real();
    let mut settings = config();
    settings.seal_batches = 50;
    let node = Node::start(&env, dir.path(), options(), settings.clone()).await;
    for round in 0..6 {
        let streams: Vec<_> = (1..=3).map(|id| StreamId(round * 3 + id)).collect();
        let new = |id: &StreamId| shard::commands::NewStream {
            id: *id,
            epoch_start: LeaderEpoch(0),
            first_offset: StreamOffset(0),
        };
        let create = shard::commands::CreateStreams { streams: streams.iter().map(new).collect() };
        node.replica.propose(create.into()).await.unwrap();
        for number in 0..60_i64 {
            let stream = streams[usize::try_from(number % 3).unwrap()];
            node.append(stream.0, &batch("x", 1, 100_000, number)).await.unwrap();
        }
        node.replica.propose(DeleteStreams { streams }.into()).await.unwrap();
        node.replica.checkpoint().await;
    }
    let stats = node.log.stats();
    assert!(stats.segments <= 5, "36 MB in segments of 4 MiB, nearly all dead: {stats:?}");
    node.stop().await;
    let node = Node::start(&env, dir.path(), options(), settings).await;
    assert_eq!(node.replica.state().streams(), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_deleted_stream_gives_its_segments_back_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = config();
    settings.checkpoint_age_max = Duration::from_millis(200);
    settings.housekeeping = Duration::from_millis(100);
    let node = Node::start(&Env::real(), dir.path(), options(), settings).await;
    // One stream stays, with a single batch that is never sealed.
    node.create_streams(2).await;
    node.append(2, &batch("stays", 1, 10, 0)).await.unwrap();
    for number in 0..240 {
        node.append(1, &batch("x", 1, 100_000, number)).await.unwrap();
    }
    assert!(node.log.stats().segments >= 6, "24 MB in segments of 4 MiB");
    node.replica.propose(DeleteStreams { streams: vec![StreamId(1)] }.into()).await.unwrap();
    let freed = async {
        while node.log.stats().segments > 3 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), freed).await.expect("no restart and no command is needed");
    assert_eq!(node.read_all(2, 1 << 20).await.len(), 1);
    node.stop().await;
    let node = Node::start(&Env::real(), dir.path(), options(), config()).await;
    assert_eq!(node.read_all(2, 1 << 20).await.len(), 1);
    node.stop().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test breaks the folder behind the node's back")]
async fn a_missing_index_file_is_damage_and_one_that_nothing_names_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = config();
    settings.seal_batches = 20;
    let node = Node::start(&Env::real(), dir.path(), options(), settings.clone()).await;
    node.create_streams(1).await;
    for number in 0..100 {
        node.append(1, &batch("x", 1, 100, number)).await.unwrap();
    }
    node.replica.checkpoint().await;
    node.stop().await;
    let folder = dir.path().join("index");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let newest = files.last().expect("something was sealed");
    let name = newest.file_name().unwrap().to_str().unwrap();
    let stem = name.split('.').next().unwrap();
    let unnamed = folder.join(name.replacen(stem, &format!("{:0width$}", 9_999, width = stem.len()), 1));
    std::fs::rename(newest, &unnamed).unwrap();
    let node = Node::start(&Env::real(), dir.path(), options(), settings).await;
    let gone = async {
        while unnamed.exists() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), gone).await.expect("removed by the start");
    let fetched = node.replica.fetch(StreamId(1), StreamOffset(0), 1 << 20, true).await.map(|_| ());
    let by_time = node.replica.offset_for_time(StreamId(1), TimestampMs(0)).await.map(|_| ());
    for read in [fetched, by_time] {
        let Err(error @ FetchError::Damaged { .. }) = read else { panic!("damage was not seen") };
        let text = error.to_string();
        assert!(text.starts_with("stream 1 offset 0: ") && text.contains(name), "{text}");
        assert!(text.ends_with("is missing"), "{text}");
    }
    node.stop().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test breaks the folder behind the node's back")]
async fn a_missing_file_in_the_middle_of_the_index_is_named_whatever_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = config();
    settings.seal_batches = 20;
    let node = Node::start(&Env::real(), dir.path(), options(), settings.clone()).await;
    node.create_streams(1).await;
    // The oldest is the latest, so that the search for it goes all the way back.
    for number in 0..100 {
        node.append(1, &batch("x", 1, 100, 1_000 - number)).await.unwrap();
    }
    node.replica.checkpoint().await;
    node.stop().await;
    let folder = dir.path().join("index");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    let name = files[1].file_name().unwrap().to_str().unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    let node = Node::start(&Env::real(), dir.path(), options(), settings).await;
    let (mut read, mut damaged) = (0, 0);
    for offset in 0..100 {
        match node.replica.fetch(StreamId(1), StreamOffset(offset), 1, true).await {
            Ok(fetched) => {
                assert_eq!(fetched.batches[0].base_offset, StreamOffset(offset));
                read += 1;
            }
            Err(error @ FetchError::Damaged { .. }) => {
                let text = error.to_string();
                assert!(text.starts_with(&format!("stream 1 offset {offset}: ")) && text.contains(name), "{text}");
                damaged += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(damaged >= 10 && read >= 40, "{damaged} damaged and {read} read");
    node.stop().await;
}

/// In memory and in files, in one piece and in parts.
#[tokio::test]
async fn a_batch_of_a_producer_is_found_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = config();
    settings.seal_batches = 200;
    let node = Node::start(&Env::real(), dir.path(), options(), settings.clone()).await;
    node.create_streams(2).await;
    let stamp = |number: i32| ProducerStamp {
        id: ProducerId(i64::from(number % 3)),
        epoch: ProducerEpoch(1),
        base_sequence: Sequence(number / 3 * 2),
    };
    let large_at = 40;
    for number in 0..1_500 {
        let bytes = if number == large_at { 3 << 20 } else { 100 };
        let mut builder = BatchBuilder::new(Compression::None).producer(stamp(number));
        let value = vec![b'x'; bytes];
        for _ in 0..2 {
            builder.push(TimestampMs(i64::from(number)), None, Some(&value), &[]).unwrap();
        }
        let bytes = builder.build().unwrap();
        let summary = record::validate(&bytes).unwrap();
        node.append(1, &Batch { summary, bytes }).await.unwrap();
    }
    check_repeated(&node, stamp, large_at).await;
    node.replica.checkpoint().await;
    node.stop().await;
    let node = Node::start(&Env::real(), dir.path(), options(), settings).await;
    check_repeated(&node, stamp, large_at).await;
    node.stop().await;
}

async fn check_repeated(node: &Node, stamp: impl Fn(i32) -> ProducerStamp, large_at: i32) {
    for number in [0, 1, large_at, 700, 1_300, 1_499] {
        let found = node.replica.find_repeated(StreamId(1), stamp(number), 2).await.expect("readable");
        let base_offset = StreamOffset(2 * i64::from(number));
        let max_timestamp = TimestampMs(number.into());
        assert_eq!(found, Some(Repeated { base_offset, max_timestamp, first_offset: StreamOffset(0) }));
    }
    let other = ProducerStamp { epoch: ProducerEpoch(2), ..stamp(700) };
    for (stream, stamp, records) in [(1, other, 2), (1, stamp(700), 1), (1, stamp(1_500), 2), (2, stamp(700), 2)] {
        let found = node.replica.find_repeated(StreamId(stream), stamp, records).await.expect("readable");
        assert_eq!(found, None);
    }
}
