//! Brokers under measurement: ours and Kafka, each from an empty folder on the same file system.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::broker::{Broker, Peer, Settings};
use tests::process;

use crate::measure::{Usage, page_cache_sync};

/// How runs are made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The folder that every broker's data lies in.
    pub(crate) dir: PathBuf,
    /// The measured part of a run.
    pub(crate) seconds: f64,
    pub(crate) runs: usize,
    /// How often a node of a cluster is killed, stopped or drained.
    pub(crate) tries: usize,
    /// Ours alone, without the reference; of the rows of clusters and of space.
    pub(crate) is_alone: bool,
    /// Small everything: shows that the row runs, measures nothing.
    pub(crate) is_quick: bool,
    /// Data of a row of space, where it is not the row's own size.
    pub(crate) gigabytes: Option<f64>,
    /// What the rows of space produce where they keep a pace, and how long.
    pub(crate) megabytes_per_s: f64,
    pub(crate) minutes: f64,
}

impl Plan {
    /// A figure for real runs and another for quick ones.
    pub(crate) fn pick<T>(&self, real: T, quick: T) -> T {
        if self.is_quick { quick } else { real }
    }

    /// Bytes of a row of space, of which real runs have so many gigabytes, and quick ones others.
    pub(crate) fn bytes(&self, real: f64, quick: f64) -> f64 {
        self.gigabytes.unwrap_or_else(|| self.pick(real, quick)) * 1e9
    }

    /// Both sides, unless ours is measured alone.
    pub(crate) fn sides(&self) -> &'static [Side] {
        if self.is_alone { &[Side::Ours] } else { &[Side::Ours, Side::Kafka] }
    }
}

/// Which broker, and what its ack means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// An ack is on disk.
    Ours,
    /// An ack is in the page cache.
    Kafka,
    /// An ack is on disk.
    KafkaFlushing,
}

impl Side {
    pub(crate) fn peer(self) -> Peer {
        match self {
            Self::Ours => Peer::Rosettamq,
            Self::Kafka | Self::KafkaFlushing => Peer::Kafka,
        }
    }
}

/// A broker in a folder of its own, removed afterwards.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) broker: Broker,
    home: PathBuf,
}

impl Run {
    /// Starts from an empty folder; a Java broker is warmed with a million records first.
    pub(crate) fn start(plan: &Plan, side: Side) -> Result<Self> {
        Self::start_with(plan, side, |_settings| {})
    }

    pub(crate) fn start_with(plan: &Plan, side: Side, change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let run = Self::started(plan, side, change)?;
        if side.peer() == Peer::Kafka {
            run.warm(plan)?;
        }
        Ok(run)
    }

    /// Starts from an empty folder and asks nothing of it.
    pub(crate) fn start_cold(plan: &Plan, side: Side) -> Result<Self> {
        Self::started(plan, side, |_settings| {})
    }

    fn started(plan: &Plan, side: Side, change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let home = plan.dir.join(format!("{side:?}"));
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        page_cache_sync()?;
        let mut settings = Settings::of(side.peer());
        settings.partitions = 16;
        settings.flush_every_message = side == Side::KafkaFlushing;
        settings.data_dir = Some(home.clone());
        change(&mut settings);
        let broker = settings.start()?;
        Ok(Self { broker, home })
    }

    fn warm(&self, plan: &Plan) -> Result<()> {
        let records = plan.pick(1_000_000_u64, 20_000);
        let bytes = (records * 100).to_string();
        let arguments =
            ["--topic", "warm", "--record-bytes", "100", "--records", "50", "--connections", "4", "--depth", "4"];
        let mut load = self.load("produce", &arguments)?;
        run_load(load.args(["--seconds", "120", "--bytes", &bytes]))?;
        let mut fetch = self.load("fetch", &["--topic", "warm"])?;
        run_load(&mut fetch)?;
        Ok(())
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.broker.pid()
    }

    /// The command of one load against this broker.
    pub(crate) fn load(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["load", name, "--servers", &self.broker.bootstrap()]).args(arguments);
        Ok(command)
    }

    /// Runs one load and returns what it measured, with the broker's usage before and after.
    pub(crate) fn measured(&self, name: &str, arguments: &[&str]) -> Result<(Value, Usage, Usage)> {
        let before = Usage::of(self.pid()?)?;
        let measured = run_load(&mut self.load(name, arguments)?)?;
        let after = Usage::of(self.pid()?)?;
        Ok((measured, before, after))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _gone = self.broker.kill();
        // What is left behind costs only space.
        let _removed = fs::remove_dir_all(&self.home);
    }
}

/// Runs a load to its end.
pub(crate) fn run_load(command: &mut Command) -> Result<Value> {
    let finished = process::run(command, Duration::from_secs(1800))?;
    let text = finished.text();
    serde_json::from_str(text.trim()).with_context(|| format!("not what a load prints: {text}"))
}

/// A number that a load printed.
pub(crate) fn figure(measured: &Value, name: &str) -> Result<f64> {
    measured[name].as_f64().with_context(|| format!("no {name} in {measured}"))
}

/// A load that holds its connections until this value goes.
#[derive(Debug)]
pub(crate) struct Held {
    child: Child,
    /// Open until the end: the load prints once more.
    _out: BufReader<ChildStdout>,
}

impl Held {
    /// Starts it and waits until its connections stand.
    pub(crate) fn start(mut command: Command) -> Result<(Self, f64)> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut out = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        let held = Self { child, _out: out };
        ensure!(!line.is_empty(), "the load ended before its connections stood");
        let ready: Value = serde_json::from_str(line.trim())?;
        Ok((held, figure(&ready, "ready_s")?))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if !matches!(process::wait(&mut self.child, Duration::from_secs(10)), Ok(Some(_))) {
            let _gone = self.child.kill();
            let _ended = self.child.wait();
        }
    }
}

/// The sides in an order that alternates from run to run.
pub(crate) fn alternating(sides: &[Side], run: usize) -> Vec<Side> {
    let mut order = sides.to_vec();
    if run % 2 == 1 {
        order.reverse();
    }
    order
}
