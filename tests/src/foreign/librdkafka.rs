//! librdkafka's own tests, each in a process of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;

use super::{Entry, allowlist, run_all};
use crate::broker::{Broker, Settings};
use crate::install::{java, librdkafka};
use crate::process;

/// No listed test takes longer on a busy machine.
const TEST_LIMIT: Duration = Duration::from_secs(300);
/// They wait more than they work.
const AT_ONCE: usize = 4;
/// What `group.initial.rebalance.delay.ms` is by default.
const KAFKAS_DELAY_MS: u32 = 3000;

/// Runs the list against fresh brokers of the peer that the environment names.
pub fn run() -> Result<()> {
    let built = librdkafka::with_tests()?;
    let home = tempfile::tempdir()?;
    tools(home.path())?;
    let (delayed, others): (Vec<Entry>, Vec<Entry>) =
        allowlist("librdkafka-allowlist.txt")?.into_iter().partition(|entry| entry.has("delayed"));
    let mut failed = Vec::new();
    for (entries, delay_ms) in [(others, 0), (delayed, KAFKAS_DELAY_MS)] {
        let mut settings = Settings::new()?;
        settings.group_initial_rebalance_delay_ms = delay_ms;
        let mut broker = settings.start()?;
        failed.extend(run_all(entries, AT_ONCE, |entry| run_one(&built, &broker, &home, entry)));
        broker.assert_healthy()?;
    }
    ensure!(failed.is_empty(), "{} of librdkafka's tests failed:\n{}", failed.len(), failed.join("\n"));
    Ok(())
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

/// `NUMBER [full] [delayed] [nightly] [only=SUBTEST]`: `full` leaves the quick mode, in which some tests do nothing.
fn run_one(built: &librdkafka::Librdkafka, broker: &Broker, home: &TempDir, entry: &Entry) -> Result<()> {
    let number = entry.name();
    let configuration = home.path().join(format!("{}.conf", entry.words.join("-").replace('/', "-")));
    fs::write(&configuration, format!("metadata.broker.list={}\ntest.topic.random=true\n", broker.bootstrap()))?;
    let mut command = Command::new("./test-runner");
    command.current_dir(built.tests()).args(["-L", "-p1"]);
    if !entry.has("full") {
        command.arg("-Q");
    }
    if let Some(subtest) = entry.words.iter().find_map(|word| word.strip_prefix("only=")) {
        command.env("SUBTESTS", subtest);
    }
    command.env("TESTS", number).env("RDKAFKA_TEST_CONF", configuration);
    command.env("TEST_KAFKA_VERSION", "4.3.0").env("LD_LIBRARY_PATH", "../src:../src-cpp");
    // Statistics would be written beside the programs, by all at once.
    command.env("BROKERS", broker.bootstrap()).env("KAFKA_PATH", home.path()).env_remove("CI");
    let finished = process::finish(&mut command, None, TEST_LIMIT)?;
    let text = finished.text() + &finished.stderr;
    if !finished.status.success() {
        let told: Vec<&str> =
            text.lines().filter(|line| line.contains("failed at") || line.contains("assertion")).collect();
        bail!("{}: {}", finished.status, told.join(" / "));
    }
    let passed = text.lines().any(|line| line.contains(&format!("{number}_")) && line.contains("PASSED"));
    ensure!(passed, "nothing ran: {}", finished.tail());
    Ok(())
}
