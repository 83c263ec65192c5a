//! Idempotent producers with several batches under way, of which one is refused.

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;

use crate::support::{Client, Node, produce_request, stamped};

/// Sends batches one behind the other; the code and the offset of each.
async fn pipelined(client: &mut Client, batches: &[Bytes]) -> Vec<(i16, i64)> {
    for batch in batches {
        client.send(9, &produce_request(-1, "t", 0, Some(batch.clone()))).await;
    }
    let mut answers = Vec::new();
    for index in 1..=batches.len() {
        let behind = i32::try_from(batches.len() - index).expect("few");
        let response = client.next::<ProduceRequest>(9, behind).await;
        let answer = &response.responses[0].partition_responses[0];
        answers.push((answer.error_code, answer.base_offset));
    }
    answers
}

fn of_producer(id: i64, sequence: i32) -> Bytes {
    stamped(id, 0, sequence, &[format!("{sequence}").as_bytes()])
}

fn damaged(batch: &Bytes) -> Bytes {
    let mut bytes = batch.to_vec();
    *bytes.last_mut().expect("not empty") ^= 1;
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_the_first_batches_of_a_producer_may_be_pipelined() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let batches: Vec<Bytes> = (0..20).map(|sequence| of_producer(7, sequence)).collect();
    let taken: Vec<(i16, i64)> = (0..20).map(|offset| (0, offset)).collect();
    assert_eq!(pipelined(&mut client, &batches).await, taken);
    assert_eq!(pipelined(&mut client, &batches[15..]).await, taken[15..], "known, and not appended again");
    // Of a producer that is known, the shard refuses what is behind one that it does not have.
    let refused: Vec<Bytes> = (20..23).map(|sequence| of_producer(7, sequence)).collect();
    let first_damaged = [&[damaged(&refused[0])], &refused[1..]].concat();
    assert_eq!(pipelined(&mut client, &first_damaged).await, [(2, -1), (6, -1), (6, -1)], "to be sent again");
    assert_eq!(pipelined(&mut client, &refused).await, [(0, 20), (0, 21), (0, 22)]);
    assert_eq!(pipelined(&mut client, &[of_producer(7, 25)]).await, [(45, -1)], "nothing was refused before it");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_no_batch_overtakes_one_that_its_producer_sends_again() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    let batches: Vec<Bytes> = (0..5).map(|sequence| of_producer(7, sequence)).collect();
    let first_damaged = [&[damaged(&batches[0])], &batches[1..]].concat();
    assert_eq!(pipelined(&mut client, &first_damaged).await, [(2, -1), (6, -1), (6, -1), (6, -1), (6, -1)]);
    let other = of_producer(8, 3);
    assert_eq!(pipelined(&mut client, &[other]).await, [(0, 0)], "another producer, at any sequence");
    assert_eq!(pipelined(&mut client, &batches).await, [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]);
    // A producer that begins anew, with a new epoch, does not send it again.
    let anew = stamped(7, 1, 0, &[b"anew"]);
    let refused = of_producer(7, 5);
    assert_eq!(pipelined(&mut client, &[damaged(&refused), anew]).await, [(2, -1), (0, 6)]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e14_what_is_refused_in_its_partition_is_not_overtaken_by_what_was_sent_meanwhile() {
    let node = Node::start_with(|setup| setup.producers_per_shard_max = 1).await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    assert_eq!(pipelined(&mut client, &[of_producer(7, 0)]).await, [(0, 0)]);
    let no_room = [of_producer(8, 0), of_producer(8, 1), of_producer(8, 2)];
    assert_eq!(pipelined(&mut client, &no_room).await, [(19, -1), (6, -1), (6, -1)]);
    assert_eq!(pipelined(&mut client, &[of_producer(7, 1), of_producer(7, 2)]).await, [(0, 1), (0, 2)]);
    node.stop().await;
}

/// A shard remembers the last five: those before are found in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_comes_again_late_is_answered_with_its_first_offset() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let mut client = node.client().await;
    for sequence in 0..400 {
        let batch = of_producer(7 + i64::from(sequence % 3), sequence / 3);
        assert_eq!(pipelined(&mut client, &[batch]).await, [(0, i64::from(sequence))]);
    }
    for (producer, sequence) in [(7, 0), (8, 1), (9, 20), (7, 50), (8, 126), (7, 130)] {
        let first = i64::from(sequence) * 3 + producer - 7;
        assert_eq!(pipelined(&mut client, &[of_producer(producer, sequence)]).await, [(0, first)], "{producer}");
    }
    // Neither one that was cut in another way, nor one of another producer, epoch or sequence is any of them.
    assert_eq!(pipelined(&mut client, &[stamped(7, 0, 3, &[b"3", b"4"])]).await, [(45, -1)]);
    assert_eq!(pipelined(&mut client, &[stamped(7, 1, 0, &[b"anew"])]).await, [(0, 400)]);
    assert_eq!(pipelined(&mut client, &[of_producer(7, 3)]).await, [(47, -1)]);
    assert_eq!(pipelined(&mut client, &[stamped(11, 0, 30, &[b"late"])]).await, [(0, 401)]);
    assert_eq!(pipelined(&mut client, &[of_producer(11, 29)]).await, [(45, -1)], "what was never there");
    node.stop().await;
}
