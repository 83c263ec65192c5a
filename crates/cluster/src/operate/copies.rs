//! How many copies of each data shard the cluster keeps.

use std::fmt::Write as _;

use record::NodeId;
use replica::ProposeError;
use shard::commands::{COPIES, SetCopies};
use shard::{ConfigResource, Outcome, Shard};

use super::{CHANGE_WAIT_MAX, Node, list, not_taken, view};
use crate::cluster::METADATA;
use crate::placement::{Home, Placed, voters_of};

/// The level of features that the number is part of.
const FEATURE_LEVEL: u32 = 3;
/// Topics that a refusal names.
const NAMED_MAX: usize = 5;
/// What a topic, or all, may ask for: so many of a partition's copies have what is acknowledged.
const IN_SYNC: &str = "min.insync.replicas";

/// How many copies of a data shard decide, where there are as many nodes.
pub(super) fn wanted(node: &Node) -> usize {
    node.metadata().map_or(1, |metadata| metadata.state().copies().into())
}

pub(super) fn describe(node: &Node) -> Result<String, String> {
    let (homes, shards) = view(node)?;
    Ok(told(wanted(node), &homes, &shards))
}

/// Shards get or lose copies one after the other, while they go on.
pub(super) async fn set(node: &Node, count: &str) -> Result<String, String> {
    let refusal =
        || format!("{count:?} is no number of copies: 1, 3 or 5, since with an even one no more nodes may fail");
    let copies: u8 = count.parse().ok().filter(|copies| COPIES.contains(copies)).ok_or_else(refusal)?;
    let (homes, shards) = view(node)?;
    if node.feature_level() < FEATURE_LEVEL {
        return Err(format!(
            "not before the cluster's level of features is {FEATURE_LEVEL}: `cluster status` shows which nodes hold it back"
        ));
    }
    // What other nodes were told of topics is to be known here.
    if !node.follow_metadata(CHANGE_WAIT_MAX).await {
        return Err(not_taken(&ProposeError::NotLeader { leader: None }));
    }
    let metadata = node.metadata().ok_or("the node is starting")?;
    let unmet = unmet(&metadata.state(), usize::from(copies));
    if !unmet.is_empty() {
        return Err(format!(
            "{IN_SYNC} of {} is greater than {}, the majority of {copies}: lower that first",
            unmet.join(", "),
            majority(copies.into())
        ));
    }
    match node.propose_patiently(METADATA, SetCopies { copies }.into(), CHANGE_WAIT_MAX).await {
        Ok(Outcome::SetCopies(Ok(()))) => Ok(told(copies.into(), &homes, &shards)),
        Ok(Outcome::SetCopies(Err(_))) => Err(refusal()),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(not_taken(&error)),
    }
}

fn majority(copies: usize) -> usize {
    copies / 2 + 1
}

/// Who asks for more copies of what is acknowledged than so many can have.
fn unmet(metadata: &Shard, copies: usize) -> Vec<String> {
    let asks = |value: Option<&String>| {
        value.and_then(|value| value.parse::<usize>().ok()).is_some_and(|wanted| wanted > majority(copies))
    };
    let (_, all) = metadata.configs(&ConfigResource::Broker(None));
    let cluster = asks(all.get(IN_SYNC)).then(|| "all topics".to_owned());
    let topics = metadata.topics().filter(|topic| asks(topic.configs.get(IN_SYNC)));
    let mut named: Vec<String> =
        cluster.into_iter().chain(topics.map(|topic| format!("topic {:?}", topic.name))).take(NAMED_MAX + 1).collect();
    if named.len() > NAMED_MAX {
        named[NAMED_MAX] = "others".to_owned();
    }
    named
}

fn told(copies: usize, homes: &[Home], shards: &[Placed]) -> String {
    let usable: Vec<NodeId> = homes.iter().filter(|home| !home.draining).map(|home| home.id).collect();
    let gets = |placed: &Placed| {
        let now = placed.copies_now();
        voters_of(copies, usable.len(), now)
    };
    let data = shards.iter().filter(|placed| placed.id != METADATA);
    let fewest = data.map(gets).min().unwrap_or(copies);
    let mut text = format!("every data shard is to have {copies} {}", plural(copies));
    if fewest < copies {
        let _ = write!(text, ", and gets {fewest} while the nodes are {}", list(&usable));
    }
    if fewest == 1 {
        text.push_str(": a node that is lost takes with it what is only there");
    }
    text.push_str("\n`cluster status` shows how far it is\n");
    text
}

fn plural(copies: usize) -> &'static str {
    if copies == 1 { "copy" } else { "copies" }
}

#[cfg(test)]
mod tests {
    use record::ShardId;

    use super::*;
    use crate::messages::Led;

    fn check(copies: usize, nodes: u64, voters: &[u64], expected: &str) {
        let home = |id| Home { id: NodeId(id), rack: None, live: true, draining: false, replaced: false, full: false };
        let voters: Vec<NodeId> = voters.iter().copied().map(NodeId).collect();
        let actual = Led { voters: voters.clone(), learners: Vec::new(), changing: false };
        let shard = Placed { id: ShardId(1), voters, actual: Some(actual), founder: None, most: copies };
        let homes: Vec<Home> = (1..=nodes).map(home).collect();
        assert_eq!(told(copies, &homes, &[shard]).lines().next(), Some(expected));
    }

    #[test]
    fn what_shards_get_is_told() {
        check(3, 4, &[1, 2, 3], "every data shard is to have 3 copies");
        check(5, 4, &[1, 2, 3], "every data shard is to have 5 copies, and gets 3 while the nodes are 1,2,3,4");
        check(3, 2, &[1, 2], "every data shard is to have 3 copies, and gets 2 while the nodes are 1,2");
        let lone = "every data shard is to have 3 copies, and gets 1 while the nodes are 1,2: a node that is lost takes \
                    with it what is only there";
        check(3, 2, &[1], lone);
        check(
            1,
            3,
            &[1, 2, 3],
            "every data shard is to have 1 copy: a node that is lost takes with it what is only there",
        );
    }
}
