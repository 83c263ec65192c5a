//! Memory of answers to fetches: who waits for it, and for how much.

use std::pin::pin;

use base::memory::Permit;
use base::time::{Duration, timeout};
use broker::Config;
use broker::fetch::{Chunk, FetchPartition, FetchRequest, FetchedPartition, StoredBatch};
use futures_util::FutureExt;
use record::{StreamId, StreamOffset};
use replica::{Planned, Wish};

use crate::harness::{Node, assert_waits, fetch, from, offsets};

const PATIENCE: Duration = Duration::from_secs(30);

/// All memory for small answers.
async fn hold_small(node: &Node) -> Permit {
    let small = node.broker.memory().small_answers();
    small.acquire(small.bytes_max()).await
}

/// Takes memory for answers until so much is left.
fn leave(node: &Node, bytes: usize) -> Permit {
    let answers = node.broker.memory().answers();
    answers.try_acquire(answers.bytes_max() - answers.used() - bytes).expect("that much is there")
}

fn held_bytes(found: &FetchedPartition) -> usize {
    found.batches.iter().map(|batch| batch.bytes as usize + StoredBatch::OVERHEAD_BYTES).sum()
}

#[tokio::test]
async fn a_fetch_does_not_wait_for_memory_without_end() {
    let node = Node::with(Config { answer_memory_wait_max: Duration::from_millis(50), ..Config::default() }).await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    node.produce(&partition, &[b"1"]).await.expect("it is appended");
    let answers = node.broker.memory().answers();
    let held = (answers.acquire(answers.bytes_max()).await, hold_small(&node).await);
    let request = || FetchRequest { wait_max: Duration::from_millis(20), ..fetch(vec![from(&partition, 0)]) };
    let found = timeout(PATIENCE, node.broker.fetch(request())).await.expect("it is answered");
    assert!(found.lacks_memory() && found.partitions[0].batches.is_empty());
    drop(held);
    let found = node.broker.fetch(request()).await;
    assert!(!found.lacks_memory());
    assert_eq!(offsets(&found.partitions[0]), [0]);
}

#[tokio::test]
async fn what_came_while_a_fetch_waited_for_memory_is_read_within_what_it_got() {
    let node = Node::start().await;
    node.create("a", 2).await;
    let partitions = [node.partition("a", 0), node.partition("a", 1)];
    for partition in &partitions {
        node.produce(partition, &[&[0; 5_000]]).await.expect("it is appended");
    }
    let answers = node.broker.memory().answers();
    let held = (answers.acquire(answers.bytes_max()).await, hold_small(&node).await);
    let request = || fetch(partitions.iter().map(|partition| from(partition, 0)).collect());
    let mut waiting = pin!(node.broker.fetch(request()));
    assert_waits(waiting.as_mut()).await;
    for _ in 0..10 {
        for partition in &partitions {
            node.produce(partition, &[&[1; 5_000]]).await.expect("it is appended");
        }
    }
    drop(held.0);
    let found = timeout(PATIENCE, waiting).await.expect("it is answered");
    let bytes: usize = found.partitions.iter().map(held_bytes).sum();
    assert!(bytes >= 10_000 && bytes <= found.memory.bytes(), "{bytes} of {}", found.memory.bytes());
    assert_eq!(answers.used(), found.memory.bytes(), "what is not needed was given back");
    drop(found);
    assert_eq!(answers.used(), 0);
    let found = node.broker.fetch(request()).await;
    assert!(found.partitions.iter().all(|partition| partition.batches.len() == 11));
}

#[tokio::test]
async fn small_batches_are_counted_with_what_they_take_beside_their_bytes() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    for _ in 0..50 {
        node.produce(&partition, &[b"v"]).await.expect("it is appended");
    }
    let found = node.broker.fetch(fetch(vec![from(&partition, 0)])).await;
    assert!(found.memory.bytes() >= held_bytes(&found.partitions[0]));
    assert!(found.memory.bytes() > 2 * usize::try_from(found.partitions[0].bytes).expect("few"));
}

#[tokio::test]
async fn a_batch_larger_than_all_memory_for_answers_is_given_alone() {
    let node = Node::with(Config { memory_bytes_max: 20_000, ..Config::default() }).await;
    node.create("a", 2).await;
    let partitions = [node.partition("a", 0), node.partition("a", 1)];
    for partition in &partitions {
        for _ in 0..2 {
            node.produce(partition, &[&[0; 50_000]]).await.expect("it is appended");
        }
    }
    let answers = node.broker.memory().answers();
    let request = || fetch(partitions.iter().map(|partition| from(partition, 0)).collect());
    let first = timeout(PATIENCE, node.broker.fetch(request())).await.expect("it is answered");
    assert_eq!((offsets(&first.partitions[0]), offsets(&first.partitions[1])), (vec![0], vec![]));
    assert_eq!(answers.used(), answers.bytes_max());
    let mut second = pin!(node.broker.fetch(request()));
    assert_waits(second.as_mut()).await;
    drop(first);
    let second = timeout(PATIENCE, second).await.expect("it is answered");
    assert_eq!(offsets(&second.partitions[0]), [0]);
}

#[tokio::test]
async fn a_large_fetch_takes_what_is_there_and_leaves_as_much() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    for _ in 0..20 {
        node.produce(&partition, &[&[7; 40_000]]).await.expect("it is appended");
    }
    let answers = node.broker.memory().answers();
    let held = leave(&node, 400_000);
    let mut found = Vec::new();
    for expected in [4, 2, 1] {
        let next = timeout(PATIENCE, node.broker.fetch(fetch(vec![from(&partition, 0)]))).await.expect("answered");
        assert_eq!(next.partitions[0].batches.len(), expected);
        assert!(held_bytes(&next.partitions[0]) <= next.memory.bytes());
        found.push(next);
    }
    drop(found);
    assert_eq!(answers.used(), held.bytes(), "nothing stays taken");
    drop(held);
    assert_eq!(node.look(&partition, 0).await.batches.len(), 20);
}

#[tokio::test]
async fn a_small_fetch_does_not_queue_behind_a_large_one() {
    let node = Node::start().await;
    node.create("large", 1).await;
    node.create("small", 1).await;
    let (large, small) = (node.partition("large", 0), node.partition("small", 0));
    for _ in 0..5 {
        node.produce(&large, &[&[7; 200_000]]).await.expect("it is appended");
    }
    node.produce(&small, &[b"v"]).await.expect("it is appended");
    let held = leave(&node, 100_000);
    let mut waiting = pin!(node.broker.fetch(fetch(vec![from(&large, 0)])));
    assert_waits(waiting.as_mut()).await;
    for _ in 0..3 {
        let request = FetchRequest { wait_max: Duration::ZERO, ..fetch(vec![from(&small, 0)]) };
        let mut answered = pin!(node.broker.fetch(request));
        let found = timeout(PATIENCE, answered.as_mut()).await.expect("it is answered");
        assert_eq!((found.lacks_memory(), offsets(&found.partitions[0])), (false, vec![0]));
        assert_waits(waiting.as_mut()).await;
    }
    drop(held);
    let found = timeout(PATIENCE, waiting).await.expect("it is answered");
    assert_eq!(offsets(&found.partitions[0])[0], 0);
}

#[tokio::test]
async fn what_stays_in_files_is_given_at_full_size_while_there_is_little_memory() {
    const BATCHES: usize = 40;
    let node = Node::cold().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    for _ in 0..BATCHES {
        node.produce(&partition, &[&[7; 90_000]]).await.expect("it is appended");
    }
    let held = leave(&node, 150_000);
    let all = || fetch(vec![FetchPartition { bytes_max: 50 << 20, ..from(&partition, 0) }]);
    let found = timeout(PATIENCE, node.broker.fetch(all())).await.expect("it is answered");
    assert_eq!(found.partitions[0].batches.len(), BATCHES);
    let chunks = || found.partitions[0].batches.iter().flat_map(|batch| &batch.chunks);
    assert!(chunks().all(|chunk| matches!(chunk, Chunk::File { .. })), "all of it is in files");
    assert!(found.memory.bytes() < (BATCHES + 1) * StoredBatch::OVERHEAD_BYTES, "{}", found.memory.bytes());
    drop((found, held));
    // It waits for the memory of one batch, and that is enough.
    let held = leave(&node, 0);
    let mut waiting = pin!(node.broker.fetch(all()));
    assert_waits(waiting.as_mut()).await;
    let mut held = held;
    drop(held.split(150_000));
    let found = timeout(PATIENCE, waiting).await.expect("it is answered");
    assert_eq!(found.partitions[0].batches.len(), BATCHES);
}

#[tokio::test]
async fn who_waits_for_a_turn_at_the_files_holds_no_memory_and_who_waits_for_memory_no_turn() {
    let node = Node::cold().await;
    node.create("a", 1).await;
    let partition = node.partition("a", 0);
    node.produce(&partition, &[&[7; 90_000]]).await.expect("it is appended");
    let answers = node.broker.memory().answers();
    let wish = |stream| Wish { stream: StreamId(stream), from: StreamOffset(0), bytes_max: 1, at_least_one: true };
    let replicas = node.broker.cluster().replicas();
    let planned = |stream| replicas.iter().find_map(move |replica| replica.plan_fetch(wish(stream)).ok());
    let plan = (0..100).find_map(|stream| match planned(stream) {
        Some(Planned::Here(plan)) if plan.is_cold() => Some(plan),
        _ => None,
    });
    let plan = plan.expect("there is one stream, which is not sealed yet");
    // So few may read at once.
    let turns = [plan.reading().await, plan.reading().await];
    assert!(plan.reading().now_or_never().is_none());
    let mut waiting = pin!(node.broker.fetch(fetch(vec![from(&partition, 0)])));
    assert_waits(waiting.as_mut()).await;
    assert_eq!(answers.used(), 0);
    drop(turns);
    let found = timeout(PATIENCE, waiting).await.expect("it is answered");
    assert_eq!(offsets(&found.partitions[0]), [0]);
    drop(found);
    let held = leave(&node, 0);
    let mut waiting = pin!(node.broker.fetch(fetch(vec![from(&partition, 0)])));
    assert_waits(waiting.as_mut()).await;
    assert_eq!([plan.reading().now_or_never(), plan.reading().now_or_never()].iter().flatten().count(), 2);
    drop(held);
    let found = timeout(PATIENCE, waiting).await.expect("it is answered");
    assert_eq!(offsets(&found.partitions[0]), [0]);
}
