//! What a node of several must not start with: a data directory that its cluster has no place for any more, one that
//! is of another cluster than those that its configuration names, or a copy of one that is in use.
//!
//! Nothing here waits for others to answer: a cluster's nodes start in any order, also when most of them are gone.

use std::fmt;
use std::sync::Arc;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, now, sleep, timeout};
use futures_util::future::{BoxFuture, Shared, join_all};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use record::NodeId;
use replica::{Lane, Replica};
use tokio::sync::watch;

use crate::errors::StartError;
use crate::host::Host;
use crate::join::Address;
use crate::peers::Peers;

/// How long a start that is through otherwise waits for addresses that do not answer.
const LOOK_WAIT_MAX: Duration = Duration::from_millis(500);
/// Pause between two looks whether the metadata says that the node is one of several.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a start waits at most until it is clear whether another process runs as its node.
const DOUBT_WAIT_MAX: Duration = Duration::from_secs(10);

/// Another cluster's node at one of the configured addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stranger {
    address: Address,
    cluster: u128,
}

/// One look at each of the configured addresses; it goes on whether somebody waits for it or not, for as long as calling a node
/// may take.
#[derive(Clone)]
pub(crate) struct Look(Shared<BoxFuture<'static, Option<Stranger>>>);

impl Look {
    /// Calls all `addresses` at once, if this node is of a cluster.
    pub(crate) fn start(peers: &Peers, addresses: &[Address]) -> Self {
        let me = peers.me();
        if me.cluster == 0 || addresses.is_empty() {
            return Self(std::future::ready(None).boxed().shared());
        }
        let (peers, addresses) = (peers.clone(), addresses.to_vec());
        let looking = spawn("look at cluster.join", async move {
            let called = addresses.into_iter().map(|address| {
                let peers = peers.clone();
                async move { (peers.who_is_at(&address.0, address.1).await, address) }
            });
            let mut called: FuturesUnordered<_> = called.collect();
            while let Some((answer, address)) = called.next().await {
                match answer {
                    Ok(welcome) if welcome.cluster != 0 && welcome.cluster != me.cluster => {
                        return Some(Stranger { address, cluster: welcome.cluster });
                    }
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "an address of cluster.join does not answer"),
                }
            }
            None
        });
        Self(async move { looking.await.ok().flatten() }.boxed().shared())
    }

    /// What was found, if that is known soon.
    pub(crate) async fn found_soon(&self) -> Option<Stranger> {
        timeout(LOOK_WAIT_MAX, self.0.clone()).await.ok().flatten()
    }

    /// Stops the node if something is found later.
    pub(crate) fn go_on(self, host: &Host, failure: watch::Sender<Option<String>>) -> JoinHandle<()> {
        let (path, cluster) = (host.data_dir.path().to_owned(), host.node.peers.me().cluster);
        spawn("late answers of cluster.join", async move {
            if let Some(stranger) = self.0.await {
                let text = stranger.refuses(path, cluster).to_string();
                failure.send_modify(|failure| *failure = Some(text));
            }
        })
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

impl Stranger {
    fn refuses(self, path: std::path::PathBuf, known: u128) -> StartError {
        let Self { address: (host, port), cluster } = self;
        StartError::OtherCluster { path, known, host, port, found: cluster }
    }

    /// Why the node whose directory it is cannot start.
    pub(crate) fn refuses_host(self, host: &Host) -> StartError {
        self.refuses(host.data_dir.path().to_owned(), host.node.peers.me().cluster)
    }
}

/// Whether all that the metadata's group has is this node.
pub(crate) fn is_alone(metadata: &Replica, node: NodeId) -> bool {
    let members = metadata.members();
    members.learners.is_empty() && members.voters.len() == 1 && members.voters[0].iter().eq([&node])
}

/// The cluster has no place for the node whose directory it is.
pub(crate) fn removed(host: &Host) -> StartError {
    StartError::Removed { node: host.data_dir.identity().node_id, path: host.data_dir.path().to_owned() }
}

/// Another process runs as the node whose directory it is, as another node says.
fn twin(host: &Host, said: String) -> StartError {
    let (node, path) = (host.data_dir.identity().node_id, host.data_dir.path().to_owned());
    StartError::Twin { node, path, said }
}

/// Why a node must not serve that others take for a second process of its kind. It waits only while some of them say so:
/// what they still know of this node's earlier process is gone soon.
pub(crate) async fn sole(host: &Host) -> Result<(), StartError> {
    let peers = &host.node.peers;
    let (certain, until) = (peers.twin(), now() + DOUBT_WAIT_MAX);
    while peers.is_doubted() && certain.borrow().is_none() && now() < until {
        sleep(PAUSE).await;
    }
    let Some(said) = certain.borrow().clone() else { return Ok(()) };
    // Nobody lets it in when the other one goes meanwhile.
    peers.close();
    Err(twin(host, said))
}

/// Stops the node when it turns out that another process runs as it.
pub(crate) fn stay_sole(host: &Arc<Host>, failure: watch::Sender<Option<String>>) -> JoinHandle<()> {
    let (weak, mut certain) = (Arc::downgrade(host), host.node.peers.twin());
    spawn("look for another process of the node", async move {
        let said = certain.wait_for(Option::is_some).await.ok().and_then(|said| said.clone());
        if let (Some(said), Some(host)) = (said, weak.upgrade()) {
            let text = twin(&host, said).to_string();
            failure.send_modify(|failure| *failure = Some(text));
        }
    })
}

/// Whether the cluster has removed this node, as far as the others answer soon: who may be one that was lost, and comes back
/// with others of its kind, asks before it serves.
pub(crate) async fn told_soon(peers: &Peers) -> bool {
    let asking = async {
        // The metadata is here; where the others are is about to be read from it.
        while peers.known().is_empty() {
            sleep(PAUSE).await;
        }
        join_all(peers.known().into_iter().map(|node| peers.link(node, Lane::Control))).await;
    };
    let _ = timeout(LOOK_WAIT_MAX, asking).await;
    *peers.removed().borrow()
}

/// Returns why a node must not start that waits for its cluster; never, where nothing is in the way.
pub(crate) async fn in_the_way(host: &Arc<Host>, look: &Look) -> StartError {
    let (mut told, mut certain) = (host.node.peers.removed(), host.node.peers.twin());
    let stranger = async {
        let Some(stranger) = look.0.clone().await else { return std::future::pending().await };
        let (me, joining) = (host.data_dir.identity().node_id, host.data_dir.joining().await.ok().flatten());
        // One that is alone may give up its cluster for the other.
        while joining.is_none() && host.node.metadata().is_none_or(|metadata| is_alone(&metadata, me)) {
            sleep(PAUSE).await;
        }
        stranger.refuses_host(host)
    };
    tokio::select! {
        _ = told.wait_for(|told| *told) => removed(host),
        said = async { certain.wait_for(Option::is_some).await.ok().and_then(|said| said.clone()) } => {
            twin(host, said.unwrap_or_default())
        }
        error = stranger => error,
    }
}
