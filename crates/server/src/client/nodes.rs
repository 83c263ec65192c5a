//! `rosettamq cluster`: asks a node by its listener for other nodes.

use anyhow::{Context as _, anyhow};
use base::Env;
use record::NodeId;

use super::print;
use crate::cli::{ClusterArgs, ClusterCommand};
use crate::config::listener::parse_addresses;

pub(super) async fn run(args: ClusterArgs) -> anyhow::Result<()> {
    let ClusterArgs { command, node, timeout } = args;
    if let ClusterCommand::Recover { data_dir, without, accept_loss_of_acknowledged_data } = command {
        let lost = without.into_iter().map(NodeId).collect();
        let config = cluster::Config::new(data_dir);
        let report = cluster::recover(Env::real(), config, &lost, accept_loss_of_acknowledged_data).await?;
        return Ok(print(&report)?);
    }
    let addresses = parse_addresses(&node).with_context(|| format!("--node {node}"))?;
    let mut refused = None;
    for (host, port) in &addresses {
        match cluster::operate(&Env::real(), (host, *port), command.words(), timeout.0).await {
            Ok(text) => return Ok(print(&text)?),
            // The node's own answer is the cluster's.
            Err(error) if error.kind() == std::io::ErrorKind::Other => return Err(anyhow!("{error}")),
            Err(error) => {
                let (at, told) = (format!("{host}:{port}"), error.to_string());
                // Whoever dials names the address.
                refused = Some(if told.starts_with(&at) { told } else { format!("{at} does not answer: {told}") });
            }
        }
    }
    let refused = refused.unwrap_or_else(|| "no node was named".to_owned());
    Err(anyhow!("{refused}; --node HOST:PORT, or ROSETTAMQ_NODE, says which node's listener for other nodes is asked"))
}
