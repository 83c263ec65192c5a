//! The index of batches that is in memory: for each stream what was appended since the last seal, 32 bytes a batch,
//! in the order of offsets, which is the order of the log too.

use std::sync::Arc;

use record::{BatchEntry, Extent, LeaderEpoch, LogIndex, StreamOffset, TimestampMs};

/// Batches in one chunk: a list that grows moves no more than this.
const CHUNK: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed {
    max_timestamp: i64,
    /// From the list's base.
    offset: u32,
    /// From the list's base.
    index: u32,
    record_count: u32,
    position: u32,
    bytes: u32,
    epoch: i32,
}

/// Neither the offset nor the log index may be 2^32 or more above that of the list's first batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListFull;

/// Batches of one stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct BatchList {
    base_offset: i64,
    base_index: u64,
    /// All but the last are full.
    chunks: Vec<Vec<Packed>>,
    /// The earlier extents of those few batches that have some, by base offset.
    parts: Vec<(StreamOffset, Arc<[Extent]>)>,
}

impl BatchList {
    pub(crate) fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    fn packed(&self, place: usize) -> Option<&Packed> {
        self.chunks.get(place / CHUNK)?.get(place % CHUNK)
    }

    fn offset_of(&self, packed: &Packed) -> i64 {
        self.base_offset + i64::from(packed.offset)
    }

    fn index_of(&self, packed: &Packed) -> u64 {
        self.base_index + u64::from(packed.index)
    }

    /// Whether a batch of that offset and log index would find room.
    pub(crate) fn has_room(&self, offset: StreamOffset, index: LogIndex) -> bool {
        self.is_empty() || self.deltas(offset, index).is_some()
    }

    fn deltas(&self, offset: StreamOffset, index: LogIndex) -> Option<(u32, u32)> {
        let offset = u32::try_from(offset.0.checked_sub(self.base_offset)?).ok()?;
        let index = u32::try_from(index.0.checked_sub(self.base_index)?).ok()?;
        Some((offset, index))
    }

    /// Adds a batch behind the last one.
    pub(crate) fn push(&mut self, batch: &BatchEntry) -> Result<(), ListFull> {
        if self.is_empty() {
            self.base_offset = batch.base_offset.0;
            self.base_index = batch.log_index.0;
        }
        let (offset, index) = self.deltas(batch.base_offset, batch.log_index).ok_or(ListFull)?;
        let packed = Packed {
            max_timestamp: batch.max_timestamp.0,
            offset,
            index,
            record_count: batch.record_count,
            position: batch.position,
            bytes: batch.bytes,
            epoch: batch.epoch.0,
        };
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => {
                if last.len() == last.capacity() {
                    last.reserve_exact((last.len() * 3).min(CHUNK - last.len()));
                }
                last.push(packed);
            }
            _ => {
                let mut chunk = Vec::with_capacity(if self.chunks.is_empty() { 2 } else { CHUNK });
                chunk.push(packed);
                self.chunks.push(chunk);
            }
        }
        if let Some(earlier) = &batch.earlier {
            self.parts.push((batch.base_offset, Arc::clone(earlier)));
        }
        Ok(())
    }

    /// The batch at a place from 0.
    pub(crate) fn get(&self, place: usize) -> Option<BatchEntry> {
        let packed = self.packed(place)?;
        let base_offset = StreamOffset(self.offset_of(packed));
        let earlier = self
            .parts
            .binary_search_by_key(&base_offset, |(offset, _)| *offset)
            .ok()
            .and_then(|found| self.parts.get(found))
            .map(|(_, extents)| Arc::clone(extents));
        Some(BatchEntry {
            base_offset,
            record_count: packed.record_count,
            max_timestamp: TimestampMs(packed.max_timestamp),
            log_index: LogIndex(self.index_of(packed)),
            position: packed.position,
            bytes: packed.bytes,
            epoch: LeaderEpoch(packed.epoch),
            earlier,
            object: None,
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = BatchEntry> + '_ {
        self.from(0)
    }

    /// The batches from a place on.
    pub(crate) fn from(&self, place: usize) -> impl Iterator<Item = BatchEntry> + '_ {
        (place..).map_while(|place| self.get(place))
    }

    pub(crate) fn first_offset(&self) -> Option<StreamOffset> {
        self.packed(0).map(|packed| StreamOffset(self.offset_of(packed)))
    }

    pub(crate) fn first_index(&self) -> Option<LogIndex> {
        self.packed(0).map(|packed| LogIndex(self.index_of(packed)))
    }

    pub(crate) fn last_index(&self) -> Option<LogIndex> {
        self.packed(self.len().checked_sub(1)?).map(|packed| LogIndex(self.index_of(packed)))
    }

    /// Behind the last batch.
    pub(crate) fn next_offset(&self) -> Option<StreamOffset> {
        let last = self.chunks.last()?.last()?;
        Some(StreamOffset(self.offset_of(last) + i64::from(last.record_count)))
    }

    pub(crate) fn max_timestamp(&self) -> Option<TimestampMs> {
        self.chunks.iter().flatten().map(|packed| TimestampMs(packed.max_timestamp)).max()
    }

    /// Bytes of the last extents of all batches.
    pub(crate) fn bytes(&self) -> u64 {
        self.chunks.iter().flatten().map(|packed| u64::from(packed.bytes)).sum()
    }

    /// How many batches at the front are as `within` says; it must hold for a front part only.
    fn front(&self, within: impl Fn(&Packed) -> bool) -> usize {
        let full = self.chunks.partition_point(|chunk| chunk.last().is_some_and(&within));
        let rest = self.chunks.get(full).map_or(0, |chunk| chunk.partition_point(&within));
        // The last chunk may be short of what it is counted for.
        (full * CHUNK + rest).min(self.len())
    }

    /// The place of the batch that has the offset, or of the first one behind it.
    pub(crate) fn place_of(&self, offset: StreamOffset) -> usize {
        self.front(|packed| self.offset_of(packed) + i64::from(packed.record_count) <= offset.0)
    }

    /// The place of the first batch whose log index is above `index`.
    pub(crate) fn place_above(&self, index: LogIndex) -> usize {
        self.front(|packed| self.index_of(packed) <= index.0)
    }

    /// Earlier extents of batches in this list.
    pub(crate) fn parts(&self) -> &[(StreamOffset, Arc<[Extent]>)] {
        &self.parts
    }

    /// Takes the batches up to a log index out of the list.
    pub(crate) fn split_through(&mut self, through: LogIndex) -> Self {
        let count = self.place_above(through);
        if count == self.len() {
            return std::mem::take(self);
        }
        let mut front = Self::default();
        let mut rest = Self::default();
        for place in 0..self.len() {
            let Some(batch) = self.get(place) else { break };
            let list = if place < count { &mut front } else { &mut rest };
            list.push(&batch).expect("a part of a list has room for what the list had room for");
        }
        *self = rest;
        front
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(offset: i64, count: u32, index: u64) -> BatchEntry {
        BatchEntry {
            base_offset: StreamOffset(offset),
            record_count: count,
            max_timestamp: TimestampMs(offset % 7),
            log_index: LogIndex(index),
            position: 3,
            bytes: 100,
            epoch: LeaderEpoch(2),
            earlier: (offset % 5 == 0)
                .then(|| [Extent { log_index: LogIndex(index - 1), position: 1, bytes: 9 }].as_slice().into()),
            object: None,
        }
    }

    #[test]
    fn a_batch_takes_32_bytes() {
        assert_eq!(size_of::<Packed>(), 32);
    }

    #[test]
    fn a_distance_of_two_to_the_32_is_refused() {
        let mut list = BatchList::default();
        list.push(&batch(10, 1, 1)).unwrap();
        assert!(list.has_room(StreamOffset(10 + i64::from(u32::MAX)), LogIndex(5)));
        assert!(!list.has_room(StreamOffset(11 + i64::from(u32::MAX)), LogIndex(5)));
        assert_eq!(list.push(&batch(11, 1, 2 + u64::from(u32::MAX))), Err(ListFull));
        assert_eq!(list.len(), 1);
    }

    proptest! {
        #[test]
        fn found_by_offset_and_split_by_index(counts in proptest::collection::vec((1_u32..5, 0_u64..3), 0..1200), cut in 0_u64..2000) {
            let mut list = BatchList::default();
            let mut all = Vec::new();
            let (mut offset, mut index) = (1000, 50);
            for (count, step) in counts {
                index += step;
                let batch = batch(offset, count, index);
                list.push(&batch).unwrap();
                all.push(batch);
                offset += i64::from(count);
            }
            prop_assert_eq!(list.len(), all.len());
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), all.clone());
            for (place, batch) in all.iter().enumerate() {
                for offset in batch.base_offset.0..batch.next_offset().0 {
                    prop_assert_eq!(list.place_of(StreamOffset(offset)), place);
                }
            }
            prop_assert_eq!(list.place_of(StreamOffset(offset)), all.len());
            let cut = LogIndex(cut);
            let front = list.split_through(cut);
            let (below, above): (Vec<_>, Vec<_>) = all.into_iter().partition(|batch| batch.log_index <= cut);
            prop_assert_eq!(front.iter().collect::<Vec<_>>(), below);
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), above);
        }
    }
}
