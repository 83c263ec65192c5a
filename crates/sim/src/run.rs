//! One seed from its start to its verdict: a cluster forms, clients work while things break, then nothing
//! breaks any more, and it must converge, serve, and still hold all it said it holds.

use std::fmt;
use std::sync::Arc;

use base::task::{self, JoinHandle, spawn};
use base::time::{Duration, now, sleep, timeout};
use base::trace::{self, Sink, Summary};
use tokio::sync::watch;

use crate::faults;
use crate::load;
use crate::machine::{host, is_by_itself};
use crate::plan::{Plan, Sizes};
use crate::watch as looks;
use crate::world::{Counts, World};

/// A cluster forms within this time when nothing is broken.
const FORM_MAX: Duration = Duration::from_secs(60);
/// A process that ended by itself is started again after this, as a service manager does.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// After the faults everything that is left to be answered is answered within this time.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// What a run with faults must at least have seen.
const ACKED_MIN: u64 = 10_000;
const FAULTS_MIN: u64 = 20;

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub seed: u64,
    pub nodes: usize,
    pub violation: Option<String>,
    pub trace: Summary,
    pub counts: Counts,
    pub elections: u64,
    pub states_compared: u64,
    /// From the end of the faults until all was settled.
    pub converged: Duration,
}

/// Runs a seed. The trace goes line by line to `sink`.
///
/// # Panics
/// When no runtime can be made.
#[must_use]
pub fn run(seed: u64, sizes: &Sizes, sink: Option<Sink>) -> Verdict {
    let _simulated = task::simulate();
    #[cfg(feature = "planted")]
    base::planted::plant(sizes.planted);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let verdict = runtime.block_on(async {
        trace::begin(sink);
        let world = World::new(Plan::new(seed, sizes));
        let mut violation = world.violation();
        let passed = async {
            let converged = phases(&world).await;
            if converged.is_err() {
                std::future::pending::<()>().await;
            }
            converged.unwrap_or_default()
        };
        let converged = tokio::select! {
            biased;
            _ = violation.wait_for(Option::is_some) => Duration::ZERO,
            converged = passed => converged,
        };
        world.machines.iter().for_each(|machine| machine.kill());
        let violation = violation.borrow().clone();
        let (elections, states_compared) =
            world.known(|invariants| (invariants.elections(), invariants.states_compared()));
        Verdict {
            seed,
            nodes: world.plan.nodes,
            violation,
            trace: trace::end().expect("it was begun"),
            counts: world.counts(),
            elections,
            states_compared,
            converged,
        }
    });
    // Destructors of what still runs are not part of the run.
    runtime.shutdown_background();
    verdict
}

/// The run failed, which the world knows.
struct Failed;

async fn phases(world: &Arc<World>) -> Result<Duration, Failed> {
    let plan = &world.plan;
    world.machines.iter().for_each(|machine| machine.start());
    let watching = spawn("watch", looks::run(Arc::clone(world)));
    let tending = spawn("tend", tend(Arc::clone(world)));
    settle(world, FORM_MAX, "the cluster did not form").await?;
    make_topic(world).await;
    let (stop, stopping) = watch::channel(false);
    let clients = load::start(world, &stopping);
    if plan.faults {
        let faults = spawn("faults", faults::run(Arc::clone(world)));
        sleep(plan.faulty).await;
        end(faults).await;
        faults::heal(world);
        tracing::info!("the faults have ended");
        trace::event("healed", &[]);
        world.heal();
        world.machines.iter().for_each(|machine| machine.start());
        if timeout(plan.converge_max, faults::finish(world)).await.is_err() {
            world.fail(format!("changes of members do not end: {:?}", looks::unsettled(world)));
            return Err(Failed);
        }
    } else {
        sleep(plan.faulty).await;
    }
    let healed = now();
    // Under load first, then what is left is answered.
    sleep(Duration::from_secs(10)).await;
    stop.send_replace(true);
    let answered = async {
        for client in clients {
            if client.await.is_err() {
                world.fail("a client panicked".to_owned());
            }
        }
    };
    if timeout(ANSWER_MAX, answered).await.is_err() {
        let why = looks::unsettled(world);
        world.fail(format!("clients are without an answer {ANSWER_MAX:?} after the faults: {why:?}"));
        return Err(Failed);
    }
    settle(world, plan.converge_max, "the cluster did not converge").await?;
    let converged = now() - healed;
    let read = check_all(world);
    if timeout(ANSWER_MAX, read).await.is_err() {
        world.fail("not everything could be read in the end".to_owned());
        return Err(Failed);
    }
    let counts = world.counts();
    let acked = counts.acked_appends + counts.acked_commits;
    if plan.faults && plan.faulty >= Sizes::default().faulty {
        if acked < ACKED_MIN {
            world.fail(format!("only {acked} operations were acknowledged"));
        }
        let broken: u64 = counts.faults.values().sum();
        if broken < FAULTS_MIN {
            world.fail(format!("there were only {broken} faults"));
        }
    }
    end(tending).await;
    end(watching).await;
    Ok(converged)
}

async fn end(task: JoinHandle<()>) {
    task.abort();
    let _ = task.await;
}

async fn settle(world: &World, wait_max: Duration, what: &str) -> Result<(), Failed> {
    let deadline = now() + wait_max;
    while let Some(why) = looks::unsettled(world) {
        if now() >= deadline {
            let full: Vec<String> = world.machines.iter().filter_map(|machine| machine.full_disk()).collect();
            world.fail(format!("{what}: {why} {}", full.concat()).trim_end().to_owned());
            return Err(Failed);
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Starts again what ended by itself.
async fn tend(world: Arc<World>) {
    loop {
        sleep(RESTART_PAUSE).await;
        for machine in &world.machines {
            // What a fault ended it starts itself, while there are faults.
            let exit = machine.exit().filter(|exit| is_by_itself(exit));
            if let Some(why) = &exit {
                let is_damaged = world.is_damaged();
                world.observe(|invariants| invariants.ended(&host(machine.place), why, is_damaged));
            }
            let ended_by_itself = exit.is_some();
            if (ended_by_itself || world.is_healed()) && !machine.has_process() {
                machine.start();
            }
        }
    }
}

async fn make_topic(world: &World) {
    let mut client = world.client("admin");
    loop {
        match client.create_topic(0, world.plan.partitions).await {
            // Made, or made by a try before.
            Ok(0 | 36) => return,
            Ok(code) => tracing::info!("the topic is not made yet: code {code}"),
            Err(error) => tracing::info!("the topic is not made yet: {error}"),
        }
        client.back_off().await;
    }
}

async fn check_all(world: &World) {
    let mut client = world.client("last");
    let (first, last) = world.topics();
    // The first of all is never deleted.
    load::check_topic(world, &mut client, 0, true).await;
    for topic in first.max(1)..=last {
        load::check_topic(world, &mut client, topic, true).await;
    }
    load::check_keyed(world, &mut client).await;
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, nodes, violation, trace, counts, elections, states_compared, converged } = self;
        let Counts {
            acked_appends,
            acked_commits,
            reads,
            slow_reads,
            questions,
            retries,
            topics,
            deletions,
            faults,
            refused,
            ..
        } = counts;
        let broken: u64 = faults.values().sum();
        let recycled: u64 = counts.recycled.values().sum();
        let (objects, compacted, keyed) = (counts.objects.len(), counts.compacted.len(), counts.acked_keyed);
        write!(
            f,
            "seed {seed} trace {:016x} events {} nodes {nodes} acked {} appends {acked_appends} commits \
             {acked_commits} reads {reads} slow {slow_reads} questions {questions} topics {topics} deletions {deletions} \
             recycled {recycled} objects {objects} \
             keyed {keyed} compacted {compacted} retries {retries} faults {broken} elections {elections} compared {states_compared} converged_ms {}",
            trace.hash,
            trace.events,
            acked_appends + acked_commits,
            converged.as_millis(),
        )?;
        for (kind, count) in faults {
            write!(f, " {}={count}", kind.replace(' ', "_"))?;
        }
        for (kind, count) in refused {
            write!(f, " refused_{}={count}", kind.replace(' ', "_"))?;
        }
        match violation {
            None => write!(f, " passed"),
            Some(what) => write!(f, " FAILED {what}"),
        }
    }
}
