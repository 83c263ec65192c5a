//! What the layers above read of a shard as a whole. Nothing here changes anything.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use record::{
    FileNumber, LogIndex, NodeId, Partition, ProducerId, ShardId, StreamId, StreamOffset, Term, TimestampMs, TopicId,
};

use crate::features::FIRST_FEATURE_LEVEL;
use crate::model::{
    CommittedOffset, ConfigResource, GroupRecord, GroupVersion, NodeRecord, OffsetKey, Settings, ShardRecord, Standing,
    StreamMove, Topic, TopicState,
};
use crate::shard::Shard;

/// How many copies of a data shard decide while nobody has asked for another number.
const COPIES_DEFAULT: u8 = 3;

/// A group as its coordinator finds it.
#[derive(Clone, Copy, Debug)]
pub struct GroupView<'a> {
    pub id: &'a Arc<str>,
    /// 0 where the group has offsets and no record.
    pub version: GroupVersion,
    pub record: Option<&'a Arc<GroupRecord>>,
    /// How many positions it has committed.
    pub offsets: usize,
}

/// Work on other shards that a topic waits for: whoever leads the metadata group does it, as often as it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intention {
    /// Open the streams, then complete the topic.
    Create(Arc<Topic>),
    /// Open the streams of the partitions that are not live, then complete them.
    AddPartitions(Arc<Topic>),
    /// Delete the streams, and the offsets that groups committed for the topic, then complete the deletion.
    Delete(Arc<Topic>),
}

impl Shard {
    #[must_use]
    pub const fn id(&self) -> ShardId {
        self.id
    }

    /// The last entry that was applied.
    #[must_use]
    pub const fn applied(&self) -> Option<(LogIndex, Term)> {
        match self.scalars.applied {
            Some(index) => Some((index, self.scalars.applied_term)),
            None => None,
        }
    }

    /// Whether an entry failed, after which the state may show half of it.
    #[must_use]
    pub const fn is_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// The shard's time.
    #[must_use]
    pub const fn time(&self) -> TimestampMs {
        self.scalars.time
    }

    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.scalars.settings
    }

    /// The node that announced itself last as leader.
    #[must_use]
    pub const fn leader(&self) -> Option<NodeId> {
        self.scalars.leader
    }

    /// The term in which a leader announced itself last: it does so once in each of its terms.
    #[must_use]
    pub const fn leader_term(&self) -> Option<Term> {
        self.scalars.leader_term
    }

    // Streams

    /// How often the leader has changed; every stream's epoch has risen as often.
    #[must_use]
    pub fn leader_changes(&self) -> u32 {
        self.scalars.leader_changes
    }

    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// All streams, in the order of their ids.
    #[must_use]
    pub fn stream_ids(&self) -> Vec<StreamId> {
        let mut ids: Vec<StreamId> = self.streams.iter().map(|(_, stream)| stream.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Pairs of stream and producer that are remembered.
    #[must_use]
    pub fn producers(&self) -> usize {
        self.producers.table.len()
    }

    /// Whether a producer is remembered of a stream, and was used so lately before `now` that it is not forgotten soon:
    /// hours, unless there is little room for others. A clock may be wrong by as much.
    #[must_use]
    pub fn remembers_producer(&self, stream: StreamId, producer: ProducerId, now: TimestampMs) -> bool {
        let settings = &self.scalars.settings;
        let producers = &self.producers.table;
        let is_full = producers.len() >= settings.producers_max as usize / 10 * 9;
        let idle_ms = if is_full { settings.producer_idle_ms_min } else { settings.producer_expiry_ms };
        let safe_ms = idle_ms.min(settings.producer_expiry_ms) / 2;
        let known = producers.slot(&(stream, producer)).and_then(|slot| producers.at(slot));
        known.is_some_and(|known| now.max(self.scalars.time).0.saturating_sub(known.last_used().0) < safe_ms)
    }

    /// Whether the batch that begins at `base_offset` is the last one of a producer that is remembered of a stream.
    #[must_use]
    pub fn is_last_of_producer(&self, stream: StreamId, producer: ProducerId, base_offset: StreamOffset) -> bool {
        let producers = &self.producers.table;
        let known = producers.slot(&(stream, producer)).and_then(|slot| producers.at(slot));
        known.and_then(|known| known.last_offset()) == Some(base_offset)
    }

    /// When the producer that was silent longest was last used; for deciding whether to expire some.
    #[must_use]
    pub fn oldest_producer(&self) -> Option<TimestampMs> {
        self.producers.oldest().map(|(_, _, used)| used)
    }

    /// Batches that a seal would move into a file.
    #[must_use]
    pub const fn unsealed_batches(&self) -> usize {
        self.unsealed_batches
    }

    /// Streams that may have such batches: what a seal would have to visit.
    #[must_use]
    pub const fn unsealed_streams(&self) -> usize {
        self.unsealed_slots.len()
    }

    /// Everything up to here is sealed.
    #[must_use]
    pub const fn sealed_through(&self) -> Option<LogIndex> {
        self.scalars.sealed_through
    }

    /// The newest file that a seal made, if any did.
    #[must_use]
    pub fn newest_file(&self) -> Option<FileNumber> {
        self.scalars.next_file.0.checked_sub(1).filter(|file| *file > 0).map(FileNumber)
    }

    /// The index files that are still wanted, in order; of ranges whose place an object has none is, where the object is.
    #[must_use]
    pub fn live_files(&self) -> Vec<FileNumber> {
        let mut files: Vec<FileNumber> = self.ranges.iter().map(|(_, range)| range.file).collect();
        files.sort_unstable();
        files
    }

    /// From the first to the last index behind [`Shard::sealed_through`] at which something that is still wanted lies:
    /// unsealed batches with their earlier parts, and parts of staged batches. Visits every stream that has some.
    #[must_use]
    pub fn unsealed_range(&self) -> Option<RangeInclusive<LogIndex>> {
        let sealed = self.scalars.sealed_through;
        let lists = self.unsealed_slots.iter().filter_map(|slot| self.streams.at(*slot)?.batches.as_deref());
        let batches = lists.clone().flat_map(|list| [list.first_index(), list.last_index()]).flatten();
        let parts = lists.flat_map(|list| list.parts()).flat_map(|(_, extents)| extents.iter());
        let staged = self.uploads.iter().flat_map(|(_, upload)| upload.extents.iter());
        let indexes = batches.chain(parts.chain(staged).map(|extent| extent.log_index));
        let widen = |range: Option<(LogIndex, LogIndex)>, index: LogIndex| match range {
            Some((from, through)) => Some((from.min(index), through.max(index))),
            None => Some((index, index)),
        };
        let (from, through) = indexes.filter(|index| Some(*index) > sealed).fold(None, widen)?;
        Some(from..=through)
    }

    /// The sealed ranges of the log that hold live data, in order and joined where they meet, but for those whose place an
    /// object has. What lies in
    /// [`Shard::unsealed_range`] is live, too.
    #[must_use]
    pub fn live_ranges(&self) -> Vec<RangeInclusive<LogIndex>> {
        let mut ranges: Vec<(LogIndex, LogIndex)> =
            self.ranges.iter().map(|(_, range)| (range.from, range.through)).collect();
        ranges.sort_unstable();
        let mut joined: Vec<(LogIndex, LogIndex)> = Vec::with_capacity(ranges.len());
        for (from, through) in ranges {
            match joined.last_mut() {
                Some(last) if last.1.0.checked_add(1) == Some(from.0) => last.1 = through,
                _ => joined.push((from, through)),
            }
        }
        joined.into_iter().map(|(from, through)| from..=through).collect()
    }

    /// Sealed ranges whose index is still answered from memory, because their files are not durable here yet.
    #[must_use]
    pub fn sealing(&self) -> usize {
        self.sealing.len()
    }

    /// Large batches whose last part has not come.
    #[must_use]
    pub fn uploads(&self) -> usize {
        self.uploads.len()
    }

    // Groups

    #[must_use]
    pub fn group(&self, group_id: &str) -> Option<GroupView<'_>> {
        self.groups.get(group_id).map(group_view)
    }

    /// All groups, in the order of their ids.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupView<'_>> {
        self.groups.table.sorted().into_iter().map(group_view).collect()
    }

    /// One position of a group.
    #[must_use]
    pub fn offset(&self, group_id: &str, topic: TopicId, partition: Partition) -> Option<&CommittedOffset> {
        let slot = *self.groups.get(group_id)?.offsets.get(&OffsetKey { topic, partition })?;
        self.groups.offsets.at(slot).map(|stored| &stored.committed)
    }

    /// All positions of a group, by topic and partition.
    pub fn offsets(&self, group_id: &str) -> impl Iterator<Item = &CommittedOffset> + '_ {
        let slots = self.groups.get(group_id).map(|group| &group.offsets);
        slots
            .into_iter()
            .flat_map(|slots| slots.values())
            .filter_map(|slot| self.groups.offsets.at(*slot).map(|stored| &stored.committed))
    }

    // Metadata

    /// Counts the changes of topics, nodes, shards, slots and configuration.
    #[must_use]
    pub const fn metadata_version(&self) -> u64 {
        self.scalars.metadata_version
    }

    #[must_use]
    pub const fn cluster_id(&self) -> Option<u128> {
        self.scalars.cluster_id
    }

    /// A topic in whatever state.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.metadata.topic(id)
    }

    /// The topic of that name, unless it is being deleted.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.metadata.topic(*self.metadata.names.get(name)?)
    }

    /// The topics that are not being deleted, in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> + '_ {
        self.metadata.names.values().filter_map(|id| self.metadata.topic(*id))
    }

    /// The id that the next new stream gets: none that is as large was ever given out.
    #[must_use]
    pub const fn next_stream(&self) -> StreamId {
        StreamId(self.scalars.next_stream)
    }

    /// How many topics [`Shard::topics`] gives.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.metadata.names.len()
    }

    /// Work on other shards that is not finished, at most `count_max` of it.
    #[must_use]
    pub fn intentions(&self, count_max: usize) -> Vec<Intention> {
        let topics = self.metadata.unfinished.iter().filter_map(|id| self.metadata.topic(*id));
        let intention = |topic: &Arc<Topic>| match topic.state {
            TopicState::Creating => Intention::Create(Arc::clone(topic)),
            TopicState::Live => Intention::AddPartitions(Arc::clone(topic)),
            TopicState::Deleting => Intention::Delete(Arc::clone(topic)),
        };
        topics.take(count_max).map(intention).collect()
    }

    /// Moves of streams that are under way, in the order in which they were begun.
    #[must_use]
    pub fn stream_moves(&self) -> Vec<StreamMove> {
        let mut moves: Vec<StreamMove> = self.metadata.moves.iter().map(|(_, moving)| *moving).collect();
        moves.sort_unstable_by_key(|moving| moving.id);
        moves
    }

    /// Whether streams are moved without being asked, so that shards have about as many each.
    #[must_use]
    pub fn rebalances(&self) -> bool {
        self.metadata.rebalancing_stopped.len() == 0
    }

    /// How many copies of a data shard decide, where there are as many nodes.
    #[must_use]
    pub fn copies(&self) -> u8 {
        self.metadata.wanted_copies.get(&()).map_or(COPIES_DEFAULT, |wanted| wanted.copies)
    }

    /// Whether the metadata know all topics of a stream's time: with a smaller id it may be of one that a lost part of the log
    /// knew.
    #[must_use]
    pub fn is_certain(&self, stream: StreamId) -> bool {
        self.metadata.doubtful_streams.get(&()).is_none_or(|doubtful| stream >= doubtful.before)
    }

    /// The move of a partition's stream, while one is under way.
    #[must_use]
    pub fn stream_move(&self, topic: TopicId, partition: u32) -> Option<StreamMove> {
        self.metadata.moves.get(&(topic, partition)).copied()
    }

    /// The keys set on a resource and their version: 0 and none if nothing was ever set.
    #[must_use]
    pub fn configs(&self, resource: &ConfigResource) -> (u64, BTreeMap<String, String>) {
        if let ConfigResource::Topic(topic) = resource {
            return self.topic(*topic).map(|topic| (topic.config_version, topic.configs.clone())).unwrap_or_default();
        }
        self.metadata.configs.get(resource).map(|entry| (entry.version, entry.values.clone())).unwrap_or_default()
    }

    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeRecord> {
        self.metadata.nodes.get(&id)
    }

    /// All nodes, in the order of their ids.
    #[must_use]
    pub fn nodes(&self) -> Vec<&NodeRecord> {
        self.metadata.nodes.sorted()
    }

    /// How a node stands; `None` for one that never was.
    #[must_use]
    pub fn standing(&self, id: NodeId) -> Option<Standing> {
        let known = self.metadata.nodes.get(&id).map(|_| Standing::Member);
        self.metadata.standings.get(&id).map(|standing| standing.standing).or(known)
    }

    /// The level of features that the cluster uses: nothing above it is in any of its logs.
    #[must_use]
    pub fn feature_level(&self) -> u32 {
        self.metadata.features.get(&()).map_or(FIRST_FEATURE_LEVEL, |features| features.level)
    }

    /// All shards, in the order of their ids.
    #[must_use]
    pub fn shard_records(&self) -> Vec<&ShardRecord> {
        self.metadata.shards.sorted()
    }

    /// A shard, if there is one of that id.
    #[must_use]
    pub fn shard_record(&self, id: ShardId) -> Option<&ShardRecord> {
        self.metadata.shards.get(&id)
    }

    /// Who is to found a shard, while nobody has.
    #[must_use]
    pub fn founder(&self, id: ShardId) -> Option<NodeId> {
        self.metadata.foundings.get(&id).map(|founding| founding.founder)
    }

    /// The shard of a slot.
    #[must_use]
    pub fn slot_shard(&self, slot: u16) -> Option<ShardId> {
        self.scalars.slots.get(usize::from(slot)).copied()
    }
}

fn group_view(group: &crate::groups::Group) -> GroupView<'_> {
    GroupView { id: &group.id, version: group.version, record: group.record.as_ref(), offsets: group.offsets.len() }
}
