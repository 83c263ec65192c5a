//! The members of a group on other nodes, as consensus calls them.

use std::io;

use base::time::{Duration, timeout};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use record::{NodeId, ShardId};
use replica::{AnswerStream, Lane, Peer, Transport};
use storage::Payload;

use super::dial::Peers;
use super::frame::Subject;

impl Transport for Peers {
    fn peer(&self, shard: ShardId, target: NodeId, lane: Lane) -> Box<dyn Peer> {
        Box::new(Member { peers: self.clone(), shard, target, lane })
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
