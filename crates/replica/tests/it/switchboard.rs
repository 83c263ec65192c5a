//! The ways between the members of one shard in one process, each of which can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use base::time::{Duration, timeout};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use record::{NodeId, ShardId};
use replica::{AnswerStream, Donor, Lane, Peer, Replica, Transport};
use storage::Payload;
use tokio::sync::watch;

#[derive(Default)]
struct Inner {
    members: Mutex<BTreeMap<NodeId, Replica>>,
    /// From whom to whom nothing goes.
    cuts: watch::Sender<BTreeSet<(NodeId, NodeId)>>,
}

/// Connects members. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Switchboard(Arc<Inner>);

impl Switchboard {
    pub(crate) fn plug(&self, node: NodeId, replica: Replica) {
        self.0.members.lock().insert(node, replica);
    }

    pub(crate) fn unplug(&self, node: NodeId) {
        self.0.members.lock().remove(&node);
    }

    /// Cuts a member off from all others, in both directions.
    pub(crate) fn isolate(&self, node: NodeId, others: &[NodeId]) {
        self.0.cuts.send_modify(|cuts| {
            for other in others.iter().filter(|other| **other != node) {
                cuts.extend([(node, *other), (*other, node)]);
            }
        });
    }

    pub(crate) fn heal(&self) {
        self.0.cuts.send_modify(BTreeSet::clear);
    }

    pub(crate) fn of(&self, node: NodeId) -> Arc<dyn Transport> {
        Arc::new(Socket { from: node, board: self.clone() })
    }
}

#[derive(Clone)]
struct Socket {
    from: NodeId,
    board: Switchboard,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.from.0)
    }
}

impl Transport for Socket {
    fn peer(&self, _shard: ShardId, target: NodeId, _lane: Lane) -> Box<dyn Peer> {
        Box::new(Line { socket: self.clone(), target })
    }

    fn donor(&self, _shard: ShardId, target: NodeId) -> Box<dyn Donor> {
        Box::new(Line { socket: self.clone(), target })
    }
}

impl Donor for Line {
    fn ask(&self, request: Bytes) -> BoxFuture<'_, io::Result<Bytes>> {
        async move {
            let answer = self.member()?.answer_pull(request).await.map_err(io::Error::other)?.to_bytes();
            // What was cut meanwhile does not come back.
            self.member()?;
            Ok(answer)
        }
        .boxed()
    }
}

struct Line {
    socket: Socket,
    target: NodeId,
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the line is cut")
}

impl Line {
    fn member(&self) -> io::Result<Replica> {
        let inner = &self.socket.board.0;
        let cuts = inner.cuts.borrow();
        if cuts.contains(&(self.socket.from, self.target)) || cuts.contains(&(self.target, self.socket.from)) {
            return Err(cut());
        }
        inner.members.lock().get(&self.target).cloned().ok_or_else(cut)
    }

    async fn until_cut(mut cuts: watch::Receiver<BTreeSet<(NodeId, NodeId)>>, way: (NodeId, NodeId)) {
        let back = (way.1, way.0);
        let _ = cuts.wait_for(|cuts| cuts.contains(&way) || cuts.contains(&back)).await;
    }
}

impl Peer for Line {
    fn stream(&mut self, requests: BoxStream<'static, Payload>) -> BoxFuture<'_, io::Result<AnswerStream<'_>>> {
        async move {
            let member = self.member()?;
            let way = (self.socket.from, self.target);
            let cuts = self.socket.board.0.cuts.subscribe();
            let until_cut = Self::until_cut(cuts.clone(), way);
            let mut requests = requests.map(|request| request.to_bytes()).take_until(until_cut).boxed();
            // Nothing is taken out of the requests but while the answers are asked for.
            let (sender, taken) = tokio::sync::mpsc::channel(1);
            let mut pump = async move {
                while let Some(request) = requests.next().await {
                    if sender.send(request).await.is_err() {
                        break;
                    }
                }
            }
            .boxed()
            .fuse();
            let taken =
                futures_util::stream::unfold(taken, async |mut taken| Some((taken.recv().await?, taken))).boxed();
            let answers = member.answer_appends(self.socket.from, taken).await;
            let mut answers = answers.map(|answer| answer.map_err(io::Error::other));
            let answers = futures_util::stream::poll_fn(move |context| {
                let _ = pump.poll_unpin(context);
                answers.poll_next_unpin(context)
            });
            // A stream that ended because its requests did is not broken.
            let socket = self.socket.clone();
            let target = self.target;
            let broken = futures_util::stream::once(async move { Self { socket, target }.member().err().map(Err) });
            let broken = broken.filter_map(std::future::ready);
            Ok(answers.take_until(Self::until_cut(cuts, way)).chain(broken).boxed())
        }
        .boxed()
    }

    fn call(&mut self, request: Payload, wait_max: Duration) -> BoxFuture<'_, io::Result<Bytes>> {
        async move {
            let member = self.member()?;
            let answer = timeout(wait_max, member.answer(self.socket.from, request.to_bytes())).await;
            // What was cut meanwhile does not come back.
            self.member()?;
            answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(io::Error::other)
        }
        .boxed()
    }
}
