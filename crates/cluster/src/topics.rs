//! Topics over several shards: an intention in shard 0, idempotent steps in the shards that hold
//! the streams, a completion in shard 0.
//!
//! ```text
//! create:  CreateTopics (0)   -> CreateStreams (each shard) -> CompleteTopics (0)
//! delete:  DeleteTopics (0)   -> DeleteStreams (each shard) -> CompleteDeletion (0)
//! add:     AddPartitions (0)  -> CreateStreams (each shard) -> CompletePartitions (0)
//! ```
//! What was interrupted, by an error, by a caller that went away or by a stop of the node, is found in
//! the metadata and resumed from its first step (`resume`).

use std::collections::BTreeMap;

use base::time::{Duration, timeout};
use futures_util::future::join_all;
use record::{ShardId, StreamId, TopicId};
use replica::ProposeError;
use shard::commands::{
    AbandonTopics, AddPartitions, CompleteDeletion, CompletePartitions, CompleteTopics, CreateStreams, CreateTopics,
    DeleteOffsets, DeleteStreams, DeleteTopics, NewStream,
};
use shard::{Command, Outcome, Placement, TopicState};

use crate::cluster::{Cluster, METADATA};
use crate::errors::{AddPartitionsError, CreateTopicError, DeleteTopicError};
use crate::resume::Pace;

/// The level of features that has `AbandonTopics`.
const FEATURE_LEVEL: u32 = 3;
/// Streams that one command makes or removes, so that no entry takes long to apply.
const STREAMS_PER_COMMAND: usize = 2_000;
/// Topics that one command makes or removes, for the same reason.
const TOPICS_PER_COMMAND: usize = 1_000;
/// Partitions and configuration that one command brings, so that it stays below what a command may
/// have: an intention ends with the topic that reaches it.
const INTENTION_WEIGHT_MAX: usize = 256 << 10;

/// How long a caller waits for what whoever leads the metadata makes of a topic that cannot be whole.
const DECIDED_WAIT_MAX: Duration = Duration::from_secs(5);

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Checked by the caller.
    pub name: String,
    /// At least one.
    pub partitions: u32,
    /// The keys that are set.
    pub configs: BTreeMap<String, String>,
}

/// Why the steps of making streams stopped.
#[derive(Debug, Clone)]
pub(crate) enum StepError {
    Stream(shard::CreateStreamError),
    Propose(ProposeError),
}

impl Cluster {
    /// Makes topics; each is made whole or not at all, and lives when this returns. One result for
    /// each, in their order.
    pub async fn create_topics(&self, topics: Vec<NewTopic>) -> Vec<Result<TopicId, CreateTopicError>> {
        let mut results = Vec::with_capacity(topics.len());
        let mut topics = topics.into_iter().peekable();
        while topics.peek().is_some() {
            results.extend(self.create_some(intention(&mut topics)).await);
        }
        results
    }

    async fn create_some(&self, topics: Vec<NewTopic>) -> Vec<Result<TopicId, CreateTopicError>> {
        let mut shards = self.placement();
        let begun: Vec<shard::commands::NewTopic> = topics
            .into_iter()
            .map(|topic| shard::commands::NewTopic {
                id: self.new_topic_id(),
                name: topic.name,
                partitions: (0..topic.partitions).map(|_| shards.next()).collect(),
                configs: topic.configs,
            })
            .collect();
        let count = begun.len();
        let claim = self.work().claim(begun.iter().map(|topic| topic.id).collect()).await;
        let outcome = self.decide(Command::from(CreateTopics { topics: begun })).await;
        let created = match outcome {
            Ok(Outcome::CreateTopics(created)) => created,
            Ok(other) => return vec![Err(unexpected(&other).into()); count],
            Err(error) => return vec![Err(error.into()); count],
        };
        assert_eq!(created.len(), count, "one outcome for each topic");
        if !self.follow_metadata().await {
            // Whoever leads the metadata makes the streams.
            let result = |result: Result<TopicId, shard::CreateTopicError>| match result {
                Ok(_) => Err(ProposeError::Unknown.into()),
                Err(error) => Err(error.into()),
            };
            return created.into_iter().map(result).collect();
        }
        let accepted: Vec<TopicId> = created.iter().filter_map(|result| result.as_ref().ok().copied()).collect();
        let finished = self.finish_creation(&accepted, Pace::Asked).await;
        drop(claim);
        let result = |result: Result<TopicId, shard::CreateTopicError>| -> Result<TopicId, CreateTopicError> {
            let topic = result?;
            match finished.get(&topic) {
                None => Ok(topic),
                // Whoever leads the metadata has found room after all.
                Some(StepError::Stream(_)) if self.is_live_topic(topic) => Ok(topic),
                Some(StepError::Stream(error)) => Err((*error).into()),
                Some(StepError::Propose(error)) => Err(error.clone().into()),
            }
        };
        created.into_iter().map(result).collect()
    }

    /// Removes topics: each is gone for everybody once its intention is accepted. One result for
    /// each, in their order.
    pub async fn delete_topics(&self, topics: Vec<TopicId>) -> Vec<Result<(), DeleteTopicError>> {
        let mut results = Vec::with_capacity(topics.len());
        for some in topics.chunks(TOPICS_PER_COMMAND) {
            results.extend(self.delete_some(some.to_vec()).await);
        }
        results
    }

    async fn delete_some(&self, topics: Vec<TopicId>) -> Vec<Result<(), DeleteTopicError>> {
        let claim = self.work().claim(topics.clone()).await;
        let count = topics.len();
        let outcome = self.decide(Command::from(DeleteTopics { topics: topics.clone() })).await;
        let deleted = match outcome {
            Ok(Outcome::DeleteTopics(deleted)) => deleted,
            Ok(other) => return vec![Err(unexpected(&other).into()); count],
            Err(error) => return vec![Err(error.into()); count],
        };
        assert_eq!(deleted.len(), count, "one outcome for each topic");
        let accepted: Vec<TopicId> =
            topics.iter().zip(&deleted).filter(|(_, result)| result.is_ok()).map(|(topic, _)| *topic).collect();
        // A copy of the metadata that is behind does not know all the streams: whoever leads it removes them.
        if self.follow_metadata().await
            && let Err(error) = self.finish_deletion(&accepted, Pace::Asked).await
        {
            tracing::info!(%error, "the removal of topics goes on later");
        }
        drop(claim);
        deleted.into_iter().map(|result| result.map_err(|_| DeleteTopicError::UnknownTopic)).collect()
    }

    /// Adds partitions until the topic has `total`.
    ///
    /// # Errors
    /// When there is no such topic, it has as many, or a shard could not be reached.
    pub async fn add_partitions(&self, topic: TopicId, total: u32) -> Result<(), AddPartitionsError> {
        let claim = self.work().claim(vec![topic]).await;
        let current = {
            let metadata = self.metadata();
            let known = metadata.topic(topic).ok_or(shard::AddPartitionsError::UnknownTopic)?;
            u32::try_from(known.partitions.len()).expect("a topic has far fewer partitions than 2^32")
        };
        if total <= current {
            return Err(AddPartitionsError::NotMore { current });
        }
        let mut shards = self.placement();
        let added: Vec<ShardId> = (current..total).map(|_| shards.next()).collect();
        match self.decide(Command::from(AddPartitions { topic, current, added })).await? {
            Outcome::AddPartitions(result) => result?,
            other => return Err(unexpected(&other).into()),
        }
        if !self.follow_metadata().await {
            return Err(ProposeError::Unknown.into());
        }
        let result = match self.finish_partitions(topic, Pace::Asked).await {
            Ok(()) => Ok(()),
            Err(StepError::Stream(error)) => Err(error.into()),
            Err(StepError::Propose(error)) => Err(error.into()),
        };
        drop(claim);
        result
    }

    /// The steps behind `CreateTopics`; gives the topics that did not come to life. One that can
    /// never be whole is removed again. What this node's copy of the metadata does not know as begun is neither made
    /// nor called complete.
    pub(crate) async fn finish_creation(&self, topics: &[TopicId], pace: Pace) -> BTreeMap<TopicId, StepError> {
        let (begun, streams) = {
            let metadata = self.metadata();
            let begun = topics
                .iter()
                .filter_map(|topic| metadata.topic(*topic))
                .filter(|topic| topic.state == TopicState::Creating);
            let streams = begun
                .clone()
                .flat_map(|topic| topic.partitions.iter().map(|placement| (topic.id, new_stream(placement))));
            (begun.clone().map(|topic| topic.id).collect::<Vec<TopicId>>(), streams.collect::<Vec<_>>())
        };
        let failed = self.create_streams(streams, pace).await;
        let whole: Vec<TopicId> = begun.into_iter().filter(|topic| !failed.contains_key(topic)).collect();
        let never: Vec<TopicId> =
            failed.iter().filter(|(_, error)| matches!(error, StepError::Stream(_))).map(|(topic, _)| *topic).collect();
        let mut failed = failed;
        if !whole.is_empty() {
            let completed = self.step(pace, METADATA, Command::from(CompleteTopics { topics: whole.clone() })).await;
            if let Err(error) = completed {
                failed.extend(whole.into_iter().map(|topic| (topic, StepError::Propose(error.clone()))));
            }
        }
        if !never.is_empty()
            && self.turn_around(&never, pace).await
            && let Err(error) = self.finish_deletion(&never, pace).await
        {
            tracing::info!(%error, "the removal of topics goes on later");
        }
        failed
    }

    /// Begins to remove topics that cannot be whole, unless somebody has ended them meanwhile; whether it did. Only whoever
    /// leads the metadata does, by the state that it leads with; others leave it to that node, which finds them as they
    /// are, and wait for what comes of it.
    async fn turn_around(&self, topics: &[TopicId], pace: Pace) -> bool {
        let metadata = &self.inner.metadata;
        let is_creating =
            |topic: &TopicId| metadata.state().topic(*topic).is_some_and(|topic| topic.state == TopicState::Creating);
        if metadata.read_barrier().await.is_ok() {
            let topics: Vec<TopicId> = topics.iter().copied().filter(is_creating).collect();
            if topics.is_empty() {
                return false;
            }
            // Of one that is complete by now its maker was told; older programs cannot tell it.
            let command: Command = if self.feature_level() < FEATURE_LEVEL {
                DeleteTopics { topics }.into()
            } else {
                AbandonTopics { topics }.into()
            };
            // Refused if another leads by now.
            return metadata.propose_step(command).await.is_ok();
        }
        if pace == Pace::Asked {
            let mut changed = metadata.changed();
            let decided = async {
                while topics.iter().any(is_creating) {
                    if changed.changed().await.is_err() {
                        return;
                    }
                }
            };
            let _others_are_late = timeout(DECIDED_WAIT_MAX, decided).await;
        }
        false
    }

    fn is_live_topic(&self, topic: TopicId) -> bool {
        self.metadata().topic(topic).is_some_and(|topic| topic.state == TopicState::Live)
    }

    pub(crate) async fn finish_partitions(&self, topic: TopicId, pace: Pace) -> Result<(), StepError> {
        let (streams, total) = {
            let metadata = self.metadata();
            let Some(known) = metadata.topic(topic) else { return Ok(()) };
            let total = u32::try_from(known.partitions.len()).expect("a topic has far fewer partitions than 2^32");
            let added = &known.partitions[known.live().len()..];
            (added.iter().map(|placement| (topic, new_stream(placement))).collect::<Vec<_>>(), total)
        };
        if let Some(error) = self.create_streams(streams, pace).await.remove(&topic) {
            return Err(error);
        }
        let complete = Command::from(CompletePartitions { topic, total });
        self.step(pace, METADATA, complete).await.map(|_| ()).map_err(StepError::Propose)
    }

    /// Removes the streams, on every shard that they were on, and then the topics. A topic of which a stream moves is
    /// left to be resumed: first its moves are given up, by whoever drives them.
    pub(crate) async fn finish_deletion(&self, topics: &[TopicId], pace: Pace) -> Result<(), ProposeError> {
        let topics: Vec<TopicId> = {
            let moves = self.metadata().stream_moves();
            let moves = |topic: &TopicId| moves.iter().any(|moving| moving.topic == *topic);
            topics.iter().copied().filter(|topic| !moves(topic)).collect()
        };
        if topics.is_empty() {
            return Ok(());
        }
        let mut streams: BTreeMap<ShardId, Vec<StreamId>> = BTreeMap::new();
        {
            let metadata = self.metadata();
            for placement in
                topics.iter().filter_map(|topic| metadata.topic(*topic)).flat_map(|topic| &topic.partitions)
            {
                // A stream that moved has left something on every shard that it was on.
                for home in &placement.history {
                    streams.entry(home.shard).or_default().push(placement.stream);
                }
            }
        }
        let steps = streams.iter().flat_map(|(shard, streams)| {
            streams
                .chunks(STREAMS_PER_COMMAND)
                .map(|chunk| self.step(pace, *shard, Command::from(DeleteStreams { streams: chunk.to_vec() })))
        });
        let offsets = {
            let metadata = self.metadata();
            // What is not in use has no slots, so no groups.
            let is_used = |shard: &ShardId| *shard != METADATA && metadata.founder(*shard).is_none();
            let shards = metadata.shard_records().into_iter().map(|record| record.id).filter(is_used);
            let forget =
                |shard| self.step(pace, shard, Command::from(DeleteOffsets::Topics { topics: topics.clone() }));
            shards.map(forget).collect::<Vec<_>>()
        };
        let (deleted, forgotten) = tokio::join!(join_all(steps), join_all(offsets));
        for result in deleted.into_iter().chain(forgotten) {
            result?;
        }
        self.step(pace, METADATA, Command::from(CompleteDeletion { topics })).await?;
        Ok(())
    }

    /// Makes streams on all shards at once; gives for each topic the first error.
    async fn create_streams(
        &self,
        streams: Vec<(TopicId, (ShardId, NewStream))>,
        pace: Pace,
    ) -> BTreeMap<TopicId, StepError> {
        let mut by_shard: BTreeMap<ShardId, Vec<(TopicId, NewStream)>> = BTreeMap::new();
        for (topic, (shard, stream)) in streams {
            by_shard.entry(shard).or_default().push((topic, stream));
        }
        let steps = by_shard.iter().flat_map(|(shard, streams)| {
            streams.chunks(STREAMS_PER_COMMAND).map(move |chunk| {
                let streams = chunk.iter().map(|(_, stream)| *stream).collect();
                let outcome = self.step(pace, *shard, Command::from(CreateStreams { streams }));
                async move { (chunk, outcome.await) }
            })
        });
        let mut failed = BTreeMap::new();
        for (chunk, outcome) in join_all(steps).await {
            let topics = chunk.iter().map(|(topic, _)| *topic);
            match outcome {
                Ok(Outcome::CreateStreams(results)) => {
                    assert_eq!(results.len(), chunk.len(), "one outcome for each stream");
                    for (topic, error) in topics.zip(results).filter_map(|(topic, result)| Some((topic, result.err()?)))
                    {
                        failed.entry(topic).or_insert(StepError::Stream(error));
                    }
                }
                Ok(other) => {
                    let error = unexpected(&other);
                    failed.extend(topics.map(|topic| (topic, StepError::Propose(error.clone()))));
                }
                Err(error) => failed.extend(topics.map(|topic| (topic, StepError::Propose(error.clone())))),
            }
        }
        failed
    }
}

/// The next topics that one intention holds; at least one.
fn intention(topics: &mut impl Iterator<Item = NewTopic>) -> Vec<NewTopic> {
    let mut weight = 0;
    let mut taken = Vec::new();
    while taken.len() < TOPICS_PER_COMMAND && weight < INTENTION_WEIGHT_MAX {
        let Some(topic) = topics.next() else { break };
        let configs: usize = topic.configs.iter().map(|(key, value)| key.len() + value.len()).sum();
        weight += topic.name.len() + 4 * topic.partitions as usize + configs;
        taken.push(topic);
    }
    taken
}

fn new_stream(placement: &Placement) -> (ShardId, NewStream) {
    let home = placement.history.last().expect("a placement names at least one shard");
    let stream = NewStream { id: placement.stream, epoch_start: placement.epoch_start, first_offset: home.from_offset };
    (home.shard, stream)
}

/// A shard answered a command with another command's outcome.
pub(crate) fn unexpected(outcome: &Outcome) -> ProposeError {
    tracing::error!(?outcome, "an outcome that does not belong to its command");
    ProposeError::Unknown
}
