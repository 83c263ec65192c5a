//! Elections in ten minutes in which every core has more to do than it can.

use std::process::{Command, Stdio};

use anyhow::Result;

use super::{PARTITIONS, longest_gaps, with_load};
use crate::load::ensure_replicated;
use crate::nodes::Nodes;
use crate::peers::{Plan, Side, figure, run_load};
use crate::report::{Bar, Line, number};

/// Produced meanwhile: what fits the disk in ten minutes.
const BYTES_PER_SECOND: &str = "3000000";

pub(in crate::rows) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let seconds = plan.pick(600.0, 5.0).to_string();
    let nodes = Nodes::start(plan, Side::Ours)?;
    ensure_replicated(&nodes.servers(), "t", PARTITIONS, 3)?;
    ensure_replicated(&nodes.servers(), "bulk", PARTITIONS, 3)?;
    nodes.settle()?;
    let (before, used) = (nodes.elections(), nodes.usage()?);
    let threads = std::thread::available_parallelism()?.to_string();
    let mut burn = Command::new(std::env::current_exe()?);
    burn.args(["load", "burn", "--threads", &threads, "--seconds", &seconds]);
    let burning = burn.stdout(Stdio::null()).spawn()?;
    let shape = ["--records", "10", "--record-bytes", "100", "--bytes-per-second", BYTES_PER_SECOND];
    let mut bulk = nodes.load("replicated", &[&["--topic", "bulk", "--seconds", &seconds][..], &shape].concat())?;
    let producing = bulk.stdout(Stdio::piped()).spawn()?;
    // A node in need of a core is slow, not gone.
    let arguments = ["--topic", "t", "--seconds", &seconds, "--ack-limit-ms", "10000"];
    let gaps = run_load(&mut nodes.load("gap", &arguments)?)?;
    let bulk: serde_json::Value = serde_json::from_slice(&producing.wait_with_output()?.stdout)?;
    burning.wait_with_output()?;
    let elections = nodes.elections() - before;
    let cpu = nodes.cpu_since(&used)?;
    let note = format!(
        "longest time between two acks {} ms; beside it {} requests/s, p99 {} ms; the nodes used {} s of processor",
        number(longest_gaps(&gaps, -1)?.1),
        number(figure(&bulk, "requests")? / figure(&bulk, "seconds")?),
        number(figure(&bulk, "p99_us")? / 1e3),
        number(cpu)
    );
    let line = Line::new(format!("three nodes, elections in {seconds} s with all cores full"), "", elections as f64);
    Ok(vec![line.bar(Bar::OwnAtMost(0.0)).note(with_load(&note))])
}
