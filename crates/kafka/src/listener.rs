//! Accepting connections: limits, and an end that is clean.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base::Env;
use base::task::JoinSet;
use base::time::{Duration, sleep, timeout};
use broker::Broker;
use broker::connections::Registration;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::connection::Connection;
use crate::context::{Context, Shared};
use crate::frame::RequestMemory;
use crate::limits::Limits;
use crate::session::Sessions;

/// How long accepting rests after it failed, for lack of file descriptors above all.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One place where clients connect.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    pub name: String,
    pub address: SocketAddr,
    /// What clients that came here are told to dial; the bound address when absent.
    pub advertised: Option<Advertised>,
}

/// A host and port as clients reach them. Port 0 stands for the bound one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    pub host: String,
    pub port: u16,
}

/// A bound socket that does not serve yet.
#[derive(Debug)]
pub struct Listener {
    name: Arc<str>,
    socket: Box<dyn base::net::Listener>,
    local: SocketAddr,
    advertised: Advertised,
}

/// What all listeners of a node serve.
#[derive(Debug, Clone)]
pub struct Service {
    pub broker: Broker,
    pub limits: Limits,
    /// Shared by all listeners: one bound on what requests hold.
    pub memory: RequestMemory,
    /// Shared by all listeners: a session's id names it on each.
    pub sessions: Arc<Sessions>,
}

impl Service {
    /// `request_bytes` of the process's memory are for requests; what answers hold is the broker's to count.
    #[must_use]
    pub fn new(env: &Env, broker: Broker, limits: Limits, request_bytes: usize) -> Self {
        let sessions = Arc::new(Sessions::new(
            limits.fetch_sessions_max,
            limits.fetch_session_partitions_max,
            Arc::clone(&env.random),
        ));
        Self { broker, limits, memory: RequestMemory::new(request_bytes), sessions }
    }
}

impl Listener {
    /// Takes the address.
    ///
    /// # Errors
    /// As bind(2) and listen(2).
    pub async fn bind(env: &Env, config: ListenerConfig) -> io::Result<Self> {
        let socket = env.network.listen(config.address).await?;
        let local = socket.local_address()?;
        let mut advertised =
            config.advertised.unwrap_or_else(|| Advertised { host: local.ip().to_string(), port: local.port() });
        if advertised.port == 0 {
            advertised.port = local.port();
        }
        Ok(Self { name: config.name.into(), socket, local, advertised })
    }

    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    #[must_use]
    pub const fn advertised(&self) -> &Advertised {
        &self.advertised
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Serves until `shutdown` says true, then lets every connection answer what it has taken and ends.
    pub async fn serve(self, service: Service, mut shutdown: watch::Receiver<bool>) {
        let drain_max = service.limits.drain_max;
        let shared = Arc::new(Shared::new(
            service.broker,
            Arc::clone(&self.name),
            (self.advertised.host.clone(), self.advertised.port),
            service.limits,
            service.memory,
            service.sessions,
        ));
        let peers = Arc::new(Peers::default());
        let mut connections = JoinSet::new();
        while !*shutdown.borrow_and_update() {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Some((place, registration)) = admit(&shared, &peers, peer) {
                            let context = Context::new(Arc::clone(&shared), peer, registration);
                            let connection = Connection::new(context, stream, peer, shutdown.clone());
                            spawn_connection(&mut connections, connection, place);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(listener = %self.name, %error, "a connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = connections.join_next(), if !connections.is_empty() => {}
                changed = shutdown.changed() => if changed.is_err() { break },
            }
        }
        drop(self.socket);
        let drained = timeout(drain_max, async { while connections.join_next().await.is_some() {} }).await;
        if drained.is_err() {
            tracing::warn!(listener = %self.name, connections = connections.len(), "connections are cut: they did not end in time");
            connections.shutdown().await;
        }
    }
}

fn spawn_connection(connections: &mut JoinSet<()>, connection: Connection, place: Place) {
    connections.spawn(async move {
        connection.run().await;
        drop(place);
    });
}

/// Open connections by address.
#[derive(Debug, Default)]
struct Peers {
    counts: Mutex<BTreeMap<IpAddr, u32>>,
}

/// One connection's place among those of its address.
#[derive(Debug)]
struct Place {
    peers: Arc<Peers>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.counts.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// A place for a new connection, unless a limit is reached.
fn admit(shared: &Shared, peers: &Arc<Peers>, peer: SocketAddr) -> Option<(Place, Registration)> {
    let place = peers.enter(peer.ip(), shared.limits.connections_per_ip_max).or_else(|| {
        tracing::warn!(listener = %shared.listener, %peer, max = shared.limits.connections_per_ip_max, "refused: too many connections from one address");
        None
    })?;
    match shared.broker.connections().register(&shared.listener, "kafka", peer) {
        Ok(registration) => Some((place, registration)),
        Err(error) => {
            tracing::warn!(listener = %shared.listener, %peer, %error, "refused");
            None
        }
    }
}

impl Peers {
    fn enter(self: &Arc<Self>, address: IpAddr, max: u32) -> Option<Place> {
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { peers: Arc::clone(self), address })
    }
}
