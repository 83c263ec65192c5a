//! All that clients are tried with, against three nodes that are restarted in turn.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::thread;

use anyhow::{Result, ensure};

use super::{Restart, Restarts, Rhythm};
use crate::clients::Client;
use crate::cluster::{Cluster, Settings};
use crate::foreign::{KafkaPython, Librdkafka};
use crate::places;
use crate::served::Served;
use crate::toolchain;
use crate::tools::{JavaTools, Kcat};

const NODES: usize = 3;

/// What is run against one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// The client programs of all languages, at the same time.
    Programs,
    Kcat,
    JavaTools,
    KafkaPython,
    Librdkafka,
    /// Those of its tests whose groups wait for their members.
    LibrdkafkaDelayed,
}

/// Runs all of a suite against what is served, with names under a prefix; what failed.
type Run = dyn FnMut(&Served, &str) -> Result<Vec<String>>;

/// A suite, installed, with the settings of the nodes that it needs.
struct Prepared {
    run: Box<Run>,
    flags: Vec<String>,
}

impl Suite {
    pub const ALL: [Self; 6] =
        [Self::Programs, Self::Kcat, Self::JavaTools, Self::KafkaPython, Self::Librdkafka, Self::LibrdkafkaDelayed];

    /// Suites of others write without idempotence and try no request of an administrator again. A node that is stopped answers
    /// what it has taken; one that is killed leaves them with records that are there twice, and with requests that failed.
    fn stands_kills(self) -> bool {
        matches!(self, Self::Programs | Self::Kcat | Self::JavaTools)
    }

    /// Nothing where its toolchain is missing.
    fn prepare(self) -> Result<Option<Prepared>> {
        let no_delay = Librdkafka::flags(false);
        Ok(match self {
            Self::Programs => {
                let mut clients = Vec::new();
                for client in Client::ALL {
                    if client.is_available()? {
                        client.command()?;
                        clients.push(client);
                    }
                }
                let run = move |served: &Served, prefix: &str| Ok(at_once(&clients, served, prefix));
                Some(Prepared { run: Box::new(run), flags: no_delay })
            }
            Self::Kcat => {
                let run = |served: &Served, prefix: &str| {
                    Ok(Kcat::new(served.clone(), prefix)?.map_or_else(Vec::new, |kcat| kcat.check_all()))
                };
                Some(Prepared { run: Box::new(run), flags: no_delay })
            }
            Self::JavaTools => {
                let run = |served: &Served, prefix: &str| {
                    Ok(JavaTools::new(served.clone(), prefix)?.map_or_else(Vec::new, |tools| tools.check_all()))
                };
                Some(Prepared { run: Box::new(run), flags: no_delay })
            }
            Self::KafkaPython if toolchain::require("kafka-python's tests", &["python3"])? => {
                let suite = KafkaPython::open()?;
                let run = move |served: &Served, _: &str| {
                    Ok(suite.run(served).err().map(|error| format!("{error:#}")).into_iter().collect())
                };
                Some(Prepared { run: Box::new(run), flags: [no_delay, KafkaPython::flags()].concat() })
            }
            Self::Librdkafka | Self::LibrdkafkaDelayed
                if toolchain::require("librdkafka's tests", &["cc", "c++", "make", "java", "mvn"])? =>
            {
                let (suite, is_delayed) = (Librdkafka::open()?, self == Self::LibrdkafkaDelayed);
                let run = move |served: &Served, _: &str| suite.run(served, is_delayed);
                Some(Prepared { run: Box::new(run), flags: Librdkafka::flags(is_delayed) })
            }
            Self::KafkaPython | Self::Librdkafka | Self::LibrdkafkaDelayed => None,
        })
    }
}

/// Runs a suite against a fresh cluster, again and again until there were so many restarts, and once at least. Returns
/// what there was to tell; everything must have passed.
pub fn run(suite: Suite, rhythm: Rhythm, restarts_min: usize) -> Result<String> {
    let Some(mut prepared) = suite.prepare()? else {
        return Ok(format!("{suite:?}: left out"));
    };
    let mut flags: Vec<String> =
        ["--segment-bytes", "16MiB", "--reserve-bytes", "16MiB", "--kafka-num-partitions", "4"]
            .map(str::to_owned)
            .into();
    // Some write records of times long ago.
    flags.extend(["--kafka-log-retention-ms", "-1"].map(str::to_owned));
    flags.append(&mut prepared.flags);
    let cluster = Cluster::start(NODES, Settings { flags, ..Settings::default() })?;
    let served = cluster.served(true);
    let kill_every = if suite.stands_kills() { rhythm.kill_every } else { 0 };
    let restarts = Restarts::begin(cluster, Rhythm { kill_every, ..rhythm });
    let (mut rounds, mut failed) = (0, Vec::new());
    while failed.is_empty() && restarts.go_on() && (rounds == 0 || restarts.count() < restarts_min) {
        match (prepared.run)(&served, &format!("round-{rounds}")) {
            Ok(told) => failed.extend(told),
            Err(error) => failed.push(format!("{error:#}")),
        }
        rounds += 1;
    }
    let done = restarts.finish(failed.is_empty(), &places::target().join("restarts").join(format!("{suite:?}")));
    // What clients saw says more than what became of the cluster.
    ensure!(failed.is_empty(), "{suite:?}, round {rounds}: {}\n{}", failed.join("\n"), shown(&done));
    let report = format!("{suite:?} passed {rounds} times\n{}", shown(&done));
    done.map(|_| report)
}

fn shown(done: &Result<Vec<Restart>>) -> String {
    match done {
        Ok(done) => done.iter().fold(String::new(), |mut text, restart| {
            let _infallible = writeln!(text, "  {restart}");
            text
        }),
        Err(error) => format!("{error:#}"),
    }
}

/// All programs at the same time; what failed.
fn at_once(clients: &[Client], served: &Served, prefix: &str) -> Vec<String> {
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for client in clients {
            let failed = &failed;
            scope.spawn(move || {
                if let Err(error) = client.try_on(served, &format!("{prefix}-{client:?}"))
                    && let Ok(mut failed) = failed.lock()
                {
                    failed.push(format!("{error:#}"));
                }
            });
        }
    });
    failed.into_inner().unwrap_or_default()
}
