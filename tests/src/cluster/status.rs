//! What `rosettamq cluster status` prints, read back.

use anyhow::{Context, Result};

/// Copies of a data shard in a cluster that has the nodes for it, and of the metadata.
const VOTERS: usize = 3;
const METADATA_VOTERS: usize = 5;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The cluster's level of features and who holds it back; nodes of before there were levels say nothing.
    pub features: Option<String>,
    pub nodes: Vec<NodeLine>,
    pub shards: Vec<ShardLine>,
    /// Slots of groups or partitions move, or are still to move.
    pub moves: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLine {
    pub id: u64,
    pub state: String,
    pub address: String,
    pub replicas: usize,
    pub leads: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLine {
    /// `meta` or a number.
    pub id: String,
    pub leader: Option<u64>,
    pub voters: Vec<u64>,
    pub wanted: Vec<u64>,
    pub state: String,
}

impl Status {
    pub fn parse(text: &str) -> Result<Self> {
        let mut status = Self::default();
        let mut in_shards = false;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["SHARD", ..] => in_shards = true,
                [] | ["cluster" | "NODE" | "slots", ..] => {}
                [_, "slots", ..] => status.moves = true,
                ["partitions:", rest @ ..] => status.moves |= !rest.contains(&"evenly") && !rest.contains(&"wait"),
                ["features", rest @ ..] => status.features = Some(rest.join(" ")),
                [id, leader, voters, wanted, state @ ..] if in_shards => status.shards.push(ShardLine {
                    id: (*id).to_owned(),
                    leader: leader.parse().ok(),
                    voters: ids(voters),
                    wanted: ids(wanted),
                    state: state.join(" "),
                }),
                [id, state, _rack, address, replicas, leads] => status.nodes.push(NodeLine {
                    id: id.parse().context("a node's id")?,
                    state: (*state).to_owned(),
                    address: (*address).to_owned(),
                    replicas: replicas.parse().context("a count of replicas")?,
                    leads: leads.parse().context("a count of leaders")?,
                }),
                _ => anyhow::bail!("a line of the status is unknown: {line}"),
            }
        }
        Ok(status)
    }

    /// Whether exactly the nodes of these addresses are there and live, and all shards are settled on as many of them
    /// as they can be, with leaders that are among them.
    pub fn is_settled(&self, addresses: &[String]) -> bool {
        let odd = |most: usize| (most.min(addresses.len()) - 1) / 2 * 2 + 1;
        let is_here = |line: &NodeLine| line.state == "live" && addresses.contains(&line.address);
        let is_well = |shard: &ShardLine| {
            let voters = odd(if shard.id == "meta" { METADATA_VOTERS } else { VOTERS });
            let is_led = shard.leader.is_some_and(|leader| shard.voters.contains(&leader));
            shard.state == "settled" && shard.voters.len() == voters && is_led
        };
        self.nodes.len() == addresses.len()
            && self.nodes.iter().all(is_here)
            && self.shards.len() > 1
            && self.shards.iter().all(is_well)
            && !self.moves
    }

    /// The node that leads a shard.
    pub fn leader(&self, shard: &str) -> Option<u64> {
        self.shards.iter().find(|line| line.id == shard)?.leader
    }
}

fn ids(text: &str) -> Vec<u64> {
    text.split(',').filter_map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
cluster 0123456789abcdef

NODE   STATE     RACK         ADDRESS                  REPLICAS   LEADS
1      live      -            198.18.0.1:9190                 2       1
2      silent    a            198.18.0.2:9190                 2       0

SHARD  LEADER  VOTERS           WANTED           STATE
meta   1       1,2              1,2              settled
1      -       ?                1,2,3            no leader is known
";

    #[test]
    fn a_status_is_read() {
        let status = Status::parse(TEXT).unwrap();
        assert_eq!(status.nodes.len(), 2);
        assert_eq!(status.nodes[1].state, "silent");
        assert_eq!((status.nodes[0].replicas, status.nodes[0].leads), (2, 1));
        assert_eq!(status.leader("meta"), Some(1));
        assert_eq!(status.shards[1].state, "no leader is known");
        assert_eq!((status.shards[1].voters.len(), &status.shards[1].wanted), (0, &vec![1, 2, 3]));
        assert!(!status.is_settled(&["198.18.0.1:9190".to_owned(), "198.18.0.2:9190".to_owned()]));
    }
}
