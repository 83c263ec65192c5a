//! Upgrades of running clusters from an older build, under the load of several families of clients: what operators do,
//! step by step, and what clients see of it.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::checker;
use crate::cluster::{Cluster, SETTLE_LIMIT, Settings};
use crate::history::{History, Outcome};
use crate::process::wait_until;
use crate::workload::{self, Plan, Workload};

const ACKED_LIMIT: Duration = Duration::from_secs(120);
/// The level rises by itself this soon after the last node is new.
const LEVEL_LIMIT: Duration = Duration::from_secs(30);

/// Says how far it is, on standard error.
fn say(text: &str) -> Result<()> {
    writeln!(std::io::stderr(), "{text}").context("standard error is closed")
}

/// Three nodes of an older build, one after the other stopped by SIGTERM and started with the build under test. No client
/// is told of an error; at the end the cluster uses what the new build knows, and the old one is refused.
pub fn rolling(old: PathBuf) -> Result<()> {
    let mut cluster =
        Cluster::start(3, Settings { flags: small(), program: Some(old.clone()), ..Settings::default() })?;
    say("three nodes of the older build are a cluster")?;
    let mut load = Workload::start(Plan::new("rolling", 21)?, &cluster.bootstrap(), cluster.home())?;
    let done = upgrade_each(&mut cluster, &mut load);
    let starts = done.map_err(|error| error.context(cluster.log_tails()))?;
    let (history, trouble) = load.finish().map_err(|error| error.context(cluster.log_tails()))?;
    for (place, from_ms) in starts.into_iter().enumerate() {
        if let Some((partition, gap)) = workload::gap_after(&history, from_ms) {
            say(&format!(
                "SIGTERM of place {place}: the last partition, {partition}, was written again after {gap:?}"
            ))?;
        }
    }
    judge(&history, &trouble).map_err(|error| error.context(cluster.log_tails()))?;
    refuse(&mut cluster, old)?;
    cluster.assert_no_panics()
}

/// When each node was told to stop.
fn upgrade_each(cluster: &mut Cluster, load: &mut Workload) -> Result<Vec<u64>> {
    let mut starts = Vec::new();
    load.wait_acked(100, ACKED_LIMIT)?;
    for place in 0..cluster.nodes.len() {
        starts.push(workload::now_ms());
        let began = Instant::now();
        let status = cluster.nodes[place].stop()?;
        ensure!(status.success(), "the older build ends with {status}\n{}", cluster.nodes[place].log_tail());
        cluster.nodes[place].upgrade();
        cluster.nodes[place].spawn()?;
        cluster.nodes[place].wait_ready()?;
        cluster.wait_settled(SETTLE_LIMIT)?;
        load.wait_acked(100, ACKED_LIMIT)?;
        let features = features_at(cluster, place)?;
        say(&format!("place {place} is new after {:?}; features {features}", began.elapsed()))?;
    }
    wait_for_level(cluster)?;
    load.wait_acked(100, ACKED_LIMIT)?;
    Ok(starts)
}

/// What the node at a place says of the cluster's level.
fn features_at(cluster: &Cluster, place: usize) -> Result<String> {
    let text = cluster.operate_at(place, &["status"])?.text();
    let line = text.lines().find_map(|line| line.strip_prefix("features "));
    Ok(line.with_context(|| format!("no level in\n{text}"))?.to_owned())
}

/// Waits until every node says that nobody holds the level back.
fn wait_for_level(cluster: &Cluster) -> Result<()> {
    let mut last = Vec::new();
    let waited = wait_until("the level of features", LEVEL_LIMIT, || {
        let places = 0..cluster.nodes.len();
        last = places.map(|place| features_at(cluster, place)).collect::<Result<Vec<_>>>()?;
        Ok(last.iter().all(|features| features.parse::<u32>().is_ok()))
    });
    waited.with_context(|| format!("the nodes say {last:?}"))?;
    say(&format!("all nodes are new; features {}", last.join(", ")))
}

/// The older build does not start on what is now beyond it, and the newer one goes on behind that.
fn refuse(cluster: &mut Cluster, old: PathBuf) -> Result<()> {
    let place = cluster.nodes.len() - 1;
    cluster.nodes[place].stop()?;
    cluster.nodes[place].set_program(old);
    cluster.nodes[place].spawn()?;
    let started = cluster.nodes[place].wait_ready();
    ensure!(started.is_err(), "the older build serves what is beyond it");
    let log = cluster.nodes[place].log();
    let line = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    say(&format!("the older build on that directory: {line}"))?;
    cluster.nodes[place].kill()?;
    cluster.nodes[place].upgrade();
    cluster.nodes[place].spawn()?;
    cluster.nodes[place].wait_ready()?;
    cluster.wait_settled(SETTLE_LIMIT)
}

/// A node of an older build that knows nothing of clusters, stopped under load and started anew with the build under
/// test, and two more nodes that join it. Clients wait while the only node is away, and are told of nothing else.
pub fn lone(old: PathBuf) -> Result<()> {
    let mut cluster = Cluster::prepare_lone(Settings { flags: small(), program: Some(old), ..Settings::default() })?;
    cluster.nodes[0].spawn()?;
    cluster.nodes[0].wait_ready()?;
    say("a lone node of the older build serves")?;
    let mut load = Workload::start(Plan::new("lone", 22)?, &cluster.bootstrap(), cluster.home())?;
    let done = upgrade_and_grow(&mut cluster, &mut load);
    done.map_err(|error| error.context(cluster.log_tails()))?;
    let (history, trouble) = load.finish().map_err(|error| error.context(cluster.log_tails()))?;
    judge(&history, &trouble).map_err(|error| error.context(cluster.log_tails()))?;
    cluster.assert_healthy()
}

fn upgrade_and_grow(cluster: &mut Cluster, load: &mut Workload) -> Result<()> {
    load.wait_acked(100, ACKED_LIMIT)?;
    let began = Instant::now();
    cluster.nodes[0].stop()?;
    cluster.nodes[0].upgrade();
    cluster.nodes[0].spawn()?;
    cluster.nodes[0].wait_ready()?;
    load.wait_acked(100, ACKED_LIMIT)?;
    say(&format!("it is new, and every client wrote on, after {:?}", began.elapsed()))?;
    grow(cluster)?;
    load.wait_acked(100, ACKED_LIMIT)
}

/// Two nodes join, and have copies of everything.
pub fn grow(cluster: &mut Cluster) -> Result<()> {
    cluster.wait_settled(SETTLE_LIMIT)?;
    for _ in 0..2 {
        cluster.add()?;
    }
    cluster.wait_settled(SETTLE_LIMIT)?;
    wait_for_level(cluster)
}

/// Nothing is lost, nothing is there twice, and no client was told of an error.
fn judge(history: &History, trouble: &[String]) -> Result<()> {
    let verdict = checker::check(history);
    say(&format!("{verdict}"))?;
    ensure!(verdict.is_good() && trouble.is_empty(), "{verdict}\n{trouble:?}");
    ensure!(verdict.acked > 500, "hardly anything was written: {verdict}");
    let failed: Vec<_> = history.sends().filter(|send| !matches!(send.outcome, Outcome::Acked(_))).take(5).collect();
    ensure!(failed.is_empty(), "{verdict}\n{failed:?}");
    Ok(())
}

fn small() -> Vec<String> {
    ["--segment-bytes", "4MiB", "--reserve-bytes", "16MiB"].map(str::to_owned).into()
}
