//! Data directories of an older version: their logs come to the states that the old program came to, and a broker of today
//! serves and goes on with what is in them.

use anyhow::{Context, Result, ensure};
use tests::old_data::{self, Expected, Stage};

/// Batches that each partition gets from today's broker, twice.
const MORE: i32 = 5;

#[test]
fn logs_of_an_older_version_come_to_the_same_digests() -> Result<()> {
    for stage in Stage::ALL {
        let home = tempfile::tempdir()?;
        let data = old_data::unpack(stage, home.path())?;
        let expected = Expected::of(stage)?.digests;
        let digests = old_data::digests(&data)?;
        ensure!(digests == expected, "{stage:?}: {digests:?} instead of {expected:?}");
        // Reading them has not changed them.
        ensure!(old_data::digests(&data)? == expected, "{stage:?}, read again");
    }
    Ok(())
}

#[test]
fn an_older_data_directory_is_served_and_written_on() -> Result<()> {
    for stage in Stage::ALL {
        serve(stage).with_context(|| format!("{stage:?}"))?;
    }
    Ok(())
}

fn serve(stage: Stage) -> Result<()> {
    let home = tempfile::tempdir()?;
    old_data::unpack(stage, home.path())?;
    let producer = Expected::of(stage)?.producer;
    let mut broker = old_data::settings(None, home.path()).start()?;
    old_data::check(broker.address(), stage, 0)?;
    old_data::go_on(broker.address(), stage, producer, MORE)?;
    broker.kill()?;
    broker.restart()?;
    old_data::check(broker.address(), stage, MORE)?;
    broker.stop()?;
    broker.restart()?;
    old_data::check(broker.address(), stage, MORE)?;
    broker.assert_healthy()
}
