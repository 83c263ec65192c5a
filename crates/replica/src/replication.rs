//! How far the members are: what decides whether a node must pull what it lacks, and whether one
//! that follows is caught up.

use std::collections::BTreeMap;

use base::time::Duration;
use record::{LogIndex, NodeId};

use crate::replica::Replica;

/// How far a member is, as its leader knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberProgress {
    /// The last entry that it is known to have; none when nothing is known.
    pub matched: Option<LogIndex>,
    /// How long ago it answered last; none when it has not since this node leads.
    pub silence: Option<Duration>,
}

impl MemberProgress {
    /// Whether it answered within the last `within`.
    #[must_use]
    pub fn was_heard(&self, within: Duration) -> bool {
        self.silence.is_some_and(|silence| silence <= within)
    }
}

impl Replica {
    /// The last entry of this node's log.
    #[must_use]
    pub fn last_log_index(&self) -> LogIndex {
        self.inner.core.log.log_state().last.map_or(LogIndex(0), |last| last.index)
    }

    /// The last entry that the log was asked to let go: this node gives no entry up to it as a leader.
    #[must_use]
    pub fn purged_index(&self) -> LogIndex {
        self.inner.core.pins.purged().map_or(LogIndex(0), |purged| purged.index)
    }

    /// The last entry that this node knows to be committed.
    #[must_use]
    pub fn committed_index(&self) -> LogIndex {
        self.inner.group.replication().committed.unwrap_or(LogIndex(0))
    }

    /// How far each member is, this node included, learners too; none when this node does not lead.
    #[must_use]
    pub fn progress(&self) -> Option<BTreeMap<NodeId, MemberProgress>> {
        self.inner.group.replication().members
    }

    /// Whether this node lacks entries that its leader, whose log is purged up to `leader_purged`, cannot give: it is
    /// to be shut down then and [`crate::install`]ed.
    #[must_use]
    pub fn needs_install(&self, leader_purged: LogIndex) -> bool {
        self.last_log_index() < leader_purged
    }
}
