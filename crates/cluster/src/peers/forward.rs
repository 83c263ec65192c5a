//! Proposals for a shard that another node leads.

use std::io;

use base::time::{Duration, timeout};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use record::{NodeId, ShardId};
use replica::{Lane, ProposeError, ProposeResult};
use shard::Command;
use storage::Payload;

use super::dial::Peers;
use super::frame::{BODY_BYTES_MAX, Subject};
use super::link::{CallAnswer, Link};
use crate::forward::Forward;
use crate::proposal;

/// How long an outcome is waited for: then its fate is not known, as when the connection breaks.
const OUTCOME_TIME_MAX: Duration = Duration::from_secs(60);

/// Why a proposal was not sent.
fn unsent(error: &io::Error, bytes: usize) -> ProposeError {
    match error.kind() {
        io::ErrorKind::WouldBlock => ProposeError::Busy,
        io::ErrorKind::InvalidInput => ProposeError::TooLarge { bytes, bytes_max: BODY_BYTES_MAX },
        _ => ProposeError::NotLeader { leader: None },
    }
}

fn send(link: &Link, shard: ShardId, command: &Command) -> Result<CallAnswer, ProposeError> {
    let body = Payload::from(proposal::encode(command));
    let bytes = body.len();
    link.call(Subject::Proposal, shard, body).map_err(|error| unsent(&error, bytes))
}

/// From when a proposal was sent, no answer means that nobody knows what became of it.
async fn outcome(answer: CallAnswer) -> ProposeResult {
    match timeout(OUTCOME_TIME_MAX, answer).await {
        Ok(Ok(answer)) => proposal::decode_answer(answer).unwrap_or_else(|error| {
            tracing::error!(%error, "another node's answer to a proposal cannot be read");
            Err(ProposeError::Unknown)
        }),
        // Who proposes nothing answers so. A refusal may come behind a proposal, for an answer that is too large.
        Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
    }
}

impl Forward for Peers {
    fn propose(&self, node: NodeId, shard: ShardId, command: Command) -> BoxFuture<'static, ProposeResult> {
        if let Some(link) = self.open_link(node, Lane::Bulk) {
            return match send(&link, shard, &command) {
                Ok(answer) => outcome(answer).boxed(),
                Err(error) => std::future::ready(Err(error)).boxed(),
            };
        }
        let peers = self.clone();
        async move {
            let link = peers.link(node, Lane::Bulk).await.map_err(|error| unsent(&error, 0))?;
            outcome(send(&link, shard, &command)?).await
        }
        .boxed()
    }
}
