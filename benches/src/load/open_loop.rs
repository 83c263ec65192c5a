//! Records at a fixed rate, whatever the broker does: a record is due at its time, and its latency is counted from
//! then, so that a broker that stalls is charged for all that it kept waiting.
//!
//! As a producer that lingers: whenever fewer than `depth` requests are in flight and the first record that is due has
//! waited for `linger_ms`, all that is due goes out in one request with a batch per partition.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use tests::wire::Batch;

use super::engine::Poll;
use super::request::{ensure_topic, first_error, now_ms, produce_many, resolve, values};
use super::socket::Socket;
use crate::measure::{Latencies, own_cpu_seconds};

/// Nothing is measured in the beginning of a run.
const WARM_UP: Duration = Duration::from_secs(3);
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// What has piled up goes out in batches of so many bytes: a broker takes them up to 1 MiB.
const BATCH_BYTES_MAX: u64 = 512 << 10;

#[derive(Args, Clone, Debug)]
pub(crate) struct OpenLoopLoad {
    #[arg(long)]
    pub(crate) servers: String,
    #[arg(long)]
    pub(crate) topic: String,
    #[arg(long, default_value_t = 16)]
    pub(crate) partitions: i32,
    /// Records per second.
    #[arg(long, default_value_t = 50_000)]
    pub(crate) rate: u64,
    #[arg(long, default_value_t = 100)]
    pub(crate) record_bytes: usize,
    /// Requests in flight.
    #[arg(long, default_value_t = 5)]
    pub(crate) depth: usize,
    /// How long a record waits for others that go with it.
    #[arg(long, default_value_t = 0)]
    pub(crate) linger_ms: u64,
    #[arg(long, default_value_t = 30.0)]
    pub(crate) seconds: f64,
}

/// The records `first..end` went out together.
#[derive(Debug)]
struct Sent {
    first: u64,
    end: u64,
}

impl OpenLoopLoad {
    pub(crate) fn run(&self) -> Result<Value> {
        ensure!(self.rate > 0 && self.depth > 0 && self.partitions > 0, "nothing to do");
        let address = resolve(&self.servers)?;
        ensure_topic(address, &self.topic, self.partitions)?;
        let mut socket = Socket::connect(address)?;
        let mut poll = Poll::new()?;
        poll.add(0, &socket)?;
        let value = values(1, self.record_bytes, 7).remove(0);
        let total = self.due_by(WARM_UP + Duration::from_secs_f64(self.seconds));
        let measured_from = WARM_UP.as_secs() * self.rate;
        let mut latencies = Latencies::default();
        let mut in_flight: VecDeque<Sent> = VecDeque::new();
        let mut next = 0;
        let started = Instant::now();
        let mut heard = started;
        let most =
            u64::from(self.partitions.unsigned_abs()) * (BATCH_BYTES_MAX / self.record_bytes.max(1) as u64).max(1);
        let linger = Duration::from_millis(self.linger_ms);
        while next < total || !in_flight.is_empty() {
            let now = Instant::now();
            let due = self.due_by(now.duration_since(started)).min(total);
            let has_lingered = now.duration_since(started) >= self.due_at(next) + linger;
            if due > next && has_lingered && in_flight.len() < self.depth {
                let due = due.min(next + most);
                socket.send(self.request(&value, next, due))?;
                in_flight.push_back(Sent { first: next, end: due });
                next = due;
            }
            let wait = if in_flight.len() >= self.depth || next >= total {
                Duration::from_secs(1)
            } else {
                (started + self.due_at(next) + linger).saturating_duration_since(Instant::now())
            };
            poll.wait(wait)?;
            if socket.is_blocked() {
                socket.flush()?;
            }
            let now = Instant::now();
            let mut failed = 0;
            socket.receive(|answer| {
                failed = first_error(answer)?;
                ensure!(failed == 0, "a request was answered with error {failed}");
                let Some(sent) = in_flight.pop_front() else { bail!("an answer without a request") };
                for record in sent.first.max(measured_from)..sent.end {
                    latencies.note(now.saturating_duration_since(started + self.due_at(record)));
                }
                heard = now;
                Ok(())
            })?;
            if now.duration_since(heard) > DRAIN_LIMIT {
                bail!("no answer for {DRAIN_LIMIT:?}");
            }
        }
        Ok(json!({
            "records": total, "measured": latencies.count(), "seconds": started.elapsed().as_secs_f64(),
            "p50_us": latencies.percentile(0.5), "p99_us": latencies.percentile(0.99),
            "p999_us": latencies.percentile(0.999), "max_us": latencies.max(), "client_cpu_s": own_cpu_seconds()?,
        }))
    }

    /// When record number `record` is due, from the start.
    fn due_at(&self, record: u64) -> Duration {
        Duration::from_nanos(record * 1_000_000_000 / self.rate)
    }

    /// How many records are due after so long.
    fn due_by(&self, since: Duration) -> u64 {
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        nanos / 1_000 * self.rate / 1_000_000
    }

    fn request(&self, value: &[u8], first: u64, end: u64) -> std::sync::Arc<[u8]> {
        let partitions = self.partitions.unsigned_abs().into();
        let mut batches = Vec::new();
        for partition in 0..u64::min(partitions, end - first) {
            // Records go round the partitions.
            let home = (first + partition) % partitions;
            let count = (end - first - partition).div_ceil(partitions);
            let mut batch = Batch::of(vec![value.to_vec(); usize::try_from(count).unwrap_or(1)]);
            batch.timestamp_ms = now_ms();
            batches.push((i32::try_from(home).unwrap_or(0), batch.build()));
        }
        produce_many(&self.topic, &batches)
    }
}
