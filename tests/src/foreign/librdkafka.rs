//! librdkafka's own tests, each in a process of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;

use super::{Entry, allowlist, run_all};
use crate::broker::Settings;
use crate::install::{java, librdkafka};
use crate::process;
use crate::served::Served;

/// No listed test takes longer on a busy machine.
const TEST_LIMIT: Duration = Duration::from_secs(300);
/// They wait more than they work.
const AT_ONCE: usize = 4;
/// What `group.initial.rebalance.delay.ms` is by default.
const KAFKAS_DELAY_MS: u32 = 3000;

/// Runs the list against fresh brokers of the peer that the environment names.
pub fn run() -> Result<()> {
    let suite = Librdkafka::open()?;
    let mut failed = Vec::new();
    for is_delayed in [false, true] {
        let mut settings = Settings::new()?;
        settings.group_initial_rebalance_delay_ms = delay_ms(is_delayed);
        let mut broker = settings.start()?;
        failed.extend(suite.run(&broker.served(), is_delayed)?);
        broker.assert_healthy()?;
    }
    ensure!(failed.is_empty(), "{} of librdkafka's tests failed:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

/// The suite, installed, and its folder for configurations.
#[derive(Debug)]
pub struct Librdkafka {
    built: librdkafka::Librdkafka,
    home: TempDir,
}

impl Librdkafka {
    pub fn open() -> Result<Self> {
        let (built, home) = (librdkafka::with_tests()?, tempfile::tempdir()?);
        tools(home.path())?;
        Ok(Self { built, home })
    }

    /// What nodes of a cluster are started with for one of the two parts of the list.
    pub fn flags(is_delayed: bool) -> Vec<String> {
        vec!["--kafka-group-initial-rebalance-delay-ms".to_owned(), delay_ms(is_delayed).to_string()]
    }

    /// Runs the entries that need a group to wait for its members, or those that do not; what failed.
    pub fn run(&self, served: &Served, is_delayed: bool) -> Result<Vec<String>> {
        let mut entries = allowlist("librdkafka-allowlist.txt", served.restarts)?;
        entries.retain(|entry| entry.has("delayed") == is_delayed);
        Ok(run_all(entries, AT_ONCE, |entry| run_one(self, served, entry)))
    }
}

fn delay_ms(is_delayed: bool) -> u32 {
    if is_delayed { KAFKAS_DELAY_MS } else { 0 }
}

/// Where the tests look for Kafka's scripts: `kafka-topics.sh` is all they need.
fn tools(home: &Path) -> Result<()> {
    let topics = java::installed()?.command("org.apache.kafka.tools.TopicCommand");
    let mut script = "#!/bin/sh\nexec java".to_owned();
    for argument in topics.get_args() {
        script += &format!(" '{}'", argument.to_string_lossy());
    }
    script += " \"$@\"\n";
    let path = home.join("bin/kafka-topics.sh");
    fs::create_dir_all(home.join("bin"))?;
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// `NUMBER [full] [delayed] [nightly] [steady] [only=SUBTEST]`: `full` leaves the quick mode, in which some tests do nothing.
fn run_one(suite: &Librdkafka, served: &Served, entry: &Entry) -> Result<()> {
    let number = entry.name();
    let configuration = suite.home.path().join(format!("{}.conf", entry.words.join("-").replace('/', "-")));
    fs::write(&configuration, format!("metadata.broker.list={}\ntest.topic.random=true\n", served.bootstrap))?;
    let mut command = Command::new("./test-runner");
    command.current_dir(suite.built.tests()).args(["-L", "-p1"]);
    if !entry.has("full") {
        command.arg("-Q");
    }
    if let Some(subtest) = entry.words.iter().find_map(|word| word.strip_prefix("only=")) {
        command.env("SUBTESTS", subtest);
    }
    command.env("TESTS", number).env("RDKAFKA_TEST_CONF", configuration);
    command.env("TEST_KAFKA_VERSION", "4.3.0").env("LD_LIBRARY_PATH", "../src:../src-cpp");
    // Statistics would be written beside the programs, by all at once.
    command.env("BROKERS", &served.bootstrap).env("KAFKA_PATH", suite.home.path()).env_remove("CI");
    served.tell(&mut command);
    let finished = process::finish(&mut command, None, TEST_LIMIT)?;
    let text = finished.text() + &finished.stderr;
    if !finished.status.success() {
        bail!("{}: {}", finished.status, reasons(&text).join(" / "));
    }
    let passed = text.lines().any(|line| line.contains(&format!("{number}_")) && line.contains("PASSED"));
    ensure!(passed, "nothing ran: {}", finished.tail());
    Ok(())
}

/// Where a test failed, and the line behind each of these, which says why.
fn reasons(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let is_place = |line: &str| line.contains("failed at") || line.contains("assertion");
    let places = lines.iter().enumerate().filter(|(_, line)| is_place(line));
    let mut shown: Vec<usize> = places.flat_map(|(at, _)| [at, at + 1]).collect();
    shown.dedup();
    shown.into_iter().filter_map(|at| lines.get(at).copied()).collect()
}
