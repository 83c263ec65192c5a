//! Kafka's own command-line tools, through the classes that its scripts start.

use anyhow::Result;
use tests::broker::Settings;
use tests::tools::JavaTools;

/// Runs a check of the tools against a fresh broker.
fn with_tools(check: fn(&JavaTools) -> Result<()>) -> Result<()> {
    let broker = Settings::new()?.start()?;
    JavaTools::new(broker.served(), "t")?.map_or(Ok(()), |tools| check(&tools))
}

#[test]
fn kafka_topics() -> Result<()> {
    with_tools(JavaTools::topics)
}

#[test]
fn kafka_console_producer_consumer_and_consumer_groups() -> Result<()> {
    with_tools(JavaTools::console_and_groups)
}

#[test]
fn kafka_configs() -> Result<()> {
    with_tools(JavaTools::configs)
}

#[test]
fn kafka_producer_perf_test_and_consumer_perf_test() -> Result<()> {
    with_tools(JavaTools::perf_tests)
}

#[test]
fn kafka_get_offsets_and_broker_api_versions() -> Result<()> {
    with_tools(JavaTools::offsets_and_versions)
}

#[test]
fn kafka_delete_records() -> Result<()> {
    with_tools(JavaTools::delete_records)
}

#[test]
fn kafka_log_dirs() -> Result<()> {
    with_tools(JavaTools::log_dirs)
}

#[test]
fn kafka_verifiable_clients() -> Result<()> {
    with_tools(JavaTools::verifiable_clients)
}

#[test]
fn kafka_metadata_quorum() -> Result<()> {
    with_tools(JavaTools::metadata_quorum)
}
