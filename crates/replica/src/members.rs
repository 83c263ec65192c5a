//! Who belongs to a shard's group: a look at it, and the leader's ways to change it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use record::NodeId;

use crate::errors::MembersError;
use crate::replica::Replica;

/// The members of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    /// Those whose majority decides. Two sets while the voters change: both must agree.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// Those that follow without a vote.
    pub learners: BTreeSet<NodeId>,
}

impl Members {
    /// Whether `node` has a vote, before or after a change that is under way.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.iter().any(|voters| voters.contains(&node))
    }

    /// Whether the voters are being changed.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.voters.len() > 1
    }
}

impl Replica {
    /// The members as of the last applied entry.
    #[must_use]
    pub fn members(&self) -> Members {
        let (_, membership) = self.inner.core.applied_state();
        let membership = membership.membership();
        let ids = |ids: &BTreeSet<u64>| ids.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
        Members {
            voters: membership.get_joint_config().iter().map(ids).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
        }
    }

    /// How many nodes at least have on disk what is acknowledged, by the members as of the last applied entry. Locks nothing.
    #[must_use]
    pub fn copies_min(&self) -> usize {
        self.inner.core.majority()
    }

    /// Takes a node in without a vote; it follows from then on. Returns when that is committed.
    ///
    /// # Errors
    /// When this node does not lead or another change is under way.
    pub async fn add_learner(&self, node: NodeId) -> Result<(), MembersError> {
        // What a lone member may do without asking anybody ends before anybody is there.
        self.inner.core.expect_members();
        let added = self.inner.group.add_learner(node).await;
        if added.is_err() {
            // A learner that comes to be nevertheless is noted when that is applied.
            self.inner.core.recount_members();
        }
        added
    }

    /// Lets go of a node that has no vote.
    ///
    /// # Errors
    /// As [`Self::add_learner`].
    pub async fn remove_learner(&self, node: NodeId) -> Result<(), MembersError> {
        self.inner.group.remove_learner(node).await
    }

    /// Gives the vote to `voters`, which MUST be members, and to nobody else. Returns when the new
    /// majority has taken over; those that lost the vote stay as learners. A change that was
    /// interrupted is ended by the same call.
    ///
    /// # Errors
    /// As [`Self::add_learner`].
    pub async fn change_voters(&self, voters: &BTreeSet<NodeId>) -> Result<(), MembersError> {
        self.inner.core.expect_members();
        self.inner.group.change_voters(voters).await
    }

    /// Asks a voter to lead in place of this node, which stops proposing until that is settled.
    /// [`Self::leadership`] shows whether it came to be.
    ///
    /// # Errors
    /// When the node has no vote, leads already, or consensus has stopped.
    pub async fn transfer_leader(&self, node: NodeId) -> Result<(), MembersError> {
        let term = self.inner.core.leadership.borrow().term;
        self.inner.core.handed_over.store(term.0, Ordering::Release);
        self.inner.group.transfer_leader(node).await
    }
}
