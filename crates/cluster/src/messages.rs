//! What nodes ask each other besides what belongs to one group, and what operators ask of them.
//!
//! ```text
//! request: kind u8 | fields      answer: fields
//! ```
//! Fields are written as those of commands are: little-endian, counts and lengths in front as u32.

use bytes::Bytes;
use record::{LogIndex, NodeId, ShardId, StreamId, Term};
use shard::codec::{DecodeError, Reader, Wire, decode};
use shard::{MoveCursor, MovedGroup, NodeAddress, SlotMoveId, wire_struct};

/// A node wants to become one of the cluster's. A guest may ask that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) birth: u128,
    pub(crate) rack: Option<String>,
    pub(crate) addresses: Vec<NodeAddress>,
}

wire_struct!(Join { birth: u128, rack: Option<String>, addresses: Vec<NodeAddress> });

/// The node is one of the cluster's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) node: NodeId,
    pub(crate) cluster: u128,
    /// Where the other nodes are.
    pub(crate) members: Vec<Place>,
}

wire_struct!(Joined { node: NodeId, cluster: u128, members: Vec<Place> });

/// Where a node is reached by others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) host: String,
    pub(crate) port: u16,
}

wire_struct!(Place { node: NodeId, host: String, port: u16 });

/// What a node does, told to all others now and then and whenever it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// What its wall clock says, in milliseconds since 1970.
    pub(crate) wall_clock_ms: i64,
    /// It is about to stop, its disk is slow or full, or it is behind with the metadata: nothing is given to it to lead.
    pub(crate) leaving: bool,
    /// Its disk is full.
    pub(crate) full: bool,
    /// Data shards that the cluster should have for it.
    pub(crate) shards: u32,
    pub(crate) replicas: Vec<ReplicaStatus>,
}

wire_struct!(Status { wall_clock_ms: i64, leaving: bool, full: bool, shards: u32, replicas: Vec<ReplicaStatus> });

/// One replica of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicaStatus {
    pub(crate) shard: ShardId,
    pub(crate) phase: Phase,
    /// Of what it knows of the shard's leader.
    pub(crate) term: Term,
    pub(crate) last: LogIndex,
    pub(crate) applied: LogIndex,
    /// Up to where its log was let go.
    pub(crate) purged: LogIndex,
    pub(crate) streams: u64,
    /// How often its leader has changed, as far as it is applied: of the leader, with this its streams' epochs rise.
    pub(crate) leader_changes: u32,
    /// Of one that is being brought there, bytes that came and bytes that are to come in all.
    pub(crate) pulled: Option<(u64, u64)>,
    /// Of the leader only, those who belong to the group: votes first, then others.
    pub(crate) leads: Option<Led>,
}

wire_struct!(ReplicaStatus {
    shard: ShardId,
    phase: Phase,
    term: Term,
    last: LogIndex,
    applied: LogIndex,
    purged: LogIndex,
    streams: u64,
    leader_changes: u32,
    pulled: Option<(u64, u64)>,
    leads: Option<Led>,
});

/// The group as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Led {
    pub(crate) voters: Vec<NodeId>,
    pub(crate) learners: Vec<NodeId>,
    /// Whether the voters are being changed.
    pub(crate) changing: bool,
}

wire_struct!(Led { voters: Vec<NodeId>, learners: Vec<NodeId>, changing: bool });

/// How far a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It pulls what it lacks.
    Installing = 0,
    Running = 1,
    /// It is out of service.
    Failed = 2,
}

impl Wire for Phase {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(Self::Installing),
            1 => Ok(Self::Running),
            2 => Ok(Self::Failed),
            value => Err(DecodeError::Value { what: "a replica's phase", value: value.into() }),
        }
    }
}

/// What stands behind `after` in slots that are closed on a shard, by that move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupsOfSlots {
    pub(crate) id: SlotMoveId,
    pub(crate) slots: Vec<u16>,
    pub(crate) after: Option<MoveCursor>,
}

wire_struct!(GroupsOfSlots { id: SlotMoveId, slots: Vec<u16>, after: Option<MoveCursor> });

/// A piece of the groups of slots that move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupsPiece {
    pub(crate) groups: Vec<MovedGroup>,
    /// Nothing is behind it.
    pub(crate) last: bool,
}

wire_struct!(GroupsPiece { groups: Vec<MovedGroup>, last: bool });

/// What is asked of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Join(Join),
    Status(Status),
    /// Up to where the shard was applied on its leader, as of now: answered with a [`LogIndex`] when the
    /// node is known to lead.
    Barrier,
    /// Answered with nothing when the node's replica of the shard has applied that entry.
    Await(LogIndex),
    /// The leader of the shard is to let that node lead; answered with nothing when that was begun.
    HandOver(NodeId),
    /// An operator's wish, as text; answered with text.
    Operate(Vec<String>),
    /// Answered with a [`GroupsPiece`] by a node whose replica of the shard has closed the slots.
    GroupsOfSlots(GroupsOfSlots),
    /// The leader of the shard is to remove offsets of these slots whose topics its copy of the metadata, as of that
    /// entry, does not have any more; answered with nothing when that is done.
    ForgetTopics {
        slots: Vec<u16>,
        index: LogIndex,
    },
    /// What is added to the shard's count of leader changes to have the epochs of these streams: answered with one for each,
    /// none for those that do not grow there, by a node that has a replica of the shard.
    EpochShifts(Vec<StreamId>),
}

impl Request {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Join(join) => {
                out.push(1);
                join.put(&mut out);
            }
            Self::Status(status) => {
                out.push(2);
                status.put(&mut out);
            }
            Self::Barrier => out.push(3),
            Self::Await(index) => {
                out.push(4);
                index.put(&mut out);
            }
            Self::HandOver(node) => {
                out.push(6);
                node.put(&mut out);
            }
            Self::Operate(words) => {
                out.push(5);
                words.put(&mut out);
            }
            Self::GroupsOfSlots(wanted) => {
                out.push(10);
                wanted.put(&mut out);
            }
            Self::ForgetTopics { slots, index } => {
                out.push(11);
                slots.put(&mut out);
                index.put(&mut out);
            }
            Self::EpochShifts(streams) => {
                out.push(12);
                streams.put(&mut out);
            }
        }
        out.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, fields) = bytes.split_first().ok_or(DecodeError::Short)?;
        match kind {
            1 => decode(fields).map(Self::Join),
            2 => decode(fields).map(Self::Status),
            3 => Reader::new(fields).finish().map(|()| Self::Barrier),
            4 => decode(fields).map(Self::Await),
            5 => decode(fields).map(Self::Operate),
            6 => decode(fields).map(Self::HandOver),
            10 => decode(fields).map(Self::GroupsOfSlots),
            11 => decode(fields).map(|(slots, index)| Self::ForgetTopics { slots, index }),
            12 => decode(fields).map(Self::EpochShifts),
            kind => Err(DecodeError::Value { what: "a request to a node", value: u64::from(*kind) }),
        }
    }
}

/// An answer's bytes.
pub(crate) fn encode<T: Wire>(answer: &T) -> Bytes {
    let mut out = Vec::new();
    answer.put(&mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Request> {
        let addresses =
            vec![NodeAddress { listener: "internal".to_owned(), host: "broker-1.example".to_owned(), port: 9190 }];
        let led = Led { voters: vec![NodeId(1), NodeId(2)], learners: vec![NodeId(3)], changing: true };
        let replica = |leads| ReplicaStatus {
            shard: ShardId(4),
            phase: Phase::Running,
            term: Term(5),
            last: LogIndex(6),
            applied: LogIndex(7),
            purged: LogIndex(8),
            streams: 9,
            leader_changes: 3,
            pulled: Some((1, 2)),
            leads,
        };
        vec![
            Request::Join(Join { birth: 7, rack: Some("a".to_owned()), addresses }),
            Request::Status(Status {
                wall_clock_ms: -1,
                leaving: true,
                full: true,
                shards: 2,
                replicas: vec![replica(None), replica(Some(led))],
            }),
            Request::Barrier,
            Request::Await(LogIndex(3)),
            Request::HandOver(NodeId(2)),
            Request::EpochShifts(vec![StreamId(1), StreamId(9)]),
            Request::Operate(vec!["drain".to_owned(), "2".to_owned()]),
            Request::GroupsOfSlots(GroupsOfSlots {
                id: SlotMoveId(7),
                slots: vec![1, 1023],
                after: Some(MoveCursor { group_id: "g".to_owned(), offset: None }),
            }),
            Request::ForgetTopics { slots: vec![3], index: LogIndex(4) },
        ]
    }

    #[test]
    fn requests_are_read_as_they_were_written_and_nothing_shorter_or_longer() {
        for request in requests() {
            let mut bytes = request.encode().to_vec();
            assert_eq!(Request::decode(&bytes).as_ref(), Ok(&request));
            for length in 0..bytes.len() {
                assert!(Request::decode(&bytes[..length]).is_err(), "{request:?} in {length} bytes");
            }
            bytes.push(0);
            assert!(Request::decode(&bytes).is_err());
        }
        assert!(Request::decode(&[99]).is_err());
    }

    #[test]
    fn a_joined_node_learns_where_the_others_are() {
        let members = vec![Place { node: NodeId(1), host: "::1".to_owned(), port: 9190 }];
        let joined = Joined { node: NodeId(2), cluster: 3, members };
        assert_eq!(decode::<Joined>(&encode(&joined)), Ok(joined));
    }
}
