//! The task that keeps a replica small and its restart short: index files for what was sealed,
//! seals, checkpoints, and what the commit log may let go. It works beside apply; when it cannot
//! keep up, the proposer is held, not memory spent.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, Instant, now, sleep, sleep_until, timeout};
use parking_lot::Mutex;
use record::{FileNumber, LogIndex, Term};
use shard::Command;
use shard::commands::{AbandonParts, ExpireProducers, Seal};
use storage::is_lasting;
use tokio::sync::oneshot;

use crate::checkpoint::Written;
use crate::core::Core;
use crate::errors::{OutOfService, ProposeError};
use crate::guard::guarded;
use crate::pending::{Answer, Pending};
use crate::proposer::{Gate, Item};
use crate::purging::Purging;
use crate::raft::Group;

/// Pause after a file could not be written or removed.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// One failure in so many is reported while they last.
const FAILURES_PER_REPORT: u64 = 60;
/// Pause before something is proposed again that was refused, as while another node is asked to lead.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// Pause between two looks whether those are done who read something that has another place now.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);
/// Producers that one command forgets at most.
const EXPIRE_COUNT_MAX: u32 = 1_000;

/// The running task.
#[derive(Debug)]
pub(crate) struct Handle {
    core: Arc<Core>,
    requests: Arc<Mutex<Requests>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Requests {
    group: Option<Group>,
    checkpoints: Vec<oneshot::Sender<()>>,
    stop: Option<Stop>,
}

#[derive(Debug, Clone, Copy)]
struct Stop {
    checkpoint: bool,
}

pub(crate) fn start(core: Arc<Core>) -> Handle {
    let requests = Arc::<Mutex<Requests>>::default();
    let housekeeping_at = now() + core.config.housekeeping;
    let task = Task {
        core: Arc::clone(&core),
        requests: Arc::clone(&requests),
        seal: None,
        base_needed: false,
        purging: Purging::new(),
        checkpoint_after: now(),
        checkpointed_at: now(),
        seal_at: now() + core.config.seal_age_max,
        seal_after: now(),
        abandon_after: now(),
        housekeeping_at,
    };
    let core_of_task = Arc::clone(&core);
    Handle { core, requests, task: spawn("maintenance", guarded(core_of_task, "maintenance", task.run())) }
}

impl Handle {
    /// The group to be told of durable checkpoints.
    pub(crate) fn set_group(&self, group: Group) {
        self.requests.lock().group = Some(group);
        self.core.maintenance.notify_one();
    }

    /// Resolves when a checkpoint of everything applied before the call was tried.
    pub(crate) fn request_checkpoint(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.requests.lock().checkpoints.push(sender);
        self.core.maintenance.notify_one();
        receiver
    }

    /// Ends the task, after a last checkpoint if one is wanted. One that is not written in time is
    /// given up: the next start replays more.
    pub(crate) async fn stop(mut self, checkpoint: bool, wait_max: Duration) {
        self.requests.lock().stop = Some(Stop { checkpoint });
        self.core.maintenance.notify_one();
        if timeout(wait_max, &mut self.task).await.is_err() {
            tracing::warn!(shard = self.core.config.shard.0, "the last checkpoint takes too long and is given up");
            self.task.abort();
            let _ = self.task.await;
        }
    }
}

struct Task {
    core: Arc<Core>,
    requests: Arc<Mutex<Requests>>,
    /// The seal under way: no second one is proposed before its end.
    seal: Option<Pending>,
    /// A capture was not written to its end, so what it covered is in no delta.
    base_needed: bool,
    purging: Purging,
    checkpoint_after: Instant,
    /// When the last checkpoint was.
    checkpointed_at: Instant,
    /// When what is unsealed by then must be sealed.
    seal_at: Instant,
    /// No seal is proposed before.
    seal_after: Instant,
    /// Abandoned parts are not dropped before.
    abandon_after: Instant,
    housekeeping_at: Instant,
}

impl Task {
    async fn run(mut self) {
        let mut failures = 0_u64;
        loop {
            if let Err(failure) = self.round().await {
                if is_lasting(&failure.error) && !has_failed(&self.core) {
                    failure.stop_node(&self.core);
                    return;
                }
                if failures.is_multiple_of(FAILURES_PER_REPORT) {
                    let Failure { operation, dir, error } = failure;
                    let (shard, dir) = (self.core.config.shard.0, dir.display());
                    tracing::error!(shard, operation, %dir, %error, failures, "a file beside the log waits, trying on");
                }
                failures += 1;
                if self.requests.lock().stop.is_some() {
                    return;
                }
                sleep(FAILURE_PAUSE).await;
                continue;
            }
            failures = 0;
            let stop = self.requests.lock().stop;
            if let Some(Stop { checkpoint }) = stop {
                if checkpoint && self.core.progress.any_since_checkpoint() {
                    self.last_checkpoint().await;
                }
                return;
            }
            self.wait().await;
        }
    }

    /// Everything that is due now.
    async fn round(&mut self) -> Result<(), Failure> {
        let written = self.write_what_is_due().await;
        // It may be this that frees the room or the descriptors that were wanting.
        let released = self.release().await;
        written.and(released)
    }

    async fn write_what_is_due(&mut self) -> Result<(), Failure> {
        self.write_index_files().await?;
        self.propose_what_is_due();
        let asked = std::mem::take(&mut self.requests.lock().checkpoints);
        let aged = now() >= self.aged_at() && self.core.progress.any_since_checkpoint() && !self.core.is_failed();
        let due = (aged || self.core.is_checkpoint_due()) && now() >= self.checkpoint_after;
        if due || !asked.is_empty() {
            self.checkpoint().await?;
        }
        drop(asked);
        self.purge(false).await;
        Ok(())
    }

    async fn write_index_files(&mut self) -> Result<(), Failure> {
        loop {
            let Some(sealed) = self.core.chores.lock().sealed.front().cloned() else { return Ok(()) };
            self.core.write_index_file(&sealed).await.map_err(|error| self.index_failure(error))?;
            let released = self.core.state.write().shard.sealed_durable(sealed.file);
            // Large, so it is dropped here and not under the lock.
            drop(released);
            let waiting = {
                let mut chores = self.core.chores.lock();
                chores.sealed.pop_front();
                chores.sealed.len()
            };
            if waiting <= self.core.config.seals_pending_max {
                self.core.proposals.hold(false);
            }
            self.core.objects_wanted.notify_one();
        }
    }

    async fn checkpoint(&mut self) -> Result<(), Failure> {
        let written = self.core.write_checkpoint(self.base_needed).await;
        self.base_needed |= written.is_err();
        self.checkpoint_after = now() + self.core.config.checkpoint_pause_min;
        if written.map_err(|error| self.checkpoint_failure(error))? == Written::Durable {
            self.base_needed = false;
            self.checkpointed_at = now();
            self.purge(true).await;
            self.core.keep_live();
        }
        Ok(())
    }

    /// When what is applied must be in a checkpoint.
    fn aged_at(&self) -> Instant {
        self.checkpointed_at + self.core.checkpoint_age_max()
    }

    async fn purge(&mut self, at_once: bool) {
        let group = self.requests.lock().group.clone();
        if let Some(group) = group {
            self.purging.look(&self.core, &group, at_once).await;
        }
    }

    /// Lets go of index files and objects in which nothing lives, when a durable checkpoint says so, too.
    async fn release(&mut self) -> Result<(), Failure> {
        if has_failed(&self.core) {
            return Ok(());
        }
        self.core.settle_objects();
        self.release_files().await?;
        self.release_objects().await
    }

    async fn release_objects(&mut self) -> Result<(), Failure> {
        let core = Arc::clone(&self.core);
        let held = |key| core.pins.holds_object(key) || core.may_be_read_again(key);
        let applied = || core.state.read().last.map_or(Term(0), |last| last.term);
        while let Some(key) = core.here.next_to_remove(applied(), held) {
            let removed = core.index.objects().remove(key).await;
            core.here.removed(key, removed.is_ok());
            removed.map_err(|error| self.index_failure(error))?;
        }
        Ok(())
    }

    async fn release_files(&mut self) -> Result<(), Failure> {
        loop {
            let next = {
                let chores = self.core.chores.lock();
                // What is dead by now and needed all the same is so from before it was noted as dead.
                let needed = self.core.here.needed();
                // One that still waits to be written is removed after it was.
                let waits = |file: &FileNumber| chores.sealed.iter().any(|sealed| sealed.file == *file);
                let held = |file: &FileNumber| {
                    let is_used = self.core.pins.holds_file(*file) || self.core.here.holds_file(*file);
                    is_used || self.core.may_come_back(*file) || needed.has_file(*file)
                };
                chores.dead.iter().rev().find(|file| !waits(file) && !held(file)).copied()
            };
            let Some(file) = next else { return Ok(()) };
            self.core.index.remove(file).await.map_err(|error| self.index_failure(error))?;
            self.core.chores.lock().dead.retain(|dead| *dead != file);
        }
    }

    /// Seals, abandoned parts and expiries are commands like all others; only a leader makes them.
    fn propose_what_is_due(&mut self) {
        let core = &self.core;
        let housekeeping = now() >= self.housekeeping_at;
        if housekeeping {
            // Of one that does not lead, too: nothing else moves the time that is waited for.
            self.housekeeping_at = now() + core.config.housekeeping;
        }
        if !matches!(core.proposals.gate(), Gate::Open { .. }) {
            return;
        }
        let aged = now() >= self.seal_at && core.progress.any_unsealed();
        let may_seal = self.seal.is_none() && now() >= self.seal_after;
        let aged = aged || (core.seal_wanted.load(Ordering::Acquire) && core.progress.any_unsealed());
        if may_seal && (aged || core.progress.is_seal_due(&core.config)) {
            core.seal_wanted.store(false, Ordering::Release);
            self.seal_at = now() + core.config.seal_age_max;
            // Everything that lies before the entry that will carry the command.
            let (answer, pending) = Pending::new();
            self.propose(Seal { through: LogIndex(u64::MAX) }.into(), answer);
            self.seal = Some(pending);
        }
        if !self.core.abandoned.is_empty() && now() >= self.abandon_after {
            self.abandon_after = now() + REFUSED_PAUSE;
            let core = &self.core;
            let uploads = core.abandoned.take();
            let (answer, _pending) = Pending::new();
            // They stand in the list again if the command does not come through.
            let answer = answer.of_uploads(uploads.clone(), Arc::clone(&core.abandoned));
            self.propose(AbandonParts { uploads }.into(), answer);
        }
        // An idle shard writes nothing: time moves on with the next command.
        if housekeeping && self.core.has_expired_producers() {
            let (answer, _pending) = Pending::new();
            self.propose(ExpireProducers { count_max: EXPIRE_COUNT_MAX }.into(), answer);
        }
    }

    /// Past the queue's bound: writers that keep it full must not keep out what makes room. What is
    /// refused all the same is told to `answer`.
    fn propose(&self, command: Command, answer: Answer) {
        if let Ok(item) = Item::without_body(command, self.core.config.command_bytes_max, answer) {
            let _ = self.core.proposals.queue.push_over(item);
        }
    }

    async fn wait(&mut self) {
        let deadline = if self.core.is_checkpoint_due() {
            self.housekeeping_at.min(self.checkpoint_after)
        } else if self.core.progress.any_since_checkpoint() && !self.core.is_failed() {
            self.housekeeping_at.min(self.aged_at().max(self.checkpoint_after))
        } else {
            self.housekeeping_at
        };
        // Without a group nothing is purged, and a look that is due stays so.
        let has_group = self.requests.lock().group.is_some();
        let look_at = self.purging.next_look(&self.core).filter(|_| has_group);
        let deadline = look_at.map_or(deadline, |look_at| deadline.min(look_at));
        let deadline = if self.seal_after > now() { deadline.min(self.seal_after) } else { deadline };
        let deadline = if self.core.here.is_settling() { deadline.min(now() + SETTLE_PAUSE) } else { deadline };
        let abandons = !self.core.abandoned.is_empty() && self.abandon_after > now();
        let deadline = if abandons { deadline.min(self.abandon_after) } else { deadline };
        let seal = &mut self.seal;
        let sealed = async {
            match seal {
                Some(pending) => Some(pending.await),
                None => std::future::pending::<Option<Result<_, ProposeError>>>().await,
            }
        };
        tokio::select! {
            sealed = sealed => {
                self.seal = None;
                if !matches!(sealed, Some(Ok(_))) {
                    self.seal_after = now() + REFUSED_PAUSE;
                }
            }
            () = self.core.maintenance.notified() => {}
            () = sleep_until(deadline) => {}
        }
    }

    async fn last_checkpoint(&mut self) {
        let core = &self.core;
        if let Err(error) = core.write_checkpoint(self.base_needed).await {
            tracing::warn!(shard = core.config.shard.0, %error, "no checkpoint at the stop: the next start replays more");
            if is_lasting(&error) && !has_failed(core) {
                self.checkpoint_failure(error).stop_node(core);
            }
        }
    }

    fn index_failure(&self, error: io::Error) -> Failure {
        Failure { operation: "write the index in", dir: self.core.index.dir().to_owned(), error }
    }

    fn checkpoint_failure(&self, error: io::Error) -> Failure {
        Failure { operation: "write a checkpoint in", dir: self.core.checkpoints.dir().to_owned(), error }
    }
}

/// A file beside the log that could not be written.
#[derive(Debug)]
struct Failure {
    operation: &'static str,
    dir: PathBuf,
    error: io::Error,
}

impl Failure {
    /// After a failed write or sync nobody can say what is on the disk: trying again would be a lie.
    fn stop_node(self, core: &Core) {
        let Self { operation, dir, error } = self;
        let kind = error.kind();
        core.log.fail(operation, &dir, io::Error::new(kind, error.to_string()));
        let shard = core.config.shard;
        core.fail(OutOfService::Files { shard, operation, path: dir, source: Arc::new(error) });
    }
}

/// Whether the state is one that no checkpoint is made of: the shard knows that first.
fn has_failed(core: &Core) -> bool {
    core.is_failed() || core.state.read().shard.is_failed()
}
