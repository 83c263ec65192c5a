//! What this node answers other nodes: for the groups that it is a member of, for the shards that it
//! leads, and as a node of the cluster.

use std::fmt;
use std::sync::Arc;

use base::task::offload;
use base::time::{Duration, now};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use record::{NodeId, ShardId};
use replica::{Pending, ProposeError, Replica};
use shard::commands::AdmitNode;
use shard::{Outcome, Standing};
use storage::Payload;
use tokio::sync::Semaphore;

use crate::cluster::{INTERNAL_LISTENER, METADATA};
use crate::members::hand_over;
use crate::messages::{GroupsOfSlots, GroupsPiece, Join, Joined, Place, Request, encode};
use crate::node::Node;
use crate::peers::{Acquaintance, Caller, Gate, Lives, Me, Service, Subject, too_old};
use crate::reads::{self, ByTime, ReadRequest, encode_timed};
use crate::slots::{PIECE_BYTES_MAX, committed_of_gone};
use crate::{operate, proposal, succession};

const FOR_MEMBERS: &str = "only nodes of this cluster may ask that";
const FOR_NO_REMOVED_NODE: &str = "the cluster has removed the node that asks";
/// How long somebody who waits for an entry is kept waiting, and a node that wants to join.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Reads for other nodes at the same time; each has some megabytes.
const READS_MAX: usize = 8;

fn refused<T: Send + 'static>(text: &'static str) -> BoxFuture<'static, Result<T, String>> {
    std::future::ready(Err(text.to_owned())).boxed()
}

/// Answers other nodes as soon as there is something to answer with.
pub(crate) struct Serving {
    node: Arc<Node>,
    /// Reads of streams that have ended here, for other nodes.
    reads: Arc<Semaphore>,
}

impl Serving {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, reads: Arc::new(Semaphore::new(READS_MAX)) }
    }

    fn replica(&self, shard: ShardId) -> Result<Replica, String> {
        self.node.shards.replica(shard).ok_or_else(|| format!("the node has no replica of shard {}", shard.0))
    }

    /// Whether that node was let in before it was known here to be removed: it is told so when it connects anew.
    fn is_removed(&self, from: Caller) -> bool {
        from.node.is_some_and(|from| self.knows(from) == Acquaintance::Removed)
    }

    fn propose(&self, shard: ShardId, body: Bytes) -> BoxFuture<'static, Result<Payload, String>> {
        let proposed = proposal::decode(&body).map(|command| match self.replica(shard) {
            Ok(replica) => replica.propose(command),
            // It was let go of, or is being brought here anew: nothing was proposed, and the caller may go elsewhere.
            Err(_) => Pending::refused(ProposeError::NotLeader { leader: None }),
        });
        // It has its place in the order; what becomes of it may take its time.
        async move {
            let proposed = proposed.map_err(|error| error.to_string())?;
            Ok(Payload::from(proposal::encode_answer(&proposed.await)))
        }
        .boxed()
    }

    /// Gives out what a stream had here. A look-up may unpack batches, so it holds up nobody else.
    fn read_ended(&self, shard: ShardId, body: Bytes) -> BoxFuture<'static, Result<Payload, String>> {
        let replica = self.replica(shard);
        let request = ReadRequest::decode(&body);
        let reads = Arc::clone(&self.reads);
        async move {
            let (replica, request) = (replica?, request.map_err(|error| error.to_string())?);
            let turn = reads.acquire_owned().await.map_err(|error| error.to_string())?;
            let ended = |stream| {
                let state = replica.state();
                // Of one that still grows here this copy may lack the end.
                match state.stream(stream).is_some_and(|view| view.is_closed()) {
                    true => Ok(()),
                    false => Err(format!("stream {stream} has not ended on shard {shard}")),
                }
            };
            match request {
                ReadRequest::Batches(asked) => reads::batches(&replica, asked).await,
                ReadRequest::ByTime(ByTime { stream, time }) => {
                    ended(stream)?;
                    // The turn goes with the work, which does not end when nobody waits for it.
                    let found = offload(async move { (replica.offset_for_time(stream, time).await, turn) }).await.0;
                    found.map(encode_timed).map(Payload::from).map_err(|error| error.to_string())
                }
                ReadRequest::MaxTime(stream) => {
                    ended(stream)?;
                    let found = offload(async move { (replica.max_timestamp(stream).await, turn) }).await.0;
                    found.map(encode_timed).map(Payload::from).map_err(|error| error.to_string())
                }
            }
        }
        .boxed()
    }

    fn node_call(&self, from: Caller, shard: ShardId, body: &Bytes) -> BoxFuture<'static, Result<Payload, String>> {
        let request = match Request::decode(body) {
            Ok(request) => request,
            Err(error) => return std::future::ready(Err(error.to_string())).boxed(),
        };
        let node = Arc::clone(&self.node);
        match (request, from.node) {
            (Request::Join(_), None) if from.features < node.feature_level() => {
                std::future::ready(Err(too_old(node.feature_level(), from.features))).boxed()
            }
            (Request::Join(join), None) => async move { join_cluster(&node, join).await }.boxed(),
            (Request::Operate(words), None) => {
                async move { operate::run(&node, &words).await.map(|text| Payload::from(Bytes::from(text))) }.boxed()
            }
            (Request::Join(_) | Request::Operate(_), Some(_)) => refused("only guests ask that"),
            (
                Request::Status(_)
                | Request::Barrier
                | Request::Await(_)
                | Request::HandOver(_)
                | Request::GroupsOfSlots(_)
                | Request::ForgetTopics { .. }
                | Request::EpochShifts(_),
                None,
            ) => refused(FOR_MEMBERS),
            (Request::Status(status), Some(from)) => {
                let ours = node.status();
                node.statuses.hear(&node, from, status);
                std::future::ready(Ok(Payload::from(encode(&ours)))).boxed()
            }
            (Request::Barrier, Some(_)) => {
                let replica = self.replica(shard);
                async move {
                    let replica = replica?;
                    replica.read_barrier().await.map_err(|error| error.to_string())?;
                    Ok(Payload::from(encode(&replica.applied())))
                }
                .boxed()
            }
            (Request::HandOver(to), Some(_)) => {
                let replica = self.replica(shard);
                async move {
                    hand_over(&node, &replica?, to).await.map_err(|error| error.to_string())?;
                    Ok(Payload::default())
                }
                .boxed()
            }
            (Request::GroupsOfSlots(GroupsOfSlots { id, slots, after }), Some(_)) => {
                let piece = self.replica(shard).and_then(|replica| {
                    let piece = replica.state().moving_piece(id, &slots, after.as_ref(), PIECE_BYTES_MAX);
                    piece.ok_or_else(|| "the slots are not closed here".to_owned())
                });
                let answer = piece.map(|piece| encode(&GroupsPiece { groups: piece.groups, last: piece.last }));
                std::future::ready(answer.map(Payload::from)).boxed()
            }
            (Request::ForgetTopics { slots, index }, Some(_)) => async move {
                if !node.applied(METADATA, index, now() + WAIT_MAX).await {
                    return Err("the metadata does not come so far".to_owned());
                }
                committed_of_gone(&node, shard, &slots).await?;
                Ok(Payload::default())
            }
            .boxed(),
            (Request::EpochShifts(streams), Some(_)) => {
                let shifts = self.replica(shard).map(|replica| {
                    let state = replica.state();
                    let shift = |stream| state.stream(stream).and_then(|view| view.epoch_shift());
                    Payload::from(encode(&streams.into_iter().map(shift).collect::<Vec<Option<i64>>>()))
                });
                std::future::ready(shifts).boxed()
            }
            (Request::Await(index), Some(_)) => async move {
                match node.applied(shard, index, now() + WAIT_MAX).await {
                    true => Ok(Payload::default()),
                    false => Err("the replica does not come so far".to_owned()),
                }
            }
            .boxed(),
        }
    }
}

/// Takes a node in. Asked again, it gets the same id.
async fn join_cluster(node: &Node, join: Join) -> Result<Payload, String> {
    if node.peers.are_some_lost() {
        return Err("the node was recovered, and has to remove the lost nodes from the cluster first".to_owned());
    }
    let Join { birth, rack, addresses } = join;
    if birth == 0 || !addresses.iter().any(|address| address.listener == INTERNAL_LISTENER) {
        return Err("a node needs a birth and an address for other nodes".to_owned());
    }
    let admit = AdmitNode { birth, rack, addresses };
    let admitted = node.propose_patiently(METADATA, admit.into(), WAIT_MAX).await;
    let id = match admitted.map_err(|error| error.to_string())? {
        Outcome::AdmitNode(Ok(id)) => id,
        Outcome::AdmitNode(Err(error)) => return Err(error.to_string()),
        other => return Err(format!("{other:?}")),
    };
    let members = {
        let metadata = node.metadata().ok_or("the node is starting")?;
        let state = metadata.state();
        let others = state.nodes().into_iter().filter(|record| record.id != id);
        let place = |record: &shard::NodeRecord| {
            let address = record.addresses.iter().find(|address| address.listener == INTERNAL_LISTENER)?;
            Some(Place { node: record.id, host: address.host.clone(), port: address.port })
        };
        others.filter_map(place).collect()
    };
    tracing::info!(node = id.0, "a node joins the cluster");
    Ok(Payload::from(encode(&Joined { node: id, cluster: node.peers.me().cluster, members })))
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Gate for Serving {
    fn me(&self) -> Me {
        self.node.peers.me()
    }

    fn knows(&self, node: NodeId) -> Acquaintance {
        if self.node.peers.is_lost(node) {
            return Acquaintance::Removed;
        }
        let Some(metadata) = self.node.metadata() else { return Acquaintance::Member };
        let state = metadata.state();
        match state.standing(node) {
            Some(Standing::Removed) => Acquaintance::Removed,
            Some(Standing::Member | Standing::Draining) => Acquaintance::Member,
            // A node that has not caught up yet cannot know.
            None if state.node(self.node.id()).is_none() => Acquaintance::Member,
            None => Acquaintance::Unknown,
        }
    }

    fn feature_level(&self) -> u32 {
        self.node.feature_level()
    }

    fn lives(&self) -> Lives {
        self.node.peers.lives()
    }

    fn let_in(&self, node: NodeId, features: u32) {
        self.node.peers.let_in(node, features);
    }

    fn hung_up(&self, node: NodeId) -> BoxFuture<'static, ()> {
        succession::after(Arc::clone(&self.node), node).boxed()
    }
}

impl Service for Serving {
    fn call(
        &self,
        from: Caller,
        subject: Subject,
        shard: ShardId,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Payload, String>> {
        if self.is_removed(from) {
            return refused(FOR_NO_REMOVED_NODE);
        }
        match (subject, from.node) {
            (Subject::Group | Subject::Proposal | Subject::Pull | Subject::Ended, None) => refused(FOR_MEMBERS),
            (Subject::Group, Some(from)) => {
                let replica = self.replica(shard);
                async move {
                    let answer = replica?.answer(from, body).await;
                    answer.map(Payload::from).map_err(|error| error.to_string())
                }
                .boxed()
            }
            (Subject::Pull, Some(_)) => {
                let replica = self.replica(shard);
                async move { replica?.answer_pull(body).await.map_err(|error| error.to_string()) }.boxed()
            }
            (Subject::Ended, Some(_)) => self.read_ended(shard, body),
            (Subject::Proposal, Some(_)) => self.propose(shard, body),
            (Subject::Node, _) => self.node_call(from, shard, &body),
            (Subject::Connection, _) => refused("nobody answers this here"),
        }
    }

    fn stream(
        &self,
        from: Caller,
        subject: Subject,
        shard: ShardId,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, String>>, String>> {
        if self.is_removed(from) {
            return refused(FOR_NO_REMOVED_NODE);
        }
        let Some(from) = from.node else { return refused(FOR_MEMBERS) };
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
