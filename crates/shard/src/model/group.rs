//! A consumer group's durable state: what a member was told survives the node that told it. Session timers do not
//! stand here; they start anew on another leader.

use bytes::Bytes;
use record::{LeaderEpoch, Partition, StreamOffset, TimestampMs, TopicId};

use crate::codec::{DecodeError, Reader, Wire, wire_struct};

/// The version of a group's record: rises with every change of it, by one or by more, and never comes again, not even
/// when the group was deleted in between; 0 where there is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupVersion(pub u64);

impl Wire for GroupVersion {
    const BYTES_MIN: usize = 8;
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::take(input).map(Self)
    }
}

/// Where a classic group stands. A dead group has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum GroupState {
    #[default]
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl Wire for GroupState {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Empty => 0,
            Self::PreparingRebalance => 1,
            Self::CompletingRebalance => 2,
            Self::Stable => 3,
        });
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(Self::Empty),
            1 => Ok(Self::PreparingRebalance),
            2 => Ok(Self::CompletingRebalance),
            3 => Ok(Self::Stable),
            value => Err(DecodeError::Value { what: "a group state", value: u64::from(value) }),
        }
    }
}

/// A classic group with its members, protocol and assignment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GroupRecord {
    pub group_id: String,
    /// `consumer`, `connect`, ...: opaque.
    pub protocol_type: String,
    /// The protocol that the members agreed on.
    pub protocol: Option<String>,
    pub generation: i32,
    pub state: GroupState,
    /// Member id of the leader.
    pub leader: Option<String>,
    /// In the order in which they joined.
    pub members: Vec<Member>,
}

wire_struct!(GroupRecord {
    group_id: String,
    protocol_type: String,
    protocol: Option<String>,
    generation: i32,
    state: GroupState,
    leader: Option<String>,
    members: Vec<Member>,
});

impl GroupRecord {
    /// The member of that id.
    #[must_use]
    pub fn member(&self, member_id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == member_id)
    }
}

/// One member of a classic group.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Member {
    pub id: String,
    /// Set for a static member.
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    /// Name and metadata of each protocol that the member can use, the preferred first.
    pub protocols: Vec<(String, Bytes)>,
    pub assignment: Bytes,
}

wire_struct!(Member {
    id: String,
    instance_id: Option<String>,
    client_id: String,
    client_host: String,
    session_timeout_ms: i32,
    rebalance_timeout_ms: i32,
    protocols: Vec<(String, Bytes)>,
    assignment: Bytes,
});

/// Which partition an offset is committed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetKey {
    pub topic: TopicId,
    pub partition: Partition,
}

wire_struct!(OffsetKey { topic: TopicId, partition: Partition });

/// A position that a group committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub topic: TopicId,
    pub partition: Partition,
    pub offset: StreamOffset,
    /// The epoch of the last consumed record, or [`LeaderEpoch::NONE`].
    pub leader_epoch: LeaderEpoch,
    /// The client's own text, given back as it came.
    pub metadata: String,
    pub commit_time: TimestampMs,
}

wire_struct!(CommittedOffset {
    topic: TopicId,
    partition: Partition,
    offset: StreamOffset,
    leader_epoch: LeaderEpoch,
    metadata: String,
    commit_time: TimestampMs,
});

impl CommittedOffset {
    #[must_use]
    pub const fn key(&self) -> OffsetKey {
        OffsetKey { topic: self.topic, partition: self.partition }
    }
}
