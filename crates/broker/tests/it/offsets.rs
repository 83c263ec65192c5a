//! Offsets by position, time and epoch.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use broker::Barriers;
use broker::fetch::Isolation;
use broker::offsets::{ListOffsetsError, ListedOffset, OffsetSpec};
use record::{BatchBuilder, Compression, TimestampMs};

use crate::harness::{Node, now_ms};

#[tokio::test]
async fn the_special_offsets_are_kafkas() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    let now = now_ms();
    let list = async |spec| {
        node.broker
            .list_offset(&mut Barriers::default(), &partition, spec, Isolation::ReadUncommitted, -1)
            .await
            .expect("it is answered")
    };
    let none = ListedOffset { offset: -1, timestamp: -1, leader_epoch: -1 };
    assert_eq!(list(OffsetSpec::MaxTimestamp).await, none, "an empty partition has no record");
    assert_eq!(list(OffsetSpec::Earliest).await.offset, 0);
    assert_eq!(list(OffsetSpec::Latest).await.offset, 0);
    for timestamps in [[now - 100, now - 300], [now - 50, now - 200]] {
        let mut builder = BatchBuilder::new(Compression::None);
        for timestamp in timestamps {
            builder.push(TimestampMs(timestamp), None, Some(b"v"), &[]).expect("the record fits");
        }
        node.broker.produce(&partition, builder.build().expect("a batch")).await.expect("it is appended");
    }
    let epoch = partition.partition().leader().epoch;
    let listed = |offset, timestamp| ListedOffset { offset, timestamp, leader_epoch: epoch };
    assert_eq!(list(OffsetSpec::Latest).await, listed(4, -1));
    assert_eq!(list(OffsetSpec::Earliest).await, listed(0, -1));
    assert_eq!(list(OffsetSpec::EarliestLocal).await, listed(0, -1));
    assert_eq!(list(OffsetSpec::LatestTiered).await, none);
    assert_eq!(list(OffsetSpec::EarliestPendingUpload).await, none);
    assert_eq!(list(OffsetSpec::MaxTimestamp).await, listed(2, now - 50));
    assert_eq!(list(OffsetSpec::Timestamp(TimestampMs(0))).await, listed(0, now - 100));
    assert_eq!(list(OffsetSpec::Timestamp(TimestampMs(now - 90))).await, listed(2, now - 50));
    assert_eq!(list(OffsetSpec::Timestamp(TimestampMs(now))).await, none);
}

#[tokio::test]
async fn a_lookup_in_a_compressed_batch_holds_up_nobody_else() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    let now = now_ms();
    let mut builder = BatchBuilder::new(Compression::Gzip);
    let value = vec![0; 1 << 20];
    for number in 0..40 {
        builder.push(TimestampMs(now + number), None, Some(&value), &[]).expect("the record fits");
    }
    node.broker.produce(&partition, builder.build().expect("a batch")).await.expect("it is appended");
    for spec in [OffsetSpec::Timestamp(TimestampMs(now + 39)), OffsetSpec::MaxTimestamp] {
        let mut barriers = Barriers::default();
        let mut lookup = pin!(node.broker.list_offset(&mut barriers, &partition, spec, Isolation::ReadUncommitted, -1));
        // The runtime has one thread: whatever takes it lets nobody else run meanwhile.
        let mut turns = 0;
        let listed = loop {
            let polled = std::future::poll_fn(|context| Poll::Ready(lookup.as_mut().poll(context))).await;
            match polled {
                Poll::Ready(listed) => break listed.expect("it is answered"),
                Poll::Pending => turns += 1,
            }
            base::task::yield_now().await;
        };
        assert_eq!((listed.offset, listed.timestamp), (39, now + 39));
        assert!(turns > 100, "others had {turns} turns");
    }
}

#[tokio::test]
async fn epochs_end_where_the_next_begins_and_are_checked() {
    let node = Node::start().await;
    node.create("a", 1).await;
    node.produce(&node.partition("a", 0), &[b"1", b"2"]).await.expect("it is appended");
    let first = node.partition("a", 0).partition().leader().epoch;
    let node = node.restart().await;
    let partition = node.partition("a", 0);
    node.produce(&partition, &[b"3"]).await.expect("it is appended");
    let second = partition.partition().leader().epoch;
    assert!(second > first);
    let end = async |epoch| {
        let end = node
            .broker
            .offset_for_leader_epoch(&mut Barriers::default(), &partition, epoch, -1)
            .await
            .expect("it is answered");
        (end.epoch, end.end_offset)
    };
    assert_eq!(end(first).await, (first, 2));
    assert_eq!(end(second).await, (second, 3));
    assert_eq!(end(second + 1).await, (-1, -1), "nobody knows that epoch");
    let stale = node
        .broker
        .list_offset(&mut Barriers::default(), &partition, OffsetSpec::Latest, Isolation::ReadUncommitted, first)
        .await;
    assert_eq!(stale, Err(ListOffsetsError::FencedLeaderEpoch));
    let newer = node
        .broker
        .list_offset(&mut Barriers::default(), &partition, OffsetSpec::Latest, Isolation::ReadUncommitted, second + 1)
        .await;
    assert_eq!(newer, Err(ListOffsetsError::UnknownLeaderEpoch));
    let earliest = node
        .broker
        .list_offset(&mut Barriers::default(), &partition, OffsetSpec::Earliest, Isolation::ReadUncommitted, -1)
        .await;
    assert_eq!(earliest, Ok(ListedOffset { offset: 0, timestamp: -1, leader_epoch: first }));
}
