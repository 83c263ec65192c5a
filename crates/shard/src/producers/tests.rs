//! The rules for idempotent producers, one by one, and the lists against a plain model.

use proptest::prelude::*;

use super::*;

const STREAM: StreamId = StreamId(1);
const PRODUCER: ProducerId = ProducerId(7);

fn stamp(epoch: i16, sequence: i32) -> ProducerStamp {
    ProducerStamp { id: PRODUCER, epoch: ProducerEpoch(epoch), base_sequence: Sequence(sequence) }
}

#[derive(Default)]
struct Fixture {
    producers: Producers,
    first: Option<u32>,
    next_offset: i64,
    uses: u64,
}

impl Fixture {
    /// The offset that a batch gets, or whether it is a duplicate, or the error.
    fn send(&mut self, epoch: i16, sequence: i32, records: u32) -> Result<(i64, bool), AppendError> {
        match self.producers.judge(STREAM, stamp(epoch, sequence), records)? {
            Verdict::Duplicate { base_offset, .. } => Ok((base_offset.0, true)),
            Verdict::Append(slot) => {
                let base = self.next_offset;
                self.next_offset += i64::from(records);
                self.uses += 1;
                let mut first = self.first.unwrap_or(NO_SLOT);
                let used = (TimestampMs(0), self.uses);
                let offset = StreamOffset(base);
                let stamp = stamp(epoch, sequence);
                self.producers.remember(slot, STREAM, &mut first, stamp, records, offset, TimestampMs(5), used);
                self.first = Some(first);
                Ok((base, false))
            }
        }
    }

    fn check(&mut self, (epoch, sequence, records): (i16, i32, u32), expected: Result<(i64, bool), AppendError>) {
        assert_eq!(self.send(epoch, sequence, records), expected, "epoch {epoch} sequence {sequence} x {records}");
    }
}

fn gap(expected: i32, actual: i32) -> Result<(i64, bool), AppendError> {
    Err(AppendError::OutOfOrderSequence { producer: PRODUCER, expected: Sequence(expected), actual: Sequence(actual) })
}

fn old(current: i16, actual: i16) -> Result<(i64, bool), AppendError> {
    let (current, actual) = (ProducerEpoch(current), ProducerEpoch(actual));
    Err(AppendError::InvalidProducerEpoch { producer: PRODUCER, current, actual })
}

#[test]
fn duplicates_of_the_last_five_batches_get_their_first_offset() {
    let mut fixture = Fixture::default();
    for batch in 0..6_i32 {
        fixture.check((0, batch * 2, 2), Ok((i64::from(batch) * 2, false)));
    }
    for batch in 1..6_i32 {
        fixture.check((0, batch * 2, 2), Ok((i64::from(batch) * 2, true)));
    }
    // The sixth from the end is not known any more: to the broker it is a gap.
    fixture.check((0, 0, 2), gap(12, 0));
    // Neither is a batch with other bounds a duplicate.
    fixture.check((0, 10, 1), gap(12, 10));
    fixture.check((0, 12, 1), Ok((12, false)));
}

#[test]
fn a_gap_is_refused_and_changes_nothing() {
    let mut fixture = Fixture::default();
    fixture.check((0, 0, 3), Ok((0, false)));
    fixture.check((0, 4, 1), gap(3, 4));
    fixture.check((0, 3, 1), Ok((3, false)));
}

#[test]
fn a_new_epoch_begins_at_sequence_zero() {
    let mut fixture = Fixture::default();
    fixture.check((0, 0, 3), Ok((0, false)));
    fixture.check((1, 3, 1), gap(0, 3));
    fixture.check((1, 0, 1), Ok((3, false)));
    fixture.check((0, 3, 1), old(1, 0));
    // Not even as a duplicate.
    fixture.check((0, 0, 3), old(1, 0));
    fixture.check((1, 1, 1), Ok((4, false)));
}

#[test]
fn an_unknown_producer_begins_anywhere_kip_360() {
    let mut fixture = Fixture::default();
    fixture.check((3, 17, 2), Ok((0, false)));
    fixture.check((3, 17, 2), Ok((0, true)));
    fixture.check((3, 19, 1), Ok((2, false)));
}

#[test]
fn sequences_wrap_behind_the_largest_to_zero() {
    let mut fixture = Fixture::default();
    fixture.check((0, i32::MAX - 1, 2), Ok((0, false)));
    fixture.check((0, 0, 2), Ok((2, false)));
    fixture.check((0, i32::MAX - 1, 2), Ok((0, true)));
    let mut fixture = Fixture::default();
    // One batch may wrap inside.
    fixture.check((0, i32::MAX, 3), Ok((0, false)));
    fixture.check((0, 2, 1), Ok((3, false)));
    fixture.check((0, i32::MAX, 3), Ok((0, true)));
}

proptest! {
    /// The lists agree with a plain model however producers are used and forgotten.
    #[test]
    fn lists_as_a_plain_model(steps in proptest::collection::vec((1_u64..4, 0_i64..5, any::<bool>()), 0..200)) {
        let mut producers = Producers::default();
        let mut heads = [NO_SLOT; 4];
        let mut model: Vec<(StreamId, ProducerId)> = Vec::new();
        for (number, (stream, id, forget)) in steps.into_iter().enumerate() {
            let key = (StreamId(stream), ProducerId(id));
            let slot = producers.table.slot(&key);
            let head = &mut heads[usize::try_from(stream).unwrap()];
            prop_assert_eq!(slot.is_some(), model.contains(&key));
            model.retain(|other| *other != key);
            match slot {
                Some(slot) if forget => producers.forget(slot, head),
                slot => {
                    let stamp = ProducerStamp { id: key.1, epoch: ProducerEpoch(0), base_sequence: Sequence(0) };
                    let used = (TimestampMs(0), number as u64);
                    producers.remember(slot, key.0, head, stamp, 1, StreamOffset(0), TimestampMs(0), used);
                    model.push(key);
                }
            }
            let oldest = producers.oldest().map(|(slot, _, _)| producers.table.at(slot).unwrap().key());
            prop_assert_eq!(oldest, model.first().copied());
            for (stream, head) in heads.iter().enumerate() {
                let mut listed: Vec<_> = producers.of_stream(*head).map(|slot| producers.table.at(slot).unwrap().key()).collect();
                let mut expected: Vec<_> = model.iter().copied().filter(|key| key.0 == StreamId(stream as u64)).collect();
                listed.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(listed, expected);
            }
        }
    }
}
