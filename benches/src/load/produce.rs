//! Produce as fast as acks come: one request in flight per connection is a synchronous producer, several with many
//! records each is a bulk producer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::engine::Poll;
use super::request::{batch, ensure_topic, first_error, produce, produce_many, resolve};
use super::socket::Socket;
use crate::measure::{Latencies, own_cpu_seconds};

/// After the end, answers still due are waited for this long.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

#[derive(Args, Clone, Debug)]
pub(crate) struct ProduceLoad {
    #[arg(long)]
    pub(crate) servers: String,
    #[arg(long)]
    pub(crate) topic: String,
    #[arg(long, default_value_t = 16)]
    pub(crate) partitions: i32,
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    /// Requests in flight per connection.
    #[arg(long, default_value_t = 1)]
    pub(crate) depth: usize,
    /// Records of a request.
    #[arg(long, default_value_t = 1)]
    pub(crate) records: usize,
    /// Partitions of a request, among which its records are divided; more than one as clients send that gather batches.
    #[arg(long, default_value_t = 1)]
    pub(crate) partitions_per_request: usize,
    #[arg(long, default_value_t = 1024)]
    pub(crate) record_bytes: usize,
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Stops after so many bytes of values, when that comes first; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) bytes: u64,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    /// One request per partition that this connection writes to, in turn.
    requests: Vec<Arc<[u8]>>,
    next: usize,
    in_flight: usize,
    /// When each request in flight was sent, oldest first.
    sent: std::collections::VecDeque<Instant>,
}

impl ProduceLoad {
    pub(crate) fn run(&self) -> Result<Value> {
        ensure!(self.connections > 0 && self.depth > 0 && self.threads > 0 && self.partitions > 0, "nothing to do");
        let batches = self.partitions_per_request;
        let partitions = usize::try_from(self.partitions)?;
        ensure!((1..=partitions).contains(&batches), "a request goes to 1 to {partitions} partitions");
        ensure!(partitions.is_multiple_of(batches), "the partitions must divide among requests");
        ensure!(self.records.is_multiple_of(batches), "the records of a request must divide among its partitions");
        let address = resolve(&self.servers)?;
        ensure_topic(address, &self.topic, self.partitions)?;
        let started = Instant::now();
        let threads: Vec<_> = (0..self.threads.min(self.connections))
            .map(|thread| {
                let load = self.clone();
                thread::spawn(move || load.run_thread(address, thread))
            })
            .collect();
        let mut latencies = Latencies::default();
        let mut elapsed = 0.0_f64;
        for thread in threads {
            let (seconds, part) = thread.join().map_err(|_panic| anyhow!("a thread panicked"))??;
            elapsed = elapsed.max(seconds);
            latencies.add(&part);
        }
        let acks = latencies.count();
        let records = acks * self.records as u64;
        let megabytes = records as f64 * self.record_bytes as f64 / 1e6;
        Ok(json!({
            "requests": acks, "records": records, "seconds": elapsed, "acks_per_s": acks as f64 / elapsed,
            "megabytes": megabytes, "megabytes_per_s": megabytes / elapsed,
            "p50_us": latencies.percentile(0.5), "p99_us": latencies.percentile(0.99),
            "p999_us": latencies.percentile(0.999), "max_us": latencies.max(),
            "client_cpu_s": own_cpu_seconds()?, "wall_s": started.elapsed().as_secs_f64(),
        }))
    }

    fn run_thread(&self, address: SocketAddr, thread: usize) -> Result<(f64, Latencies)> {
        let mut poll = Poll::new()?;
        let mut all = Vec::new();
        for number in (thread..self.connections).step_by(self.threads) {
            let socket = Socket::connect(address)?;
            poll.add(all.len(), &socket)?;
            all.push(Connection {
                socket,
                requests: self.requests(number),
                next: 0,
                in_flight: 0,
                sent: std::collections::VecDeque::new(),
            });
        }
        let bytes_per_request = (self.records * self.record_bytes) as u64;
        let share =
            if self.bytes == 0 { u64::MAX } else { self.bytes / self.threads as u64 / bytes_per_request.max(1) };
        let mut latencies = Latencies::default();
        let mut sent = 0_u64;
        let started = Instant::now();
        let deadline = started + Duration::from_secs_f64(self.seconds);
        let mut last = started;
        for connection in &mut all {
            while connection.in_flight < self.depth && sent < share {
                connection.send(started)?;
                sent += 1;
            }
        }
        let mut in_flight: usize = all.iter().map(|connection| connection.in_flight).sum();
        while in_flight > 0 {
            if last > deadline + DRAIN_LIMIT {
                bail!("{in_flight} requests without an answer");
            }
            let mut events = 0;
            for ready in poll.wait(Duration::from_millis(1000))? {
                events += 1;
                let connection = &mut all[ready.index];
                if ready.is_writable {
                    connection.socket.flush()?;
                }
                let now = Instant::now();
                let mut answered = 0;
                connection.socket.receive(|answer| {
                    let error = first_error(answer)?;
                    ensure!(error == 0, "a request was answered with error {error}");
                    answered += 1;
                    Ok(())
                })?;
                for _ in 0..answered {
                    if let Some(sent) = connection.sent.pop_front() {
                        latencies.note(now.saturating_duration_since(sent));
                    }
                    connection.in_flight -= 1;
                    in_flight -= 1;
                    last = now;
                    if now < deadline && sent < share {
                        connection.send(now)?;
                        sent += 1;
                        in_flight += 1;
                    }
                }
            }
            if events == 0 && Instant::now() > deadline + DRAIN_LIMIT {
                bail!("{in_flight} requests without an answer");
            }
        }
        Ok((last.duration_since(started).as_secs_f64(), latencies))
    }

    /// Connection N of C writes to the partitions N, N + C, ...; with more connections than partitions each to one. With
    /// several partitions in a request every connection writes to all, so many at a time.
    fn requests(&self, number: usize) -> Vec<Arc<[u8]>> {
        let partitions = usize::try_from(self.partitions).unwrap_or(1);
        if self.partitions_per_request > 1 {
            let all: Vec<usize> = (0..partitions).map(|partition| (partition + number) % partitions).collect();
            return all.chunks(self.partitions_per_request).map(|some| self.request_to(some)).collect();
        }
        let mine: Vec<usize> = if self.connections >= partitions {
            vec![number % partitions]
        } else {
            (number..partitions).step_by(self.connections).collect()
        };
        let build = |partition: usize| {
            produce(&self.topic, i32::try_from(partition).unwrap_or(0), self.records, self.record_bytes)
        };
        mine.into_iter().map(build).collect()
    }

    /// One request with a batch for each of `partitions`, among which the records are divided.
    fn request_to(&self, partitions: &[usize]) -> Arc<[u8]> {
        let records = self.records / self.partitions_per_request;
        let batch = |partition: &usize| {
            let partition = i32::try_from(*partition).unwrap_or(0);
            (partition, batch(partition, records, self.record_bytes))
        };
        produce_many(&self.topic, &partitions.iter().map(batch).collect::<Vec<_>>())
    }
}

impl Connection {
    fn send(&mut self, now: Instant) -> Result<()> {
        let request = Arc::clone(&self.requests[self.next]);
        self.next = (self.next + 1) % self.requests.len();
        self.in_flight += 1;
        self.sent.push_back(now);
        self.socket.send(request)
    }
}
