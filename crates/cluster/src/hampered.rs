//! A node whose disk stays slow lets others lead: what it leads waits for its disk with every entry, while
//! others have a majority without it. So does one whose disk is full, and one that is behind with the metadata (`lagging`).
//!
//! A leader with room refuses data, too, while no majority of the voters has room: the last space of followers is for what
//! frees some.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, Instant, now, sleep};
use record::NodeId;
use replica::Replica;

use crate::host::Host;
use crate::members::successors;
use crate::node::Node;

/// From this level of features on every node knows what objects are.
const OBJECTS_FEATURE_LEVEL: u32 = 5;
/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// A write or a sync that takes longer is slow.
const SLOW: Duration = Duration::from_millis(500);
/// So many slow looks one after the other, and the disk counts as slow.
const SLOW_LOOKS: u32 = 4;
/// Without a slow look for so long it is quick again.
const QUICK_AGAIN: Duration = Duration::from_secs(30);

/// How the disk does.
#[derive(Debug)]
struct Pace {
    slow_looks: u32,
    slow: bool,
    last_slow: Option<Instant>,
}

impl Pace {
    const fn new() -> Self {
        Self { slow_looks: 0, slow: false, last_slow: None }
    }

    /// One more look; whether the disk counts as slow.
    fn look(&mut self, longest: Duration) -> bool {
        if longest >= SLOW {
            self.slow_looks += 1;
            self.last_slow = Some(now());
        } else {
            self.slow_looks = 0;
        }
        if self.slow_looks >= SLOW_LOOKS {
            self.slow = true;
        } else if self.last_slow.is_none_or(|last| last.elapsed() >= QUICK_AGAIN) {
            self.slow = false;
        }
        self.slow
    }
}

/// Watches the disk of the commit log, and whom else the shards that this node leads depend on, until the task is aborted.
pub(crate) fn watch(host: &Arc<Host>) -> JoinHandle<()> {
    let weak = Arc::downgrade(host);
    spawn("what hampers", async move {
        let mut pace = Pace::new();
        loop {
            sleep(LOOK_PAUSE).await;
            let Some(host) = weak.upgrade() else { return };
            let node = &host.node;
            look_at_disk(&host, &mut pace);
            let replicas = node.shards.replicas();
            let is_anybody_full = node.is_full(node.id()) || node.statuses.live().iter().any(|(_, status)| status.full);
            for replica in &replicas {
                look_elsewhere(node, replica, is_anybody_full);
                if node.feature_level() >= OBJECTS_FEATURE_LEVEL {
                    replica.allow_objects();
                }
            }
            if !node.is_hampered() {
                continue;
            }
            for replica in replicas.into_iter().filter(Replica::is_leader) {
                if let Some(successor) = successors(node, &replica).first()
                    && let Err(error) = replica.transfer_leader(*successor).await
                {
                    tracing::debug!(shard = replica.shard_id().0, %error, "the shard stays here for now");
                }
            }
        }
    })
}

fn look_at_disk(host: &Host, pace: &mut Pace) {
    let node = &host.node;
    let longest = host.log.longest_operation();
    let slow = pace.look(longest);
    let is_news = node.slow.swap(slow, Ordering::AcqRel) != slow;
    if is_news && slow {
        let millis = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(millis, "the disk is slow: other nodes are to lead what this one leads");
    } else if is_news {
        tracing::info!("the disk is quick again");
    }
    let full = host.log.disk_state().borrow().is_full();
    let is_full_news = node.full.swap(full, Ordering::AcqRel) != full;
    if is_news || is_full_news {
        node.statuses.tell();
    }
}

/// Who does not lead refuses nothing, so that it does not begin with what was so when it led last.
fn look_elsewhere(node: &Node, replica: &Replica, is_anybody_full: bool) {
    let is_leader = replica.is_leader();
    let full = is_anybody_full && is_leader && is_full_elsewhere(node, replica);
    let shard = replica.shard_id().0;
    match (replica.set_full_elsewhere(full), full) {
        (true, true) => tracing::warn!(shard, "the disks of too many voters are full: data is refused"),
        (true, false) if is_leader => tracing::info!(shard, "enough voters have room: data is taken"),
        _ => {}
    }
}

/// Whether the disks of so many voters are full that those who have room, and were heard of, are no majority.
fn is_full_elsewhere(node: &Node, replica: &Replica) -> bool {
    let is_full = |voter: &NodeId| node.is_full(*voter);
    let has_room = |voter: &NodeId| (*voter == node.id() || node.statuses.is_live(*voter)) && !is_full(voter);
    are_too_many(&replica.members().voters, is_full, has_room)
}

pub(crate) fn are_too_many(
    groups: &[BTreeSet<NodeId>],
    is_full: impl Fn(&NodeId) -> bool,
    has_room: impl Fn(&NodeId) -> bool,
) -> bool {
    let lacks = |voters: &BTreeSet<NodeId>| {
        let room = voters.iter().filter(|voter| has_room(voter)).count();
        2 * room <= voters.len() && voters.iter().any(&is_full)
    };
    groups.iter().any(lacks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_is_slow_when_it_stays_so_and_quick_again_after_a_while() {
        let mut pace = Pace::new();
        let (slow, quick) = (SLOW, SLOW / 2);
        for _ in 0..SLOW_LOOKS - 1 {
            assert!(!pace.look(slow));
        }
        assert!(!pace.look(quick), "one that was slow for a moment");
        for _ in 0..SLOW_LOOKS - 1 {
            assert!(!pace.look(slow));
        }
        assert!(pace.look(slow));
        assert!(pace.look(quick), "not at once");
        sleep(QUICK_AGAIN).await;
        assert!(!pace.look(quick));
    }

    #[test]
    fn data_is_refused_when_those_with_room_are_no_majority_and_somebody_is_full() {
        let set = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
        let too_many = |groups: &[&[u64]], full: &[u64], gone: &[u64]| {
            let groups: Vec<_> = groups.iter().map(|ids| set(ids)).collect();
            let is_full = |id: &NodeId| full.contains(&id.0);
            are_too_many(&groups, is_full, |id| !is_full(id) && !gone.contains(&id.0))
        };
        assert!(!too_many(&[&[1, 2, 3]], &[], &[]));
        assert!(!too_many(&[&[1, 2, 3]], &[3], &[]));
        assert!(too_many(&[&[1, 2, 3]], &[2, 3], &[]));
        assert!(too_many(&[&[1, 2, 3]], &[3], &[2]), "what 3 takes is kept by no majority else");
        assert!(!too_many(&[&[1, 2, 3]], &[], &[2, 3]), "that is not for want of room");
        assert!(too_many(&[&[1]], &[1], &[]));
        assert!(too_many(&[&[1, 2, 3], &[1, 4, 5]], &[4, 5], &[]), "both must agree");
    }
}
