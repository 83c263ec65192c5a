//! The replicas that this node hosts: brought here and started as the metadata wants them, stopped when
//! their groups have let go of this node.
//!
//! A replica that is new here, or whose log ends before what its leader still has, is brought here from
//! another member before it starts: until then it neither votes nor acknowledges anything.

mod aside;
mod judgement;
pub(crate) mod keeping;
mod left_over;

use std::collections::BTreeSet;
use std::sync::Arc;

use base::Env;
use base::time::{Duration, now, sleep};
use record::{NodeId, ShardId};
use replica::{
    Founding, InstallParts, InstallProgress, Pace, Parts, Replica, Transport, give_way, install, let_go, set_aside,
};
use storage::checkpoint::CheckpointStore;
use storage::data_dir::DataDir;
use storage::index_file::IndexStore;
use storage::object::{DiskStore, Objects};
use storage::{CommitLog, InstallMarker, InstallStage, Installing};

use self::judgement::Judgement;
use self::keeping::patiently;
use crate::clock::ProposalClock;
use crate::cluster::METADATA;
use crate::config::Config;
use crate::errors::StartError;
use crate::messages::Phase;
use crate::node::Node;

/// Every seal makes an index file.
const SEAL_BYTES_MIN: u64 = 1 << 20;
/// What one shard's index cache may hold.
const INDEX_CACHE_BYTES: usize = 4 << 20;
/// What one shard's cache of the indexes of its objects may hold.
const OBJECT_CACHE_BYTES: usize = 4 << 20;
/// Pause before a replica is started again that could not be, and before another donor is asked.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Pause between two looks at what is here and what should be.
const ROUND_PAUSE: Duration = Duration::from_millis(500);
/// As many copies each shard has, if nobody said otherwise: a node hosts as many times what it brings.
const COPIES_USUAL: usize = 3;
/// How long founding a shard may wait for the metadata group.
const FOUND_WAIT_MAX: Duration = Duration::from_secs(10);
/// One failed try in so many is reported.
const TRIES_PER_REPORT: u64 = 10;

/// What the replicas of a node are started with.
pub(crate) struct Host {
    pub(crate) node: Arc<Node>,
    pub(crate) config: Config,
    pub(crate) data_dir: Arc<DataDir>,
    pub(crate) log: Arc<CommitLog>,
    /// The most that an entry may have.
    pub(crate) payload_bytes_max: usize,
    /// How fast what is old is rewritten.
    pub(crate) pace: Arc<Pace>,
}

impl Host {
    pub(crate) fn new(
        node: Arc<Node>,
        config: Config,
        data_dir: Arc<DataDir>,
        log: Arc<CommitLog>,
        payload_bytes_max: usize,
    ) -> Self {
        let mut pace = Pace::new(config.object_bytes_per_second, config.compaction_memory_bytes);
        if let Some(rate) = config.scrub_bytes_per_second {
            pace = pace.scrubbing(rate, config.scrub_interval);
        }
        let pace = Arc::new(pace);
        Self { node, config, data_dir, log, payload_bytes_max, pace }
    }

    /// Starts a replica and lets it be found; one that is not here yet is brought here first.
    pub(crate) async fn start(&self, shard: ShardId, founding: Founding) -> Result<Replica, StartError> {
        if founding == Founding::Invited {
            self.bring(shard, false).await?;
        }
        let InstallParts { log, checkpoints, index, marker } = self.parts(shard).await?;
        let parts = Parts {
            log: log.clone(),
            disk_state: self.log.disk_state(),
            checkpoints: checkpoints.clone(),
            index: index.clone(),
            pace: Arc::clone(&self.pace),
            transport: Arc::new(self.node.peers.clone()),
            founding,
        };
        let clock = Arc::new(ProposalClock(Arc::clone(&self.node.clock)));
        let env = Env { wall_clock: clock, ..self.node.env.clone() };
        match Box::pin(Replica::start(env, self.replica_config(shard), parts)).await {
            Ok(replica) => {
                self.node.shards.put(replica.clone());
                Ok(replica)
            }
            Err(error) if self.others_have(shard, &error) => {
                tracing::error!(shard = shard.0, "{error}");
                let parts = InstallParts { log, checkpoints, index, marker };
                set_aside(&parts).await.map_err(|source| StartError::Files { shard, source })?;
                Err(StartError::SetAside { shard })
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn replica_config(&self, shard: ShardId) -> replica::Config {
        let mut config = replica::Config::new(self.data_dir.identity().node_id, shard)
            .with_payload_bytes_max(self.payload_bytes_max);
        // The metadata's queue and those of the data shards that a first start makes.
        let shards = self.config.data_shards() + 1;
        config.queue_bytes_max = (self.config.queue_bytes_max / shards).max(config.entry_bytes_max);
        // All that are here together leave three quarters of the reserve alone: copies of what other nodes bring, too.
        let here = (COPIES_USUAL * self.config.data_shards()).max(self.wanted().len()) + 1;
        config.full_disk_bytes_max = self.config.reserve_bytes / 4 / here as u64;
        config.is_vital = shard == METADATA;
        config.log_keep_bytes = self.config.log_keep_bytes;
        config.log_hot_bytes = self.config.log_hot_bytes.max(self.config.segment_bytes);
        config.object_bytes_min = self.config.object_bytes_min.min(config.log_hot_bytes);
        config.checkpoint_age_max = self.config.checkpoint_age_max;
        // Space comes back by whole segments, so a smaller range would free nothing earlier.
        config.seal_bytes = config.seal_bytes.min(self.config.segment_bytes.max(SEAL_BYTES_MIN));
        config
    }

    pub(crate) async fn parts(&self, shard: ShardId) -> Result<InstallParts, StartError> {
        let files = |source| StartError::Files { shard, source };
        let disk = &self.node.env.disk;
        let checkpoints =
            CheckpointStore::open(Arc::clone(disk), &self.data_dir.checkpoint_dir(shard)).await.map_err(files)?;
        let store = DiskStore::new(Arc::clone(disk), self.data_dir.path().to_owned());
        let below = DataDir::objects_below(shard);
        store.remove_unfinished(&below).await.map_err(files)?;
        let objects = Objects::open(Arc::new(store), below, shard, OBJECT_CACHE_BYTES).await.map_err(files)?;
        let index = IndexStore::open(Arc::clone(disk), &self.data_dir.index_dir(shard), INDEX_CACHE_BYTES, objects)
            .await
            .map_err(files)?;
        let marker = self.marker(shard);
        Ok(InstallParts { log: self.log.shard(shard), checkpoints, index, marker })
    }

    /// While it is there no replica of the shard is started. Unlike all parts it can be had of one that runs.
    fn marker(&self, shard: ShardId) -> InstallMarker {
        InstallMarker::new(Arc::clone(&self.node.env.disk), &self.data_dir.installing_file(shard))
    }

    /// Brings a shard here from another member, if nothing of it is here, the last try was not ended, or
    /// `anew`. Tries on, with one member after the other, until it is here.
    async fn bring(&self, shard: ShardId, anew: bool) -> Result<(), StartError> {
        let files = |source| StartError::Files { shard, source };
        let parts = self.parts(shard).await?;
        let state = parts.log.log_state();
        let begun = parts.marker.read().await.map_err(files)?;
        if !(begun.is_some() || anew || (state.last.is_none() && state.purged.is_none())) {
            return Ok(());
        }
        let config = self.replica_config(shard);
        let progress = Arc::<InstallProgress>::default();
        let _shown = self.node.statuses.installing(shard, Arc::clone(&progress));
        if matches!(begun, Some(Installing { stage: InstallStage::SetAside, .. })) {
            if shard == METADATA {
                // It says where the others are.
                let (path, node) = (self.data_dir.path().to_owned(), self.data_dir.identity().node_id);
                return Err(StartError::MetadataDamaged { path, node });
            }
            let leads_to = self.led_by_another(&parts, shard).await;
            tracing::warn!(shard = shard.0, "what is damaged here goes: the shard is brought here anew");
            give_way(&parts, leads_to).await.map_err(|source| StartError::Install { shard, source })?;
        }
        let mut tries: u64 = 0;
        loop {
            if shard != METADATA && !self.wanted().contains(&shard) && self.has_no_part(shard) {
                return Err(StartError::NotWanted { shard });
            }
            let donors = self.donors(shard);
            let turn = usize::try_from(tries).unwrap_or(0) % donors.len().max(1);
            let report = tries.is_multiple_of(TRIES_PER_REPORT);
            tries += 1;
            match donors.get(turn) {
                None if report => tracing::info!(shard = shard.0, "nobody is there yet who can give the shard"),
                None => {}
                Some(donor) => {
                    let member = self.node.peers.donor(shard, *donor);
                    let rate = self.config.catch_up_bytes_per_second;
                    match install(&config, &parts, &*member, &progress, rate).await {
                        Ok(()) => return Ok(()),
                        Err(source) if source.is_lasting() => return Err(StartError::Install { shard, source }),
                        Err(error) if report => {
                            tracing::info!(shard = shard.0, from = donor.0, %error, "the shard is not here yet");
                        }
                        Err(_) => {}
                    }
                }
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Whether the shard is here, and whole.
    pub(crate) fn has(&self, shard: ShardId) -> bool {
        let state = self.log.shard(shard).log_state();
        !self.marker(shard).exists() && (state.last.is_some() || state.purged.is_some())
    }

    /// Who can give a shard: the leader first, then others whose replica runs. Before anything is heard of
    /// anybody, whoever is known.
    fn donors(&self, shard: ShardId) -> Vec<NodeId> {
        let Node { peers, statuses, .. } = &*self.node;
        let runs =
            |node: &NodeId| statuses.replica(*node, shard).is_some_and(|replica| replica.phase == Phase::Running);
        let leader = self.node.leader(shard).filter(|leader| *leader != self.node.id());
        let others = peers.known().into_iter().filter(runs);
        let mut donors: Vec<NodeId> = leader.into_iter().chain(others.filter(|node| Some(*node) != leader)).collect();
        if donors.is_empty() && shard == METADATA {
            donors = peers.known();
        }
        donors
    }

    /// Founds a shard that this node is to found, or takes part in one that is there. No other node ever founds it, and
    /// this one does so once: what it founded is here, or it has noted that its group let go of it.
    async fn begin(&self, shard: ShardId) -> Result<(), StartError> {
        let me = self.node.id();
        let metadata = || self.node.metadata();
        let is_mine = || metadata().is_some_and(|metadata| metadata.state().founder(shard) == Some(me));
        let let_go = self.marker(shard).read().await.map_err(|source| StartError::Files { shard, source })?.is_some();
        if let_go || !is_mine() {
            self.start(shard, Founding::Invited).await?;
            return Ok(());
        }
        // This node's copy may be an old one: nothing is founded that was given up since.
        let deadline = now() + FOUND_WAIT_MAX;
        let index = self.node.barrier(METADATA, deadline).await;
        let known = match index {
            Some(index) => self.node.applied(METADATA, index, deadline).await,
            None => false,
        };
        if known && is_mine() && self.wanted().contains(&shard) {
            self.start(shard, Founding::Alone).await?;
        }
        Ok(())
    }

    /// The data shards that the metadata wants on this node.
    pub(crate) fn wanted(&self) -> Vec<ShardId> {
        let (Some(metadata), me) = (self.node.metadata(), self.node.id()) else { return Vec::new() };
        let state = metadata.state();
        let ours = state.shard_records().into_iter().filter(|record| record.voters.contains(&me));
        ours.map(|record| record.id).filter(|shard| *shard != METADATA).collect()
    }

    /// The data shards that are wanted here, and those in whose group this node may still vote. Where it is to leave one it
    /// goes on until the group has let go of it: before that a majority may need it.
    pub(crate) async fn to_run(&self) -> Result<BTreeSet<ShardId>, StartError> {
        let mut shards: BTreeSet<ShardId> = self.wanted().into_iter().collect();
        for shard in self.log.shards() {
            if shard != METADATA && !shards.contains(&shard) && self.has(shard) {
                shards.insert(shard);
            }
        }
        Ok(shards)
    }

    /// The data shards in whose group this node votes as their leaders say.
    fn votes_in(&self) -> Vec<ShardId> {
        let (Some(metadata), me) = (self.node.metadata(), self.node.id()) else { return Vec::new() };
        let mut shards: Vec<ShardId> = metadata.state().shard_records().into_iter().map(|record| record.id).collect();
        let votes = |shard: &ShardId| {
            let leader = self.node.leader(*shard).filter(|leader| *leader != me);
            let led = leader.and_then(|leader| self.node.statuses.replica(leader, *shard)?.leads);
            led.is_some_and(|led| led.voters.contains(&me))
        };
        shards.retain(|shard| *shard != METADATA && votes(shard));
        shards
    }

    /// Removes what is here of a shard, however often that takes.
    async fn let_go(&self, shard: ShardId) -> Result<(), StartError> {
        let remove = || async {
            let parts = self.parts(shard).await?;
            let_go(&parts).await.map_err(|source| StartError::Install { shard, source })
        };
        patiently(shard, "what was here of the shard could not be removed", remove).await
    }

    /// Whether a replica lacks what its leader has let go of.
    pub(crate) fn is_behind(&self, replica: &Replica) -> bool {
        self.judge(replica) == Judgement::IsBehind
    }

    /// Brings what is behind here anew.
    pub(crate) async fn renew(&self, shard: ShardId) -> Result<(), StartError> {
        // The metadata says where others are, and is about to be gone: a start in between would find nobody.
        if shard == METADATA {
            self.data_dir.note_members(self.node.peers.contacts()).await?;
        }
        let Some(replica) = self.node.shards.take(shard) else { return Ok(()) };
        tracing::warn!(shard = shard.0, "this node lacks what its leader has let go: the shard is brought here anew");
        replica.shutdown().await;
        drop(replica);
        self.bring(shard, true).await
    }
}
