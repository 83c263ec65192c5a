//! The handle of a node's part of the cluster, its start and its end.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use base::Env;
use base::task::{JoinHandle, spawn};
use base::time::Duration;
use futures_util::future::join_all;
use parking_lot::Mutex;
use record::{NodeId, ShardId, TopicId};
use replica::{Pending, Replica, StateGuard};
use shard::commands::AllocateProducerIds;
use shard::{Command, Outcome, ProducerIdBlock, slot_of};
use tokio::sync::watch;

use crate::bootstrap;
use crate::clock::ClusterClock;
use crate::config::Config;
use crate::errors::StartError;
use crate::host::Host;
use crate::node::Node;
use crate::orphans::keep_collecting;
use crate::placement::look;
use crate::shards::ShardHandle;
use crate::spread::{NewPartitions, Spread};
use crate::topics::unexpected;
use crate::work::Work;

/// The shard that holds the metadata.
pub const METADATA: ShardId = ShardId(0);

/// Under this name a node says where other nodes reach it.
pub const INTERNAL_LISTENER: &str = "internal";

/// How long a change waits for somebody who leads.
pub(crate) const DECIDE_WAIT_MAX: Duration = Duration::from_secs(10);

/// This node's part of the cluster. Clones are handles of the same.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) node: Arc<Node>,
    pub(crate) host: Arc<Host>,
    pub(crate) metadata: Replica,
    /// Where other nodes connect.
    pub(crate) listening: Option<SocketAddr>,
    pub(crate) cluster_id: u128,
    pub(crate) work: Work,
    pub(crate) new_partitions: Arc<NewPartitions>,
    pub(crate) failure: watch::Sender<Option<String>>,
    pub(crate) tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.lock().iter().for_each(JoinHandle::abort);
    }
}

impl Cluster {
    /// Opens the data directory and recovers every shard of this node; what was interrupted is gone on with afterwards,
    /// by whoever leads. The first start in a directory makes a cluster of one, or joins the one that the
    /// configured addresses lead to, for which it waits. Returns when this node's copy of the metadata
    /// names it and, on a node that is alone, every shard is led.
    ///
    /// # Errors
    /// When the directory is in use or not ours, or a file cannot be read or is damaged.
    pub async fn start(env: Env, config: Config) -> Result<Self, StartError> {
        // In a box: callers' futures stay small.
        let inner = Arc::new(Box::pin(bootstrap::start(env, config)).await?);
        let cluster = Self { inner };
        cluster.watch_failures();
        // Who is asked at once knows its own shards.
        cluster.inner.node.in_sync.look(&cluster.inner.node);
        cluster.keep_resuming();
        cluster.inner.tasks.lock().push(keep_collecting(&cluster.inner.node));
        Ok(cluster)
    }

    /// The node's environment, with a clock that other nodes' clocks correct.
    #[must_use]
    pub fn environment(&self) -> Env {
        let node = &self.inner.node;
        let wall_clock: Arc<dyn base::time::WallClock> = Arc::<ClusterClock>::clone(&node.clock);
        Env { wall_clock, ..node.env.clone() }
    }

    /// This node.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.inner.host.data_dir.identity().node_id
    }

    /// The cluster's id, made at its first start.
    #[must_use]
    pub fn cluster_id(&self) -> u128 {
        self.inner.cluster_id
    }

    /// The level of features that the cluster uses: nothing that needs a higher one may be proposed. It rises when all
    /// nodes know more, and never falls.
    #[must_use]
    pub fn feature_level(&self) -> u32 {
        self.inner.node.feature_level()
    }

    /// Where the commit log is.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.inner.host.data_dir.log_dir()
    }

    /// Where other nodes connect to this one, if they may.
    #[must_use]
    pub fn listening(&self) -> Option<SocketAddr> {
        self.inner.listening
    }

    /// The replica of a shard, where this node has one now.
    #[must_use]
    pub fn replica(&self, shard: ShardId) -> Option<Replica> {
        self.inner.node.shards.replica(shard)
    }

    /// The replicas of data shards that this node has now, in the order of the shards.
    #[must_use]
    pub fn replicas(&self) -> Vec<Replica> {
        let replicas = self.inner.node.shards.replicas();
        replicas.into_iter().filter(|replica| replica.shard_id() != METADATA).collect()
    }

    /// Changes when replicas of this node come or go.
    #[must_use]
    pub fn replicas_changed(&self) -> watch::Receiver<u64> {
        self.inner.node.shards.changed()
    }

    /// A shard that the metadata names, to be kept by who asks for it often.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Arc<ShardHandle> {
        self.inner.node.shards.handle(shard)
    }

    /// Who leads a shard, as far as this node knows.
    #[must_use]
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.inner.node.leader(shard)
    }

    /// The nodes whose copies of a shard decide, as the metadata wants them, in the order of
    /// preference for its leader.
    #[must_use]
    pub fn voters(&self, shard: ShardId) -> Vec<NodeId> {
        self.metadata().shard_record(shard).map(|record| record.voters.clone()).unwrap_or_default()
    }

    /// Whether clients may be sent to a node: it was heard of just now, or is this one, and leads something or has kept up with
    /// the metadata.
    #[must_use]
    pub fn is_live(&self, node: NodeId) -> bool {
        self.inner.node.is_in_routing(node)
    }

    /// Changes when nodes come and go, and with who is out of routing.
    #[must_use]
    pub fn nodes_changed(&self) -> watch::Receiver<u64> {
        self.inner.node.statuses.changed()
    }

    /// The metadata as of the last entry applied here. The guard is a lock: see [`StateGuard`].
    #[must_use]
    pub fn metadata(&self) -> StateGuard<'_> {
        self.inner.metadata.state()
    }

    /// Changes with the metadata.
    #[must_use]
    pub fn metadata_changed(&self) -> watch::Receiver<u64> {
        self.inner.metadata.changed()
    }

    /// The shard that coordinates the group, transactional id or client id of that name.
    #[must_use]
    pub fn slot_shard(&self, name: &str) -> ShardId {
        let shard = self.metadata().slot_shard(slot_of(name));
        shard.expect("slots are assigned before a cluster is handed out")
    }

    /// Proposes a command to the shard's leader, wherever it is. The command has its place in the
    /// order when this returns, not when the result is awaited.
    pub fn propose(&self, shard: ShardId, command: Command) -> Pending {
        self.inner.node.propose(shard, command)
    }

    /// Producer ids that nobody ever had.
    ///
    /// # Errors
    /// When the metadata group cannot be reached.
    pub async fn allocate_producer_ids(&self, count: u32) -> Result<ProducerIdBlock, replica::ProposeError> {
        match self.decide(AllocateProducerIds { count }.into()).await? {
            Outcome::AllocateProducerIds(Ok(block)) => Ok(block),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether appends are refused for want of room.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.inner.host.log.disk_state().borrow().is_full()
    }

    /// Whether the disk of any node is full, as far as was heard.
    #[must_use]
    pub fn is_any_disk_full(&self) -> bool {
        let statuses = &self.inner.node.statuses;
        self.is_disk_full() || statuses.live().iter().any(|(_, status)| status.full)
    }

    /// What the commit log has done since the start.
    #[must_use]
    pub fn log_stats(&self) -> storage::Stats {
        self.inner.host.log.stats()
    }

    /// Why the node must stop, once it must.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.inner.failure.subscribe()
    }

    /// Ends what is under way, writes checkpoints and closes the log. Proposals are refused from
    /// the call on.
    pub async fn shutdown(&self) {
        // A stop on a full disk must not wait for somebody who makes room.
        self.inner.host.log.stop_waiting_for_space();
        let replicas = self.inner.node.shards.replicas();
        {
            let mut closed = self.inner.node.closed.lock().await;
            *closed = true;
            // While the others can still say what became of it.
            join_all(replicas.iter().map(Replica::drain)).await;
        }
        let tasks = std::mem::take(&mut *self.inner.tasks.lock());
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        self.inner.node.peers.close();
        // Some may have come meanwhile.
        let replicas = self.inner.node.shards.replicas();
        join_all(replicas.iter().map(Replica::shutdown)).await;
        self.inner.host.log.close().await;
        let storage::Stats { bytes_written, payload_bytes, syncs, .. } = self.log_stats();
        tracing::info!(bytes_written, payload_bytes, syncs, "the commit log is closed");
    }

    /// Proposes a change to the metadata group, for as long as nobody leads it but not for ever.
    ///
    /// # Errors
    /// As a proposal.
    pub async fn decide(&self, command: Command) -> replica::ProposeResult {
        self.inner.node.propose_patiently(METADATA, command, DECIDE_WAIT_MAX).await
    }

    pub(crate) fn work(&self) -> &Work {
        &self.inner.work
    }

    pub(crate) fn new_topic_id(&self) -> TopicId {
        TopicId(self.inner.node.env.random.uuid())
    }

    /// The order in which new partitions go to shards: the emptiest first, then around, so that
    /// topics of one partition spread as well as one topic of many. Not to a shard that has fewer copies than the nodes
    /// can give it, as long as there are others.
    pub(crate) fn placement(&self) -> Spread {
        let all: Vec<ShardId> = {
            let metadata = self.metadata();
            let is_used = |shard: &ShardId| *shard != METADATA && metadata.founder(*shard).is_none();
            metadata.shard_records().into_iter().map(|record| record.id).filter(is_used).collect()
        };
        let (homes, placed) = look(&self.inner.node).unwrap_or_default();
        let has_its_copies =
            |shard: ShardId| placed.iter().any(|placed| placed.id == shard && placed.has_its_copies(&homes));
        let served: Vec<(ShardId, u64)> =
            all.iter().filter_map(|shard| Some((*shard, self.streams_of(*shard)?))).collect();
        let mut shards: Vec<(ShardId, u64)> =
            served.iter().filter(|(shard, _)| has_its_copies(*shard)).copied().collect();
        if shards.is_empty() {
            shards = served;
        }
        if shards.is_empty() {
            // None serves: whatever is placed waits for the shard.
            shards = all.into_iter().map(|shard| (shard, 0)).collect();
        }
        assert!(!shards.is_empty(), "a cluster has at least one data shard");
        NewPartitions::spread(&self.inner.new_partitions, shards)
    }

    /// How many streams a shard holds that is served.
    fn streams_of(&self, shard: ShardId) -> Option<u64> {
        let node = &self.inner.node;
        if let Some(replica) = node.shards.replica(shard) {
            let serves = replica.failure().borrow().is_none();
            return serves.then(|| replica.state().streams() as u64);
        }
        node.statuses.replica(node.leader(shard)?, shard).map(|status| status.streams)
    }

    fn watch_failures(&self) {
        let mut failure = self.inner.host.log.failure();
        let failed = self.inner.failure.clone();
        let watching = async move {
            if let Ok(failure) = failure.wait_for(Option::is_some).await
                && let Some(failure) = failure.as_ref()
            {
                let text = format!(
                    "cannot {} {}: {}; what was not synced may be lost, so the node stops; repair the disk and start again",
                    failure.operation,
                    failure.path.display(),
                    failure.error
                );
                failed.send_modify(|failed| *failed = Some(text));
            }
        };
        self.inner.tasks.lock().push(spawn("commit log failure", watching));
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("node", &self.node_id()).field("shards", &self.inner.node.shards).finish()
    }
}
