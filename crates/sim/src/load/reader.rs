//! Reads all partitions, now and then again from an earlier offset, and asks where they end.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::random::Random;
use base::time::{Duration, sleep};
use base::trace;
use tokio::sync::watch;

use super::settled;
use crate::client::{Client, Seen};
use crate::plan::{chance, fork, up_to};
use crate::world::World;

/// A reader rests up to so long between two fetches.
const PAUSE_MAX: Duration = Duration::from_millis(150);
/// One fetch in so many begins anew from an earlier offset.
const ANEW_ONE_IN: u64 = 60;
/// One step in so many is a question for the end.
const END_ONE_IN: u64 = 4;

pub(super) async fn run(world: Arc<World>, number: usize, stop: watch::Receiver<bool>) {
    let name = format!("r{number}");
    let random = fork(world.plan.seed, &format!("{name} choices"));
    let mut client = world.client(&name);
    let mut positions: BTreeMap<i32, i64> = BTreeMap::new();
    while !*stop.borrow() {
        let partition = i32::try_from(random.below(u64::try_from(world.plan.partitions).expect("some"))).expect("few");
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
                None => client.back_off().await,
            }
        }
        sleep(up_to(&random, PAUSE_MAX)).await;
    }
}

/// What stands from `position` on, which is looked at; none when there is no answer.
async fn fetch(world: &World, client: &mut Client, partition: i32, position: i64) -> Option<Vec<Seen>> {
    let answer = client.fetch(partition, position).await;
    let name = client.name.clone();
    let (seen, high_watermark) = settled(world, &name, "a fetch", answer)?;
    let hash = seen.iter().fold(0, |hash, seen| trace::hash_of(seen.value.as_bytes()) ^ hash);
    trace::event(
        "fetched",
        &[u64::try_from(partition).expect("some"), position.cast_unsigned(), seen.len() as u64, hash],
    );
    for (expected, seen) in (position..).zip(&seen) {
        if seen.offset != expected {
            world.fail(format!("{name}: offset {} of partition {partition} comes for {expected}", seen.offset));
        }
        if seen.offset >= high_watermark {
            world.fail(format!("{name}: offset {} is given, above the high watermark {high_watermark}", seen.offset));
        }
        world.observe(|invariants| invariants.read(partition, seen));
    }
    Some(seen)
}

/// Everything of a partition, from offset 0 on. Tries until it has it.
pub async fn read_all(world: &World, client: &mut Client, partition: i32) -> Vec<Seen> {
    let end = loop {
        let least = world.known(|invariants| invariants.end_now(partition));
        let answer = client.end_offset(partition).await;
        if let Some(end) = settled(world, "the last reader", "the end", answer) {
            world.observe(|invariants| invariants.end_read(partition, least, end));
            break end;
        }
        client.back_off().await;
    };
    let mut all = Vec::new();
    loop {
        let position = i64::try_from(all.len()).expect("few");
        if position >= end {
            return all;
        }
        match fetch(world, client, partition, position).await {
            Some(seen) => all.extend(seen),
            None => client.back_off().await,
        }
    }
}
