//! Produce records with keys: every key of a partition once in each round, in an order of the round's own, so that all but
//! the last round is superseded.

use std::time::{Duration, Instant};

use ::tests::wire::batch::seal;
use ::tests::wire::requests::{self, PRODUCE, PRODUCE_VERSION};
use ::tests::wire::{Writer, connection};
use anyhow::{Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::engine::Poll;
use super::request::{ensure_topic, first_error, now_ms, resolve, values};
use super::socket::Socket;
use crate::measure::own_cpu_seconds;

const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Behind one another in a round are keys so far apart: a prime, so that each comes once.
const STRIDE: u64 = 7_919;

#[derive(Args, Clone, Debug)]
pub(crate) struct KeyedLoad {
    #[arg(long)]
    pub(crate) servers: String,
    #[arg(long)]
    pub(crate) topic: String,
    /// Each is written to by a connection of its own.
    #[arg(long, default_value_t = 4)]
    pub(crate) partitions: i32,
    /// Keys of all partitions.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) keys: u64,
    /// How often each key is written.
    #[arg(long, default_value_t = 10)]
    pub(crate) rounds: u64,
    #[arg(long, default_value_t = 1000)]
    pub(crate) record_bytes: usize,
    /// Records of a request.
    #[arg(long, default_value_t = 100)]
    pub(crate) records: u64,
    /// Requests in flight per connection.
    #[arg(long, default_value_t = 4)]
    pub(crate) depth: usize,
    /// Records per second; 0 for as many as are taken.
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u64,
    /// Stops after so long, when that comes first.
    #[arg(long, default_value_t = 3600.0)]
    pub(crate) seconds: f64,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    partition: i32,
    /// Records that were sent.
    next: u64,
    in_flight: usize,
}

impl KeyedLoad {
    pub(crate) fn run(&self) -> Result<Value> {
        ensure!(self.partitions > 0 && self.records > 0 && self.depth > 0, "nothing to do");
        let partitions = u64::from(self.partitions.unsigned_abs());
        let keys = self.keys / partitions;
        ensure!(keys > 0 && !keys.is_multiple_of(STRIDE), "a partition's keys must not be a multiple of {STRIDE}");
        let address = resolve(&self.servers)?;
        ensure_topic(address, &self.topic, self.partitions)?;
        let mut poll = Poll::new()?;
        let mut all = Vec::new();
        for partition in 0..self.partitions {
            let socket = Socket::connect(address)?;
            poll.add(all.len(), &socket)?;
            all.push(Connection { socket, partition, next: 0, in_flight: 0 });
        }
        let mut value = values(1, self.record_bytes, 11).remove(0);
        let (total, started) = (keys * self.rounds, Instant::now());
        let (mut heard, mut records) = (started, 0_u64);
        loop {
            let elapsed = started.elapsed().as_secs_f64();
            let due = if self.rate == 0 { f64::INFINITY } else { self.rate as f64 * elapsed };
            let is_over = elapsed > self.seconds;
            for connection in &mut all {
                while connection.in_flight < self.depth
                    && connection.next < total
                    && !is_over
                    && ((records + self.records) as f64) <= due
                {
                    let count = self.records.min(total - connection.next);
                    let batch = batch(connection.next, count, keys, &mut value);
                    let body = requests::produce_body(&self.topic, connection.partition, -1, 30_000, &batch);
                    let request = connection::frame(PRODUCE, PRODUCE_VERSION, connection.partition, &body);
                    connection.socket.send(request.into())?;
                    connection.next += count;
                    connection.in_flight += 1;
                    records += count;
                }
            }
            let in_flight: usize = all.iter().map(|connection| connection.in_flight).sum();
            if in_flight == 0 && (is_over || all.iter().all(|connection| connection.next == total)) {
                break;
            }
            let pause = if self.rate == 0 { Duration::from_secs(1) } else { Duration::from_millis(2) };
            for ready in poll.wait(pause)? {
                let connection = &mut all[ready.index];
                if ready.is_writable {
                    connection.socket.flush()?;
                }
                let in_flight = &mut connection.in_flight;
                connection.socket.receive(|answer| {
                    let error = first_error(answer)?;
                    ensure!(error == 0, "a request was answered with error {error}");
                    *in_flight = in_flight.saturating_sub(1);
                    Ok(())
                })?;
                heard = Instant::now();
            }
            if in_flight > 0 && heard.elapsed() > SILENCE_LIMIT {
                bail!("no answer for {SILENCE_LIMIT:?}");
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        let megabytes = records as f64 * self.record_bytes as f64 / 1e6;
        Ok(json!({
            "records": records, "seconds": seconds, "megabytes": megabytes, "megabytes_per_s": megabytes / seconds,
            "client_cpu_s": own_cpu_seconds()?,
        }))
    }
}

/// One batch with the records `first..first + count` of a partition of so many keys. Each value begins with its record's number.
fn batch(first: u64, count: u64, keys: u64, value: &mut [u8]) -> Vec<u8> {
    let (now, count_of_all) = (now_ms(), usize::try_from(count).unwrap_or(1));
    let mut batch = Writer::new();
    batch.i64(0).i32(0).i32(-1).i8(2).u32(0);
    batch.i16(0).count(count_of_all - 1).i64(now).i64(now).i64(-1).i16(-1).i32(-1).count(count_of_all);
    for delta in 0..count {
        let record = first + delta;
        let key = key_of(record, keys).to_be_bytes();
        let number = record.to_le_bytes();
        let room = number.len().min(value.len());
        value[..room].copy_from_slice(&number[..room]);
        let mut fields = Writer::new();
        fields.i8(0).varint(0).varint(i64::try_from(delta).unwrap_or(0));
        fields.varbytes(Some(&key)).varbytes(Some(value)).varint(0);
        batch.varbytes(Some(&fields.0));
    }
    seal(&mut batch.0);
    batch.0
}

fn key_of(record: u64, keys: u64) -> u64 {
    let (round, place) = (record / keys, record % keys);
    (place * STRIDE + round) % keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_has_every_key_once() {
        for round in 0..3 {
            let mut keys: Vec<u64> = (round * 1000..(round + 1) * 1000).map(|record| key_of(record, 1000)).collect();
            keys.sort_unstable();
            assert_eq!(keys, (0..1000).collect::<Vec<_>>());
        }
    }
}
