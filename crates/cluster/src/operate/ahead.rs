//! What comes of an operator's change, told before: nothing here changes anything.

use std::fmt::Write as _;

use record::NodeId;
use shard::ShardRecord;

use super::list;
use crate::placement::{Home, Placed, even_out, fill, voters_of};

/// So many steps of the cluster are looked ahead.
const AFTERWARDS_MAX: usize = 64;
const STAYS: &str = ", but for after `cluster rebalance --stop`";

/// The nodes that are left for what is stored; an error when none is.
pub(super) fn left_without(homes: &[Home], id: NodeId) -> Result<Vec<&Home>, String> {
    let left: Vec<&Home> = homes.iter().filter(|home| !home.draining && home.id != id).collect();
    if left.is_empty() { Err(format!("no node would be left that could take what is on node {id}")) } else { Ok(left) }
}

/// What becomes of a node's copies when only these are left, where a shard has at most so many. One that is silent keeps what
/// it has, and gets nothing.
pub(super) fn without(id: NodeId, left: &[&Home], copies: usize) -> String {
    let silent: Vec<NodeId> = left.iter().filter(|home| !home.live).map(|home| home.id).collect();
    let (count, live) = (left.len(), left.len() - silent.len());
    let votes = voters_of(copies, count, count + 1);
    let resumes = "`cluster resume` takes it back";
    if live == 0 {
        return format!(
            "none of the {count} nodes that are left is heard of: nothing goes anywhere before one is; {resumes}"
        );
    }
    if !silent.is_empty() {
        return format!(
            "{count} nodes are left, of which {} does not answer and gets nothing before it does: what is on node {id} can \
             go to {live} only, where it is not yet, and a shard most of whose voters are silent does not change at all; \
             {resumes}",
            list(&silent)
        );
    }
    let warning = if votes < copies.min(3) { format!(", so none of them may fail; {resumes}") } else { String::new() };
    format!("{count} nodes are left: every shard gets {votes} of them{warning}")
}

/// What the cluster itself does behind a move: it gives the shard as many copies as others have, and moves something, the
/// shard itself perhaps, when nodes have too many and too few.
pub(super) fn afterwards(homes: &[Home], mut shards: Vec<Placed>, moved: &ShardRecord, evens_out: bool) -> String {
    let mut then = String::new();
    let put = |shards: &mut Vec<Placed>, record: &ShardRecord| {
        for placed in shards.iter_mut().filter(|placed| placed.id == record.id) {
            placed.voters.clone_from(&record.voters);
        }
    };
    let before = shards.iter().find(|placed| placed.id == moved.id).map(|placed| placed.voters.clone());
    put(&mut shards, moved);
    let Some(place) = shards.iter().position(|placed| placed.id == moved.id) else { return then };
    if let Some(record) = fill(homes, &shards, &shards[place]) {
        let (asked, gets) = (moved.voters.len(), list(&record.voters));
        let _ = writeln!(
            then,
            "it does not stay so: a shard has {} copies on these nodes, not {asked}, so the cluster makes {gets} of it by itself",
            record.voters.len()
        );
        put(&mut shards, &record);
    }
    let mut others = None;
    for _ in 0..if evens_out { AFTERWARDS_MAX } else { 0 } {
        let Some(record) = even_out(homes, &shards) else { break };
        put(&mut shards, &record);
        if record.id != moved.id {
            others.get_or_insert(record);
        }
    }
    let last = &shards[place].voters;
    if before.as_ref() == Some(last) {
        let _ = writeln!(
            then,
            "then it goes back to {} by itself, since nodes have too many and too few copies or leaders else{STAYS}",
            list(last)
        );
    } else if let Some(record) = others {
        let _ = writeln!(
            then,
            "then nodes have copies or leaders too many and too few: shard {} goes to {} by itself{STAYS}",
            record.id,
            list(&record.voters)
        );
    }
    then
}

#[cfg(test)]
mod tests {
    use record::ShardId;

    use super::*;
    use crate::messages::Led;

    fn placed(id: u32, wanted: &[u64], actual: &[u64]) -> Placed {
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let actual = Led { voters: nodes(actual), learners: Vec::new(), changing: false };
        Placed { id: ShardId(id), voters: nodes(wanted), actual: Some(actual), founder: None, most: 3 }
    }

    fn homes(live: &[(u64, bool)]) -> Vec<Home> {
        let home = |(id, live): &(u64, bool)| Home {
            id: NodeId(*id),
            rack: None,
            live: *live,
            draining: false,
            replaced: false,
            full: false,
        };
        live.iter().map(home).collect()
    }

    #[test]
    fn silent_nodes_do_not_count_for_what_is_left() {
        let check = |nodes: &[(u64, bool)]| {
            let homes = homes(nodes);
            left_without(&homes, NodeId(3)).map(|left| without(NodeId(3), &left, 3))
        };
        let all = check(&[(1, true), (2, true), (3, true), (4, true)]).unwrap();
        assert_eq!(all, "3 nodes are left: every shard gets 3 of them");
        let two = check(&[(1, true), (2, true), (3, false)]).unwrap();
        assert!(two.starts_with("2 nodes are left: every shard gets 2 of them, so none of them may fail"), "{two}");
        let one = check(&[(2, true), (3, false), (4, false)]).unwrap();
        assert!(
            one.starts_with("2 nodes are left, of which 4 does not answer") && one.contains("go to 1 only"),
            "{one}"
        );
        let none = check(&[(2, false), (3, true)]).unwrap();
        assert!(none.starts_with("none of the 1 nodes that are left is heard of"), "{none}");
        assert!(check(&[(3, true)]).is_err());
    }

    #[test]
    fn a_move_that_does_not_last_is_told_so() {
        let homes = homes(&[(1, true), (2, true), (3, true), (4, true)]);
        let shards = |count| (1..=count).map(|id| placed(id, &[1, 2, 3], &[1, 2, 3])).collect::<Vec<_>>();
        let to = |voters: &[u64]| ShardRecord { id: ShardId(1), voters: voters.iter().copied().map(NodeId).collect() };
        let alone = afterwards(&homes[..3], shards(1), &to(&[2]), false);
        assert!(alone.starts_with("it does not stay so: a shard has 3 copies on these nodes, not 1"), "{alone}");
        assert_eq!(afterwards(&homes[..3], shards(1), &to(&[2, 1, 3]), true), "", "nothing is uneven then");
        assert_eq!(afterwards(&homes, shards(1), &to(&[1, 2, 4]), false), "");
        // Node 4 gets its share, and what it has too much goes on.
        let uneven = afterwards(&homes, shards(4), &to(&[3, 2, 1]), true);
        assert!(uneven.contains("by itself") && uneven.contains("rebalance --stop"), "{uneven}");
    }
}
