//! Which partitions are compacted by key, and how: those of topics whose cleanup policy says so, by whoever leads their shards.
//!
//! What is read and written for that is the replica's matter; here it is told what topics' configurations say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::Env;
use base::time::{Duration, sleep};
use cluster::Cluster;
use record::{ShardId, StreamId};
use replica::{CompactionPolicy, Replica};
use shard::commands::Tick;

use crate::background::Background;
use crate::configs::Compaction;
use crate::topics::Cache;

/// The level of features from which on there are compacted objects.
const FEATURE_LEVEL: u32 = 6;

/// Tells the replicas every `interval`.
pub(crate) fn start(env: Env, cluster: Cluster, cache: Arc<Cache>, interval: Duration) -> Background {
    let teller = Teller { env, cluster, cache, interval, told: BTreeSet::new() };
    Background::start("compaction", teller.run())
}

struct Teller {
    env: Env,
    cluster: Cluster,
    cache: Arc<Cache>,
    interval: Duration,
    /// The shards that have something to compact, as far as they know.
    told: BTreeSet<ShardId>,
}

impl Teller {
    async fn run(mut self) {
        loop {
            sleep(self.interval).await;
            if self.cluster.feature_level() >= FEATURE_LEVEL {
                self.tell().await;
            }
        }
    }

    async fn tell(&mut self) {
        let mut wishes: BTreeMap<ShardId, (Replica, BTreeMap<StreamId, CompactionPolicy>)> = BTreeMap::new();
        for topic in self.cache.all().iter().filter(|topic| topic.settings.retention.compacts) {
            tokio::task::coop::consume_budget().await;
            for partition in &topic.partitions {
                // What is about to go on elsewhere does not change.
                let replica = partition.replica().filter(Replica::is_leader).filter(|_| !partition.has_ended());
                let Some(replica) = replica else { continue };
                let keeps_deletes = partition.earlier_left().next().is_some();
                let policy = policy(topic.settings.compaction, keeps_deletes);
                let of_shard = wishes.entry(replica.shard_id()).or_insert_with(|| (replica, BTreeMap::new()));
                of_shard.1.insert(partition.stream, policy);
            }
        }
        for shard in std::mem::take(&mut self.told).into_iter().filter(|shard| !wishes.contains_key(shard)) {
            if let Some(replica) = self.cluster.replica(shard) {
                replica.compact(BTreeMap::new());
            }
        }
        for (shard, (replica, streams)) in wishes {
            self.told.insert(shard);
            self.move_on(&replica).await;
            replica.compact(streams);
        }
    }

    /// Lets a shard learn the time to which nothing was written of late: lags and the time that deletes stay are by it.
    async fn move_on(&self, replica: &Replica) {
        let late_ms = self.env.wall_clock.now_ms().saturating_sub(replica.state().time().0);
        if u128::try_from(late_ms).is_ok_and(|late_ms| late_ms > self.interval.as_millis())
            && let Err(error) = replica.propose(Tick {}.into()).await
        {
            tracing::debug!(shard = replica.shard_id().0, %error, "compaction learns the time later");
        }
    }
}

fn policy(settings: Compaction, keeps_deletes: bool) -> CompactionPolicy {
    let Compaction { dirty_ratio_min, lag_ms_min, lag_ms_max, delete_retention_ms, segment_bytes, segment_ms } =
        settings;
    CompactionPolicy {
        dirty_ratio_min,
        lag_ms_min,
        lag_ms_max,
        delete_retention_ms,
        unsealed_bytes_max: segment_bytes,
        unsealed_age_ms_max: segment_ms,
        keeps_deletes,
    }
}
