//! What a shard takes on a node, against what its streams have.

use base::time::{Duration, sleep, timeout};
use record::{StreamId, StreamOffset};
use replica::{Replica, Taken};
use shard::commands::DeleteRecords;

use crate::catch_up::{WAIT_MAX, delete, real, seal, some_batch};
use crate::compaction::{compact_some, start as start_compacting};
use crate::made::{fill, settled, start};
use crate::support::append;

async fn taken(replica: &Replica, stream: u64) -> Taken {
    let space = replica.space().await;
    assert_eq!(space.unread, 0);
    space.streams.get(&StreamId(stream)).copied().unwrap_or_default()
}

/// Returns what a stream takes as soon as that is as it should be.
async fn becomes(replica: &Replica, stream: u64, is_it: impl Fn(&Taken) -> bool) -> Taken {
    let mut seen = Taken::default();
    let becomes = async {
        while !is_it(&seen) {
            seen = taken(replica, stream).await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = timeout(WAIT_MAX, becomes).await.is_ok();
    assert!(in_time, "stream {stream}: {seen:?}");
    seen
}

/// What the stream has, counted by its index from the first batch on.
async fn has(replica: &Replica, stream: u64) -> u64 {
    replica.bytes_from(StreamId(stream), StreamOffset(0)).await.expect("counted").0
}

async fn delete_before(replica: &Replica, stream: u64, before: i64) {
    let front = replica.front(StreamId(stream), StreamOffset(before), false).await.expect("found");
    replica.propose(DeleteRecords { fronts: vec![front] }.into()).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_log_lives_until_it_is_deleted() {
    let (_dir, cluster) = real();
    let node = cluster.start(1).await;
    let replica = &node.replica;
    node.create_streams(3).await;
    for number in 0..30 {
        append(replica, 1 + (number % 3) as u64, &some_batch(number)).await.expect("appended");
    }
    let all = has(replica, 1).await;
    let live = Taken { live_in_log: all, ..Taken::default() };
    assert_eq!(taken(replica, 1).await, live, "in memory");
    seal(replica).await;
    replica.checkpoint().await;
    assert_eq!(taken(replica, 1).await, live, "in an index file");
    let middle = replica.state().stream(StreamId(1)).expect("it is there").next_offset().0 / 2;
    delete_before(replica, 1, middle).await;
    let left = has(replica, 1).await;
    assert!(0 < left && left < all);
    let expected = Taken { live_in_log: left, dead_in_log: all - left, ..Taken::default() };
    assert_eq!(taken(replica, 1).await, expected, "the front is gone");
    // The range stays as long as others have something in it.
    let deleted = has(replica, 3).await;
    delete(replica, &[3]).await;
    assert_eq!(taken(replica, 3).await, Taken { dead_in_log: deleted, ..Taken::default() }, "the stream is gone");
    cluster.stop(1, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_objects_is_counted_there() {
    let (_dir, cluster) = real();
    let (node, objects) = start(&cluster, 1).await;
    let replica = &node.replica;
    node.create_streams(3).await;
    fill(replica, 0, 200).await;
    settled(replica, 2).await;
    let mut before = Vec::new();
    for stream in 1..=3 {
        let all = has(replica, stream).await;
        // What objects replaced goes in a moment.
        let is_it = |taken: &Taken| taken.live() == all && taken.live_in_objects > 0 && taken.dead_in_objects == 0;
        before.push(becomes(replica, stream, is_it).await);
    }
    let space = replica.space().await;
    assert_eq!(space.objects_bytes, objects.bytes());
    assert!(space.objects_bytes >= before.iter().map(Taken::in_objects).sum());
    assert!(space.index_bytes > 0 && space.checkpoint_bytes > 0);
    // What stays of it is too much to be written anew: it is where it was.
    let offset = replica.state().stream(StreamId(2)).expect("it is there").first_offset().0 + 3;
    delete_before(replica, 2, offset).await;
    let (left, all) = (has(replica, 2).await, before[1].live());
    assert!(left < all);
    becomes(replica, 2, |taken| taken.live() == left && taken.dead_in_objects == all - left).await;
    cluster.stop(1, node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_compacted_lives_where_it_is_read() {
    let (_dir, cluster) = real();
    let (node, _) = start_compacting(&cluster, 1).await;
    node.create_streams(2).await;
    compact_some(&node.replica).await;
    for stream in [1, 2] {
        let taken = taken(&node.replica, stream).await;
        assert_eq!(taken.live(), has(&node.replica, stream).await, "stream {stream}: {taken:?}");
        assert!(taken.live_in_objects > 0 || stream == 2);
    }
    cluster.stop(1, node).await;
}
