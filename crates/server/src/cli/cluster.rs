//! `rosettamq cluster`: what an operator asks of a cluster.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    pub(crate) command: ClusterCommand,
    /// A node to ask: HOST:PORT of its cluster.listen
    #[arg(long, global = true, value_name = "ADDRESS", env = "ROSETTAMQ_NODE", default_value = "127.0.0.1:9190")]
    pub(crate) node: String,
    /// How long to wait for the answer
    #[arg(long, global = true, value_name = "TIME", default_value = "30s")]
    pub(crate) timeout: base::units::HumanDuration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Print the nodes, the shards, and how far moves are
    Status,
    /// Let the node, which has no topics, give up its own cluster and join the one that is found there
    Join {
        /// HOST:PORT of the cluster.listen of nodes of that cluster
        #[arg(value_name = "ADDRESS", required = true, value_delimiter = ',')]
        addresses: Vec<String>,
    },
    /// Move everything away from a node, so that it can be removed
    Drain {
        #[arg(value_name = "NODE")]
        id: u64,
    },
    /// Let a node take part again that was being emptied
    Resume {
        #[arg(value_name = "NODE")]
        id: u64,
    },
    /// Let go of an emptied node for good
    Remove {
        #[arg(value_name = "NODE")]
        id: u64,
    },
    /// On a stopped node: go on without nodes that are gone for good and were the majority. Data may be lost
    Recover {
        /// The data directory of the node that is left
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// The nodes that are gone for good: they are refused from then on
        #[arg(long, value_name = "NODES", required = true, value_delimiter = ',')]
        without: Vec<u64>,
        /// Do it; without this flag it is only shown what there is
        #[arg(long)]
        accept_loss_of_acknowledged_data: bool,
    },
    /// Spread copies, leaders, partitions and groups evenly, as is done unless that was stopped
    Rebalance {
        /// Let them stay where they are
        #[arg(long)]
        stop: bool,
    },
    /// Print how many copies of each data shard there are to be, or change that: 3 unless it was changed
    Copies {
        /// 1, 3 or 5; any minority of them may be lost
        #[arg(value_name = "COUNT")]
        count: Option<u8>,
    },
    /// Put a shard, a number or `meta`, onto these nodes; the first one leads
    Move {
        #[arg(value_name = "SHARD", value_parser = shard_number)]
        shard: u32,
        #[arg(value_name = "NODES", required = true, value_delimiter = ',')]
        voters: Vec<u64>,
    },
}

/// A shard as `cluster status` names it.
fn shard_number(text: &str) -> Result<u32, String> {
    let number = if text == "meta" { Ok(0) } else { text.parse() };
    number.map_err(|_| "a shard is a number or `meta`".to_owned())
}

impl ClusterCommand {
    /// The command as a node takes it.
    pub(crate) fn words(&self) -> Vec<String> {
        let one = |word: &str, id: &u64| vec![word.to_owned(), id.to_string()];
        match self {
            // It asks nobody.
            Self::Recover { .. } => Vec::new(),
            Self::Status => vec!["status".to_owned()],
            Self::Join { addresses } => vec!["join".to_owned(), addresses.join(",")],
            Self::Drain { id } => one("drain", id),
            Self::Resume { id } => one("resume", id),
            Self::Remove { id } => one("remove", id),
            Self::Rebalance { stop: false } => vec!["rebalance".to_owned()],
            Self::Rebalance { stop: true } => vec!["rebalance".to_owned(), "--stop".to_owned()],
            Self::Copies { count } => {
                std::iter::once("copies".to_owned()).chain(count.map(|count| count.to_string())).collect()
            }
            Self::Move { shard, voters } => {
                let voters = voters.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                vec!["move".to_owned(), shard.to_string(), voters]
            }
        }
    }
}
