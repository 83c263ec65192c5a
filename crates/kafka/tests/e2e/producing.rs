//! Producers while the disk is slow, and many partitions or producers on a connection.

use base::disk::GatedDisk;
use base::time::{Duration, sleep, timeout};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use crate::support::{Client, Node, PATIENCE, batch, produce_request, stamped, topic_name};

/// One batch for each partition of a topic.
fn to_all(partitions: i32, batch: impl Fn(i32) -> Bytes) -> ProduceRequest {
    let data = (0..partitions)
        .map(|index| PartitionProduceData::default().with_index(index).with_records(Some(batch(index))))
        .collect();
    let topic = TopicProduceData::default().with_name(topic_name("t")).with_partition_data(data);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(60_000).with_topic_data(vec![topic])
}

fn all_are(response: &ProduceResponse, code: i16) -> bool {
    response.responses[0].partition_responses.iter().all(|answer| answer.error_code == code)
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is_so() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_to_two_thousand_partitions_is_pipelined() {
    const PARTITIONS: i32 = 2_000;
    let disk = GatedDisk::new();
    let node = Node::start_with(|setup| setup.disk = Some(disk.clone())).await;
    node.topic("t", PARTITIONS).await;
    let mut client = node.client().await;
    let of_sequence = |sequence| to_all(PARTITIONS, move |_| stamped(7, 0, sequence, &[b"x"]));
    assert!(all_are(&client.call(9, &of_sequence(0)).await, 0));
    disk.close();
    client.send(9, &of_sequence(1)).await;
    // What the first one takes until it is answered.
    until("one is under way", || node.service.memory.used() > 1 << 20).await;
    sleep(Duration::from_millis(50)).await;
    let of_one = node.service.memory.used();
    client.send(9, &of_sequence(2)).await;
    client.send(9, &of_sequence(3)).await;
    // A connection decodes a request when those before are submitted.
    until("the third is taken while the first waits", || node.service.memory.used() > of_one * 5 / 2).await;
    disk.open();
    for behind in [2, 1, 0] {
        assert!(all_are(&client.next::<ProduceRequest>(9, behind).await, 0));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_connections_remember_of_refused_batches_is_bounded_together() {
    let node = Node::start_with(|setup| setup.request_bytes = 8 << 20).await;
    node.topic("t", 1_000).await;
    let corrupt = |producer| {
        let mut bytes = stamped(producer, 0, 0, &[b"x"]).to_vec();
        *bytes.last_mut().expect("not empty") ^= 1;
        Bytes::from(bytes)
    };
    let mut clients = Vec::new();
    let mut most = 0;
    for connection in 0..40 {
        let mut client = node.client().await;
        let request = to_all(1_000, |index| corrupt(i64::from(connection * 1_000 + index)));
        assert!(all_are(&client.call(9, &request).await, 2));
        most = most.max(node.service.memory.used());
        clients.push(client);
    }
    let remembered = node.service.memory.used();
    assert!(remembered > 0 && remembered <= 8 << 15, "of all requests' memory a 32nd: {remembered}");
    assert!(remembered > most / 2, "and it is used up: {most}");
    drop(clients);
    until("who goes away is forgotten", || node.service.memory.used() == 0).await;
    node.stop().await;
}

/// A node whose shard takes nothing more.
async fn full(disk: &GatedDisk) -> (Node, Client, Vec<Client>) {
    let node = Node::start_with(|setup| {
        setup.disk = Some(disk.clone());
        setup.queue_bytes_max = 1;
    })
    .await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    disk.close();
    client.send(9, &produce_request(-1, "t", 0, Some(batch(&[b"x"]))).with_timeout_ms(3_000)).await;
    let large = vec![7; 900_000];
    let mut fillers = Vec::new();
    for _ in 0..20 {
        let mut filler = node.client().await;
        filler.send(9, &produce_request(-1, "t", 0, Some(batch(&[&large]))).with_timeout_ms(60_000)).await;
        fillers.push(filler);
    }
    until("all of them came", || node.service.memory.used() > 20 * 900_000).await;
    sleep(Duration::from_millis(100)).await;
    (node, client, fillers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_for_room_keeps_nobodys_time_limit() {
    let disk = GatedDisk::new();
    let (node, mut client, fillers) = full(&disk).await;
    client.send(9, &produce_request(-1, "t", 0, Some(batch(&[b"y"]))).with_timeout_ms(3_000)).await;
    for behind in [1, 0] {
        assert!(all_are(&client.next::<ProduceRequest>(9, behind).await, 7), "the time limit of {behind}");
    }
    disk.open();
    drop(fillers);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_refuses_what_waits_for_room() {
    let disk = GatedDisk::new();
    let (node, _client, fillers) = full(&disk).await;
    let mut late = node.client().await;
    late.send(9, &produce_request(-1, "t", 0, Some(batch(&[b"y"]))).with_timeout_ms(60_000)).await;
    sleep(Duration::from_millis(200)).await;
    node.begin_stop();
    assert!(all_are(&late.next::<ProduceRequest>(9, 0).await, 6));
    disk.open();
    drop(fillers);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_refuses_what_waits_for_the_batch_before() {
    let disk = GatedDisk::new();
    let node = Node::start_with(|setup| setup.disk = Some(disk.clone())).await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    disk.close();
    client.send(9, &produce_request(-1, "t", 0, Some(stamped(7, 0, 0, &[b"x"])))).await;
    client.send(9, &produce_request(-1, "t", 0, Some(stamped(7, 0, 1, &[&vec![7; 500_000]])))).await;
    until("both came", || node.service.memory.used() > 500_000).await;
    sleep(Duration::from_millis(100)).await;
    node.begin_stop();
    disk.open();
    assert!(all_are(&client.next::<ProduceRequest>(9, 1).await, 0));
    assert!(all_are(&client.next::<ProduceRequest>(9, 0).await, 6), "it was not taken");
    node.stop().await;
}
