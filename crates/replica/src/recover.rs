//! A group whose majority is gone for good, made one of this node alone: on a node that does not run.
//!
//! Nothing here can tell whether the others are gone. Whoever asks for it says so, and accepts that what
//! they acknowledged and this node never got is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use openraft::EmptyNode;
use record::{LogIndex, NodeId, Term, TimestampMs};
use shard::{Command, EntryBuilder};
use storage::checkpoint::CheckpointStore;
use storage::{EntryKind, LogId, Payload, ShardLog, Vote};
use tokio::sync::oneshot;

use crate::checkpoint;
use crate::config::Config;
use crate::errors::StartError;
use crate::members::Members;
use crate::raft::types::Membership;
use crate::raft::{decode_membership, encode_membership};

/// What the files of a replica say of its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The members as of the last entry of the log.
    pub members: Members,
    /// The last entry of the log, committed or not.
    pub last: Option<LogId>,
}

/// Looks at the files of a replica that does not run.
///
/// # Errors
/// When a file cannot be read or is damaged.
pub async fn examine(config: &Config, checkpoints: &CheckpointStore, log: &ShardLog) -> Result<Found, StartError> {
    let shard = config.shard;
    let applied = checkpoint::restore(config, checkpoints, log).await?;
    let mut membership = applied.membership.membership().clone();
    let state = log.log_state();
    let from = applied.last.map_or(LogIndex(0), |last| last.index.next());
    let failed = |source: io::Error| StartError::Log { shard, source };
    let mut index = state.purged.map_or(from, |purged| from.max(purged.index.next()));
    while state.last.is_some_and(|last| index <= last.index) {
        if let Some(meta) = log.meta(index).await.map_err(failed)?
            && meta.kind == EntryKind::Membership
        {
            let bytes = log.read(index, 0..meta.payload_bytes).await.map_err(failed)?;
            let bytes = bytes.into_bytes().await.map_err(failed)?;
            membership = decode_membership(&bytes).map_err(|error| failed(io::Error::other(error)))?;
        }
        index = index.next();
    }
    let ids = |ids: &BTreeSet<u64>| ids.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
    let members = Members {
        voters: membership.get_joint_config().iter().map(ids).collect(),
        learners: membership.learner_ids().map(NodeId).collect(),
    };
    Ok(Found { members, last: state.last.max(state.purged) })
}

/// Makes this node the group's only member, durably. The log's entries that were not known to be
/// committed become so with the next start, which leads in a later term than any before; behind them `first` is applied,
/// before anything else is proposed.
///
/// # Errors
/// When the log cannot be written.
pub async fn make_alone(config: &Config, log: &ShardLog, first: &Command) -> io::Result<()> {
    let state = log.log_state();
    let before = state.last.max(state.purged);
    let term = before.map_or(Term(0), |last| last.term).max(state.vote.map_or(Term(0), |vote| vote.term));
    let term = Term(term.0 + 1);
    log.save_vote(Vote { term, node_id: config.node, committed: false }).await?;
    let me = config.node.0;
    let membership = Membership::new(vec![BTreeSet::from([me])], BTreeMap::from([(me, EmptyNode {})]))
        .map_err(|error| io::Error::other(error.to_string()))?;
    let index = before.map_or(LogIndex(0), |last| last.index.next());
    let mut builder = EntryBuilder::new();
    builder.push(first, []);
    // Whoever is cut off behind the first entry is not alone yet, and is called again.
    let commands = storage::Entry {
        id: LogId { term, index },
        kind: EntryKind::Commands,
        payload: Payload::from_iter(builder.finish(TimestampMs(0))),
    };
    let alone = storage::Entry {
        id: LogId { term, index: index.next() },
        kind: EntryKind::Membership,
        payload: Payload::from(bytes::Bytes::from(encode_membership(&membership))),
    };
    let (sender, durable) = oneshot::channel();
    let done = Box::new(move |result| drop(sender.send(result)));
    log.append_each(vec![commands, alone], done).map_err(io::Error::other)?;
    durable.await.map_err(|_| io::Error::other("the log is closed"))?
}
