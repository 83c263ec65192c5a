//! Nodes and shards as the metadata group knows them.

use record::{NodeId, ShardId, StreamId};

use crate::codec::{DecodeError, Reader, Wire, wire_struct};

/// A node and where clients reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    pub id: NodeId,
    /// Rises with every start of the process, so that a late message of a former life is known.
    pub start_number: u64,
    pub rack: Option<String>,
    /// One per listener, ordered by its name.
    pub addresses: Vec<NodeAddress>,
}

wire_struct!(NodeRecord { id: NodeId, start_number: u64, rack: Option<String>, addresses: Vec<NodeAddress> });

/// What a client that came in by the listener of that name is told to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    pub listener: String,
    pub host: String,
    pub port: u16,
}

wire_struct!(NodeAddress { listener: String, host: String, port: u16 });

/// How a node stands in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    /// It takes part.
    Member = 0,
    /// It is to be emptied: nothing new comes to it.
    Draining = 1,
    /// It is gone for good.
    Removed = 2,
}

impl Wire for Standing {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(Self::Member),
            1 => Ok(Self::Draining),
            2 => Ok(Self::Removed),
            value => Err(DecodeError::Value { what: "a node's standing", value: value.into() }),
        }
    }
}

/// Which node got an id, and how it stands since. The node that founded the cluster has none before its standing
/// changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeStanding {
    pub id: NodeId,
    /// What the node chose before it asked; 0 for the one that founded the cluster.
    pub birth: u128,
    pub standing: Standing,
}

wire_struct!(NodeStanding { id: NodeId, birth: u128, standing: Standing });

/// A Raft group and the nodes that vote in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRecord {
    pub id: ShardId,
    pub voters: Vec<NodeId>,
}

wire_struct!(ShardRecord { id: ShardId, voters: Vec<NodeId> });

/// A shard whose group is to be founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShardFounding {
    pub(crate) id: ShardId,
    pub(crate) founder: NodeId,
}

wire_struct!(ShardFounding { id: ShardId, founder: NodeId });

/// What of its replicated state a cluster may use; absent before it was raised for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClusterFeatures {
    pub(crate) level: u32,
}

wire_struct!(ClusterFeatures { level: u32 });

/// How many copies of a data shard decide; absent while nobody has said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WantedCopies {
    pub(crate) copies: u8,
}

wire_struct!(WantedCopies { copies: u8 });

/// Streams with smaller ids may have belonged to topics that a lost part of the log knew; absent while none was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DoubtfulStreams {
    pub(crate) before: StreamId,
}

wire_struct!(DoubtfulStreams { before: StreamId });
