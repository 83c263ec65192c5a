//! The client programs of all languages, tools and the suites of others against three nodes that are restarted in turn: in
//! nightly runs.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::restarts::{self, Rhythm, Suite};
use tests::toolchain;

#[test]
fn clients_pass_while_nodes_are_restarted() -> Result<()> {
    if !toolchain::is_nightly() {
        std::io::stderr().write_all(b"left out: it takes half an hour, as one of the nightly tests\n")?;
        return Ok(());
    }
    let rhythm = Rhythm { every: Duration::from_secs(30), kill_every: 3 };
    let mut failed = Vec::new();
    for suite in Suite::ALL {
        match restarts::run(suite, rhythm, 3) {
            Ok(report) => std::io::stderr().write_all(report.as_bytes())?,
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
