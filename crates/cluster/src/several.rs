//! What is asked of a cluster's handle that other nodes have a part in: changes that show everywhere,
//! who leads, and who belongs.

use std::io;

use base::time::{Duration, now, sleep, timeout};
use futures_util::future::join_all;
use record::{NodeId, ShardId};
use replica::{MembersError, Replica};
use tokio::sync::watch;

use crate::cluster::{Cluster, METADATA};
use crate::errors::{PreferLeaderError, RemoveNodeError};
use crate::members::{hand_over, successors};
use crate::messages::Request;
use crate::operate;

/// How long a change of the metadata is waited for on other nodes.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a node that starts waits for others that do not answer.
const MEET_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long one node has to take over a shard before another is asked.
const HAND_OVER_WAIT_MAX: Duration = Duration::from_millis(700);
/// How long all of that may take: those that are asked may be gone.
const HAND_OVERS_WAIT_MAX: Duration = Duration::from_millis(1_500);
/// Pause between two looks at who leads.
const LEADER_PAUSE: Duration = Duration::from_millis(10);

impl Cluster {
    /// Returns when every node that is here has applied what the metadata group had committed when the
    /// call began: what was changed before shows everywhere then. Nodes that do not come so far in some
    /// seconds are not waited for, nor those that are out of routing for being behind.
    pub async fn settled(&self) {
        let node = &self.inner.node;
        let others = node.peers.known();
        if others.is_empty() && self.inner.metadata.is_leader() {
            return;
        }
        let deadline = now() + SETTLE_WAIT_MAX;
        let Some(index) = node.barrier(METADATA, deadline).await else { return };
        let request = Request::Await(index);
        let live = others.into_iter().filter(|other| node.is_in_routing(*other) && node.statuses.is_live(*other));
        let asked = live.map(|other| node.ask(other, METADATA, &request, SETTLE_WAIT_MAX));
        let (_, ours) = tokio::join!(join_all(asked), node.applied(METADATA, index, deadline));
        if !ours {
            tracing::warn!(index = index.0, "this node's copy of the metadata is behind");
        }
    }

    /// Returns when this node, just started, knows what the cluster has decided, and the others that are here know that it
    /// is: who is served by it sees what others were told, and changes wait for it ([`Self::settled`]). Nodes that do not
    /// answer are waited for a moment only; a cluster that cannot decide anything now, for some seconds.
    pub async fn caught_up(&self) {
        let node = &self.inner.node;
        let mut changed = node.statuses.changed();
        let all_here = async {
            while !node.peers.known().into_iter().all(|other| node.statuses.is_live(other)) {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        let _some_are_away = timeout(MEET_WAIT_MAX, all_here).await;
        self.follow_metadata().await;
        // Others may have heard only of how far it was before.
        let status = Request::Status(node.status());
        let live = node.peers.known().into_iter().filter(|other| node.statuses.is_live(*other));
        let told = live.map(|other| node.ask(other, METADATA, &status, MEET_WAIT_MAX));
        join_all(told).await;
    }

    /// Returns when this node's copy of the metadata has what was committed before the call, or after some seconds;
    /// whether it has.
    pub async fn follow_metadata(&self) -> bool {
        self.inner.node.follow_metadata(SETTLE_WAIT_MAX).await
    }

    /// Makes the first voter of a shard its leader.
    ///
    /// # Errors
    /// When it cannot lead now.
    pub async fn prefer_leader(&self, shard: ShardId) -> Result<(), PreferLeaderError> {
        let first = self.voters(shard).first().copied().ok_or(PreferLeaderError::Unavailable)?;
        let leader = self.leader(shard).ok_or(PreferLeaderError::Unavailable)?;
        if leader == first {
            return Err(PreferLeaderError::LeadsAlready);
        }
        let node = &self.inner.node;
        // One whose disk is full or slow would hand it back.
        if !self.is_live(first) || node.does_let_others_lead(first) {
            return Err(PreferLeaderError::NotAvailable);
        }
        let deadline = now() + SETTLE_WAIT_MAX;
        let asked = if leader == self.node_id() {
            let replica = self.replica(shard).ok_or(PreferLeaderError::Unavailable)?;
            hand_over(node, &replica, first).await.map_err(|error| match error {
                MembersError::Refused(_) => PreferLeaderError::NotAvailable,
                MembersError::NotLeader { .. } | MembersError::Stopped => PreferLeaderError::Unavailable,
            })
        } else {
            let asked = node.ask(leader, shard, &Request::HandOver(first), SETTLE_WAIT_MAX).await;
            // A refusal says as here that it is behind, or lets others lead.
            asked.map(|_| ()).map_err(|error| match error.kind() {
                io::ErrorKind::Other => PreferLeaderError::NotAvailable,
                _ => PreferLeaderError::Unavailable,
            })
        };
        asked?;
        while self.leader(shard) != Some(first) {
            if now() >= deadline {
                return Err(PreferLeaderError::Unavailable);
            }
            sleep(LEADER_PAUSE).await;
        }
        Ok(())
    }

    /// Becomes true when this node has closed its shards for good to give up its own cluster and join another: it is to
    /// be shut down and started anew. It may have found then that it holds something, and goes on as it was.
    #[must_use]
    pub fn starts_anew(&self) -> watch::Receiver<bool> {
        self.inner.node.anew.subscribe()
    }

    /// Does what an operator says in words, as at the listener for nodes: see `docs/operating.md`.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn operate(&self, words: &[String]) -> Result<String, String> {
        operate::run(&self.inner.node, words).await
    }

    /// Lets go of a node that holds nothing any more, for good.
    ///
    /// # Errors
    /// When there is no such node, it still holds something, or the metadata group cannot be reached.
    pub async fn remove_node(&self, node: NodeId) -> Result<(), RemoveNodeError> {
        operate::remove(&self.inner.node, node).await
    }

    /// Takes nothing any more for shards that other nodes have copies of. Who waits for something that these do not
    /// acknowledge is told that its fate is unknown; returns then. For a node that is about to stop.
    pub async fn wait_for_others_no_more(&self) {
        let replicas = self.inner.node.shards.replicas();
        let shared = replicas.iter().filter(|replica| {
            let members = replica.members();
            members.is_changing() || members.voters.iter().flatten().any(|voter| *voter != self.node_id())
        });
        let mut closed = self.inner.node.closed.lock().await;
        *closed = true;
        join_all(shared.map(Replica::drain)).await;
    }

    /// Lets other nodes lead what this one leads, as far as there are some that can, before it stops: whoever
    /// writes to it is sent there. Returns when that has come to be, or after [`HAND_OVERS_WAIT_MAX`].
    pub async fn hand_over(&self) {
        let node = &self.inner.node;
        node.leaving.get_or_init(now);
        node.statuses.tell();
        let led = node.shards.replicas().into_iter().filter(Replica::is_leader);
        let handed = led.map(|replica| async move {
            for successor in successors(node, &replica) {
                let mut leadership = replica.leadership();
                if replica.transfer_leader(successor).await.is_err() {
                    continue;
                }
                let gone = leadership.wait_for(|leadership| {
                    !leadership.is_self && leadership.leader.is_some_and(|leader| leader != node.id())
                });
                if timeout(HAND_OVER_WAIT_MAX, gone).await.is_ok() {
                    return;
                }
            }
        });
        if timeout(HAND_OVERS_WAIT_MAX, join_all(handed)).await.is_err() {
            tracing::warn!("not all that this node led is led by others yet");
        }
    }
}
