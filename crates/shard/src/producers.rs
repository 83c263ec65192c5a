//! Idempotent producers: for each stream and producer its epoch and its last five batches.
//!
//! The rules are those of Kafka's `ProducerAppendInfo` and `ProducerStateEntry`, for batches outside of transactions:
//! - a batch of the current epoch with first and last sequence of one of the last five is a duplicate and is answered
//!   with the offset that the batch got the first time
//! - an epoch below the current one is refused
//! - a new epoch begins at sequence 0
//! - within an epoch a batch begins where the one before ended, behind 2^31-1 at 0
//! - of a producer that is not known any sequence is accepted: its state may have expired (KIP-360)
//!
//! All producers of a shard stand in a list in the order of their last use, which is where the ones to be forgotten
//! are taken from, and those of one stream in a list of their own, for when the stream goes.

use record::{ProducerEpoch, ProducerId, ProducerStamp, Sequence, StreamId, StreamOffset, TimestampMs};
use smallvec::SmallVec;

use crate::codec::{DecodeError, Reader, Wire, wire_struct};
use crate::model::MovedProducer;
use crate::outcome::AppendError;
use crate::stream::Stream;
use crate::table::{Record, Table};

/// Batches of a producer that are recognized when they come again: as many as a client may have in flight.
pub(crate) const BATCHES_REMEMBERED: usize = 5;
/// The end of a list.
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// A batch that is recognized when it comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) first_sequence: Sequence,
    pub(crate) last_sequence: Sequence,
    pub(crate) base_offset: StreamOffset,
    pub(crate) timestamp: TimestampMs,
}

wire_struct!(ProducerBatch {
    first_sequence: Sequence,
    last_sequence: Sequence,
    base_offset: StreamOffset,
    timestamp: TimestampMs,
});

#[derive(Debug)]
pub(crate) struct Producer {
    pub(crate) stream: StreamId,
    pub(crate) id: ProducerId,
    epoch: ProducerEpoch,
    /// The oldest first.
    batches: SmallVec<[ProducerBatch; BATCHES_REMEMBERED]>,
    /// By the shard's time.
    last_used: TimestampMs,
    /// Orders all producers of the shard by their last use.
    use_number: u64,
    // Derived: both lists.
    used_before: u32,
    used_after: u32,
    stream_before: u32,
    stream_after: u32,
}

impl Producer {
    pub(crate) const fn last_used(&self) -> TimestampMs {
        self.last_used
    }

    /// Where its last batch begins.
    pub(crate) fn last_offset(&self) -> Option<StreamOffset> {
        self.batches.last().map(|batch| batch.base_offset)
    }
}

impl Wire for Producer {
    const BYTES_MIN: usize = 38;
    fn put(&self, out: &mut Vec<u8>) {
        self.stream.put(out);
        self.id.put(out);
        self.epoch.put(out);
        self.batches.put(out);
        self.last_used.put(out);
        self.use_number.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            stream: Wire::take(input)?,
            id: Wire::take(input)?,
            epoch: Wire::take(input)?,
            batches: Wire::take(input)?,
            last_used: Wire::take(input)?,
            use_number: Wire::take(input)?,
            used_before: NO_SLOT,
            used_after: NO_SLOT,
            stream_before: NO_SLOT,
            stream_after: NO_SLOT,
        })
    }
}

impl Record for Producer {
    type Key = (StreamId, ProducerId);
    const TABLE: u8 = 2;
    fn key(&self) -> Self::Key {
        (self.stream, self.id)
    }
}

/// What the rules say to a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The producer's slot, if it is known.
    Append(Option<u32>),
    Duplicate {
        base_offset: StreamOffset,
        timestamp: TimestampMs,
    },
}

/// All producers of a shard.
#[derive(Debug)]
pub(crate) struct Producers {
    pub(crate) table: Table<Producer>,
    /// The one that was silent longest, and the one that was used last.
    oldest: u32,
    newest: u32,
}

impl Default for Producers {
    fn default() -> Self {
        Self { table: Table::default(), oldest: NO_SLOT, newest: NO_SLOT }
    }
}

impl Producers {
    /// Decides on a batch; changes nothing.
    pub(crate) fn judge(&self, stream: StreamId, stamp: ProducerStamp, records: u32) -> Result<Verdict, AppendError> {
        let Some(slot) = self.table.slot(&(stream, stamp.id)) else { return Ok(Verdict::Append(None)) };
        let Some(known) = self.table.at(slot) else { return Ok(Verdict::Append(None)) };
        let first = stamp.base_sequence;
        let last = first.wrapping_add(records - 1);
        if stamp.epoch < known.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer: stamp.id,
                current: known.epoch,
                actual: stamp.epoch,
            });
        }
        let expected = if stamp.epoch > known.epoch {
            Sequence(0)
        } else {
            let same = known.batches.iter().find(|batch| batch.first_sequence == first && batch.last_sequence == last);
            if let Some(batch) = same {
                return Ok(Verdict::Duplicate { base_offset: batch.base_offset, timestamp: batch.timestamp });
            }
            known.batches.last().map_or(first, |batch| batch.last_sequence.wrapping_add(1))
        };
        if first == expected {
            Ok(Verdict::Append(Some(slot)))
        } else {
            Err(AppendError::OutOfOrderSequence { producer: stamp.id, expected, actual: first })
        }
    }

    /// Remembers a batch that was appended. `slot` is what [`Producers::judge`] found; `first_of_stream` is the head of
    /// the stream's list.
    #[expect(clippy::too_many_arguments, reason = "one call, and all of it is one batch")]
    pub(crate) fn remember(
        &mut self,
        slot: Option<u32>,
        stream: StreamId,
        first_of_stream: &mut u32,
        stamp: ProducerStamp,
        records: u32,
        base_offset: StreamOffset,
        timestamp: TimestampMs,
        used: (TimestampMs, u64),
    ) {
        let batch = ProducerBatch {
            first_sequence: stamp.base_sequence,
            last_sequence: stamp.base_sequence.wrapping_add(records - 1),
            base_offset,
            timestamp,
        };
        let slot = match slot {
            Some(slot) => {
                self.unlink_used(slot);
                slot
            }
            None => self.add(stream, stamp, first_of_stream),
        };
        if let Some(known) = self.table.change(slot) {
            if known.epoch != stamp.epoch {
                known.epoch = stamp.epoch;
                known.batches.clear();
            }
            if known.batches.len() == BATCHES_REMEMBERED {
                known.batches.remove(0);
            }
            known.batches.push(batch);
            (known.last_used, known.use_number) = used;
        }
        self.link_newest(slot);
    }

    /// The producers of a stream behind `after`, in the order of their ids, at most `count_max` of them, and whether there
    /// are more.
    pub(crate) fn moved(
        &self,
        first_of_stream: u32,
        after: Option<ProducerId>,
        count_max: usize,
    ) -> (Vec<MovedProducer>, bool) {
        let known = self.of_stream(first_of_stream).filter_map(|slot| self.table.at(slot));
        let mut behind: Vec<&Producer> = known.filter(|producer| Some(producer.id) > after).collect();
        let more = behind.len() > count_max;
        if more {
            behind.select_nth_unstable_by_key(count_max, |producer| producer.id);
            behind.truncate(count_max);
        }
        behind.sort_unstable_by_key(|producer| producer.id);
        let moved = |producer: &Producer| MovedProducer {
            id: producer.id,
            epoch: producer.epoch,
            batches: producer.batches.to_vec(),
        };
        (behind.into_iter().map(moved).collect(), more)
    }

    /// Remembers a producer as another shard knew it.
    pub(crate) fn receive(
        &mut self,
        stream: StreamId,
        first_of_stream: &mut u32,
        producer: MovedProducer,
        used: (TimestampMs, u64),
    ) {
        let MovedProducer { id, epoch, batches } = producer;
        let slot = match self.table.slot(&(stream, id)) {
            Some(slot) => {
                self.unlink_used(slot);
                slot
            }
            None => {
                let stamp = ProducerStamp { id, epoch, base_sequence: Sequence(0) };
                self.add(stream, stamp, first_of_stream)
            }
        };
        if let Some(known) = self.table.change(slot) {
            known.epoch = epoch;
            known.batches = batches.into_iter().collect();
            (known.last_used, known.use_number) = used;
        }
        self.link_newest(slot);
    }

    fn add(&mut self, stream: StreamId, stamp: ProducerStamp, first_of_stream: &mut u32) -> u32 {
        let slot = self.table.insert(Producer {
            stream,
            id: stamp.id,
            epoch: stamp.epoch,
            batches: SmallVec::new(),
            last_used: TimestampMs::NONE,
            use_number: 0,
            used_before: NO_SLOT,
            used_after: NO_SLOT,
            stream_before: NO_SLOT,
            stream_after: *first_of_stream,
        });
        if let Some(next) = self.table.derived_mut(*first_of_stream) {
            next.stream_before = slot;
        }
        *first_of_stream = slot;
        slot
    }

    fn link_newest(&mut self, slot: u32) {
        let newest = self.newest;
        if let Some(known) = self.table.derived_mut(slot) {
            known.used_before = newest;
            known.used_after = NO_SLOT;
        }
        match self.table.derived_mut(newest) {
            Some(last) => last.used_after = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    fn unlink_used(&mut self, slot: u32) {
        let Some(known) = self.table.at(slot) else { return };
        let (before, after) = (known.used_before, known.used_after);
        match self.table.derived_mut(before) {
            Some(before) => before.used_after = after,
            None => self.oldest = after,
        }
        match self.table.derived_mut(after) {
            Some(after) => after.used_before = before,
            None => self.newest = before,
        }
    }

    /// The producer that was silent longest: its slot, its stream and when it was used.
    pub(crate) fn oldest(&self) -> Option<(u32, StreamId, TimestampMs)> {
        let oldest = self.table.at(self.oldest)?;
        Some((self.oldest, oldest.stream, oldest.last_used))
    }

    /// The slots of a stream's producers, given the head of its list.
    pub(crate) fn of_stream(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let known = |slot: u32| self.table.at(slot).map(|_| slot);
        std::iter::successors(known(first), move |slot| known(self.table.at(*slot)?.stream_after))
    }

    /// Forgets a producer. `first_of_stream` is the head of its stream's list.
    pub(crate) fn forget(&mut self, slot: u32, first_of_stream: &mut u32) {
        self.unlink_used(slot);
        let Some(known) = self.table.at(slot) else { return };
        let (key, before, after) = (known.key(), known.stream_before, known.stream_after);
        match self.table.derived_mut(before) {
            Some(before) => before.stream_after = after,
            None => *first_of_stream = after,
        }
        if let Some(after) = self.table.derived_mut(after) {
            after.stream_before = before;
        }
        self.table.remove(&key);
    }

    /// After a restore: makes both lists anew.
    pub(crate) fn relink(&mut self, streams: &mut Table<Stream>) -> Result<(), DecodeError> {
        (self.oldest, self.newest) = (NO_SLOT, NO_SLOT);
        let mut order: Vec<(u64, u32, StreamId)> =
            self.table.iter().map(|(slot, producer)| (producer.use_number, slot, producer.stream)).collect();
        order.sort_unstable();
        for (_, slot, id) in order {
            self.link_newest(slot);
            let stream = streams.slot(&id).and_then(|stream| streams.derived_mut(stream));
            let stream = stream.ok_or(DecodeError::Value { what: "the stream of a producer", value: id.0 })?;
            let next = std::mem::replace(&mut stream.first_producer, slot);
            if let Some(known) = self.table.derived_mut(slot) {
                known.stream_before = NO_SLOT;
                known.stream_after = next;
            }
            if let Some(next) = self.table.derived_mut(next) {
                next.stream_before = slot;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
