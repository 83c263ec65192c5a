//! A computer: its disk, its clock, its address, and the process that runs on it.
//!
//! The process is composed of the same parts as the real binary. It ends in three ways: in order, killed
//! (the disk keeps what was written), or with its machine (the disk keeps what was synced, and of the
//! rest what chance keeps).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base::Env;
use base::causes::with_causes;
use base::disk::{SimDisk, SimDiskOptions};
use base::net::SimNetwork;
use base::random::{Random, SeededRandom};
use base::task::{JoinSet, Scope};
use base::time::{Duration, Instant, SimWallClock, now, timeout};
use base::trace;
use broker::Broker;
use cluster::{Cluster, NodeAddress};
use kafka::{Advertised, Limits, Listener, ListenerConfig, Service};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::plan::{Plan, fork};

/// Where clients connect.
pub const KAFKA_PORT: u16 = 9092;
/// Where nodes connect.
const CLUSTER_PORT: u16 = 9192;
/// Wall clocks begin here: 2026-01-01T00:00:00Z.
pub const EPOCH_MS: i64 = 1_767_225_600_000;
const LISTENER: &str = "sim";
/// Old ranges of a shard's log with fewer bytes wait for others.
const OBJECT_BYTES_MIN: u64 = 16 << 10;
/// What every process has for requests and answers.
const MEMORY_BYTES: u64 = 32 << 20;

/// A simulated computer.
#[derive(Debug)]
pub struct Machine {
    pub place: usize,
    pub address: IpAddr,
    pub disk: SimDisk,
    clock: Arc<SimWallClock>,
    /// How far the clock has jumped.
    jumped_ms: AtomicI64,
    /// When it was set right last.
    righted_at: Mutex<Option<Instant>>,
    network: SimNetwork,
    plan: Arc<Plan>,
    random: SeededRandom,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    process: Option<Scope>,
    /// Counts processes.
    lives: u64,
    running: Option<Running>,
    /// Why the last process ended by itself.
    exit: Option<String>,
    is_off: bool,
}

/// What a process that is ready lets others see.
#[derive(Debug, Clone)]
pub struct Running {
    pub cluster: Cluster,
    pub life: u64,
    stop: watch::Sender<bool>,
}

/// As long as a node goes by what another one said of its clock, and a little longer.
pub const CLOCK_REMEMBERED: Duration = Duration::from_secs(4);
/// Often, so that a clock that is wrong could expire something.
const RETENTION_CHECK: Duration = Duration::from_secs(2);
/// How often each node looks for what is to be compacted.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(1);
/// How a process ended that was ended from outside, or in order.
const ENDED: [&str; 3] = ["killed", "power off", "stopped"];

/// Whether a process that ended so ended by itself.
#[must_use]
pub fn is_by_itself(exit: &str) -> bool {
    !ENDED.contains(&exit)
}

/// The name of a machine.
#[must_use]
pub fn host(place: usize) -> String {
    format!("node{}", place + 1)
}

/// The address of a node's machine.
#[must_use]
pub fn address(place: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(place + 1).expect("few machines")))
}

impl Machine {
    #[must_use]
    pub fn new(place: usize, plan: &Arc<Plan>, network: &SimNetwork) -> Arc<Self> {
        let random = fork(plan.seed, &host(place));
        let options = SimDiskOptions {
            latency_max: plan.disk_latency_max,
            capacity_bytes: plan.disk_bytes,
            ..SimDiskOptions::default()
        };
        let disk = SimDisk::new(random.next_u64(), options);
        network.name(&host(place), address(place));
        let skew = i64::try_from(random.below(2_000)).expect("small");
        Arc::new(Self {
            place,
            address: address(place),
            disk,
            clock: Arc::new(SimWallClock::new(EPOCH_MS + skew)),
            jumped_ms: AtomicI64::new(0),
            righted_at: Mutex::default(),
            network: network.clone(),
            plan: Arc::clone(plan),
            random,
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// What to say of a disk that has no room: no fault of who writes to it.
    #[must_use]
    pub fn full_disk(&self) -> Option<String> {
        let used: u64 = self.disk.files().iter().map(|(_, len)| len).sum();
        let wanted = 4 * self.plan.segment_bytes;
        (used + wanted > self.plan.disk_bytes).then(|| format!("({}: disk full) ", host(self.place)))
    }

    pub fn jump_clock(&self, by_ms: i64) {
        self.jumped_ms.fetch_add(by_ms, Ordering::Relaxed);
        self.clock.jump(by_ms);
    }

    /// Whether the clock is wrong, or others may still go by what it said when it was.
    pub fn clock_may_mislead(&self) -> bool {
        let righted_lately = || self.righted_at.lock().is_some_and(|at| at.elapsed() < CLOCK_REMEMBERED);
        self.jumped_ms.load(Ordering::Relaxed) != 0 || righted_lately()
    }

    pub fn set_clock_right(&self) {
        let jumped_ms = self.jumped_ms.swap(0, Ordering::Relaxed);
        if jumped_ms != 0 {
            self.clock.jump(-jumped_ms);
            *self.righted_at.lock() = Some(now());
        }
    }

    /// Starts the process, unless it runs.
    pub fn start(self: &Arc<Self>) {
        let scope = {
            let mut state = self.state.lock();
            if state.process.is_some() {
                return;
            }
            if std::mem::take(&mut state.is_off) {
                self.network.power_on(self.address);
            }
            state.lives += 1;
            state.exit = None;
            let scope = Scope::new(format!("{} life {}", host(self.place), state.lives));
            state.process = Some(scope.clone());
            scope
        };
        trace::event("start", &[self.place as u64]);
        let machine = Arc::clone(self);
        let process = scope.clone();
        drop(scope.spawn("process", async move {
            let ended = machine.process(&process).await;
            machine.exited(&process, ended);
        }));
    }

    /// What the binary does.
    async fn process(self: &Arc<Self>, scope: &Scope) -> Result<(), String> {
        let env = Env {
            wall_clock: Arc::<SimWallClock>::clone(&self.clock),
            random: Arc::new(SeededRandom::new(self.random.next_u64())),
            disk: Arc::new(self.disk.clone()),
            network: self.network.host(self.address),
        };
        let advertised = Advertised { host: host(self.place), port: KAFKA_PORT };
        let bind = ListenerConfig {
            name: LISTENER.to_owned(),
            address: SocketAddr::new(self.address, KAFKA_PORT),
            advertised: Some(advertised),
        };
        let listener = Listener::bind(&env, bind).await.map_err(|error| error.to_string())?;
        let cluster = Cluster::start(env.clone(), self.cluster_config()).await.map_err(|error| with_causes(&error))?;
        let config = broker::Config {
            memory_bytes_max: MEMORY_BYTES,
            auto_create_topics: false,
            group_initial_rebalance_delay_ms: 0,
            retention_check_interval: RETENTION_CHECK,
            compaction_interval: COMPACTION_INTERVAL,
            ..broker::Config::default()
        };
        let broker = Broker::start(cluster.environment(), cluster.clone(), config);
        let limits = Limits { drain_max: Duration::from_secs(2), ..Limits::default() };
        let drain_max = limits.drain_max;
        let service = Service::new(&env, broker.clone(), limits, 16 << 20);
        cluster.caught_up().await;
        let (stop, stopping) = watch::channel(false);
        let mut serving = JoinSet::new();
        serving.spawn(listener.serve(service, stopping.clone()));
        let mut failure = cluster.failure();
        {
            let mut state = self.state.lock();
            if !scope.is_killed() {
                state.running = Some(Running { cluster: cluster.clone(), life: state.lives, stop });
            }
        }
        trace::event("ready", &[self.place as u64, cluster.node_id().0]);
        self.changed.notify_waiters();
        let mut stopping = stopping;
        tokio::select! {
            biased;
            failed = failure.wait_for(Option::is_some) => {
                let reason = failed.ok().and_then(|reason| reason.clone());
                return Err(reason.unwrap_or_else(|| "the cluster ended by itself".to_owned()));
            }
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        broker.shutdown().await;
        let drained = async { while serving.join_next().await.is_some() {} };
        let _ = timeout(drain_max + Duration::from_secs(1), drained).await;
        cluster.shutdown().await;
        Ok(())
    }

    fn cluster_config(&self) -> cluster::Config {
        let plan = &self.plan;
        cluster::Config {
            listen: Some(SocketAddr::new(self.address, CLUSTER_PORT)),
            advertised: Some((host(self.place), CLUSTER_PORT)),
            join: (0..plan.nodes).map(|place| (host(place), CLUSTER_PORT)).collect(),
            addresses: vec![NodeAddress { listener: LISTENER.to_owned(), host: host(self.place), port: KAFKA_PORT }],
            shards: plan.shards,
            segment_bytes: plan.segment_bytes,
            ready_segments: plan.ready_segments,
            balance_wait: plan.balance_wait,
            reserve_bytes: 1 << 20,
            log_memory_bytes: 256 << 10,
            read_cache_bytes: 256 << 10,
            queue_bytes_max: 8 << 20,
            log_keep_bytes: plan.log_keep_bytes,
            log_hot_bytes: plan.log_hot_bytes,
            object_bytes_min: OBJECT_BYTES_MIN,
            compaction_memory_bytes: plan.compaction_memory_bytes,
            scrub_bytes_per_second: Some(4 << 20),
            scrub_interval: Duration::from_secs(30),
            checkpoint_age_max: plan.checkpoint_age_max,
            catch_up_bytes_per_second: plan.catch_up_bytes_per_second,
            ..cluster::Config::new(PathBuf::from("/data"))
        }
    }

    fn exited(&self, scope: &Scope, ended: Result<(), String>) {
        {
            let mut state = self.state.lock();
            state.running = None;
            state.process = None;
            state.exit = Some(ended.clone().err().unwrap_or_else(|| ENDED[2].to_owned()));
        }
        trace::note("exit", || format!("{} {ended:?}", host(self.place)));
        if let Err(reason) = ended {
            tracing::warn!(machine = host(self.place), reason, "the process ended by itself");
        }
        self.disk.stop();
        self.network.kill(self.address);
        self.changed.notify_waiters();
        // Whatever the process left running ends, this call's own task among it.
        scope.kill();
    }

    /// Ends the process at once. What it wrote stays.
    pub fn kill(&self) {
        if let Some(scope) = self.take_process(false) {
            self.disk.stop();
            self.network.kill(self.address);
            scope.kill();
        }
    }

    /// Takes the power away.
    pub fn power_off(&self) {
        if let Some(scope) = self.take_process(true) {
            self.disk.crash();
            self.network.power_off(self.address);
            scope.kill();
        }
    }

    /// Takes the power away at a write or sync after so many more.
    pub fn power_off_after(self: &Arc<Self>, operations: u64) {
        self.disk.crash_after(operations, self.loses_power());
    }

    /// Takes the power away when a file was begun, after so many more.
    pub fn power_off_after_beginning(self: &Arc<Self>, files: u64) {
        self.disk.crash_after_beginning(files, self.loses_power());
    }

    fn loses_power(self: &Arc<Self>) -> impl Fn() + Send + Sync + 'static {
        let weak = Arc::downgrade(self);
        move || {
            let Some(machine) = weak.upgrade() else { return };
            if let Some(scope) = machine.take_process(true) {
                machine.network.power_off(machine.address);
                scope.kill();
            }
        }
    }

    /// Puts an empty disk into the machine and starts it: it comes back as another node.
    pub fn replace(self: &Arc<Self>) {
        self.kill();
        trace::event("wipe", &[self.place as u64]);
        self.disk.wipe();
        self.start();
    }

    fn take_process(&self, off: bool) -> Option<Scope> {
        let scope = {
            let mut state = self.state.lock();
            let scope = state.process.take()?;
            state.running = None;
            state.is_off = off;
            state.exit = Some(ENDED[usize::from(off)].to_owned());
            scope
        };
        trace::event("end", &[self.place as u64, u64::from(off)]);
        self.changed.notify_waiters();
        Some(scope)
    }

    /// Asks the process to stop in order. Whether there was one that is ready.
    pub fn stop(&self) -> bool {
        let running = self.running();
        running.is_some_and(|running| running.stop.send(true).is_ok())
    }

    /// What runs here and is ready.
    #[must_use]
    pub fn running(&self) -> Option<Running> {
        self.state.lock().running.clone()
    }

    #[must_use]
    pub fn has_process(&self) -> bool {
        self.state.lock().process.is_some()
    }

    /// Why the last process ended, if none runs.
    #[must_use]
    pub fn exit(&self) -> Option<String> {
        self.state.lock().exit.clone()
    }

    /// Returns when the process has ended, or after `wait_max`; whether it has.
    pub async fn ended(&self, wait_max: Duration) -> bool {
        let ended = async {
            loop {
                let changed = self.changed.notified();
                if !self.has_process() {
                    return;
                }
                changed.await;
            }
        };
        timeout(wait_max, ended).await.is_ok()
    }
}
