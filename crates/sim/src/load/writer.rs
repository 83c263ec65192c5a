//! Writes numbered values as an idempotent producer: what has no answer is sent again as it was, until
//! it has one.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::random::Random;
use base::time::sleep;
use base::trace;
use tokio::sync::watch;

use super::settled;
use crate::client::{CallError, batch};
use crate::plan::{fork, up_to};
use crate::world::World;

/// Records of one batch at most.
const RECORDS_MAX: u64 = 4;
/// Values are this long at most; some fill segments faster than others.
const VALUE_BYTES_MAX: u64 = 400;

pub(super) async fn run(world: Arc<World>, number: usize, stop: watch::Receiver<bool>) {
    let name = format!("w{number}");
    let random = fork(world.plan.seed, &format!("{name} choices"));
    let mut client = world.client(&name);
    let producer = loop {
        let answer = client.producer_id().await;
        if let Some(producer) = settled(&world, &name, "a producer's id", answer) {
            break producer;
        }
        if *stop.borrow() {
            return;
        }
        client.back_off().await;
    };
    let mut sequences: BTreeMap<i32, i32> = BTreeMap::new();
    let mut next = 0_u64;
    while !*stop.borrow() {
        let partition = i32::try_from(random.below(u64::try_from(world.plan.partitions).expect("some"))).expect("few");
        let count = 1 + random.below(RECORDS_MAX);
        let values: Vec<String> = (0..count)
            .map(|_| {
                next += 1;
                let padding = usize::try_from(random.below(VALUE_BYTES_MAX)).expect("small");
                format!("{name}-{next:0padding$}")
            })
            .collect();
        let sequence = sequences.entry(partition).or_default();
        let records = batch(producer, *sequence, &values);
        *sequence += i32::try_from(count).expect("few");
        let mut tries = 0_u64;
        let base_offset = loop {
            let answer = client.produce(partition, records.clone()).await;
            tries += 1;
            // As with Kafka's clients: one that has no connection has not sent it.
            let nobody = matches!(answer, Err(CallError::Nobody));
            if let Some(base_offset) = settled(&world, &name, "an append", answer) {
                break base_offset;
            }
            if *stop.borrow() && tries > 200 {
                return;
            }
            tries -= u64::from(nobody);
            client.back_off().await;
        };
        trace::event("acked", &[number as u64, u64::try_from(partition).expect("some"), base_offset.cast_unsigned()]);
        world.observe(|invariants| invariants.acked(partition, base_offset, &values));
        world.count(|counts| {
            counts.acked_appends += 1;
            counts.acked_records += count;
        });
        sleep(up_to(&random, world.plan.writer_pause)).await;
    }
}
