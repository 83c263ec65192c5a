//! Clients at work on a cluster: the history programs of several client libraries, started, followed, ended.
//!
//! Keeps true: `finish` returns a history in which everything acknowledged was read by every reader that could, or an
//! error that says who could not.

mod program;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use program::Program;

use crate::clients::Client;
use crate::history::{History, Outcome};
use crate::process;
use crate::wire::{Connection, requests};

/// What clients may need for what is in flight when they are told to finish: their own limit and a little.
const WRITTEN_LIMIT: Duration = Duration::from_secs(170);
const READ_LIMIT: Duration = Duration::from_secs(140);

/// How much is written and read, by whom.
#[derive(Clone, Debug)]
pub struct Plan {
    pub topic: String,
    pub partitions: i32,
    pub clients: Vec<Client>,
    /// Of each client.
    pub writers: u32,
    pub readers: u32,
    pub members: u32,
    /// Records a second of each writer.
    pub rate: u32,
    pub seed: u64,
}

impl Plan {
    /// The three families of clients, as far as their toolchains are here.
    pub fn new(topic: &str, seed: u64) -> Result<Self> {
        let mut clients = Vec::new();
        for client in [Client::GoFranz, Client::Java, Client::PythonConfluent] {
            if client.is_available()? {
                clients.push(client);
            }
        }
        let topic = topic.to_owned();
        Ok(Self { topic, partitions: 6, clients, writers: 1, readers: 1, members: 1, rate: 100, seed })
    }
}

/// Programs that write and read.
#[derive(Debug)]
pub struct Workload {
    plan: Plan,
    folder: PathBuf,
    programs: Vec<Program>,
}

impl Workload {
    /// Makes the topic and starts the programs; their histories go below `folder`.
    pub fn start(plan: Plan, bootstrap: &str, folder: &Path) -> Result<Self> {
        let histories = folder.join("histories");
        std::fs::create_dir_all(&histories)?;
        // Installing takes its time, which is not the cluster's.
        let commands =
            plan.clients.iter().map(|client| Ok((*client, client.history_command()?))).collect::<Result<Vec<_>>>()?;
        make_topic(bootstrap, &plan.topic, plan.partitions)?;
        let mut programs = Vec::new();
        for (client, mut command) in commands {
            let name = program::name(client);
            for (key, value) in [
                ("servers", bootstrap.to_owned()),
                ("topic", plan.topic.clone()),
                ("partitions", plan.partitions.to_string()),
                ("dir", histories.display().to_string()),
                ("name", name.to_owned()),
                ("seed", plan.seed.to_string()),
                ("rate", plan.rate.to_string()),
                ("writers", plan.writers.to_string()),
                ("readers", plan.readers.to_string()),
                ("group", "members".to_owned()),
                ("members", plan.members.to_string()),
            ] {
                command.arg(format!("{key}={value}"));
            }
            programs.push(Program::start(name, command, &folder.join(format!("{name}.log")))?);
        }
        Ok(Self { plan, folder: histories, programs })
    }

    /// Records acknowledged so far, of all programs, as of half a second ago.
    pub fn acked(&self) -> u64 {
        self.programs.iter().map(Program::acked).sum()
    }

    /// The same by program.
    pub fn acked_by(&self) -> BTreeMap<&'static str, u64> {
        self.programs.iter().map(|program| (program.name(), program.acked())).collect()
    }

    /// Waits until every program has had so many more acknowledgements.
    pub fn wait_acked(&mut self, more: u64, limit: Duration) -> Result<()> {
        let before = self.acked_by();
        process::wait_until("acknowledgements for every client", limit, || {
            for program in &mut self.programs {
                program.assert_running()?;
            }
            Ok(self.acked_by().iter().all(|(name, acked)| acked - before[name] >= more))
        })
    }

    /// Ends all writing, waits until all that was acknowledged is read, and reads what everybody wrote down.
    pub fn finish(mut self) -> Result<(History, Vec<String>)> {
        let mut trouble = Vec::new();
        for program in &mut self.programs {
            program.say("finish")?;
        }
        for program in &mut self.programs {
            let answer = program.answer(&["written", "stuck"], WRITTEN_LIMIT)?;
            if answer != "written" {
                trouble.push(format!("{} still waits for answers: {answer}", program.name()));
            }
        }
        let ends = self.ends()?;
        let words: Vec<String> = ends.iter().map(|(partition, end)| format!("{partition}:{end}")).collect();
        for program in &mut self.programs {
            program.say(&format!("end {}", words.join(" ")))?;
        }
        for program in &mut self.programs {
            let answer = program.answer(&["read", "behind"], READ_LIMIT)?;
            if answer != "read" {
                trouble.push(format!("{} did not read to the end: {answer}\n{}", program.name(), program.log()));
            }
        }
        for program in &mut self.programs {
            program.wait_end()?;
        }
        let history = History::read(&self.folder)?;
        ensure!(history.writers.len() >= self.plan.clients.len(), "a client wrote nothing down");
        for writer in &history.writers {
            if let Some(fatal) = &writer.fatal {
                let name = history.shown(crate::history::Identity { writer: writer.id, number: 0 });
                trouble.push(format!("the writer of {name} could not go on: {fatal}"));
            }
        }
        Ok((history, trouble))
    }

    /// Ends by what writers were told; their files are whole once they have finished.
    fn ends(&self) -> Result<Vec<(i32, i64)>> {
        Ok(History::read_writers(&self.folder)?.ends())
    }
}

/// Makes a topic with as many copies as the cluster gives it, and waits for leaders.
pub fn make_topic(bootstrap: &str, topic: &str, partitions: i32) -> Result<()> {
    let mut last = None;
    process::wait_until("a topic with leaders", Duration::from_secs(60), || {
        for address in bootstrap.split(',') {
            let address: SocketAddr = address.parse()?;
            let made = Connection::open(address).and_then(|mut connection| {
                let error = requests::create_topic_replicated(&mut connection, topic, partitions, -1, &[])?;
                // It is there already after a first answer that got lost.
                ensure!([0, 36].contains(&error), "creating {topic}: error {error}");
                requests::has_leaders(&mut connection, topic, usize::try_from(partitions)?)
            });
            match made {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
        }
        Ok(false)
    })
    .map_err(|error| last.take().unwrap_or_else(|| anyhow::anyhow!("no leaders")).context(error))
}

/// The longest time in which a partition had no acknowledgement of anything sent after `from_ms`: from that moment to
/// the first one, over all partitions that had any.
pub fn gap_after(history: &History, from_ms: u64) -> Option<(i32, Duration)> {
    let mut first: BTreeMap<i32, u64> = BTreeMap::new();
    for send in history.sends() {
        let Outcome::Acked(_) = send.outcome else { continue };
        let Some(ended) = send.ended_ms.filter(|_| send.began_ms >= from_ms) else { continue };
        let earliest = first.entry(send.partition).or_insert(ended);
        *earliest = (*earliest).min(ended);
    }
    let (partition, ended) = first.into_iter().max_by_key(|(_, ended)| *ended)?;
    Some((partition, Duration::from_millis(ended - from_ms)))
}

/// The machine's clock as histories have it.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
