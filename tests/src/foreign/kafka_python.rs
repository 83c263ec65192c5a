//! kafka-python's integration tests, from its source archive.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::allowlist;
use crate::broker::{Peer, Settings};
use crate::{install, places, process};

const LIMIT: Duration = Duration::from_secs(600);

/// Runs the list in one pytest against a fresh broker.
pub fn run() -> Result<()> {
    let python = install::python::installed()?;
    let mut settings = Settings::new()?;
    // As the suite configures its own brokers: sessions of 3 s.
    let key = "group.min.session.timeout.ms";
    let key = if settings.peer == Peer::Kafka { key.to_owned() } else { format!("kafka.{key}") };
    settings.properties.push((key, "100".to_owned()));
    let mut broker = settings.start()?;
    let entries = allowlist("kafka-python-allowlist.txt")?;
    let source = python.kafka_python_source();
    let modules = env::join_paths([&source, &places::client_sources().join("python")])?;
    let mut pytest = python.command();
    pytest.current_dir(&source).args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "120"]);
    pytest.args(["-p", "kafka_python_settings"]);
    pytest.args(["--show-capture=no", "-W", "ignore"]);
    pytest.args(entries.iter().map(|entry| format!("test/integration/{}", entry.name())));
    pytest.env("KAFKA_URI", format!("kafka://{}", broker.bootstrap())).env("KAFKA_VERSION", "4.3.0");
    pytest.env("KAFKA_ROOT", &source).env("PYTHONPATH", &modules).env("PYTHONDONTWRITEBYTECODE", "1");
    let finished = process::run(&mut pytest, LIMIT)?;
    let text = finished.text();
    let summary = text.lines().rev().find(|line| line.contains(" passed")).context("no summary of pytest")?;
    let passed: usize = summary
        .split(|letter: char| !letter.is_ascii_digit())
        .find(|word| !word.is_empty())
        .context("a number of tests")?
        .parse()?;
    // An entry with parameters is several tests; a skipped one would make it fewer.
    ensure!(passed >= entries.len() && !summary.contains("skipped"), "{} entries: {summary}", entries.len());
    broker.assert_healthy()
}
