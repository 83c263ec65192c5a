//! Several nodes of ours as processes: started with the flags that people use, killed, stopped, paused, emptied.
//!
//! Keeps true: each node has a host of its own where the machine allows it ([`Network`]), else a port; all processes
//! end with this value, and their logs are shown when the test that owns it panics or asks.

mod node;
mod status;

pub use node::Node;
pub use status::{NodeLine, ShardLine, Status};

use std::env;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::broker::{free_port, rosettamq_binary};
use crate::network::{Host, Network};
use crate::process::{self, Finished};
use crate::served::Served;

/// A cluster that does not settle in this time will not.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(120);
const COMMAND_LIMIT: Duration = Duration::from_secs(40);

/// What the nodes are started with.
#[derive(Debug, Default)]
pub struct Settings {
    /// Where links can be cut; without one all nodes are on the loopback interface.
    pub network: Option<Network>,
    /// Further flags for all nodes.
    pub flags: Vec<String>,
    /// Nodes, by place, whose data is on a disk of so many megabytes.
    pub small_disks: Vec<(usize, u32)>,
    /// The library that gives nodes slow disks and wrong clocks, if they are to have them.
    pub preload: Option<PathBuf>,
    /// Another build than the one under test, for the nodes that are there from the start.
    pub program: Option<PathBuf>,
}

/// The nodes, by place. A place keeps its address, whatever node is there.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub network: Option<Network>,
    flags: Vec<String>,
    preload: Option<PathBuf>,
    program: Option<PathBuf>,
    home: TempDir,
}

impl Cluster {
    /// Starts `count` nodes that all have the same list to join, and waits until they are one cluster.
    pub fn start(count: usize, settings: Settings) -> Result<Self> {
        let mut cluster = Self::prepare(count, settings)?;
        for node in &mut cluster.nodes {
            node.spawn()?;
        }
        for node in &mut cluster.nodes {
            node.wait_ready()?;
        }
        cluster.wait_settled(SETTLE_LIMIT)?;
        Ok(cluster)
    }

    /// A node that nobody has told of clusters, and that is not started yet: its data may be put in place.
    pub fn prepare_lone(settings: Settings) -> Result<Self> {
        let mut cluster = Self::prepare(1, settings)?;
        cluster.nodes[0].set_lone();
        Ok(cluster)
    }

    fn prepare(count: usize, mut settings: Settings) -> Result<Self> {
        // For a look at a run that failed, `TEST_KEEP` leaves every folder.
        let is_kept = env::var_os("TEST_KEEP").is_some();
        let home = tempfile::Builder::new().prefix("cluster-").disable_cleanup(is_kept).tempdir()?;
        let mut addresses = Vec::new();
        for _ in 0..count {
            addresses.push(place_addresses(&mut settings.network)?);
        }
        let join: Vec<SocketAddr> = addresses.iter().map(|(_, internal)| *internal).collect();
        let mut cluster = Self {
            nodes: Vec::new(),
            network: settings.network,
            flags: settings.flags,
            preload: settings.preload,
            program: settings.program,
            home,
        };
        for (place, addresses) in addresses.into_iter().enumerate() {
            let megabytes = settings.small_disks.iter().find(|(of, _)| *of == place).map(|(_, megabytes)| *megabytes);
            let node = cluster.new_node(place, addresses, &join, megabytes)?;
            cluster.nodes.push(node);
        }
        // Whoever comes later is of the build under test.
        cluster.program = None;
        Ok(cluster)
    }

    fn new_node(
        &self,
        place: usize,
        (kafka, internal): (SocketAddr, SocketAddr),
        join: &[SocketAddr],
        megabytes: Option<u32>,
    ) -> Result<Node> {
        let wrapper = self.network.as_ref().map(|network| network.wrapper(place)).unwrap_or_default();
        let home = self.home.path().join(format!("n{}", place + 1));
        Node::new(
            node::Plan {
                home,
                wrapper,
                kafka,
                internal,
                join: join.to_vec(),
                flags: self.flags.clone(),
                program: self.program.clone(),
                preload: self.preload.clone(),
                is_lone: false,
            },
            megabytes,
        )
    }

    /// Starts one more node, which is told of the others.
    pub fn add(&mut self) -> Result<usize> {
        let addresses = place_addresses(&mut self.network)?;
        let join: Vec<SocketAddr> = self.nodes.iter().map(|node| node.internal()).collect();
        self.add_with(addresses, &join)
    }

    /// Starts one more node, which founds a cluster of its own.
    pub fn add_apart(&mut self) -> Result<usize> {
        let addresses = place_addresses(&mut self.network)?;
        self.add_with(addresses, &[addresses.1])
    }

    fn add_with(&mut self, addresses: (SocketAddr, SocketAddr), join: &[SocketAddr]) -> Result<usize> {
        let place = self.nodes.len();
        let mut node = self.new_node(place, addresses, join, None)?;
        node.spawn()?;
        node.wait_ready()?;
        self.nodes.push(node);
        Ok(place)
    }

    /// Where logs and data are.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// For clients: every node's address.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.kafka().to_string()).collect();
        addresses.join(",")
    }

    /// What clients are told of it while nodes are restarted, or are not.
    pub fn served(&self, restarts: bool) -> Served {
        Served { bootstrap: self.bootstrap(), nodes: self.nodes.len(), restarts }
    }

    /// Places whose process runs and is not paused.
    pub fn running(&mut self) -> Vec<usize> {
        let nodes = self.nodes.iter_mut().enumerate();
        nodes.filter_map(|(place, node)| (node.is_running() && !node.is_paused()).then_some(place)).collect()
    }

    /// `rosettamq cluster` with these words, at the node of one place.
    pub fn operate_at(&self, place: usize, words: &[&str]) -> Result<Finished> {
        let mut command = Command::new(rosettamq_binary()?);
        command.arg("cluster").args(words).args([
            "--timeout",
            "10s",
            "--node",
            &self.nodes[place].internal().to_string(),
        ]);
        process::finish(&mut command, None, COMMAND_LIMIT)
    }

    /// The same at the first node that does it; the last refusal if none does.
    pub fn operate(&mut self, words: &[&str]) -> Result<String> {
        let mut refusal = "no node runs".to_owned();
        for place in self.running() {
            let finished = self.operate_at(place, words)?;
            if finished.status.success() {
                return Ok(finished.text());
            }
            refusal = finished.stderr;
        }
        bail!("cluster {}: {refusal}", words.join(" "))
    }

    pub fn status(&mut self) -> Result<Status> {
        Status::parse(&self.operate(&["status"])?)
    }

    /// Waits until every place's node is live, no others are there, and every shard is where it should be, led, on as
    /// many nodes as it can be; all this as each node sees it.
    pub fn wait_settled(&mut self, limit: Duration) -> Result<()> {
        let began = Instant::now();
        let expected: Vec<String> = self.nodes.iter().map(|node| node.internal().to_string()).collect();
        loop {
            let mut seen = Vec::new();
            for place in self.running() {
                let finished = self.operate_at(place, &["status"])?;
                seen.push(if finished.status.success() { finished.text() } else { finished.stderr });
            }
            let is_settled = |text: &String| Status::parse(text).is_ok_and(|status| status.is_settled(&expected));
            if seen.len() == expected.len() && seen.iter().all(is_settled) {
                return Ok(());
            }
            if began.elapsed() > limit {
                bail!("not settled within {limit:?}:\n{}\n{}", seen.join("\n"), self.log_tails());
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// The id of the node at a place.
    pub fn id(&mut self, place: usize) -> Result<u64> {
        let address = self.nodes[place].internal().to_string();
        let status = self.status()?;
        let line = status.nodes.iter().rev().find(|line| line.address == address);
        Ok(line.with_context(|| format!("no node at {address}:\n{status:?}"))?.id)
    }

    /// The place of a node.
    pub fn place_of(&self, status: &Status, id: u64) -> Option<usize> {
        let address = &status.nodes.iter().find(|line| line.id == id)?.address;
        self.nodes.iter().position(|node| node.internal().to_string() == *address)
    }

    /// Moves everything away from a node, running or not, and removes it.
    pub fn drain_and_remove(&mut self, id: u64, limit: Duration) -> Result<()> {
        let began = Instant::now();
        let id = id.to_string();
        // Right after a change of leader a command may find nobody who takes it.
        for words in [["drain", id.as_str()], ["remove", id.as_str()]] {
            loop {
                let Err(error) = self.operate(&words) else { break };
                if began.elapsed() > limit {
                    let status = self.operate(&["status"]);
                    return Err(error.context(format!("not within {limit:?}; the last status is\n{status:?}")));
                }
                thread::sleep(Duration::from_millis(200));
            }
        }
        Ok(())
    }

    /// The last place, whose node was removed from the cluster before, goes with its process, its data and its host.
    pub fn forget_last(&mut self) -> Result<()> {
        let mut node = self.nodes.pop().context("no node is there")?;
        node.erase()?;
        self.network.as_mut().map_or(Ok(()), Network::remove_last_host)
    }

    /// All run, and no log tells of a panic.
    pub fn assert_healthy(&mut self) -> Result<()> {
        for (place, node) in self.nodes.iter_mut().enumerate() {
            ensure!(node.is_running(), "the node at place {place} is gone\n{}", node.log_tail());
        }
        self.assert_no_panics()
    }

    pub fn assert_no_panics(&self) -> Result<()> {
        for (place, node) in self.nodes.iter().enumerate() {
            let log = node.log();
            if let Some(line) = log.lines().find(|line| line.contains("panicked at") || line.contains("panic:")) {
                bail!("the log of place {place} tells of a panic: {line}\n{}", node.log_tail());
            }
        }
        Ok(())
    }

    /// The ends of all logs.
    pub fn log_tails(&self) -> String {
        let mut tails = String::new();
        for (place, node) in self.nodes.iter().enumerate() {
            let _infallible = writeln!(tails, "--- the log of place {place}\n{}\n---", node.log_tail());
        }
        tails
    }

    /// Copies the logs to a folder that stays.
    pub fn save_logs(&self, folder: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        for (place, node) in self.nodes.iter().enumerate() {
            std::fs::write(folder.join(format!("n{}.log", place + 1)), node.log())?;
        }
        Ok(folder.to_path_buf())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            let _closed = std::io::Write::write_all(&mut std::io::stderr(), self.log_tails().as_bytes());
        }
        for node in &mut self.nodes {
            let _gone = node.kill();
        }
    }
}

/// Kafka's and the internal address of one more node.
fn place_addresses(network: &mut Option<Network>) -> Result<(SocketAddr, SocketAddr)> {
    if let Some(network) = network {
        let place = network.add_host()?;
        let address = network.address(Host::Node(place)).into();
        return Ok((SocketAddr::new(address, 9092), SocketAddr::new(address, 9190)));
    }
    let local = || Ok::<_, anyhow::Error>(SocketAddr::from(([127, 0, 0, 1], free_port()?)));
    Ok((local()?, local()?))
}
