//! Throughput of producing to three replicas: ours with a sync on two of them, Kafka's without any.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::install;

use super::{PARTITIONS, sides, with_load};
use crate::load::{Topology, ensure_replicated};
use crate::measure::{Usage, median};
use crate::nodes::Nodes;
use crate::peers::{Plan, Side, alternating, figure};
use crate::report::{Bar, Line, number};

/// Values of one run: each lies on the disk three times.
const BYTES_MAX: u64 = 3_000_000_000;
/// Nothing is measured before the producer is at its pace.
const RAMP_UP: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    megabytes_per_s: f64,
    nodes_s_per_gb: f64,
    client_s_per_gb: f64,
    p50_ms: f64,
    p99_ms: f64,
}

pub(in crate::rows) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let mut lines = pairs(plan, "a client that outruns librdkafka", |nodes| bulk(plan, nodes))?;
    lines.extend(pairs(plan, "one rdkafka_performance", |nodes| rdkafka(plan, nodes))?);
    Ok(lines)
}

fn pairs(plan: &Plan, what: &str, measure: impl Fn(&Nodes) -> Result<Measured>) -> Result<Vec<Line>> {
    let mut all: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for round in 0..plan.runs {
        for side in alternating(sides(plan), round) {
            let nodes = Nodes::start(plan, side)?;
            all[usize::from(side != Side::Ours)].push(measure(&nodes)?);
        }
    }
    let of = |side: usize, field: fn(&Measured) -> f64| {
        let values: Vec<f64> = all[side].iter().map(field).collect();
        median(&values)
    };
    let note = |side: usize| {
        format!(
            "client {} s/GB, p50 {} p99 {} ms",
            number(of(side, |run| run.client_s_per_gb)),
            number(of(side, |run| run.p50_ms)),
            number(of(side, |run| run.p99_ms))
        )
    };
    let note = with_load(&format!("ours: {}; Kafka: {}", note(0), note(1)));
    let line = |name: &str, unit, field: fn(&Measured) -> f64, bar| {
        Line::new(format!("three nodes, 1 KiB, {what}{name}"), unit, of(0, field)).beside(of(1, field)).bar(bar)
    };
    Ok(vec![
        line("", "MB/s", |run| run.megabytes_per_s, Bar::AtLeast(3.0)).note(note),
        line(": CPU of the nodes", "s/GB", |run| run.nodes_s_per_gb, Bar::AtMost(1.0 / 3.0)),
    ])
}

fn bulk(plan: &Plan, nodes: &Nodes) -> Result<Measured> {
    let seconds = plan.seconds.to_string();
    let bytes = BYTES_MAX.to_string();
    ensure_replicated(&nodes.servers(), "t", PARTITIONS, 3)?;
    let before = nodes.usage()?;
    let measured = nodes.run("replicated", &["--topic", "t", "--seconds", &seconds, "--bytes", &bytes])?;
    let cpu = nodes.cpu_since(&before)?;
    let gigabytes = figure(&measured, "megabytes")? / 1e3;
    Ok(Measured {
        megabytes_per_s: figure(&measured, "megabytes_per_s")?,
        nodes_s_per_gb: cpu / gigabytes,
        client_s_per_gb: figure(&measured, "client_cpu_s")? / gigabytes,
        p50_ms: figure(&measured, "p50_us")? / 1e3,
        p99_ms: figure(&measured, "p99_us")? / 1e3,
    })
}

/// A producer that goes on until it is killed; what is measured is what the nodes took between two moments.
fn rdkafka(plan: &Plan, nodes: &Nodes) -> Result<Measured> {
    let tool = install::librdkafka::installed()?.performance();
    let topology = ensure_replicated(&nodes.servers(), "t", PARTITIONS, 3)?;
    let mut command = Command::new(&tool);
    command.args(["-P", "-t", "t", "-b", &nodes.servers(), "-s", "1024", "-a", "-1", "-q"]);
    let queue = ["queue.buffering.max.messages=2000000", "queue.buffering.max.kbytes=2000000"];
    for setting in ["linger.ms=5", "batch.num.messages=10000"].iter().chain(&queue) {
        command.args(["-X", setting]);
    }
    let client = Client(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    thread::sleep(if plan.is_quick { Duration::from_secs(1) } else { RAMP_UP });
    let (before, before_client) = (nodes.usage()?, Usage::of(client.0.id())?);
    let (from, started) = (records(&topology)?, Instant::now());
    let end = started + Duration::from_secs_f64(plan.seconds);
    let mut to = from;
    while Instant::now() < end && (to - from).unsigned_abs() * 1024 < BYTES_MAX {
        thread::sleep(Duration::from_millis(500).min(end.saturating_duration_since(Instant::now())));
        to = records(&topology)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let (cpu, after_client) = (nodes.cpu_since(&before)?, Usage::of(client.0.id())?);
    drop(client);
    let gigabytes = (to - from) as f64 * 1024.0 / 1e9;
    ensure!(gigabytes > 0.0, "nothing was produced");
    Ok(Measured {
        megabytes_per_s: gigabytes * 1e3 / seconds,
        nodes_s_per_gb: cpu / gigabytes,
        client_s_per_gb: (after_client.cpu_s - before_client.cpu_s) / gigabytes,
        ..Measured::default()
    })
}

/// The end offsets of all partitions, asked of their leaders.
fn records(topology: &Topology) -> Result<i64> {
    let mut sum = 0;
    for (id, address) in &topology.addresses {
        let mut connection = tests::wire::Connection::open(*address)?;
        for (partition, _) in topology.leaders.iter().filter(|(_, leader)| leader.node == *id) {
            sum += tests::wire::requests::list_offset(&mut connection, "t", *partition, -1)?.1.max(0);
        }
    }
    Ok(sum)
}

/// A process that ends with this value.
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}
