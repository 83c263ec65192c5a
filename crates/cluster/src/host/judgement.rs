//! What becomes of a replica that runs here.

use replica::Replica;

use super::Host;
use crate::cluster::METADATA;

/// What is to be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Stays,
    /// A read has found damage, and others have what is damaged.
    IsDamaged,
    IsBehind,
    IsLetGo,
}

impl Host {
    /// What of a shard's leader's status concerns this node: whether it is let go of, and whether it has to
    /// be brought here anew.
    pub(super) fn judge(&self, replica: &Replica) -> Judgement {
        let (shard, me) = (replica.shard_id(), self.node.id());
        if shard != METADATA && replica.is_damaged() {
            return Judgement::IsDamaged;
        }
        let leader = self.node.leader(shard).filter(|leader| *leader != me);
        let status = leader.and_then(|leader| self.node.statuses.replica(leader, shard));
        let Some(status) = status else { return Judgement::Stays };
        let known = *replica.leadership().borrow();
        if status.term < known.term {
            return Judgement::Stays;
        }
        let Some(led) = &status.leads else {
            // It says that it leads when a majority has its first entry, for which this member may be needed. Whoever is
            // elected has all that is committed: what is here and not there is not needed any more.
            let is_elected = known.leader == leader && known.term == status.term;
            return if is_elected && replica.needs_install(status.purged) {
                Judgement::IsBehind
            } else {
                Judgement::Stays
            };
        };
        let belongs = led.voters.contains(&me) || led.learners.contains(&me);
        if !belongs && replica.members().is_voter(me) && replica.last_log_index() >= status.last {
            // The leader's word may be older than what this node knows.
            return Judgement::Stays;
        }
        if belongs && replica.needs_install(status.purged) {
            Judgement::IsBehind
        } else if belongs {
            Judgement::Stays
        } else {
            Judgement::IsLetGo
        }
    }
}
