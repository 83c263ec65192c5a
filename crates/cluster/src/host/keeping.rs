//! What is here follows what the metadata wants.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::task::{JoinHandle, JoinSet, spawn};
use base::time::{sleep, timeout};
use parking_lot::Mutex;
use record::ShardId;
use tokio::sync::watch;

use super::judgement::Judgement;
use super::{Host, RETRY_PAUSE, ROUND_PAUSE};
use crate::cluster::METADATA;
use crate::errors::StartError;

/// Says what went wrong, and ends the node where nobody can say what is on its disk, and where it has no metadata any more.
fn tell(failure: &watch::Sender<Option<String>>, shard: ShardId, error: &StartError, what: &str) {
    let reason = error.with_causes();
    if !error.is_lasting() && shard != METADATA {
        tracing::error!(shard = shard.0, "{what}: {reason}; trying again");
        return;
    }
    tracing::error!(shard = shard.0, "{what}: {reason}");
    failure.send_modify(|failure| *failure = Some(reason));
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
        let mut starting = JoinSet::new();
        let underway = Arc::<Mutex<BTreeSet<ShardId>>>::default();
        loop {
            let Some(host) = weak.upgrade() else { return };
            let wanted = host.wanted();
            // A member whose copy was being brought here anew is not wanted any more, perhaps, and votes still.
            let votes_in: Vec<ShardId> = host.votes_in().into_iter().filter(|shard| !wanted.contains(shard)).collect();
            for shard in wanted.iter().chain(&votes_in) {
                if host.node.shards.replica(*shard).is_some() || !underway.lock().insert(*shard) {
                    continue;
                }
                let (host, underway, failure) = (Arc::clone(&host), Arc::clone(&underway), failure.clone());
                let shard = *shard;
                starting.spawn(async move {
                    tracing::info!(shard = shard.0, "a replica of the shard begins here");
                    if let Err(error) = host.begin(shard).await {
                        // What was set aside is brought here with the next try, which tells when it cannot be.
                        tell(&failure, shard, &error, "the replica could not be started");
                        sleep(RETRY_PAUSE).await;
                    }
                    underway.lock().remove(&shard);
                });
            }
            for replica in host.node.shards.replicas() {
                let shard = replica.shard_id();
                match host.judge(&replica) {
                    Judgement::IsLetGo if shard != METADATA && !wanted.contains(&shard) => {
                        tracing::info!(shard = shard.0, "the shard's group has let go of this node");
                        if !underway.lock().insert(shard) {
                            continue;
                        }
                        host.node.shards.take(shard);
                        let (host, underway, failure) = (Arc::clone(&host), Arc::clone(&underway), failure.clone());
                        starting.spawn(async move {
                            replica.shutdown().await;
                            drop(replica);
                            if let Err(error) = host.let_go(shard).await {
                                tell(&failure, shard, &error, "what was here of the shard could not be removed");
                            }
                            underway.lock().remove(&shard);
                        });
                    }
                    Judgement::IsDamaged => {
                        if !underway.lock().insert(shard) {
                            continue;
                        }
                        let (host, underway, failure) = (Arc::clone(&host), Arc::clone(&underway), failure.clone());
                        starting.spawn(async move {
                            if let Err(error) = host.set_aside(replica).await {
                                tell(&failure, shard, &error, "that the shard is damaged here could not be noted");
                            }
                            underway.lock().remove(&shard);
                        });
                    }
                    Judgement::IsBehind => {
                        if !underway.lock().insert(shard) {
                            continue;
                        }
                        let (host, underway, failure) = (Arc::clone(&host), Arc::clone(&underway), failure.clone());
                        starting.spawn(async move {
                            let renewed = host.renew(shard).await;
                            if let Err(error) = &renewed {
                                tell(&failure, shard, error, "the shard could not be brought here anew");
                            }
                            underway.lock().remove(&shard);
                            if shard == METADATA && renewed.is_ok() {
                                let text = "the metadata was brought here anew, as the cluster had let go of what this \
                                            node lacked; it goes on with its next start";
                                failure.send_modify(|failure| *failure = Some(text.to_owned()));
                            }
                        });
                    }
                    Judgement::IsLetGo | Judgement::Stays => {}
                }
            }
            while starting.try_join_next().is_some() {}
            drop(host);
            let _ = timeout(ROUND_PAUSE, changed.changed()).await;
        }
    })
}
