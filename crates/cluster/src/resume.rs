//! Changes of topics that were interrupted are gone on with by whoever leads the metadata: when it begins to lead, and
//! then as long as some are left. No start waits for that, and none of them waits for another: one whose shards have no leader
//! is left for the next round, without a try.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::task::spawn;
use base::time::{Duration, sleep};
use futures_util::StreamExt;
use futures_util::stream;
use record::{ShardId, TopicId};
use replica::{ProposeError, ProposeResult};
use shard::{Command, Intention, TopicState};

use crate::cluster::{Cluster, DECIDE_WAIT_MAX, METADATA};

/// Pause before work that was interrupted is gone on with; doubled while it cannot be ended.
const RESUME_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const RESUME_PAUSE_MAX: Duration = Duration::from_secs(16);
/// Topics that are gone on with together.
const RESUMED_AT_ONCE: usize = 16;
/// How long one of their steps waits for a leader that is known and does not take it.
const RESUMED_WAIT_MAX: Duration = Duration::from_secs(2);

/// How patient the steps of a change are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Somebody waits for the change: a shard may get a leader meanwhile.
    Asked,
    /// It is gone on with again.
    Resumed,
}

impl Cluster {
    /// Proposes a step of a change that was accepted: it does not wait behind a full queue here, and not
    /// for ever for a leader. Claims of topics bound how many there are.
    pub(crate) async fn step(&self, pace: Pace, shard: ShardId, command: Command) -> ProposeResult {
        let node = &self.inner.node;
        match pace {
            Pace::Asked => node.propose_patiently(shard, command, DECIDE_WAIT_MAX).await,
            Pace::Resumed if node.leader(shard).is_none() => Err(ProposeError::NotLeader { leader: None }),
            Pace::Resumed => node.propose_patiently(shard, command, RESUMED_WAIT_MAX).await,
        }
    }

    /// Goes on with changes of topics whose caller failed or went away between two steps, while this node leads the
    /// metadata. Whatever is begun shows there, so nothing has to be told here.
    pub(crate) fn keep_resuming(&self) {
        let weak = Arc::downgrade(&self.inner);
        let mut changed = self.metadata_changed();
        let mut leadership = self.inner.metadata.leadership();
        let resuming = async move {
            let mut pause = Duration::ZERO;
            loop {
                sleep(pause).await;
                let Some(inner) = weak.upgrade() else { return };
                let left = if inner.metadata.is_leader() { (Self { inner }).resume_topics().await } else { 0 };
                if left > 0 {
                    pause = (2 * pause).clamp(RESUME_PAUSE, RESUME_PAUSE_MAX);
                    continue;
                }
                let ended = tokio::select! {
                    changed = changed.changed() => {
                        // Somebody has begun it, and is likely to end it.
                        pause = RESUME_PAUSE;
                        changed.is_err()
                    }
                    led = leadership.changed() => {
                        pause = Duration::ZERO;
                        led.is_err()
                    }
                };
                if ended {
                    return;
                }
            }
        };
        self.inner.tasks.lock().push(spawn("resume topics", resuming));
    }

    /// One round over everything that was interrupted. Returns how much is still left.
    async fn resume_topics(&self) -> usize {
        let topics: Vec<TopicId> = self.metadata().intentions(usize::MAX).iter().map(topic_of).collect();
        let count = topics.len();
        let waiting = AtomicUsize::new(0);
        let round = stream::iter(topics).for_each_concurrent(RESUMED_AT_ONCE, |topic| {
            let waiting = &waiting;
            async move {
                if self.inner.metadata.is_leader() && !self.resume_topic(topic).await {
                    waiting.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        round.await;
        let waiting = waiting.into_inner();
        if waiting > 0 {
            tracing::warn!(topics = count, waiting, "changes of topics wait for shards that have no leader");
        }
        self.metadata().intentions(1).len()
    }

    /// Goes on with one; false when a shard that it needs has no leader.
    async fn resume_topic(&self, topic: TopicId) -> bool {
        if self.work().is_claimed(topic) {
            return true;
        }
        let _claim = self.work().claim(vec![topic]).await;
        // Whoever had the claim before may have ended the work, or turned it around.
        let Some(state) = self.metadata().topic(topic).map(|topic| topic.state) else { return true };
        if self.shards_for(topic).into_iter().any(|shard| self.leader(shard).is_none()) {
            return false;
        }
        tracing::info!(%topic, ?state, "going on with an interrupted change of a topic");
        match state {
            TopicState::Creating => {
                self.finish_creation(&[topic], Pace::Resumed).await;
            }
            TopicState::Live => {
                if let Err(error) = self.finish_partitions(topic, Pace::Resumed).await {
                    tracing::warn!(%topic, ?error, "partitions could not be added, trying again later");
                }
            }
            TopicState::Deleting => {
                if let Err(error) = self.finish_deletion(&[topic], Pace::Resumed).await {
                    tracing::warn!(%topic, %error, "streams could not be removed, trying again later");
                }
            }
        }
        true
    }

    /// The shards without which a change of a topic cannot be ended.
    fn shards_for(&self, topic: TopicId) -> BTreeSet<ShardId> {
        let metadata = self.metadata();
        let Some(known) = metadata.topic(topic) else { return BTreeSet::new() };
        let homes = known.partitions.iter().flat_map(|placement| &placement.history).map(|home| home.shard);
        let last = known.partitions.iter().filter_map(shard::Placement::shard);
        match known.state {
            TopicState::Creating => last.collect(),
            TopicState::Live => last.skip(known.live().len()).collect(),
            // All of them have offsets of groups.
            TopicState::Deleting => {
                let is_used = |shard: &ShardId| *shard != METADATA && metadata.founder(*shard).is_none();
                let used = metadata.shard_records().into_iter().map(|record| record.id).filter(is_used);
                homes.chain(used).collect()
            }
        }
    }
}

fn topic_of(intention: &Intention) -> TopicId {
    let (Intention::Create(topic) | Intention::AddPartitions(topic) | Intention::Delete(topic)) = intention;
    topic.id
}
