//! Faults on a cluster at work, from a schedule that a seed decides, and what became of the clients' records.
//!
//! Keeps true: one fault at a time, ended before the next begins; what would rightly lose data, such as emptying a
//! second disk before the first is replaced, is not done; a run ends in bounded time, whatever the cluster does.

mod bars;
mod fault;
mod lasting;
mod links;
mod machine;
mod members;
mod report;
mod wreck;

pub use fault::Kind;
pub use report::{Report, Window};

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use self::bars::Wanted;
use crate::checker;
use crate::cluster::{Cluster, Settings};
use crate::install;
use crate::ledger::Chance;
use crate::network::Network;
use crate::toolchain;
use crate::workload::{Plan as Load, Workload, now_ms};

/// After a fault every client must get acknowledgements again in this time.
const RECOVERY_LIMIT: Duration = Duration::from_secs(120);
/// A disk of this size becomes full; all that a run writes fits on it.
const DISK_MEGABYTES: u32 = 4096;
const DISK_BYTES: u64 = (DISK_MEGABYTES as u64) << 20;
/// Flags of the nodes: small files, so that some end and begin in a short run.
const FLAGS: [&str; 4] = ["--segment-bytes", "16MiB", "--reserve-bytes", "64MiB"];

/// Around what must not be overlooked.
const BAR: &str = "!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!";

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    /// How long faults are made. Starting and ending come on top of it.
    pub duration: Duration,
    /// Which faults there may be; those that the machine or the number of nodes does not allow are left out.
    pub kinds: Vec<Kind>,
    /// How long a fault lasts, shortest and longest.
    pub hold: (Duration, Duration),
    /// From a recovery to the next fault, shortest and longest.
    pub pause: (Duration, Duration),
    /// After so much time comes a calm one.
    pub calm_every: Duration,
    pub calm: Duration,
    /// How long copies may take to be whole again: longer, the more there is to copy.
    pub settle_limit: Duration,
    pub load: Load,
    /// Where logs and histories are kept when something was wrong.
    pub keep: Option<PathBuf>,
}

/// Does a whole run; `say` gets a line for all that is done.
pub fn run(plan: Plan, say: &mut dyn FnMut(&str)) -> Result<Report> {
    let network = Network::open()?;
    if network.is_none() {
        toolchain::missing_is("links that are cut", "root, or iproute2")?;
    }
    let settings = Settings {
        network,
        flags: FLAGS.map(str::to_owned).into(),
        small_disks: vec![(plan.nodes - 1, DISK_MEGABYTES)],
        preload: install::preload::installed()?,
        program: None,
    };
    say(&format!("seed {}: {} nodes", plan.seed, plan.nodes));
    let cluster = Cluster::start(plan.nodes, settings)?;
    let load = Workload::start(plan.load.clone(), &cluster.bootstrap(), cluster.home())?;
    let chance = Chance::new(plan.seed);
    let mut run = Run { plan, cluster, load, chance, began: Instant::now(), windows: Vec::new(), say };
    let wanted = run.wanted();
    run.tell_left_out(&wanted);
    let mut trouble = Vec::new();
    if let Err(error) = run.work() {
        run.tell(&format!("it did not go on: {error:#}"));
        trouble.push(format!("{error:#}"));
    }
    // Whatever it was, the cluster gets a last chance to be well.
    if let Err(error) = run.repair() {
        trouble.push(format!("{error:#}"));
    }
    run.end(trouble, wanted)
}

struct Run<'a> {
    plan: Plan,
    cluster: Cluster,
    load: Workload,
    chance: Chance,
    began: Instant,
    windows: Vec<Window>,
    say: &'a mut dyn FnMut(&str),
}

impl Run<'_> {
    fn tell(&mut self, text: &str) {
        (self.say)(&format!("[{:7.1} s] {text}", self.began.elapsed().as_secs_f64()));
    }

    fn work(&mut self) -> Result<()> {
        self.load.wait_acked(20, RECOVERY_LIMIT)?;
        self.began = Instant::now();
        self.calm()?;
        let mut calm_at = self.began + self.plan.calm_every;
        let mut deck: Vec<Kind> = Vec::new();
        while self.began.elapsed() < self.plan.duration {
            if Instant::now() >= calm_at {
                self.calm()?;
                calm_at = Instant::now() + self.plan.calm_every;
            }
            // All kinds once before any comes again.
            if deck.is_empty() {
                deck = self.possible();
                ensure!(!deck.is_empty(), "none of {:?} is possible here", self.plan.kinds);
            }
            let drawn = self.pick(deck.len());
            let kind = deck.swap_remove(drawn);
            self.once(kind).with_context(|| format!("{kind:?}"))?;
            let pause = self.between(self.plan.pause);
            thread::sleep(pause);
        }
        self.calm()
    }

    /// The wanted kinds that these nodes on this machine allow.
    fn possible(&self) -> Vec<Kind> {
        let is_possible = |kind: &Kind| self.has_nodes_for(*kind) && self.lacks(*kind).is_none();
        self.plan.kinds.iter().copied().filter(is_possible).collect()
    }

    fn has_nodes_for(&self, kind: Kind) -> bool {
        self.plan.nodes >= kind.nodes_min()
    }

    /// What this machine lacks to do a fault.
    fn lacks(&self, kind: Kind) -> Option<&'static str> {
        let nodes = &self.cluster.nodes;
        match kind {
            _ if kind.needs_network() && self.cluster.network.is_none() => {
                Some("hosts with links of their own: root, or iproute2")
            }
            Kind::Delay if !self.cluster.network.as_ref().is_some_and(Network::can_delay) => {
                Some("netem in its kernel")
            }
            Kind::FullDisk if !nodes.iter().any(|node| node.disk().is_some()) => Some("a small disk: root"),
            _ if kind.needs_preload() && nodes.iter().any(|node| node.mishaps().is_none()) => Some("a compiler: cc"),
            _ => None,
        }
    }

    fn left_out(&self) -> Vec<(Kind, &'static str)> {
        let kinds = self.plan.kinds.iter().filter(|kind| self.has_nodes_for(**kind));
        kinds.filter_map(|kind| Some((*kind, self.lacks(*kind)?))).collect()
    }

    fn tell_left_out(&mut self, wanted: &Wanted) {
        let few: Vec<Kind> = self.plan.kinds.iter().copied().filter(|kind| !self.has_nodes_for(*kind)).collect();
        if !few.is_empty() {
            self.tell(&format!("{} nodes are too few for {few:?}", self.plan.nodes));
        }
        if !wanted.left_out.is_empty() {
            let lines: String =
                wanted.left_out.iter().map(|(kind, lacks)| format!("\n!! {kind:?}: missing {lacks}")).collect();
            self.tell(&format!("\n{BAR}\n!! LEFT OUT, this machine cannot do it:{lines}\n{BAR}"));
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            duration: self.plan.duration,
            is_of_all_kinds: Kind::ALL.iter().all(|kind| self.plan.kinds.contains(kind)),
            kinds: self.possible(),
            left_out: self.left_out(),
            needs_left_out: toolchain::is_ci(),
        }
    }

    /// One fault from its beginning until all clients get on again.
    fn once(&mut self, kind: Kind) -> Result<()> {
        if kind.needs_all() {
            self.cluster.wait_settled(self.plan.settle_limit)?;
        }
        let from_ms = now_ms();
        let acked = self.load.acked();
        self.inflict(kind)?;
        self.look_after_processes()?;
        self.load.wait_acked(5, RECOVERY_LIMIT)?;
        self.windows.push(Window { kind: Some(kind), from_ms, to_ms: now_ms() });
        let acked = self.load.acked() - acked;
        self.tell(&format!("recovered from {kind:?}; {acked} acknowledged meanwhile"));
        Ok(())
    }

    /// A time without faults in which everything must go well.
    fn calm(&mut self) -> Result<()> {
        self.cluster.wait_settled(self.plan.settle_limit)?;
        let status = self.cluster.operate(&["status"])?;
        self.tell(&format!("calm\n{status}"));
        let from_ms = now_ms();
        thread::sleep(self.plan.calm);
        self.windows.push(Window { kind: None, from_ms, to_ms: now_ms() });
        Ok(())
    }

    /// A process that ended by itself is an error of the broker.
    fn look_after_processes(&mut self) -> Result<()> {
        for (place, node) in self.cluster.nodes.iter_mut().enumerate() {
            ensure!(node.is_running(), "the node at place {place} ended by itself\n{}", node.log_tail());
        }
        Ok(())
    }

    /// Everything that was done is undone.
    fn repair(&mut self) -> Result<()> {
        if let Some(network) = &mut self.cluster.network {
            network.heal()?;
        }
        for node in &mut self.cluster.nodes {
            if let Some(mishaps) = node.mishaps() {
                mishaps.end()?;
            }
            if node.is_paused() {
                node.resume()?;
            }
            if let Some(disk) = node.disk() {
                disk.resize(DISK_BYTES)?;
            }
            if !node.is_running() {
                node.kill()?;
                node.spawn()?;
                node.wait_ready()?;
            }
        }
        self.load.wait_acked(5, RECOVERY_LIMIT)
    }

    fn end(mut self, mut trouble: Vec<String>, wanted: Wanted) -> Result<Report> {
        self.tell("writers finish, readers read to the end");
        let outcome = self.load.finish();
        let (history, more) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                save(&self.cluster, self.plan.keep.as_ref())?;
                return Err(error);
            }
        };
        trouble.extend(more);
        if let Err(error) = self.cluster.assert_no_panics() {
            trouble.push(format!("{error:#}"));
        }
        let verdict = checker::check(&history);
        let report = Report::new(&history, self.windows, verdict, trouble, wanted);
        if !report.is_good() {
            save(&self.cluster, self.plan.keep.as_ref())?;
        }
        Ok(report)
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.chance.number() % u64::try_from(count.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn between(&mut self, (low, high): (Duration, Duration)) -> Duration {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.chance.between(ms(low), ms(high)))
    }
}

fn save(cluster: &Cluster, keep: Option<&PathBuf>) -> Result<()> {
    let Some(keep) = keep else { return Ok(()) };
    cluster.save_logs(keep)?;
    let (from, to) = (cluster.home().join("histories"), keep.join("histories"));
    std::fs::create_dir_all(&to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
