//! The start of a node: the commit log, the metadata group, what a first start writes into it,
//! then the data shards.
//!
//! A first start that was interrupted is gone on with: each step is taken when its result is not
//! there yet.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use base::Env;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use record::{NodeId, ShardId};
use replica::{Founding, Parts, Replica};
use shard::commands::{AssignSlots, Configure, CreateCluster, PutShards, RegisterNode, SlotRange};
use shard::{Command, NodeRecord, Outcome, SLOTS, Settings, ShardRecord};
use storage::checkpoint::CheckpointStore;
use storage::data_dir::{DataDir, covered};
use storage::index_file::IndexStore;
use storage::{CommitLog, Options};
use tokio::sync::watch;

use crate::cluster::{Inner, METADATA};
use crate::config::{self, Config};
use crate::errors::StartError;
use crate::peers::{Listener, Me, Peers};
use crate::serving::Serving;
use crate::shards::Shards;
use crate::work::Work;

/// What one shard can have queued at the commit log at most: its entries in flight, each as large
/// as an entry may be. The log's own bound is never met, so that no append is refused there.
const QUEUED_BYTES_PER_SHARD: usize = 8 * (5 << 20);
/// What one shard's index cache may hold.
const INDEX_CACHE_BYTES: usize = 4 << 20;

/// What every replica of a node is started with.
struct Starter<'a> {
    env: &'a Env,
    config: &'a Config,
    data_dir: &'a DataDir,
    log: &'a CommitLog,
    shards: usize,
    payload_bytes_max: usize,
    peers: &'a Peers,
}

/// A node's part of the cluster, and the listener that is to serve with it.
pub(crate) struct Started {
    pub(crate) inner: Inner,
    pub(crate) serving: Arc<Serving>,
    pub(crate) listener: Option<Listener>,
}

pub(crate) async fn start(env: Env, config: Config) -> Result<Started, StartError> {
    let data_dir = DataDir::open(&env, &config.data_dir).await?;
    // Before anything is recovered: an address in use is told at once.
    let listener = match config.listen {
        Some(address) => {
            let bound = Listener::bind(&env, address).await;
            Some(bound.map_err(|source| StartError::Listen { address, source })?)
        }
        None => None,
    };
    let me = Me { cluster: 0, node: data_dir.identity().node_id, life: env.random.next_u64() };
    let peers = Peers::new(env.clone(), me);
    let options = Options {
        segment_bytes: config.segment_bytes,
        memory_bytes: config.log_memory_bytes,
        read_cache_bytes: config.read_cache_bytes,
        reserve_bytes: config.reserve_bytes,
        queue_bytes: QUEUED_BYTES_PER_SHARD * (config::SHARDS_MAX + 1),
        // Known to nobody outside of the directory.
        salt: low_half(data_dir.identity().uuid),
        covered: covered(&*env.disk, &config.data_dir).await.map_err(StartError::Checkpoints)?,
        ..Options::default()
    };
    let payload_bytes_max = options.entry_bytes_max();
    let (log, recovered) = CommitLog::open(Arc::clone(&env.disk), &data_dir.log_dir(), options).await?;
    for shard in &recovered {
        for damage in &shard.damage {
            tracing::error!(
                shard = shard.shard.0,
                file = %damage.file.display(),
                position = damage.position,
                bytes = damage.bytes,
                "the commit log is damaged here; what lies in the damage is not served"
            );
        }
    }
    let data_shards = config.data_shards();
    let starter = Starter {
        env: &env,
        config: &config,
        data_dir: &data_dir,
        log: &log,
        shards: data_shards + 1,
        payload_bytes_max,
        peers: &peers,
    };
    let metadata = starter.replica(METADATA).await?;
    if let Some(failure) = &*metadata.failure().borrow() {
        return Err(StartError::Metadata { reason: failure.to_string() });
    }
    let node = data_dir.identity().node_id;
    let cluster_id = found(&env, &metadata, node, data_shards).await?;
    let shards: Vec<ShardId> = {
        let state = metadata.state();
        let ours = state.shard_records().into_iter().filter(|record| record.voters.contains(&node));
        ours.map(|record| record.id).filter(|shard| *shard != METADATA).collect()
    };
    let replicas = try_join_all(shards.iter().map(|shard| starter.replica(*shard))).await?;
    // One that is out of service was reported; the others serve.
    for replica in replicas.iter().filter(|replica| replica.failure().borrow().is_none()) {
        configure(replica, &config).await?;
    }
    let shards = Arc::<Shards>::default();
    replicas.into_iter().chain([metadata.clone()]).for_each(|replica| shards.put(replica));
    peers.set_cluster(cluster_id);
    let serving = Arc::new(Serving::new(peers.clone()));
    let inner = Inner {
        env,
        data_dir,
        log,
        metadata,
        shards,
        forward: Arc::new(peers.clone()),
        peers,
        listening: Mutex::default(),
        cluster_id,
        work: Work::default(),
        placed: AtomicUsize::new(0),
        failure: watch::Sender::new(None),
        tasks: Mutex::default(),
    };
    Ok(Started { inner, serving, listener })
}

impl Starter<'_> {
    async fn replica(&self, shard: ShardId) -> Result<Replica, StartError> {
        let files = |source| StartError::Files { shard, source };
        let disk = &self.env.disk;
        let checkpoints =
            CheckpointStore::open(Arc::clone(disk), &self.data_dir.checkpoint_dir(shard)).await.map_err(files)?;
        let index = IndexStore::open(Arc::clone(disk), &self.data_dir.index_dir(shard), INDEX_CACHE_BYTES)
            .await
            .map_err(files)?;
        let mut config = replica::Config::new(self.data_dir.identity().node_id, shard)
            .with_payload_bytes_max(self.payload_bytes_max);
        config.queue_bytes_max = (self.config.queue_bytes_max / self.shards).max(config.entry_bytes_max);
        // All shards together leave three quarters of the reserve alone.
        config.full_disk_bytes_max = self.config.reserve_bytes / 4 / self.shards as u64;
        let parts = Parts {
            log: self.log.shard(shard),
            disk_state: self.log.disk_state(),
            checkpoints,
            index,
            transport: Arc::new(self.peers.clone()),
            founding: Founding::Alone,
        };
        Ok(Replica::start(self.env.clone(), config, parts).await?)
    }
}

/// Writes into the metadata what a first start must, and announces this start. Gives the cluster's
/// id.
async fn found(env: &Env, metadata: &Replica, node: NodeId, data_shards: usize) -> Result<u128, StartError> {
    let known = metadata.state().cluster_id();
    let cluster_id = match known {
        Some(cluster_id) => cluster_id,
        None => {
            let command = CreateCluster { cluster_id: env.random.uuid() };
            match propose(metadata, command.into()).await? {
                Outcome::CreateCluster { cluster_id } => cluster_id,
                other => return Err(refused(&other)),
            }
        }
    };
    if metadata.state().shard_records().is_empty() {
        let count = u32::try_from(data_shards).expect("at most 64 shards");
        let shards = (0..=count).map(|id| ShardRecord { id: ShardId(id), voters: vec![node] }).collect();
        propose(metadata, PutShards { shards }.into()).await?;
    }
    if metadata.state().slot_shard(0).is_none() {
        let shards: Vec<ShardId> =
            metadata.state().shard_records().iter().map(|record| record.id).filter(|id| *id != METADATA).collect();
        match propose(metadata, AssignSlots { ranges: slot_ranges(&shards) }.into()).await? {
            Outcome::AssignSlots(Ok(())) => {}
            other => return Err(refused(&other)),
        }
    }
    let before = metadata.state().node(node).cloned();
    let record = NodeRecord {
        id: node,
        start_number: before.as_ref().map_or(1, |before| before.start_number + 1),
        rack: before.as_ref().and_then(|before| before.rack.clone()),
        addresses: before.map(|before| before.addresses).unwrap_or_default(),
    };
    match propose(metadata, RegisterNode { node: record }.into()).await? {
        Outcome::RegisterNode(Ok(())) => Ok(cluster_id),
        other => Err(refused(&other)),
    }
}

/// Tells a shard its bounds where they are not the configured ones.
async fn configure(replica: &Replica, config: &Config) -> Result<(), StartError> {
    let settings = Settings {
        producers_max: config.producers_per_shard_max,
        producer_expiry_ms: config.producer_expiration_ms,
        ..*replica.state().settings()
    };
    if settings != *replica.state().settings() {
        propose(replica, Configure { settings }.into()).await?;
    }
    Ok(())
}

async fn propose(replica: &Replica, command: Command) -> Result<Outcome, StartError> {
    replica.propose(command).await.map_err(|error| StartError::Metadata { reason: error.to_string() })
}

fn refused(outcome: &impl Debug) -> StartError {
    StartError::Metadata { reason: format!("{outcome:?}") }
}

fn low_half(number: u128) -> u64 {
    u64::try_from(number & u128::from(u64::MAX)).expect("64 bits are left")
}

/// The slots, in runs of nearly equal length, over `shards`.
fn slot_ranges(shards: &[ShardId]) -> Vec<SlotRange> {
    let count = u16::try_from(shards.len()).expect("at most 64 shards");
    assert!((1..=SLOTS).contains(&count), "slots need shards");
    let start =
        |place: u16| u16::try_from(u32::from(SLOTS) * u32::from(place) / u32::from(count)).expect("at most 1,024");
    let range =
        |(place, shard): (u16, &ShardId)| SlotRange { first: start(place), last: start(place + 1) - 1, shard: *shard };
    (0..count).zip(shards).map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_ranges_cover_every_slot_once() {
        for count in 1..=64 {
            let shards: Vec<ShardId> = (1..=count).map(ShardId).collect();
            let ranges = slot_ranges(&shards);
            let mut next = 0;
            for (range, shard) in ranges.iter().zip(&shards) {
                assert_eq!((range.first, range.shard), (next, *shard));
                assert!(range.last >= range.first);
                next = range.last + 1;
            }
            assert_eq!(next, SLOTS);
        }
    }
}
