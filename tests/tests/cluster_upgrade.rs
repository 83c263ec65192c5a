//! Data of a version that knew one node only: a node of today that serves it becomes one of a cluster's, and the cluster's
//! nodes have all of it. Upgrades of nodes that run need a program of then: `just upgrade`.

use anyhow::{Context, Result, ensure};
use tests::cluster::{Cluster, SETTLE_LIMIT, Settings};
use tests::old_data::{self, Stage};
use tests::{process, upgrade};

#[test]
fn a_lone_node_of_an_older_version_grows_to_three() -> Result<()> {
    let flags = ["--segment-bytes", "4MiB", "--reserve-bytes", "0"].map(str::to_owned).into();
    let mut cluster = Cluster::prepare_lone(Settings { flags, ..Settings::default() })?;
    let home = cluster.nodes[0].data().parent().context("a folder around the data")?.to_path_buf();
    old_data::unpack(Stage::Late, &home)?;
    cluster.nodes[0].upgrade();
    cluster.nodes[0].spawn()?;
    cluster.nodes[0].wait_ready()?;
    old_data::check(cluster.nodes[0].kafka(), Stage::Late, 0)?;
    upgrade::grow(&mut cluster).map_err(|error| error.context(cluster.log_tails()))?;
    for node in &cluster.nodes {
        old_data::check(node.kafka(), Stage::Late, 0)?;
    }
    // The first is lost: what the others have does not come from it.
    cluster.nodes[0].kill()?;
    let others = [cluster.nodes[1].kafka(), cluster.nodes[2].kafka()];
    process::wait_until("both others lead", SETTLE_LIMIT, || {
        Ok(others.iter().all(|node| old_data::check(*node, Stage::Late, 0).is_ok()))
    })
    .map_err(|error| error.context(cluster.log_tails()))?;
    ensure!(!cluster.nodes[0].is_running(), "it is gone");
    cluster.assert_no_panics()
}
