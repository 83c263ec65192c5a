//! Throughput of producing, with librdkafka's load tool and with a client that outruns it.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::install;
use tests::wire::{Connection, requests};

use crate::measure::{Usage, median, threads_cpu_seconds};
use crate::peers::{Plan, Run, Side, alternating, figure};
use crate::report::{Bar, Line, number};

const PARTITIONS: i32 = 16;
/// Nothing is measured before the producers are at their pace.
const RAMP_UP: Duration = Duration::from_secs(3);
const SIDES: [Side; 2] = [Side::Ours, Side::Kafka];

/// What one run gave.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    megabytes_per_s: f64,
    broker_s_per_gb: f64,
    client_s_per_gb: f64,
    /// The busiest client thread's share of a core.
    client_thread: f64,
    broker_cores: f64,
}

/// Bars of one row: throughput and processor time per byte, as ratios.
struct Bars {
    throughput: f64,
    cpu: Option<f64>,
}

pub(super) fn four(plan: &Plan) -> Result<Vec<Line>> {
    let bars = Bars { throughput: 2.0, cpu: Some(1.0 / 3.0) };
    rdkafka(plan, "1 KiB, four rdkafka_performance", 4, 1024, &bars)
}

pub(super) fn one(plan: &Plan) -> Result<Vec<Line>> {
    rdkafka(plan, "1 KiB, one rdkafka_performance", 1, 1024, &Bars { throughput: 1.5, cpu: None })
}

pub(super) fn small(plan: &Plan) -> Result<Vec<Line>> {
    let bars = Bars { throughput: 1.3, cpu: Some(0.5) };
    rdkafka(plan, "100 B, one rdkafka_performance", 1, 100, &bars)
}

fn rdkafka(plan: &Plan, what: &str, producers: usize, bytes: usize, bars: &Bars) -> Result<Vec<Line>> {
    pairs(plan, what, bars, |run| rdkafka_run(plan, run, producers, bytes))
}

pub(super) fn bulk(plan: &Plan) -> Result<Vec<Line>> {
    bulk_of(plan, "1 KiB, bulk producer", 1024, 200, 1)
}

/// As clients send that gather a batch for each partition.
pub(super) fn bulk_spread(plan: &Plan) -> Result<Vec<Line>> {
    bulk_of(plan, "1 KiB, bulk producer, 16 partitions in each request", 1024, 208, 16)
}

pub(super) fn bulk_small(plan: &Plan) -> Result<Vec<Line>> {
    bulk_of(plan, "100 B, bulk producer", 100, 2000, 1)
}

fn bulk_of(plan: &Plan, what: &str, bytes: usize, records: usize, spread: usize) -> Result<Vec<Line>> {
    let (bytes, records, spread) = (bytes.to_string(), records.to_string(), spread.to_string());
    pairs(plan, what, &Bars { throughput: 1.3, cpu: Some(0.5) }, |run| {
        let seconds = plan.seconds.to_string();
        let arguments = ["--topic", "t", "--connections", "4", "--depth", "8", "--record-bytes", &bytes];
        let shape = ["--records", &records, "--partitions-per-request", &spread, "--seconds", &seconds];
        let arguments = [&arguments[..], &shape].concat();
        let (measured, before, after) = run.measured("produce", &arguments)?;
        let gigabytes = figure(&measured, "megabytes")? / 1e3;
        let client = figure(&measured, "client_cpu_s")?;
        let wall = figure(&measured, "seconds")?;
        let broker = after.cpu_s - before.cpu_s;
        Ok(Measured {
            megabytes_per_s: figure(&measured, "megabytes_per_s")?,
            broker_s_per_gb: broker / gigabytes,
            client_s_per_gb: client / gigabytes,
            client_thread: client / wall,
            broker_cores: broker / wall,
        })
    })
}

fn pairs(plan: &Plan, what: &str, bars: &Bars, measure: impl Fn(&Run) -> Result<Measured>) -> Result<Vec<Line>> {
    let mut all: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for round in 0..plan.runs {
        for side in alternating(&SIDES, round) {
            let run = Run::start(plan, side)?;
            all[usize::from(side == Side::Kafka)].push(measure(&run)?);
        }
    }
    let of = |side: usize, field: fn(&Measured) -> f64| {
        let values: Vec<f64> = all[side].iter().map(field).collect();
        median(&values)
    };
    let note = |side: usize| {
        format!(
            "client {} s/GB, its busiest thread {:.0} % of a core, broker {:.0} %",
            number(of(side, |run| run.client_s_per_gb)),
            100.0 * of(side, |run| run.client_thread),
            100.0 * of(side, |run| run.broker_cores)
        )
    };
    let notes = format!("ours: {}; Kafka: {}", note(0), note(1));
    let throughput = Line::new(format!("produce {what}"), "MB/s", of(0, |run| run.megabytes_per_s))
        .beside(of(1, |run| run.megabytes_per_s))
        .bar(Bar::AtLeast(bars.throughput))
        .note(notes);
    let cpu = Line::new(format!("produce {what}: broker CPU"), "s/GB", of(0, |run| run.broker_s_per_gb))
        .beside(of(1, |run| run.broker_s_per_gb))
        .bar(bars.cpu.map_or(Bar::Shown, Bar::AtMost));
    Ok(vec![throughput, cpu])
}

/// Producers that go on until they are killed; what is measured is what the broker took between two moments.
fn rdkafka_run(plan: &Plan, run: &Run, producers: usize, bytes: usize) -> Result<Measured> {
    let tool = install::librdkafka::installed()?.performance();
    let address = run.broker.address();
    let mut connection = Connection::open(address)?;
    ensure!(requests::create_topic(&mut connection, "t", PARTITIONS, &[])? == 0, "creating the topic");
    let mut clients = Clients(Vec::new());
    for _ in 0..producers {
        let mut command = Command::new(&tool);
        command.args(["-P", "-t", "t", "-b", &run.broker.bootstrap(), "-s", &bytes.to_string(), "-a", "-1", "-q"]);
        for setting in [
            "linger.ms=5",
            "batch.num.messages=10000",
            "queue.buffering.max.messages=2000000",
            "queue.buffering.max.kbytes=2000000",
        ] {
            command.args(["-X", setting]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        clients.0.push(command.spawn()?);
    }
    thread::sleep(if plan.is_quick { Duration::from_secs(1) } else { RAMP_UP });
    let records = |connection: &mut Connection| -> Result<i64> {
        let mut sum = 0;
        for partition in 0..PARTITIONS {
            sum += requests::list_offset(connection, "t", partition, -1)?.1.max(0);
        }
        Ok(sum)
    };
    let pids: Vec<u32> = clients.0.iter().map(Child::id).collect();
    let clients_cpu = || -> Result<(f64, f64)> {
        let mut total = 0.0;
        let mut busiest = 0.0_f64;
        for pid in &pids {
            let threads = threads_cpu_seconds(*pid)?;
            total += threads.iter().sum::<f64>();
            busiest = busiest.max(threads.first().copied().unwrap_or(0.0));
        }
        Ok((total, busiest))
    };
    let (from, from_clients) = (Usage::of(run.pid()?)?, clients_cpu()?);
    let (from_records, started) = (records(&mut connection)?, Instant::now());
    thread::sleep(Duration::from_secs_f64(plan.seconds));
    let (to_records, seconds) = (records(&mut connection)?, started.elapsed().as_secs_f64());
    let (to, to_clients) = (Usage::of(run.pid()?)?, clients_cpu()?);
    drop(clients);
    let gigabytes = (to_records - from_records) as f64 * bytes as f64 / 1e9;
    ensure!(gigabytes > 0.0, "nothing was produced\n{}", run.broker.log_tail());
    let broker = to.cpu_s - from.cpu_s;
    Ok(Measured {
        megabytes_per_s: gigabytes * 1e3 / seconds,
        broker_s_per_gb: broker / gigabytes,
        client_s_per_gb: (to_clients.0 - from_clients.0) / gigabytes,
        client_thread: (to_clients.1 - from_clients.1) / seconds,
        broker_cores: broker / to.at.duration_since(from.at).as_secs_f64(),
    })
}

/// Client processes that end with this value.
struct Clients(Vec<Child>);

impl Drop for Clients {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _gone = child.kill();
            let _ended = child.wait();
        }
    }
}
