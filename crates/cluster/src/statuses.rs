//! What the nodes tell each other of themselves: which replicas they have, which shards they lead, and
//! what their clocks say.
//!
//! Every node asks every other one every [`TELL_PAUSE`], and at once when its replicas or what they lead
//! have changed. Who was not heard of for [`LIVE_TIME`] counts as gone: a little later nobody is sent there, nor
//! to who lags (`lagging`). Nothing that must be true depends on it; consensus has its own signs of life.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::task::{JoinHandle, JoinSet, spawn};
use base::time::{Duration, Instant, now, sleep, timeout};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use record::{LogIndex, NodeId, ShardId};
use replica::{InstallProgress, Replica};
use shard::codec::decode;
use tokio::sync::{Notify, watch};

use crate::cluster::METADATA;
use crate::lagging::{Changes, Position};
use crate::messages::{Led, Phase, ReplicaStatus, Request, Status};
use crate::node::Node;

/// Pause between two rounds.
const TELL_PAUSE: Duration = Duration::from_millis(500);
/// How long an answer is waited for.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);
/// Who is silent for so long is gone.
const LIVE_TIME: Duration = Duration::from_secs(2);
/// Clients are sent to it for so much longer: who is cut off ceases to hear of all others within that, one after the other.
const SHOWN_TIME: Duration = Duration::from_millis(1500);
/// Changes that come close together are told together.
const CHANGES_PAUSE: Duration = Duration::from_millis(2);

/// What others said last.
#[derive(Debug, Default)]
pub(crate) struct Statuses {
    heard: Mutex<BTreeMap<NodeId, Heard>>,
    /// Replicas that are not in service yet.
    installing: Mutex<BTreeMap<ShardId, Arc<InstallProgress>>>,
    /// Those to whom clients are sent, but for those that lag: who was heard of when this node was in touch with the cluster.
    shown: Mutex<BTreeSet<NodeId>>,
    /// Rises when a node comes or goes, is out of routing or back.
    changes: watch::Sender<u64>,
    /// Something is to be told now.
    tell: Notify,
}

/// A shard on its way here.
pub(crate) struct Installing {
    statuses: Arc<Statuses>,
    shard: ShardId,
}

impl Drop for Installing {
    fn drop(&mut self) {
        self.statuses.installing.lock().remove(&self.shard);
        self.statuses.tell();
    }
}

#[derive(Debug)]
struct Heard {
    status: Arc<Status>,
    at: Instant,
    live: bool,
}

impl Statuses {
    /// Changes when nodes come and go, and with who is out of routing.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn is_live(&self, node: NodeId) -> bool {
        self.heard.lock().get(&node).is_some_and(|heard| heard.live)
    }

    /// Whether clients are told of a node as one that is there.
    pub(crate) fn is_shown(&self, node: NodeId) -> bool {
        self.shown.lock().contains(&node)
    }

    /// Takes over who is there, while this node is in touch with the cluster. One that is cut off goes on telling clients what
    /// it knew last, as they may reach whom it does not: it would send all of them to itself.
    fn show(&self, node: &Node) {
        if !node.is_in_touch() {
            return;
        }
        let heard: BTreeSet<NodeId> = {
            let heard = self.heard.lock();
            let lately = heard.iter().filter(|(_, heard)| heard.at.elapsed() < LIVE_TIME + SHOWN_TIME);
            lately.map(|(id, _)| *id).collect()
        };
        let before = std::mem::replace(&mut *self.shown.lock(), heard.clone());
        if before != heard {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// What a node that is live said of its replica.
    pub(crate) fn replica(&self, node: NodeId, shard: ShardId) -> Option<ReplicaStatus> {
        let status = self.of(node)?;
        status.replicas.iter().find(|replica| replica.shard == shard).cloned()
    }

    /// What a node that is live said last.
    pub(crate) fn of(&self, node: NodeId) -> Option<Arc<Status>> {
        self.heard.lock().get(&node).filter(|heard| heard.live).map(|heard| Arc::clone(&heard.status))
    }

    /// What each of those that are live said last.
    pub(crate) fn live(&self) -> Vec<(NodeId, Arc<Status>)> {
        let heard = self.heard.lock();
        let live = heard.iter().filter(|(_, heard)| heard.live);
        live.map(|(id, heard)| (*id, Arc::clone(&heard.status))).collect()
    }

    /// Tells all others soon.
    pub(crate) fn tell(&self) {
        self.tell.notify_one();
    }

    /// A shard is being brought here, until what this gives is dropped.
    pub(crate) fn installing(self: &Arc<Self>, shard: ShardId, progress: Arc<InstallProgress>) -> Installing {
        self.installing.lock().insert(shard, progress);
        self.tell();
        Installing { statuses: Arc::clone(self), shard }
    }

    /// Another node says how it is.
    pub(crate) fn hear(&self, node: &Node, from: NodeId, status: Status) {
        for replica in status.replicas.iter().filter(|replica| replica.leads.is_some()) {
            node.shards.handle(replica.shard).tell_leader(replica.term, from, replica.leader_changes);
        }
        let heard = Heard { status: Arc::new(status), at: now(), live: true };
        let before = self.heard.lock().insert(from, heard);
        if !before.is_some_and(|before| before.live) {
            tracing::info!(node = from.0, "another node is here");
            self.changes.send_modify(|count| *count += 1);
        }
        self.show(node);
        self.look_for_lags(node);
    }

    /// Looks who is behind with the metadata, this node included.
    fn look_for_lags(&self, node: &Node) {
        // One whose disk stands still says that it leads what others lead by now.
        let shards = node.metadata().map_or_else(Vec::new, |metadata| shards_of(&metadata));
        let leaders: BTreeSet<NodeId> = shards.into_iter().filter_map(|shard| node.leader(shard)).collect();
        let position = |id: NodeId, status: &Status| {
            let metadata = status.replicas.iter().find(|replica| replica.shard == METADATA);
            let applied = metadata.map_or(LogIndex(0), |replica| replica.applied);
            Position { node: id, applied, leads: leaders.contains(&id) }
        };
        let mut positions: Vec<Position> = self.live().iter().map(|(id, status)| position(*id, status)).collect();
        positions.push(Position {
            node: node.id(),
            applied: node.metadata().map_or(LogIndex(0), |metadata| metadata.applied()),
            leads: leaders.contains(&node.id()),
        });
        let is_led =
            node.leader(METADATA).is_some_and(|leader| positions.iter().any(|position| position.node == leader));
        let Changes { fallen, caught_up, routing } = node.lagging.look(&positions, is_led);
        for id in &fallen {
            tracing::warn!(
                node = id.0,
                "the node is behind with the metadata: others are to lead, and to serve clients"
            );
        }
        for id in &caught_up {
            tracing::info!(node = id.0, "the node is not behind with the metadata any more");
        }
        if routing {
            self.changes.send_modify(|count| *count += 1);
        }
        if fallen.contains(&node.id()) || caught_up.contains(&node.id()) {
            self.tell();
        }
    }

    /// What the clocks of those of `known` who are live say now, if none has jumped since it was told: late by what that took.
    /// A machine that was heard of as a node that is removed, and is another one now, has one clock.
    fn clocks_ms(&self, known: &[NodeId]) -> Vec<i64> {
        let heard = self.heard.lock();
        let live = heard.iter().filter(|(id, heard)| heard.live && known.contains(id));
        live.map(|(_, heard)| {
            let since_ms = i64::try_from(heard.at.elapsed().as_millis()).unwrap_or(i64::MAX);
            heard.status.wall_clock_ms.saturating_add(since_ms)
        })
        .collect()
    }

    /// Takes those out who were silent for too long.
    fn expire(&self, node: &Node) {
        let mut gone = Vec::new();
        for (id, heard) in self.heard.lock().iter_mut() {
            if heard.live && heard.at.elapsed() >= LIVE_TIME {
                heard.live = false;
                gone.push(*id);
            }
        }
        for id in &gone {
            tracing::warn!(node = id.0, "another node is silent");
            node.shards.node_is_gone(*id);
        }
        if !gone.is_empty() {
            self.changes.send_modify(|count| *count += 1);
        }
    }
}

impl Node {
    /// What this node says of itself.
    pub(crate) fn status(&self) -> Status {
        let mut replicas: Vec<ReplicaStatus> = self.shards.replicas().iter().map(replica_status).collect();
        let installing = self.statuses.installing.lock();
        let begins = |(shard, progress): (&ShardId, &Arc<InstallProgress>)| ReplicaStatus {
            shard: *shard,
            phase: Phase::Installing,
            term: record::Term(0),
            last: LogIndex(0),
            applied: LogIndex(0),
            purged: LogIndex(0),
            streams: 0,
            leader_changes: 0,
            pulled: Some((progress.bytes(), progress.bytes_total())),
            leads: None,
        };
        replicas.extend(installing.iter().map(begins));
        let (leaving, full) = (self.lets_others_lead(), self.full.load(Ordering::Acquire));
        Status { wall_clock_ms: self.clock.own_ms(), leaving, full, shards: self.wished, replicas }
    }
}

fn shards_of(metadata: &Replica) -> Vec<ShardId> {
    metadata.state().shard_records().iter().map(|record| record.id).collect()
}

fn replica_status(replica: &Replica) -> ReplicaStatus {
    let leadership = *replica.leadership().borrow();
    let failed = replica.failure().borrow().is_some();
    let leads = leadership.is_self.then(|| {
        let members = replica.members();
        let voters: BTreeSet<NodeId> = members.voters.iter().flatten().copied().collect();
        Led {
            voters: voters.into_iter().collect(),
            learners: members.learners.iter().copied().collect(),
            changing: members.is_changing(),
        }
    });
    let (streams, leader_changes) = {
        let state = replica.state();
        (state.streams() as u64, state.leader_changes())
    };
    ReplicaStatus {
        shard: replica.shard_id(),
        phase: if failed { Phase::Failed } else { Phase::Running },
        term: leadership.term,
        last: replica.last_log_index(),
        applied: replica.applied(),
        purged: replica.purged_index(),
        streams,
        leader_changes,
        pulled: None,
        leads,
    }
}

/// Tells the others now and then, until the task is aborted.
pub(crate) fn exchange(node: &Arc<Node>) -> JoinHandle<()> {
    let node = Arc::clone(node);
    spawn("statuses", async move {
        let mut asking = JoinSet::new();
        let busy = Arc::<Mutex<BTreeSet<NodeId>>>::default();
        loop {
            for other in node.peers.known() {
                // Who does not answer is asked again when the time for it has passed.
                if !busy.lock().insert(other) {
                    continue;
                }
                let (node, busy) = (Arc::clone(&node), Arc::clone(&busy));
                asking.spawn(async move {
                    let request = Request::Status(node.status());
                    let answer = node.ask(other, METADATA, &request, ANSWER_WAIT_MAX).await;
                    match answer.map(|answer| decode::<Status>(&answer)) {
                        Ok(Ok(status)) => node.statuses.hear(&node, other, status),
                        Ok(Err(error)) => tracing::warn!(node = other.0, %error, "a status that cannot be read"),
                        Err(error) => {
                            tracing::debug!(node = other.0, %error, "a node does not answer");
                            // One that refuses says why when it is called anew.
                            if error.kind() == std::io::ErrorKind::Other {
                                node.peers.call_anew(other);
                            }
                        }
                    }
                    busy.lock().remove(&other);
                });
            }
            while asking.try_join_next().is_some() {}
            if timeout(TELL_PAUSE, node.statuses.tell.notified()).await.is_ok() {
                sleep(CHANGES_PAUSE).await;
            }
            node.statuses.expire(&node);
            node.statuses.show(&node);
            node.statuses.look_for_lags(&node);
            node.in_sync.look(&node);
            let known = node.peers.known();
            node.clock.compare(known.len(), &node.statuses.clocks_ms(&known));
        }
    })
}

/// Tells the others at once when this node begins or ceases to lead a shard.
pub(crate) fn tell_leaders(node: &Arc<Node>) -> JoinHandle<()> {
    let node = Arc::clone(node);
    spawn("leaders", async move {
        let mut changed = node.shards.changed();
        loop {
            changed.mark_unchanged();
            let mut leaderships: Vec<_> = node.shards.replicas().iter().map(Replica::leadership).collect();
            node.statuses.tell();
            node.statuses.show(&node);
            // A replica that stops is soon taken away.
            let mut changes: FuturesUnordered<_> =
                leaderships.iter_mut().map(|leadership| leadership.changed()).collect();
            tokio::select! {
                Some(Ok(())) = changes.next() => {}
                replicas = changed.changed() => if replicas.is_err() { return },
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_the_clock_of_another_node_said_moves_on_until_that_one_is_gone() {
        let statuses = Statuses::default();
        let status = Status { wall_clock_ms: 1_000, leaving: false, full: false, shards: 1, replicas: Vec::new() };
        let heard = |live| Heard { status: Arc::new(status.clone()), at: now(), live };
        statuses.heard.lock().insert(NodeId(2), heard(true));
        statuses.heard.lock().insert(NodeId(3), heard(false));
        let known = [2, 3].map(NodeId);
        assert_eq!(statuses.clocks_ms(&known), [1_000]);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(statuses.clocks_ms(&known), [4_000]);
        // One that was removed says no more.
        assert_eq!(statuses.clocks_ms(&known[1..]), [0; 0]);
    }
}
