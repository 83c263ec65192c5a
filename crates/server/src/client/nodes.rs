//! `rosettamq cluster`: asks a node by its listener for other nodes.

use anyhow::{Context as _, anyhow};
use base::Env;

use super::print;
use crate::cli::ClusterArgs;
use crate::config::listener::parse_addresses;

pub(super) async fn run(args: ClusterArgs) -> anyhow::Result<()> {
    let ClusterArgs { command, node, timeout } = args;
    let addresses = parse_addresses(&node).with_context(|| format!("--node {node}"))?;
    let mut refused = None;
    for (host, port) in &addresses {
        match cluster::operate(&Env::real(), (host, *port), command.words(), timeout.0).await {
            Ok(text) => return Ok(print(&text)?),
            // The node's own answer is the cluster's.
            Err(error) if error.kind() == std::io::ErrorKind::Other => return Err(anyhow!("{error}")),
            Err(error) => refused = Some(anyhow!("{host}:{port} does not answer: {error}")),
        }
    }
    Err(refused.unwrap_or_else(|| anyhow!("no node was named")))
}
