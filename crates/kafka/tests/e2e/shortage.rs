//! Who is cut off, and who is not, while memory is short.

use base::time::{Duration, sleep, timeout};
use kafka::Limits;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{FetchRequest, MetadataRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Client, Node, PATIENCE, batch, fetch_request, topic_name};

/// Longer than a connection takes to look at its deadlines.
const SOME_LOOKS: Duration = Duration::from_millis(1_500);

/// The beginning of a request of that size, and so much of it.
async fn begin(client: &mut Client, size: i32, sent: usize) {
    client.stream.write_all(&size.to_be_bytes()).await.expect("is open");
    client.stream.write_all(&vec![0; sent]).await.expect("is taken");
}

async fn connections_fall_to(node: &Node, count: usize) {
    let fallen = async {
        while node.broker.connections().count() > count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, fallen).await.expect("some are closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_stops_half_way_is_given_up_only_while_memory_is_short() {
    let node = Node::start_with(|setup| {
        setup.request_bytes = 16 << 20;
        setup.limits = Limits { stall_max: Duration::from_millis(200), ..Limits::default() };
    })
    .await;
    let mut small = node.client().await;
    begin(&mut small, 1 << 20, 100 << 10).await;
    sleep(SOME_LOOKS).await;
    assert_eq!(node.broker.connections().count(), 1, "there is memory enough for who is late");
    // Large requests share a half; three quarters of that are short.
    let mut large = node.client().await;
    begin(&mut large, 50 << 20, 7 << 20).await;
    assert!(large.is_closed().await);
    let given_back = async {
        while node.service.memory.used() >= 6 << 20 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, given_back).await.expect("its memory is given back");
    node.client().await.metadata(Some(&[]), false).await;
    drop(small);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_take_its_answer_is_cut_off_only_while_memory_for_answers_is_short() {
    let node = Node::start_with(|setup| {
        setup.limits = Limits {
            reader_short_max: Duration::from_millis(100),
            reader_short_rate_min: 1 << 40,
            ..Limits::default()
        };
        // One such answer does not make memory short.
        setup.broker.memory_bytes_max = 256 << 20;
    })
    .await;
    node.topic("t", 1).await;
    // More than sockets hold.
    for _ in 0..40 {
        let produced = node.client().await.produce("t", 0, batch(&[&[7; 900_000]])).await;
        assert_eq!(produced.error_code, 0);
    }
    connections_fall_to(&node, 0).await;
    let mut reader = node.client().await;
    let mut request = fetch_request(&[("t", &[(0, 0)])]);
    request.topics[0].partitions[0].partition_max_bytes = 50 << 20;
    reader.send(12, &request).await;
    let mut size = [0; 4];
    timeout(PATIENCE, reader.stream.read_exact(&mut size)).await.expect("is answered").expect("is open");
    assert!(i32::from_be_bytes(size) > 30 << 20, "all of it is one answer");
    sleep(SOME_LOOKS).await;
    assert_eq!(node.broker.connections().count(), 1, "there is memory enough for who is slow");
    let answers = node.broker.memory().answers();
    let held = answers.try_acquire(answers.bytes_max() - answers.used()).expect("that much is left");
    connections_fall_to(&node, 0).await;
    drop(held);
    // A new connection reads all of it.
    let mut reader = node.client().await;
    reader.send(12, &request).await;
    let response = reader.next::<FetchRequest>(12, 0).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 0);
    node.stop().await;
}

fn large_metadata() -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name("wide")));
    MetadataRequest::default().with_topics(Some(vec![topic]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_response_waits_only_so_long_for_memory_and_a_small_one_not_at_all() {
    let node = Node::start_with(|setup| {
        setup.limits = Limits { answerer_max: Duration::from_millis(200), ..Limits::default() };
    })
    .await;
    node.topic("wide", 4_000).await;
    let answers = node.broker.memory().answers();
    let held = answers.acquire(answers.bytes_max()).await;
    let mut client = node.client().await;
    client.metadata(Some(&[]), false).await;
    client.send(12, &large_metadata()).await;
    assert!(client.is_closed().await);
    drop(held);
    let response = node.client().await.call(12, &large_metadata()).await;
    assert_eq!(response.topics[0].partitions.len(), 4_000);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_large_responses_wait_for_memory_and_those_are_answered_when_there_is_some() {
    let node = Node::start_with(|setup| {
        setup.limits = Limits { answerer_max: 2 * PATIENCE, ..Limits::default() };
    })
    .await;
    node.topic("wide", 4_000).await;
    connections_fall_to(&node, 0).await;
    let answers = node.broker.memory().answers();
    let held = answers.acquire(answers.bytes_max()).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = node.client().await;
        client.send(12, &large_metadata()).await;
        clients.push(client);
    }
    connections_fall_to(&node, 8).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(node.broker.connections().count(), 8, "those that may wait do");
    drop(held);
    let mut answered = 0;
    for client in &mut clients {
        answered += usize::from(client.next_raw().await.is_some());
    }
    assert_eq!(answered, 8);
    node.stop().await;
}
