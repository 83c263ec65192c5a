//! Upgrades from an older build: `upgrade rolling PROGRAM` of three nodes, `upgrade lone PROGRAM` of one that grows.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tests::upgrade;

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let what = words.next().context("rolling or lone")?;
    let program = PathBuf::from(words.next().context("the program of the older build")?);
    match what.to_str() {
        Some("rolling") => upgrade::rolling(program),
        Some("lone") => upgrade::lone(program),
        _ => bail!("{what:?} is neither rolling nor lone"),
    }
}
