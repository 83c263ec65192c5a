//! A replica of a large shard moves to another node while others produce.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::with_load;
use crate::load::ensure_replicated;
use crate::nodes::Nodes;
use crate::peers::{Plan, Side, figure};
use crate::report::{Bar, Line, number};

const BYTES_PER_SECOND: &str = "20000000";
/// What is asked for, and what a disk with less room gets.
const GIGABYTES: f64 = 5.0;
const GIGABYTES_SMALL: f64 = 2.5;
const SECONDS_MAX: f64 = 60.0;
const GIVEN_UP_AFTER: Duration = Duration::from_secs(300);

pub(in crate::rows) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let gigabytes = plan.pick(room_for(plan)?, 0.1);
    let bytes = format!("{:.0}", gigabytes * 1e9);
    // One shard for each node, so that a partition's leader tells which shard has it.
    let nodes = Nodes::start_cold(plan, Side::Ours, 4, Some(1))?;
    nodes.run("replicated", &["--topic", "large", "--partitions", "1", "--seconds", "600", "--bytes", &bytes])?;
    ensure_replicated(&nodes.servers(), "t", 4, 3)?;
    let topology = nodes.topology("large")?;
    let leader = u64::try_from(topology.leaders.get(&0).context("a leader")?.node)?;
    let shard = nodes.shards()?.into_iter().find(|shard| shard.leader == leader).context("the shard")?;
    let newcomer = (1..=4).find(|id| !shard.voters.contains(id)).context("a node without a copy")?;
    let mut voters = shard.voters.clone();
    voters.retain(|id| *id != leader);
    let voters = [leader, voters[0], newcomer];

    let seconds = plan.pick(20.0, 2.0).to_string();
    let shape = ["--topic", "t", "--partitions", "4", "--records", "10", "--bytes-per-second", BYTES_PER_SECOND];
    let alone = nodes.run("replicated", &[&shape[..], &["--seconds", &seconds]].concat())?;
    let mut load = nodes.load("replicated", &[&shape[..], &["--seconds", "600", "--held"]].concat())?;
    let mut producing = load.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    thread::sleep(Duration::from_secs(1));
    let before = nodes.usage()?;
    let started = Instant::now();
    // It would even out what the move makes uneven.
    nodes.operate(&["rebalance", "--stop"])?;
    let list = voters.map(|id| id.to_string()).join(",");
    nodes.operate(&["move", &shard.id.to_string(), &list])?;
    let moved = wait(&nodes, shard.id, newcomer, started);
    let cpu = nodes.cpu_since(&before)?;
    drop(producing.stdin.take());
    let output = producing.wait_with_output()?;
    let moved = moved?;
    let beside: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(figure(&beside, "requests")? > 0.0, "nothing was produced meanwhile");
    let p99 = |measured: &Value| figure(measured, "p99_us").map(|us| us / 1e3);
    let note = format!(
        "{} MB/s of the copy, all nodes {} s of processor; set-ups of the producer {}",
        number(gigabytes * 1e3 / moved),
        number(cpu),
        number(figure(&beside, "setups")?)
    );
    Ok(vec![
        Line::new(format!("a replica of {} GB moves beside 20 MB/s", number(gigabytes)), "s", moved)
            .bar(Bar::OwnAtMost(SECONDS_MAX * gigabytes / GIGABYTES))
            .note(with_load(&note)),
        Line::new("p99 of acks meanwhile / before", "ms", p99(&beside)?)
            .beside(p99(&alone)?)
            .bar(Bar::AtMost(2.0))
            .note(format!(
                "longest {} / {} ms",
                number(figure(&beside, "max_us")? / 1e3),
                number(figure(&alone, "max_us")? / 1e3)
            )),
    ])
}

/// It lies on four disks in the end, which are one here.
fn room_for(plan: &Plan) -> Result<f64> {
    let stat = rustix::fs::statvfs(&plan.dir)?;
    let free = stat.f_bavail as f64 * stat.f_frsize as f64 / 1e9;
    Ok(if free > 4.0 * GIGABYTES + 20.0 { GIGABYTES } else { GIGABYTES_SMALL })
}

/// Seconds until the newcomer votes and nothing of the move is left to do.
fn wait(nodes: &Nodes, shard: u64, newcomer: u64, started: Instant) -> Result<f64> {
    loop {
        let now = nodes.shards()?.into_iter().find(|known| known.id == shard).context("the shard")?;
        if now.voters.contains(&newcomer) && now.state == "settled" {
            return Ok(started.elapsed().as_secs_f64());
        }
        if started.elapsed() > GIVEN_UP_AFTER {
            bail!("the move does not end: {}", nodes.status()?);
        }
        thread::sleep(Duration::from_millis(100));
    }
}
