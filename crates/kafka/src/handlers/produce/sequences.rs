//! The sequences of idempotent producers, as one connection has seen them.
//!
//! What is kept true: a batch that was refused in a way that makes its producer send it again is overtaken by no later
//! batch of that producer to the partition. A shard sees to that while it knows the producer. Of one that it does not
//! know it takes any sequence as the first, as Kafka does, because producers live longer than what is remembered of
//! them; and the batch that comes back would be out of order for ever. So while the shard does not know a producer, the
//! next batch of it waits for the fate of the one before; and behind a refused one all are refused.
//!
//! Who comes behind one that was refused is told NOT_LEADER_OR_FOLLOWER, whether the shard found it out of order or it
//! never came there: clients send all of them again, in order. OUT_OF_ORDER_SEQUENCE_NUMBER, which Kafka says, is no fault
//! of the producer then, and librdkafka numbers all its batches anew after it: those as well of which it does not
//! know whether they were written, as other partitions' may be in that moment, and these are there twice. The same where
//! nothing was refused here and the shard misses batches: while leaders change, they were refused by another node or are
//! still under way to it (librdkafka may send the next ones here between its refusal and their way back into its
//! queue). Only who goes on so for half a minute is told that its sequence is out of order. Where there
//! is no other node nothing can be on its way, and it is told at once.
//!
//! A batch that was refused here because another node leads goes there, and those behind it, too. When this node leads
//! again its shard knows the producer from there, and what was refused before is no matter any more once it takes one.
//!
//! Who knows is the shard, which is asked. A connection remembers those with a batch under way, which the memory of
//! their requests pays for, and few that were refused, which are paid for apart: their headers prove nothing. In a tree,
//! as clients choose the keys.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher as _;

use base::hash::FixedHasher;
use base::memory::{Permit, Share};
use base::time::{Duration, Instant};
use record::{ProducerEpoch, ProducerId, Sequence, TopicId};

use crate::errors::{
    CORRUPT_MESSAGE, MESSAGE_TOO_LARGE, NONE, NOT_ENOUGH_REPLICAS, NOT_LEADER_OR_FOLLOWER,
    OUT_OF_ORDER_SEQUENCE_NUMBER, REQUEST_TIMED_OUT, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION,
};
use crate::limits::REFUSED_REMEMBERED_MAX;
use crate::wire::produce::TopicKey;

/// Where a batch says what it is and who made it.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;
const PRODUCER_AT: usize = 43;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    topic: TopicId,
    partition: i32,
    producer: ProducerId,
}

/// A topic as requests name it: a batch may be refused because the topic is not known here yet, and the one behind it come
/// when it is. Names are long, so they are told apart by what is made of them; ids are random as well.
pub(super) fn told_apart(key: &TopicKey) -> TopicId {
    match key {
        TopicKey::Id(id) => *id,
        TopicKey::Name(name) => {
            let [high, low] = [1, 2].map(|seed: u64| {
                let mut hasher = FixedHasher::default();
                hasher.write_u64(seed);
                hasher.write(name.as_str().as_bytes());
                hasher.finish()
            });
            TopicId(u128::from(high) << 64 | u128::from(low))
        }
    }
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

    /// What the header of `batch` says, to a topic as [`told_apart`], which need not be a good one: it speaks for its own connection only.
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
/// What a producer sent before it learnt of a refusal comes within this.
const REFUSED_FOR: Duration = Duration::from_secs(300);
/// Far longer than a client takes to send again what was refused; who sends only what is behind it has given it up.
const COMES_AGAIN_WITHIN: Duration = Duration::from_secs(30);
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
    refused: Option<Refused>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    first: Sequence,
    /// When one was refused last.
    at: Instant,
}

impl Refused {
    fn comes_again(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < COMES_AGAIN_WITHIN
    }
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
    Behind(Sequence, Missing),
}

/// What is to be thought of a batch that is missing before others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Its producer is about to send it again.
    ComesAgain,
    /// It had the time to.
    GivenUp,
}

/// All producers of a connection.
#[derive(Debug)]
pub(crate) struct Sequences {
    known: BTreeMap<Key, Known>,
    /// How many of them are in use.
    in_use: usize,
    /// Exactly those with a refused batch, the one that had its first refusal earliest first.
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
            Some(refused @ Refused { first, at }) if sent.sequence.is_behind(first) => {
                // A shard that knows the producer sees to the order itself: what was refused may have come by another way.
                if now.saturating_duration_since(at) >= REFUSED_FOR {
                    known.refused = None;
                    known.until = None;
                    came_back = true;
                } else if !is_known() {
                    let missing = if refused.comes_again(now) { Missing::ComesAgain } else { Missing::GivenUp };
                    return Err(Held::Behind(first, missing));
                }
            }
            Some(Refused { first, .. }) if sent.sequence == first => {
                known.refused = None;
                known.until = None;
                came_back = true;
            }
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

    /// Takes over what became of a batch that was admitted, in the order in which batches were; what its client is told.
    /// `due` is what the shard expects where the batch was out of order.
    pub(super) fn settle(&mut self, sent: &Sent, code: i16, due: Option<Sequence>, now: Instant) -> i16 {
        let Some(known) = self.known.get_mut(&sent.key).filter(|known| known.epoch == sent.epoch) else { return code };
        let was_in_use = known.is_in_use();
        known.in_flight = known.in_flight.saturating_sub(1);
        let (mut is_new, mut came_back, mut told) = (false, false, code);
        let before = known.refused.filter(|refused| sent.sequence.is_behind(refused.first));
        if code == NONE {
            known.until = Some(now + KNOWN_FOR);
            if before.is_some() {
                known.refused = None;
                came_back = true;
            }
        } else if code == OUT_OF_ORDER_SEQUENCE_NUMBER {
            // What is missing was refused by another node, or is still under way to it.
            let missing = due.filter(|due| before.is_none() && sent.sequence.is_behind(*due));
            if let Some(first) = missing {
                is_new = known.refused.is_none();
                known.refused = Some(Refused { first, at: now });
            }
            if missing.is_some() || before.is_some_and(|refused| refused.comes_again(now)) {
                told = NOT_LEADER_OR_FOLLOWER;
            }
        } else if comes_again(code) {
            known.until = None;
            is_new = known.refused.is_none();
            // The first of them counts, and the time of the last: its producer is at work on all of them.
            let first = known.refused.map(|refused| refused.first).filter(|first| !first.is_behind(sent.sequence));
            known.refused = Some(Refused { first: first.unwrap_or(sent.sequence), at: now });
        }
        match (was_in_use, known.is_in_use()) {
            (true, false) => self.in_use -= 1,
            (false, true) => self.in_use += 1,
            (true, true) | (false, false) => {}
        }
        if is_new {
            self.remember_refused(sent.key);
        }
        if came_back {
            self.refused.retain(|key| *key != sent.key);
            self.give_back();
        }
        // What goes is a good part of what is looked at.
        if self.known.len() - self.in_use > IDLE_MAX + self.in_use / 4 {
            self.known.retain(|_, known| known.is_in_use());
        }
        told
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

/// Whether clients send a batch again that was answered so, under the same sequence. A batch that is too large comes
/// in pieces, of which the first has its sequence.
const fn comes_again(code: i16) -> bool {
    matches!(
        code,
        CORRUPT_MESSAGE
            | UNKNOWN_TOPIC_OR_PARTITION
            | UNKNOWN_TOPIC_ID
            | NOT_LEADER_OR_FOLLOWER
            | REQUEST_TIMED_OUT
            | MESSAGE_TOO_LARGE
            | NOT_ENOUGH_REPLICAS
    )
}

#[cfg(test)]
mod tests;
