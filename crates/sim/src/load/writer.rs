//! Writes numbered values, each writer in its own way:
//! - one batch at a time as an idempotent producer: what has no answer is sent again as it was, until it has one
//! - several batches at once as an idempotent producer: those without an answer are sent again, in their order
//! - without an id: whatever has no answer may be there or not, and is never sent again; who leads is asked anew each time

use std::collections::BTreeMap;
use std::sync::Arc;

use base::random::{Random, SeededRandom};
use base::time::sleep;
use base::trace;
use bytes::Bytes;
use tokio::sync::watch;

use super::{index, settled};
use crate::client::{CallError, Client, PARTITIONS_MAX, batch, in_short};
use crate::plan::{chance, fork, up_to};
use crate::world::World;

/// Records of one batch at most.
const RECORDS_MAX: u64 = 4;
/// Values are this long at most; some fill segments faster than others.
const VALUE_BYTES_MAX: u64 = 400;
/// A large one is this long, or a bit longer: larger than what is copied on its way to a reader.
const LARGE_BYTES: u64 = 33 << 10;
/// Batches at once: a broker remembers the last five of a producer.
const BURST_MAX: u64 = 5;
/// A broker says so of a batch whose predecessor it refused.
const OUT_OF_ORDER: i16 = 45;
/// So often what is left is tried when all is to end.
const LAST_TRIES_MAX: u64 = 200;

/// What the writers without an id are called, with a number.
pub(crate) const WITHOUT_ID: char = 'p';

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    One,
    Burst,
    WithoutId,
}

struct Batch {
    values: Vec<String>,
    records: Bytes,
}

struct Writer {
    world: Arc<World>,
    number: usize,
    name: String,
    random: SeededRandom,
    client: Client,
    producer: Option<(i64, i16)>,
    next: u64,
    /// By partition.
    sequences: BTreeMap<i32, i32>,
}

pub(super) async fn run(world: Arc<World>, number: usize, stop: watch::Receiver<bool>) {
    let way = [Way::One, Way::Burst, Way::WithoutId, Way::Burst][number % 4];
    let name = format!("{}{number}", if way == Way::WithoutId { WITHOUT_ID } else { 'w' });
    let mut writer = Writer {
        random: fork(world.plan.seed, &format!("{name} choices")),
        client: world.client(&name),
        world,
        number,
        name,
        producer: None,
        next: 0,
        sequences: BTreeMap::new(),
    };
    if way != Way::WithoutId {
        writer.producer = writer.producer_id(&stop).await;
    }
    while !*stop.borrow() {
        let topic = writer.world.topic_of_writer(number);
        let partition = topic * PARTITIONS_MAX + index(&writer.random, &writer.world);
        let count = if way == Way::Burst { 1 + writer.random.below(BURST_MAX) } else { 1 };
        if way == Way::WithoutId {
            writer.try_once(partition).await;
        } else {
            let batches = (0..count).map(|_| writer.batch(partition)).collect();
            writer.insist(partition, batches, &stop).await;
        }
        // As many batches in a time, whichever way.
        let pause = writer.world.plan.writer_pause * u32::try_from(count).expect("few");
        sleep(up_to(&writer.random, pause)).await;
    }
    writer.world.writer_ends(number);
}

impl Writer {
    async fn producer_id(&mut self, stop: &watch::Receiver<bool>) -> Option<(i64, i16)> {
        loop {
            let answer = self.client.producer_id().await;
            if let Some(producer) = settled(&self.world, &self.name, "a producer's id", answer) {
                return Some(producer);
            }
            if *stop.borrow() {
                return None;
            }
            self.client.back_off().await;
        }
    }

    /// The next values, as a batch for `partition`.
    fn batch(&mut self, partition: i32) -> Batch {
        let large = chance(&self.random, self.world.plan.large_one_in);
        let count = if large { 1 } else { 1 + self.random.below(RECORDS_MAX) };
        let mut values = Vec::new();
        for _ in 0..count {
            self.next += 1;
            let least = if large { LARGE_BYTES } else { 0 };
            let padding = usize::try_from(least + self.random.below(VALUE_BYTES_MAX)).expect("small");
            let number = self.next.to_string();
            let zeros = "0".repeat(padding.saturating_sub(number.len()));
            values.push(format!("{}-{zeros}{number}", self.name));
        }
        let sequence = self.sequences.entry(partition).or_default();
        let records = batch(self.producer, *sequence, &values);
        *sequence += i32::try_from(count).expect("few");
        let values = values.iter().map(|value| in_short(value.as_bytes())).collect();
        Batch { values, records }
    }

    fn acked(&self, partition: i32, base_offset: i64, values: &[String]) {
        let (number, partition_number) = (self.number as u64, u64::try_from(partition).expect("some"));
        trace::event("acked", &[number, partition_number, base_offset.cast_unsigned()]);
        self.world.observe(|invariants| invariants.acked(partition, base_offset, values));
        self.world.count(|counts| {
            counts.acked_appends += 1;
            counts.acked_records += values.len() as u64;
        });
    }

    /// Sends `batches` at once, and again what has no answer, until all have one.
    async fn insist(&mut self, partition: i32, mut batches: Vec<Batch>, stop: &watch::Receiver<bool>) {
        let mut tries = 0_u64;
        while !batches.is_empty() {
            let records = batches.iter().map(|batch| batch.records.clone());
            let answers = match self.client.produce_all(partition, records).await {
                Ok(answers) => answers,
                Err(error) => {
                    settled::<()>(&self.world, &self.name, "an append", Err(error));
                    Vec::new()
                }
            };
            let mut answers = answers.into_iter();
            let mut left = Vec::new();
            for batch in batches {
                let answer = match answers.next() {
                    Some(Err(OUT_OF_ORDER)) if !left.is_empty() => None,
                    Some(answer) => settled(&self.world, &self.name, "an append", Ok(answer)),
                    None => None,
                };
                match answer {
                    Some(base_offset) => self.acked(partition, base_offset, &batch.values),
                    None => left.push(batch),
                }
            }
            batches = left;
            if batches.is_empty() {
                return;
            }
            tries += 1;
            if *stop.borrow() && tries > LAST_TRIES_MAX {
                return;
            }
            self.client.back_off().await;
        }
    }

    async fn try_once(&mut self, partition: i32) {
        let Batch { values, records } = self.batch(partition);
        // It is among the first that write to a new leader, while others still ask the one before.
        self.client.forget();
        let answer: Result<Result<i64, i16>, CallError> = self.client.produce(partition, records).await;
        match settled(&self.world, &self.name, "an append", answer) {
            Some(base_offset) => self.acked(partition, base_offset, &values),
            None => self.client.back_off().await,
        }
    }
}
