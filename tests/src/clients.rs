//! The client programs of `tests/clients`, one per language, and how each is run against a broker.
//!
//! Each program runs named checks, prints `ok NAME` or `FAILED NAME: why` for each, and ends with failure when one
//! failed. The same program runs against ours and against Kafka, one node or several: `CHECK_NODES` says how many there are
//! (1 by default). With `CHECK_RESTARTS` set nodes are restarted meanwhile. Then a program writes as somebody does who
//! wants each record once: idempotent, with `acks=all`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::broker::Settings;
use crate::served::Served;
use crate::{install, places, process, toolchain};

/// Enough for all checks of one program on a busy machine.
const PROGRAM_LIMIT: Duration = Duration::from_secs(420);

/// One client library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Java,
    PythonConfluent,
    PythonKafka,
    NodeKafkajs,
    GoFranz,
    GoSarama,
}

impl Client {
    pub const ALL: [Self; 6] =
        [Self::Java, Self::PythonConfluent, Self::PythonKafka, Self::NodeKafkajs, Self::GoFranz, Self::GoSarama];

    fn toolchain(self) -> &'static [&'static str] {
        match self {
            Self::Java => &["java", "javac", "mvn"],
            Self::PythonConfluent | Self::PythonKafka => &["python3"],
            Self::NodeKafkajs => &["node", "npm"],
            Self::GoFranz | Self::GoSarama => &["go"],
        }
    }

    /// Whether its toolchain is here; see [`toolchain::require`].
    pub fn is_available(self) -> Result<bool> {
        toolchain::require(&format!("the client program {self:?}"), self.toolchain())
    }

    /// Installs what the program needs and returns the command that runs it, without its arguments.
    pub fn command(self) -> Result<Command> {
        let sources = places::client_sources();
        Ok(match self {
            Self::Java => install::java::installed()?.command("Check"),
            Self::PythonConfluent | Self::PythonKafka => {
                let script = if self == Self::PythonKafka { "check_kafka_python.py" } else { "check_confluent.py" };
                let mut python = install::python::installed()?.command();
                python.env("PYTHONDONTWRITEBYTECODE", "1").arg(sources.join("python").join(script));
                python
            }
            Self::NodeKafkajs => {
                let mut node = Command::new("node");
                node.arg(install::node::installed()?.join("check.js"));
                node.env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
                node
            }
            Self::GoFranz => Command::new(install::go::installed("franz")?),
            Self::GoSarama => Command::new(install::go::installed("sarama")?),
        })
    }

    /// The command that runs the client's writers and readers, without its options; see `tests/clients/history.md`.
    /// Only of clients that have such a program.
    pub fn history_command(self) -> Result<Command> {
        Ok(match self {
            Self::Java => install::java::installed()?.command("History"),
            Self::PythonConfluent => {
                let mut python = install::python::installed()?.command();
                let script = places::client_sources().join("python/history.py");
                python.env("PYTHONDONTWRITEBYTECODE", "1").arg(script);
                python
            }
            Self::GoFranz => {
                let mut franz = self.command()?;
                franz.arg("history");
                franz
            }
            Self::PythonKafka | Self::NodeKafkajs | Self::GoSarama => bail!("{self:?} writes no histories"),
        })
    }

    /// Runs all checks against a fresh broker of the peer that the environment names.
    pub fn check(self) -> Result<()> {
        if !self.is_available()? {
            return Ok(());
        }
        // Installing it takes its time before there is a broker.
        self.command()?;
        let mut broker = Settings::new()?.start()?;
        match self.try_on(&broker.served(), "check") {
            Ok(()) => broker.assert_healthy(),
            Err(error) => Err(error.context(format!("the broker's log ends with\n{}", broker.log_tail()))),
        }
    }

    /// Runs all checks against what is served, with topics and groups under a prefix.
    pub fn try_on(self, served: &Served, prefix: &str) -> Result<()> {
        let mut command = self.command()?;
        served.tell(&mut command);
        command.args([served.bootstrap.as_str(), prefix]);
        let finished = process::finish(&mut command, None, PROGRAM_LIMIT)?;
        let output = finished.text();
        let lines = |start: &str| output.lines().filter(|line| line.starts_with(start)).count();
        let (passed, failed) = (lines("ok "), lines("FAILED "));
        ensure!(
            finished.status.success() && failed == 0 && passed > 0,
            "{self:?}: {passed} checks passed, {failed} failed, {}\n{}",
            finished.status,
            finished.tail()
        );
        Ok(())
    }
}
