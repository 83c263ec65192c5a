//! Writes records of a few keys to a topic that is compacted, some of which delete their key, and reads it: of each key the newest is
//! there, and nothing that has gone comes back.

use std::sync::Arc;

use base::random::{Random, SeededRandom};
use base::time::{Duration, sleep};
use base::trace;
use tokio::sync::watch;

use super::settled;
use crate::client::{Client, KeyedRecord, PARTITIONS_MAX, keyed_batch};
use crate::plan::{between, chance, fork, up_to};
use crate::world::World;

/// Its number: behind those of all other topics.
const TOPIC: i32 = 10_000;
const PARTITIONS: i32 = 2;
const KEYS: u64 = 12;
/// Records of one batch at most.
const RECORDS_MAX: u64 = 5;
const VALUE_BYTES_MAX: u64 = 1_500;
/// One record in so many has no value.
const DELETES_ONE_IN: u64 = 6;
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// One step in so many reads a partition.
const READ_ONE_IN: u64 = 30;
/// There is one of that name.
const TOPIC_EXISTS: i16 = 36;
/// So often what is left is tried when all is to end.
const LAST_TRIES_MAX: u64 = 200;

struct Writer {
    world: Arc<World>,
    random: SeededRandom,
    client: Client,
    producer: (i64, i16),
    next: u64,
    sequences: [i32; PARTITIONS as usize],
}

pub(super) async fn run(world: Arc<World>, stop: watch::Receiver<bool>) {
    let random = fork(world.plan.seed, "keyed choices");
    let mut client = world.client("keyed");
    let lasts = between(&random, Duration::from_secs(1), Duration::from_secs(20));
    loop {
        match client.create_compacted_topic(TOPIC, PARTITIONS, lasts).await {
            Ok(0 | TOPIC_EXISTS) => break,
            _ if *stop.borrow() => return,
            _ => client.back_off().await,
        }
    }
    let producer = loop {
        let answer = client.producer_id().await;
        if let Some(producer) = settled(&world, "keyed", "a producer's id", answer) {
            break producer;
        }
        if *stop.borrow() {
            return;
        }
        client.back_off().await;
    };
    let mut writer = Writer { world, random, client, producer, next: 0, sequences: [0; PARTITIONS as usize] };
    while !*stop.borrow() {
        let index = writer.random.below(PARTITIONS.unsigned_abs().into());
        let index = i32::try_from(index).expect("few");
        if chance(&writer.random, READ_ONE_IN) {
            read(&writer.world, &mut writer.client, index, false).await;
        } else {
            writer.append(index, &stop).await;
        }
        sleep(up_to(&writer.random, PAUSE_MAX)).await;
    }
}

impl Writer {
    async fn append(&mut self, index: i32, stop: &watch::Receiver<bool>) {
        let partition = TOPIC * PARTITIONS_MAX + index;
        let place = usize::try_from(index).expect("few");
        let mut records = Vec::new();
        for _ in 0..=self.random.below(RECORDS_MAX) {
            self.next += 1;
            let key = format!("k{}", self.random.below(KEYS));
            let bytes = usize::try_from(self.random.below(VALUE_BYTES_MAX)).expect("small");
            let value = (!chance(&self.random, DELETES_ONE_IN)).then(|| format!("{:0bytes$}", self.next));
            records.push((key, value));
        }
        let sequence = self.sequences[place];
        let batch = keyed_batch(self.producer, sequence, &records);
        self.sequences[place] += i32::try_from(records.len()).expect("few");
        let mut tries = 0_u64;
        loop {
            self.world.known(|invariants| invariants.keyed_sent(partition, &records));
            let answer = self.client.produce(partition, batch.clone()).await;
            if let Some(base_offset) = settled(&self.world, "keyed", "an append", answer) {
                trace::event("keyed", &[u64::try_from(partition).expect("some"), base_offset.cast_unsigned()]);
                self.world.observe(|invariants| invariants.keyed_acked(partition, base_offset, &records));
                self.world.count(|counts| {
                    counts.acked_appends += 1;
                    counts.acked_keyed += records.len() as u64;
                });
                return;
            }
            tries += 1;
            if *stop.borrow() && tries > LAST_TRIES_MAX {
                return;
            }
            self.client.back_off().await;
        }
    }
}

/// All that is left of a partition is compared with what was written. In the end it is tried until it is all there.
async fn read(world: &World, client: &mut Client, index: i32, in_the_end: bool) {
    let partition = TOPIC * PARTITIONS_MAX + index;
    let (mut left, mut position) = (Vec::<KeyedRecord>::new(), 0);
    let end = loop {
        let answer = client.end_offset(partition).await;
        match settled(world, "keyed", "the end", answer) {
            Some(end) => break end,
            None if in_the_end => client.back_off().await,
            None => return,
        }
    };
    while position < end {
        let answer = client.fetch_keyed(partition, position).await;
        match settled(world, "keyed", "a fetch", answer) {
            Some((records, next)) => {
                left.extend(records);
                position = next;
            }
            None if in_the_end => client.back_off().await,
            None => return,
        }
    }
    left.retain(|record| record.offset < end);
    let hash = left.iter().fold(0_u64, |hash, record| trace::hash_of(record.key.as_bytes()) ^ hash.rotate_left(1));
    trace::event("left", &[u64::try_from(partition).expect("some"), left.len() as u64, hash]);
    world.count(|counts| counts.reads += 1);
    world.observe(|invariants| invariants.keyed_left(partition, end, &left, in_the_end));
}

/// In the end: what is left of the topic, if there is one.
pub async fn check(world: &World, client: &mut Client) {
    for index in 0..PARTITIONS {
        if world.known(|invariants| invariants.any_keyed(TOPIC * PARTITIONS_MAX + index)) {
            read(world, client, index, true).await;
        }
    }
}
