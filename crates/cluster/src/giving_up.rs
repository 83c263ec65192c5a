//! What a node has that nobody may lose, and what becomes of a directory that was given up.
//!
//! A node gives up its cluster only when it has nothing, and closes its shards before it looks for the last time. Its next
//! start looks once more, at what the files come to, before anything is removed: what is there then was taken by somebody
//! who may count on it.

use std::sync::Arc;

use base::Env;
use record::{NodeId, ShardId};
use replica::replay_state;
use shard::Shard;
use storage::data_dir::Claim;

use crate::cluster::METADATA;
use crate::config::Config;
use crate::digest::idle_host;
use crate::errors::StartError;
use crate::host::Host;
use crate::node::Node;

/// Whether a node has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    Nothing,
    /// In words.
    Something(&'static str),
    /// A shard cannot be looked at now.
    Unknown,
}

/// What of `me`'s users' a shard has, or of other nodes'.
fn held(me: NodeId, shard: &Shard) -> Option<&'static str> {
    if shard.topic_count() > 0 || !shard.intentions(1).is_empty() || shard.streams() > 0 {
        return Some("topics");
    }
    if !shard.groups().is_empty() {
        return Some("consumer groups");
    }
    let others = shard.nodes().into_iter().any(|node| node.id != me);
    others.then_some("other nodes")
}

/// What a node has in the shards that it runs; unknown when one of its cluster's is not among them, or not of `only`.
pub(crate) fn holds(node: &Node, only: Option<&[ShardId]>) -> Holds {
    let Some(metadata) = node.metadata() else { return Holds::Unknown };
    let mut shards: Vec<ShardId> = metadata.state().shard_records().iter().map(|record| record.id).collect();
    shards.push(METADATA);
    shards.extend(node.shards.replicas().iter().map(replica::Replica::shard_id));
    shards.sort_unstable();
    shards.dedup();
    let mut holds = Holds::Nothing;
    for shard in shards {
        let replica = node.shards.replica(shard).filter(|replica| replica.failure().borrow().is_none());
        let Some(replica) = replica.filter(|_| only.is_none_or(|only| only.contains(&shard))) else {
            holds = Holds::Unknown;
            continue;
        };
        if let Some(what) = held(node.id(), &replica.state()) {
            return Holds::Something(what);
        }
    }
    holds
}

/// Empties a directory that was given up, or goes on with it as before if it holds something after all.
pub(crate) async fn settle_giving_up(env: &Env, config: &Config, claim: Claim) -> Result<(), StartError> {
    let data_dir = Arc::new(claim.founded(env).await?);
    let host = idle_host(env, config.clone(), Arc::clone(&data_dir)).await?;
    let held = held_by_files(&host).await;
    host.log.close().await;
    drop(host);
    let path = data_dir.path().display();
    match held {
        None => {
            tracing::info!(data_dir = %path, "what was given up is removed: it holds nothing");
            data_dir.empty(env).await?;
        }
        Some(what) => {
            tracing::warn!(
                data_dir = %path,
                "the node was to give up its own cluster, but holds {what}: it keeps it, and goes on as before"
            );
            data_dir.keep()?;
        }
    }
    Ok(())
}

/// What the files of a node that does not run hold. What cannot be read may be anything.
async fn held_by_files(host: &Host) -> Option<String> {
    let me = host.data_dir.identity().node_id;
    let shards = match host.data_dir.shards() {
        Ok(shards) => shards,
        Err(error) => return Some(format!("shards that cannot be read ({error})")),
    };
    for shard in shards {
        let unread = |error: &dyn std::error::Error| Some(format!("shard {shard}, which cannot be read ({error})"));
        let parts = match host.parts(shard).await {
            Ok(parts) => parts,
            Err(error) => return unread(&error),
        };
        match parts.marker.read().await {
            Ok(None) => {}
            Ok(Some(_)) => return Some(format!("a part of shard {shard}")),
            Err(error) => return unread(&error),
        }
        match replay_state(&host.replica_config(shard), &parts.checkpoints, &parts.log).await {
            Ok(state) => {
                if let Some(what) = state.as_ref().and_then(|state| held(me, state)) {
                    return Some(what.to_owned());
                }
            }
            Err(error) => return unread(&error),
        }
    }
    None
}
