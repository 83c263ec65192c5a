//! Appends through proposer, Raft and the full shard, beside the bare commit log: the example `append` of `replica`.

use std::env;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::{places, process};

use crate::measure::{median, page_cache_sync};
use crate::peers::Plan;
use crate::report::{Bar, Line, number};

const KINDS: [&str; 2] = ["shard", "bare"];

/// What one line of the example says.
#[derive(Clone, Copy, Debug)]
struct Measured {
    per_s: f64,
    p50_us: f64,
    cpu_us: f64,
}

pub(super) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (proposers, bar) in [("256", 0.5), ("2048", 0.8)] {
        let mut all: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
        for round in 0..plan.runs {
            for place in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                page_cache_sync()?;
                all[place].push(example(plan, KINDS[place], proposers)?);
            }
        }
        let of = |place: usize, field: fn(&Measured) -> f64| {
            let values: Vec<f64> = all[place].iter().map(field).collect();
            median(&values)
        };
        let side = |place: usize| {
            let (p50, cpu) = (of(place, |run| run.p50_us), of(place, |run| run.cpu_us));
            format!("p50 {} us, {} us CPU each", number(p50), number(cpu))
        };
        lines.push(
            Line::new(
                format!("1 KiB appends through Raft / bare writer, {proposers} proposers"),
                "/s",
                of(0, |run| run.per_s),
            )
            .beside(of(1, |run| run.per_s))
            .bar(Bar::AtLeast(bar))
            .note(format!("Raft: {}; bare: {}", side(0), side(1))),
        );
    }
    Ok(lines)
}

fn example(plan: &Plan, kind: &str, proposers: &str) -> Result<Measured> {
    let seconds = format!("{:.0}", plan.seconds.max(1.0));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(places::workspace()).args(["run", "--quiet", "--package", "replica", "--example", "append"]);
    cargo.arg("--target-dir").arg(places::target());
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    cargo.arg("--").arg(plan.dir.join("raft")).args([&seconds, "1024", proposers]).env("ONLY", kind);
    let text = process::run(&mut cargo, Duration::from_secs(1800))?.text();
    let line = text.lines().find(|line| line.trim_start().starts_with(kind)).with_context(|| text.clone())?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |name: &str| -> Result<f64> {
        let place = words.iter().position(|word| *word == name).with_context(|| format!("{name} in {line:?}"))?;
        Ok(words.get(place + 1).context("a figure")?.parse()?)
    };
    let per_s =
        words.iter().find_map(|word| word.strip_suffix("/s")?.parse::<f64>().ok()).context("appends per second")?;
    Ok(Measured { per_s, p50_us: after("p50")?, cpu_us: after("cpu")? })
}
