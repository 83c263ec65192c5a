//! A node that founded a cluster of its own and is to be one of another's: it gives up its own if it has
//! nothing, and is refused if it has.

use std::io;
use std::sync::Arc;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, sleep};
use tokio::sync::watch;

use crate::join::Address;
use crate::node::Node;
use crate::operate::view;

/// Pause between two looks at the configured addresses.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Gives up this node's own cluster, if it has nothing, and becomes a new node of the one that is found at
/// one of `addresses`.
pub(crate) async fn join_another(node: &Arc<Node>, addresses: &str) -> Result<String, String> {
    let parse = |text: &str| {
        let (host, port) = text.rsplit_once(':')?;
        Some((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port.parse().ok()?))
    };
    let addresses: Vec<(String, u16)> =
        addresses.split(',').map(parse).collect::<Option<_>>().ok_or("an address is HOST:PORT")?;
    let (homes, _) = view(node)?;
    if homes.len() > 1 {
        return Err(
            "the node is one of several: drain and remove it, then let it join with an empty directory".to_owned()
        );
    }
    if let Some(what) = holds(node) {
        return Err(format!("the node has {what}: only one that has nothing may give up its cluster"));
    }
    let me = node.peers.me();
    let mut reasons = Vec::new();
    for (host, port) in &addresses {
        match node.peers.dial_as_guest(host, *port).await {
            Ok((_, welcome)) if welcome.life == me.life => reasons.push(format!("{host}:{port} is this node itself")),
            Ok((_, welcome)) if welcome.cluster == me.cluster => {
                return Err("the node there is of the same cluster".to_owned());
            }
            Ok((_, welcome)) if welcome.cluster == 0 => reasons.push(format!("{host}:{port} has no cluster yet")),
            Ok(_) => {
                let data_dir = node.data_dir.get().ok_or("the node is starting")?;
                data_dir.give_up(&addresses).await.map_err(|error| error.to_string())?;
                node.given_up.send_replace(true);
                return Ok(
                    "the node gives up its own cluster and joins: `cluster status` shows it when it has\n".to_owned()
                );
            }
            Err(error) => reasons.push(format!("{host}:{port}: {error}")),
        }
    }
    Err(format!("no cluster is there: {}", reasons.join("; ")))
}

/// What of its users' this node has, if anything.
fn holds(node: &Node) -> Option<&'static str> {
    let metadata = node.metadata()?;
    if metadata.state().topic_count() > 0 || !metadata.state().intentions(1).is_empty() {
        return Some("topics");
    }
    let has_groups = node.shards.replicas().iter().any(|replica| !replica.state().groups().is_empty());
    has_groups.then_some("consumer groups")
}

/// The first address at which another cluster than this node's is found; `None` when one does not answer.
async fn other_cluster(node: &Node, addresses: &[Address]) -> io::Result<Option<Address>> {
    let me = node.peers.me();
    for (host, port) in addresses {
        let (_, welcome) = node.peers.dial_as_guest(host, *port).await?;
        if welcome.cluster != 0 && welcome.cluster != me.cluster {
            return Ok(Some((host.clone(), *port)));
        }
    }
    Ok(None)
}

/// Looks once whether the addresses that a lone node is configured to join at lead to another cluster than
/// its own: then it gives up its own, or stops when it has something to lose.
pub(crate) fn look_elsewhere(
    node: &Arc<Node>,
    addresses: Vec<Address>,
    failure: watch::Sender<Option<String>>,
) -> JoinHandle<()> {
    let node = Arc::clone(node);
    spawn("look for another cluster", async move {
        loop {
            match other_cluster(&node, &addresses).await {
                Ok(None) => return,
                Ok(Some((host, port))) => {
                    if let Some(what) = holds(&node) {
                        let text = format!(
                            "the node is configured to join the cluster at {host}:{port}, but its data directory is of \
                             another cluster and holds {what}: take the address out of cluster.join, or give it an \
                             empty directory"
                        );
                        failure.send_modify(|failure| *failure = Some(text));
                        return;
                    }
                    if let Some(data_dir) = node.data_dir.get()
                        && data_dir.give_up(&addresses).await.is_ok()
                    {
                        tracing::info!(
                            host,
                            port,
                            "there is a cluster: this node gives up its own, which holds nothing"
                        );
                        node.given_up.send_replace(true);
                        return;
                    }
                }
                Err(error) => tracing::debug!(%error, "an address of cluster.join does not answer"),
            }
            sleep(LOOK_PAUSE).await;
        }
    })
}
