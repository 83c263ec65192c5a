//! kafka-python's integration tests, from its source archive.

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Entry, allowlist};
use crate::broker::{Peer, Settings};
use crate::install::python::{self, Python};
use crate::served::Served;
use crate::{places, process};

const LIMIT: Duration = Duration::from_secs(900);

/// As the suite configures its own brokers: sessions of 3 s.
const SESSION_KEY: &str = "group.min.session.timeout.ms";
const SESSION_MIN_MS: &str = "100";

/// Runs the list against a fresh broker.
pub fn run() -> Result<()> {
    let suite = KafkaPython::open()?;
    let mut settings = Settings::new()?;
    let key = if settings.peer == Peer::Kafka { SESSION_KEY.to_owned() } else { format!("kafka.{SESSION_KEY}") };
    settings.properties.push((key, SESSION_MIN_MS.to_owned()));
    let mut broker = settings.start()?;
    suite.run(&broker.served())?;
    broker.assert_healthy()
}

/// The suite, installed.
#[derive(Debug)]
pub struct KafkaPython(Python);

impl KafkaPython {
    pub fn open() -> Result<Self> {
        Ok(Self(python::installed()?))
    }

    /// What nodes of a cluster are started with for it.
    pub fn flags() -> Vec<String> {
        vec![format!("--kafka-{}", SESSION_KEY.replace('.', "-")), SESSION_MIN_MS.to_owned()]
    }

    /// Runs the list in one pytest.
    pub fn run(&self, served: &Served) -> Result<()> {
        let entries: Vec<Entry> = allowlist("kafka-python-allowlist.txt", served.restarts)?;
        let source = self.0.kafka_python_source();
        let modules = env::join_paths([&source, &places::client_sources().join("python")])?;
        let mut pytest = self.0.command();
        pytest.current_dir(&source).args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "120"]);
        pytest.args(["-p", "kafka_python_settings"]);
        pytest.args(["--show-capture=no", "-W", "ignore"]);
        pytest.args(entries.iter().map(|entry| format!("test/integration/{}", entry.name())));
        pytest.env("KAFKA_URI", format!("kafka://{}", served.first()?)).env("KAFKA_VERSION", "4.3.0");
        pytest.env("KAFKA_SERVERS", &served.bootstrap);
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
        Ok(())
    }
}
