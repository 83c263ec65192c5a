//! What every part of a node's cluster work needs: the ways to others, the shards, what others say of
//! themselves, and how a command reaches its shard's leader.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use base::Env;
use base::time::{Duration, Instant, now, sleep, timeout};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use record::{LogIndex, NodeId, ShardId};
use replica::{Lane, Pending, ProposeError, ProposeResult, Replica};
use shard::codec::{Wire, decode};
use shard::{Command, FIRST_FEATURE_LEVEL};
use storage::Payload;
use storage::data_dir::DataDir;
use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::clock::ClusterClock;
use crate::cluster::METADATA;
use crate::forward::Forward;
use crate::in_sync::InSync;
use crate::lagging::Lagging;
use crate::messages::Request;
use crate::peers::{Peers, Subject};
use crate::shards::Shards;
use crate::statuses::Statuses;

/// Pause before a command is proposed again that nobody could take.
const PROPOSE_PAUSE: Duration = Duration::from_millis(50);
/// How long somebody waits for a leader on a node that is about to stop.
const LEAVING_WAIT_MAX: Duration = Duration::from_secs(1);

/// The running node, as far as it concerns the cluster.
pub(crate) struct Node {
    pub(crate) env: Env,
    pub(crate) peers: Peers,
    pub(crate) shards: Shards,
    pub(crate) statuses: Arc<Statuses>,
    pub(crate) in_sync: InSync,
    pub(crate) lagging: Lagging,
    pub(crate) clock: Arc<ClusterClock>,
    pub(crate) forward: Arc<dyn Forward>,
    /// Data shards that the cluster should have for this node.
    pub(crate) wished: u32,
    /// This node's disk stays slow.
    pub(crate) slow: AtomicBool,
    /// This node's disk is full.
    pub(crate) full: AtomicBool,
    /// Streams are moved until shards have about as many.
    pub(crate) evens_out: AtomicBool,
    /// Since when this node is about to stop.
    pub(crate) leaving: OnceLock<Instant>,
    /// Where all of it lies, once that is known.
    pub(crate) data_dir: OnceLock<Arc<DataDir>>,
    /// Whether its shards take nothing any more, because the node stops or gives up its cluster. Who closes them holds
    /// it until all that they had taken has come to its end.
    pub(crate) closed: AsyncMutex<bool>,
    /// The node has closed its shards to give up its cluster, and is to be started anew, whether it did or not.
    pub(crate) anew: watch::Sender<bool>,
}

impl Node {
    pub(crate) fn new(env: Env, peers: Peers, wished: u32) -> Self {
        let forward = Arc::new(peers.clone());
        let clock = Arc::new(ClusterClock::new(Arc::clone(&env.wall_clock)));
        Self {
            env,
            peers,
            shards: Shards::default(),
            statuses: Arc::default(),
            in_sync: InSync::default(),
            lagging: Lagging::default(),
            clock,
            forward,
            wished,
            slow: AtomicBool::new(false),
            full: AtomicBool::new(false),
            evens_out: AtomicBool::new(false),
            leaving: OnceLock::new(),
            data_dir: OnceLock::new(),
            closed: AsyncMutex::new(false),
            anew: watch::Sender::new(false),
        }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.peers.me().node
    }

    /// This node's copy of the metadata, once it has one.
    pub(crate) fn metadata(&self) -> Option<Replica> {
        self.shards.replica(METADATA)
    }

    /// The level of features that the cluster uses, by this node's copy of the metadata.
    pub(crate) fn feature_level(&self) -> u32 {
        self.metadata().map_or(FIRST_FEATURE_LEVEL, |metadata| metadata.state().feature_level())
    }

    /// No node could read what the cluster does not use yet. It never ceases to use anything, so whoever looks at the
    /// level before it proposes is right.
    fn assert_known(&self, command: &Command) {
        let needed = command.feature_level();
        // While the metadata is brought here anew nothing says what is used; who asks has seen it before.
        assert!(
            needed == FIRST_FEATURE_LEVEL || needed <= self.feature_level() || self.metadata().is_none(),
            "{} is proposed to a cluster that does not use features of level {needed}",
            command.name()
        );
    }

    /// Who leads a shard, as far as this node knows.
    pub(crate) fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.shards.known(shard)?.leader()
    }

    /// Proposes a command to the shard's leader, wherever it is. The command has its place in the order
    /// when this returns, not when the result is awaited.
    pub(crate) fn propose(&self, shard: ShardId, command: Command) -> Pending {
        self.assert_known(&command);
        match self.elsewhere(shard) {
            Some(leader) => Pending::forwarded(self.forward.propose(leader, shard, command)),
            // It takes it, or says why it can't.
            None => self.shards.replica(shard).map_or_else(nobody, |replica| replica.propose(command)),
        }
    }

    /// As [`Self::propose`], past the bound of a queue here: for a step of work that was accepted already.
    fn step(&self, shard: ShardId, command: Command) -> Pending {
        self.assert_known(&command);
        match self.elsewhere(shard) {
            Some(leader) => Pending::forwarded(self.forward.propose(leader, shard, command)),
            None => self.shards.replica(shard).map_or_else(nobody, |replica| replica.propose_step(command)),
        }
    }

    /// Which other node leads the shard, if one does.
    fn elsewhere(&self, shard: ShardId) -> Option<NodeId> {
        self.leader(shard).filter(|leader| *leader != self.id())
    }

    /// Proposes a command until somebody takes it, for as long as `wait_max`: what was refused was not
    /// applied. One whose fate is unknown is not proposed again.
    pub(crate) fn propose_patiently(
        &self,
        shard: ShardId,
        command: Command,
        wait_max: Duration,
    ) -> BoxFuture<'_, ProposeResult> {
        let deadline = now() + wait_max;
        async move {
            loop {
                let result = self.step(shard, command.clone()).await;
                match result {
                    Err(ProposeError::NotLeader { .. } | ProposeError::Busy) if self.may_wait(deadline) => {
                        sleep(PROPOSE_PAUSE).await;
                    }
                    result => return result,
                }
            }
        }
        .boxed()
    }

    /// Whether somebody who may wait until `deadline` may wait on: nobody does so for long on a node that stops.
    fn may_wait(&self, deadline: Instant) -> bool {
        now() < deadline && self.leaving.get().is_none_or(|since| since.elapsed() < LEAVING_WAIT_MAX)
    }

    /// Others are to lead what this node could: it is about to stop, its disk is slow or full, or it is behind with the
    /// metadata.
    pub(crate) fn lets_others_lead(&self) -> bool {
        self.is_leaving() || self.is_hampered()
    }

    /// As [`Self::lets_others_lead`], of any node, as far as was heard.
    pub(crate) fn does_let_others_lead(&self, node: NodeId) -> bool {
        if node == self.id() {
            return self.lets_others_lead();
        }
        self.statuses.of(node).is_some_and(|status| status.leaving) || self.lagging.has(node)
    }

    /// As [`Self::lets_others_lead`], of one that stays.
    pub(crate) fn is_hampered(&self) -> bool {
        self.slow.load(Ordering::Acquire) || self.full.load(Ordering::Acquire) || self.lagging.has(self.id())
    }

    /// Whether the disk of a node is full, as far as was heard.
    pub(crate) fn is_full(&self, node: NodeId) -> bool {
        if node == self.id() {
            return self.full.load(Ordering::Acquire);
        }
        self.statuses.of(node).is_some_and(|status| status.full)
    }

    /// Whether clients may be sent to a node: it was heard of just now, or is this one, and leads something or is not behind
    /// with the metadata. While this node is cut off, as it was before.
    pub(crate) fn is_in_routing(&self, node: NodeId) -> bool {
        (node == self.id() || self.statuses.is_shown(node)) && !self.lagging.hides(node)
    }

    /// Whether this node hears of who leads the metadata, or leads them and hears of a majority: else it is cut off, or most
    /// of the others are gone, which it cannot tell apart.
    pub(crate) fn is_in_touch(&self) -> bool {
        let is_here = |node: NodeId| node == self.id() || self.statuses.is_live(node);
        match (self.leader(METADATA), self.metadata()) {
            (Some(leader), Some(metadata)) if leader == self.id() => {
                let here = |voters: &BTreeSet<NodeId>| voters.iter().filter(|voter| is_here(**voter)).count();
                metadata.members().voters.iter().all(|voters| 2 * here(voters) > voters.len())
            }
            (Some(leader), _) => is_here(leader),
            (None, _) => false,
        }
    }

    /// This node is about to stop.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.get().is_some()
    }

    /// Asks another node something that has a short answer.
    pub(crate) async fn ask(
        &self,
        node: NodeId,
        shard: ShardId,
        request: &Request,
        wait_max: Duration,
    ) -> io::Result<Bytes> {
        self.call((node, Lane::Control), (Subject::Node, shard), request.encode(), wait_max).await
    }

    /// As [`Self::ask`], of something whose answer may be long: it does not hold up signs of life.
    pub(crate) async fn ask_in_bulk<T: Wire>(
        &self,
        node: NodeId,
        shard: ShardId,
        request: &Request,
        wait_max: Duration,
    ) -> io::Result<T> {
        read(&self.call((node, Lane::Bulk), (Subject::Node, shard), request.encode(), wait_max).await?)
    }

    async fn ask_for<T: Wire>(
        &self,
        node: NodeId,
        shard: ShardId,
        request: &Request,
        wait_max: Duration,
    ) -> io::Result<T> {
        read(&self.ask(node, shard, request, wait_max).await?)
    }

    /// One call to another node, over one of the connections to it.
    pub(crate) async fn call(
        &self,
        (node, lane): (NodeId, Lane),
        (subject, shard): (Subject, ShardId),
        request: Bytes,
        wait_max: Duration,
    ) -> io::Result<Bytes> {
        let answer = async {
            let link = self.peers.link(node, lane).await?;
            link.call(subject, shard, Payload::from(request))?.await
        };
        timeout(wait_max, answer).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Up to which entry the shard is applied on its leader, as of now. None when nobody is known to lead
    /// before `deadline`.
    pub(crate) async fn barrier(&self, shard: ShardId, deadline: Instant) -> Option<LogIndex> {
        loop {
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() {
                return None;
            }
            match self.leader(shard) {
                Some(leader) if leader == self.id() => {
                    if let Some(replica) = self.shards.replica(shard)
                        && matches!(timeout(left, replica.read_barrier()).await, Ok(Ok(())))
                    {
                        return Some(replica.applied());
                    }
                }
                Some(leader) => {
                    if let Ok(index) = self.ask_for(leader, shard, &Request::Barrier, left).await {
                        return Some(index);
                    }
                }
                None => {}
            }
            sleep(PROPOSE_PAUSE.min(left)).await;
        }
    }

    /// Returns when this node's copy of the metadata has what was committed before the call, or after that time; whether it has.
    pub(crate) async fn follow_metadata(&self, wait_max: Duration) -> bool {
        let deadline = now() + wait_max;
        match self.barrier(METADATA, deadline).await {
            Some(index) => self.applied(METADATA, index, deadline).await,
            None => false,
        }
    }

    /// Returns when this node's replica has applied that entry; `false` when it has none or `deadline`
    /// comes first.
    pub(crate) async fn applied(&self, shard: ShardId, index: LogIndex, deadline: Instant) -> bool {
        let Some(replica) = self.shards.replica(shard) else { return false };
        let mut pause = Duration::from_micros(100);
        while replica.applied() < index {
            if now() >= deadline || replica.failure().borrow().is_some() {
                return false;
            }
            sleep(pause).await;
            pause = (2 * pause).min(Duration::from_millis(10));
        }
        true
    }
}

fn read<T: Wire>(answer: &[u8]) -> io::Result<T> {
    decode(answer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Nobody is known to lead.
fn nobody() -> Pending {
    Pending::refused(ProposeError::NotLeader { leader: None })
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("peers", &self.peers).field("shards", &self.shards).finish_non_exhaustive()
    }
}
