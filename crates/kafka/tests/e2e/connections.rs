//! E21 connections: how they end, and how many there may be.

use base::time::{Duration, sleep, timeout};
use kafka::Limits;
use kafka_protocol::messages::{FetchRequest, MetadataRequest, ProduceRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Client, Node, PATIENCE, batch, fetch_request, produce_request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e21_idle_connections_are_closed_cleanly() {
    let node = Node::start_with(|setup| {
        setup.limits = Limits { idle_max: Duration::from_millis(400), ..Limits::default() };
    })
    .await;
    let mut client = node.client().await;
    client.metadata(Some(&[]), false).await;
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await.expect("is closed");
    assert!(ended.is_ok() && rest.is_empty(), "an end, not a reset");
    assert_eq!(node.broker.connections().count(), 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e21_a_connection_that_is_used_stays() {
    let node = Node::start_with(|setup| {
        setup.limits = Limits { idle_max: Duration::from_millis(600), ..Limits::default() };
    })
    .await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    for _ in 0..8 {
        client.metadata(Some(&[]), false).await;
        sleep(Duration::from_millis(200)).await;
    }
    // A reader that waits longer than connections may be idle is not idle.
    client.call(12, &fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(1_500)).await;
    client.metadata(Some(&[]), false).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_limited_in_all_and_by_address() {
    for by_address in [false, true] {
        let node = Node::start_with(|setup| {
            if by_address {
                setup.limits.connections_per_ip_max = 2;
            } else {
                setup.broker.connections_max = 2;
            }
        })
        .await;
        let (mut one, mut two) = (node.client().await, node.client().await);
        one.metadata(Some(&[]), false).await;
        two.metadata(Some(&[]), false).await;
        let mut three = node.client().await;
        let request = three.request(1, 1, &MetadataRequest::default());
        // It may be closed before the request is written.
        let _ = three.stream.write_all(&request).await;
        assert!(three.is_closed().await);
        drop(one);
        let mut answered = false;
        for _ in 0..100 {
            let mut client = node.client().await;
            let request = client.request(1, 1, &MetadataRequest::default());
            let size = i32::try_from(request.len()).expect("small").to_be_bytes();
            let sent = client.stream.write_all(&[&size[..], &request[..]].concat()).await;
            if sent.is_ok() && client.next_raw().await.is_some() {
                answered = true;
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        assert!(answered, "a place that was given back is given out again");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_what_was_taken_and_closes() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    for _ in 0..50 {
        client.send(9, &produce_request(-1, "t", 0, Some(batch(&[b"x"])))).await;
    }
    // All fifty are taken when the first is answered or soon after.
    client.next::<ProduceRequest>(9, 49).await;
    sleep(Duration::from_millis(300)).await;
    node.begin_stop();
    for behind in (0..49).rev() {
        let response = client.next::<ProduceRequest>(9, behind).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
    assert!(client.is_closed().await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_its_side_is_still_answered() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    for _ in 0..3 {
        client.send(9, &produce_request(-1, "t", 0, Some(batch(&[b"x"])))).await;
    }
    client.stream.shutdown().await.expect("is open");
    for behind in (0..3).rev() {
        client.next::<ProduceRequest>(9, behind).await;
    }
    assert!(client.is_closed().await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_away_does_not_wait_on() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut reader = node.client().await;
    reader.send(12, &fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(i32::MAX)).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(node.broker.connections().count(), 1);
    drop(reader);
    for _ in 0..200 {
        if node.broker.connections().count() == 0 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.broker.connections().count(), 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_behind_a_long_poll_is_answered_after_it() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    client.send(12, &fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(15_000)).await;
    client.send(1, &MetadataRequest::default().with_topics(Some(Vec::new()))).await;
    sleep(Duration::from_millis(100)).await;
    node.client().await.produce("t", 0, batch(&[b"x"])).await;
    client.next::<FetchRequest>(12, 1).await;
    client.next::<MetadataRequest>(1, 0).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_stop_within_a_huge_request_leave_room_for_others() {
    let node = Node::start_with(|setup| setup.request_bytes = 16 << 20).await;
    node.topic("t", 1).await;
    let mut stalled = Vec::new();
    for _ in 0..40 {
        let mut client = node.client().await;
        client.stream.write_all(&(100_i32 << 20).to_be_bytes()).await.expect("is open");
        // As much as the broker takes of two megabytes.
        let _ = timeout(Duration::from_millis(50), client.stream.write_all(&vec![0; 2 << 20])).await;
        stalled.push(client);
    }
    assert!(node.service.memory.used() <= 16 << 20);
    let mut client = Client::connect(&node.env, node.address).await;
    for _ in 0..20 {
        let answer = timeout(PATIENCE, client.produce("t", 0, batch(&[&[1; 5_000]]))).await.expect("is not held up");
        assert_eq!(answer.error_code, 0);
    }
    drop(stalled);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_long_polls() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut reader = node.client().await;
    reader.send(12, &fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(i32::MAX)).await;
    sleep(Duration::from_millis(100)).await;
    let started = base::time::now();
    node.begin_stop();
    assert!(reader.is_closed().await);
    assert!(started.elapsed() < Duration::from_secs(4), "before connections are cut");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_before_a_bad_one_are_answered() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    for _ in 0..5 {
        client.send(9, &produce_request(-1, "t", 0, Some(batch(&[b"x"])))).await;
    }
    client.send_raw(b"this is no request").await;
    for behind in (0..5).rev() {
        client.next::<ProduceRequest>(9, behind).await;
    }
    assert!(client.is_closed().await);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_waits_holds_no_memory_of_its_request() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    client.send(12, &fetch_request(&[("t", &[(0, 0)])]).with_max_wait_ms(i32::MAX)).await;
    client.send(1, &MetadataRequest::default().with_topics(Some(Vec::new()))).await;
    let mut used = usize::MAX;
    for _ in 0..200 {
        sleep(Duration::from_millis(10)).await;
        used = node.service.memory.used();
        if node.broker.connections().count() == 1 && used == 0 {
            break;
        }
    }
    assert_eq!(used, 0);
    node.client().await.produce("t", 0, batch(&[b"x"])).await;
    client.next::<FetchRequest>(12, 1).await;
    client.next::<MetadataRequest>(1, 0).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_before_one_that_fails_without_acknowledgement_are_answered() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    for _ in 0..5 {
        client.send(9, &produce_request(-1, "t", 0, Some(batch(&[b"x"])))).await;
    }
    client.send(9, &produce_request(0, "t", 7, Some(batch(&[b"x"])))).await;
    for behind in (1..6).rev() {
        let response = client.next::<ProduceRequest>(9, behind).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
    assert!(client.is_closed().await);
    node.stop().await;
}
