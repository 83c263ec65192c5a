//! Side by side with Kafka, on this machine: `cargo run --release -p benches -- <row ...|all>`.
//!
//! Keeps true: both sides lie on the same file system and start from an empty folder; pairs alternate; a figure is
//! the median of its runs; the client's processor time is printed beside the broker's. Installs Kafka (Maven) and
//! librdkafka's load tool into cargo's target folder, builds ours in the profile of the bench itself.

mod load;
mod measure;
mod nodes;
mod peers;
mod report;
mod rows;

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::load::Load;
use crate::peers::Plan;

#[derive(Debug, Parser)]
#[command(about = "Benchmarks beside Kafka", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    inner: Option<Inner>,
    #[command(flatten)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Inner {
    /// A client alone, against any broker; prints one JSON object.
    Load {
        #[command(subcommand)]
        load: Load,
    },
}

#[derive(Args, Debug)]
struct Bench {
    /// Rows to run, or `all`; without any the rows are listed.
    rows: Vec<String>,
    /// Small everything: shows that the rows run, measures nothing.
    #[arg(long)]
    quick: bool,
    /// Measured seconds of a run.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Runs of which the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// How often a node of a cluster is killed, stopped or drained.
    #[arg(long, default_value_t = 20)]
    tries: usize,
    /// Ours alone, without the reference.
    #[arg(long)]
    alone: bool,
    /// Data of a row of space, instead of the row's own size.
    #[arg(long)]
    gigabytes: Option<f64>,
    /// What the rows of space produce in a second where they keep a pace, in MB.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// How long they keep it; ten minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// Where the brokers' data lies; must be on the file system that is to be measured.
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.inner {
        Some(Inner::Load { load }) => say(&load.run()?.to_string()),
        None => bench(&arguments.bench),
    }
}

fn bench(arguments: &Bench) -> Result<()> {
    if arguments.rows.is_empty() {
        for row in rows::ALL {
            say(&format!("{:<16} {}", row.name, row.what))?;
        }
        return Ok(());
    }
    let dir = arguments.dir.clone().unwrap_or_else(|| tests::places::target().join("bench"));
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let plan = Plan {
        dir,
        seconds: if arguments.quick { 2.0 } else { arguments.seconds },
        runs: if arguments.quick { 1 } else { arguments.runs },
        tries: if arguments.quick { 2 } else { arguments.tries },
        is_alone: arguments.alone,
        is_quick: arguments.quick,
        gigabytes: arguments.gigabytes,
        megabytes_per_s: arguments.rate,
        minutes: arguments.minutes.unwrap_or(if arguments.quick { 0.25 } else { 10.0 }),
    };
    let chosen = rows::chosen(&arguments.rows)?;
    // The rows of clusters and of space bound what they write themselves.
    let bounds_itself = |row: &rows::Row| ["cluster-", "space-"].iter().any(|kind| row.name.starts_with(kind));
    if !plan.is_quick && !chosen.iter().all(bounds_itself) {
        ensure_room(&plan)?;
    }
    if !plan.is_quick && !chosen.iter().all(|row| row.name.starts_with("cluster-")) {
        measure::touch_memory(&plan.dir)?;
    }
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    for row in chosen {
        say(&format!("... {}: {}", row.name, row.what))?;
        match (row.run)(&plan) {
            Ok(measured) => {
                say(&report::table(&measured))?;
                lines.extend(measured);
            }
            Err(error) => {
                say(&format!("{} failed: {error:#}", row.name))?;
                failed.push(row.name);
            }
        }
    }
    say(&format!("\n{}", report::table(&lines)))?;
    if !failed.is_empty() {
        bail!("rows that did not run to their end: {}", failed.join(", "));
    }
    Ok(())
}

/// What a disk takes at most in a second: nothing expires, so a run leaves all that it wrote until its end.
const BYTES_PER_SECOND_MAX: f64 = 1.4e9;

/// A broker whose disk is full refuses writes, and a run would measure that.
fn ensure_room(plan: &Plan) -> Result<()> {
    let free = measure::free_bytes(&plan.dir)?;
    let needed = (plan.seconds + 5.0) * BYTES_PER_SECOND_MAX;
    if free < needed {
        bail!(
            "{} has {:.0} GB free; runs of {} s may need {:.0} GB: choose another --dir or fewer --seconds",
            plan.dir.display(),
            free / 1e9,
            plan.seconds,
            needed / 1e9
        );
    }
    Ok(())
}

fn say(text: &str) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}
