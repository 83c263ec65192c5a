//! What this node answers other nodes: for the groups that it is a member of, and for the shards
//! that it leads.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use record::{NodeId, ShardId};
use replica::Replica;
use storage::Payload;

use crate::cluster::Inner;
use crate::peers::{Gate, Me, Peers, Service, Subject};
use crate::proposal;

const FOR_MEMBERS: &str = "only nodes of this cluster may ask that";

fn refused<T: Send + 'static>(text: &'static str) -> BoxFuture<'static, Result<T, String>> {
    std::future::ready(Err(text.to_owned())).boxed()
}

/// Answers other nodes as soon as there is something to answer with.
pub(crate) struct Serving {
    peers: Peers,
    node: OnceLock<Weak<Inner>>,
}

impl Serving {
    pub(crate) fn new(peers: Peers) -> Self {
        Self { peers, node: OnceLock::new() }
    }

    /// The node's part of the cluster has started.
    pub(crate) fn started(&self, inner: &Arc<Inner>) {
        let first = self.node.set(Arc::downgrade(inner)).is_ok();
        assert!(first, "a node starts once");
    }

    fn node(&self) -> Option<Arc<Inner>> {
        self.node.get().and_then(Weak::upgrade)
    }

    fn replica(&self, shard: ShardId) -> Result<Replica, String> {
        let node = self.node().ok_or("the node is starting")?;
        node.replica(shard).ok_or_else(|| format!("the node has no replica of shard {}", shard.0))
    }

    fn propose(&self, shard: ShardId, body: Bytes) -> BoxFuture<'static, Result<Payload, String>> {
        let proposed = proposal::decode(&body)
            .map_err(|error| error.to_string())
            .and_then(|command| self.replica(shard).map(|replica| replica.propose(command)));
        // It has its place in the order; what becomes of it may take its time.
        async move { Ok(Payload::from(proposal::encode_answer(&proposed?.await))) }.boxed()
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("peers", &self.peers).finish_non_exhaustive()
    }
}

impl Gate for Serving {
    fn me(&self) -> Me {
        self.peers.me()
    }

    fn knows(&self, node: NodeId) -> bool {
        let Some(inner) = self.node() else { return true };
        let state = inner.metadata.state();
        // A node that has not caught up yet cannot know.
        state.cluster_id().is_none() || state.node(node).is_some()
    }
}

impl Service for Serving {
    fn call(
        &self,
        from: Option<NodeId>,
        subject: Subject,
        shard: ShardId,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Payload, String>> {
        match (subject, from) {
            (Subject::Group | Subject::Proposal, None) => refused(FOR_MEMBERS),
            (Subject::Group, Some(from)) => {
                let replica = self.replica(shard);
                async move {
                    let answer = replica?.answer(from, body).await;
                    answer.map(Payload::from).map_err(|error| error.to_string())
                }
                .boxed()
            }
            (Subject::Proposal, Some(_)) => self.propose(shard, body),
            (Subject::Connection | Subject::Node, _) => refused("nobody answers this here"),
        }
    }

    fn stream(
        &self,
        from: Option<NodeId>,
        subject: Subject,
        shard: ShardId,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, String>>, String>> {
        let Some(from) = from else { return refused(FOR_MEMBERS) };
        if subject != Subject::Group {
            return refused("nobody answers a stream of these");
        }
        let replica = self.replica(shard);
        async move {
            let answers = replica?.answer_appends(from, requests).await;
            Ok(answers.map(|answer| answer.map_err(|error| error.to_string())).boxed())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
