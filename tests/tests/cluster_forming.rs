//! Clusters of real processes come to be, grow, and let nodes go, under the load of three families of clients, none
//! of which is told of an error.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::checker;
use tests::cluster::{Cluster, SETTLE_LIMIT, Settings};
use tests::history::{Event, Outcome};
use tests::workload::{Plan, Workload};

const ACKED_LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_fourth_node_comes_the_first_goes_and_no_client_is_told_of_an_error() -> Result<()> {
    let mut cluster = Cluster::start(3, Settings::default())?;
    let mut load = Workload::start(Plan::new("forming", 5)?, &cluster.bootstrap(), cluster.home())?;
    let changed = change(&mut cluster, &mut load);
    changed.map_err(|error| error.context(cluster.log_tails()))?;
    let (history, trouble) = load.finish().map_err(|error| error.context(cluster.log_tails()))?;
    let verdict = checker::check(&history);
    ensure!(verdict.is_good() && trouble.is_empty(), "{verdict}\n{trouble:?}\n{}", cluster.log_tails());
    let failed: Vec<_> = history.sends().filter(|send| !matches!(send.outcome, Outcome::Acked(_))).take(5).collect();
    ensure!(failed.is_empty(), "{verdict}\n{failed:?}");
    // What a library tells its application on the way, such as a connection that broke, and gets over.
    let told = history.readers.iter().flat_map(|reader| &reader.events);
    let told: Vec<_> = told.filter(|event| matches!(event, Event::Trouble { .. })).collect();
    writeln!(std::io::stderr(), "{verdict}; readers were told of {} troubles: {:?}", told.len(), told.first())?;
    cluster.assert_no_panics()
}

fn change(cluster: &mut Cluster, load: &mut Workload) -> Result<()> {
    load.wait_acked(100, ACKED_LIMIT)?;
    let first = cluster.id(0)?;
    cluster.add()?;
    cluster.wait_settled(SETTLE_LIMIT)?;
    load.wait_acked(100, ACKED_LIMIT)?;
    cluster.drain_and_remove(first, SETTLE_LIMIT)?;
    load.wait_acked(100, ACKED_LIMIT)?;
    let mut gone = cluster.nodes.remove(0);
    // It is told that it is not wanted any more; whether it ends by itself or not, it holds nothing.
    gone.kill()?;
    cluster.wait_settled(SETTLE_LIMIT)?;
    load.wait_acked(100, ACKED_LIMIT)
}

#[test]
fn a_node_that_is_told_to_join_says_so_and_joins() -> Result<()> {
    let mut cluster = Cluster::start(1, Settings::default())?;
    let address = cluster.nodes[0].internal().to_string();
    for count in 2..4 {
        let place = cluster.add_apart()?;
        let joined = cluster.operate_at(place, &["join", &address])?;
        ensure!(joined.status.success(), "{joined:?}\n{}", cluster.log_tails());
        ensure!(joined.text().contains("gives up its own cluster and joins"), "{joined:?}");
        cluster.wait_settled(SETTLE_LIMIT)?;
        ensure!(cluster.status()?.nodes.len() == count, "{:?}", cluster.status()?);
        // Whoever does not know whether it was heard asks again.
        let again = cluster.operate_at(place, &["join", &address])?;
        ensure!(again.status.success() && again.text().contains("already"), "{again:?}");
    }
    let stranger = cluster.add_apart()?;
    let strange = cluster.nodes[stranger].internal().to_string();
    let refused = cluster.operate_at(0, &["join", &strange])?;
    ensure!(!refused.status.success() && refused.stderr.contains("one of several"), "{refused:?}");
    cluster.forget_last()?;
    cluster.assert_no_panics()
}
