//! A minute of faults on three nodes, as many as fit of the kinds that find most.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::cluster::SETTLE_LIMIT;
use tests::nemesis::{self, Kind, Plan};
use tests::places;
use tests::workload;

#[test]
fn a_minute_of_faults_loses_nothing() -> Result<()> {
    let seed = 3;
    let mut load = workload::Plan::new("nemesis", seed)?;
    load.rate = 50;
    let plan = Plan {
        seed,
        nodes: 3,
        duration: Duration::from_secs(60),
        kinds: vec![
            Kind::KillLeader,
            Kind::KillAll,
            Kind::PauseLeader,
            Kind::IsolateLeader,
            Kind::Mute,
            Kind::Deaf,
            Kind::Bridge,
            Kind::FullDisk,
            Kind::Wipe,
            Kind::SlowDisk,
            Kind::StalledDisk,
            Kind::ClockJump,
        ],
        hold: (Duration::from_secs(1), Duration::from_secs(4)),
        pause: (Duration::from_millis(200), Duration::from_secs(1)),
        calm_every: Duration::from_secs(3600),
        calm: Duration::from_secs(3),
        settle_limit: SETTLE_LIMIT,
        load,
        keep: Some(places::target().join("nemesis/test")),
    };
    let mut said = String::new();
    let report = nemesis::run(plan, &mut |line| said += &format!("{line}\n"))?;
    said += &report.to_string();
    writeln!(std::io::stderr(), "{report}")?;
    ensure!(report.is_good(), "{said}");
    ensure!(report.fault_count() >= 4 && report.verdict.acked > 500, "{said}");
    ensure!(report.calm.acked == report.calm.sent, "{said}");
    Ok(())
}
