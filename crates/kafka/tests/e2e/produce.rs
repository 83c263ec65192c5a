//! E14 Produce.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{MetadataRequest, ProduceRequest, ProduceResponse};
use record::{BatchBuilder, Compression};
use uuid::Uuid;

use crate::support::{Node, batch, batch_at, build, produce_request, stamped, topic_name};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_every_version_appends_and_tells_the_first_offset() {
    let node = Node::start().await;
    let id = node.topic("t", 1).await;
    let mut client = node.client().await;
    let mut next = 0;
    for version in 3..=13 {
        for acks in [1, -1] {
            let mut request = produce_request(acks, "t", 0, Some(batch(&[b"one", b"two"])));
            if version >= 13 {
                request.topic_data[0].name = topic_name("");
                request.topic_data[0].topic_id = id;
            }
            let response: ProduceResponse = client.call(version, &request).await;
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!((answer.error_code, answer.base_offset, answer.log_append_time_ms), (0, next, -1));
            assert_eq!(answer.log_start_offset, if version >= 5 { 0 } else { -1 });
            next += 2;
        }
    }
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, next);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_acks_zero_is_never_answered_and_closes_on_an_error() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    client.send(9, &produce_request(0, "t", 0, Some(batch(&[b"a"])))).await;
    // The next response is that of the next request.
    client.call(1, &MetadataRequest::default()).await;
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 1);
    client.send(9, &produce_request(0, "missing", 0, Some(batch(&[b"a"])))).await;
    assert!(client.is_closed().await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_other_acks_are_invalid() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    for acks in [2, -2, i16::MAX] {
        let answer = client.produce_as(9, acks, "t", 0, Some(batch(&[b"a"]))).await;
        assert_eq!((answer.error_code, answer.base_offset), (21, -1));
    }
    // As in Kafka, what is no batch and what does not exist come first, a damaged batch does not.
    let good = batch(&[b"a"]);
    let two = [&good[..], &good[..]].concat();
    for (topic, records, code) in [
        ("t", Bytes::new(), 87),
        ("t", two.into(), 87),
        ("t", damaged(&good, good.len() - 1, 0xff), 21),
        ("missing", good, 3),
    ] {
        assert_eq!(client.produce_as(9, 5, topic, 0, Some(records)).await.error_code, code);
    }
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 0);
    node.stop().await;
}

fn damaged(batch: &Bytes, at: usize, value: u8) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    bytes[at] = value;
    bytes.freeze()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_what_is_no_single_valid_batch_is_refused_with_kafkas_code() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let good = batch(&[b"one", b"two"]);
    let two = [&good[..], &good[..]].concat();
    let control = build(BatchBuilder::new(Compression::None).control(), 1, &[b"a"]);
    let transactional = build(BatchBuilder::new(Compression::None).transactional(), 1, &[b"a"]);
    let cases: Vec<(&str, i16, Bytes)> = vec![
        ("nothing", 87, Bytes::new()),
        ("three bytes", 87, Bytes::from_static(b"abc")),
        ("two batches", 87, Bytes::from(two)),
        ("cut off", 87, good.slice(..good.len() - 3)),
        ("wrong crc", 2, damaged(&good, 17, !good[17])),
        ("a flipped bit in a record", 2, damaged(&good, good.len() - 1, !good[good.len() - 1])),
        ("magic 0", 87, damaged(&good, 16, 0)),
        ("magic 1", 87, damaged(&good, 16, 1)),
        ("magic 3", 2, damaged(&good, 16, 3)),
        ("a base offset", 87, damaged(&good, 7, 77)),
        ("control records", 87, control),
        ("a transaction", 53, transactional),
    ];
    for (what, code, records) in cases {
        let answer = client.produce("t", 0, records).await;
        assert_eq!((answer.error_code, answer.base_offset), (code, -1), "{what}");
    }
    let null = client.produce_as(9, -1, "t", 0, None).await;
    assert_eq!(null.error_code, 87);
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_zstd_is_unknown_to_clients_before_version_7() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let zstd = build(BatchBuilder::new(Compression::Zstd), 1, &[b"a"]);
    for version in 3..=9 {
        let answer = client.produce_as(version, -1, "t", 0, Some(zstd.clone())).await;
        assert_eq!(answer.error_code, if version < 7 { 76 } else { 0 }, "version {version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_compressions_are_passed_through_unchanged() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let value = vec![b'x'; 5_000];
    for (index, compression) in (0..).zip(Compression::ALL) {
        let sent = build(BatchBuilder::new(compression), 1, &[&value, b"second"]);
        let answer = client.produce("t", 0, sent.clone()).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, 2 * index));
        let records = client.fetch("t", 0, 2 * index).await.records.expect("records");
        assert_eq!(records[..8], (2 * index).to_be_bytes());
        assert_eq!(records[8..12], sent[8..12]);
        assert_eq!(records[16..], sent[16..], "{compression:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_a_message_larger_than_its_topic_allows_is_refused() {
    let node = Node::start().await;
    node.topic_with("small", 1, &[("max.message.bytes", "1000")]).await;
    let mut client = node.client().await;
    assert_eq!(client.produce("small", 0, batch(&[&[0; 2_000]])).await.error_code, 10);
    assert_eq!(client.produce("small", 0, batch(&[&[0; 500]])).await.error_code, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_come_back_whole() {
    let node = Node::start().await;
    node.topic_with("large", 1, &[("max.message.bytes", "12000000")]).await;
    let mut client = node.client().await;
    let value: Vec<u8> = (0..9_000_000_u32).map(|index| u8::try_from(index % 251).expect("small")).collect();
    let sent = batch(&[&value]);
    assert_eq!(client.produce("large", 0, batch(&[b"before"])).await.error_code, 0);
    assert_eq!(client.produce("large", 0, sent.clone()).await.base_offset, 1);
    assert_eq!(client.produce("large", 0, batch(&[b"behind"])).await.base_offset, 2);
    let records = client.fetch("large", 0, 1).await.records.expect("records");
    assert_eq!(records.len(), sent.len());
    assert!(records[16..] == sent[16..]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_log_append_time_is_told_and_written() {
    let node = Node::start().await;
    node.topic_with("timed", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let mut client = node.client().await;
    let answer = client.produce("timed", 0, batch_at(5, &[b"a"])).await;
    assert_eq!(answer.error_code, 0);
    assert!(answer.log_append_time_ms > 1_600_000_000_000);
    let records = client.fetch("timed", 0, 0).await.records.expect("records");
    assert_eq!(records[35..43], answer.log_append_time_ms.to_be_bytes(), "the batch's largest timestamp");
    assert_eq!(records[22] & 8, 8, "the batch says whose time it is");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_a_timestamp_far_in_the_future_is_refused_with_the_record() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let answer = client.produce("t", 0, batch_at(99_999_999_999_999, &[b"a"])).await;
    assert_eq!((answer.error_code, answer.record_errors.len()), (32, 1));
    assert_eq!(answer.record_errors[0].batch_index, 0);
    assert!(answer.error_message.is_some());
    // Two thousand years of milliseconds later than the first; which record it is, only unpacking would tell.
    let mut packed = BatchBuilder::new(Compression::Gzip);
    for time in [1, 99_999_999_999_999] {
        packed.push(record::TimestampMs(time), None, Some(b"a"), &[]).expect("fits");
    }
    let answer = client.produce("t", 0, packed.build().expect("a batch")).await;
    assert_eq!((answer.error_code, answer.record_errors.len()), (32, 0));
    assert!(answer.error_message.is_some_and(|message| message.contains("99999999999999")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_a_repeated_sequence_is_answered_with_its_first_offset() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    for sequence in 0..7 {
        let answer = client.produce("t", 0, stamped(4_000, 0, sequence, &[b"a"])).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(sequence)));
    }
    for sequence in 2..7 {
        let answer = client.produce("t", 0, stamped(4_000, 0, sequence, &[b"a"])).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(sequence)), "one of the last five");
    }
    assert_eq!(client.produce("t", 0, stamped(4_000, 0, 9, &[b"a"])).await.error_code, 45, "a gap");
    assert_eq!(client.produce("t", 0, stamped(4_000, 1, 3, &[b"a"])).await.error_code, 45, "a new epoch begins at 0");
    assert_eq!(client.produce("t", 0, stamped(4_000, 1, 0, &[b"a"])).await.error_code, 0);
    assert_eq!(client.produce("t", 0, stamped(4_000, 0, 7, &[b"a"])).await.error_code, 47, "the old epoch");
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 8);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_pipelined_requests_are_answered_in_order() {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    let count = 200;
    for index in 0..count {
        let records = if index % 10 == 7 { Bytes::new() } else { batch(&[format!("{index}").as_bytes()]) };
        client.send(9, &produce_request(-1, "t", index % 2, Some(records))).await;
    }
    client.send(12, &MetadataRequest::default().with_topics(Some(Vec::new()))).await;
    let mut next = [0, 0];
    for index in 0..count {
        let response = client.next::<ProduceRequest>(9, count - index).await;
        let answer = &response.responses[0].partition_responses[0];
        if index % 10 == 7 {
            assert_eq!(answer.error_code, 87);
            continue;
        }
        let partition = usize::try_from(index % 2).expect("small");
        assert_eq!((answer.error_code, answer.base_offset), (0, next[partition]));
        next[partition] += 1;
    }
    client.next::<MetadataRequest>(12, 0).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_partition_has_an_answer_of_its_own() {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    let data = |index| PartitionProduceData::default().with_index(index).with_records(Some(batch(&[b"a"])));
    let topic = |name, partitions: &[i32]| {
        let data = partitions.iter().map(|index| data(*index)).collect();
        TopicProduceData::default().with_name(topic_name(name)).with_partition_data(data)
    };
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1_000)
        .with_topic_data(vec![topic("missing", &[0]), topic("t", &[1, 7, -1, 0])]);
    let response = client.call(9, &request).await;
    let codes = |topic: usize| -> Vec<i16> {
        response.responses[topic].partition_responses.iter().map(|answer| answer.error_code).collect()
    };
    assert_eq!((codes(0), codes(1)), (vec![3], vec![0, 3, 3, 0]));
    let mut unknown = produce_request(-1, "", 0, Some(batch(&[b"a"])));
    unknown.topic_data[0].topic_id = Uuid::from_u128(77);
    let response = client.call(13, &unknown).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 100);
    node.stop().await;
}
