//! The replicas that this node hosts: started as the metadata wants them here.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::task::{JoinHandle, JoinSet, spawn};
use base::time::{Duration, timeout};
use parking_lot::Mutex;
use record::ShardId;
use replica::{Founding, Parts, Replica};
use storage::CommitLog;
use storage::checkpoint::CheckpointStore;
use storage::data_dir::DataDir;
use storage::index_file::IndexStore;

use crate::cluster::METADATA;
use crate::config::Config;
use crate::errors::StartError;
use crate::node::Node;

/// What one shard's index cache may hold.
const INDEX_CACHE_BYTES: usize = 4 << 20;
/// Pause before a replica is started again that could not be.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What the replicas of a node are started with.
pub(crate) struct Host {
    pub(crate) node: Arc<Node>,
    pub(crate) config: Config,
    pub(crate) data_dir: Arc<DataDir>,
    pub(crate) log: Arc<CommitLog>,
    /// The most that an entry may have.
    pub(crate) payload_bytes_max: usize,
}

impl Host {
    /// Starts a replica and lets it be found.
    pub(crate) async fn start(&self, shard: ShardId, founding: Founding) -> Result<Replica, StartError> {
        let replica = self.open(shard, founding).await?;
        self.node.shards.put(replica.clone());
        Ok(replica)
    }

    async fn open(&self, shard: ShardId, founding: Founding) -> Result<Replica, StartError> {
        let files = |source| StartError::Files { shard, source };
        let Node { env, peers, .. } = &*self.node;
        let checkpoints =
            CheckpointStore::open(Arc::clone(&env.disk), &self.data_dir.checkpoint_dir(shard)).await.map_err(files)?;
        let index = IndexStore::open(Arc::clone(&env.disk), &self.data_dir.index_dir(shard), INDEX_CACHE_BYTES)
            .await
            .map_err(files)?;
        let mut config = replica::Config::new(self.data_dir.identity().node_id, shard)
            .with_payload_bytes_max(self.payload_bytes_max);
        // The metadata's queue and those of the data shards that a first start makes.
        let shards = self.config.data_shards() + 1;
        config.queue_bytes_max = (self.config.queue_bytes_max / shards).max(config.entry_bytes_max);
        // All shards together leave three quarters of the reserve alone.
        config.full_disk_bytes_max = self.config.reserve_bytes / 4 / shards as u64;
        let parts = Parts {
            log: self.log.shard(shard),
            disk_state: self.log.disk_state(),
            checkpoints,
            index,
            transport: Arc::new(peers.clone()),
            founding,
        };
        Ok(Replica::start(env.clone(), config, parts).await?)
    }

    /// The data shards that the metadata wants on this node.
    pub(crate) fn wanted(&self) -> Vec<ShardId> {
        let (Some(metadata), me) = (self.node.metadata(), self.node.id()) else { return Vec::new() };
        let state = metadata.state();
        let ours = state.shard_records().into_iter().filter(|record| record.voters.contains(&me));
        ours.map(|record| record.id).filter(|shard| *shard != METADATA).collect()
    }
}

/// Starts what the metadata wants here and is not here yet, until the task is aborted.
pub(crate) fn keep_hosting(host: &Arc<Host>) -> JoinHandle<()> {
    let Some(metadata) = host.node.metadata() else { unreachable!("a node hosts the metadata first") };
    let mut changed = metadata.changed();
    // The directory's lock ends with the node, not with this task.
    let weak = Arc::downgrade(host);
    spawn("host replicas", async move {
        let mut starting = JoinSet::new();
        let underway = Arc::<Mutex<BTreeSet<ShardId>>>::default();
        loop {
            let Some(host) = weak.upgrade() else { return };
            for shard in host.wanted() {
                if host.node.shards.replica(shard).is_some() || !underway.lock().insert(shard) {
                    continue;
                }
                let (host, underway) = (Arc::clone(&host), Arc::clone(&underway));
                starting.spawn(async move {
                    tracing::info!(shard = shard.0, "a replica of the shard begins here");
                    if let Err(error) = host.start(shard, Founding::Invited).await {
                        tracing::error!(shard = shard.0, %error, "the replica could not be started, trying again");
                    }
                    underway.lock().remove(&shard);
                });
            }
            while starting.try_join_next().is_some() {}
            drop(host);
            let _ = timeout(RETRY_PAUSE, changed.changed()).await;
        }
    })
}
