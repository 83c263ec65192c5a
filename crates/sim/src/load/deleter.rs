//! Deletes records from the front of partitions, which it has read before: what was acknowledged was there until then.

use std::sync::Arc;

use base::random::Random;
use base::time::{Duration, sleep};
use base::trace;
use tokio::sync::watch;

use super::reader::{fetch, some_partition};
use super::settled;
use crate::client::Client;
use crate::plan::{between, fork};
use crate::world::World;

const PAUSE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(5));
/// With fewer records than this a partition is left alone.
const RECORDS_MIN: i64 = 20;
/// Not all nodes know how yet.
const UNSUPPORTED_VERSION: i16 = 35;

pub(super) async fn run(world: Arc<World>, stop: watch::Receiver<bool>) {
    let random = fork(world.plan.seed, "deleter choices");
    let mut client = world.client("deleter");
    while !*stop.borrow() {
        sleep(between(&random, PAUSE.0, PAUSE.1)).await;
        let partition = some_partition(&world, &random);
        let (from, end) = world.known(|known| (known.gone_before(partition), known.end_now(partition)));
        if end - from < RECORDS_MIN {
            continue;
        }
        let half = u64::try_from(end - from).expect("some") / 2;
        let before = from + 1 + i64::try_from(random.below(half)).expect("few");
        if !read(&world, &mut client, partition, from, before, &stop).await {
            continue;
        }
        world.known(|invariants| invariants.deleting(partition, before));
        let answer = client.delete_records(partition, before).await;
        if matches!(answer, Ok(Err(UNSUPPORTED_VERSION))) {
            continue;
        }
        match settled(&world, "deleter", "a deletion", answer) {
            Some(first) => {
                trace::event("gone", &[u64::try_from(partition).expect("some"), first.cast_unsigned()]);
                if first < before {
                    world.fail(format!("partition {partition} begins with {first}, before {before} all was deleted"));
                }
                world.known(|invariants| invariants.deleted(partition, before));
                world.count(|counts| counts.deletions += 1);
            }
            None => client.back_off().await,
        }
    }
}

/// Whether all from `from` to `before` was read, and is as it should be.
async fn read(
    world: &World,
    client: &mut Client,
    partition: i32,
    from: i64,
    before: i64,
    stop: &watch::Receiver<bool>,
) -> bool {
    let mut records = Vec::new();
    let mut position = from;
    while position < before {
        // Of a topic that is gone nothing is to be had.
        if *stop.borrow() || world.topics().0 * crate::client::PARTITIONS_MAX > partition {
            return false;
        }
        match fetch(world, client, partition, position).await {
            Some(seen) => {
                position += i64::try_from(seen.len()).expect("few");
                records.extend(seen);
            }
            None => client.back_off().await,
        }
    }
    records.retain(|seen| seen.offset < before);
    world.observe(|invariants| invariants.about_to_go(partition, from, before, &records));
    true
}
