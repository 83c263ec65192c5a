//! E6 fetch sessions (KIP-227).

use kafka_protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use uuid::Uuid;

use crate::support::{Client, Node, batch, fetch_request, wish};

fn session(id: i32, epoch: i32, topic: Uuid, partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions: Vec<_> = partitions.iter().map(|(index, offset)| wish(*index, *offset)).collect();
    let topics = if partitions.is_empty() {
        Vec::new()
    } else {
        vec![FetchTopic::default().with_topic_id(topic).with_partitions(partitions)]
    };
    fetch_request(&[]).with_topics(topics).with_max_wait_ms(0).with_session_id(id).with_session_epoch(epoch)
}

/// Index, error and whether there is data, of every partition told.
fn told(response: &FetchResponse) -> Vec<(i32, i16, bool)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|partition| {
            let data = partition.records.as_ref().is_some_and(|records| !records.is_empty());
            (partition.partition_index, partition.error_code, data)
        })
        .collect()
}

async fn call(client: &mut Client, request: &FetchRequest) -> FetchResponse {
    client.call(13, request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_a_session_is_told_only_what_changed() {
    let node = Node::start().await;
    let id = node.topic("t", 3).await;
    let mut client = node.client().await;
    client.produce("t", 0, batch(&[b"x"])).await;
    let opened = call(&mut client, &session(0, 0, id, &[(0, 0), (1, 0)])).await;
    let s = opened.session_id;
    assert!(s > 0);
    assert_eq!(told(&opened), [(0, 0, true), (1, 0, false)]);
    // Nothing was moved: the data comes again, what has none is left out.
    assert_eq!(told(&call(&mut client, &session(s, 1, id, &[])).await), [(0, 0, true)]);
    let moved = call(&mut client, &session(s, 2, id, &[(0, 1)])).await;
    assert_eq!((moved.session_id, told(&moved)), (s, vec![]));
    client.produce("t", 1, batch(&[b"y"])).await;
    assert_eq!(told(&call(&mut client, &session(s, 3, id, &[])).await), [(1, 0, true)]);
    // A partition is added, one is forgotten.
    let mut change = session(s, 4, id, &[(2, 0)]);
    change.forgotten_topics_data = vec![ForgottenTopic::default().with_topic_id(id).with_partitions(vec![1])];
    assert_eq!(told(&call(&mut client, &change).await), [(2, 0, false)]);
    assert_eq!(told(&call(&mut client, &session(s, 5, id, &[])).await), []);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_errors_of_sessions_have_their_codes() {
    let node = Node::start().await;
    let id = node.topic("t", 1).await;
    let mut client = node.client().await;
    let unknown = call(&mut client, &session(77_777, 3, id, &[])).await;
    assert_eq!((unknown.error_code, unknown.session_id), (70, 0));
    let s = call(&mut client, &session(0, 0, id, &[(0, 0)])).await.session_id;
    let skipped = call(&mut client, &session(s, 9, id, &[])).await;
    assert_eq!((skipped.error_code, skipped.session_id), (71, 0));
    let by_name = fetch_request(&[("t", &[(0, 0)])]).with_session_id(s).with_session_epoch(1).with_max_wait_ms(0);
    let mixed: FetchResponse = client.call(12, &by_name).await;
    assert_eq!((mixed.error_code, mixed.responses.len()), (106, 0));
    // None of these harmed the session, and another connection may go on with it.
    let mut other = node.client().await;
    assert_eq!(call(&mut other, &session(s, 1, id, &[])).await.error_code, 0);
    assert_eq!(call(&mut client, &session(s, 2, id, &[])).await.error_code, 0);
    // Closed, it is gone, on every connection.
    let closed = call(&mut other, &session(s, -1, id, &[])).await;
    assert_eq!((closed.error_code, closed.session_id), (0, 0));
    assert_eq!(call(&mut client, &session(s, 3, id, &[])).await.error_code, 70);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_unknown_ids_and_partitions_are_told_until_they_are_forgotten() {
    let node = Node::start().await;
    let id = node.topic("t", 1).await;
    let mut client = node.client().await;
    let s = call(&mut client, &session(0, 0, id, &[(0, 0), (7, 0)])).await.session_id;
    assert_eq!(told(&call(&mut client, &session(s, 1, id, &[])).await), [(7, 3, false)]);
    let stranger = Uuid::from_u128(9);
    let added = call(&mut client, &session(s, 2, stranger, &[(0, 0)])).await;
    assert_eq!(told(&added), [(7, 3, false), (0, 100, false)]);
    let mut change = session(s, 3, id, &[]);
    change.forgotten_topics_data = vec![
        ForgottenTopic::default().with_topic_id(id).with_partitions(vec![7]),
        ForgottenTopic::default().with_topic_id(stranger).with_partitions(vec![0]),
    ];
    assert_eq!(told(&call(&mut client, &change).await), []);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_without_room_the_answer_is_session_zero() {
    let node = Node::start_with(|setup| setup.limits.fetch_sessions_max = 1).await;
    let id = node.topic("t", 1).await;
    let mut client = node.client().await;
    let first = call(&mut client, &session(0, 0, id, &[(0, 0)])).await;
    let second = call(&mut client, &session(0, 0, id, &[(0, 0)])).await;
    assert!(first.session_id > 0);
    assert_eq!((second.session_id, told(&second)), (0, vec![(0, 0, false)]));
    // A full request that names a session takes its place.
    let third = call(&mut client, &session(first.session_id, 0, id, &[(0, 0)])).await;
    assert!(third.session_id > 0 && third.session_id != first.session_id);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e6_a_session_by_name_notices_that_its_topic_was_made_anew() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    client.produce("t", 0, batch(&[b"x"])).await;
    let by_name = |s, epoch, topics: &[(&str, &[(i32, i64)])]| {
        fetch_request(topics).with_max_wait_ms(0).with_session_id(s).with_session_epoch(epoch)
    };
    let opened: FetchResponse = client.call(12, &by_name(0, 0, &[("t", &[(0, 1)])])).await;
    let s = opened.session_id;
    let names = vec![crate::support::topic_name("t")];
    client.call(5, &kafka_protocol::messages::DeleteTopicsRequest::default().with_topic_names(names)).await;
    let gone: FetchResponse = client.call(12, &by_name(s, 1, &[])).await;
    assert_eq!(told(&gone), [(0, 3, false)]);
    node.topic("t", 1).await;
    // The reader is at 1 of the old topic; the new one ends at 0.
    let anew: FetchResponse = client.call(12, &by_name(s, 2, &[])).await;
    assert_eq!(told(&anew), [(0, 1, false)]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_no_topic_can_have_are_answered_and_not_remembered() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let long = "n".repeat(30_000);
    let open = fetch_request(&[("t", &[(0, 0)]), (&long, &[(0, 0)])]).with_max_wait_ms(0).with_session_epoch(0);
    let opened = client.call(12, &open).await;
    let s = opened.session_id;
    assert!(s > 0);
    assert_eq!(told(&opened), [(0, 0, false), (0, 3, false)]);
    let next =
        |epoch, topics: &[_]| fetch_request(topics).with_max_wait_ms(0).with_session_id(s).with_session_epoch(epoch);
    // One that is remembered is refused each time.
    assert_eq!(told(&client.call(12, &next(1, &[])).await), []);
    assert_eq!(told(&client.call(12, &next(2, &[(&long, &[(4, 0)])])).await), [(4, 3, false)]);
    assert_eq!(told(&client.call(12, &next(3, &[])).await), []);
    node.stop().await;
}
