//! The group that holds the metadata, as this node sees it.

use std::collections::BTreeSet;

use cluster::METADATA;
use record::{NodeId, Term};

use crate::Broker;

/// Who decides about the metadata and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    pub leader: Option<NodeId>,
    /// The term in which it leads.
    pub term: Term,
    /// Behind the last entry that is known here to be committed; this node has applied all before.
    pub committed_end: u64,
    pub voters: BTreeSet<NodeId>,
    /// Those that follow without a vote.
    pub observers: BTreeSet<NodeId>,
}

impl Broker {
    /// Waits for nobody: what is said may be of a moment ago.
    pub fn quorum(&self) -> Quorum {
        let cluster = self.cluster();
        let leader = self.controller();
        let wanted = || cluster.voters(METADATA).into_iter().collect();
        match cluster.replica(METADATA) {
            Some(replica) => {
                let members = replica.members();
                // Two sets while the voters change: both decide.
                let voters: BTreeSet<NodeId> = members.voters.into_iter().flatten().collect();
                Quorum {
                    leader,
                    term: replica.leadership().borrow().term,
                    committed_end: replica.applied().0 + 1,
                    voters: if voters.is_empty() { wanted() } else { voters },
                    observers: members.learners,
                }
            }
            None => {
                let (term, committed_end) =
                    cluster.metadata().applied().map_or((Term(0), 0), |(index, term)| (term, index.0 + 1));
                Quorum { leader, term, committed_end, voters: wanted(), observers: BTreeSet::new() }
            }
        }
    }
}
