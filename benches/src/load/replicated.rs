//! Produce to the leaders of a cluster, as fast as acks come or at a fixed rate.
//!
//! A request holds a batch for every partition that one node leads, as clients send that gather batches. When a
//! request is refused or a connection ends, everything is set up anew from Metadata; how often is printed.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, stdin};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::engine::Poll;
use super::request::{batch, first_error, produce_many, resolve_all};
use super::socket::Socket;
use super::topology::{Topology, ensure_replicated};
use crate::measure::{Latencies, own_cpu_seconds};

/// Without any answer for so long it is set up anew.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
const SETUP_PAUSE: Duration = Duration::from_millis(50);

#[derive(Args, Clone, Debug)]
pub(crate) struct ReplicatedLoad {
    /// All nodes, separated by commas.
    #[arg(long)]
    pub(crate) servers: String,
    #[arg(long)]
    pub(crate) topic: String,
    #[arg(long, default_value_t = 12)]
    pub(crate) partitions: i32,
    #[arg(long, default_value_t = 3)]
    pub(crate) replicas: i16,
    /// Connections to each node.
    #[arg(long, default_value_t = 2)]
    pub(crate) connections: usize,
    /// Requests in flight per connection.
    #[arg(long, default_value_t = 4)]
    pub(crate) depth: usize,
    /// Records for each partition of a request.
    #[arg(long, default_value_t = 50)]
    pub(crate) records: usize,
    #[arg(long, default_value_t = 1024)]
    pub(crate) record_bytes: usize,
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Stops after so many bytes of values, when that comes first; 0 for no limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) bytes: u64,
    /// Bytes of values per second, latencies counted from when each request was due; 0 for as fast as acks come.
    #[arg(long, default_value_t = 0)]
    pub(crate) bytes_per_second: u64,
    /// Ends when standard input does, if that is before the time.
    #[arg(long)]
    pub(crate) held: bool,
}

struct Link {
    socket: Socket,
    request: Arc<[u8]>,
    bytes: u64,
    /// Since when each request in flight counts, oldest first.
    sent: VecDeque<Instant>,
}

/// What was done so far, over all set-ups.
#[derive(Default)]
struct Done {
    latencies: Latencies,
    sent_bytes: u64,
    acked_bytes: u64,
    setups: u64,
}

impl ReplicatedLoad {
    pub(crate) fn run(&self) -> Result<Value> {
        ensure!(self.connections > 0 && self.depth > 0 && self.records > 0 && self.partitions > 0, "nothing to do");
        let mut topology = ensure_replicated(&self.servers, &self.topic, self.partitions, self.replicas)?;
        let servers = resolve_all(&self.servers)?;
        let is_over = Arc::new(AtomicBool::new(false));
        if self.held {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                let _ended = stdin().read_to_end(&mut Vec::new());
                is_over.store(true, Ordering::Relaxed);
            });
        }
        let started = Instant::now();
        let end = started + Duration::from_secs_f64(self.seconds);
        let mut done = Done::default();
        let mut last_error = String::new();
        let last_ack = loop {
            done.setups += 1;
            match self.run_on(&topology, (started, end), &is_over, &mut done) {
                Ok(at) => break at,
                Err(error) => last_error = format!("{error:#}"),
            }
            if Instant::now() > end + SILENCE_LIMIT {
                bail!("it does not end: {last_error}");
            }
            thread::sleep(SETUP_PAUSE);
            // What was in flight is not counted, and is due again.
            done.sent_bytes = done.acked_bytes;
            if let Ok(asked) = Topology::of(&servers, &self.topic)
                && asked.leaders.len() == topology.leaders.len()
            {
                topology = asked;
            }
        };
        let seconds = last_ack.duration_since(started).as_secs_f64();
        let megabytes = done.acked_bytes as f64 / 1e6;
        Ok(json!({
            "requests": done.latencies.count(), "seconds": seconds, "megabytes": megabytes,
            "megabytes_per_s": megabytes / seconds, "setups": done.setups, "last_error": last_error,
            "p50_us": done.latencies.percentile(0.5), "p99_us": done.latencies.percentile(0.99),
            "p999_us": done.latencies.percentile(0.999), "max_us": done.latencies.max(),
            "client_cpu_s": own_cpu_seconds()?,
        }))
    }

    /// Until the end or an error; returns when the last ack came.
    fn run_on(
        &self,
        topology: &Topology,
        (started, end): (Instant, Instant),
        is_over: &AtomicBool,
        done: &mut Done,
    ) -> Result<Instant> {
        let mut poll = Poll::new()?;
        let mut links = self.links(topology, &poll)?;
        let mut last = Instant::now();
        let mut turn = 0;
        loop {
            let now = Instant::now();
            let stops =
                now >= end || is_over.load(Ordering::Relaxed) || (self.bytes > 0 && done.sent_bytes >= self.bytes);
            let mut pause = Duration::from_secs(1);
            if !stops {
                pause = self.send_due(&mut links, &mut turn, (started, now), done)?;
            } else if links.iter().all(|link| link.sent.is_empty()) {
                return Ok(last);
            }
            for ready in poll.wait(pause)? {
                let link = &mut links[ready.index];
                if ready.is_writable {
                    link.socket.flush()?;
                }
                let now = Instant::now();
                let (sent, bytes) = (&mut link.sent, link.bytes);
                link.socket.receive(|answer| {
                    let error = first_error(answer)?;
                    ensure!(error == 0, "a request was answered with error {error}");
                    if let Some(since) = sent.pop_front() {
                        done.latencies.note(now.saturating_duration_since(since));
                    }
                    done.acked_bytes += bytes;
                    last = now;
                    Ok(())
                })?;
            }
            if last.elapsed() > SILENCE_LIMIT {
                bail!("no answer for {SILENCE_LIMIT:?}");
            }
        }
    }

    /// Sends what is due on connections that have room; returns how long nothing further will be.
    fn send_due(
        &self,
        links: &mut [Link],
        turn: &mut usize,
        (started, now): (Instant, Instant),
        done: &mut Done,
    ) -> Result<Duration> {
        let mut full = 0;
        while full < links.len() && (self.bytes == 0 || done.sent_bytes < self.bytes) {
            let due = match self.bytes_per_second {
                0 => now,
                rate => started + Duration::from_secs_f64(done.sent_bytes as f64 / rate as f64),
            };
            if due > now {
                return Ok(due - now);
            }
            *turn = (*turn + 1) % links.len();
            let link = &mut links[*turn];
            if link.sent.len() >= self.depth {
                full += 1;
                continue;
            }
            full = 0;
            link.socket.send(Arc::clone(&link.request))?;
            link.sent.push_back(due);
            done.sent_bytes += link.bytes;
        }
        Ok(Duration::from_secs(1))
    }

    fn links(&self, topology: &Topology, poll: &Poll) -> Result<Vec<Link>> {
        let mut led: BTreeMap<SocketAddr, Vec<i32>> = BTreeMap::new();
        for (partition, leader) in &topology.leaders {
            let Some(address) = topology.addresses.get(&leader.node) else { bail!("a leader without an address") };
            led.entry(*address).or_default().push(*partition);
        }
        let mut links = Vec::new();
        for (address, partitions) in led {
            let batches: Vec<_> =
                partitions.iter().map(|id| (*id, batch(*id, self.records, self.record_bytes))).collect();
            let request = produce_many(&self.topic, &batches);
            for _ in 0..self.connections {
                let socket = Socket::connect(address)?;
                poll.add(links.len(), &socket)?;
                let bytes = (partitions.len() * self.records * self.record_bytes) as u64;
                links.push(Link { socket, request: Arc::clone(&request), bytes, sent: VecDeque::new() });
            }
        }
        Ok(links)
    }
}
