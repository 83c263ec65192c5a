//! The front of a compacted stream goes, too, and what is left is found from wherever it begins.

use base::random::SeededRandom;
use base::time::{Duration, sleep};
use record::{StreamId, StreamOffset, TimestampMs};
use shard::commands::DeleteRecords;

use super::{Fact, KEYED, PLAIN, compacted, facts, fill, keyed, newest, policy, read_from, same, settled, start};
use crate::catch_up::{delete, real, seal};
use crate::support::append;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_front_of_what_is_compacted_goes() {
    let (_dir, cluster) = real();
    let random = SeededRandom::new(7);
    let (node, objects) = start(&cluster, 1).await;
    node.create_streams(2).await;
    let mut all = Vec::new();
    fill(&node.replica, &random, &mut all, 800, 2_000).await;
    compacted(&node.replica, policy()).await;
    let front = async |before: i64| {
        let front = node.replica.front(StreamId(KEYED), StreamOffset(before), false).await.expect("found");
        node.replica.propose(DeleteRecords { fronts: vec![front] }.into()).await.expect("deleted");
    };
    let objects_before = node.replica.state().compacted_objects().len();
    assert!(objects_before > 1, "{objects_before}");
    // A batch of which anything stays is read as a whole.
    let left = newest(&all);
    let middle = left[left.len() / 2].0;
    front(middle).await;
    settled(&node.replica).await;
    let found = read_from(&node.replica, KEYED, middle).await;
    let found: Vec<Fact> = found.into_iter().filter(|(offset, ..)| *offset >= middle).collect();
    same(&found, &left.iter().filter(|(offset, ..)| *offset >= middle).cloned().collect::<Vec<_>>(), "what stays");
    assert!(node.replica.state().compacted_objects().len() < objects_before, "the first go");
    // What is written goes on behind, and is compacted with what is left.
    fill(&node.replica, &random, &mut all, 50, 2_000).await;
    compacted(&node.replica, policy()).await;
    let left: Vec<Fact> = newest(&all).into_iter().filter(|(offset, ..)| *offset >= middle).collect();
    let found = read_from(&node.replica, KEYED, middle).await;
    same(&found.into_iter().filter(|(offset, ..)| *offset >= middle).collect::<Vec<_>>(), &left, "and what came since");
    let end = node.replica.state().stream(StreamId(KEYED)).expect("it is there").next_offset().0;
    front(end).await;
    settled(&node.replica).await;
    assert!(node.replica.state().compacted_objects().is_empty());
    delete(&node.replica, &[PLAIN]).await;
    settled(&node.replica).await;
    assert_eq!(objects.keys().len(), node.replica.state().objects().len());
    cluster.stop(1, node).await;
}

/// Where the log starts may lie where compaction left nothing, and what was before it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_from_the_front_finds_what_is_left() {
    let (_dir, cluster) = real();
    let random = SeededRandom::new(8);
    let (node, _) = start(&cluster, 1).await;
    node.create_streams(1).await;
    let mut all = Vec::new();
    for round in 0..4 {
        for _ in 0..60 {
            let batch = keyed(&random, 6);
            let base = append(&node.replica, KEYED, &batch).await.expect("appended").base_offset.0;
            all.extend(facts(base, &batch.bytes));
            seal(&node.replica).await;
        }
        let end = i64::try_from(all.len()).expect("few");
        let before = end * 2 / 3 + round;
        let front = node.replica.front(StreamId(KEYED), StreamOffset(before), false).await.expect("found");
        node.replica.propose(DeleteRecords { fronts: vec![front] }.into()).await.expect("deleted");
        // Index files of what is gone go.
        node.replica.checkpoint().await;
        sleep(Duration::from_millis(300)).await;
        node.replica.checkpoint().await;
        compacted(&node.replica, policy()).await;
        let left: Vec<Fact> = newest(&all).into_iter().filter(|(offset, ..)| *offset >= before).collect();
        for from in before..end {
            let found = read_from(&node.replica, KEYED, from).await;
            let found: Vec<Fact> = found.into_iter().filter(|(offset, ..)| *offset >= from).collect();
            let left: Vec<Fact> = left.iter().filter(|(offset, ..)| *offset >= from).cloned().collect();
            same(&found, &left, &format!("round {round} from {from}"));
        }
        let expired = node.replica.expired(StreamId(KEYED), TimestampMs(0)).await.expect("it is looked through");
        assert_eq!(expired.before.0, before);
        for time in [1_000, 1_300, 1_700, 1_990] {
            let found = node.replica.offset_for_time(StreamId(KEYED), TimestampMs(time)).await.expect("found");
            let first = left.iter().find(|(_, at, ..)| *at >= time).map(|(offset, ..)| *offset);
            assert_eq!(found.map(|timed| timed.offset.0), first, "time {time} in round {round}");
        }
    }
    cluster.stop(1, node).await;
}
