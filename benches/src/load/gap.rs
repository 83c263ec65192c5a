//! Records at a fixed rate to every partition, whatever the cluster does, and the longest time between two acks of
//! each partition.
//!
//! Each partition has a thread of its own with one request in flight, which holds all that is due: what one leader
//! does never delays the records of another. A request that is refused, fails or stays without an answer is sent again
//! to the leader that the refusal or another node names.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde_json::{Value, json};
use tests::wire::{Batch, Connection};

use super::hinted::{self, Answer};
use super::request::{now_ms, resolve_all, values};
use super::topology::{Leader, Topology, ensure_replicated};
use crate::measure::own_cpu_seconds;

/// Pause between two questions for a leader.
const ASK_PAUSE: Duration = Duration::from_millis(20);
/// A leader that failed is tried again after this time if it still leads.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Records of one request at most.
const BATCH_MAX: u64 = 5_000;
/// Beside the error codes of answers.
const CONNECTION_LOST: i16 = -1000;

#[derive(Args, Clone, Debug)]
pub(crate) struct GapLoad {
    /// All nodes, separated by commas.
    #[arg(long)]
    pub(crate) servers: String,
    #[arg(long)]
    pub(crate) topic: String,
    #[arg(long, default_value_t = 12)]
    pub(crate) partitions: i32,
    #[arg(long, default_value_t = 3)]
    pub(crate) replicas: i16,
    /// Records per second over all partitions.
    #[arg(long, default_value_t = 1000)]
    pub(crate) rate: u64,
    #[arg(long, default_value_t = 100)]
    pub(crate) record_bytes: usize,
    #[arg(long, default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Without an answer for so long a node counts as gone.
    #[arg(long, default_value_t = 300)]
    pub(crate) ack_limit_ms: u64,
}

/// What one partition saw.
#[derive(Clone, Debug, Default)]
struct Seen {
    acked: u64,
    gap: Duration,
    /// Who led, and how long after the start the gap began.
    gap_leader: i32,
    gap_at: Duration,
    errors: BTreeMap<i16, u64>,
}

struct Sender<'a> {
    load: &'a GapLoad,
    servers: &'a [SocketAddr],
    partition: i32,
    leader: Leader,
    address: SocketAddr,
    connection: Option<Connection>,
    correlation: i32,
    seen: Seen,
}

impl GapLoad {
    pub(crate) fn run(&self) -> Result<Value> {
        ensure!(self.rate > 0 && self.partitions > 0, "nothing to do");
        let topology = ensure_replicated(&self.servers, &self.topic, self.partitions, self.replicas)?;
        let servers = resolve_all(&self.servers)?;
        let started = Instant::now();
        let threads: Vec<_> = (0..self.partitions)
            .map(|partition| {
                let (load, servers, topology) = (self.clone(), servers.clone(), topology.clone());
                thread::spawn(move || Sender::new(&load, &servers, &topology, partition)?.run(started))
            })
            .collect();
        let mut gaps = Vec::new();
        let mut acked = 0;
        let mut errors: BTreeMap<i16, u64> = BTreeMap::new();
        for (partition, thread) in threads.into_iter().enumerate() {
            let seen = thread.join().map_err(|_panic| anyhow!("a thread panicked"))??;
            acked += seen.acked;
            for (code, count) in seen.errors {
                *errors.entry(code).or_default() += count;
            }
            gaps.push(json!({
                "partition": partition, "leader": seen.gap_leader, "gap_ms": seen.gap.as_secs_f64() * 1e3,
                "at_s": seen.gap_at.as_secs_f64(),
            }));
        }
        let errors: BTreeMap<String, u64> = errors.into_iter().map(|(code, count)| (code.to_string(), count)).collect();
        Ok(json!({ "acked": acked, "gaps": gaps, "errors": errors, "client_cpu_s": own_cpu_seconds()? }))
    }
}

impl<'a> Sender<'a> {
    fn new(load: &'a GapLoad, servers: &'a [SocketAddr], topology: &Topology, partition: i32) -> Result<Self> {
        let leader = *topology.leaders.get(&partition).context("a leader")?;
        let address = *topology.addresses.get(&leader.node).context("the leader's address")?;
        let seen = Seen { gap_leader: leader.node, ..Seen::default() };
        Ok(Self { load, servers, partition, leader, address, connection: None, correlation: 0, seen })
    }

    fn run(mut self, started: Instant) -> Result<Seen> {
        let value = values(1, self.load.record_bytes, 7).remove(0);
        let end = started + Duration::from_secs_f64(self.load.seconds);
        let mut next = 0_u64;
        let mut last = started;
        let mut is_first = true;
        loop {
            let due_at = started + self.due_at(next);
            if due_at >= end {
                break;
            }
            thread::sleep(due_at.saturating_duration_since(Instant::now()));
            let due = self.due_by(started.elapsed()).clamp(next + 1, next + BATCH_MAX);
            let mut batch = Batch::of(vec![value.clone(); usize::try_from(due - next)?]);
            batch.timestamp_ms = now_ms();
            let batch = batch.build();
            let from = self.leader;
            while !self.send(&batch) && Instant::now() < end {}
            let now = Instant::now();
            // Connecting is not a gap.
            if !is_first && now.duration_since(last) > self.seen.gap {
                self.seen.gap = now.duration_since(last);
                self.seen.gap_leader = from.node;
                self.seen.gap_at = last.duration_since(started);
            }
            is_first = false;
            last = now;
            self.seen.acked += due - next;
            next = due;
        }
        Ok(self.seen)
    }

    /// When record `number` of this partition is due: the partitions take turns.
    fn due_at(&self, number: u64) -> Duration {
        let partitions = u64::from(self.load.partitions.unsigned_abs());
        let all = number * partitions + u64::from(self.partition.unsigned_abs());
        Duration::from_nanos(all * 1_000_000_000 / self.load.rate)
    }

    fn due_by(&self, since: Duration) -> u64 {
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        nanos / 1_000 * self.load.rate / 1_000_000 / u64::from(self.load.partitions.unsigned_abs())
    }

    /// One try; a failed one has found out where to try next.
    fn send(&mut self, batch: &[u8]) -> bool {
        let failed = self.leader;
        match self.try_send(batch) {
            Ok(Answer { error: 0, .. }) => return true,
            Ok(answer) => {
                *self.seen.errors.entry(answer.error).or_default() += 1;
                if let (Some((node, epoch)), Some(address)) = (answer.leader, answer.address)
                    && (node, epoch) != (failed.node, failed.epoch)
                {
                    self.follow(Leader { node, epoch }, address);
                    return false;
                }
            }
            Err(_lost) => {
                *self.seen.errors.entry(CONNECTION_LOST).or_default() += 1;
                self.connection = None;
            }
        }
        self.find(failed);
        false
    }

    fn try_send(&mut self, batch: &[u8]) -> Result<Answer> {
        let limit = Duration::from_millis(self.load.ack_limit_ms);
        if self.connection.is_none() {
            let mut connection = Connection::open_within(self.address, limit)?;
            connection.set_limit(limit)?;
            self.connection = Some(connection);
        }
        let connection = self.connection.as_mut().context("a connection was just opened")?;
        self.correlation += 1;
        connection.send_raw(&hinted::request(&self.load.topic, self.partition, self.correlation, batch))?;
        hinted::answer(&connection.answer()?)
    }

    fn follow(&mut self, leader: Leader, address: SocketAddr) {
        self.leader = leader;
        if self.address != address {
            self.address = address;
            self.connection = None;
        }
    }

    /// Asks the other nodes until one names a leader other than the one that failed, or until that may be tried again.
    fn find(&mut self, failed: Leader) {
        let limit = Duration::from_millis(self.load.ack_limit_ms);
        let began = Instant::now();
        while began.elapsed() < RETRY_AFTER {
            for server in self.servers.iter().filter(|server| **server != self.address) {
                let asked = Connection::open_within(*server, limit).and_then(|mut connection| {
                    connection.set_limit(limit)?;
                    Topology::ask(&mut connection, &self.load.topic)
                });
                let Ok(topology) = asked else { continue };
                let Some(leader) = topology.leaders.get(&self.partition) else { continue };
                let Some(address) = topology.addresses.get(&leader.node) else { continue };
                if *leader != failed && leader.epoch >= failed.epoch {
                    self.follow(*leader, *address);
                    return;
                }
            }
            thread::sleep(ASK_PAUSE);
        }
    }
}
