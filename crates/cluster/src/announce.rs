//! Where the nodes are: this one tells the cluster, and learns of the others from the metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, now, sleep, timeout};
use record::NodeId;
use replica::{ProposeError, Replica};
use shard::commands::AnnounceNode;
use shard::{AnnounceNodeError, NodeAddress, NodeRecord, Outcome, Standing};
use storage::data_dir::Contact;
use tokio::sync::watch;

use crate::belonging::removed;
use crate::cluster::{INTERNAL_LISTENER, METADATA};
use crate::errors::StartError;
use crate::features::check_features;
use crate::host::Host;
use crate::node::Node;

/// Pause between two looks whether the metadata is here.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Waiting for it is reported so often.
const WAIT_REPORT: Duration = Duration::from_secs(10);
/// Pause before a node tells again where it is.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long one try may take.
const TRY_WAIT_MAX: Duration = Duration::from_secs(5);

/// Members by what a node was told of them when it joined.
pub(crate) fn contact_addresses<'a>(contacts: impl Iterator<Item = &'a Contact>) -> BTreeMap<NodeId, NodeAddress> {
    let address = |contact: &Contact| {
        let Contact { node, host, port } = contact.clone();
        (node, NodeAddress { listener: INTERNAL_LISTENER.to_owned(), host, port })
    };
    contacts.map(address).collect()
}

/// Tells the connections where other nodes are, now and whenever that changes; `contacts` are asked
/// until the metadata knows more. Ends when it is aborted.
pub(crate) fn follow_addresses(node: &Arc<Node>, metadata: &Replica, contacts: Vec<Contact>) -> JoinHandle<()> {
    let (node, metadata) = (Arc::clone(node), metadata.clone());
    let mut changed = metadata.changed();
    changed.mark_changed();
    spawn("addresses of nodes", async move {
        while changed.changed().await.is_ok() {
            let me = node.id();
            let mut addresses: BTreeMap<NodeId, NodeAddress> = {
                let state = metadata.state();
                let others = state.nodes().into_iter().filter(|record| record.id != me);
                let address = |record: &NodeRecord| {
                    let address = record.addresses.iter().find(|address| address.listener == INTERNAL_LISTENER);
                    address.map(|address| (record.id, address.clone()))
                };
                others.filter_map(address).collect()
            };
            if metadata.state().node(me).is_none() {
                for (node, address) in contact_addresses(contacts.iter()) {
                    addresses.entry(node).or_insert(address);
                }
            }
            node.peers.set_addresses(addresses);
            node.peers.set_feature_level(metadata.state().feature_level());
        }
    })
}

/// Waits until a copy of the metadata names this node, and gives the cluster's id; nothing when that copy lacks what
/// its leader has let go of, and so never will.
///
/// # Errors
/// When the cluster uses features that this program does not know, or has removed this node.
pub(crate) async fn named_by(host: &Host, copy: &Replica) -> Result<Option<u128>, StartError> {
    let me = host.data_dir.identity().node_id;
    let mut report_at = now() + WAIT_REPORT;
    loop {
        check_features(host.data_dir.path(), copy, host.config.features_known)?;
        {
            let state = copy.state();
            let standing = state.standing(me);
            if standing == Some(Standing::Removed) {
                return Err(removed(host));
            }
            let takes_part = matches!(standing, Some(Standing::Member | Standing::Draining));
            if let Some(cluster_id) = state.cluster_id().filter(|_| takes_part) {
                return Ok(Some(cluster_id));
            }
        }
        if host.is_behind(copy) {
            return Ok(None);
        }
        if now() >= report_at {
            tracing::warn!("waiting for the cluster's metadata from its members");
            report_at = now() + WAIT_REPORT;
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// Tells the cluster that this node has started, unless that was `announced`, and where it is. A cluster that does not have the node any
/// more stops it.
pub(crate) fn keep_announcing(
    node: &Arc<Node>,
    rack: Option<String>,
    addresses: Vec<NodeAddress>,
    mut announced: bool,
    failure: watch::Sender<Option<String>>,
) -> JoinHandle<()> {
    let node = Arc::clone(node);
    spawn("announce the node", async move {
        let mut removed = node.peers.removed();
        loop {
            let Some(metadata) = node.metadata() else { return };
            let id = node.id();
            let known = metadata.state().node(id).cloned();
            let settled = known.as_ref().is_some_and(|known| known.rack == rack && known.addresses == addresses);
            if !(announced && settled) {
                let start_number = known.map_or(1, |known| known.start_number + u64::from(!announced));
                let record = NodeRecord { id, start_number, rack: rack.clone(), addresses: addresses.clone() };
                let command = AnnounceNode { node: record };
                let proposed = tokio::select! {
                    biased;
                    // Nobody takes anything of it.
                    _ = removed.wait_for(|removed| *removed) => Err(ProposeError::Stopped),
                    proposed = node.propose_patiently(METADATA, command.into(), TRY_WAIT_MAX) => proposed,
                };
                match proposed {
                    Ok(Outcome::AnnounceNode(Ok(()))) => announced = true,
                    Ok(Outcome::AnnounceNode(Err(error @ AnnounceNodeError::Unknown))) => {
                        let text = format!("node {id}: {error}; empty its data directory to let it join as a new node");
                        failure.send_modify(|failure| *failure = Some(text));
                        return;
                    }
                    Ok(other) => tracing::warn!(?other, "this node's addresses are told again"),
                    Err(error) => tracing::debug!(%error, "this node's addresses are told later"),
                }
            }
            if let Ok(Ok(_)) = timeout(RETRY_PAUSE, removed.wait_for(|removed| *removed)).await {
                let text = format!(
                    "the cluster has removed node {id} for good; empty its data directory to let it join as a new node"
                );
                failure.send_modify(|failure| *failure = Some(text));
                return;
            }
        }
    })
}
