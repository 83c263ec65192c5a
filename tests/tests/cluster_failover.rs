//! Every leader killed under load, with clients of three families: nothing acknowledged is lost, and how long a
//! partition cannot be written is printed.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::checker;
use tests::cluster::{Cluster, SETTLE_LIMIT, Settings};
use tests::workload::{self, Plan, Workload};

/// From a kill to the first acknowledgement in every partition. Generous: what is asserted is that it ends.
const GAP_MAX: Duration = Duration::from_secs(40);

#[test]
fn leaders_are_killed_and_nothing_is_lost() -> Result<()> {
    let mut cluster = Cluster::start(3, Settings { flags: small(), ..Settings::default() })?;
    let mut load = Workload::start(Plan::new("failover", 11)?, &cluster.bootstrap(), cluster.home())?;
    let outcome = kill_each(&mut cluster, &mut load);
    let kills = outcome.map_err(|error| error.context(cluster.log_tails()))?;
    let (history, trouble) = load.finish().map_err(|error| error.context(cluster.log_tails()))?;
    let verdict = checker::check(&history);
    let mut said = format!("{verdict}\n");
    for (what, at_ms) in kills {
        if let Some((partition, gap)) = workload::gap_after(&history, at_ms) {
            said += &format!("{what}: the last partition, {partition}, could be written again after {gap:?}\n");
            ensure!(gap < GAP_MAX, "{said}");
        }
    }
    std::io::stderr().write_all(said.as_bytes())?;
    ensure!(verdict.is_good() && trouble.is_empty(), "{said}{trouble:?}\n{}", cluster.log_tails());
    ensure!(verdict.acked > 1000, "{said}");
    cluster.assert_healthy()
}

/// What was killed, and when.
fn kill_each(cluster: &mut Cluster, load: &mut Workload) -> Result<Vec<(String, u64)>> {
    let mut kills = Vec::new();
    load.wait_acked(50, Duration::from_secs(90))?;
    for place in 0..cluster.nodes.len() {
        let status = cluster.status()?;
        let id = cluster.id(place)?;
        let leads: Vec<&str> =
            status.shards.iter().filter(|shard| shard.leader == Some(id)).map(|shard| shard.id.as_str()).collect();
        kills.push((format!("kill -9 of node {id}, leader of {}", leads.join(", ")), workload::now_ms()));
        cluster.nodes[place].kill()?;
        load.wait_acked(50, Duration::from_secs(90))?;
        cluster.nodes[place].spawn()?;
        cluster.nodes[place].wait_ready()?;
        cluster.wait_settled(SETTLE_LIMIT)?;
        load.wait_acked(50, Duration::from_secs(90))?;
    }
    Ok(kills)
}

fn small() -> Vec<String> {
    ["--segment-bytes", "4MiB", "--reserve-bytes", "16MiB"].map(str::to_owned).into()
}
