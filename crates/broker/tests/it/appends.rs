//! Appends: order, what is refused, and what the producer is told.

use broker::Config;
use broker::produce::{Acks, ProduceError};
use broker::topics::TopicSelector;
use bytes::Bytes;
use record::{BatchBuilder, BatchError, Compression, ProducerEpoch, ProducerId, ProducerStamp, Sequence, TimestampMs};

use crate::harness::{Node, batch, now_ms, offsets};

fn idempotent(producer: i64, epoch: i16, sequence: i32, values: usize) -> Bytes {
    let stamp =
        ProducerStamp { id: ProducerId(producer), epoch: ProducerEpoch(epoch), base_sequence: Sequence(sequence) };
    let mut builder = BatchBuilder::new(Compression::None).producer(stamp);
    for _ in 0..values {
        builder.push(TimestampMs(now_ms()), None, Some(b"v"), &[]).expect("the record fits");
    }
    builder.build().expect("a batch with records")
}

#[tokio::test]
async fn the_order_of_calls_is_the_order_of_appends() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    let pending: Vec<_> = (0..200).map(|_| node.broker.produce(&partition, batch(&[b"one", b"two"]))).collect();
    for (index, pending) in (0..).zip(pending) {
        assert_eq!(pending.await.expect("it is appended").base_offset, 2 * index);
    }
}

#[tokio::test]
async fn an_append_whose_future_is_dropped_still_happens() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    drop(node.broker.produce(&partition, batch(&[b"one"])));
    assert_eq!(node.produce(&partition, &[b"two"]).await.expect("it is appended").base_offset, 1);
}

#[tokio::test]
async fn a_batch_that_is_repeated_is_answered_as_the_first_time() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    let first = node.broker.produce(&partition, idempotent(1, 0, 0, 3)).await.expect("it is appended");
    let again = node.broker.produce(&partition, idempotent(1, 0, 0, 3)).await.expect("it is known");
    assert_eq!((first.base_offset, again.base_offset), (0, 0));
    assert!(!first.duplicate && again.duplicate);
    let next = node.broker.produce(&partition, idempotent(1, 0, 3, 1)).await.expect("it is appended");
    assert_eq!(next.base_offset, 3);
}

#[tokio::test]
async fn a_gap_in_the_sequence_and_an_old_epoch_are_refused() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    node.broker.produce(&partition, idempotent(1, 1, 0, 1)).await.expect("it is appended");
    let gap = node.broker.produce(&partition, idempotent(1, 1, 5, 1)).await.expect_err("a gap");
    assert_eq!(gap, ProduceError::OutOfOrderSequence { expected: 1, actual: 5 });
    let old = node.broker.produce(&partition, idempotent(1, 0, 1, 1)).await.expect_err("an old epoch");
    assert_eq!(old, ProduceError::InvalidProducerEpoch { current: 1, actual: 0 });
}

#[tokio::test]
async fn sequences_survive_a_restart() {
    let node = Node::start().await;
    node.create("a", 1).await;
    node.broker.produce(&node.partition("a", 0), idempotent(1, 0, 0, 3)).await.expect("it is appended");
    let node = node.restart().await;
    let partition = node.partition("a", 0);
    let again = node.broker.produce(&partition, idempotent(1, 0, 0, 3)).await.expect("it is known");
    assert_eq!((again.base_offset, again.duplicate), (0, true));
    assert_eq!(node.broker.produce(&partition, idempotent(1, 0, 3, 1)).await.expect("it follows").base_offset, 3);
}

#[tokio::test]
async fn bytes_that_are_no_batch_are_refused_with_the_cause() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    let good = batch(&[b"value"]);
    let mut flipped = good.to_vec();
    *flipped.last_mut().expect("not empty") ^= 1;
    let two = [good.as_ref(), good.as_ref()].concat();
    let mut old_format = good.to_vec();
    old_format[16] = 1;
    let refused = async |bytes: Vec<u8>| match node.broker.produce(&partition, bytes.into()).await {
        Err(ProduceError::InvalidBatch(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(flipped).await, BatchError::Crc { .. }));
    assert!(matches!(refused(two).await, BatchError::TrailingBytes { .. }));
    assert!(matches!(refused(old_format).await, BatchError::UnsupportedMagic { magic: 1 }));
    assert!(matches!(refused(Vec::new()).await, BatchError::Empty));
    assert_eq!(node.look(&partition, 0).await.high_watermark, 0, "nothing was appended");
}

#[tokio::test]
async fn a_batch_larger_than_max_message_bytes_is_refused_by_the_topics_own_limit() {
    let node = Node::start().await;
    node.create_with("small", 1, &[("max.message.bytes", "100")]).await;
    node.create("normal", 1).await;
    let large = node.produce(&node.partition("small", 0), &[&[0; 100]]).await.expect_err("it is too large");
    assert!(matches!(large, ProduceError::MessageTooLarge { limit: 100, .. }));
    node.produce(&node.partition("normal", 0), &[&[0; 100]]).await.expect("it fits");
    let huge = node.produce(&node.partition("normal", 0), &[&vec![0; 1_048_588]]).await.expect_err("too large");
    assert!(matches!(huge, ProduceError::MessageTooLarge { limit: 1_048_588, .. }));
}

#[tokio::test]
async fn a_batch_of_several_megabytes_is_appended_whole() {
    let node = Node::start().await;
    node.create_with("large", 1, &[("max.message.bytes", "10000000")]).await;
    let partition = node.partition("large", 0);
    let value: Vec<u8> = (0..5_000_000_u32).map(|byte| (byte % 251) as u8).collect();
    assert_eq!(node.produce(&partition, &[&value]).await.expect("it is appended").base_offset, 0);
    assert_eq!(node.produce(&partition, &[b"next"]).await.expect("it is appended").base_offset, 1);
    let found = node.look(&partition, 0).await;
    assert_eq!(offsets(&found), [0], "the first batch is given whole although it is above the partition's limit");
    assert!(found.bytes > 5_000_000);
}

#[tokio::test]
async fn log_append_time_is_the_brokers_and_told() {
    let node = Node::start().await;
    node.create_with("a", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let before = now_ms();
    let produced = node.produce(&node.partition("a", 0), &[b"v"]).await.expect("it is appended");
    let time = produced.log_append_time.expect("the broker's time");
    assert!((before..=now_ms()).contains(&time.0));
    let found = node.look(&node.partition("a", 0), 0).await;
    assert_eq!(found.batches[0].max_timestamp, time);
}

#[tokio::test]
async fn a_checked_batch_is_a_slice_of_what_came_until_it_is_detached_or_its_header_is_corrected() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    let good = batch(&[b"value"]);
    let mut checked = node.broker.check(&partition, good.clone(), Acks::All).expect("a good batch");
    assert_eq!(checked.shared_bytes(), good.len());
    checked.detach();
    assert_eq!(checked.shared_bytes(), 0);
    node.broker.append(&partition, checked).await.expect("it is appended");
    let stale = record::with_max_timestamp(&good, record::TimestampType::CreateTime, TimestampMs(1)).expect("a batch");
    let corrected =
        node.broker.check(&partition, stale.joined(), Acks::All).expect("a batch whose largest timestamp is corrected");
    assert_eq!(corrected.shared_bytes(), 0);
    node.broker.append(&partition, corrected).await.expect("it is appended");
    let found = node.look(&partition, 1).await;
    assert!(found.batches[0].max_timestamp > TimestampMs(1));
}

#[tokio::test]
async fn a_timestamp_too_far_ahead_is_refused_by_record() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let mut builder = BatchBuilder::new(Compression::None);
    for timestamp in [now_ms(), now_ms() + 2 * 3_600_000] {
        builder.push(TimestampMs(timestamp), None, Some(b"v"), &[]).expect("the record fits");
    }
    let batch = builder.build().expect("a batch");
    match node.broker.produce(&node.partition("a", 0), batch).await {
        Err(ProduceError::InvalidTimestamp { records, .. }) => {
            assert_eq!(records.iter().map(|record| record.index).collect::<Vec<_>>(), [1]);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_append_to_a_deleted_topic_is_refused() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    node.broker.topics().delete(vec![TopicSelector::Name("a".to_owned())]).await;
    let gone = node.produce(&partition, &[b"v"]).await.expect_err("the topic is gone");
    assert_eq!(gone, ProduceError::UnknownTopicOrPartition);
}

#[tokio::test]
async fn producer_ids_are_never_given_twice_not_even_after_a_restart() {
    let node = Node::with(Config::default()).await;
    let mut ids = Vec::new();
    for _ in 0..1_100 {
        ids.push(node.broker.init_producer().await.expect("an id").id);
    }
    let node = node.restart().await;
    for _ in 0..10 {
        ids.push(node.broker.init_producer().await.expect("an id").id);
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}
