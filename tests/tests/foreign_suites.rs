//! librdkafka's own tests and kafka-python's integration tests, as far as the allowlists name them.

use tests::{foreign, toolchain};

#[test]
fn librdkafka() -> anyhow::Result<()> {
    if toolchain::require("librdkafka's tests", &["cc", "c++", "make", "java", "mvn"])? {
        foreign::run_librdkafka()?;
    }
    Ok(())
}

#[test]
fn kafka_python() -> anyhow::Result<()> {
    if toolchain::require("kafka-python's tests", &["python3"])? {
        foreign::run_kafka_python()?;
    }
    Ok(())
}
