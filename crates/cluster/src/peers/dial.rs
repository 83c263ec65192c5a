//! The ways to other nodes: opened when something is to be asked, opened anew when they broke.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use base::Env;
use base::task::spawn;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::{Mutex, RwLock};
use record::NodeId;
use replica::Lane;
use shard::{FIRST_FEATURE_LEVEL, NodeAddress};
use storage::data_dir::Contact;
use tokio::sync::watch;

use super::greeting::{DialError, Me, REMOVED, dial, greet};
use super::handshake::{Purpose, Refusal, Welcome, too_old};
use super::link::Link;
use super::lives::Lives;
use super::refusals::Refusals;
use super::twin::Twin;

/// The ways to other nodes. Clones are the same.
#[derive(Clone)]
pub(crate) struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    me: RwLock<Me>,
    addresses: RwLock<BTreeMap<NodeId, NodeAddress>>,
    /// Nodes that this one does not talk to, whatever the metadata says.
    lost: RwLock<BTreeSet<NodeId>>,
    links: Mutex<Links>,
    levels: Mutex<Levels>,
    refusals: Refusals,
    lives: Lives,
    twin: Twin,
    /// Another node said that the cluster has removed this one.
    removed: watch::Sender<bool>,
}

/// Levels of features, as far as connections are concerned.
struct Levels {
    /// The cluster's, as far as it is known here.
    cluster: u32,
    /// What the others said that they know, each when it was last connected.
    known: BTreeMap<NodeId, u32>,
}

#[derive(Default)]
struct Links {
    ways: BTreeMap<(NodeId, Lane), Way>,
    /// Counts what was dialed.
    dialed: u64,
    closed: bool,
}

type Dialing = Shared<BoxFuture<'static, Result<Link, Arc<io::Error>>>>;

enum Way {
    /// With its number: one that was given up meanwhile changes nothing.
    Dialing(u64, Dialing),
    Open(Link),
}

impl Peers {
    pub(crate) fn new(env: Env, me: Me) -> Self {
        let inner = Inner {
            env,
            me: RwLock::new(me),
            addresses: RwLock::default(),
            lost: RwLock::default(),
            links: Mutex::default(),
            levels: Mutex::new(Levels { cluster: FIRST_FEATURE_LEVEL, known: BTreeMap::new() }),
            refusals: Refusals::default(),
            lives: Lives::default(),
            twin: Twin::default(),
            removed: watch::Sender::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn me(&self) -> Me {
        *self.inner.me.read()
    }

    /// The node is one of a cluster's from now on.
    pub(crate) fn set_me(&self, cluster: u128, node: NodeId) {
        let mut me = self.inner.me.write();
        (me.cluster, me.node) = (cluster, node);
    }

    /// Closes the connections to a node: the next call opens others.
    pub(crate) fn call_anew(&self, node: NodeId) {
        let mut links = self.inner.links.lock();
        for lane in [Lane::Control, Lane::Bulk] {
            if let Some(Way::Open(link)) = links.ways.remove(&(node, lane)) {
                link.close("it is called anew");
            }
        }
    }

    /// A node that was let in, or let this one in, knows features of that level.
    pub(crate) fn note_features(&self, node: NodeId, features: u32) {
        self.inner.levels.lock().known.insert(node, features);
    }

    /// A node of the cluster was let in, that knows features of that level.
    pub(crate) fn let_in(&self, node: NodeId, features: u32) {
        self.note_features(node, features);
        // It is there, and may have thought otherwise when it was called.
        self.inner.refusals.call_again(node);
    }

    /// What a node said when it was last connected.
    pub(crate) fn features_of(&self, node: NodeId) -> Option<u32> {
        self.inner.levels.lock().known.get(&node).copied()
    }

    /// The cluster uses features of that level from now on. Connections to nodes that know less are closed.
    pub(crate) fn set_feature_level(&self, level: u32) {
        let behind: Vec<NodeId> = {
            let mut levels = self.inner.levels.lock();
            levels.cluster = levels.cluster.max(level);
            levels.known.iter().filter(|(_, known)| **known < level).map(|(node, _)| *node).collect()
        };
        for node in behind {
            self.call_anew(node);
        }
    }

    /// Becomes true when the cluster has removed this node.
    pub(crate) fn removed(&self) -> watch::Receiver<bool> {
        self.inner.removed.subscribe()
    }

    /// The processes that stand for other nodes.
    pub(crate) fn lives(&self) -> Lives {
        self.inner.lives.clone()
    }

    /// Whether some node says that another process runs as this one.
    pub(crate) fn is_doubted(&self) -> bool {
        self.inner.twin.is_said()
    }

    /// Becomes what another node says, when it has been saying for long that another process runs as this node.
    pub(crate) fn twin(&self) -> watch::Receiver<Option<String>> {
        self.inner.twin.certain()
    }

    /// The other nodes whose addresses are known.
    pub(crate) fn known(&self) -> Vec<NodeId> {
        self.inner.addresses.read().keys().copied().collect()
    }

    /// Where other nodes are reached.
    pub(crate) fn contacts(&self) -> Vec<Contact> {
        let addresses = self.inner.addresses.read();
        let contact = |(node, address): (&NodeId, &NodeAddress)| {
            let NodeAddress { host, port, .. } = address.clone();
            Contact { node: *node, host, port }
        };
        addresses.iter().map(contact).collect()
    }

    /// These nodes are gone for good, also if they should be there: none of them gets an address.
    pub(crate) fn set_lost(&self, lost: BTreeSet<NodeId>) {
        assert!(lost.iter().all(|node| !self.inner.addresses.read().contains_key(node)), "nothing was sent to them");
        *self.inner.lost.write() = lost;
    }

    /// Whether that node is one of those.
    pub(crate) fn is_lost(&self, node: NodeId) -> bool {
        self.inner.lost.read().contains(&node)
    }

    /// Whether there are any of those.
    pub(crate) fn are_some_lost(&self) -> bool {
        !self.inner.lost.read().is_empty()
    }

    /// Where other nodes are reached from now on. Connections to those that moved or went are closed.
    pub(crate) fn set_addresses(&self, mut addresses: BTreeMap<NodeId, NodeAddress>) {
        addresses.retain(|node, _| !self.is_lost(*node));
        let before = std::mem::replace(&mut *self.inner.addresses.write(), addresses.clone());
        let moved: Vec<_> = before.iter().filter(|(node, address)| addresses.get(node) != Some(address)).collect();
        for (node, NodeAddress { host, port, .. }) in &moved {
            self.inner.twin.end(**node);
            if self.inner.refusals.end(**node) {
                tracing::info!(
                    node = node.0,
                    host,
                    port,
                    "the node, which was refused there, is not called there any more"
                );
            }
        }
        let mut links = self.inner.links.lock();
        for (node, _) in moved {
            for lane in [Lane::Control, Lane::Bulk] {
                if let Some(Way::Open(link)) = links.ways.remove(&(*node, lane)) {
                    link.close("the node has another address");
                }
            }
        }
    }

    /// An open connection to `node`. When one has to be opened, everybody who asks meanwhile waits
    /// for the same.
    pub(crate) async fn link(&self, node: NodeId, lane: Lane) -> io::Result<Link> {
        let dialing = {
            let mut links = self.inner.links.lock();
            match links.ways.get(&(node, lane)) {
                _ if links.closed => return Err(io::Error::new(io::ErrorKind::NotConnected, "this node stops")),
                Some(Way::Open(link)) if !link.is_closed() => return Ok(link.clone()),
                Some(Way::Dialing(_, dialing)) => dialing.clone(),
                Some(Way::Open(_)) | None => {
                    if let Some(refused) = self.inner.refusals.held_back(node) {
                        return Err(refused);
                    }
                    links.dialed += 1;
                    let number = links.dialed;
                    let dialing = self.dial_in_background(node, lane, number);
                    links.ways.insert((node, lane), Way::Dialing(number, dialing.clone()));
                    dialing
                }
            }
        };
        dialing.await.map_err(|error| io::Error::new(error.kind(), error.to_string()))
    }

    /// An open connection, if there is one: for what must be sent at once or not at all.
    pub(crate) fn open_link(&self, node: NodeId, lane: Lane) -> Option<Link> {
        match self.inner.links.lock().ways.get(&(node, lane)) {
            Some(Way::Open(link)) if !link.is_closed() => Some(link.clone()),
            _ => None,
        }
    }

    /// Dials whether somebody waits to the end or not: callers have deadlines of their own.
    fn dial_in_background(&self, node: NodeId, lane: Lane, number: u64) -> Dialing {
        let peers = self.clone();
        let dial = spawn("dial a node", async move {
            let dialed = peers.dial(node, lane).await;
            let mut links = peers.inner.links.lock();
            let wanted = matches!(links.ways.get(&(node, lane)), Some(Way::Dialing(known, _)) if *known == number);
            match dialed {
                Ok(link) if wanted => {
                    links.ways.insert((node, lane), Way::Open(link.clone()));
                    Ok(link)
                }
                Ok(link) => {
                    drop(links);
                    link.close("the node has another address, or this one stops");
                    Err(Arc::new(io::Error::from(io::ErrorKind::ConnectionAborted)))
                }
                Err(error) => {
                    if wanted {
                        links.ways.remove(&(node, lane));
                    }
                    Err(Arc::new(error))
                }
            }
        });
        let ended = |_| Arc::new(io::Error::other("dialing was ended"));
        async move { dial.await.map_err(ended).and_then(|dialed| dialed) }.boxed().shared()
    }

    async fn dial(&self, node: NodeId, lane: Lane) -> io::Result<Link> {
        let address = self.inner.addresses.read().get(&node).cloned();
        let Some(NodeAddress { host, port, .. }) = address else {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("node {} has no known address", node.0)));
        };
        let hello = self.me().hello(lane, Purpose::Member, node);
        let dialed = dial(&self.inner.env, (&host, port), hello, &self.inner.lives).await;
        let error = match dialed.and_then(|dialed| self.check_level((node, &host, port), dialed)) {
            Ok(link) => {
                self.inner.twin.end(node);
                if self.inner.refusals.end(node) {
                    tracing::info!(node = node.0, host, port, "the node lets this one in again");
                }
                return Ok(link);
            }
            Err(DialError::Unreached(error)) => {
                self.inner.twin.end(node);
                self.inner.refusals.call_again(node);
                return Err(error);
            }
            Err(DialError::Refused(error)) => error,
        };
        self.hear_removal(&error);
        // Of one that has moved meanwhile nothing is remembered.
        let is_there = self.inner.addresses.read().get(&node).is_some_and(|now| now.host == host && now.port == port);
        if is_there {
            self.inner.twin.refused(node, &error);
        }
        if is_there && self.inner.refusals.refused(node, &error) {
            tracing::warn!(
                node = node.0,
                "no way to another node: {error}; it is called now and then, this is not said again"
            );
        }
        Err(error)
    }

    /// The connection, if the node knows what the cluster uses.
    fn check_level(
        &self,
        (node, host, port): (NodeId, &str, u16),
        (link, welcome): (Link, Welcome),
    ) -> Result<Link, DialError> {
        // What it said counts in any case: who asks why the level does not rise is told.
        self.note_features(node, welcome.features);
        let level = self.inner.levels.lock().cluster;
        if welcome.features >= level {
            return Ok(link);
        }
        link.close("the node is too old");
        let text = format!("node {node} at {host}:{port} cannot take part: {}", too_old(level, welcome.features));
        Err(DialError::Refused(io::Error::new(io::ErrorKind::ConnectionRefused, text)))
    }

    /// Opens a connection to whoever listens at an address, to ask what a guest may.
    pub(crate) async fn dial_as_guest(&self, host: &str, port: u16) -> io::Result<(Link, Welcome)> {
        let dialed = dial(&self.inner.env, (host, port), self.me().guest_hello(), &self.inner.lives).await;
        dialed.map_err(io::Error::from).inspect_err(|error| self.hear_removal(error))
    }

    /// Who listens at an address, also if it would not let this node in.
    pub(crate) async fn who_is_at(&self, host: &str, port: u16) -> io::Result<Welcome> {
        let welcome = greet(&self.inner.env, (host, port), &self.me().guest_hello()).await?.2;
        if matches!(welcome.refusal, Some((Refusal::Removed, _))) {
            self.inner.removed.send_replace(true);
        }
        Ok(welcome)
    }

    fn hear_removal(&self, error: &io::Error) {
        if error.kind() == REMOVED {
            self.inner.removed.send_replace(true);
        }
    }

    /// Closes every connection, and opens no other.
    pub(crate) fn close(&self) {
        let ways = {
            let mut links = self.inner.links.lock();
            links.closed = true;
            std::mem::take(&mut links.ways)
        };
        for way in ways.into_values() {
            if let Way::Open(link) = way {
                link.close("this node stops");
            }
        }
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("me", &self.me()).finish_non_exhaustive()
    }
}
