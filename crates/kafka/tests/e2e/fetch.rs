//! E5 long polls, E8 leader epochs, E9 topic ids.

use base::time::{Duration, now, sleep};
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest, OffsetForLeaderEpochRequest};
use uuid::Uuid;

use crate::support::{Node, batch, fetch_request, topic_name, wish};

fn by_id(id: Uuid, partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions = partitions.iter().map(|(index, offset)| wish(*index, *offset)).collect();
    let topic = FetchTopic::default().with_topic_id(id).with_partitions(partitions);
    fetch_request(&[]).with_topics(vec![topic]).with_max_wait_ms(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_version_reads_what_was_written() {
    let node = Node::start().await;
    let id = node.topic("t", 1).await;
    let mut client = node.client().await;
    client.produce("t", 0, batch(&[b"one", b"two"])).await;
    for version in 4..=18 {
        let mut request = if version >= 13 { by_id(id, &[(0, 0)]) } else { fetch_request(&[("t", &[(0, 0)])]) };
        if version >= 15 {
            request.replica_id = (-1).into();
        }
        let response = client.call(version, &request).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark, partition.last_stable_offset), (0, 2, 2));
        assert_eq!(partition.log_start_offset, if version >= 5 { 0 } else { -1 });
        assert!(partition.aborted_transactions.is_none());
        assert_eq!(partition.records.as_ref().map(|records| records[57..61].to_vec()), Some(vec![0, 0, 0, 2]));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_a_fetch_inside_a_batch_returns_the_whole_batch() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    client.produce("t", 0, batch(&[b"0", b"1", b"2"])).await;
    client.produce("t", 0, batch(&[b"3", b"4", b"5"])).await;
    let records = client.fetch("t", 0, 4).await.records.expect("records");
    assert_eq!(records[..8], 3_i64.to_be_bytes());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_the_first_batch_is_returned_whole_whatever_the_limits() {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    let sent = batch(&[&[7; 3_000]]);
    for partition in [0, 1] {
        client.produce("t", partition, sent.clone()).await;
        client.produce("t", partition, sent.clone()).await;
    }
    for (max_bytes, partition_max_bytes) in [(1, 1 << 20), (1 << 20, 1), (0, 0)] {
        let mut request = fetch_request(&[("t", &[(0, 0), (1, 0)])]).with_max_bytes(max_bytes);
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = partition_max_bytes;
        }
        let response = client.call(11, &request).await;
        let partitions = &response.responses[0].partitions;
        assert_eq!(partitions[0].records.as_ref().map(bytes::Bytes::len), Some(sent.len()));
        assert_eq!(partitions[1].records.as_ref().map(bytes::Bytes::len), Some(0));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_every_partition_asked_is_answered_in_order() {
    let node = Node::start().await;
    node.topic("a", 3).await;
    node.topic("b", 3).await;
    let mut client = node.client().await;
    client.produce("b", 1, batch(&[b"x"])).await;
    let request = fetch_request(&[("b", &[(2, 0), (1, 0), (9, 0)]), ("missing", &[(0, 0)]), ("a", &[(1, 0), (0, 5)])]);
    let response = client.call(12, &request).await;
    let told: Vec<_> = response
        .responses
        .iter()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|partition| (topic.topic.to_string(), partition.partition_index, partition.error_code))
        })
        .collect();
    let expected = [("b", 2, 0), ("b", 1, 0), ("b", 9, 3), ("missing", 0, 3), ("a", 1, 0), ("a", 0, 1)];
    assert_eq!(told, expected.map(|(topic, index, code)| (topic.to_owned(), index, code)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_a_long_poll_ends_when_data_comes() {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut reader = node.client().await;
    let request = fetch_request(&[("t", &[(0, 0), (1, 0)])]).with_max_wait_ms(15_000);
    reader.send(12, &request).await;
    sleep(Duration::from_millis(100)).await;
    let started = now();
    node.client().await.produce("t", 1, batch(&[b"x"])).await;
    let response = reader.next::<FetchRequest>(12, 0).await;
    assert!(started.elapsed() < Duration::from_secs(10), "it did not wait for its end");
    let partitions = &response.responses[0].partitions;
    assert_eq!(partitions.iter().map(|partition| partition.high_watermark).collect::<Vec<_>>(), [0, 1]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_a_long_poll_waits_for_the_bytes_asked_and_ends_at_its_time() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    client.produce("t", 0, batch(&[b"x"])).await;
    let started = now();
    let request = fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(300).with_min_bytes(1 << 20);
    let response = client.call(12, &request).await;
    assert!(started.elapsed() >= Duration::from_millis(290));
    assert!(response.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_a_fetch_that_need_not_wait_is_answered_at_once() {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    let started = now();
    let long = |request: FetchRequest| request.with_max_wait_ms(60_000);
    client.call(12, &long(fetch_request(&[]))).await;
    client.call(12, &long(fetch_request(&[("t", &[(0, 0)])])).with_min_bytes(0)).await;
    client.call(12, &fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(0)).await;
    client.call(12, &fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(-5)).await;
    // One error ends the wait of all.
    client.call(12, &long(fetch_request(&[("t", &[(0, 0), (1, 7)])]))).await;
    client.call(12, &long(fetch_request(&[("missing", &[(0, 0)])]))).await;
    assert!(started.elapsed() < Duration::from_secs(15));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_an_offset_out_of_range_says_so() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    client.produce("t", 0, batch(&[b"x"])).await;
    for offset in [2, 100, -1, i64::MAX, i64::MIN] {
        let answer = client.fetch("t", 0, offset).await;
        assert_eq!((answer.error_code, answer.high_watermark, answer.log_start_offset), (1, -1, -1), "{offset}");
    }
    assert_eq!(client.fetch("t", 0, 1).await.error_code, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_claims_to_be_a_replica_is_refused() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let response = client.call(12, &fetch_request(&[("t", &[(0, 0)])]).with_replica_id(1.into())).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 6);
    let reads_committed =
        client.call(12, &fetch_request(&[("t", &[(0, 0)])]).with_isolation_level(1).with_max_wait_ms(0)).await;
    assert!(reads_committed.responses[0].partitions[0].aborted_transactions.as_ref().is_some_and(Vec::is_empty));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_the_list_of_aborted_transactions_is_null_where_kafkas_is() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    for isolation in 0..=1 {
        let request = fetch_request(&[("t", &[(0, 99), (7, 0)]), ("missing", &[(0, 0)])]);
        let response = client.call(12, &request.with_isolation_level(isolation)).await;
        let told: Vec<(i16, bool)> = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| (partition.error_code, partition.aborted_transactions.is_none()))
            .collect();
        assert_eq!(told, [(1, true), (3, false), (3, false)], "isolation {isolation}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e8_leader_epochs_are_checked() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    client.produce("t", 0, batch(&[b"x"])).await;
    let current = client.metadata(Some(&["t"]), false).await.topics[0].partitions[0].leader_epoch;
    assert!(current >= 0);
    for (epoch, code) in [(-1, 0), (current, 0), (current + 1, 75)] {
        let mut request = fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(client.call(12, &request).await.responses[0].partitions[0].error_code, code, "epoch {epoch}");
        let asked = OffsetForLeaderPartition::default()
            .with_partition(0)
            .with_current_leader_epoch(epoch)
            .with_leader_epoch(current);
        let topic = OffsetForLeaderTopic::default().with_topic(topic_name("t")).with_partitions(vec![asked]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        for version in 2..=4 {
            let response = client.call(version, &request).await;
            let answer = &response.topics[0].partitions[0];
            assert_eq!(answer.error_code, code, "epoch {epoch}");
            let end = if code == 0 { (current, 1) } else { (-1, -1) };
            assert_eq!((answer.leader_epoch, answer.end_offset), end);
        }
    }
    let ends = |epoch, partition| {
        let asked = OffsetForLeaderPartition::default().with_partition(partition).with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default().with_topic(topic_name("t")).with_partitions(vec![asked]);
        OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    };
    let unknown_epoch = client.call(4, &ends(current + 5, 0)).await;
    let answer = &unknown_epoch.topics[0].partitions[0];
    assert_eq!((answer.error_code, answer.leader_epoch, answer.end_offset), (0, -1, -1));
    assert_eq!(client.call(4, &ends(current, 9)).await.topics[0].partitions[0].error_code, 3);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e9_an_id_of_a_deleted_topic_is_unknown_and_a_new_topic_has_a_new_one() {
    let node = Node::start().await;
    let old = node.topic("t", 1).await;
    let mut client = node.client().await;
    client.produce("t", 0, batch(&[b"x"])).await;
    let deleted = client.call(5, &DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t")])).await;
    assert_eq!(deleted.responses[0].error_code, 0);
    let new = node.topic("t", 1).await;
    assert_ne!(old, new);
    for (id, code, high_watermark) in [(old, 100, -1), (Uuid::nil(), 100, -1), (new, 0, 0)] {
        let response = client.call(13, &by_id(id, &[(0, 0)])).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!(
            (response.responses[0].topic_id, partition.error_code, partition.high_watermark),
            (id, code, high_watermark)
        );
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_beyond_the_tail_in_memory_comes_from_files() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    // More than the log keeps in memory, in large and in small batches.
    let large = vec![1_u8; 100_000];
    let mut sent = Vec::new();
    for round in 0..200 {
        let records = if round % 2 == 0 { batch(&[&large]) } else { batch(&[b"small", b"too"]) };
        let answer = client.produce("t", 0, records.clone()).await;
        assert_eq!(answer.error_code, 0);
        sent.push((answer.base_offset, records));
    }
    let mut offset = 0;
    let mut read = Vec::new();
    while offset < 300 {
        let records = client.fetch("t", 0, offset).await.records.expect("records");
        let mut rest = &records[..];
        while !rest.is_empty() {
            let length =
                12 + usize::try_from(i32::from_be_bytes(rest[8..12].try_into().expect("four"))).expect("positive");
            let base = i64::from_be_bytes(rest[..8].try_into().expect("eight"));
            read.push((base, rest[16..length].to_vec()));
            offset = base + 1 + i64::from(i32::from_be_bytes(rest[23..27].try_into().expect("four")));
            rest = &rest[length..];
        }
    }
    assert_eq!(read.len(), sent.len());
    for ((base, bytes), (sent_base, sent)) in read.iter().zip(&sent) {
        assert!(base == sent_base && bytes[..] == sent[16..], "at {base}");
    }
    node.stop().await;
}
