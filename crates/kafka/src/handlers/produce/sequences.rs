//! The sequences of idempotent producers, as one connection has seen them.
//!
//! What is kept true: a batch that was refused in a way that makes its producer send it again is overtaken by no later
//! batch of that producer to the partition. A shard sees to that while it knows the producer. Of one that it does not
//! know it takes any sequence as the first, as Kafka does, because producers live longer than what is remembered of
//! them; and the batch that comes back would be out of order for ever. So while the shard does not know a producer, the
//! next batch of it waits for the fate of the one before; and behind a refused one all are refused as out of order,
//! which clients answer by sending all of them again, in order.
//!
//! Who knows is the shard, which is asked. A connection remembers those with a batch under way, which the memory of
//! their requests pays for, and few that were refused, which are paid for apart: their headers prove nothing. In a tree,
//! as clients choose the keys.

use std::collections::{BTreeMap, VecDeque};

use base::memory::{Permit, Share};
use base::time::{Duration, Instant};
use record::{ProducerEpoch, ProducerId, Sequence, TopicId};

use crate::errors::{
    CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, NONE, NOT_ENOUGH_REPLICAS, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT,
    UNKNOWN_TOPIC_OR_PARTITION,
};
use crate::limits::REFUSED_REMEMBERED_MAX;

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
    pub(super) const fn producer(&self) -> ProducerId {
        self.key.producer
    }

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

/// So long a producer counts as known after the shard took a batch or was asked. Far less than it is remembered.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// Entries that are kept for their next use, beside a quarter of those in use.
const IDLE_MAX: usize = 16;

/// What is known of one producer at one partition.
#[derive(Debug)]
struct Known {
    epoch: ProducerEpoch,
    /// Batches whose fate is not told yet.
    in_flight: u32,
    /// Until when the shard surely knows the producer.
    until: Option<Instant>,
    /// The first of those that were refused and come again.
    refused: Option<Sequence>,
}

impl Known {
    const fn new(epoch: ProducerEpoch) -> Self {
        Self { epoch, in_flight: 0, until: None, refused: None }
    }

    const fn is_in_use(&self) -> bool {
        self.in_flight > 0 || self.refused.is_some()
    }
}

/// Why a batch is not appended now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// The fate of the batches before must be told first; then it is admitted.
    Wait,
    /// One before it, of this sequence, was refused and did not come back yet. It MUST NOT be appended, nor settled.
    Behind(Sequence),
}

/// All producers of a connection.
#[derive(Debug)]
pub(crate) struct Sequences {
    known: BTreeMap<Key, Known>,
    /// How many of them are in use.
    in_use: usize,
    /// Exactly those with a refused batch, the oldest refusal first.
    refused: VecDeque<Key>,
    share: Share,
    /// For the refused ones.
    paid: Permit,
}

/// What each batch in flight may add, with the idle ones that are kept and with nodes that are half empty.
pub(super) const BYTES_PER_BATCH: usize = 3 * size_of::<(Key, Known)>();
/// The same for one that was refused.
const BYTES_PER_REFUSED: usize = BYTES_PER_BATCH + 2 * size_of::<Key>();

impl Sequences {
    /// Takes memory for what it remembers from `share`, and none when it remembers nothing.
    pub(crate) fn new(share: Share) -> Self {
        Self { known: BTreeMap::new(), in_use: 0, refused: VecDeque::new(), share, paid: Permit::empty() }
    }

    /// Notes a batch that is about to be appended. `may_wait` is for one that can be taken, and did not wait yet;
    /// `is_known` asks the shard whether it knows the producer.
    pub(super) fn admit(
        &mut self,
        sent: &Sent,
        may_wait: bool,
        now: Instant,
        is_known: impl FnOnce() -> bool,
    ) -> Result<(), Held> {
        let known = self.known.entry(sent.key).or_insert_with(|| Known::new(sent.epoch));
        let was_in_use = known.is_in_use();
        if sent.epoch < known.epoch {
            // Its shard refuses it.
            return Ok(());
        }
        let mut came_back = false;
        if sent.epoch > known.epoch {
            // Its sequences begin anew.
            came_back = known.refused.is_some();
            *known = Known::new(sent.epoch);
        }
        match known.refused {
            Some(refused) if sent.sequence == refused => {
                known.refused = None;
                known.until = None;
                came_back = true;
            }
            Some(refused) if is_behind(sent.sequence, refused) => return Err(Held::Behind(refused)),
            Some(_) => {}
            None if may_wait && known.in_flight > 0 && known.until.is_none_or(|until| until <= now) => {
                if !is_known() {
                    return Err(Held::Wait);
                }
                known.until = Some(now + KNOWN_FOR);
            }
            None => {}
        }
        known.in_flight += 1;
        self.in_use += usize::from(!was_in_use);
        if came_back {
            self.refused.retain(|key| *key != sent.key);
            self.give_back();
        }
        Ok(())
    }

    /// Takes over what became of a batch that was admitted, in the order in which batches were.
    pub(super) fn settle(&mut self, sent: &Sent, code: i16, now: Instant) {
        let Some(known) = self.known.get_mut(&sent.key).filter(|known| known.epoch == sent.epoch) else { return };
        let was_in_use = known.is_in_use();
        known.in_flight = known.in_flight.saturating_sub(1);
        let mut is_new = false;
        if code == NONE {
            known.until = Some(now + KNOWN_FOR);
        } else if comes_again(code) {
            known.until = None;
            is_new = known.refused.is_none();
            if known.refused.is_none_or(|refused| is_behind(refused, sent.sequence)) {
                known.refused = Some(sent.sequence);
            }
        }
        match (was_in_use, known.is_in_use()) {
            (true, false) => self.in_use -= 1,
            (false, true) => self.in_use += 1,
            (true, true) | (false, false) => {}
        }
        if is_new {
            self.remember_refused(sent.key);
        }
        // What goes is a good part of what is looked at.
        if self.known.len() - self.in_use > IDLE_MAX + self.in_use / 4 {
            self.known.retain(|_, known| known.is_in_use());
        }
    }

    /// Forgets the oldest refusals when there are too many, or no memory for one more.
    fn remember_refused(&mut self, key: Key) {
        self.refused.push_back(key);
        if self.refused.len() > REFUSED_REMEMBERED_MAX {
            self.forget_refused();
        }
        let missing = (self.refused.len() * BYTES_PER_REFUSED).saturating_sub(self.paid.bytes());
        if missing > 0 {
            match self.share.try_acquire(missing) {
                Some(permit) => self.paid.merge(permit),
                None => self.forget_refused(),
            }
        }
    }

    fn forget_refused(&mut self) {
        let Some(known) = self.refused.pop_front().and_then(|key| self.known.get_mut(&key)) else { return };
        known.refused = None;
        self.in_use -= usize::from(!known.is_in_use());
    }

    fn give_back(&mut self) {
        if self.refused.is_empty() {
            self.refused = VecDeque::new();
            self.paid = Permit::empty();
        }
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

    /// What a connection remembers; the shard does not know the producers.
    struct Connection {
        sequences: Sequences,
        now: Instant,
    }

    impl Connection {
        fn new() -> Self {
            Self { sequences: Sequences::new(Share::new("test", 1 << 20)), now: base::time::now() }
        }

        fn admit(&mut self, sent: &Sent) -> Result<(), Held> {
            self.sequences.admit(sent, true, self.now, || false)
        }

        fn settle(&mut self, sent: &Sent, code: i16) {
            self.sequences.settle(sent, code, self.now);
            let Sequences { known, in_use, refused, .. } = &self.sequences;
            assert_eq!(*in_use, known.values().filter(|known| known.is_in_use()).count());
            assert_eq!(refused.len(), known.values().filter(|known| known.refused.is_some()).count());
            assert!(known.len() <= in_use + in_use / 4 + IDLE_MAX, "what is idle goes");
        }

        fn ended(&mut self, sent: &Sent, code: i16) {
            self.admit(sent).expect("nothing is refused");
            self.settle(sent, code);
        }
    }

    fn behind(sequence: i32) -> Result<(), Held> {
        Err(Held::Behind(Sequence(sequence)))
    }

    #[test]
    fn what_follows_a_refused_batch_is_refused_until_it_comes_again() {
        for code in [2, 3, 6, 7, 10, 19] {
            let mut connection = Connection::new();
            connection.ended(&sent(0, 0), code);
            assert_eq!(connection.admit(&sent(0, 5)), behind(0));
            assert_eq!(connection.admit(&sent(0, 10)), behind(0));
            connection.ended(&of_partition(1, 0, 5), NONE);
            connection.ended(&sent(0, 0), code);
            assert_eq!(connection.admit(&sent(0, 5)), behind(0), "refused again");
            connection.ended(&sent(0, 0), NONE);
            connection.ended(&sent(0, 5), NONE);
            assert_eq!(connection.sequences.paid.bytes(), 0);
        }
    }

    #[test]
    fn the_first_batches_of_a_producer_wait_for_the_one_before() {
        let mut connection = Connection::new();
        assert_eq!(connection.admit(&sent(0, 0)), Ok(()));
        assert_eq!(connection.admit(&sent(0, 5)), Err(Held::Wait));
        assert_eq!(connection.admit(&of_partition(1, 0, 5)), Ok(()));
        connection.settle(&sent(0, 0), NONE);
        assert_eq!(connection.admit(&sent(0, 5)), Ok(()));
        assert_eq!(connection.admit(&sent(0, 10)), Ok(()), "the shard knows the producer");
        connection.settle(&sent(0, 5), NOT_ENOUGH_REPLICAS);
        assert_eq!(connection.admit(&sent(0, 15)), behind(5), "it is refused at once");
        connection.settle(&sent(0, 10), OUT_OF_ORDER_SEQUENCE_NUMBER);
        assert_eq!(connection.admit(&sent(0, 5)), Ok(()));
        assert_eq!(connection.admit(&sent(0, 10)), Err(Held::Wait), "it came again");
    }

    #[test]
    fn a_producer_that_the_shard_knows_does_not_wait() {
        let mut connection = Connection::new();
        for partition in 0..2_000 {
            connection.ended(&of_partition(partition, 0, 0), NONE);
        }
        assert!(connection.sequences.known.len() <= IDLE_MAX);
        for partition in 0..2_000 {
            connection.admit(&of_partition(partition, 0, 1)).expect("the only one under way");
        }
        let (sequences, now) = (&mut connection.sequences, connection.now);
        for partition in 0..2_000 {
            assert_eq!(sequences.admit(&of_partition(partition, 0, 2), true, now, || true), Ok(()));
            let mut asked = false;
            let known = sequences.admit(&of_partition(partition, 0, 3), true, now, || {
                asked = true;
                false
            });
            assert!(known.is_ok() && !asked, "it is not asked for each batch");
        }
    }

    #[test]
    fn what_the_shard_knew_long_ago_it_is_asked_again() {
        let mut connection = Connection::new();
        connection.ended(&sent(0, 0), NONE);
        connection.now += Duration::from_secs(24 * 3_600);
        connection.admit(&sent(0, 1)).expect("nothing is under way");
        assert_eq!(connection.admit(&sent(0, 2)), Err(Held::Wait));
    }

    #[test]
    fn what_never_comes_again_holds_up_nobody() {
        let mut connection = Connection::new();
        for code in [INVALID_TIMESTAMP, OUT_OF_ORDER_SEQUENCE_NUMBER] {
            connection.ended(&sent(0, 0), code);
            assert_eq!(connection.sequences.in_use, 0);
            connection.admit(&sent(0, 5)).expect("as in Kafka");
            connection.settle(&sent(0, 5), NONE);
        }
        connection.ended(&sent(0, 10), CORRUPT_MESSAGE);
        connection.ended(&sent(0, 5), NONE);
        assert_eq!(connection.admit(&sent(0, 15)), behind(10), "an earlier batch changes nothing");
        connection.ended(&sent(1, 0), NONE);
        connection.ended(&sent(1, 3), NONE);
        connection.ended(&sent(0, 15), INVALID_TIMESTAMP);
        assert_eq!(connection.sequences.paid.bytes(), 0);
    }

    #[test]
    fn sequences_begin_anew_behind_the_largest() {
        let mut connection = Connection::new();
        connection.ended(&sent(0, i32::MAX), NOT_LEADER_OR_FOLLOWER);
        assert_eq!(connection.admit(&sent(0, 0)), behind(i32::MAX));
        connection.admit(&sent(0, i32::MAX - 1)).expect("before it");
        // The earlier one counts.
        connection.settle(&sent(0, i32::MAX - 1), NOT_LEADER_OR_FOLLOWER);
        assert_eq!(connection.admit(&sent(0, i32::MAX)), behind(i32::MAX - 1));
    }

    #[test]
    fn few_refused_batches_are_remembered_and_paid_for() {
        let mut connection = Connection::new();
        let count = 20 * i32::try_from(REFUSED_REMEMBERED_MAX).expect("small");
        for partition in 0..count {
            connection.ended(&of_partition(partition, 0, 0), CORRUPT_MESSAGE);
        }
        assert_eq!(connection.sequences.refused.len(), REFUSED_REMEMBERED_MAX);
        let share = connection.sequences.share.clone();
        assert!(share.used() >= REFUSED_REMEMBERED_MAX * BYTES_PER_REFUSED);
        assert_eq!(connection.admit(&of_partition(count - 1, 0, 1)), behind(0));
        connection.admit(&of_partition(0, 0, 1)).expect("forgotten");
        // Who has no memory remembers less.
        let left = share.try_acquire(share.bytes_max() - share.used());
        let mut other = Connection { sequences: Sequences::new(share.clone()), now: connection.now };
        other.ended(&sent(0, 0), CORRUPT_MESSAGE);
        other.ended(&sent(0, 1), NONE);
        assert_eq!(other.sequences.in_use, 0);
        drop((left, connection));
        assert_eq!(share.used(), 0);
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
