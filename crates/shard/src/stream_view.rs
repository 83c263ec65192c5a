//! What readers see of a stream: its bounds, its epochs, and where its batches are found.

use record::{BatchEntry, FileNumber, LeaderEpoch, StreamId, StreamOffset, TimestampMs};
use smallvec::SmallVec;

use crate::batches::BatchList;
use crate::compacted::CompactedObject;
use crate::file_set::FileSet;
use crate::model::TransferState;
use crate::outcome::EpochEnd;
use crate::shard::Shard;
use crate::stream::{Standing, Stream};

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

/// Where the batch lies of an offset from which on a stream's records stay: see [`StreamFront`](crate::commands::StreamFront).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontPlace {
    /// In this file, which is not durable yet, or in the one that comes next: none of the stream's files before it has anything
    /// that stays.
    From(FileNumber),
    /// In a durable index file: it is to be looked for from this one backwards.
    InFiles(FileNumber),
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
        if self.is_closed()
            && let Some(TransferState::Closed { epoch }) =
                self.shard.transfers.get(&self.stream.id).map(|transfer| transfer.state)
        {
            return epoch;
        }
        self.stream.epoch(self.shard.scalars.leader_changes)
    }

    /// What is added to the shard's count of leader changes to have the epoch, while the stream grows here.
    #[must_use]
    pub fn epoch_shift(&self) -> Option<i64> {
        (self.stream.standing == Standing::Open).then_some(self.stream.epoch_shift)
    }

    /// Whether it has ended here: it goes on, or is about to, on another shard.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.stream.standing == Standing::Closed
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

    /// The newest index file that has the stream and is durable on this node, or the last one in whose place a compacted object is.
    #[must_use]
    pub fn newest_durable_file(&self) -> Option<FileNumber> {
        let newest = match self.shard.sealing.front() {
            Some((oldest, _)) => self.stream.files.before(oldest.file),
            None => self.stream.files.last(),
        };
        newest.or_else(|| self.compacted_through())
    }

    /// The compacted objects of the stream, in order: they hold what it has before its index files.
    pub fn compacted(&self) -> impl DoubleEndedIterator<Item = &'a CompactedObject> + 'a {
        self.shard.compacted.of(self.stream.id)
    }

    /// The last sealed range in whose place they are.
    #[must_use]
    pub fn compacted_through(&self) -> Option<FileNumber> {
        self.shard.compacted.through(self.stream.id)
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

    /// Where the records are that stay when those before `offset` go. It MUST be one that is in the stream, or its end.
    #[must_use]
    pub fn front(&self, offset: StreamOffset) -> FrontPlace {
        let own = self.shard.sealing.iter().filter(|(sealed, _)| self.stream.files.contains(sealed.file));
        let mut sealed = own.filter_map(|(sealed, _)| Some((sealed.file, sealed.stream(self.stream.id)?)));
        let newest_durable = self.newest_durable_file();
        if let Some(newest) = newest_durable
            && self.first_in_memory().is_none_or(|first| offset < first)
            && offset < self.stream.next_offset
        {
            return FrontPlace::InFiles(newest);
        }
        let holds = |list: &BatchList| list.next_offset().is_some_and(|next| next > offset);
        let file = sealed.find(|(_, sealed)| holds(&sealed.list)).map(|(file, _)| file);
        FrontPlace::From(file.unwrap_or(self.shard.scalars.next_file))
    }

    /// The oldest range of the log that may hold an earlier part of a batch, of those that are in files or in memory: `None` when
    /// no range has any.
    #[must_use]
    pub fn oldest_part_file(&self) -> Option<FileNumber> {
        self.stream.part_files.as_ref().and_then(|files| files.first())
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

impl Shard {
    /// A stream that is here; one that is still being received is not.
    #[must_use]
    pub fn stream(&self, id: StreamId) -> Option<StreamView<'_>> {
        let seen = self.streams.get(&id).filter(|stream| stream.standing != Standing::Receiving);
        seen.map(|stream| StreamView { shard: self, stream })
    }
}
