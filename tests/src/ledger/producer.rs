//! One idempotent producer that outlives the broker's deaths.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::book::{Acked, identity};
use super::{Chance, Plan};
use crate::process::POLL;
use crate::wire::requests::{PRODUCE, PRODUCE_VERSION, Produced, produce_answer, produce_body};
use crate::wire::{Batch, Connection, requests};

/// Without any answer for so long, the broker did not come back.
const SILENCE_LIMIT: Duration = Duration::from_secs(90);

/// Errors after which the same batch may be sent again: corrupt on the way, leader unknown or changed, timed out,
/// network, coordinator loading or gone, too few replicas, storage.
const RETRIABLE: [i16; 12] = [2, 3, 5, 6, 7, 13, 14, 15, 16, 19, 20, 56];

/// A batch that is not acknowledged.
#[derive(Debug)]
struct InFlight {
    partition: i32,
    first: u64,
    count: u64,
    body: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Producer {
    address: SocketAddr,
    plan: Plan,
    number: u32,
    chance: Chance,
    stop: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
    /// Per partition the number of the next record, which is its sequence too.
    next: Vec<u64>,
    batches: u32,
    in_flight: VecDeque<InFlight>,
    acked: Vec<Acked>,
    producer_id: i64,
    producer_epoch: i16,
}

impl Producer {
    pub(super) fn new(
        address: SocketAddr,
        plan: Plan,
        number: u32,
        stop: Arc<AtomicBool>,
        total: Arc<AtomicU64>,
    ) -> Self {
        let next = vec![0; usize::try_from(plan.partitions).unwrap_or(1)];
        let chance = Chance::new(plan.seed.wrapping_add(u64::from(number) + 1));
        Self {
            address,
            plan,
            number,
            chance,
            stop,
            total,
            next,
            batches: 0,
            in_flight: VecDeque::new(),
            acked: Vec::new(),
            producer_id: -1,
            producer_epoch: -1,
        }
    }

    pub(super) fn run(mut self) -> Result<Vec<Acked>> {
        let mut silent_since = Instant::now();
        while !self.is_done() {
            let before = self.acked.len();
            // Whatever breaks a connection is the broker's death, until the silence is too long.
            let broken = match Connection::open(self.address) {
                Ok(connection) => self.serve(connection),
                Err(error) => Ok(Some(error)),
            }?;
            if self.acked.len() > before {
                silent_since = Instant::now();
            }
            if let Some(error) = broken {
                if silent_since.elapsed() > SILENCE_LIMIT {
                    bail!("producer {}: nothing acknowledged for {SILENCE_LIMIT:?}: {error:#}", self.number);
                }
                thread::sleep(POLL);
            }
        }
        Ok(self.acked)
    }

    fn is_done(&self) -> bool {
        self.stop.load(Ordering::Relaxed) && self.in_flight.is_empty()
    }

    /// Works on one connection until it breaks (`Some`), or all is done. An error is the broker's fault.
    fn serve(&mut self, mut connection: Connection) -> Result<Option<anyhow::Error>> {
        if self.producer_id < 0 {
            match requests::init_producer_id(&mut connection) {
                Ok((id, epoch)) => (self.producer_id, self.producer_epoch) = (id, epoch),
                Err(error) => return Ok(Some(error)),
            }
        }
        // First what the last connection left without an answer, in order.
        for batch in &self.in_flight {
            if let Err(error) = connection.send(PRODUCE, PRODUCE_VERSION, &batch.body) {
                return Ok(Some(error));
            }
        }
        while !self.is_done() {
            if self.in_flight.len() < self.plan.in_flight && !self.stop.load(Ordering::Relaxed) {
                let batch = self.next_batch();
                let sent = connection.send(PRODUCE, PRODUCE_VERSION, &batch.body);
                self.in_flight.push_back(batch);
                if let Err(error) = sent {
                    return Ok(Some(error));
                }
                if !self.plan.pause.is_zero() {
                    thread::sleep(self.plan.pause);
                }
                if self.in_flight.len() < self.plan.in_flight {
                    continue;
                }
            }
            let answer = match connection.answer() {
                Ok(answer) => produce_answer(&answer)?,
                Err(error) => return Ok(Some(error)),
            };
            if let Some(again) = self.take(answer)? {
                return Ok(Some(again));
            }
        }
        Ok(None)
    }

    /// Notes the answer to the oldest batch in flight; `Some` when all in flight must be sent again.
    fn take(&mut self, answer: Produced) -> Result<Option<anyhow::Error>> {
        let Some(batch) = self.in_flight.pop_front() else { bail!("an answer without a request") };
        if answer.error == 0 {
            ensure!(answer.base_offset >= 0, "acknowledged without an offset");
            self.total.fetch_add(batch.count, Ordering::Relaxed);
            self.acked.push(Acked {
                partition: batch.partition,
                base_offset: answer.base_offset,
                producer: self.number,
                first: batch.first,
                count: batch.count,
            });
            return Ok(None);
        }
        let error = answer.error;
        // A gap in the sequence is no excuse: all before the oldest in flight was acknowledged.
        ensure!(
            RETRIABLE.contains(&error),
            "producer {}: record {} of partition {} was answered with error {error}",
            self.number,
            batch.first,
            batch.partition
        );
        self.in_flight.push_front(batch);
        Ok(Some(anyhow::anyhow!("retriable error {error}")))
    }

    fn next_batch(&mut self) -> InFlight {
        self.batches += 1;
        let partition =
            usize::try_from(self.chance.number() % u64::try_from(self.next.len()).unwrap_or(1)).unwrap_or(0);
        let first = self.next[partition];
        let is_large = self.plan.large_every > 0 && self.batches.is_multiple_of(self.plan.large_every);
        let count = if is_large { 3 } else { self.chance.between(1, self.plan.batch_records as u64) };
        let home = i32::try_from(partition).unwrap_or(0);
        let (smallest, largest) = self.plan.value_bytes;
        let values = (first..first + count)
            .map(|number| {
                let length = if is_large { 600_000 } else { self.chance.between(smallest as u64, largest as u64) };
                let mut value = identity(self.number, home, number).into_bytes();
                let length = usize::try_from(length).unwrap_or(0).max(value.len());
                value.resize(length, b'.');
                value
            })
            .collect();
        self.next[partition] += count;
        let sequence = i32::try_from(first).unwrap_or(i32::MAX);
        let batch = Batch::of(values).produced_by(self.producer_id, self.producer_epoch, sequence).build();
        let body = produce_body(&self.plan.topic, home, -1, 30_000, &batch);
        InFlight { partition: home, first, count, body }
    }
}
