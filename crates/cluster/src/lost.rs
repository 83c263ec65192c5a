//! The nodes that this one was recovered without. They may be started again with what they have, and would be a majority of
//! groups that have gone on without them: nothing of theirs is taken here, and nothing is sent to them.
//!
//! This node knows them by a file, from before the first of its logs was changed. As soon as anybody leads the metadata it
//! has them removed there, so that all other nodes refuse them, too. The file goes when this node's next start would know
//! that without it.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, sleep};
use record::NodeId;
use shard::commands::PutShards;
use shard::{Outcome, Shard, ShardRecord, Standing};
use storage::data_dir::covered;

use crate::cluster::METADATA;
use crate::errors::RemoveNodeError;
use crate::host::Host;
use crate::operate::{CHANGE_WAIT_MAX, set_standing};

/// Pause between two tries.
const ROUND_PAUSE: Duration = Duration::from_millis(500);

/// Removes the nodes that were lost from the cluster, and then forgets of them; ends when it is aborted.
pub(crate) fn keep_removing(host: &Arc<Host>, lost: BTreeSet<NodeId>) -> JoinHandle<()> {
    // The directory's lock ends with the node, not with this task.
    let weak = Arc::downgrade(host);
    spawn("remove lost nodes", async move {
        let mut told = String::new();
        loop {
            let Some(host) = weak.upgrade() else { return };
            match remove(&host, &lost).await {
                Ok(()) => {
                    tracing::info!(?lost, "the nodes that this one was recovered without are removed from the cluster");
                    return;
                }
                Err(reason) if reason != told => {
                    tracing::info!(?lost, reason, "the lost nodes are not removed from the cluster yet, trying on");
                    told = reason;
                }
                Err(_) => {}
            }
            drop(host);
            sleep(ROUND_PAUSE).await;
        }
    })
}

/// Takes all steps that are left. Each may be taken again.
async fn remove(host: &Host, lost: &BTreeSet<NodeId>) -> Result<(), String> {
    let node = &host.node;
    let metadata = node.metadata().ok_or("the metadata is not here")?;
    let shards = left_to_others(&metadata.state(), lost, node.id());
    if !shards.is_empty() {
        let put = node.propose_patiently(METADATA, PutShards { shards }.into(), CHANGE_WAIT_MAX).await;
        match put.map_err(|error| error.to_string())? {
            Outcome::PutShards => {}
            other => return Err(format!("{other:?}")),
        }
    }
    for id in lost {
        match set_standing(node, *id, Standing::Removed).await {
            // One that nobody has ever taken in is none.
            Ok(()) | Err(RemoveNodeError::UnknownNode) => {}
            Err(error) => return Err(format!("node {id}: {error}")),
        }
    }
    let applied = {
        let state = metadata.state();
        let is_known = |id: &NodeId| matches!(state.standing(*id), Some(Standing::Member | Standing::Draining));
        if lost.iter().any(is_known) {
            return Err("this node's copy of the metadata does not say so yet".to_owned());
        }
        metadata.applied()
    };
    // A start knows at once what its checkpoints say, and what else is committed only when somebody leads.
    metadata.checkpoint().await;
    let covered = covered(&*node.env.disk, host.data_dir.path()).await.map_err(|error| error.to_string())?;
    if !covered.iter().any(|covered| covered.shard == METADATA && covered.at.index >= applied) {
        return Err("no checkpoint of the metadata says so yet".to_owned());
    }
    host.data_dir.end_lost().map_err(|error| error.to_string())?;
    node.peers.set_lost(BTreeSet::new());
    Ok(())
}

/// The shards that lost nodes are to have, without these.
fn left_to_others(metadata: &Shard, lost: &BTreeSet<NodeId>, me: NodeId) -> Vec<ShardRecord> {
    let records = metadata.shard_records().into_iter();
    records.filter_map(|record| without(record, metadata.founder(record.id).is_none(), lost, me)).collect()
}

/// The same of one shard: who else should have it is seen to afterwards, as of any. One that nobody else has goes to `me`,
/// who waits for what is gone; one that was never begun goes to nobody.
fn without(record: &ShardRecord, is_begun: bool, lost: &BTreeSet<NodeId>, me: NodeId) -> Option<ShardRecord> {
    let mut voters: Vec<NodeId> = record.voters.iter().copied().filter(|voter| !lost.contains(voter)).collect();
    if voters.len() == record.voters.len() {
        return None;
    }
    if voters.is_empty() && is_begun {
        voters.push(me);
    }
    Some(ShardRecord { id: record.id, voters })
}

#[cfg(test)]
mod tests {
    use record::ShardId;

    use super::*;

    #[test]
    fn lost_nodes_are_to_have_no_shard() {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let check = |voters: &[u64], is_begun| {
            let record = ShardRecord { id: ShardId(7), voters: nodes(voters) };
            let left = without(&record, is_begun, &[NodeId(1), NodeId(2)].into(), NodeId(3));
            left.map(|record| record.voters)
        };
        assert_eq!(check(&[3, 4, 5], true), None);
        assert_eq!(check(&[2, 3, 1], true), Some(nodes(&[3])));
        assert_eq!(check(&[4, 2, 5], true), Some(nodes(&[4, 5])));
        assert_eq!(check(&[1, 2], true), Some(nodes(&[3])), "it has to be somebody's");
        assert_eq!(check(&[1, 2], false), Some(nodes(&[])), "another one comes in its place");
    }
}
