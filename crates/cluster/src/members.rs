//! What the leader of a group does so that its members become those that the metadata wants: one step
//! at a time, each of which leaves the group whole.
//!
//! A node that is wanted is taken in without a vote as soon as its replica runs; when all that are
//! wanted have caught up, they get the vote in one joint change; then those that nobody wants are let
//! go. Last, the leadership goes to the node that stands first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, Instant, now, sleep, timeout};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use record::{NodeId, ShardId, Term};
use replica::{MemberProgress, Members, MembersError, Replica};

use crate::cluster::METADATA;
use crate::messages::Phase;
use crate::node::Node;

/// Pause between two looks.
const ROUND_PAUSE: Duration = Duration::from_millis(500);
/// The same while the members of a group are not those that are wanted.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Pause between two steps of a group.
const STEP_PAUSE: Duration = Duration::from_millis(10);
/// How long one step may take.
const STEP_WAIT_MAX: Duration = Duration::from_secs(20);
/// A leader that does not stand first keeps the shard at least so long.
const LEAD_TIME_MIN: Duration = Duration::from_secs(5);
/// Entries that a member may be behind to count as caught up.
const BEHIND_MAX: u64 = 1_000;
/// How long ago a member may have answered to count as there.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// What a group should be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    /// The first is to lead.
    voters: Vec<NodeId>,
    /// Those that follow without a vote.
    followers: BTreeSet<NodeId>,
}

/// What the leader does next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Add(NodeId),
    Change(BTreeSet<NodeId>),
    Remove(NodeId),
    Transfer(NodeId),
}

/// What is known of the nodes.
trait Nodes {
    /// Whether the node's replica runs.
    fn runs(&self, node: NodeId) -> bool;
    /// Whether it runs, in service, and is not far behind.
    fn has_caught_up(&self, node: NodeId) -> bool;
    /// Whether it lets others lead.
    fn is_leaving(&self, node: NodeId) -> bool;
}

/// The next step of a group that `me` leads, if any can be taken now.
fn next_step(me: NodeId, members: &Members, wanted: &Wanted, nodes: &impl Nodes, settled: bool) -> Option<Step> {
    let voters: BTreeSet<NodeId> = wanted.voters.iter().copied().collect();
    if voters.is_empty() {
        return None;
    }
    let belongs = |node: &NodeId| members.is_voter(*node) || members.learners.contains(node);
    let newcomer = voters.iter().chain(&wanted.followers).find(|node| !belongs(node) && nodes.runs(**node));
    if let Some(node) = newcomer.filter(|_| !members.is_changing()) {
        return Some(Step::Add(*node));
    }
    let current = members.voters.last()?;
    let ready = |node: &NodeId| *node == me || (belongs(node) && nodes.has_caught_up(*node));
    if members.is_changing() || *current != voters {
        // Those that keep their vote need not be there, as long as most of the new ones are.
        let newcomers_ready = voters.difference(current).all(ready);
        let there = voters.iter().filter(|node| ready(node)).count();
        if newcomers_ready && 2 * there > voters.len() {
            let successor =
                wanted.voters.iter().find(|node| current.contains(node) && ready(node) && !nodes.is_leaving(**node));
            return match successor {
                Some(successor) if !voters.contains(&me) && !members.is_changing() => Some(Step::Transfer(*successor)),
                _ => Some(Step::Change(voters)),
            };
        }
        // Nobody is taken in while votes change: what was begun is ended first when something else is wanted by now.
        let is_other = members.is_changing() && *current != voters;
        return is_other.then(|| Step::Change(current.clone()));
    }
    if let Some(node) = members.learners.iter().find(|node| !wanted.followers.contains(node)) {
        return Some(Step::Remove(*node));
    }
    let first = *wanted.voters.first()?;
    (settled && first != me && ready(&first) && !nodes.is_leaving(first)).then_some(Step::Transfer(first))
}

struct Known<'a> {
    node: &'a Node,
    shard: ShardId,
    last: u64,
    progress: BTreeMap<NodeId, MemberProgress>,
}

impl Nodes for Known<'_> {
    fn runs(&self, node: NodeId) -> bool {
        self.node.statuses.replica(node, self.shard).is_some_and(|replica| replica.phase == Phase::Running)
    }

    fn has_caught_up(&self, node: NodeId) -> bool {
        let Some(progress) = self.progress.get(&node) else { return false };
        let is_near = progress.matched.is_some_and(|matched| matched.0 + BEHIND_MAX >= self.last);
        is_near && progress.was_heard(HEARD_WITHIN) && self.runs(node)
    }

    fn is_leaving(&self, node: NodeId) -> bool {
        self.node.does_let_others_lead(node)
    }
}

/// The nodes that could lead a shard in place of this one, best first.
pub(crate) fn successors(node: &Node, replica: &Replica) -> Vec<NodeId> {
    let (shard, me) = (replica.shard_id(), node.id());
    let Some(progress) = replica.progress() else { return Vec::new() };
    let known = Known { node, shard, last: replica.last_log_index().0, progress };
    let may = |voter: &NodeId| *voter != me && known.has_caught_up(*voter) && !known.is_leaving(*voter);
    voters_in_order(node, replica).into_iter().filter(may).collect()
}

/// Lets another lead, if it has what this node has: one that lacks much would not be elected, and until that is over nobody
/// leads.
pub(crate) async fn hand_over(node: &Node, replica: &Replica, to: NodeId) -> Result<(), MembersError> {
    if !successors(node, replica).contains(&to) {
        return Err(MembersError::Refused(format!("node {to} is behind, or lets others lead")));
    }
    replica.transfer_leader(to).await
}

/// The nodes that could lead a shard when `gone` does not any more, in the order in which they should try: last those that
/// would hand it over at once.
pub(crate) fn heirs(node: &Node, replica: &Replica, gone: NodeId) -> Vec<NodeId> {
    let mut heirs = voters_in_order(node, replica);
    let is_failed = |voter: &NodeId| {
        node.statuses.replica(*voter, replica.shard_id()).is_some_and(|replica| replica.phase == Phase::Failed)
    };
    heirs.retain(|voter| *voter != gone && !is_failed(voter));
    heirs.sort_by_key(|voter| node.does_let_others_lead(*voter));
    heirs
}

/// Those that vote, first those that are to, in the order in which they should lead.
fn voters_in_order(node: &Node, replica: &Replica) -> Vec<NodeId> {
    let members = replica.members();
    let preferred = wanted(node, replica.shard_id()).map(|wanted| wanted.voters).unwrap_or_default();
    let mut voters = Vec::new();
    for voter in preferred.into_iter().chain(members.voters.iter().flatten().copied()) {
        if members.is_voter(voter) && !voters.contains(&voter) {
            voters.push(voter);
        }
    }
    voters
}

fn wanted(node: &Node, shard: ShardId) -> Option<Wanted> {
    let metadata = node.metadata()?;
    let state = metadata.state();
    let voters = state.shard_record(shard)?.voters.clone();
    // Every node follows the metadata.
    let followers = if shard == METADATA {
        state.nodes().into_iter().map(|record| record.id).filter(|id| !voters.contains(id)).collect()
    } else {
        BTreeSet::new()
    };
    Some(Wanted { voters, followers })
}

async fn take_step(replica: &Replica, step: Step) -> Result<(), MembersError> {
    match step {
        Step::Add(node) => replica.add_learner(node).await,
        Step::Change(voters) => replica.change_voters(&voters).await,
        Step::Remove(node) => replica.remove_learner(node).await,
        Step::Transfer(node) => replica.transfer_leader(node).await,
    }
}

/// Takes a step; one that fails is not tried again at once.
async fn step_along(node: &Node, replica: &Replica, step: Step) -> ShardId {
    let shard = replica.shard_id();
    tracing::info!(shard = shard.0, ?step, "a step to the members that are wanted");
    match timeout(STEP_WAIT_MAX, take_step(replica, step.clone())).await {
        Ok(Ok(())) => {
            node.statuses.tell();
            // Who is to take over has only been asked.
            sleep(if matches!(step, Step::Transfer(_)) { ROUND_PAUSE } else { STEP_PAUSE }).await;
        }
        Ok(Err(error)) => {
            tracing::warn!(shard = shard.0, ?step, %error, "a step failed, trying on");
            sleep(ROUND_PAUSE).await;
        }
        Err(_) => tracing::warn!(shard = shard.0, ?step, "a step does not end, trying on"),
    }
    shard
}

/// What is to be done for a group that this node leads, and whether anything is, now or later.
fn look(node: &Node, replica: &Replica, led_since: Instant) -> (Option<Step>, bool) {
    let shard = replica.shard_id();
    let (Some(wanted), Some(progress)) = (wanted(node, shard), replica.progress()) else { return (None, false) };
    let known = Known { node, shard, last: replica.last_log_index().0, progress };
    let members = replica.members();
    let step = next_step(node.id(), &members, &wanted, &known, led_since.elapsed() >= LEAD_TIME_MIN);
    let voters: BTreeSet<NodeId> = wanted.voters.iter().copied().collect();
    let is_there = !members.is_changing() && members.voters.last() == Some(&voters);
    (step, !is_there)
}

/// Looks after the groups that this node leads until the task is aborted. One whose step takes long holds up no other.
pub(crate) fn keep_members(node: &Arc<Node>) -> JoinHandle<()> {
    let node = Arc::clone(node);
    spawn("members", async move {
        let mut since = BTreeMap::<ShardId, (Term, Instant)>::new();
        let mut steps = FuturesUnordered::new();
        let mut under_way = BTreeSet::new();
        while !node.is_leaving() {
            let mut pause = ROUND_PAUSE;
            for replica in node.shards.replicas().into_iter().filter(Replica::is_leader) {
                let (shard, term) = (replica.shard_id(), replica.leadership().borrow().term);
                let led = since.entry(shard).or_insert_with(|| (term, now()));
                if led.0 != term {
                    *led = (term, now());
                }
                if under_way.contains(&shard) {
                    continue;
                }
                let (step, is_on_its_way) = look(&node, &replica, led.1);
                if is_on_its_way {
                    pause = BUSY_PAUSE;
                }
                if let Some(step) = step {
                    under_way.insert(shard);
                    let node = &node;
                    steps.push(async move { step_along(node, &replica, step).await });
                }
            }
            // Behind a step may be the next.
            match timeout(pause, steps.next()).await {
                Ok(Some(shard)) => drop(under_way.remove(&shard)),
                Ok(None) => sleep(pause).await,
                Err(_) => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);

    /// The nodes whose replicas run, and those of them that are behind.
    struct Fake {
        run: Vec<u64>,
        behind: Vec<u64>,
    }

    impl Nodes for Fake {
        fn runs(&self, node: NodeId) -> bool {
            self.run.contains(&node.0)
        }
        fn has_caught_up(&self, node: NodeId) -> bool {
            self.runs(node) && !self.behind.contains(&node.0)
        }
        fn is_leaving(&self, _: NodeId) -> bool {
            false
        }
    }

    fn nodes(run: &[u64], behind: &[u64]) -> Fake {
        Fake { run: run.to_vec(), behind: behind.to_vec() }
    }

    fn set(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn members(voters: &[&[u64]], learners: &[u64]) -> Members {
        Members { voters: voters.iter().map(|voters| set(voters)).collect(), learners: set(learners) }
    }

    fn wanted(voters: &[u64], followers: &[u64]) -> Wanted {
        Wanted { voters: voters.iter().copied().map(NodeId).collect(), followers: set(followers) }
    }

    fn next(members: &Members, wanted: &Wanted, nodes: &Fake) -> Option<Step> {
        next_step(ME, members, wanted, nodes, true)
    }

    #[test]
    fn nodes_are_taken_in_then_get_the_vote_together() {
        let wanted = wanted(&[1, 2, 3], &[]);
        let alone = members(&[&[1]], &[]);
        assert_eq!(next(&alone, &wanted, &nodes(&[], &[])), None, "nobody is there yet");
        assert_eq!(next(&alone, &wanted, &nodes(&[3], &[])), Some(Step::Add(NodeId(3))));
        let one = members(&[&[1]], &[3]);
        assert_eq!(next(&one, &wanted, &nodes(&[3], &[])), None, "two voters would be worse than one");
        let both = members(&[&[1]], &[2, 3]);
        assert_eq!(next(&both, &wanted, &nodes(&[2, 3], &[2])), None, "one is behind");
        assert_eq!(next(&both, &wanted, &nodes(&[2, 3], &[])), Some(Step::Change(set(&[1, 2, 3]))));
        let done = members(&[&[1, 2, 3]], &[]);
        assert_eq!(next(&done, &wanted, &nodes(&[2, 3], &[])), None);
    }

    #[test]
    fn a_change_that_was_interrupted_is_ended() {
        let joint = members(&[&[1], &[1, 2, 3]], &[]);
        assert_eq!(next(&joint, &wanted(&[1, 2, 3], &[]), &nodes(&[2, 3], &[])), Some(Step::Change(set(&[1, 2, 3]))));
    }

    #[test]
    fn a_change_that_was_interrupted_is_ended_also_when_another_is_wanted_by_now() {
        let joint = members(&[&[1, 2, 3], &[1, 2, 4]], &[]);
        let (wanted, nodes) = (wanted(&[1, 2, 5], &[]), nodes(&[2, 5], &[]));
        assert_eq!(next(&joint, &wanted, &nodes), Some(Step::Change(set(&[1, 2, 4]))), "5 is not taken in yet");
        let ended = members(&[&[1, 2, 4]], &[3]);
        assert_eq!(next(&ended, &wanted, &nodes), Some(Step::Add(NodeId(5))));
    }

    #[test]
    fn a_dead_voter_is_replaced_and_let_go() {
        let wanted = wanted(&[1, 2, 4], &[]);
        let before = members(&[&[1, 2, 3]], &[4]);
        assert_eq!(next(&before, &wanted, &nodes(&[2, 4], &[])), Some(Step::Change(set(&[1, 2, 4]))));
        let after = members(&[&[1, 2, 4]], &[3]);
        assert_eq!(next(&after, &wanted, &nodes(&[2, 4], &[])), Some(Step::Remove(NodeId(3))));
    }

    #[test]
    fn a_leader_that_is_not_wanted_hands_over_first() {
        let wanted = wanted(&[2, 3, 4], &[]);
        let before = members(&[&[1, 2, 3]], &[4]);
        assert_eq!(next(&before, &wanted, &nodes(&[2, 3, 4], &[])), Some(Step::Transfer(NodeId(2))));
        assert_eq!(next(&before, &wanted, &nodes(&[3, 4], &[])), Some(Step::Transfer(NodeId(3))), "2 is silent");
    }

    #[test]
    fn the_first_leads_once_it_is_settled() {
        let wanted = wanted(&[2, 1, 3], &[]);
        let group = members(&[&[1, 2, 3]], &[]);
        assert_eq!(next(&group, &wanted, &nodes(&[2, 3], &[])), Some(Step::Transfer(NodeId(2))));
        assert_eq!(next_step(ME, &group, &wanted, &nodes(&[2, 3], &[]), false), None);
        assert_eq!(next(&group, &wanted, &nodes(&[3], &[])), None, "it is silent");
    }

    #[test]
    fn followers_of_the_metadata_keep_following() {
        let wanted = wanted(&[1], &[2]);
        assert_eq!(next(&members(&[&[1]], &[]), &wanted, &nodes(&[2], &[])), Some(Step::Add(NodeId(2))));
        assert_eq!(next(&members(&[&[1]], &[2]), &wanted, &nodes(&[2], &[])), None);
        assert_eq!(next(&members(&[&[1]], &[2, 5]), &wanted, &nodes(&[2], &[])), Some(Step::Remove(NodeId(5))));
    }
}
