//! A shard with a log and a folder of index files beside it, as the replica has them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use record::{
    BatchEntry, BatchSummary, Compression, FileNumber, LeaderEpoch, LogIndex, ObjectKey, ProducerEpoch, ProducerId,
    ProducerStamp, Sequence, ShardId, StreamId, StreamOffset, Term, TimestampMs, TimestampType,
};

use crate::codec::Wire;
use crate::commands::{Append, CreateStreams, DeleteRecords, NewStream, PutCompacted, PutObject, Seal, StreamFront};
use crate::{AppendError, Appended, Applied, Command, EntryBuilder, Located, Outcome, Restore, SealedIndex, Shard};

pub(super) const SHARD: ShardId = ShardId(3);

#[derive(Clone, Debug)]
pub(super) struct LoggedEntry {
    pub(super) index: LogIndex,
    pub(super) term: Term,
    pub(super) head: Bytes,
}

/// A shard, its log, and its index files.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) shard: Shard,
    pub(super) log: Vec<LoggedEntry>,
    pub(super) files: BTreeMap<FileNumber, Arc<SealedIndex>>,
    pub(super) term: Term,
    pub(super) time: TimestampMs,
    /// Streams of which records were deleted.
    pub(super) deleted: BTreeSet<StreamId>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            shard: Shard::new(SHARD),
            log: Vec::new(),
            files: BTreeMap::new(),
            term: Term(1),
            time: TimestampMs(1000),
            deleted: BTreeSet::new(),
        }
    }
}

impl Node {
    pub(super) fn with_streams(streams: impl IntoIterator<Item = u64>) -> Self {
        let mut node = Self::default();
        let streams = streams
            .into_iter()
            .map(|id| NewStream { id: StreamId(id), epoch_start: LeaderEpoch(0), first_offset: StreamOffset(0) })
            .collect();
        node.one(CreateStreams { streams });
        node
    }

    /// Two streams; the first is in the files 1 to 4, the second in 2 and 4.
    pub(super) fn with_sealed_streams() -> Self {
        let mut node = Self::with_streams([1, 2]);
        for number in 1..=4 {
            node.append(plain(1, 4)).expect("appended");
            if number % 2 == 0 {
                node.append(plain(2, 1)).expect("appended");
            }
            node.one(Seal { through: LogIndex(u64::MAX) });
        }
        node
    }

    pub(super) fn entry(&self, commands: &[Command]) -> LoggedEntry {
        let mut entry = EntryBuilder::new();
        for command in commands {
            entry.push(command, [Bytes::from(vec![0; command.body_bytes() as usize])]);
        }
        let index = self.log.last().map_or(LogIndex(1), |last| last.index.next());
        LoggedEntry { index, term: self.term, head: entry.finish(self.time)[0].clone() }
    }

    pub(super) fn all(&mut self, commands: &[Command]) -> Applied {
        let commands: Vec<Command> = commands.iter().map(|command| self.fit(command)).collect();
        let entry = self.entry(&commands);
        self.log.push(entry.clone());
        self.replay(&entry)
    }

    pub(super) fn replay(&mut self, entry: &LoggedEntry) -> Applied {
        let applied = self.shard.apply(entry.index, entry.term, &entry.head).expect("no assertion fails");
        for sealed in &applied.effects.sealed {
            if let Some(old) = self.files.insert(sealed.file, Arc::clone(sealed)) {
                assert_eq!(contents(&old), contents(sealed), "the same seal makes the same file");
            }
        }
        for dead in &applied.effects.dead_files {
            assert!(self.files.contains_key(dead), "a dead file was there");
        }
        applied
    }

    pub(super) fn one(&mut self, command: impl Into<Command>) -> Outcome {
        let mut applied = self.all(&[command.into()]);
        assert_eq!(applied.outcomes.len(), 1);
        applied.outcomes.remove(0)
    }

    pub(super) fn append(&mut self, append: Append) -> Result<Appended, AppendError> {
        let Outcome::Append(mut results) = self.one(append) else { panic!("not the outcome of an append") };
        assert_eq!(results.len(), 1);
        results.remove(0)
    }

    /// Deletes a stream's records before an offset.
    pub(super) fn delete_before(&mut self, stream: u64, before: i64) {
        let none = FileNumber(0);
        let before = StreamOffset(before);
        let front = StreamFront { stream: StreamId(stream), before, files: none, part_files: none, ended: false };
        assert!(matches!(self.one(DeleteRecords { fronts: vec![front] }), Outcome::DeleteRecords(_)));
        self.check();
    }

    /// All batches of a stream, wherever they are, read as a reader reads them.
    pub(super) fn read(&self, stream: StreamId) -> Vec<BatchEntry> {
        let view = self.shard.stream(stream).expect("the stream exists");
        let mut batches: Vec<BatchEntry> = Vec::new();
        let mut offset = view.first_offset();
        loop {
            match view.locate(offset) {
                Located::End => return batches,
                Located::OutOfRange => panic!("offset {offset} of {stream} is lost"),
                Located::Memory(found) => batches.extend(found),
                Located::File(newest) => batches.extend(self.read_file(newest, stream, offset)),
            }
            let next = batches.last().expect("something was found").next_offset();
            assert!(next > offset, "reading comes forward");
            offset = next;
        }
    }

    fn read_file(&self, newest: FileNumber, stream: StreamId, offset: StreamOffset) -> Vec<BatchEntry> {
        let mut file = Some(newest);
        while let Some(number) = file {
            let sealed = self.files.get(&number).expect("a file that is referred to exists");
            let part = sealed.stream(stream).expect("the chain leads to files that have the stream");
            if part.batches().next().expect("not empty").base_offset <= offset {
                return part.batches().filter(|batch| batch.next_offset() > offset).collect();
            }
            file = part.previous;
        }
        panic!("offset {offset} of {stream} is in no file");
    }

    /// What must hold at any time, found out the slow way.
    pub(super) fn check(&self) {
        let sealed = self.shard.sealed_through();
        let mut held: BTreeSet<FileNumber> = BTreeSet::new();
        let ranges: Vec<RangeInclusive<LogIndex>> = self.shard.live_ranges();
        let unsealed_range = self.shard.unsealed_range();
        let (objects, all_objects) = (self.shard.objects(), self.shard.all_objects());
        let mut names: BTreeMap<FileNumber, u64> = BTreeMap::new();
        let mut unsealed = 0;
        for stream in self.shard.stream_ids() {
            // One that is still received is not seen.
            let Some(view) = self.shard.stream(stream) else { continue };
            let batches = self.read(stream);
            let mut offset = view.first_offset();
            let mut max = TimestampMs::NONE;
            for batch in &batches {
                let is_cut =
                    offset == view.first_offset() && batch.base_offset < offset && batch.next_offset() > offset;
                assert!(batch.base_offset == offset || is_cut, "offsets of {stream} have no gap");
                offset = batch.next_offset();
                max = max.max(batch.max_timestamp);
                let in_object =
                    |index| all_objects.iter().any(|object| (object.from..=object.through).contains(&index));
                for extent in batch.extents().filter(|extent| !in_object(extent.log_index)) {
                    let mut live = ranges.iter().chain(&unsealed_range);
                    let live = live.any(|range| range.contains(&extent.log_index));
                    assert!(live, "{extent:?} of {stream} is in a live range of {ranges:?}");
                }
                unsealed += usize::from(Some(batch.log_index) > sealed);
            }
            // Deleted ones stay in memory until the next seal.
            let front = view.in_memory().take_while(|batch| batch.next_offset() <= view.first_offset());
            unsealed += front.filter(|batch| Some(batch.log_index) > sealed).count();
            assert_eq!(offset, view.next_offset());
            let known_max = view.max_timestamp().map_or(TimestampMs::NONE, |(max, _)| max);
            let deleted = self.deleted.contains(&stream);
            assert!(if deleted { known_max >= max } else { known_max == max });
            for file in self.shard.streams.get(&stream).expect("it is seen").all_files() {
                match self.shard.object_of(file) {
                    Some(object) => *names.entry(object.first).or_default() += 1,
                    None => drop(held.insert(file)),
                }
            }
            let sealed_max =
                batches.iter().filter(|batch| Some(batch.log_index) <= sealed).map(|batch| batch.max_timestamp).max();
            let sealed_max = sealed_max.unwrap_or(TimestampMs::NONE).max(TimestampMs::NONE);
            let known_max = self.shard.streams.get(&stream).unwrap().sealed_max_timestamp;
            assert!(if deleted { known_max >= sealed_max } else { known_max == sealed_max });
        }
        for (_, upload) in self.shard.uploads.iter() {
            held.extend(&upload.files);
        }
        assert_eq!(self.shard.unsealed_batches(), unsealed);
        let counted: BTreeMap<FileNumber, u64> = objects.iter().map(|object| (object.first, object.streams)).collect();
        assert_eq!(counted, names, "an object is there as long as it is named");
        for pair in all_objects.windows(2) {
            let is_behind = pair[0].last < pair[1].first || pair[0].stream != pair[1].stream;
            assert!(is_behind, "no two have one place");
        }
        for compacted in self.shard.compacted_objects() {
            let stream = self.shard.streams.get(&compacted.stream).expect("it goes with its stream");
            let last = compacted.object.last;
            assert!(stream.files.first().is_none_or(|file| file > last), "what is compacted comes first");
        }
        assert_eq!(self.shard.live_files(), held.into_iter().collect::<Vec<_>>(), "exactly what is held is live");
    }
}

pub(super) fn contents(sealed: &SealedIndex) -> Vec<(StreamId, Option<FileNumber>, Vec<BatchEntry>)> {
    sealed.streams().iter().map(|part| (part.stream, part.previous, part.batches().collect())).collect()
}

/// Everything that replicas share, in bytes, in an order of its own.
pub(super) fn dump(shard: &Shard) -> Vec<u8> {
    fn table<R: crate::table::Record>(table: &crate::table::Table<R>, out: &mut Vec<u8>) {
        for record in table.sorted() {
            record.put(out);
        }
        out.push(0xff);
    }
    let mut out = Vec::new();
    shard.scalars.put(&mut out);
    table(&shard.streams, &mut out);
    for stream in shard.streams.sorted() {
        for batch in stream.batches.iter().flat_map(|list| list.iter()) {
            batch.put(&mut out);
        }
        let mut producers: Vec<_> = shard
            .producers
            .of_stream(stream.first_producer)
            .map(|slot| shard.producers.table.at(slot).unwrap().id)
            .collect();
        producers.sort_unstable();
        producers.put(&mut out);
    }
    table(&shard.producers.table, &mut out);
    table(&shard.ranges, &mut out);
    table(&shard.uploads, &mut out);
    table(&shard.groups.table, &mut out);
    for group in shard.groups.table.sorted() {
        for offset in shard.offsets(&group.id) {
            offset.put(&mut out);
        }
    }
    table(&shard.groups.offsets, &mut out);
    table(&shard.groups.tenures, &mut out);
    table(&shard.metadata.topics, &mut out);
    table(&shard.metadata.nodes, &mut out);
    table(&shard.metadata.shards, &mut out);
    table(&shard.metadata.configs, &mut out);
    table(&shard.metadata.moves, &mut out);
    table(&shard.transfers, &mut out);
    table(&shard.metadata.slot_moves, &mut out);
    table(&shard.metadata.rebalancing_stopped, &mut out);
    table(&shard.metadata.wanted_copies, &mut out);
    table(&shard.metadata.doubtful_streams, &mut out);
    table(&shard.objects.table, &mut out);
    table(&shard.compacted.table, &mut out);
    for topic in shard.topics() {
        topic.id.put(&mut out);
    }
    out
}

/// Captures to the end and gives all chunks.
pub(super) fn capture(shard: &mut Shard, base: bool) -> Vec<Vec<u8>> {
    shard.begin_capture(base).unwrap();
    std::iter::from_fn(|| shard.capture_some(7)).collect()
}

pub(super) fn restore<'a>(chunks: impl IntoIterator<Item = &'a Vec<u8>>) -> Shard {
    let mut restore = Restore::new(SHARD);
    for chunk in chunks {
        restore.chunk(chunk).unwrap();
    }
    restore.finish().unwrap()
}

pub(super) fn batch(records: u32) -> BatchSummary {
    BatchSummary {
        bytes: 100,
        record_count: records,
        compression: Compression::None,
        timestamp_type: TimestampType::CreateTime,
        base_timestamp: TimestampMs(10),
        max_timestamp: TimestampMs(20),
        max_timestamp_correction: None,
        producer: None,
        transactional: false,
        control: false,
    }
}

pub(super) fn plain(stream: u64, records: u32) -> Append {
    Append::new([StreamId(stream)].into_iter().collect(), batch(records))
}

pub(super) fn stamped(stream: u64, records: u32, id: i64, epoch: i16, sequence: i32) -> Append {
    let mut append = plain(stream, records);
    append.batch.producer =
        Some(ProducerStamp { id: ProducerId(id), epoch: ProducerEpoch(epoch), base_sequence: Sequence(sequence) });
    append
}

/// What is left of a stream in these ranges.
pub(super) fn put_compacted(stream: u64, first: u32, last: u32) -> PutCompacted {
    PutCompacted {
        key: ObjectKey(stream << 48 | u64::from(first) << 24 | u64::from(last)),
        stream: StreamId(stream),
        first: FileNumber(first),
        last: FileNumber(last),
        bytes: 500,
        index_digest: 9,
        replaces: Vec::new(),
        cleaned_to: StreamOffset(1),
        part_files: FileNumber(0),
    }
}

/// An object in the place of these ranges.
pub(super) fn put_object(first: u32, last: u32) -> PutObject {
    PutObject {
        key: ObjectKey(u64::from(first) << 32 | u64::from(last)),
        first: FileNumber(first),
        last: FileNumber(last),
        bytes: 1_000,
        index_digest: 7,
        replaces: Vec::new(),
        parts: Vec::new(),
    }
}

pub(super) fn appended(base_offset: i64) -> Result<Appended, AppendError> {
    Ok(Appended {
        base_offset: StreamOffset(base_offset),
        duplicate: false,
        log_append_time: None,
        log_start_offset: StreamOffset(0),
    })
}
