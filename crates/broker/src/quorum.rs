//! The group that holds the metadata, as this node sees it.

use std::collections::{BTreeMap, BTreeSet};

use base::time::Duration;
use cluster::{METADATA, Position};
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
    /// Of those of them of which something is known.
    pub positions: BTreeMap<NodeId, QuorumPosition>,
}

/// How far a member is: the leader knows it, other nodes go by what it said up to half a second ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuorumPosition {
    /// Behind the last entry of its log that is known.
    pub end: u64,
    /// How long ago it was heard of.
    pub heard: Option<Duration>,
    /// How long ago it had all that was committed a moment before.
    pub caught_up: Option<Duration>,
}

impl Broker {
    /// Waits for nobody: what is said may be of a moment ago.
    pub fn quorum(&self) -> Quorum {
        let cluster = self.cluster();
        let leader = self.controller();
        let wanted = || cluster.voters(METADATA).into_iter().collect();
        let positions = |committed_end| {
            let known = cluster.positions(METADATA).into_iter().filter_map(|(id, at)| Some((id, position(at)?)));
            with_leader_in_front(known.collect(), leader, committed_end)
        };
        match cluster.replica(METADATA) {
            Some(replica) => {
                let members = replica.members();
                // Two sets while the voters change: both decide.
                let voters: BTreeSet<NodeId> = members.voters.into_iter().flatten().collect();
                let committed_end = replica.applied().0 + 1;
                Quorum {
                    leader,
                    term: replica.leadership().borrow().term,
                    committed_end,
                    voters: if voters.is_empty() { wanted() } else { voters },
                    observers: members.learners,
                    positions: positions(committed_end),
                }
            }
            None => {
                let (term, committed_end) =
                    cluster.metadata().applied().map_or((Term(0), 0), |(index, term)| (term, index.0 + 1));
                let observers = BTreeSet::new();
                Quorum { leader, term, committed_end, voters: wanted(), observers, positions: positions(committed_end) }
            }
        }
    }
}

fn position(position: Position) -> Option<QuorumPosition> {
    let Position { last, heard, caught_up } = position;
    Some(QuorumPosition { end: last?.0 + 1, heard, caught_up })
}

/// What the leader said is older than what this node knows of itself, and it has whatever the others have.
fn with_leader_in_front(
    mut positions: BTreeMap<NodeId, QuorumPosition>,
    leader: Option<NodeId>,
    committed_end: u64,
) -> BTreeMap<NodeId, QuorumPosition> {
    let front = positions.values().map(|position| position.end).max().unwrap_or(0).max(committed_end);
    if let Some(position) = leader.and_then(|leader| positions.get_mut(&leader)) {
        position.end = front;
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_in_front_of_the_leader() {
        let at = |end| QuorumPosition { end, heard: None, caught_up: None };
        let known = || BTreeMap::from([(NodeId(1), at(90)), (NodeId(2), at(100)), (NodeId(3), at(80))]);
        let ends = |leader, committed| -> Vec<u64> {
            with_leader_in_front(known(), leader, committed).values().map(|position| position.end).collect()
        };
        assert_eq!(ends(Some(NodeId(1)), 95), [100, 100, 80]);
        assert_eq!(ends(Some(NodeId(1)), 120), [120, 100, 80]);
        assert_eq!(ends(None, 120), [90, 100, 80]);
        assert_eq!(ends(Some(NodeId(4)), 120), [90, 100, 80]);
    }
}
