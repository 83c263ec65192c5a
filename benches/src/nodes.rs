//! Several nodes of one side as a cluster on this machine: ours, or Kafka's with three replicas of which two must be
//! in sync, as its own operators run it.
//!
//! Keeps true: every cluster begins with empty folders, removed afterwards; `start` and `settle` return when all
//! replicas are where they belong; a process ends with its value.

mod kafka;
mod ours;

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::broker::{answers, free_port};
use tests::process;

use crate::load::{Topology, ensure_replicated};
use crate::measure::{Usage, page_cache_sync};
use crate::peers::{Plan, Side, run_load};

const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_LIMIT: Duration = Duration::from_secs(180);

/// Replicas of every topic.
const REPLICAS: i16 = 3;

/// One process and its folder.
#[derive(Debug)]
struct Node {
    child: Option<Child>,
    home: PathBuf,
    /// For clients.
    port: u16,
    /// For other nodes, or Kafka's controllers.
    inner_port: u16,
}

/// A cluster under measurement.
#[derive(Debug)]
pub(crate) struct Nodes {
    side: Side,
    home: PathBuf,
    nodes: Vec<Node>,
    /// Data shards that each of our nodes brings; the default when absent.
    shards: Option<u32>,
}

impl Nodes {
    /// Three nodes; Java's are warmed with a million records first.
    pub(crate) fn start(plan: &Plan, side: Side) -> Result<Self> {
        let nodes = Self::start_cold(plan, side, 3, None)?;
        if side != Side::Ours {
            let bytes = (plan.pick(1_000_000_u64, 20_000) * 100).to_string();
            nodes.run(
                "replicated",
                &["--topic", "warm", "--record-bytes", "100", "--seconds", "120", "--bytes", &bytes],
            )?;
        }
        Ok(nodes)
    }

    /// So many nodes, of which nothing is asked.
    pub(crate) fn start_cold(plan: &Plan, side: Side, count: usize, shards: Option<u32>) -> Result<Self> {
        let home = plan.dir.join(format!("{side:?}-nodes"));
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        page_cache_sync()?;
        let mut nodes = Vec::new();
        for number in 1..=count {
            let home = home.join(number.to_string());
            fs::create_dir_all(&home)?;
            nodes.push(Node { child: None, home, port: free_port()?, inner_port: free_port()? });
        }
        let mut cluster = Self { side, home, nodes, shards };
        for place in 0..count {
            cluster.spawn(place)?;
        }
        for place in 0..count {
            cluster.wait_ready(place)?;
        }
        cluster.settle()?;
        Ok(cluster)
    }

    fn spawn(&mut self, place: usize) -> Result<()> {
        ensure!(self.nodes[place].child.is_none(), "the node runs already");
        let mut command = match self.side {
            Side::Ours => ours::command(&self.nodes, place, self.shards)?,
            Side::Kafka | Side::KafkaFlushing => kafka::command(&self.nodes, place, self.side)?,
        };
        let node = &mut self.nodes[place];
        let log = File::options().create(true).append(true).open(node.home.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        node.child = Some(command.spawn().context("starting a node")?);
        Ok(())
    }

    fn wait_ready(&mut self, place: usize) -> Result<()> {
        let log = self.log(place);
        let node = &mut self.nodes[place];
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, node.port));
        process::wait_until("a node that answers", START_LIMIT, || {
            if let Some(child) = &mut node.child
                && child.try_wait()?.is_some()
            {
                bail!("a node ended instead of starting\n{log}");
            }
            Ok(answers(address))
        })
    }

    /// Starts a node that was killed or stopped, on what it has.
    pub(crate) fn restart(&mut self, place: usize) -> Result<()> {
        self.spawn(place)?;
        self.wait_ready(place)
    }

    /// Waits until all nodes know each other and every shard is where it should be, led by the one that should.
    pub(crate) fn settle(&self) -> Result<()> {
        process::wait_until("a cluster that is settled", SETTLE_LIMIT, || {
            for node in &self.nodes {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, node.port));
                match Topology::of(&[address], "warm") {
                    Ok(topology) if topology.addresses.len() == self.nodes.len() => {}
                    _ => return Ok(false),
                }
            }
            if self.side != Side::Ours {
                return Ok(true);
            }
            Ok(self.status().is_ok_and(|status| self.is_settled(&status)))
        })
        .with_context(|| self.status().unwrap_or_default())
    }

    fn is_settled(&self, status: &str) -> bool {
        let shards = ours::shards(status);
        let each = self
            .shards
            .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), |count| count as usize);
        shards.len() == self.nodes.len() * each
            && shards.iter().all(|shard| shard.state == "settled" && shard.wanted.first() == Some(&shard.leader))
    }

    /// Waits until every partition of a topic has all replicas in sync, and with Kafka its first leader again.
    pub(crate) fn settle_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        self.settle()?;
        ensure_replicated(&self.servers(), topic, partitions, REPLICAS)?;
        if self.side != Side::Ours {
            kafka::elect_preferred(&self.servers())?;
        }
        Ok(())
    }

    /// What `rosettamq cluster status` prints.
    pub(crate) fn status(&self) -> Result<String> {
        self.operate(&["status"])
    }

    /// Runs a command of `rosettamq cluster` at the first node that runs.
    pub(crate) fn operate(&self, words: &[&str]) -> Result<String> {
        ensure!(self.side == Side::Ours, "only ours is operated so");
        let node = self.nodes.iter().find(|node| node.child.is_some()).context("no node runs")?;
        let mut command = ours::operate(node)?;
        Ok(process::run(command.args(words), Duration::from_secs(40))?.text())
    }

    pub(crate) fn shards(&self) -> Result<Vec<ours::Shard>> {
        Ok(ours::shards(&self.status()?))
    }

    pub(crate) fn servers(&self) -> String {
        let servers: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        servers.join(",")
    }

    /// The places of the nodes by the id that clients know.
    pub(crate) fn place_of(&self, id: i32) -> Result<usize> {
        let topology = self.topology("warm")?;
        let address = topology.addresses.get(&id).context("a node that is not known")?;
        let place = self.nodes.iter().position(|node| node.port == address.port());
        place.with_context(|| format!("no node has the address {address}"))
    }

    pub(crate) fn topology(&self, topic: &str) -> Result<Topology> {
        let addresses: Vec<SocketAddr> =
            self.nodes.iter().map(|node| SocketAddr::from((Ipv4Addr::LOCALHOST, node.port))).collect();
        Topology::of(&addresses, topic)
    }

    /// The command of one load against this cluster.
    pub(crate) fn load(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["load", name, "--servers", &self.servers()]).args(arguments);
        Ok(command)
    }

    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Result<Value> {
        run_load(&mut self.load(name, arguments)?).with_context(|| self.tails())
    }

    /// What all nodes used so far.
    pub(crate) fn usage(&self) -> Result<Vec<Usage>> {
        self.nodes.iter().map(|node| Usage::of(pid_of(node)?)).collect()
    }

    /// Processor seconds of all nodes since `before`.
    pub(crate) fn cpu_since(&self, before: &[Usage]) -> Result<f64> {
        Ok(self.usage()?.iter().zip(before).map(|(after, before)| after.cpu_s - before.cpu_s).sum())
    }

    /// Resident memory of each node now, in bytes.
    pub(crate) fn memory(&self) -> Result<Vec<u64>> {
        self.nodes.iter().map(|node| Usage::memory(pid_of(node)?)).collect()
    }

    /// SIGKILL, and the process is gone when this returns.
    pub(crate) fn kill(&mut self, place: usize) -> Result<()> {
        if let Some(mut child) = self.nodes[place].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and the process is gone when this returns.
    pub(crate) fn stop(&mut self, place: usize) -> Result<()> {
        self.signal(place, Signal::TERM)?;
        let mut child = self.nodes[place].child.take().context("a node that does not run")?;
        if process::wait(&mut child, STOP_LIMIT)?.is_none() {
            child.kill()?;
            child.wait()?;
            bail!("SIGTERM did not end a node within {STOP_LIMIT:?}\n{}", self.log(place));
        }
        Ok(())
    }

    pub(crate) fn signal(&self, place: usize, signal: Signal) -> Result<()> {
        let pid = i32::try_from(pid_of(&self.nodes[place])?)?;
        kill_process(Pid::from_raw(pid).context("a process id is not zero")?, signal)?;
        Ok(())
    }

    /// How often nodes of ours became the leader of a shard, as their logs say.
    pub(crate) fn elections(&self) -> usize {
        let elected = |place: usize| self.log(place).matches("this node leads the shard").count();
        (0..self.nodes.len()).map(elected).sum()
    }

    pub(crate) fn log(&self, place: usize) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(self.nodes[place].home.join("log")) {
            let _closed = file.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn tails(&self) -> String {
        let tail = |place: usize| {
            let log = self.log(place);
            let lines: Vec<&str> = log.lines().collect();
            format!("node {}:\n{}\n", place + 1, lines[lines.len().saturating_sub(20)..].join("\n"))
        };
        (0..self.nodes.len()).map(tail).collect()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for place in 0..self.nodes.len() {
            let _continued = self.signal(place, Signal::CONT);
            let _gone = self.kill(place);
        }
        // For a look at the logs of a row that failed.
        if std::env::var_os("BENCH_KEEP").is_none() {
            let _removed = fs::remove_dir_all(&self.home);
        }
    }
}

fn pid_of(node: &Node) -> Result<u32> {
    Ok(node.child.as_ref().context("a node that does not run")?.id())
}
