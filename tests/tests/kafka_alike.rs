//! A sequence of requests that follows from a seed, to a real Kafka and to ours: the same answers, and the same records in the end.
//!
//! `TEST_ALIKE_SEED` names another sequence.

use std::env;

use anyhow::{Context, Result};
use tests::alike;

const SEED: u64 = 4711;

#[test]
fn produces_deletes_and_configurations_are_answered_as_kafka_does() -> Result<()> {
    let seed =
        env::var("TEST_ALIKE_SEED").map_or(Ok(SEED), |text| text.parse()).context("TEST_ALIKE_SEED is a number")?;
    alike::run(seed)?.map_or(Ok(()), |report| report.print())
}
