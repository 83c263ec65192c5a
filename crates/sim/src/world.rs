//! Everything of one run: the network, the machines, what is known and what has happened.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::net::{SimNetwork, SimNetworkOptions};
use base::random::Random;
use base::task::JoinHandle;
use base::time::Duration;
use base::trace;
use parking_lot::Mutex;
use record::ObjectKey;
use tokio::sync::watch;

use crate::client::Client;
use crate::invariants::{Invariants, Violation};
use crate::machine::Machine;
use crate::plan::{Plan, fork};

/// A run as all its parts see it.
#[derive(Debug)]
pub struct World {
    pub plan: Arc<Plan>,
    pub network: SimNetwork,
    pub machines: Vec<Arc<Machine>>,
    invariants: Mutex<Invariants>,
    counts: Mutex<Counts>,
    violation: watch::Sender<Option<String>>,
    clients: Mutex<u8>,
    topics: Mutex<Topics>,
    /// The topic that is deleted next, in a moment.
    leaving: watch::Sender<i32>,
    healed: AtomicBool,
    /// A machine has flipped bits on its disk.
    damaged: AtomicBool,
    damaged_while_it_runs: AtomicBool,
    /// Changes of members that are gone on with when the faults have ended.
    pub(crate) changes: Mutex<Vec<JoinHandle<()>>>,
}

/// Which topics there are: they follow one another.
#[derive(Debug, Default)]
struct Topics {
    /// The first that is not deleted, nor about to be.
    first: i32,
    /// The one that is written to.
    last: i32,
    /// Where each writer writes.
    written: BTreeMap<usize, i32>,
}

/// What happened, counted.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub acked_appends: u64,
    pub acked_records: u64,
    /// Of those to a topic that is compacted.
    pub acked_keyed: u64,
    pub acked_commits: u64,
    pub reads: u64,
    pub questions: u64,
    pub slow_reads: u64,
    /// Topics that were read to their end and deleted.
    pub topics: u64,
    /// How often records were deleted.
    pub deletions: u64,
    /// Segments that were used again, by machine and life.
    pub recycled: BTreeMap<(usize, u64), u64>,
    /// Objects that old ranges of logs became.
    pub objects: BTreeSet<ObjectKey>,
    /// Objects that compaction made.
    pub compacted: BTreeSet<ObjectKey>,
    /// Requests without an answer, or with one that says to try again.
    pub retries: u64,
    pub faults: BTreeMap<&'static str, u64>,
    /// What was to be a fault and came to nothing: it was refused, not answered, or changed nothing.
    pub refused: BTreeMap<&'static str, u64>,
}

impl World {
    #[must_use]
    pub fn new(plan: Plan) -> Arc<Self> {
        let plan = Arc::new(plan);
        let random = fork(plan.seed, "network");
        let latency =
            (Duration::from_micros(100 + random.below(300)), Duration::from_micros(600 + random.below(3_000)));
        let options = SimNetworkOptions {
            latency,
            bytes_per_second: (2 + random.below(50)) << 20,
            buffer_bytes: plan.socket_bytes,
        };
        let network = SimNetwork::new(random.next_u64(), options);
        let machines = (0..plan.nodes).map(|place| Machine::new(place, &plan, &network)).collect();
        Arc::new(Self {
            plan,
            network,
            machines,
            invariants: Mutex::default(),
            counts: Mutex::default(),
            violation: watch::Sender::new(None),
            clients: Mutex::default(),
            topics: Mutex::default(),
            leaving: watch::Sender::new(0),
            healed: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            damaged_while_it_runs: AtomicBool::new(false),
            changes: Mutex::default(),
        })
    }

    /// The topics that are there: the first and the last. The last is written to.
    #[must_use]
    pub fn topics(&self) -> (i32, i32) {
        let topics = self.topics.lock();
        (topics.first, topics.last)
    }

    /// From now on that topic is written to.
    pub fn begin_topic(&self, topic: i32) {
        self.topics.lock().last = topic;
    }

    /// That topic is deleted in a moment.
    pub fn leave_topic(&self, topic: i32) {
        self.leaving.send_replace(topic);
    }

    /// Tells which topic is deleted in a moment.
    #[must_use]
    pub fn leaving_topics(&self) -> watch::Receiver<i32> {
        self.leaving.subscribe()
    }

    /// The topics before that one are deleted, or will be.
    pub fn end_topics_before(&self, topic: i32) {
        self.topics.lock().first = topic;
    }

    /// Where a writer writes until it asks again, or ends.
    pub fn topic_of_writer(&self, writer: usize) -> i32 {
        let mut topics = self.topics.lock();
        let last = topics.last;
        topics.written.insert(writer, last);
        last
    }

    pub fn writer_ends(&self, writer: usize) {
        self.topics.lock().written.remove(&writer);
    }

    /// Whether some writer still writes to a topic before that one.
    #[must_use]
    pub fn is_written_before(&self, topic: i32) -> bool {
        self.topics.lock().written.values().any(|written| *written < topic)
    }

    /// The faults have ended.
    pub fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    /// Whether some machine has flipped bits on its disk, which others may be told.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Whether a disk was damaged under a process that ran.
    #[must_use]
    pub fn is_damaged_while_it_runs(&self) -> bool {
        self.damaged_while_it_runs.load(Ordering::Relaxed)
    }

    pub fn set_damaged(&self, damaged: bool, while_it_runs: bool) {
        self.damaged.store(damaged, Ordering::Relaxed);
        self.damaged_while_it_runs.store(damaged && while_it_runs, Ordering::Relaxed);
    }

    #[must_use]
    pub fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    /// A client on a machine of its own.
    pub fn client(&self, name: &str) -> Client {
        let address = {
            let mut clients = self.clients.lock();
            *clients += 1;
            IpAddr::V4(Ipv4Addr::new(10, 0, 1, *clients))
        };
        Client::new(name, address, &self.network, self.plan.nodes, fork(self.plan.seed, name))
    }

    /// The addresses of all clients' machines.
    #[must_use]
    pub fn client_addresses(&self) -> Vec<IpAddr> {
        (1..=*self.clients.lock()).map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 1, last))).collect()
    }

    /// Looks something up in the invariants, or tells them something that cannot be wrong.
    pub fn known<T>(&self, call: impl FnOnce(&mut Invariants) -> T) -> T {
        call(&mut self.invariants.lock())
    }

    /// Tells the invariants something; the run ends when it contradicts them.
    pub fn observe(&self, call: impl FnOnce(&mut Invariants) -> Result<(), Violation>) {
        let observed = call(&mut self.invariants.lock());
        if let Err(violation) = observed {
            self.fail(violation.to_string());
        }
    }

    /// The run has failed.
    pub fn fail(&self, what: String) {
        self.violation.send_if_modified(|first| {
            if first.is_some() {
                return false;
            }
            trace::note("VIOLATION", || what.clone());
            tracing::error!("violation: {what}");
            *first = Some(what);
            true
        });
    }

    /// Why the run has failed, once it has.
    #[must_use]
    pub fn violation(&self) -> watch::Receiver<Option<String>> {
        self.violation.subscribe()
    }

    pub fn count(&self, call: impl FnOnce(&mut Counts)) {
        call(&mut self.counts.lock());
    }

    /// Notes that something is tried, which is a fault when it takes effect.
    pub fn tries(&self, kind: &'static str, words: impl FnOnce() -> String) {
        let words = words();
        tracing::info!("try: {kind} {words}");
        trace::note("try", || format!("{kind} {words}"));
    }

    /// Notes that what was tried came to nothing, and why.
    pub fn refused(&self, kind: &'static str, words: impl FnOnce() -> String) {
        self.count(|counts| *counts.refused.entry(kind).or_default() += 1);
        let words = words();
        tracing::info!("refused: {kind} {words}");
        trace::note("refused", || format!("{kind} {words}"));
    }

    /// Notes that a fault begins, or that what was tried took effect.
    pub fn fault(&self, kind: &'static str, words: impl FnOnce() -> String) {
        self.count(|counts| *counts.faults.entry(kind).or_default() += 1);
        let words = words();
        tracing::info!("fault: {kind} {words}");
        trace::note("fault", || format!("{kind} {words}"));
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }
}
