//! Lookups by time in streams with batches whose headers promise later records than they have.

use std::path::Path;

use crate::support::{Batch, Node, batch, config, options};
use base::Env;
use record::{
    BatchBuilder, Compression, StreamId, StreamOffset, TimestampMs, TimestampType, validate, with_max_timestamp,
};

/// Batches that one search unpacks.
const PASSED_COUNT_MAX: i64 = 32;
const STREAM: StreamId = StreamId(1);

/// A batch of two records of `time` and the millisecond after, whose header says `promised`.
fn lying(time: i64, promised: i64) -> Batch {
    let mut builder = BatchBuilder::new(Compression::Gzip);
    for time in [time, time + 1] {
        builder.push(TimestampMs(time), None, Some(b"v"), &[]).expect("fits");
    }
    let bytes = builder.build().expect("a batch");
    let bytes = with_max_timestamp(&bytes, TimestampType::CreateTime, TimestampMs(promised)).expect("a batch").joined();
    let summary = validate(&bytes).expect("valid");
    assert_eq!(summary.max_timestamp, TimestampMs(promised), "the header of a compressed batch is believed");
    Batch { summary, bytes }
}

fn honest(time: i64) -> Batch {
    batch("h", 2, 50, time)
}

/// Runs `check` where all batches are in memory, where some are in files, and after a start.
async fn with_batches(batches: &[Batch], check: impl AsyncFn(&Node)) {
    for seal_batches in [usize::MAX, 3] {
        let dir = tempfile::tempdir().expect("a directory");
        let node = start(dir.path(), seal_batches).await;
        node.create_streams(1).await;
        for batch in batches {
            node.append(STREAM.0, batch).await.expect("appended");
        }
        check(&node).await;
        node.replica.checkpoint().await;
        check(&node).await;
        node.stop().await;
        let node = start(dir.path(), seal_batches).await;
        check(&node).await;
        node.stop().await;
    }
}

async fn start(dir: &Path, seal_batches: usize) -> Node {
    let mut settings = config();
    settings.seal_batches = seal_batches.min(settings.seal_batches);
    Node::start(&Env::real(), dir, options(), settings).await
}

async fn at(node: &Node, time: i64) -> Option<(i64, i64)> {
    let found = node.replica.offset_for_time(STREAM, TimestampMs(time)).await.expect("looked up");
    found.map(|found| (found.offset.0, found.timestamp.0))
}

async fn largest(node: &Node) -> Option<(i64, i64)> {
    let found = node.replica.max_timestamp(STREAM).await.expect("looked up");
    found.map(|found| (found.offset.0, found.timestamp.0))
}

#[tokio::test]
async fn a_header_that_promises_too_much_is_passed_wherever_it_lies() {
    let batches =
        [lying(100, 900), honest(200), lying(210, 900), lying(220, 900), honest(300), honest(400), lying(350, 900)];
    with_batches(&batches, async |node| {
        for (time, expected) in [
            (0, Some((0, 100))),
            (101, Some((1, 101))),
            (102, Some((2, 200))),
            (221, Some((7, 221))),
            (222, Some((8, 300))),
            (302, Some((10, 400))),
            (401, Some((11, 401))),
            (402, None),
            (901, None),
        ] {
            assert_eq!(at(node, time).await, expected, "time {time}");
        }
        assert_eq!(largest(node).await, Some((11, 401)));
    })
    .await;
}

#[tokio::test]
async fn of_equal_timestamps_the_first_is_the_largest() {
    let batches = [honest(100), honest(300), lying(300, 900), honest(200), honest(300), lying(50, 800)];
    with_batches(&batches, async |node| assert_eq!(largest(node).await, Some((3, 301)))).await;
}

#[tokio::test]
async fn what_is_large_is_found_behind_many_that_rise() {
    let mut batches: Vec<_> = (0..100).map(|number| honest(1_000 + 10 * number)).collect();
    batches.push(lying(10, 5_000));
    with_batches(&batches, async |node| {
        assert_eq!(largest(node).await, Some((199, 1_991)));
        assert_eq!(at(node, 1_985).await, Some((198, 1_990)));
        assert_eq!(at(node, 1_992).await, None);
    })
    .await;
}

#[tokio::test]
async fn after_many_that_lie_a_header_is_believed_rather_than_nothing_found() {
    let mut batches: Vec<_> = (0..PASSED_COUNT_MAX + 5).map(|number| lying(number, 1_000)).collect();
    batches.push(honest(500));
    with_batches(&batches, async |node| {
        // The next header that is not looked behind: too early, never too late.
        assert_eq!(at(node, 500).await, Some((2 * PASSED_COUNT_MAX, 1_000)));
        assert_eq!(largest(node).await, Some((2 * PASSED_COUNT_MAX - 1, PASSED_COUNT_MAX)));
        let few = node.replica.offset_for_time(STREAM, TimestampMs(PASSED_COUNT_MAX)).await.expect("looked up");
        assert_eq!(few.map(|found| found.offset), Some(StreamOffset(2 * PASSED_COUNT_MAX - 1)));
    })
    .await;
}
