//! The way to another node: commands for a shard that it leads.

use std::fmt;

use futures_util::future::BoxFuture;
use record::{NodeId, ShardId};
use replica::ProposeResult;
use shard::Command;

/// Reaches other nodes.
pub(crate) trait Forward: Send + Sync + fmt::Debug + 'static {
    /// Proposes a command without a body. While there is a connection to the node, proposals for
    /// one shard arrive in the order of these calls. MUST answer `Unknown` when the command was sent
    /// and no answer came.
    fn propose(&self, node: NodeId, shard: ShardId, command: Command) -> BoxFuture<'static, ProposeResult>;
}
