//! Retention: what is too old, or too much, goes from the front of each partition of a topic whose cleanup policy says so.
//!
//! Whoever leads a partition's shard decides, by the shard's time and its copy of the configuration, and says in a command what
//! goes; the others follow. A shard's time moves on only with what is written to it, and by no clock that the nodes do not
//! agree on: where this node's clock says that something is old and the shard's time does not, the shard is given a tick. What a
//! look finds out is remembered as a few numbers per partition, so that the next look at one of which nothing is due costs
//! no look into a file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::Env;
use base::hash::FixedHashMap;
use base::time::{Duration, now, sleep};
use cluster::{Cluster, METADATA};
use record::{ShardId, StreamId, StreamOffset, TimestampMs};
use replica::{FetchError, Replica};
use shard::commands::{DeleteRecords, SetLogStart, StreamFront, Tick};

use crate::background::Background;
use crate::configs::Retention;
use crate::sizes::{Size, Version};
use crate::topics::{Cache, EarlierRange, Partition, Topic};

/// The level of features from which on records can be deleted.
pub(crate) const FEATURE_LEVEL: u32 = 4;
/// Streams of one command.
pub(crate) const FRONTS_MAX: usize = 500;

/// Pause between two looks while a disk is full.
const PAUSE_WHEN_FULL: Duration = Duration::from_secs(5);

/// Looks every `interval` at what is to go.
pub(crate) fn start(env: Env, cluster: Cluster, cache: Arc<Cache>, interval: Duration) -> Background {
    let (known, ticked) = (FixedHashMap::default(), BTreeSet::new());
    let keeper = Keeper { env, cluster, cache, interval, known, round: 0, ticked };
    Background::start("retention", keeper.run())
}

struct Keeper {
    env: Env,
    cluster: Cluster,
    cache: Arc<Cache>,
    interval: Duration,
    known: FixedHashMap<(ShardId, StreamId), Known>,
    /// Counts the rounds: what was not met in one is forgotten.
    round: u64,
    /// The shards whose time was asked to move on in this round.
    ticked: BTreeSet<ShardId>,
}

/// What an earlier look found out about a stream.
#[derive(Debug, Default, Clone, Copy)]
struct Known {
    /// Of the stream at that look; with another one the rest does not count.
    version: Version,
    /// The largest timestamp of the first batch that is not old.
    next: Option<TimestampMs>,
    size: Size,
    round: u64,
}

impl Keeper {
    async fn run(mut self) {
        loop {
            self.pause().await;
            if self.cluster.feature_level() >= FEATURE_LEVEL {
                self.look().await;
            }
        }
    }

    /// Until the next look. On a full disk nothing else makes room by itself, so it is not put off there.
    async fn pause(&self) {
        let until = now() + self.interval;
        while now() < until {
            sleep(PAUSE_WHEN_FULL.min(until - now())).await;
            if self.cluster.is_any_disk_full() {
                return;
            }
        }
    }

    /// One look at all partitions that are led here, and at what others left here.
    async fn look(&mut self) {
        self.round += 1;
        self.ticked.clear();
        let mut fronts = Fronts::default();
        for topic in self.cache.all() {
            tokio::task::coop::consume_budget().await;
            for (index, partition) in (0..).zip(&topic.partitions) {
                let looked = self.look_at(&topic, index, partition, &mut fronts).await;
                match looked {
                    Ok(()) | Err(FetchError::UnknownStream(_) | FetchError::OffsetOutOfRange { .. }) => {}
                    Err(error) => {
                        let topic = &topic.name;
                        tracing::warn!(%topic, partition = index, %error, "what is to go cannot be found: it stays for now");
                    }
                }
            }
            for (replica, fronts) in fronts.full() {
                self.delete(&replica, fronts).await;
            }
        }
        for (replica, fronts) in fronts.0.into_values() {
            self.delete(&replica, fronts).await;
        }
        let round = self.round;
        self.known.retain(|_, known| known.round == round);
    }

    async fn look_at(
        &mut self,
        topic: &Topic,
        index: u32,
        partition: &Partition,
        fronts: &mut Fronts,
    ) -> Result<(), FetchError> {
        let (stream, retention) = (partition.stream, topic.settings.retention);
        let oldest = partition.earlier_left().next().map(EarlierRange::shard);
        for range in partition.earlier() {
            let Some(replica) = range.replica().filter(Replica::is_leader) else { continue };
            let (version, next) = bounds(&replica, stream)?;
            let begins_at = StreamOffset(range.begins_at()).min(next);
            if version.first < begins_at {
                fronts.add(&replica, replica.front(stream, begins_at, true).await?);
            } else if oldest == Some(range.shard()) && !retention.keeps_all() {
                // Of its size only this piece counts: what is behind it is known where that is led.
                if let Some(before) = self.cut(&replica, stream, retention).await? {
                    self.begin_at(topic, index, before).await;
                }
            }
        }
        let Some(replica) = partition.replica().filter(Replica::is_leader) else { return Ok(()) };
        // What is about to go on elsewhere does not change.
        if retention.keeps_all() || partition.has_ended() {
            return Ok(());
        }
        if oldest.is_none() {
            if let Some(before) = self.cut(&replica, stream, retention).await? {
                fronts.add(&replica, replica.front(stream, before, false).await?);
            }
        } else if let Some(bytes_max) = retention.bytes_max
            && self.bytes(&replica, stream).await? >= bytes_max
        {
            // All that is left elsewhere is too much; no more than that goes before it has gone.
            self.begin_at(topic, index, StreamOffset(partition.came_at())).await;
        }
        Ok(())
    }

    /// The first offset that stays of what a stream has on a shard, if something goes.
    async fn cut(
        &mut self,
        replica: &Replica,
        stream: StreamId,
        retention: Retention,
    ) -> Result<Option<StreamOffset>, FetchError> {
        let (version, next) = bounds(replica, stream)?;
        let first = version.first;
        if first == next {
            return Ok(None);
        }
        let mut known = self.known(replica, stream, version);
        let (mut before, mut bytes) = (first, 0);
        let due = |time| retention.newest_expired(time).filter(|newest| known.next.is_none_or(|next| next <= *newest));
        let mut newest = due(replica.state().time());
        if newest.is_none() && due(TimestampMs(self.env.wall_clock.now_ms())).is_some() {
            newest = due(self.moved_on(replica).await);
        }
        if let Some(newest) = newest {
            let expired = replica.expired(stream, newest).await?;
            (before, bytes, known.next) = (expired.before, expired.bytes, expired.next);
        }
        if let Some(bytes_max) = retention.bytes_max {
            known.size.count(replica, stream).await?;
            if known.size.bytes.saturating_sub(bytes) > bytes_max {
                let front = replica.front_within(stream, known.size.bytes - bytes_max).await?;
                if front.before > before {
                    (before, bytes, known.next) = (front.before, front.bytes, None);
                }
            }
        }
        if before > first {
            // As it will be when the command is applied.
            known.version = version.begun_at(before);
            known.size.bytes = known.size.bytes.saturating_sub(bytes);
        }
        self.known.insert((replica.shard_id(), stream), known);
        Ok(Some(before).filter(|before| *before > first))
    }

    /// The time of a shard to which nothing was written of late, once in a round: the tick brings the time that nodes agree on,
    /// if they do.
    async fn moved_on(&mut self, replica: &Replica) -> TimestampMs {
        let shard = replica.shard_id();
        if self.ticked.insert(shard)
            && let Err(error) = replica.propose(Tick {}.into()).await
        {
            tracing::debug!(shard = shard.0, %error, "retention learns the time later");
        }
        replica.state().time()
    }

    /// Bytes that a stream has on a shard.
    async fn bytes(&mut self, replica: &Replica, stream: StreamId) -> Result<u64, FetchError> {
        let (version, _) = bounds(replica, stream)?;
        let mut known = self.known(replica, stream, version);
        known.size.count(replica, stream).await?;
        self.known.insert((replica.shard_id(), stream), known);
        Ok(known.size.bytes)
    }

    fn known(&self, replica: &Replica, stream: StreamId, version: Version) -> Known {
        let known = self.known.get(&(replica.shard_id(), stream)).copied().filter(|known| known.version == version);
        let known = known.unwrap_or_default();
        let size = Size { counted_to: known.size.counted_to.max(version.first), ..known.size };
        Known { version, round: self.round, size, ..known }
    }

    /// Lets a partition begin later that has records on shards where it was before.
    async fn begin_at(&mut self, topic: &Topic, partition: u32, before: StreamOffset) {
        let command = SetLogStart { topic: topic.id, partition, before };
        if let Err(error) = self.cluster.propose(METADATA, command.into()).await {
            tracing::debug!(topic = %topic.name, partition, %error, "retention deletes later");
        }
    }

    async fn delete(&mut self, replica: &Replica, fronts: Vec<StreamFront>) {
        let streams: Vec<StreamId> = fronts.iter().map(|front| front.stream).collect();
        let count = streams.len();
        match replica.propose(DeleteRecords { fronts }.into()).await {
            Ok(_) => tracing::debug!(shard = replica.shard_id().0, streams = count, "retention deleted records"),
            Err(error) => {
                tracing::debug!(shard = replica.shard_id().0, %error, "retention deletes later");
                for stream in streams {
                    self.known.remove(&(replica.shard_id(), stream));
                }
            }
        }
    }
}

/// What is to go, by shard.
#[derive(Default)]
struct Fronts(BTreeMap<ShardId, (Replica, Vec<StreamFront>)>);

impl Fronts {
    fn add(&mut self, replica: &Replica, front: StreamFront) {
        let of_shard = self.0.entry(replica.shard_id()).or_insert_with(|| (replica.clone(), Vec::new()));
        of_shard.1.push(front);
    }

    /// Takes out those that are worth a command.
    fn full(&mut self) -> Vec<(Replica, Vec<StreamFront>)> {
        let full = self.0.extract_if(.., |_, (_, fronts)| fronts.len() >= FRONTS_MAX);
        full.map(|(_, of_shard)| of_shard).collect()
    }
}

fn bounds(replica: &Replica, stream: StreamId) -> Result<(Version, StreamOffset), FetchError> {
    let state = replica.state();
    let view = state.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
    Ok((Version::of(&view), view.next_offset()))
}
