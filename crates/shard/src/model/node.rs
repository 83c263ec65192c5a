//! Nodes and shards as the metadata group knows them.

use record::{NodeId, ShardId};

use crate::codec::wire_struct;

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

/// A Raft group and the nodes that vote in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardRecord {
    pub id: ShardId,
    pub voters: Vec<NodeId>,
}

wire_struct!(ShardRecord { id: ShardId, voters: Vec<NodeId> });
