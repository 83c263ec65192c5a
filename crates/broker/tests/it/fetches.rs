//! Fetches: Kafka's limits, and readers that wait.

use std::path::Path;
use std::pin::pin;

use base::time::{Duration, timeout};
use broker::fetch::{FetchError, FetchPartition, FetchRequest};
use broker::topics::TopicSelector;

use crate::harness::{Node, assert_waits, fetch, from, offsets};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_reader_that_waits_is_woken_by_an_append() {
    let node = Node::start().await;
    node.create("a", 2).await;
    let (one, two) = (node.partition("a", 0), node.partition("a", 1));
    let mut waiting = pin!(node.broker.fetch(fetch(vec![from(&one, 0), from(&two, 0)])));
    assert_waits(waiting.as_mut()).await;
    node.produce(&two, &[b"v"]).await.expect("it is appended");
    let found = timeout(PATIENCE, waiting).await.expect("it is woken");
    assert_eq!(found.partitions.len(), 2, "every partition is answered");
    assert_eq!(offsets(&found.partitions[0]), [0; 0]);
    assert_eq!(offsets(&found.partitions[1]), [0]);
    assert_eq!(found.partitions[1].high_watermark, 1);
}

#[tokio::test]
async fn a_reader_waits_until_its_minimum_is_there() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    let request = FetchRequest { bytes_min: 500, ..fetch(vec![from(&partition, 0)]) };
    let mut waiting = pin!(node.broker.fetch(request));
    assert_waits(waiting.as_mut()).await;
    node.produce(&partition, &[&[0; 100]]).await.expect("it is appended");
    assert_waits(waiting.as_mut()).await;
    node.produce(&partition, &[&[0; 400]]).await.expect("it is appended");
    let found = timeout(PATIENCE, waiting).await.expect("it is woken");
    assert_eq!(offsets(&found.partitions[0]), [0, 1]);
}

#[tokio::test]
async fn a_reader_is_answered_when_its_time_is_up_with_what_there_is() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    node.produce(&partition, &[b"v"]).await.expect("it is appended");
    let request =
        FetchRequest { bytes_min: 1_000_000, wait_max: Duration::from_millis(20), ..fetch(vec![from(&partition, 0)]) };
    let found = timeout(PATIENCE, node.broker.fetch(request)).await.expect("it is answered");
    assert_eq!(offsets(&found.partitions[0]), [0]);
}

#[tokio::test]
async fn the_deletion_of_a_topic_wakes_its_readers() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let mut waiting = pin!(node.broker.fetch(fetch(vec![from(&node.partition("a", 0), 0)])));
    assert_waits(waiting.as_mut()).await;
    node.broker.topics().delete(vec![TopicSelector::Name("a".to_owned())]).await;
    let found = timeout(PATIENCE, waiting).await.expect("it is woken");
    assert_eq!(found.partitions[0].error, Some(FetchError::UnknownTopicOrPartition));
    assert_eq!(found.partitions[0].high_watermark, -1);
}

#[tokio::test]
async fn the_end_of_the_broker_wakes_its_readers() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let mut waiting = pin!(node.broker.fetch(fetch(vec![from(&node.partition("a", 0), 0)])));
    assert_waits(waiting.as_mut()).await;
    node.broker.shutdown().await;
    timeout(PATIENCE, node.broker.cluster().shutdown()).await.expect("it stops");
    timeout(PATIENCE, waiting).await.expect("it is woken");
}

#[tokio::test]
async fn an_offset_out_of_range_is_answered_at_once() {
    let node = Node::start().await;
    node.create("a", 2).await;
    let (bad, good) = (node.partition("a", 0), node.partition("a", 1));
    for offset in [-1, 1, 1_000] {
        let request = fetch(vec![from(&good, 0), from(&bad, offset)]);
        let found = timeout(PATIENCE, node.broker.fetch(request)).await.expect("it is answered");
        assert_eq!(found.partitions[1].error, Some(FetchError::OffsetOutOfRange));
        assert_eq!(found.partitions[0].error, None);
    }
}

#[tokio::test]
async fn an_offset_inside_a_batch_gives_the_whole_batch() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    node.produce(&partition, &[b"0", b"1", b"2"]).await.expect("it is appended");
    node.produce(&partition, &[b"3"]).await.expect("it is appended");
    assert_eq!(offsets(&node.look(&partition, 1).await), [0, 3]);
    assert_eq!(offsets(&node.look(&partition, 3).await), [3]);
    assert_eq!(offsets(&node.look(&partition, 4).await), [0; 0]);
}

#[tokio::test]
async fn limits_are_kept_in_the_order_of_the_request_after_the_first_batch() {
    let node = Node::start().await;
    node.create("a", 3).await;
    let partitions: Vec<_> = (0..3).map(|index| node.partition("a", index)).collect();
    let mut size = 0;
    for partition in &partitions {
        for _ in 0..3 {
            node.produce(partition, &[&[7; 1_000]]).await.expect("it is appended");
        }
        size = i32::try_from(node.look(partition, 0).await.batches[0].bytes).expect("a small batch");
    }
    let requested = |order: [usize; 3], bytes_max: i32, partition_bytes_max: i32| {
        let partitions =
            order.iter().map(|index| FetchPartition { bytes_max: partition_bytes_max, ..from(&partitions[*index], 0) });
        FetchRequest { bytes_max, ..fetch(partitions.collect()) }
    };
    let counts = async |request| {
        let found = node.broker.fetch(request).await;
        found.partitions.iter().map(|partition| partition.batches.len()).collect::<Vec<_>>()
    };
    assert_eq!(counts(requested([0, 1, 2], 4 * size, 1 << 20)).await, [3, 1, 0]);
    assert_eq!(counts(requested([2, 0, 1], 4 * size + 5, 2 * size)).await, [2, 2, 0]);
    assert_eq!(counts(requested([0, 1, 2], 1, 1)).await, [1, 0, 0], "the first batch is given whole");
    assert_eq!(counts(requested([0, 1, 2], 10 * size, 1)).await, [1, 0, 0], "and only it");
}

#[tokio::test]
async fn a_reader_whose_limit_is_below_its_minimum_does_not_wait() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    for _ in 0..3 {
        node.produce(&partition, &[&[7; 1_000]]).await.expect("it is appended");
    }
    let request = FetchRequest { bytes_min: 100_000, bytes_max: 1_500, ..fetch(vec![from(&partition, 0)]) };
    let found = timeout(PATIENCE, node.broker.fetch(request)).await.expect("it is answered");
    assert_eq!(offsets(&found.partitions[0]), [0]);
}

#[tokio::test]
async fn a_fetch_without_partitions_is_answered_at_once() {
    let node = Node::start().await;
    let found = timeout(PATIENCE, node.broker.fetch(fetch(Vec::new()))).await.expect("it is answered");
    assert!(found.partitions.is_empty());
}

#[tokio::test]
async fn epochs_are_checked() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let node = node.restart().await;
    let partition = node.partition("a", 0);
    node.produce(&partition, &[b"v"]).await.expect("it is appended");
    let epoch = partition.partition().leader().epoch;
    assert!(epoch > 0, "another leader, another epoch");
    let answer = async |current_leader_epoch, last_fetched_epoch| {
        let request = FetchPartition { current_leader_epoch, last_fetched_epoch, ..from(&partition, 1) };
        let request = FetchRequest { wait_max: Duration::ZERO, ..fetch(vec![request]) };
        node.broker.fetch(request).await.partitions.remove(0)
    };
    assert_eq!(answer(epoch, -1).await.error, None);
    assert_eq!(answer(epoch - 1, -1).await.error, Some(FetchError::FencedLeaderEpoch));
    assert_eq!(answer(epoch + 1, -1).await.error, Some(FetchError::UnknownLeaderEpoch));
    let same = answer(-1, epoch).await;
    assert_eq!((same.error, same.diverging_epoch), (None, None));
    assert_eq!(answer(-1, epoch + 5).await.error, Some(FetchError::OffsetOutOfRange), "nobody knows that epoch");
}

#[tokio::test]
async fn a_reader_that_left_the_log_is_told_where_kip_595() {
    let node = Node::start().await;
    node.create("a", 1).await;
    node.produce(&node.partition("a", 0), &[b"v"]).await.expect("it is appended");
    let first = node.partition("a", 0).partition().leader().epoch;
    let node = node.restart().await;
    let partition = node.partition("a", 0);
    node.produce(&partition, &[b"v"]).await.expect("it is appended");
    let request = FetchPartition { last_fetched_epoch: first, ..from(&partition, 2) };
    let found = timeout(PATIENCE, node.broker.fetch(fetch(vec![request]))).await.expect("it is answered at once");
    let diverging = found.partitions[0].diverging_epoch.expect("offset 1 is of another epoch");
    assert_eq!((diverging.epoch, diverging.end_offset), (first, 1));
    assert_eq!(found.partitions[0].high_watermark, 2);
}

#[tokio::test]
async fn a_damaged_record_is_told_from_one_that_cannot_be_read_now() {
    const VALUE: &[u8] = b"a value that lies nowhere else";
    let node = Node::start().await;
    node.create("a", 1).await;
    for value in [b"before", VALUE, b"behind"] {
        node.produce(&node.partition("a", 0), &[value]).await.expect("it is appended");
    }
    let node = node
        .restart_after(|log| {
            assert_eq!(damage(log, VALUE), 1);
        })
        .await;
    let partition = node.partition("a", 0);
    assert_eq!(offsets(&node.look(&partition, 2).await), [2]);
    match node.look(&partition, 1).await.error {
        Some(FetchError::Damaged(cause)) => assert!(cause.contains("offset 1"), "{cause}"),
        other => panic!("not damaged: {other:?}"),
    }
}

/// Flips a bit of each place in the files of the log that holds `value`; how many there are.
#[expect(clippy::disallowed_methods, reason = "the broker is stopped, and the files are what its disk made")]
fn damage(log: &Path, value: &[u8]) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(log).expect("a directory") {
        let path = entry.expect("an entry").path();
        if !path.is_file() {
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("a file");
        let places: Vec<usize> =
            (0..bytes.len()).filter(|place| bytes[*place] == value[0] && bytes[*place..].starts_with(value)).collect();
        for place in &places {
            bytes[*place] ^= 1;
        }
        if !places.is_empty() {
            std::fs::write(&path, bytes).expect("written");
        }
        found += places.len();
    }
    found
}
