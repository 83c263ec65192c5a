//! An operator's command, on its way to a node of a cluster.

use std::io;

use base::Env;
use base::time::{Duration, timeout};
use record::{NodeId, ShardId};
use shard::FEATURE_LEVEL;
use storage::Payload;

use crate::messages::Request;
use crate::peers::{Me, Peers, Subject};

/// Has the node that listens for others at `host` and `port` do what `words` say; gives its answer.
///
/// # Errors
/// When nobody answers in `wait_max`, or the node refuses, with its words.
pub async fn operate(
    env: &Env,
    (host, port): (&str, u16),
    words: Vec<String>,
    wait_max: Duration,
) -> io::Result<String> {
    let me = Me { cluster: 0, node: NodeId(0), life: env.random.next_u64(), features: FEATURE_LEVEL };
    let peers = Peers::new(env.clone(), me);
    let asking = async {
        let (link, _) = peers.dial_as_guest(host, port).await?;
        let answer = link.call(Subject::Node, ShardId(0), Payload::from(Request::Operate(words).encode()))?.await?;
        String::from_utf8(answer.into()).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "no text came"))
    };
    timeout(wait_max, asking).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
