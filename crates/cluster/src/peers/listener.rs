//! The listener for other nodes: who is let in, and what those are told who are not.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base::Env;
use base::net::{Listener as Socket, Stream};
use base::task::{JoinHandle, JoinSet, spawn};
use base::time::{Duration, sleep, timeout};
use record::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::accept::{self, Caller, Service};
use super::dial::Me;
use super::handshake::{Hello, Purpose, Refusal, VERSIONS, Welcome, common_version, too_old};

/// How long a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections at the same time; each node has two.
const CONNECTIONS_MAX: usize = 4_096;
/// Those of them that nobody has come in by yet.
const HANDSHAKES_MAX: usize = 256;
/// Those of guests.
const GUESTS_MAX: usize = 64;
/// How long accepting rests after it failed, for lack of file descriptors above all.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is known of a node that connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquaintance {
    Member,
    /// It may be one that others have just taken in.
    Unknown,
    /// It is gone for good.
    Removed,
}

/// Decides who is let in.
pub(crate) trait Gate: Send + Sync + 'static {
    /// Who this node is, as of now.
    fn me(&self) -> Me;

    /// How the cluster stands to that node. MUST be [`Acquaintance::Member`] while this node cannot know.
    fn knows(&self, node: NodeId) -> Acquaintance;

    /// The level of features that the cluster uses, as far as this node knows.
    fn feature_level(&self) -> u32;

    /// A node of the cluster that knows features of that level was let in.
    fn let_in(&self, node: NodeId, features: u32);
}

/// A bound socket that does not serve yet.
pub(crate) struct Listener {
    socket: Box<dyn Socket>,
}

impl Listener {
    pub(crate) async fn bind(env: &Env, address: SocketAddr) -> io::Result<Self> {
        Ok(Self { socket: env.network.listen(address).await? })
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_address()
    }

    /// Serves until the task is aborted; its connections end with it.
    pub(crate) fn serve(self, gate: Arc<dyn Gate>, service: Arc<dyn Service>) -> JoinHandle<()> {
        spawn("listener for nodes", async move {
            let mut connections = JoinSet::new();
            let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
            let guests = Arc::new(Semaphore::new(GUESTS_MAX));
            loop {
                let (stream, address) = match self.socket.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection of another node");
                        sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                while connections.try_join_next().is_some() {}
                if connections.len() >= CONNECTIONS_MAX {
                    tracing::warn!(%address, "too many connections of other nodes, this one is closed");
                    continue;
                }
                let Ok(handshake) = Arc::clone(&handshakes).try_acquire_owned() else {
                    tracing::warn!(%address, "too many connections without a handshake, this one is closed");
                    continue;
                };
                let (gate, service, guests) = (Arc::clone(&gate), Arc::clone(&service), Arc::clone(&guests));
                connections.spawn(async move {
                    if let Err(error) = connection(stream, &*gate, service, handshake, &guests).await {
                        tracing::info!(%address, %error, "a connection of another node ends");
                    }
                });
            }
        })
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.local_address().ok()).finish()
    }
}

async fn connection(
    stream: Stream,
    gate: &dyn Gate,
    service: Arc<dyn Service>,
    handshake: OwnedSemaphorePermit,
    guests: &Semaphore,
) -> io::Result<()> {
    let (mut read, mut write) = stream.into_split();
    let hello = timeout(HANDSHAKE_TIME_MAX, Hello::receive(&mut read)).await;
    let hello = hello.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no handshake came"))??;
    let me = gate.me();
    let is_guest = hello.purpose == Purpose::Guest;
    let guest = is_guest.then(|| guests.try_acquire());
    let (version, refusal) = match judge(&hello, me, gate) {
        Ok(_) if matches!(guest, Some(Err(_))) => {
            (VERSIONS.1, Some((Refusal::Other, "too many guests are here".to_owned())))
        }
        Ok(version) => (version, None),
        Err(refusal) => (VERSIONS.1, Some(refusal)),
    };
    let Me { cluster, node, life, features } = me;
    let welcome = Welcome { refusal, version, features, cluster, node, life };
    let sent = timeout(HANDSHAKE_TIME_MAX, welcome.send(&mut write)).await;
    sent.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the handshake is not read"))??;
    if let Some((refusal, text)) = welcome.refusal {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("refused as {refusal:?}: {text}")));
    }
    drop(handshake);
    let node = (!is_guest).then_some(hello.node);
    if let Some(node) = node {
        gate.let_in(node, hello.features);
    }
    accept::serve(read, write, Caller { node, features: hello.features }, service).await
}

/// The version to speak, or why not at all.
fn judge(hello: &Hello, me: Me, gate: &dyn Gate) -> Result<u16, (Refusal, String)> {
    let version = common_version(VERSIONS, hello.versions).ok_or_else(|| {
        let text = format!(
            "this node speaks the versions {} to {} of the protocol between nodes, the other one {} to {}",
            VERSIONS.0, VERSIONS.1, hello.versions.0, hello.versions.1
        );
        (Refusal::Version, text)
    })?;
    if hello.wanted != NodeId(0) && hello.wanted != me.node {
        let text = format!("here is node {}, not node {}", me.node.0, hello.wanted.0);
        return Err((Refusal::Node, text));
    }
    let level = gate.feature_level();
    let is_old = hello.features < level;
    // Operators' commands come as guests without a cluster, and what they ask has no level; one that wants to join is
    // told when it asks. A node of another cluster must know that before it gives up its own.
    if is_old && (hello.purpose == Purpose::Member || hello.cluster != 0) {
        return Err((Refusal::Features, too_old(level, hello.features)));
    }
    if hello.purpose == Purpose::Guest {
        return Ok(version);
    }
    if hello.cluster != me.cluster {
        let text = format!(
            "this node is of the cluster {:032x}, the other one of {:032x}: it has another cluster's data directory",
            me.cluster, hello.cluster
        );
        return Err((Refusal::Cluster, text));
    }
    if hello.node == NodeId(0) {
        return Err((Refusal::Unknown, "no node has the id 0".to_owned()));
    }
    if hello.node == me.node {
        let text = format!("node {} is here: two processes use copies of one data directory", me.node.0);
        return Err((Refusal::Node, text));
    }
    match gate.knows(hello.node) {
        Acquaintance::Member => Ok(version),
        Acquaintance::Unknown => {
            Err((Refusal::Unknown, format!("the cluster has no node {}: it never joined", hello.node.0)))
        }
        Acquaintance::Removed => {
            Err((Refusal::Removed, format!("the cluster has removed node {} for good", hello.node.0)))
        }
    }
}
