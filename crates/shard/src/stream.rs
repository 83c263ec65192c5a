//! One stream: its offsets, its epochs, the batches that are not sealed yet and the files that have the others.

use record::{FileNumber, LeaderEpoch, StreamId, StreamOffset, TimestampMs};

use crate::batches::BatchList;
use crate::codec::{DecodeError, Reader, Wire};
use crate::file_set::FileSet;
use crate::outcome::EpochEnd;
use crate::producers::NO_SLOT;
use crate::table::Record;

/// Epochs that are remembered: a change of leader in which nothing was appended leaves none.
pub(crate) const EPOCHS_MAX: usize = 1024;

/// Whether a stream can be appended to, and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Open,
    /// It comes from another shard, and is not seen yet.
    Receiving,
    /// It goes on on another shard. What it has here is read.
    Closed,
}

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) next_offset: StreamOffset,
    pub(crate) first_offset: StreamOffset,
    /// The largest of all records, and the base offset of the first batch that has it.
    pub(crate) max_timestamp: TimestampMs,
    pub(crate) max_timestamp_offset: StreamOffset,
    /// The largest of the batches in files.
    pub(crate) sealed_max_timestamp: TimestampMs,
    /// Added to the shard's count of leader changes, it gives the stream's epoch.
    pub(crate) epoch_shift: i64,
    /// Epochs in which something was appended, and the first offset of each.
    pub(crate) epochs: Vec<(LeaderEpoch, StreamOffset)>,
    /// Index files that have batches of the stream.
    pub(crate) files: FileSet,
    /// Files whose range of the log holds earlier parts of large batches, but whose index need not name the stream.
    pub(crate) part_files: Option<Box<FileSet>>,
    /// Derived: not sealed yet. `None` in a stream that is idle.
    pub(crate) batches: Option<Box<BatchList>>,
    /// Derived: the first of the stream's producers.
    pub(crate) first_producer: u32,
    /// Derived: of the shard's transfers.
    pub(crate) standing: Standing,
}

/// The epoch of a stream with that shift after so many changes of its shard's leader.
#[must_use]
pub fn epoch_of(leader_changes: u32, shift: i64) -> LeaderEpoch {
    let epoch = i64::from(leader_changes).saturating_add(shift);
    LeaderEpoch(i32::try_from(epoch.clamp(0, i64::from(i32::MAX))).unwrap_or(i32::MAX))
}

impl Stream {
    pub(crate) fn new(id: StreamId, first_offset: StreamOffset, epoch_shift: i64) -> Self {
        Self {
            id,
            next_offset: first_offset,
            first_offset,
            max_timestamp: TimestampMs::NONE,
            max_timestamp_offset: StreamOffset(-1),
            sealed_max_timestamp: TimestampMs::NONE,
            epoch_shift,
            epochs: Vec::new(),
            files: FileSet::default(),
            part_files: None,
            batches: None,
            first_producer: NO_SLOT,
            standing: Standing::Open,
        }
    }

    /// The epoch after so many changes of the shard's leader.
    pub(crate) fn epoch(&self, leader_changes: u32) -> LeaderEpoch {
        epoch_of(leader_changes, self.epoch_shift)
    }

    /// Notes that a batch at the stream's end is of that epoch.
    pub(crate) fn enter_epoch(&mut self, epoch: LeaderEpoch) {
        if self.epochs.last().is_some_and(|(last, _)| *last >= epoch) {
            return;
        }
        if self.epochs.len() == EPOCHS_MAX {
            self.epochs.remove(0);
        }
        if self.epochs.is_empty() {
            self.epochs.reserve_exact(1);
        }
        self.epochs.push((epoch, self.next_offset));
    }

    /// Where the largest epoch not above `asked` ends, by the rules of KIP-320: those of Kafka's leader epoch cache,
    /// which forgets epochs without records.
    pub(crate) fn epoch_end(&self, asked: LeaderEpoch, current: LeaderEpoch) -> EpochEnd {
        let none = EpochEnd { epoch: LeaderEpoch::NONE, end_offset: StreamOffset(-1) };
        if asked.0 < 0 || asked > current {
            return none;
        }
        if asked == current {
            return EpochEnd { epoch: current, end_offset: self.next_offset };
        }
        let higher = self.epochs.partition_point(|(epoch, _)| *epoch <= asked);
        let end_offset = self.epochs.get(higher).map_or(self.next_offset, |(_, start)| *start);
        let floor = higher.checked_sub(1).and_then(|place| self.epochs.get(place));
        EpochEnd { epoch: floor.map_or(asked, |(epoch, _)| *epoch), end_offset }
    }

    /// Everything before that offset is gone. The epochs follow, as Kafka's leader epoch cache does: the one that the first
    /// record is of begins with it.
    pub(crate) fn begin_at(&mut self, first_offset: StreamOffset) {
        self.first_offset = first_offset;
        let begun = self.epochs.partition_point(|(_, start)| *start <= first_offset);
        if let Some(last) = begun.checked_sub(1) {
            self.epochs.drain(..last);
            self.epochs[0].1 = first_offset;
        }
    }

    /// Forgets index files, and ranges with earlier parts, below these numbers; those in whose ranges the stream has nothing
    /// any more by that.
    pub(crate) fn forget_files(&mut self, files: FileNumber, part_files: FileNumber) -> Vec<FileNumber> {
        let files_gone = self.files.split_below(files);
        let mut gone: Vec<FileNumber> = files_gone.iter().collect();
        if let Some(parts) = &mut self.part_files {
            let parts_gone = parts.split_below(part_files);
            gone.retain(|file| !parts.contains(*file));
            // Those with both were met above.
            let both = |file: FileNumber| self.files.contains(file) || files_gone.contains(file);
            gone.extend(parts_gone.iter().filter(|file| !both(*file)));
            if parts.is_empty() {
                self.part_files = None;
            }
        }
        gone
    }

    /// Forgets earlier parts in the ranges from `first` to `last`; how many of these numbers it does not name any more.
    pub(crate) fn forget_parts(&mut self, first: FileNumber, last: FileNumber) -> u64 {
        let Some(parts) = &mut self.part_files else { return 0 };
        let gone = parts.take(first, last);
        if parts.is_empty() {
            self.part_files = None;
        }
        gone.iter().filter(|file| !self.files.contains(*file)).count() as u64
    }

    /// Forgets the index files from `first` to `last`; those in whose ranges the stream has nothing any more by that.
    pub(crate) fn forget_within(&mut self, first: FileNumber, last: FileNumber) -> Vec<FileNumber> {
        let mut gone: Vec<FileNumber> = self.files.take(first, last).iter().collect();
        if let Some(parts) = &self.part_files {
            gone.retain(|file| !parts.contains(*file));
        }
        gone
    }

    /// The files whose ranges of the log hold something of the stream.
    pub(crate) fn all_files(&self) -> impl Iterator<Item = FileNumber> + '_ {
        let parts = self.part_files.iter().flat_map(|files| files.iter());
        self.files.iter().chain(parts.filter(|file| !self.files.contains(*file)))
    }

    /// Notes that a range of the log holds earlier parts of a batch; false if the range had something of the stream.
    pub(crate) fn add_part_file(&mut self, file: FileNumber) -> bool {
        let known = self.files.contains(file);
        self.part_files.get_or_insert_default().insert(file) && !known
    }
}

impl Wire for Stream {
    const BYTES_MIN: usize = 65;
    fn put(&self, out: &mut Vec<u8>) {
        self.id.put(out);
        self.next_offset.put(out);
        self.first_offset.put(out);
        self.max_timestamp.put(out);
        self.max_timestamp_offset.put(out);
        self.sealed_max_timestamp.put(out);
        self.epoch_shift.put(out);
        self.epochs.put(out);
        self.files.put(out);
        self.part_files.is_some().put(out);
        if let Some(files) = &self.part_files {
            files.put(out);
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: Wire::take(input)?,
            next_offset: Wire::take(input)?,
            first_offset: Wire::take(input)?,
            max_timestamp: Wire::take(input)?,
            max_timestamp_offset: Wire::take(input)?,
            sealed_max_timestamp: Wire::take(input)?,
            epoch_shift: Wire::take(input)?,
            epochs: Wire::take(input)?,
            files: Wire::take(input)?,
            part_files: if bool::take(input)? { Some(Box::new(Wire::take(input)?)) } else { None },
            batches: None,
            first_producer: NO_SLOT,
            standing: Standing::Open,
        })
    }
}

impl Record for Stream {
    type Key = StreamId;
    const TABLE: u8 = 1;
    fn key(&self) -> StreamId {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(asked: i32, epoch: i32, end_offset: i64) {
        let mut stream = Stream::new(StreamId(1), StreamOffset(0), 0);
        for (epoch, start) in [(2, 0), (4, 10), (5, 15)] {
            stream.next_offset = StreamOffset(start);
            stream.enter_epoch(LeaderEpoch(epoch));
        }
        stream.next_offset = StreamOffset(20);
        let end = stream.epoch_end(LeaderEpoch(asked), LeaderEpoch(7));
        assert_eq!((end.epoch.0, end.end_offset.0), (epoch, end_offset), "asked for {asked}");
    }

    #[test]
    fn epoch_end_as_in_kip_320() {
        check(-1, -1, -1);
        check(0, 0, 0);
        check(1, 1, 0);
        check(2, 2, 10);
        check(3, 2, 10);
        check(4, 4, 15);
        check(5, 5, 20);
        check(6, 5, 20);
        check(7, 7, 20);
        check(8, -1, -1);
    }
}
