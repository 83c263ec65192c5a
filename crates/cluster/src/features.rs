//! The level of features that the cluster uses: raised by whoever leads the metadata, once every node of the cluster
//! that is not removed was heard to know the next one. A node that is silent holds it back, because it may come back
//! as it was. It is never lowered.
//!
//! What a node knows it says in the handshake, so with every start anew.

use std::path::Path;
use std::sync::Arc;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, timeout};
use record::NodeId;
use replica::Replica;
use shard::Outcome;
use shard::commands::RaiseFeatures;
use tokio::sync::watch;

use crate::errors::StartError;
use crate::node::Node;

/// Pause between two looks.
const ROUND_PAUSE: Duration = Duration::from_millis(500);

/// The cluster must not use what this program does not know; `path` is the node's directory.
pub(crate) fn check_features(path: &Path, metadata: &Replica, known: u32) -> Result<(), StartError> {
    let level = metadata.state().feature_level();
    if level > known {
        return Err(StartError::Features { path: path.to_owned(), level, known });
    }
    Ok(())
}

/// A node of the cluster, and the level of features that it is known to know now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    node: NodeId,
    /// None while it is silent.
    known: Option<u32>,
}

/// What every node knows, if all of them can be heard.
fn common(nodes: &[Heard]) -> Option<u32> {
    nodes.iter().map(|heard| heard.known).min().flatten()
}

/// All nodes of the cluster that are not removed.
fn members(node: &Node) -> Vec<NodeId> {
    let Some(metadata) = node.metadata() else { return Vec::new() };
    metadata.state().nodes().into_iter().map(|record| record.id).collect()
}

fn heard(node: &Node) -> Vec<Heard> {
    let me = node.peers.me();
    let heard = |id: NodeId| {
        let known = if id == me.node {
            Some(me.features)
        } else {
            node.peers.features_of(id).filter(|_| node.statuses.is_live(id))
        };
        Heard { node: id, known }
    };
    members(node).into_iter().map(heard).collect()
}

/// The level, and who holds it back where this program knows a higher one.
pub(crate) fn describe(node: &Node) -> String {
    describe_level(node.feature_level(), node.peers.me().features, &heard(node))
}

fn describe_level(level: u32, known: u32, nodes: &[Heard]) -> String {
    if known <= level {
        return level.to_string();
    }
    let part = |heard: &Heard| match heard.known {
        None => Some(format!("node {} is silent", heard.node)),
        Some(other) if other < known => Some(format!("node {} knows {other}", heard.node)),
        Some(_) => None,
    };
    let parts: Vec<String> = nodes.iter().filter_map(part).collect();
    if parts.is_empty() {
        format!("{level}, rises to {known} soon")
    } else {
        format!("{level}, held back from {known}: {}", parts.join(", "))
    }
}

/// Raises the level when it may be, while this node leads the metadata, and stops the node if it should know less than
/// the cluster uses. Ends when it is aborted.
pub(crate) fn keep_features(node: &Arc<Node>, failure: watch::Sender<Option<String>>) -> JoinHandle<()> {
    let node = Arc::clone(node);
    spawn("features of the cluster", async move {
        let mut heard_of = node.statuses.changed();
        loop {
            let (level, known) = (node.feature_level(), node.peers.me().features);
            if level > known {
                let text = format!(
                    "the cluster uses features of level {level}, this program knows level {known}: start the node with \
                     the program that the other nodes run"
                );
                failure.send_modify(|failure| *failure = Some(text));
                return;
            }
            if level < known {
                raise(&node, level).await;
            }
            let _ = timeout(ROUND_PAUSE, heard_of.changed()).await;
        }
    })
}

async fn raise(node: &Node, level: u32) {
    let Some(metadata) = node.metadata().filter(|metadata| metadata.is_leader()) else { return };
    let nodes = heard(node);
    let Some(common) = common(&nodes).filter(|common| *common > level) else { return };
    let raise = RaiseFeatures { level: common, nodes: nodes.into_iter().map(|heard| heard.node).collect() };
    match metadata.propose(raise.into()).await {
        Ok(Outcome::RaiseFeatures(Ok(level))) => tracing::info!(level, "the cluster uses features of a higher level"),
        Ok(other) => tracing::info!(?other, "the level of features is raised later"),
        Err(error) => tracing::debug!(%error, "the level of features is raised later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(known: &[Option<u32>]) -> Vec<Heard> {
        (1..).zip(known).map(|(id, known)| Heard { node: NodeId(id), known: *known }).collect()
    }

    #[test]
    fn what_all_know_is_common_and_a_silent_node_may_know_nothing() {
        for (known, expected) in [
            (&[Some(2)][..], Some(2)),
            (&[Some(2), Some(2), Some(2)], Some(2)),
            (&[Some(2), Some(1), Some(3)], Some(1)),
            (&[Some(3), Some(2)], Some(2)),
            (&[Some(2), None], None),
            (&[], None),
        ] {
            assert_eq!(common(&nodes(known)), expected, "{known:?}");
        }
    }

    #[test]
    fn who_holds_the_level_back_is_named() {
        let text = |level, known: &[Option<u32>]| describe_level(level, 2, &nodes(known));
        assert_eq!(text(2, &[Some(2), None]), "2");
        assert_eq!(text(1, &[Some(2), Some(2)]), "1, rises to 2 soon");
        assert_eq!(text(1, &[Some(2), Some(1), None]), "1, held back from 2: node 2 knows 1, node 3 is silent");
    }
}
