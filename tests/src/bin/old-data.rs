//! Makes the archives of a data directory of an older version: `old-data PROGRAM FOLDER`. See
//! tests/fixtures/c52b9e6/README.md.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tests::old_data::{self, Stage};

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1).map(PathBuf::from);
    let program = words.next().context("the old program")?;
    let folder = words.next().context("the folder for the archives")?;
    fs::create_dir_all(&folder)?;
    let home = tempfile::tempdir()?;
    let mut broker = old_data::settings(Some(program), home.path()).start()?;
    let producer = old_data::write_early(&mut broker)?;
    old_data::pack(Stage::Early, home.path(), &folder)?;
    old_data::write_late(&mut broker, producer)?;
    old_data::pack(Stage::Late, home.path(), &folder)?;
    let text = format!("{{\"producer\":{{\"id\":{},\"epoch\":{}}}}}\n", producer.id, producer.epoch);
    fs::write(folder.join("producer.json"), text)?;
    Ok(())
}
