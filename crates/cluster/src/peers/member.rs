//! The members of a group on other nodes, as consensus calls them.

use std::io;

use base::time::{Duration, timeout};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use record::{NodeId, ShardId};
use replica::{AnswerStream, Donor, Lane, Peer, Transport};
use storage::Payload;

use super::dial::Peers;
use super::frame::Subject;

/// How long a donor may take for one answer.
const PULL_WAIT_MAX: Duration = Duration::from_secs(30);

impl Transport for Peers {
    fn peer(&self, shard: ShardId, target: NodeId, lane: Lane) -> Box<dyn Peer> {
        Box::new(Member { peers: self.clone(), shard, target, lane })
    }

    fn donor(&self, shard: ShardId, target: NodeId) -> Box<dyn Donor> {
        Box::new(Giver { peers: self.clone(), shard, target })
    }
}

/// A member that gives what another one lacks.
struct Giver {
    peers: Peers,
    shard: ShardId,
    target: NodeId,
}

impl Donor for Giver {
    fn ask(&self, request: Bytes) -> BoxFuture<'_, io::Result<Bytes>> {
        async move {
            let answer = async {
                let link = self.peers.link(self.target, Lane::Bulk).await?;
                link.call(Subject::Pull, self.shard, Payload::from(request))?.await
            };
            timeout(PULL_WAIT_MAX, answer).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        }
        .boxed()
    }
}

/// A member of a group on another node.
struct Member {
    peers: Peers,
    shard: ShardId,
    target: NodeId,
    lane: Lane,
}

impl Peer for Member {
    fn stream(&mut self, requests: BoxStream<'static, Payload>) -> BoxFuture<'_, io::Result<AnswerStream<'_>>> {
        async move {
            let link = self.peers.link(self.target, self.lane).await?;
            link.stream(Subject::Group, self.shard, requests)
        }
        .boxed()
    }

    fn call(&mut self, request: Payload, wait_max: Duration) -> BoxFuture<'_, io::Result<Bytes>> {
        async move {
            let answer = async {
                let link = self.peers.link(self.target, self.lane).await?;
                link.call(Subject::Group, self.shard, request)?.await
            };
            timeout(wait_max, answer).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
        }
        .boxed()
    }
}
