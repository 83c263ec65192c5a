//! What is here follows what the metadata wants.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use base::causes::with_causes;
use base::task::{JoinHandle, JoinSet, spawn};
use base::time::{sleep, timeout};
use parking_lot::Mutex;
use record::ShardId;
use replica::Replica;
use tokio::sync::watch;

use super::judgement::Judgement;
use super::{Host, RETRY_PAUSE, ROUND_PAUSE, TRIES_PER_REPORT};
use crate::cluster::METADATA;
use crate::errors::StartError;

/// Work on shards, one at a time for each.
struct Chores {
    host: Weak<Host>,
    failure: watch::Sender<Option<String>>,
    tasks: JoinSet<()>,
    underway: Arc<Mutex<BTreeSet<ShardId>>>,
}

impl Chores {
    /// Begins `work` on a shard, unless something is under way there. What is not done is `what`.
    fn begin<F>(&mut self, shard: ShardId, what: &'static str, work: impl FnOnce(Arc<Host>) -> F)
    where
        F: Future<Output = Result<(), StartError>> + Send + 'static,
    {
        let Some(host) = self.host.upgrade() else { return };
        if !self.underway.lock().insert(shard) {
            return;
        }
        let (underway, failure, work) = (Arc::clone(&self.underway), self.failure.clone(), work(Arc::clone(&host)));
        self.tasks.spawn(async move {
            let mut ended = work.await;
            if let Err(StartError::NotWanted { .. }) = ended {
                tracing::info!(shard = shard.0, "the shard is not wanted here any more: what was brought here goes");
                ended = host.let_go(shard).await;
            }
            if let Err(error) = ended {
                tell(&failure, shard, &error, what);
                // The next look may begin it again.
                sleep(RETRY_PAUSE).await;
            }
            underway.lock().remove(&shard);
        });
    }
}

/// Does `work` until it is done: what stands in its way passes, as want of room does, or ends the node.
pub(super) async fn patiently<F>(shard: ShardId, what: &str, work: impl Fn() -> F) -> Result<(), StartError>
where
    F: Future<Output = Result<(), StartError>>,
{
    let mut tries: u64 = 0;
    loop {
        match work().await {
            Err(error) if !error.is_lasting() => {
                if tries.is_multiple_of(TRIES_PER_REPORT) {
                    tracing::error!(shard = shard.0, "{what}, trying again: {}", with_causes(&error));
                }
                tries += 1;
                sleep(RETRY_PAUSE).await;
            }
            ended => return ended,
        }
    }
}

/// Says what went wrong, and ends the node where nobody can say what is on its disk, and where it has no metadata any more.
fn tell(failure: &watch::Sender<Option<String>>, shard: ShardId, error: &StartError, what: &str) {
    let reason = with_causes(error);
    tracing::error!(shard = shard.0, "{what}: {reason}");
    if error.is_lasting() || shard == METADATA {
        failure.send_modify(|failure| *failure = Some(reason));
    }
}

/// Starts what the metadata wants here and is not here yet, and stops what was let go, until the task
/// is aborted. A copy of the metadata that is behind ends the process: everything here goes by that copy.
pub(crate) fn keep_hosting(host: &Arc<Host>, failure: watch::Sender<Option<String>>) -> JoinHandle<()> {
    let Some(metadata) = host.node.metadata() else { unreachable!("a node hosts the metadata first") };
    let mut changed = metadata.changed();
    drop(metadata);
    // The directory's lock ends with the node, not with this task.
    let weak = Arc::downgrade(host);
    spawn("host replicas", async move {
        let mut chores = Chores { host: weak.clone(), failure, tasks: JoinSet::new(), underway: Arc::default() };
        let mut left_over = match weak.upgrade() {
            Some(host) => host.left_over().await,
            None => return,
        };
        loop {
            let Some(host) = weak.upgrade() else { return };
            let wanted = host.wanted();
            left_over.retain(|shard| !look_at_left_over(&mut chores, &host, *shard, &wanted));
            // A member whose copy was being brought here anew is not wanted any more, perhaps, and votes still.
            let votes_in: Vec<ShardId> = host.votes_in().into_iter().filter(|shard| !wanted.contains(shard)).collect();
            for shard in wanted.iter().chain(&votes_in).copied() {
                if host.node.shards.replica(shard).is_none() {
                    // What was set aside is brought here with the next try, which tells when it cannot be.
                    chores.begin(shard, "the replica could not be started", |host| async move {
                        tracing::info!(shard = shard.0, "a replica of the shard begins here");
                        host.begin(shard).await
                    });
                }
            }
            for replica in host.node.shards.replicas() {
                look_at(&mut chores, &host, replica, &wanted);
            }
            while chores.tasks.try_join_next().is_some() {}
            drop(host);
            let _ = timeout(ROUND_PAUSE, changed.changed()).await;
        }
    })
}

/// What becomes of what was left half brought here or half removed; whether that is decided.
fn look_at_left_over(chores: &mut Chores, host: &Host, shard: ShardId, wanted: &[ShardId]) -> bool {
    if wanted.contains(&shard) || host.node.shards.replica(shard).is_some() {
        return true;
    }
    let is_nobodys = host.has_no_part(shard);
    if is_nobodys {
        chores.begin(shard, "what was left here of the shard could not be removed", |host| async move {
            tracing::info!(shard = shard.0, "what was left here of the shard goes: its group is without this node");
            host.let_go(shard).await
        });
    }
    is_nobodys
}

/// What becomes of a replica that runs.
fn look_at(chores: &mut Chores, host: &Host, replica: Replica, wanted: &[ShardId]) {
    let shard = replica.shard_id();
    match host.judge(&replica) {
        Judgement::IsLetGo if shard != METADATA && !wanted.contains(&shard) => {
            chores.begin(shard, "what was here of the shard could not be removed", |host| async move {
                tracing::info!(shard = shard.0, "the shard's group has let go of this node");
                host.node.shards.take(shard);
                replica.shutdown().await;
                drop(replica);
                host.let_go(shard).await
            });
        }
        Judgement::IsDamaged => {
            chores.begin(shard, "that the shard is damaged here could not be noted", |host| async move {
                host.set_aside(replica).await
            });
        }
        Judgement::IsBehind => {
            let failure = chores.failure.clone();
            chores.begin(shard, "the shard could not be brought here anew", |host| async move {
                host.renew(shard).await?;
                if shard == METADATA {
                    let text = "the metadata was brought here anew, as the cluster had let go of what this node lacked; it \
                                goes on with its next start";
                    failure.send_modify(|failure| *failure = Some(text.to_owned()));
                }
                Ok(())
            });
        }
        Judgement::IsLetGo | Judgement::Stays => {}
    }
}
