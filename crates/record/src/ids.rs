//! The numbers that name things, each its own type, so that an offset is never taken for an index nor a term for an
//! epoch. None of them does arithmetic by operator: what may be added to what is said by a method.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

id!(
    /// One process of the cluster.
    NodeId(u64)
);
id!(
    /// One Raft group. Shard 0 is the metadata group.
    ShardId(u32)
);
id!(
    /// An ordered sequence of record batches. Given out by the metadata group, never reused.
    StreamId(u64)
);
id!(
    /// The place of a record in its stream: dense from 0.
    StreamOffset(i64)
);
id!(
    /// A term of Raft.
    Term(u64)
);
id!(
    /// The place of an entry in a shard's log.
    LogIndex(u64)
);
id!(
    /// Rises in a stream with every change of its leader and with every move to another shard. Not a Raft term.
    LeaderEpoch(i32)
);
id!(
    /// An idempotent producer. Given out in blocks by the metadata group, never reused.
    ProducerId(i64)
);
id!(
    /// Fences an older incarnation of the same producer.
    ProducerEpoch(i16)
);
id!(
    /// The number that a producer gives to a record: wraps from 2^31-1 to 0.
    Sequence(i32)
);
id!(
    /// Milliseconds since 1970-01-01 UTC. -1 where a record has none.
    TimestampMs(i64)
);
id!(
    /// The place of a partition in its topic, from 0.
    Partition(i32)
);
id!(
    /// The running number of a sealed index file of one shard, from 1.
    FileNumber(u32)
);
id!(
    /// The name of an object of one shard. Chosen by chance, so that two leaders that build one at the same time never take
    /// the same; not 0.
    ObjectKey(u64)
);

/// A topic's incarnation: a deleted and recreated topic has another one. Zero names no topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub u128);

impl TopicId {
    /// The id that names no topic.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&uuid::Uuid::from_u128(self.0), f)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

impl From<u128> for TopicId {
    fn from(value: u128) -> Self {
        Self(value)
    }
}

impl StreamOffset {
    /// The offset `records` further on, or `None` past the last one there is.
    #[must_use]
    pub const fn checked_add(self, records: i64) -> Option<Self> {
        match self.0.checked_add(records) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }
}

impl LogIndex {
    /// The index behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl ProducerId {
    /// What a batch without a producer id carries.
    pub const NONE: Self = Self(-1);
}

impl LeaderEpoch {
    /// What a request or batch that knows no epoch carries.
    pub const NONE: Self = Self(-1);
}

impl TimestampMs {
    /// What a batch or record without a timestamp carries.
    pub const NONE: Self = Self(-1);
}

impl Sequence {
    /// What a batch without a producer id carries.
    pub const NONE: Self = Self(-1);

    /// The sequence `records` further on, wrapping from 2^31-1 to 0.
    #[must_use]
    pub const fn wrapping_add(self, records: u32) -> Self {
        Self(((self.0 as i64 + records as i64) % (1 << 31)) as i32)
    }

    /// Whether it is less than half of all sequences behind `first`.
    #[must_use]
    pub const fn is_behind(self, first: Self) -> bool {
        let distance = (self.0 as i64 - first.0 as i64).rem_euclid(1 << 31);
        0 < distance && distance < 1 << 30
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_wraps_to_zero_behind_the_largest() {
        assert_eq!(Sequence(i32::MAX).wrapping_add(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).wrapping_add(3), Sequence(1));
        assert_eq!(Sequence(0).wrapping_add(1), Sequence(1));
    }

    #[test]
    fn half_of_all_sequences_are_behind_each() {
        assert!(Sequence(5).is_behind(Sequence(4)) && !Sequence(4).is_behind(Sequence(5)));
        assert!(!Sequence(5).is_behind(Sequence(5)));
        assert!(Sequence(0).is_behind(Sequence(i32::MAX)) && !Sequence(i32::MAX).is_behind(Sequence(0)));
    }

    #[test]
    fn topic_id_reads_as_a_uuid() {
        assert_eq!(TopicId(1).to_string(), "00000000-0000-0000-0000-000000000001");
    }
}
