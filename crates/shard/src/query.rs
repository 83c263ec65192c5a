//! What the layers above read of a shard. Nothing here changes anything.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use record::{
    BatchEntry, FileNumber, LeaderEpoch, LogIndex, NodeId, Partition, ShardId, StreamId, StreamOffset, Term,
    TimestampMs, TopicId,
};
use smallvec::SmallVec;

use crate::batches::BatchList;
use crate::file_set::FileSet;
use crate::model::{
    CommittedOffset, ConfigResource, GroupRecord, GroupVersion, NodeRecord, OffsetKey, Settings, ShardRecord, Topic,
    TopicState,
};
use crate::outcome::EpochEnd;
use crate::shard::Shard;
use crate::stream::Stream;

/// Where the batch of an offset is found.
#[derive(Debug)]
pub enum Located<'a> {
    /// In memory: this batch and all behind it.
    Memory(Batches<'a>),
    /// In an index file: look for it from this one, the newest durable one that has the stream, backwards.
    File(FileNumber),
    /// At the stream's end: nothing is there yet.
    End,
    OutOfRange,
}

/// One stream as readers see it.
#[derive(Clone, Copy, Debug)]
pub struct StreamView<'a> {
    shard: &'a Shard,
    stream: &'a Stream,
}

impl<'a> StreamView<'a> {
    #[must_use]
    pub const fn id(&self) -> StreamId {
        self.stream.id
    }

    /// The first offset that can be read.
    #[must_use]
    pub const fn first_offset(&self) -> StreamOffset {
        self.stream.first_offset
    }

    /// Behind the last record: the high watermark, as only what is committed is here.
    #[must_use]
    pub const fn next_offset(&self) -> StreamOffset {
        self.stream.next_offset
    }

    /// The stream's epoch now.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.stream.epoch(self.shard.scalars.leader_changes)
    }

    /// The largest timestamp and the base offset of the first batch that has it; `None` while no record has one.
    #[must_use]
    pub fn max_timestamp(&self) -> Option<(TimestampMs, StreamOffset)> {
        let stream = self.stream;
        (stream.max_timestamp_offset.0 >= 0).then_some((stream.max_timestamp, stream.max_timestamp_offset))
    }

    /// Until where an epoch reaches (KIP-320).
    #[must_use]
    pub fn epoch_end(&self, asked: LeaderEpoch) -> EpochEnd {
        self.stream.epoch_end(asked, self.epoch())
    }

    /// The index files that have the stream, durable or not.
    #[must_use]
    pub const fn files(&self) -> &'a FileSet {
        &self.stream.files
    }

    /// The newest index file that has the stream and is durable on this node.
    #[must_use]
    pub fn newest_durable_file(&self) -> Option<FileNumber> {
        match self.shard.sealing.front() {
            Some((oldest, _)) => self.stream.files.before(oldest.file),
            None => self.stream.files.last(),
        }
    }

    /// The first offset that is still in memory, if any is: what is below it is in index files.
    #[must_use]
    pub fn first_in_memory(&self) -> Option<StreamOffset> {
        self.lists().first().and_then(|list| list.first_offset())
    }

    /// The lists in memory, in the order of their offsets; none is empty.
    fn lists(&self) -> SmallVec<[&'a BatchList; 4]> {
        // A file of an earlier life of this id does not count: a stream may be deleted and opened again.
        let own = self.shard.sealing.iter().filter(|(sealed, _)| self.stream.files.contains(sealed.file));
        let lists = own.filter_map(|(sealed, _)| sealed.stream(self.stream.id)).map(|sealed| &*sealed.list);
        lists.chain(self.stream.batches.as_deref()).filter(|list| !list.is_empty()).collect()
    }

    /// Where to find the batch that has an offset.
    #[must_use]
    pub fn locate(&self, offset: StreamOffset) -> Located<'a> {
        if offset < self.stream.first_offset || offset > self.stream.next_offset {
            return Located::OutOfRange;
        }
        if offset == self.stream.next_offset {
            return Located::End;
        }
        let lists = self.lists();
        let list = lists.iter().rposition(|list| list.first_offset().is_some_and(|first| first <= offset));
        match (list, self.newest_durable_file()) {
            (Some(list), _) => Located::Memory(Batches { place: lists[list].place_of(offset), list, lists }),
            (None, Some(file)) => Located::File(file),
            // Not possible: what is not in memory was sealed.
            (None, None) => Located::OutOfRange,
        }
    }

    /// All batches in memory, in the order of their offsets.
    #[must_use]
    pub fn in_memory(&self) -> Batches<'a> {
        Batches { lists: self.lists(), list: 0, place: 0 }
    }

    /// The first batch in memory whose largest timestamp is `timestamp` or later. Batches in files come before it.
    #[must_use]
    pub fn find_by_time_in_memory(&self, timestamp: TimestampMs) -> Option<BatchEntry> {
        if self.stream.max_timestamp < timestamp {
            return None;
        }
        self.in_memory().find(|batch| batch.max_timestamp >= timestamp)
    }

    /// The largest timestamp of all batches in durable files; -1 if there is none.
    #[must_use]
    pub fn max_timestamp_in_files(&self) -> TimestampMs {
        let own = self.shard.sealing.iter().filter(|(sealed, _)| self.stream.files.contains(sealed.file));
        let oldest = own.filter_map(|(sealed, _)| sealed.stream(self.stream.id)).next();
        oldest.map_or(self.stream.sealed_max_timestamp, |sealed| sealed.max_timestamp_before)
    }

    /// Producers that are remembered for the stream.
    #[must_use]
    pub fn producers(&self) -> usize {
        self.shard.producers.of_stream(self.stream.first_producer).count()
    }
}

/// Batches of one stream that are in memory, from some offset on.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    lists: SmallVec<[&'a BatchList; 4]>,
    list: usize,
    place: usize,
}

impl Iterator for Batches<'_> {
    type Item = BatchEntry;

    fn next(&mut self) -> Option<BatchEntry> {
        loop {
            let list = self.lists.get(self.list)?;
            if let Some(batch) = list.get(self.place) {
                self.place += 1;
                return Some(batch);
            }
            self.list += 1;
            self.place = 0;
        }
    }
}

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

    #[must_use]
    pub fn stream(&self, id: StreamId) -> Option<StreamView<'_>> {
        self.streams.get(&id).map(|stream| StreamView { shard: self, stream })
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

    /// The files that are still wanted, in order.
    #[must_use]
    pub fn live_files(&self) -> Vec<FileNumber> {
        let mut files: Vec<FileNumber> = self.ranges.iter().map(|(_, range)| range.file).collect();
        files.sort_unstable();
        files
    }

    /// The sealed ranges of the log that hold live data, in order and joined where they meet. What lies behind
    /// [`Shard::sealed_through`] is live, too.
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

    /// All shards, in the order of their ids.
    #[must_use]
    pub fn shard_records(&self) -> Vec<&ShardRecord> {
        self.metadata.shards.sorted()
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
