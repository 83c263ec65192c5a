//! The handle of a node's part of the cluster, its start and its end.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::Env;
use base::task::{JoinHandle, spawn};
use base::time::{Duration, sleep};
use parking_lot::Mutex;
use record::{NodeId, ShardId, TopicId};
use replica::{Pending, Replica, StateGuard};
use shard::commands::{AllocateProducerIds, RegisterNode};
use shard::{Command, NodeAddress, NodeRecord, Outcome, ProducerIdBlock, slot_of};
use storage::data_dir::DataDir;
use storage::{CommitLog, DiskState};
use tokio::sync::watch;

use crate::bootstrap::{self, Started};
use crate::config::Config;
use crate::errors::{PreferLeaderError, RemoveNodeError, StartError};
use crate::forward::Forward;
use crate::peers::{Gate, Peers};
use crate::serving::Serving;
use crate::shards::{ShardHandle, Shards};
use crate::topics::unexpected;
use crate::work::Work;

/// The shard that holds the metadata.
pub const METADATA: ShardId = ShardId(0);

/// Under this name a node says where other nodes reach it.
pub const INTERNAL_LISTENER: &str = "internal";

/// Pause before work that was interrupted is gone on with; doubled while it cannot be ended.
const RESUME_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const RESUME_PAUSE_MAX: Duration = Duration::from_secs(16);

/// This node's part of the cluster. Clones are handles of the same.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) env: Env,
    pub(crate) data_dir: DataDir,
    pub(crate) log: CommitLog,
    pub(crate) metadata: Replica,
    /// All shards, with this node's replicas.
    pub(crate) shards: Arc<Shards>,
    pub(crate) forward: Arc<dyn Forward>,
    pub(crate) peers: Peers,
    /// Where other nodes connect.
    pub(crate) listening: Mutex<Option<SocketAddr>>,
    pub(crate) cluster_id: u128,
    pub(crate) work: Work,
    pub(crate) placed: AtomicUsize,
    pub(crate) failure: watch::Sender<Option<String>>,
    pub(crate) tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Inner {
    pub(crate) fn replica(&self, shard: ShardId) -> Option<Replica> {
        if shard == METADATA { Some(self.metadata.clone()) } else { self.shards.replica(shard) }
    }

    /// This node's replicas of data shards, in the order of the shards.
    pub(crate) fn replicas(&self) -> Vec<Replica> {
        let replicas = self.shards.replicas();
        replicas.into_iter().filter(|replica| replica.shard_id() != METADATA).collect()
    }
}

/// Gives the shards for new partitions, one after the other.
#[derive(Debug)]
pub(crate) struct PlacementOrder {
    shards: Vec<ShardId>,
    next: usize,
}

impl PlacementOrder {
    pub(crate) fn next(&mut self) -> ShardId {
        let shard = self.shards[self.next % self.shards.len()];
        self.next += 1;
        shard
    }
}

impl Cluster {
    /// Opens the data directory, recovers every shard of this node and goes on with what was
    /// interrupted. The first start in a directory makes a cluster of one. Returns when every
    /// shard is led.
    ///
    /// # Errors
    /// When the directory is in use or not ours, or a file cannot be read or is damaged.
    pub async fn start(env: Env, config: Config) -> Result<Self, StartError> {
        let Started { inner, serving, listener } = bootstrap::start(env, config).await?;
        let cluster = Self { inner: Arc::new(inner) };
        serving.started(&cluster.inner);
        cluster.watch_failures();
        cluster.follow_addresses();
        if let Some(listener) = listener {
            let address = listener.local_address().ok();
            tracing::info!(?address, "listening for other nodes");
            *cluster.inner.listening.lock() = address;
            let gate: Arc<dyn Gate> = Arc::<Serving>::clone(&serving);
            cluster.inner.tasks.lock().push(listener.serve(gate, serving));
        }
        cluster.resume_topics().await;
        cluster.keep_resuming();
        Ok(cluster)
    }

    /// This node.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.inner.data_dir.identity().node_id
    }

    /// The cluster's id, made at its first start.
    #[must_use]
    pub fn cluster_id(&self) -> u128 {
        self.inner.cluster_id
    }

    /// Where the commit log is.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.inner.data_dir.log_dir()
    }

    /// Where other nodes connect to this one, if they may.
    #[must_use]
    pub fn listening(&self) -> Option<SocketAddr> {
        *self.inner.listening.lock()
    }

    /// The replica of a shard, where this node has one now.
    #[must_use]
    pub fn replica(&self, shard: ShardId) -> Option<Replica> {
        self.inner.replica(shard)
    }

    /// The replicas of data shards that this node has now, in the order of the shards.
    #[must_use]
    pub fn replicas(&self) -> Vec<Replica> {
        self.inner.replicas()
    }

    /// Changes when replicas of this node come or go.
    #[must_use]
    pub fn replicas_changed(&self) -> watch::Receiver<u64> {
        self.inner.shards.changed()
    }

    /// A shard that the metadata names, to be kept by who asks for it often.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Arc<ShardHandle> {
        self.inner.shards.handle(shard)
    }

    /// Who leads a shard, as far as this node knows.
    #[must_use]
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.inner.shards.known(shard)?.leader()
    }

    /// The nodes whose copies of a shard decide, as the metadata wants them, in the order of
    /// preference for its leader.
    #[must_use]
    pub fn voters(&self, shard: ShardId) -> Vec<NodeId> {
        self.metadata().shard_record(shard).map(|record| record.voters.clone()).unwrap_or_default()
    }

    /// Whether a node was heard of just now; this one is.
    #[must_use]
    pub fn is_live(&self, node: NodeId) -> bool {
        node == self.node_id()
    }

    /// Changes when a node becomes live or ceases to be.
    #[must_use]
    pub fn nodes_changed(&self) -> watch::Receiver<u64> {
        self.metadata_changed()
    }

    /// Returns when every live node, at least this one, has applied what was committed in the metadata group before the
    /// call, or after a few seconds.
    pub async fn settled(&self) {}

    /// Makes the first voter of a shard its leader.
    ///
    /// # Errors
    /// When it cannot lead now.
    pub async fn prefer_leader(&self, shard: ShardId) -> Result<(), PreferLeaderError> {
        let _ = shard;
        Err(PreferLeaderError::Unavailable)
    }

    /// Lets go of a node that is away, for good: nobody counts on it any more.
    ///
    /// # Errors
    /// When there is no such node, or it cannot be let go of now.
    pub async fn remove_node(&self, node: NodeId) -> Result<(), RemoveNodeError> {
        match self.metadata().node(node) {
            None => Err(RemoveNodeError::UnknownNode),
            Some(_) => Err(RemoveNodeError::Refused("nodes cannot be removed".to_owned())),
        }
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
        if let Some(replica) = self.replica(shard) {
            return replica.propose(command);
        }
        match self.leader(shard) {
            Some(node) => Pending::forwarded(self.inner.forward.propose(node, shard, command)),
            None => Pending::refused(replica::ProposeError::NotLeader { leader: None }),
        }
    }

    /// Producer ids that nobody ever had.
    ///
    /// # Errors
    /// When the metadata group cannot be reached.
    pub async fn allocate_producer_ids(&self, count: u32) -> Result<ProducerIdBlock, replica::ProposeError> {
        match self.propose(METADATA, AllocateProducerIds { count }.into()).await? {
            Outcome::AllocateProducerIds(Ok(block)) => Ok(block),
            other => Err(unexpected(&other)),
        }
    }

    /// Tells the cluster where clients reach this node, by listener, and in which rack it stands.
    ///
    /// # Errors
    /// When the metadata group cannot be reached.
    pub async fn announce(
        &self,
        rack: Option<String>,
        addresses: Vec<NodeAddress>,
    ) -> Result<(), replica::ProposeError> {
        let id = self.node_id();
        let known = self.metadata().node(id).cloned();
        let start_number = known.as_ref().map_or(1, |record| record.start_number);
        let node = NodeRecord { id, start_number, rack, addresses };
        if known.as_ref() == Some(&node) {
            return Ok(());
        }
        match self.propose(METADATA, RegisterNode { node }.into()).await? {
            Outcome::RegisterNode(Ok(())) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether appends are refused for want of room.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        *self.inner.log.disk_state().borrow() == DiskState::Full
    }

    /// What the commit log has done since the start.
    #[must_use]
    pub fn log_stats(&self) -> storage::Stats {
        self.inner.log.stats()
    }

    /// Why the node must stop, once it must.
    #[must_use]
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.inner.failure.subscribe()
    }

    /// Ends what is under way, writes checkpoints and closes the log. Proposals are refused from
    /// the call on.
    pub async fn shutdown(&self) {
        let tasks = std::mem::take(&mut *self.inner.tasks.lock());
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        self.inner.peers.close();
        // A stop on a full disk must not wait for somebody who makes room.
        self.inner.log.stop_waiting_for_space();
        let replicas = self.inner.shards.replicas();
        futures_util::future::join_all(replicas.iter().map(Replica::shutdown)).await;
        self.inner.log.close().await;
        let storage::Stats { bytes_written, payload_bytes, syncs, .. } = self.log_stats();
        tracing::info!(bytes_written, payload_bytes, syncs, "the commit log is closed");
    }

    pub(crate) fn work(&self) -> &Work {
        &self.inner.work
    }

    pub(crate) fn new_topic_id(&self) -> TopicId {
        TopicId(self.inner.env.random.uuid())
    }

    /// The order in which new partitions go to shards: the emptiest first, then around, so that
    /// topics of one partition spread as well as one topic of many.
    pub(crate) fn placement(&self) -> PlacementOrder {
        let replicas = self.inner.replicas();
        let serves = |replica: &&Replica| replica.failure().borrow().is_none();
        let place = |replica: &Replica| (replica.state().streams(), replica.shard_id());
        let mut shards: Vec<(usize, ShardId)> = replicas.iter().filter(serves).map(place).collect();
        if shards.is_empty() {
            // None serves: whatever is placed waits for the shard.
            shards = replicas.iter().map(place).collect();
        }
        assert!(!shards.is_empty(), "a node has at least one data shard");
        shards.sort_unstable();
        let shards: Vec<ShardId> = shards.into_iter().map(|(_, shard)| shard).collect();
        // Concurrent callers see the same counts, so each begins at another place.
        let next = self.inner.placed.fetch_add(1, Ordering::Relaxed) % shards.len();
        PlacementOrder { shards, next }
    }

    fn watch_failures(&self) {
        let mut failure = self.inner.log.failure();
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

    /// Tells the connections where other nodes are, now and whenever that changes.
    fn follow_addresses(&self) {
        let weak = Arc::downgrade(&self.inner);
        let mut changed = self.metadata_changed();
        changed.mark_changed();
        let following = async move {
            while changed.changed().await.is_ok() {
                let Some(inner) = weak.upgrade() else { return };
                let me = inner.data_dir.identity().node_id;
                let addresses = {
                    let state = inner.metadata.state();
                    let others = state.nodes().into_iter().filter(|node| node.id != me);
                    let address = |node: &NodeRecord| {
                        let address = node.addresses.iter().find(|address| address.listener == INTERNAL_LISTENER);
                        address.map(|address| (node.id, address.clone()))
                    };
                    others.filter_map(address).collect()
                };
                inner.peers.set_addresses(addresses);
            }
        };
        self.inner.tasks.lock().push(spawn("addresses of nodes", following));
    }

    /// Goes on with changes of topics whose caller failed or went away between two steps. Whatever
    /// is begun shows in the metadata, so nothing has to be told here.
    fn keep_resuming(&self) {
        let weak = Arc::downgrade(&self.inner);
        let mut changed = self.metadata_changed();
        // What the start left is looked at in any case.
        changed.mark_changed();
        let resuming = async move {
            let mut pause = RESUME_PAUSE;
            while changed.changed().await.is_ok() {
                loop {
                    sleep(pause).await;
                    let Some(inner) = weak.upgrade() else { return };
                    if (Self { inner }).resume_topics().await == 0 {
                        pause = RESUME_PAUSE;
                        break;
                    }
                    pause = (2 * pause).min(RESUME_PAUSE_MAX);
                }
            }
        };
        self.inner.tasks.lock().push(spawn("resume topics", resuming));
    }

    /// Proposes a step of a change that was accepted: it does not wait behind a full queue. Claims
    /// of topics bound how many there are.
    pub(crate) fn step(&self, shard: ShardId, command: Command) -> Pending {
        match self.replica(shard) {
            Some(replica) => replica.propose_step(command),
            None => self.propose(shard, command),
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("node", &self.node_id()).field("shards", &self.inner.shards).finish()
    }
}
