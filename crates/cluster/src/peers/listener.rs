//! The listener for other nodes: who is let in, and what those are told who are not.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base::Env;
use base::net::{Listener as Socket, Stream};
use base::task::{JoinHandle, JoinSet, spawn};
use base::time::{Duration, sleep, timeout};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use record::NodeId;
use replica::Lane;
use tokio::sync::Semaphore;

use super::accept::{self, Caller, Service};
use super::greeting::Me;
use super::handshake::{Hello, Purpose, Refusal, VERSIONS, Welcome, common_version, too_old};
use super::handshakes::{Handshake, Handshakes};
use super::lives::Lives;

/// How long a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections at the same time; each node has two.
const CONNECTIONS_MAX: usize = 4_096;
/// Those of guests.
const GUESTS_MAX: usize = 64;
/// Callers of which it is known what they were refused with.
const TOLD_MAX: usize = 256;
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

    /// The processes that stand for other nodes.
    fn lives(&self) -> Lives;

    /// A node of the cluster that knows features of that level was let in.
    fn let_in(&self, node: NodeId, features: u32);

    /// What is to be done when a connection for control, of a node that was let in, has ended.
    fn hung_up(&self, node: NodeId) -> BoxFuture<'static, ()>;
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
            let handshakes = Handshakes::default();
            let guests = Arc::new(Semaphore::new(GUESTS_MAX));
            let told = Arc::<Told>::default();
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
                let handshake = handshakes.begin();
                let (gate, service, guests) = (Arc::clone(&gate), Arc::clone(&service), Arc::clone(&guests));
                let told = Arc::clone(&told);
                connections.spawn(async move {
                    let from = (address, &*told);
                    if let Err(error) = connection(stream, from, &*gate, service, handshake, &guests).await {
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

/// What callers were refused with last: one that calls again and again is told of once.
#[derive(Default)]
struct Told(Mutex<BTreeMap<(IpAddr, NodeId), String>>);

impl Told {
    /// Whether that caller was not refused with that text before.
    fn is_new(&self, caller: (IpAddr, NodeId), text: &str) -> bool {
        let mut told = self.0.lock();
        if told.get(&caller).is_some_and(|before| before == text) {
            return false;
        }
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        told.insert(caller, text.to_owned());
        true
    }

    /// That caller is let in.
    fn end(&self, caller: (IpAddr, NodeId)) {
        self.0.lock().remove(&caller);
    }
}

async fn connection(
    stream: Stream,
    (address, told): (SocketAddr, &Told),
    gate: &dyn Gate,
    service: Arc<dyn Service>,
    mut handshake: Handshake,
    guests: &Semaphore,
) -> io::Result<()> {
    let (mut read, mut write) = stream.into_split();
    let hello = tokio::select! {
        hello = timeout(HANDSHAKE_TIME_MAX, Hello::receive(&mut read)) => hello,
        // Said by who closes it, and not for each of many.
        () = handshake.pushed_out() => return Ok(()),
    };
    let hello = hello.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no handshake came"))??;
    let me = gate.me();
    let is_guest = hello.purpose == Purpose::Guest;
    let guest = is_guest.then(|| guests.try_acquire());
    let (version, mut refusal) = match judge(&hello, me, gate) {
        Ok(_) if matches!(guest, Some(Err(_))) => {
            (VERSIONS.1, Some((Refusal::Other, "too many guests are here".to_owned())))
        }
        Ok(version) => (version, None),
        Err(refusal) => (VERSIONS.1, Some(refusal)),
    };
    let mut presence = None;
    if !is_guest && refusal.is_none() {
        match gate.lives().enter(hello.node, hello.life, &address.to_string()).await {
            Ok(entered) => presence = Some(entered),
            Err(other) => {
                let (node, at) = (hello.node.0, &other.place);
                if other.is_news {
                    tracing::warn!(
                        node,
                        %at,
                        refused = %address,
                        "two processes run as one node, the second one is refused: is there a copy of the node's data directory?"
                    );
                }
                let text = format!("another process runs as node {node}, and is connected: that one is at {at}");
                refusal = Some((Refusal::Twin, text));
            }
        }
    }
    let Me { cluster, node, life, features } = me;
    let welcome = Welcome { refusal, version, features, cluster, node, life };
    let sent = timeout(HANDSHAKE_TIME_MAX, welcome.send(&mut write)).await;
    sent.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the handshake is not read"))??;
    let (ip, caller) = (address.ip(), (address.ip(), hello.node));
    if let Some((refusal, text)) = welcome.refusal {
        // Of one that dies meanwhile there is nothing to say, and of another one that was said.
        if refusal != Refusal::Twin && told.is_new(caller, &text) {
            tracing::info!(%ip, node = hello.node.0, ?refusal, "another node is refused, which is not said again: {text}");
        }
        return Ok(());
    }
    told.end(caller);
    drop(handshake);
    let node = (!is_guest).then_some(hello.node);
    if let Some(node) = node {
        gate.let_in(node, hello.features);
    }
    let caller = Caller { node, features: hello.features };
    let end = accept::serve(read, write, (caller, presence), service).await;
    if let Some(node) = node.filter(|_| hello.lane == Lane::Control) {
        gate.hung_up(node).await;
    }
    end
}

/// The version to speak, or why not at all.
fn judge(hello: &Hello, me: Me, gate: &dyn Gate) -> Result<u16, (Refusal, String)> {
    // Before all else, whomever it wants, as what, and whatever it speaks: it must not go on.
    let is_ours = hello.cluster != 0 && hello.cluster == me.cluster && hello.node != NodeId(0);
    if is_ours && gate.knows(hello.node) == Acquaintance::Removed {
        return Err((Refusal::Removed, format!("the cluster has removed node {} for good", hello.node.0)));
    }
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
        Acquaintance::Member | Acquaintance::Removed => Ok(version),
        Acquaintance::Unknown => {
            Err((Refusal::Unknown, format!("the cluster has no node {}: it never joined", hello.node.0)))
        }
    }
}
