//! The start of a replica and its end: whatever a start began is gone when it fails.

use std::sync::Arc;

use base::Env;
use base::task::{JoinHandle, spawn};
use base::time::{Duration, sleep, timeout};
use parking_lot::Mutex;
use storage::checkpoint::CheckpointStore;
use storage::index_file::IndexStore;
use storage::{DiskState, ShardLog};
use tokio::sync::watch;

use crate::config::Config;
use crate::core::{BesideLog, Core};
use crate::errors::{OutOfService, StartError};
use crate::guard::guarded;
use crate::objects::{Here, Pace};
use crate::proposer::{Gate, Limits, Proposer};
use crate::raft::network::Transport;
use crate::raft::{Group, GroupWriter};
use crate::replica::{Inner, Replica, Tasks};
use crate::{checkpoint, full_disk, leadership, maintenance, objects};

/// Pause before a member looks again whether it has caught up.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// What a replica does that belongs to no group yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Founding {
    /// It founds one with itself as the only member.
    Alone,
    /// It waits for the members of one to take it in.
    Invited,
}

/// The files and the way to the other members that a replica is given.
#[derive(Debug)]
pub struct Parts {
    /// The shard's part of the node's commit log.
    pub log: ShardLog,
    /// Whether the log's disk has room for data.
    pub disk_state: watch::Receiver<DiskState>,
    /// The shard's checkpoints.
    pub checkpoints: CheckpointStore,
    /// The shard's sealed indexes.
    pub index: IndexStore,
    /// How fast what is old is rewritten, by all replicas of the node.
    pub pace: Arc<Pace>,
    /// How the other members are reached.
    pub transport: Arc<dyn Transport>,
    /// What is done without a group.
    pub founding: Founding,
}

impl Replica {
    /// Restores the last checkpoint, replays the log behind it and joins the group; a group that
    /// has no members yet is founded with this node as the only one. Returns when what was
    /// committed is applied and, on a node that is alone, when it leads. After an error nothing
    /// runs any more and nothing holds the log. An entry that breaks an invariant is no error: the
    /// replica is out of service then ([`Self::failure`]), and others are not.
    ///
    /// # Errors
    /// When a file cannot be read, is damaged, the log does not reach back to the checkpoint, or entries
    /// that were durable are gone and nobody accepts that.
    pub async fn start(env: Env, config: Config, parts: Parts) -> Result<Self, StartError> {
        let shard = config.shard;
        config.check().map_err(|reason| StartError::Config { shard, reason })?;
        let Parts { log, disk_state, checkpoints, index, pace, transport, founding } = parts;
        let applied = checkpoint::restore(&config, &checkpoints, &log).await?;
        let here = Box::pin(Here::open(index.clone(), &applied.shard)).await;
        let beside = BesideLog { checkpoints, index, here, pace };
        let core = Arc::new(Core::new(config, env, log, beside, applied));
        core.check_whole().await?;
        core.keep_live();
        // It runs before the group does: a long replay is held up by what it leaves to be written.
        let maintenance = maintenance::start(Arc::clone(&core));
        let group = match Group::start(&core, Arc::clone(&transport)).await {
            Ok(group) => group,
            Err(error) => {
                core.proposals.set_gate(Gate::Stopped);
                maintenance.stop(false, core.config.shutdown_wait_max).await;
                return Err(error);
            }
        };
        core.set_started();
        let replica = Self::run(core, group, maintenance, transport, disk_state);
        let started = match replica.join(founding).await {
            Ok(true) => settle(&replica.inner.core).await,
            Ok(false) => {
                replica.settle_later();
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = started {
            // What was not recovered is in no state to make a checkpoint of.
            replica.stop(false).await;
            return Err(error);
        }
        Ok(replica)
    }

    fn run(
        core: Arc<Core>,
        group: Group,
        maintenance: maintenance::Handle,
        transport: Arc<dyn Transport>,
        disk_state: watch::Receiver<DiskState>,
    ) -> Self {
        maintenance.set_group(group.clone());
        let leadership = lasting(&core, "leadership", leadership::follow(Arc::clone(&core), group.clone()));
        let objects = lasting(&core, "objects", objects::keep(Arc::clone(&core), Arc::clone(&transport)));
        let scrubber = lasting(&core, "scrubber", objects::scrub(Arc::clone(&core), transport));
        let disk = lasting(&core, "disk state", full_disk::follow(Arc::clone(&core), disk_state));
        let limits = Limits {
            entry_bytes_max: core.config.entry_bytes_max,
            entries_in_flight_max: core.config.entries_in_flight_max,
            lease_wait_max: core.config.lease_wait_max,
        };
        let writer = Arc::new(GroupWriter { group: group.clone() });
        let clock = Arc::clone(&core.env.wall_clock);
        let proposer = Proposer::new(Arc::clone(&core.proposals), writer, clock, limits);
        let tasks = Tasks {
            proposer: Some(lasting(&core, "proposer", proposer.run())),
            others: vec![leadership, objects, scrubber, disk],
            maintenance: Some(maintenance),
        };
        Self { inner: Arc::new(Inner { core, group, tasks: Mutex::new(tasks) }) }
    }

    /// A member of several learns from the others what is committed, and settles when that is applied.
    fn settle_later(&self) {
        let Inner { core, group, tasks } = &*self.inner;
        let (settled, group) = (Arc::clone(core), group.clone());
        let settling = async move {
            while !group.recovered(settled.config.recovery_wait_max).await {
                if settled.is_failed() {
                    return;
                }
                sleep(SETTLE_PAUSE).await;
            }
            if let Err(error) = settle(&settled).await {
                settled.fail(OutOfService::Consensus { shard: settled.config.shard, reason: error.to_string() });
            }
        };
        let task = lasting(core, "settle", settling);
        tasks.lock().others.push(task);
    }

    /// Founds the group if it has no members and is to. On a node that is alone, returns when what was
    /// committed is applied and it leads. Says whether all that was committed is applied: of several
    /// members only the others can tell what that is.
    async fn join(&self, founding: Founding) -> Result<bool, StartError> {
        let joined = self.join_group(founding).await;
        // An entry that fails an assertion stops the group, at whatever it was asked then.
        if joined.is_err() && self.failed_assertion()? { Ok(true) } else { joined }
    }

    async fn join_group(&self, founding: Founding) -> Result<bool, StartError> {
        let Inner { core, group, .. } = &*self.inner;
        let shard = core.config.shard;
        let consensus = |reason: String| StartError::Consensus { shard, reason };
        let wait_max = core.config.recovery_wait_max;
        let late = || StartError::Recovery { shard, seconds: wait_max.as_secs() };
        if founding == Founding::Alone {
            group.found_alone().await.map_err(consensus)?;
        }
        if !group.is_alone().await.map_err(consensus)? {
            return Ok(false);
        }
        if core.is_alone() {
            group.elect().await.map_err(consensus)?;
        }
        let recovered = group.recovered(wait_max).await;
        if self.failed_assertion()? {
            return Ok(true);
        }
        if !recovered {
            return Err(late());
        }
        if core.is_alone() {
            let mut leadership = self.leadership();
            let mut failure = self.failure();
            let led_or_failed = async {
                tokio::select! {
                    _ = leadership.wait_for(|leadership| leadership.is_self) => {}
                    _ = failure.wait_for(Option::is_some) => {}
                }
            };
            timeout(wait_max, led_or_failed).await.map_err(|_| late())?;
            self.failed_assertion()?;
        }
        Ok(true)
    }

    /// Whether an entry has failed an assertion; whatever else takes a shard out of service is an
    /// error of the start.
    fn failed_assertion(&self) -> Result<bool, StartError> {
        match &*self.inner.core.failure.borrow() {
            None => Ok(false),
            Some(OutOfService::Assertion { .. }) => Ok(true),
            Some(failure) => {
                Err(StartError::Consensus { shard: self.inner.core.config.shard, reason: failure.to_string() })
            }
        }
    }

    /// Refuses what is queued, waits for what is under way, writes a checkpoint and ends the tasks.
    pub async fn shutdown(&self) {
        self.stop(!self.inner.core.is_failed()).await;
    }

    /// The first part of [`Self::shutdown`], while other members can still be heard: takes no more proposals, and
    /// returns when all that were taken are answered. What the others do not acknowledge soon is answered as unknown.
    pub async fn drain(&self) {
        let core = &self.inner.core;
        core.proposals.set_gate(Gate::Stopped);
        core.leadership.send_modify(|leadership| leadership.is_self = false);
        core.waiters.wake_all();
        let Some(mut proposer) = self.inner.tasks.lock().proposer.take() else { return };
        let config = &core.config;
        let wait_max = if core.is_alone() { config.shutdown_wait_max } else { config.shutdown_others_wait_max };
        if timeout(wait_max, &mut proposer).await.is_err() {
            tracing::warn!(shard = config.shard.0, "what is under way does not end: its fate is not known");
            core.proposals.give_up();
            end(proposer).await;
        }
    }

    async fn stop(&self, checkpoint: bool) {
        self.drain().await;
        let core = &self.inner.core;
        let Tasks { proposer: _, others, maintenance } = std::mem::take(&mut *self.inner.tasks.lock());
        let wait_max = core.config.shutdown_wait_max;
        if let Some(maintenance) = maintenance {
            maintenance.stop(checkpoint, wait_max).await;
        }
        self.inner.group.shutdown(wait_max).await;
        for task in others {
            end(task).await;
        }
    }
}

/// What the state refers to must be there, and what it does not refer to may go.
async fn settle(core: &Core) -> Result<(), StartError> {
    // The state of a failed shard says nothing of what it would need.
    if !core.is_failed() {
        core.settle_live().await?;
        core.compare_index_files();
        core.here.forget_unnamed();
    }
    Ok(())
}

fn lasting(core: &Arc<Core>, name: &'static str, run: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    spawn(name, guarded(Arc::clone(core), name, run))
}

/// Ends a task where it waits.
async fn end(task: JoinHandle<()>) {
    task.abort();
    // That it was aborted is what we wanted, that it panicked was told by the panic.
    let _ = task.await;
}
