//! kcat, as Debian ships it: a million lines there and back, also through a kill -9.

use anyhow::Result;
use tests::broker::{Broker, Settings};
use tests::tools::Kcat;

/// Runs checks of kcat against a fresh broker, which must be well after them.
fn with_kcat(checks: impl FnOnce(&Kcat, &mut Broker) -> Result<()>) -> Result<()> {
    let mut broker = Settings::new()?.start()?;
    let Some(kcat) = Kcat::new(broker.served(), "t")? else {
        return Ok(());
    };
    checks(&kcat, &mut broker)?;
    broker.assert_healthy()
}

fn kill_9(broker: &mut Broker) -> Result<()> {
    broker.kill()?;
    broker.restart()
}

#[test]
fn a_million_lines_come_back_as_they_went() -> Result<()> {
    with_kcat(|kcat, _| kcat.a_million_lines(|| Ok(())))
}

#[test]
fn a_million_lines_survive_kill_9() -> Result<()> {
    with_kcat(|kcat, broker| kcat.a_million_lines(|| kill_9(broker)))
}

#[test]
fn every_compression_of_kcat_is_passed_through() -> Result<()> {
    with_kcat(|kcat, _| kcat.every_compression())
}

#[test]
fn keys_headers_timestamps_and_offsets_are_shown() -> Result<()> {
    with_kcat(|kcat, _| kcat.what_is_shown())
}

#[test]
fn metadata_lists_broker_and_topics() -> Result<()> {
    with_kcat(|kcat, _| kcat.metadata())
}

#[test]
fn a_group_goes_on_where_it_stopped() -> Result<()> {
    with_kcat(|kcat, broker| kcat.a_group(|| kill_9(broker)))
}
