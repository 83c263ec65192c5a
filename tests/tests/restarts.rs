//! The client programs of all languages against three nodes that are restarted in turn; in nightly runs the tools and the
//! suites of others, too.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::restarts::{self, Rhythm, Suite};
use tests::toolchain;

#[test]
fn clients_pass_while_nodes_are_restarted() -> Result<()> {
    // The programs need half a minute: in the short run each of the nodes is to be restarted in that, the last one by kill -9.
    let (seconds, suites) = if toolchain::is_nightly() { (30, &Suite::ALL[..]) } else { (12, &[Suite::Programs][..]) };
    let rhythm = Rhythm { every: Duration::from_secs(seconds), kill_every: 3 };
    let mut failed = Vec::new();
    for suite in suites {
        match restarts::run(*suite, rhythm, 3) {
            Ok(report) => std::io::stderr().write_all(report.as_bytes())?,
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
