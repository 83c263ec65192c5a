//! The longest time without acks, as the Java client and librdkafka see it with their defaults, when a node is emptied
//! or stopped as an operator does it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::install;

use super::{PARTITIONS, busiest, sides, with_load};
use crate::load::ensure_replicated;
use crate::nodes::Nodes;
use crate::peers::{Plan, Side, figure};
use crate::report::{Bar, Line, number};

/// The clients' start and first seconds are not measured.
const BEFORE: Duration = Duration::from_secs(8);
const SECONDS: &str = "14";
const WARM_UP: &str = "3";
const TRIES_MAX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Java,
    Librdkafka,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `rosettamq cluster drain`.
    Drain,
    /// SIGTERM: Kafka has no other.
    Stop,
}

pub(in crate::rows) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let clients = [(Client::Java, "Java client", 100.0), (Client::Librdkafka, "librdkafka", 250.0)];
    // Of each client: ours drained, ours stopped, Kafka stopped.
    let mut all: [[Vec<(f64, f64)>; 3]; 2] = Default::default();
    for side in sides(plan) {
        let mut nodes = Nodes::start(plan, *side)?;
        ensure_replicated(&nodes.servers(), "t", PARTITIONS, 3)?;
        let ways: &[Way] = if *side == Side::Ours { &[Way::Drain, Way::Stop] } else { &[Way::Stop] };
        for _ in 0..plan.tries.min(TRIES_MAX) {
            for (at, (client, ..)) in clients.iter().enumerate() {
                for way in ways {
                    let place = if *side == Side::Ours { usize::from(*way == Way::Stop) } else { 2 };
                    nodes.settle_topic("t", PARTITIONS)?;
                    all[at][place].push(one(&mut nodes, *client, *way)?);
                }
            }
        }
    }
    let longest = |seen: &[(f64, f64)]| seen.iter().map(|seen| seen.0).fold(0.0, f64::max);
    let failed = |seen: &[(f64, f64)]| seen.iter().map(|seen| seen.1).sum::<f64>();
    let list = |seen: &[(f64, f64)]| seen.iter().map(|seen| number(seen.0)).collect::<Vec<_>>().join(" ");
    let mut lines = Vec::new();
    for ((_, name, bar), [drained, stopped, kafka]) in clients.iter().zip(&all) {
        let what = |way: &str| format!("three nodes, longest gap without acks when a node is {way}, {name}");
        let note = |seen: &[(f64, f64)]| {
            let note = format!("{}; failed sends {}; Kafka's {}", list(seen), number(failed(seen)), list(kafka));
            with_load(&note)
        };
        lines.push(
            Line::new(what("drained"), "ms", longest(drained))
                .beside(longest(kafka))
                .bar(Bar::OwnAtMost(*bar))
                .note(note(drained)),
        );
        lines.push(Line::new(what("stopped"), "ms", longest(stopped)).beside(longest(kafka)).note(note(stopped)));
    }
    Ok(lines)
}

/// The longest gap in ms, and how many sends failed.
fn one(nodes: &mut Nodes, client: Client, way: Way) -> Result<(f64, f64)> {
    let (id, place) = busiest(nodes, "t")?;
    let mut producer = producer(client)?;
    producer.args([&nodes.servers(), "t", &PARTITIONS.to_string(), "1000", SECONDS, WARM_UP]);
    let producer = producer.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    thread::sleep(BEFORE);
    match way {
        Way::Drain => drop(nodes.operate(&["drain", &id.to_string()])?),
        Way::Stop => nodes.stop(place)?,
    }
    let output = producer.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let measured: Value = serde_json::from_str(text.trim()).with_context(|| format!("a producer printed {text:?}"))?;
    match way {
        Way::Drain => drop(nodes.operate(&["resume", &id.to_string()])?),
        Way::Stop => nodes.restart(place)?,
    }
    Ok((figure(&measured, "gap_ms")?, figure(&measured, "failed")?))
}

fn producer(client: Client) -> Result<Command> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    match client {
        Client::Java => {
            let mut command = install::java::installed()?.command("--source");
            command.arg("17").arg(sources.join("Gap.java"));
            Ok(command)
        }
        Client::Librdkafka => {
            let mut command = install::python::installed()?.command();
            command.arg(sources.join("gap.py"));
            Ok(command)
        }
    }
}
