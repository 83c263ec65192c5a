//! The types with which the consensus library is instantiated.
//!
//! An entry's payload is the list of buffers that the proposer built and that the commit log
//! writes: between the two nothing is copied, only reference counts move.

use std::fmt;
use std::io;

use bytes::Bytes;
use openraft::LogId as RaftLogId;
use openraft::entry::{RaftEntry, RaftPayload};
use openraft::impls::leader_id_std::LeaderId;
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use openraft::{EmptyNode, OptionalSend, RaftTypeConfig};
use record::{LogIndex, NodeId, Term};
use storage::{EntryKind, LogId, Payload};

use super::membership;
pub(crate) use super::runtime::Runtime;

/// The instantiation of openraft: one leader per term, log ids of term and index, payloads of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Commands;
    type R = Answers;
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload;
    type Entry = Entry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Callback<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type CommittedLeaderId = <LeaderId<u64, u64> as RaftLeaderId>::Committed;
pub(crate) type ConsensusLogId = RaftLogId<CommittedLeaderId>;
pub(crate) type ConsensusVote = openraft::impls::Vote<LeaderId<u64, u64>>;
pub(crate) type Membership = openraft::Membership<u64, EmptyNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, EmptyNode>;

/// The commands of one entry, encoded: a head that `apply` reads, then the bodies.
#[derive(Clone)]
pub(crate) struct Commands(pub(crate) Payload);

/// What `apply` answers to the commands of one entry, in their order.
pub(crate) struct Answers(pub(crate) Vec<shard::Outcome>);

/// What an entry of the log holds.
#[derive(Clone)]
pub(crate) enum EntryPayload {
    /// A new leader's first entry.
    Blank,
    /// Commands for the state machine.
    Commands(Commands),
    /// A change of the members of the group.
    Membership(Membership),
}

/// One entry of a group's log.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) log_id: ConsensusLogId,
    pub(crate) payload: EntryPayload,
}

/// Hands the result of one entry to the one who proposed it, without a channel between.
pub(crate) struct Callback<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Callback<T> {
    pub(crate) fn new(done: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(done))
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

impl<T> fmt::Debug for Callback<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers", self.0.len())
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of commands", self.0.len())
    }
}

impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for EntryPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("blank"),
            Self::Commands(commands) => fmt::Debug::fmt(commands, f),
            Self::Membership(membership) => write!(f, "membership {membership}"),
        }
    }
}

impl fmt::Display for EntryPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.log_id, self.payload)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl RaftPayload for EntryPayload {
    type D = Commands;
    type NodeId = u64;
    type Node = EmptyNode;

    fn blank() -> Self {
        Self::Blank
    }

    fn with_normal(self, data: Commands) -> Self {
        Self::Commands(data)
    }

    fn with_membership(self, membership: Membership) -> Self {
        Self::Membership(membership)
    }

    fn get_membership(&self) -> Option<Membership> {
        match self {
            Self::Membership(membership) => Some(membership.clone()),
            Self::Blank | Self::Commands(_) => None,
        }
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = CommittedLeaderId;
    type Payload = EntryPayload;

    fn new(log_id: ConsensusLogId, payload: EntryPayload) -> Self {
        Self { log_id, payload }
    }

    fn log_id_parts(&self) -> (&CommittedLeaderId, u64) {
        (&self.log_id.leader_id, self.log_id.index)
    }

    fn set_log_id(&mut self, new: ConsensusLogId) {
        self.log_id = new;
    }

    fn get_membership(&self) -> Option<Membership> {
        self.payload.get_membership()
    }
}

impl Entry {
    /// The entry as the commit log stores it.
    pub(crate) fn into_stored(self) -> storage::Entry {
        let (kind, payload) = match self.payload {
            EntryPayload::Blank => (EntryKind::Blank, Payload::default()),
            EntryPayload::Commands(Commands(payload)) => (EntryKind::Commands, payload),
            EntryPayload::Membership(membership) => {
                (EntryKind::Membership, Payload::from(Bytes::from(membership::encode(&membership))))
            }
        };
        storage::Entry { id: stored_log_id(self.log_id), kind, payload }
    }

    /// The entry that the commit log stored. A membership that cannot be decoded is an error: it
    /// passed the frame's checksum, so another version of this program wrote it.
    pub(crate) fn from_stored(entry: storage::Entry) -> io::Result<Self> {
        let payload = match entry.kind {
            EntryKind::Blank => EntryPayload::Blank,
            EntryKind::Commands => EntryPayload::Commands(Commands(entry.payload)),
            EntryKind::Membership => {
                let encoded = entry.payload.to_bytes();
                EntryPayload::Membership(membership::decode(&encoded).map_err(io::Error::other)?)
            }
        };
        Ok(Self { log_id: consensus_log_id(entry.id), payload })
    }
}

pub(crate) fn stored_log_id(id: ConsensusLogId) -> LogId {
    LogId { term: Term(id.leader_id.term), index: LogIndex(id.index) }
}

pub(crate) fn consensus_log_id(id: LogId) -> ConsensusLogId {
    ConsensusLogId::new_term_index(id.term.0, id.index.0)
}

pub(crate) fn stored_vote(vote: &ConsensusVote) -> storage::Vote {
    storage::Vote {
        term: Term(vote.leader_id.term),
        node_id: NodeId(vote.leader_id.voted_for),
        committed: vote.committed,
    }
}

pub(crate) fn consensus_vote(vote: &storage::Vote) -> ConsensusVote {
    ConsensusVote { leader_id: LeaderId { term: vote.term.0, voted_for: vote.node_id.0 }, committed: vote.committed }
}
