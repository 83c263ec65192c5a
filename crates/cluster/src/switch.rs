//! A node that founded a cluster of its own and is to be one of another's: it gives up its own if it has
//! nothing, and is refused if it has.
//!
//! Nothing that anybody was told of goes with it: before the last look all its shards are closed, for good, and all that
//! they had taken has come to its end. What is found then keeps the node where it is, and it is started anew to serve.

use std::fmt;
use std::io;
use std::sync::Arc;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, sleep};
use futures_util::future::join_all;
use record::ShardId;
use replica::Replica;
use tokio::sync::watch;

use crate::giving_up::{Holds, holds};
use crate::join::Address;
use crate::node::Node;
use crate::operate::view;

/// Pause between two looks at the configured addresses.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// How long a node that starts anew still runs: whoever asked for it is to have the answer, and starting takes all
/// connections away.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// Why a node has not given up its cluster.
#[derive(Debug)]
enum Kept {
    Holds(&'static str),
    /// Not all of its shards can be looked at.
    Unknown,
    /// It stops, or has given it up before.
    Closed,
    Unwritten(String),
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds(what) => write!(f, "the node has {what}: only one that has nothing may give up its cluster"),
            Self::Unknown => f.write_str("not all shards of the node run: nobody can say that it has nothing"),
            Self::Closed => f.write_str("the node stops, or gives up its cluster already"),
            Self::Unwritten(error) => f.write_str(error),
        }
    }
}

/// What is known to be there, or not to be.
fn may_give_up(holds: Holds) -> Result<(), Kept> {
    match holds {
        Holds::Nothing => Ok(()),
        Holds::Something(what) => Err(Kept::Holds(what)),
        Holds::Unknown => Err(Kept::Unknown),
    }
}

/// Closes the shards, looks whether there is nothing, and gives that up. Unless they were closed already, the node is to
/// be started anew then, whatever came of it: they never open again.
async fn give_up(node: &Node, addresses: &[Address]) -> Result<(), Kept> {
    let mut closed = node.closed.lock().await;
    if std::mem::replace(&mut *closed, true) {
        return Err(Kept::Closed);
    }
    // Before the others: nothing new comes to be without it, no shard above all.
    if let Some(metadata) = node.metadata() {
        metadata.drain().await;
    }
    let replicas = node.shards.replicas();
    join_all(replicas.iter().map(Replica::drain)).await;
    let drained: Vec<ShardId> = replicas.iter().map(Replica::shard_id).collect();
    may_give_up(holds(node, Some(&drained)))?;
    let data_dir = node.data_dir.get().ok_or(Kept::Unknown)?;
    data_dir.give_up(addresses).await.map_err(|error| Kept::Unwritten(error.to_string()))
}

/// Gives up this node's own cluster, if it has nothing, and becomes a new node of the one that is found at
/// one of `addresses`.
pub(crate) async fn join_another(node: &Arc<Node>, addresses: &str) -> Result<String, String> {
    let parse = |text: &str| {
        let (host, port) = text.rsplit_once(':')?;
        Some((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port.parse().ok()?))
    };
    let addresses: Vec<Address> =
        addresses.split(',').map(parse).collect::<Option<_>>().ok_or("an address is HOST:PORT")?;
    let (homes, _) = view(node)?;
    if homes.len() > 1 {
        // Whoever asked before may not have heard the answer.
        for (host, port) in &addresses {
            let there = node.peers.dial_as_guest(host, *port).await;
            if there.is_ok_and(|(_, welcome)| welcome.cluster == node.peers.me().cluster) {
                return Ok("the node is one of that cluster already\n".to_owned());
            }
        }
        return Err(
            "the node is one of several: drain and remove it, then let it join with an empty directory".to_owned()
        );
    }
    // Who is refused anyway need not close anything.
    may_give_up(holds(node, None)).map_err(|kept| kept.to_string())?;
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
                let (node, addresses) = (Arc::clone(node), addresses.clone());
                // Who asked may go away: shards that are closed must not stay so in a node that runs.
                let giving_up = spawn("give up the cluster", async move {
                    let given_up = give_up(&node, &addresses).await;
                    if !matches!(given_up, Err(Kept::Closed)) {
                        let node = Arc::downgrade(&node);
                        spawn("start anew", async move {
                            sleep(ANSWER_TIME).await;
                            if let Some(node) = node.upgrade() {
                                node.anew.send_replace(true);
                            }
                        });
                    }
                    given_up
                });
                let given_up = giving_up.await.map_err(|error| error.to_string())?;
                return given_up.map_err(|kept| kept.to_string()).map(|()| {
                    "the node gives up its own cluster and joins: `cluster status` shows it when it has\n".to_owned()
                });
            }
            Err(error) => reasons.push(format!("{host}:{port}: {error}")),
        }
    }
    Err(format!("no cluster is there: {}", reasons.join("; ")))
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

/// Gives up the cluster of a lone node that is configured to join the one at `address`; why the node must stop, if it must.
async fn follow_configuration(node: &Node, addresses: &[Address], (host, port): &Address) -> Result<(), String> {
    let refused = |what: &str| {
        format!(
            "the node is configured to join the cluster at {host}:{port}, but its data directory is of another cluster and \
             holds {what}: take the address out of cluster.join, or give it an empty directory"
        )
    };
    let kept = match may_give_up(holds(node, None)) {
        Ok(()) => give_up(node, addresses).await,
        // Its shards are about to run.
        Err(Kept::Unknown) => return Ok(()),
        Err(kept) => Err(kept),
    };
    match kept {
        Ok(()) => {
            tracing::info!(host, port, "there is a cluster: this node gives up its own, which holds nothing");
            node.anew.send_replace(true);
        }
        Err(Kept::Closed) => {}
        Err(Kept::Holds(what)) => return Err(refused(what)),
        Err(kept @ Kept::Unknown) => {
            tracing::warn!("this node keeps its own cluster for now: {kept}");
            node.anew.send_replace(true);
        }
        Err(Kept::Unwritten(error)) => return Err(format!("the node cannot give up its own cluster: {error}")),
    }
    Ok(())
}

/// Looks until it is known whether the addresses that a lone node is configured to join at lead to another cluster than
/// its own: then it gives up its own, or stops when it has something to lose.
pub(crate) fn look_elsewhere(
    node: &Arc<Node>,
    addresses: Vec<Address>,
    failure: watch::Sender<Option<String>>,
) -> JoinHandle<()> {
    let node = Arc::clone(node);
    spawn("look for another cluster", async move {
        let mut told = String::new();
        loop {
            match other_cluster(&node, &addresses).await {
                Ok(None) => return,
                Ok(Some(address)) => {
                    if let Err(text) = follow_configuration(&node, &addresses, &address).await {
                        failure.send_modify(|failure| *failure = Some(text));
                        return;
                    }
                    if *node.anew.borrow() {
                        return;
                    }
                }
                Err(error) => {
                    let text = error.to_string();
                    if text != told {
                        tracing::info!(%error, "it is not known yet whether cluster.join leads to another cluster");
                        told = text;
                    }
                }
            }
            sleep(LOOK_PAUSE).await;
        }
    })
}
