//! A node that has told others for whom it votes in a term says so for ever, whatever became of its machine: it votes
//! in no earlier term, and in that one for nobody else, unless it learned that this other one leads.

use std::collections::BTreeMap;

use record::{NodeId, ShardId, Term};

use super::{Violation, violation};

/// What a node says for whom it voted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    pub term: Term,
    pub for_whom: NodeId,
    /// Whether that one is known to lead.
    pub leads: bool,
}

#[derive(Debug, Default)]
pub(super) struct VotesStay {
    votes: BTreeMap<(ShardId, NodeId), Vote>,
}

impl VotesStay {
    pub(super) fn voted(&mut self, shard: ShardId, node: NodeId, vote: Vote) -> Result<(), Violation> {
        let known = self.votes.entry((shard, node)).or_insert(vote);
        let may_follow = match vote.term.cmp(&known.term) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => vote.for_whom == known.for_whom || (vote.leads && !known.leads),
            std::cmp::Ordering::Greater => true,
        };
        if !may_follow {
            return violation("votes stay", format!("node {node} says in shard {shard} {vote:?}, and said {known:?}"));
        }
        *known = vote;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_vote_and_another_one_are_told() {
        let mut votes = VotesStay::default();
        let mut voted = |term, for_whom, leads| {
            let vote = Vote { term: Term(term), for_whom: NodeId(for_whom), leads };
            votes.voted(ShardId(1), NodeId(2), vote)
        };
        voted(3, 1, false).unwrap();
        voted(3, 1, false).unwrap();
        voted(4, 3, false).unwrap();
        assert!(voted(4, 1, false).is_err());
        voted(4, 1, true).unwrap();
        assert!(voted(4, 3, true).is_err());
        assert!(voted(3, 3, true).is_err());
        voted(5, 1, false).unwrap();
    }
}
