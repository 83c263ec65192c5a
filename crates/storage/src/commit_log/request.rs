//! What goes through the log's one queue, and what comes back.

use std::io;
use std::sync::Arc;

use record::ShardId;
use tokio::sync::oneshot;

use super::AppendCompletion;
use super::shard_state::{ShardState, Taken};
use crate::types::{Entry, LogId, Vote};

pub(crate) enum Request {
    Append {
        shard: Arc<ShardState>,
        entries: Vec<Entry>,
        taken: Taken,
        done: Done,
    },
    Control {
        shard: Arc<ShardState>,
        control: Control,
        done: Done,
    },
    /// Records the synced position, if no frame did since it moved.
    Mark,
    /// Everything before is to be made durable, and nothing comes after.
    Close(oneshot::Sender<io::Result<()>>),
}

/// A change of a shard's log that is no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    Vote(Vote),
    Truncate(Option<LogId>),
    Purge(LogId),
    Forget,
    Committed(LogId),
}

/// Who is told when a request is durable.
pub(crate) enum Done {
    /// Called unless a later one of the same shard is called in the same group commit.
    Latest(ShardId, AppendCompletion),
    Each(AppendCompletion),
    Control(oneshot::Sender<io::Result<()>>),
    Nobody,
}

impl Done {
    pub(crate) fn call(self, result: io::Result<()>) {
        match self {
            Self::Latest(_, call) | Self::Each(call) => call(result),
            Self::Control(sender) => {
                // The caller may have gone; what it asked for is done all the same.
                let _ = sender.send(result);
            }
            Self::Nobody => {}
        }
    }
}

impl Request {
    /// What the request counts for in the queue's bound.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append { entries, .. } => entries.iter().map(|entry| entry.payload.len() + 64).sum(),
            _ => 64,
        }
    }

    pub(crate) fn into_done(self) -> Done {
        match self {
            Self::Append { done, .. } | Self::Control { done, .. } => done,
            Self::Close(sender) => Done::Control(sender),
            Self::Mark => Done::Nobody,
        }
    }
}
