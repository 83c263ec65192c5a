//! Topics that are compacted: the newest record of each key is left, at its offset.

use std::time::Duration;

use base::time::{sleep, timeout};
use bytes::Bytes;
use record::{BatchBuilder, BatchHeader, Compression, Limits, TimestampMs, records};

use crate::configs::{SET, TOPIC, alter};
use crate::retention::delete;
use crate::support::{Client, Node, PATIENCE, Setup, produce_request};

const INVALID_RECORD: i16 = 87;
const POLICY_VIOLATION: i16 = 44;

fn often(setup: &mut Setup) {
    setup.broker.compaction_interval = Duration::from_millis(20);
}

/// All that is sealed at once is compacted at once.
const AT_ONCE: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("segment.ms", "1"), ("min.cleanable.dirty.ratio", "0")];

/// Records of these keys and values.
fn keyed(compression: Compression, time: i64, pairs: &[(Option<&str>, Option<&str>)]) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for (key, value) in pairs {
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        builder.push(TimestampMs(time), key, value, &[]).expect("small");
    }
    builder.build().expect("not empty")
}

/// Offset, key and value of all that is left.
async fn left(client: &mut Client, topic: &str) -> Vec<(i64, String, Option<String>)> {
    let (mut all, mut next) = (Vec::new(), 0);
    loop {
        let answer = client.fetch(topic, 0, next).await;
        assert_eq!(answer.error_code, 0);
        let mut rest = answer.records.unwrap_or_default();
        if rest.is_empty() {
            assert_eq!(next, answer.high_watermark, "who reads comes to the end");
            return all;
        }
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).expect("a batch");
            let batch = rest.split_to(header.total_bytes().expect("its length"));
            next = header.base_offset.0 + i64::from(header.last_offset_delta) + 1;
            let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("text");
            for record in records(&batch, Limits::default()).expect("a batch") {
                let record = record.expect("a record");
                all.push((record.offset.0, text(record.key.expect("a key")), record.value.map(text)));
            }
        }
    }
}

/// Returns when so many records are left.
async fn are_left(client: &mut Client, topic: &str, count: usize) -> Vec<(i64, String, Option<String>)> {
    let compacted = async {
        loop {
            let left = left(client, topic).await;
            if left.len() == count {
                return left;
            }
            sleep(Duration::from_millis(30)).await;
        }
    };
    timeout(PATIENCE, compacted).await.expect("it is compacted")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_of_each_key_is_left_at_its_offset() {
    let node = Node::start_with(often).await;
    node.topic_with("t", 1, &AT_ONCE).await;
    let mut client = node.client().await;
    let now = node.env.wall_clock.now_ms();
    let first = [(Some("a"), Some("1")), (Some("b"), Some("2")), (Some("a"), Some("3"))];
    assert_eq!(client.produce("t", 0, keyed(Compression::None, now, &first)).await.error_code, 0);
    for value in ["4", "5"] {
        client.produce("t", 0, keyed(Compression::Lz4, now, &[(Some("c"), Some(value))])).await;
    }
    client.produce("t", 0, keyed(Compression::Zstd, now, &[(Some("b"), None), (Some("d"), Some("7"))])).await;
    let some = |value: &str| Some(value.to_owned());
    let expected = [
        (2, "a".to_owned(), some("3")),
        (4, "c".to_owned(), some("5")),
        (5, "b".to_owned(), None),
        (6, "d".to_owned(), some("7")),
    ];
    assert_eq!(are_left(&mut client, "t", 4).await, expected);
    let answer = client.fetch("t", 0, 0).await;
    assert_eq!((answer.log_start_offset, answer.high_watermark), (0, 7), "offsets are what they were");
    // In between there is nothing, which no client is told as an error.
    let header = BatchHeader::parse(&client.fetch("t", 0, 3).await.records.expect("a batch")).expect("a batch");
    assert_eq!(header.base_offset.0, 4);
    // What deletes a key goes, too, when its time has come.
    assert_eq!(alter(&mut client, 1, TOPIC, "t", &[("delete.retention.ms", SET, Some("0"))]).await, 0);
    client.produce("t", 0, keyed(Compression::None, now, &[(Some("e"), None), (Some("d"), Some("8"))])).await;
    are_left(&mut client, "t", 5).await;
    client.produce("t", 0, keyed(Compression::None, now, &[(Some("d"), Some("9"))])).await;
    // The first was met before its time was changed, and stays a day.
    let keys: Vec<String> = are_left(&mut client, "t", 4).await.into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, ["a", "c", "b", "d"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_compacted_and_deleted_goes_from_the_front_too() {
    let node = Node::start_with(often).await;
    node.topic_with("t", 1, &AT_ONCE).await;
    let mut client = node.client().await;
    let now = node.env.wall_clock.now_ms();
    for key in ["a", "b", "a", "c", "b", "d"] {
        client.produce("t", 0, keyed(Compression::None, now, &[(Some(key), Some("value"))])).await;
    }
    are_left(&mut client, "t", 4).await;
    assert_eq!(delete(&mut client, 2, "t", &[(0, 4)]).await, [(POLICY_VIOLATION, -1)]);
    assert_eq!(alter(&mut client, 1, TOPIC, "t", &[("cleanup.policy", SET, Some("compact,delete"))]).await, 0);
    assert_eq!(delete(&mut client, 2, "t", &[(0, 4)]).await, [(0, 4)]);
    let left = client.fetch("t", 0, 4).await;
    assert_eq!((left.error_code, left.log_start_offset, left.high_watermark), (0, 4, 6));
    assert_eq!(delete(&mut client, 2, "t", &[(0, -1)]).await, [(0, 6)]);
    client.produce("t", 0, keyed(Compression::None, now, &[(Some("a"), Some("again"))])).await;
    let left = client.fetch("t", 0, 6).await;
    assert_eq!((left.error_code, left.log_start_offset, left.high_watermark), (0, 6, 7));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_without_a_key_is_refused_and_named() {
    let node = Node::start().await;
    node.topic_with("t", 1, &AT_ONCE[..1]).await;
    let mut client = node.client().await;
    let pairs = [(Some("a"), Some("1")), (None, Some("2")), (Some(""), None), (None, None)];
    for compression in Compression::ALL {
        let request = produce_request(-1, "t", 0, Some(keyed(compression, 1_000, &pairs)));
        let response = client.call(9, &request).await;
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (INVALID_RECORD, -1));
        let what = "Compacted topic cannot accept message without key in topic partition t-0.";
        let named: Vec<(i32, String)> = answer
            .record_errors
            .iter()
            .map(|error| (error.batch_index, error.batch_index_error_message.as_ref().expect("a reason").to_string()))
            .collect();
        assert_eq!(named, [(1, what.to_owned()), (3, what.to_owned())]);
        let message = answer.error_message.as_ref().expect("a reason").to_string();
        assert!(
            message.starts_with("One or more records have been rejected due to 2 record errors in total"),
            "{message}"
        );
        assert!(message.contains(what), "{message}");
    }
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 0, "nothing of such a batch is appended");
    assert_eq!(client.produce("t", 0, keyed(Compression::None, 1_000, &pairs[..1])).await.error_code, 0);
    node.stop().await;
}
