//! Nodes of ours: what starts them, and what `rosettamq cluster` says.

use std::process::Command;

use ::tests::broker::rosettamq_binary;
use anyhow::Result;

use super::Node;

/// A data shard as `cluster status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) id: u64,
    pub(crate) leader: u64,
    pub(crate) voters: Vec<u64>,
    pub(crate) wanted: Vec<u64>,
    pub(crate) state: String,
}

pub(super) fn command(nodes: &[Node], place: usize, shards: Option<u32>) -> Result<Command> {
    let node = &nodes[place];
    let all: Vec<String> = nodes.iter().map(inner).collect();
    let mut command = Command::new(rosettamq_binary()?);
    command.arg("--data-dir").arg(node.home.join("data"));
    command.args(["--kafka-listeners", &format!("127.0.0.1:{}", node.port)]);
    command.args(["--cluster-listen", &inner(node), "--cluster-join", &all.join(",")]);
    if let Some(shards) = shards {
        command.args(["--shards", &shards.to_string()]);
    }
    Ok(command)
}

pub(super) fn operate(node: &Node) -> Result<Command> {
    let mut command = Command::new(rosettamq_binary()?);
    command.args(["cluster", "--node", &inner(node)]);
    Ok(command)
}

fn inner(node: &Node) -> String {
    format!("127.0.0.1:{}", node.inner_port)
}

/// The data shards of a status.
pub(super) fn shards(status: &str) -> Vec<Shard> {
    let table = status.lines().skip_while(|line| !line.starts_with("SHARD")).skip(1);
    table.filter_map(shard).collect()
}

fn shard(line: &str) -> Option<Shard> {
    let mut words = line.split_whitespace();
    let id = words.next()?.parse().ok()?;
    // 0 stands for none.
    let leader = words.next()?.parse().unwrap_or(0);
    let list = |word: &str| word.split(',').filter_map(|id| id.parse().ok()).collect();
    let (voters, wanted) = (list(words.next()?), list(words.next()?));
    Some(Shard { id, leader, voters, wanted, state: words.collect::<Vec<_>>().join(" ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read() {
        let status = "cluster 1\n\nNODE   STATE\n1      live\n\nSHARD  LEADER  VOTERS           WANTED           STATE\n\
                      meta   1       1,2,3            1,2,3            settled\n\
                      1      -       ?                3,2,1            no leader is known\n";
        let read = shards(status);
        let expected = Shard {
            id: 1,
            leader: 0,
            voters: Vec::new(),
            wanted: vec![3, 2, 1],
            state: "no leader is known".to_owned(),
        };
        assert_eq!(read, [expected]);
    }
}
