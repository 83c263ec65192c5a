//! The sequences of idempotent producers, as one connection has seen them.
//!
//! What is kept true: a batch that was refused in a way that makes its producer send it again is overtaken by no later
//! batch of that producer to the partition. A shard sees to that while it knows the producer. Of one that it does not
//! know it takes any sequence as the first, as Kafka does, because producers live longer than what is remembered of
//! them; and the batch that comes back would be out of order for ever. So until the shard has taken a batch of a
//! producer, the next one waits for the fate of the one before; and behind a refused one all are refused as out of
//! order, which clients answer by sending all of them again, in order.

use std::collections::BTreeMap;

use record::{ProducerEpoch, ProducerId, Sequence, TopicId};

use crate::errors::{
    CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, NONE, NOT_ENOUGH_REPLICAS, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT,
    UNKNOWN_TOPIC_OR_PARTITION,
};
use crate::limits::PRODUCERS_REMEMBERED_MAX;

/// Where a batch says what it is and who made it.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;
const PRODUCER_AT: usize = 43;
/// Sequences count from 0 to this and begin anew.
const SEQUENCES: i64 = 1 << 31;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    topic: TopicId,
    partition: i32,
    producer: ProducerId,
}

/// A batch of an idempotent producer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    key: Key,
    epoch: ProducerEpoch,
    pub(super) sequence: Sequence,
}

impl Sent {
    /// What the header of `batch` says, which need not be a good one: it speaks for its own connection only.
    pub(super) fn read(topic: TopicId, partition: i32, batch: &[u8]) -> Option<Self> {
        if batch.get(MAGIC_AT) != Some(&MAGIC) {
            return None;
        }
        let (id, rest) = batch.get(PRODUCER_AT..)?.split_first_chunk()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let producer = ProducerId(i64::from_be_bytes(*id));
        let epoch = ProducerEpoch(i16::from_be_bytes(*epoch));
        let sequence = Sequence(i32::from_be_bytes(*rest.first_chunk()?));
        let is_stamped = producer.0 >= 0 && epoch.0 >= 0 && sequence.0 >= 0;
        is_stamped.then_some(Self { key: Key { topic, partition, producer }, epoch, sequence })
    }
}

/// What is known of one producer at one partition.
#[derive(Debug)]
struct Known {
    epoch: ProducerEpoch,
    /// Batches whose fate is not told yet.
    in_flight: u32,
    /// Whether the last one whose fate was told was taken: then the shard knows the producer.
    is_taken: bool,
    /// The first of those that were refused and come again.
    refused: Option<Sequence>,
}

/// All producers of a connection.
#[derive(Debug, Default)]
pub(crate) struct Sequences(BTreeMap<Key, Known>);

/// What each batch in flight may add to what a connection remembers, with what the map itself takes.
pub(super) const BYTES_PER_BATCH: usize = 2 * size_of::<(Key, Known)>();

impl Sequences {
    /// Whether the fate of the batches before must be told first.
    pub(super) fn must_wait(&self, sent: &Sent) -> bool {
        self.0.get(&sent.key).is_some_and(|known| {
            known.epoch == sent.epoch && known.in_flight > 0 && !known.is_taken && known.refused.is_none()
        })
    }

    /// Notes a batch that is about to be appended. When one before it was refused and did not come back yet, the error
    /// has the sequence of that one, and the batch MUST NOT be appended nor told to [`Self::settle`].
    pub(super) fn admit(&mut self, sent: &Sent) -> Result<(), Sequence> {
        let fresh = || Known { epoch: sent.epoch, in_flight: 0, is_taken: false, refused: None };
        let known = self.0.entry(sent.key).or_insert_with(fresh);
        if sent.epoch > known.epoch {
            // Its sequences begin anew.
            *known = fresh();
        }
        if sent.epoch == known.epoch {
            match known.refused {
                Some(refused) if sent.sequence == refused => {
                    known.refused = None;
                    known.is_taken = false;
                }
                Some(refused) if is_behind(sent.sequence, refused) => return Err(refused),
                Some(_) | None => {}
            }
            known.in_flight += 1;
        }
        Ok(())
    }

    /// Takes over what became of a batch that was admitted, in the order in which batches were.
    pub(super) fn settle(&mut self, sent: &Sent, code: i16) {
        let Some(known) = self.0.get_mut(&sent.key).filter(|known| known.epoch == sent.epoch) else { return };
        known.in_flight = known.in_flight.saturating_sub(1);
        if code == NONE {
            known.is_taken = true;
        } else if comes_again(code) {
            known.is_taken = false;
            if known.refused.is_none_or(|refused| is_behind(refused, sent.sequence)) {
                known.refused = Some(sent.sequence);
            }
        }
    }

    /// Forgets what need not be known, when there is much of it.
    pub(super) fn trim(&mut self) {
        if self.0.len() <= PRODUCERS_REMEMBERED_MAX {
            return;
        }
        let mut room = PRODUCERS_REMEMBERED_MAX;
        self.0.retain(|_, known| {
            let keep = known.in_flight > 0 || (known.refused.is_some() && room > 0);
            room = room.saturating_sub(usize::from(keep));
            keep
        });
    }
}

/// Whether `sequence` is less than half of all sequences behind `first`.
const fn is_behind(sequence: Sequence, first: Sequence) -> bool {
    let distance = (sequence.0 as i64 - first.0 as i64).rem_euclid(SEQUENCES);
    0 < distance && distance < SEQUENCES / 2
}

/// Whether clients send a batch again that was answered so, under the same sequence. A batch that is too large comes
/// in pieces, of which the first has its sequence.
const fn comes_again(code: i16) -> bool {
    matches!(
        code,
        CORRUPT_MESSAGE
            | UNKNOWN_TOPIC_OR_PARTITION
            | NOT_LEADER_OR_FOLLOWER
            | REQUEST_TIMED_OUT
            | MESSAGE_TOO_LARGE
            | NOT_ENOUGH_REPLICAS
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::{INVALID_TIMESTAMP, OUT_OF_ORDER_SEQUENCE_NUMBER};

    fn sent(epoch: i16, sequence: i32) -> Sent {
        of_partition(0, epoch, sequence)
    }

    fn of_partition(partition: i32, epoch: i16, sequence: i32) -> Sent {
        let key = Key { topic: TopicId(1), partition, producer: ProducerId(7) };
        Sent { key, epoch: ProducerEpoch(epoch), sequence: Sequence(sequence) }
    }

    impl Sequences {
        fn ended(&mut self, sent: &Sent, code: i16) {
            self.admit(sent).expect("nothing is refused");
            self.settle(sent, code);
        }
    }

    #[test]
    fn what_follows_a_refused_batch_is_refused_until_it_comes_again() {
        for code in [2, 3, 6, 7, 10, 19] {
            let mut sequences = Sequences::default();
            sequences.ended(&sent(0, 0), code);
            assert_eq!(sequences.admit(&sent(0, 5)), Err(Sequence(0)));
            assert_eq!(sequences.admit(&sent(0, 10)), Err(Sequence(0)));
            sequences.admit(&of_partition(1, 0, 5)).expect("another partition");
            sequences.ended(&sent(0, 0), code);
            assert_eq!(sequences.admit(&sent(0, 5)), Err(Sequence(0)), "refused again");
            sequences.ended(&sent(0, 0), NONE);
            sequences.ended(&sent(0, 5), NONE);
        }
    }

    #[test]
    fn the_first_batches_of_a_producer_wait_for_the_one_before() {
        let mut sequences = Sequences::default();
        assert!(!sequences.must_wait(&sent(0, 0)));
        sequences.admit(&sent(0, 0)).expect("the first");
        assert!(sequences.must_wait(&sent(0, 5)));
        assert!(!sequences.must_wait(&of_partition(1, 0, 5)));
        sequences.settle(&sent(0, 0), NONE);
        sequences.admit(&sent(0, 5)).expect("the second");
        assert!(!sequences.must_wait(&sent(0, 10)), "the shard knows the producer");
        sequences.settle(&sent(0, 5), NOT_ENOUGH_REPLICAS);
        assert!(!sequences.must_wait(&sent(0, 10)), "it is refused at once");
        sequences.admit(&sent(0, 5)).expect("it came again");
        assert!(sequences.must_wait(&sent(0, 10)));
    }

    #[test]
    fn what_never_comes_again_holds_up_nobody() {
        let mut sequences = Sequences::default();
        for code in [INVALID_TIMESTAMP, OUT_OF_ORDER_SEQUENCE_NUMBER] {
            sequences.ended(&sent(0, 0), code);
            sequences.admit(&sent(0, 5)).expect("as in Kafka");
        }
        sequences.ended(&sent(0, 10), CORRUPT_MESSAGE);
        sequences.ended(&sent(0, 5), NONE);
        assert_eq!(sequences.admit(&sent(0, 15)), Err(Sequence(10)), "an earlier batch changes nothing");
        sequences.ended(&sent(1, 0), NONE);
        sequences.ended(&sent(1, 3), NONE);
        sequences.ended(&sent(0, 15), INVALID_TIMESTAMP);
    }

    #[test]
    fn sequences_begin_anew_behind_the_largest() {
        let mut sequences = Sequences::default();
        sequences.ended(&sent(0, i32::MAX), NOT_LEADER_OR_FOLLOWER);
        assert_eq!(sequences.admit(&sent(0, 0)), Err(Sequence(i32::MAX)));
        sequences.admit(&sent(0, i32::MAX - 1)).expect("before it");
        // The earlier one counts.
        sequences.settle(&sent(0, i32::MAX - 1), NOT_LEADER_OR_FOLLOWER);
        assert_eq!(sequences.admit(&sent(0, i32::MAX)), Err(Sequence(i32::MAX - 1)));
    }

    #[test]
    fn a_connection_remembers_so_many_and_all_that_are_in_flight() {
        let count = 2 * i32::try_from(PRODUCERS_REMEMBERED_MAX).expect("small");
        let mut sequences = Sequences::default();
        for partition in 0..count {
            sequences.ended(&of_partition(partition, 0, 0), NOT_ENOUGH_REPLICAS);
        }
        sequences.admit(&of_partition(count, 0, 0)).expect("in flight");
        sequences.trim();
        assert!(sequences.0.len() <= PRODUCERS_REMEMBERED_MAX + 1);
        assert!(sequences.must_wait(&of_partition(count, 0, 5)));
        for partition in 0..count {
            sequences.ended(&of_partition(partition, 1, 0), NONE);
        }
        sequences.trim();
        assert_eq!(sequences.0.len(), 1, "what was taken need not be known");
    }

    #[test]
    fn only_a_stamped_batch_has_a_sequence() {
        let mut batch = vec![0; 61];
        batch[MAGIC_AT] = MAGIC;
        let read = |batch: &[u8]| Sent::read(TopicId(1), 0, batch).map(|sent| sent.sequence.0);
        assert_eq!(read(&batch), Some(0));
        batch[56] = 9;
        assert_eq!(read(&batch), Some(9));
        assert_eq!(read(&batch[..56]), None);
        batch[PRODUCER_AT] = 0xff;
        assert_eq!(read(&batch), None);
    }
}
