//! Reads all partitions, now and then again from an earlier offset, and asks where they end.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::random::Random;
use base::time::{Duration, sleep};
use base::trace;
use tokio::sync::watch;

use super::{index, settled};
use crate::client::{CallError, Client, PARTITIONS_MAX, Seen};
use crate::plan::{chance, fork, up_to};
use crate::world::World;

/// There is no record there.
const OFFSET_OUT_OF_RANGE: i16 = 1;
/// A reader rests up to so long between two fetches.
const PAUSE_MAX: Duration = Duration::from_millis(150);
/// One fetch in so many begins anew from an earlier offset.
const ANEW_ONE_IN: u64 = 60;
/// One step in so many concerns the first topic that is there.
const EARLIER_ONE_IN: u64 = 5;
/// One step in so many is a question for the end.
const END_ONE_IN: u64 = 4;

pub(super) async fn run(world: Arc<World>, number: usize, stop: watch::Receiver<bool>) {
    let name = format!("r{number}");
    let random = fork(world.plan.seed, &format!("{name} choices"));
    let mut client = world.client(&name);
    let mut positions: BTreeMap<i32, i64> = BTreeMap::new();
    while !*stop.borrow() {
        let partition = some_partition(&world, &random);
        if chance(&random, END_ONE_IN) {
            let least = world.known(|invariants| invariants.end_now(partition));
            let answer = client.end_offset(partition).await;
            match settled(&world, &name, "the end", answer) {
                Some(end) => {
                    trace::event("end", &[number as u64, u64::try_from(partition).expect("some"), end.cast_unsigned()]);
                    world.observe(|invariants| invariants.end_read(partition, least, end));
                    world.count(|counts| counts.questions += 1);
                }
                None => client.back_off().await,
            }
        } else {
            let position = positions.entry(partition).or_default();
            if chance(&random, ANEW_ONE_IN) {
                *position = i64::try_from(random.below(position.cast_unsigned().max(1))).expect("an offset");
            }
            match fetch(&world, &mut client, partition, *position).await {
                Some(seen) => {
                    *position += i64::try_from(seen.len()).expect("few");
                    world.count(|counts| counts.reads += 1);
                }
                None => {
                    // It may be gone.
                    *position = world.known(|invariants| invariants.gone_before(partition)).max(*position);
                    client.back_off().await;
                }
            }
        }
        sleep(up_to(&random, PAUSE_MAX)).await;
    }
}

/// A partition of the topic that is written to, or now and then of an earlier one.
pub(super) fn some_partition(world: &World, random: &dyn Random) -> i32 {
    let (first, last) = world.topics();
    let topic = if chance(random, EARLIER_ONE_IN) { first } else { last };
    topic * PARTITIONS_MAX + index(random, world)
}

/// What stands from `position` on, which is looked at; none when there is no answer.
pub(super) async fn fetch(world: &World, client: &mut Client, partition: i32, position: i64) -> Option<Vec<Seen>> {
    let answer = client.fetch(partition, position).await;
    if is_gone(world, partition, position, &answer) {
        return None;
    }
    let name = client.name.clone();
    let (seen, high_watermark) = settled(world, &name, "a fetch", answer)?;
    look_at(world, &name, partition, position, &seen, high_watermark);
    Some(seen)
}

/// Whether the answer is that a record is not there which somebody may have deleted.
pub(super) fn is_gone<T>(
    world: &World,
    partition: i32,
    position: i64,
    answer: &Result<Result<T, i16>, CallError>,
) -> bool {
    matches!(answer, Ok(Err(OFFSET_OUT_OF_RANGE)))
        && position < world.known(|invariants| invariants.gone_before(partition))
}

/// What a fetch gave is in order, and as it was told before.
pub(super) fn look_at(world: &World, name: &str, partition: i32, position: i64, seen: &[Seen], high_watermark: i64) {
    let hash = seen.iter().fold(0, |hash, seen| trace::hash_of(seen.value.as_bytes()) ^ hash);
    trace::event(
        "fetched",
        &[u64::try_from(partition).expect("some"), position.cast_unsigned(), seen.len() as u64, hash],
    );
    for (expected, seen) in (position..).zip(seen) {
        if seen.offset != expected {
            world.fail(format!("{name}: offset {} of partition {partition} comes for {expected}", seen.offset));
        }
        if seen.offset >= high_watermark {
            world.fail(format!("{name}: offset {} is given, above the high watermark {high_watermark}", seen.offset));
        }
        world.observe(|invariants| invariants.read(partition, seen));
    }
}

/// Everything of a topic, which is compared with what was said of it.
pub async fn check_topic(world: &World, client: &mut Client, topic: i32, in_the_end: bool) {
    for index in 0..world.plan.partitions {
        let partition = topic * PARTITIONS_MAX + index;
        let (first, all) = read_all(world, client, partition).await;
        world.observe(|invariants| invariants.all_of(partition, first, &all, in_the_end));
    }
}

/// Everything of a partition, from its first offset on. Tries until it has it.
async fn read_all(world: &World, client: &mut Client, partition: i32) -> (i64, Vec<Seen>) {
    let end = loop {
        let least = world.known(|invariants| invariants.end_now(partition));
        let answer = client.end_offset(partition).await;
        let name = client.name.clone();
        if let Some(end) = settled(world, &name, "the end", answer) {
            world.observe(|invariants| invariants.end_read(partition, least, end));
            break end;
        }
        client.back_off().await;
    };
    'anew: loop {
        let answer = client.first_offset(partition).await;
        let name = client.name.clone();
        let Some(first) = settled(world, &name, "the beginning", answer) else {
            client.back_off().await;
            continue;
        };
        let (mut all, mut position) = (Vec::new(), first);
        while position < end {
            match fetch(world, client, partition, position).await {
                Some(seen) => {
                    position += i64::try_from(seen.len()).expect("few");
                    all.extend(seen);
                }
                None => {
                    client.back_off().await;
                    // Records may be deleted meanwhile.
                    if position < world.known(|invariants| invariants.gone_before(partition)) {
                        continue 'anew;
                    }
                }
            }
        }
        return (first, all);
    }
}
