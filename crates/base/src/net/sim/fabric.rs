//! The hosts, the ways between them and the connections that go along these.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::SimNetworkOptions;
use super::pipe::Pipe;
use super::stream::SimStream;
use crate::random::{Random, SeededRandom};
use crate::time::Duration;

/// Ports that are given to who asks for none.
const EPHEMERAL_PORTS: (u16, u16) = (32_768, 60_999);
/// What was held back by a blocked way follows within this time: TCP tries again now and then.
const RESEND_MILLIS: u64 = 1_000;
/// Connections that wait to be accepted.
const BACKLOG_MAX: usize = 128;

#[derive(Debug)]
pub(super) struct Fabric {
    pub(super) random: SeededRandom,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) options: SimNetworkOptions,
    pub(super) names: BTreeMap<String, IpAddr>,
    pub(super) hosts: BTreeMap<IpAddr, HostState>,
    /// Ways that are closed, each in one direction.
    pub(super) blocked: BTreeSet<(IpAddr, IpAddr)>,
    pub(super) delays: BTreeMap<(IpAddr, IpAddr), Duration>,
    listeners: BTreeMap<SocketAddr, Arc<Backlog>>,
    /// By number, until the connection is dropped on both sides.
    connections: BTreeMap<u64, Ends>,
    next_connection: u64,
}

#[derive(Debug, Default)]
pub(super) struct HostState {
    is_off: bool,
    ports: u16,
}

/// Both directions of a connection.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    hosts: (IpAddr, IpAddr),
    there: Weak<Pipe>,
    back: Weak<Pipe>,
    /// The host that went off while it was connected.
    lost: Option<IpAddr>,
}

impl Ends {
    fn pipes(&self) -> impl Iterator<Item = Arc<Pipe>> {
        [self.there.upgrade(), self.back.upgrade()].into_iter().flatten()
    }

    fn is_over(&self) -> bool {
        self.there.strong_count() == 0 && self.back.strong_count() == 0
    }

    pub(super) fn reset(&self) {
        self.pipes().for_each(|pipe| pipe.reset());
    }

    pub(super) fn stick(&self) {
        self.pipes().for_each(|pipe| pipe.stick());
    }
}

/// Connections that were made and not accepted yet.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: Mutex<(VecDeque<SimStream>, Option<Waker>)>,
}

impl Backlog {
    pub(super) fn poll_take(&self, context: &mut Context<'_>) -> Poll<SimStream> {
        let mut waiting = self.waiting.lock();
        if let Some(stream) = waiting.0.pop_front() {
            return Poll::Ready(stream);
        }
        waiting.1 = Some(context.waker().clone());
        Poll::Pending
    }

    /// Whether there was room.
    fn put(&self, stream: SimStream) -> Result<(), SimStream> {
        let waker = {
            let mut waiting = self.waiting.lock();
            if waiting.0.len() >= BACKLOG_MAX {
                return Err(stream);
            }
            waiting.0.push_back(stream);
            waiting.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

impl State {
    fn is_off(&self, host: IpAddr) -> bool {
        self.hosts.get(&host).is_some_and(|host| host.is_off)
    }

    fn port_of(&mut self, host: IpAddr) -> u16 {
        let (first, last) = EPHEMERAL_PORTS;
        let ports = &mut self.hosts.entry(host).or_default().ports;
        *ports = (*ports + 1) % (last - first);
        first + *ports
    }
}

impl Fabric {
    pub(super) fn new(seed: u64, options: SimNetworkOptions) -> Self {
        let state = State { options, ..State::default() };
        Self { random: SeededRandom::new(seed), state: Mutex::new(state) }
    }

    /// How long the next piece is under way.
    pub(super) fn latency(&self, from: IpAddr, to: IpAddr) -> Duration {
        let state = self.state.lock();
        let (least, most) = state.options.latency;
        let spread = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        let extra = state.delays.get(&(from, to)).copied().unwrap_or_default();
        least + Duration::from_micros(self.random.below(spread.max(1))) + extra
    }

    pub(super) fn is_blocked(&self, from: IpAddr, to: IpAddr) -> bool {
        self.state.lock().blocked.contains(&(from, to))
    }

    pub(super) fn buffer_bytes(&self) -> usize {
        self.state.lock().options.buffer_bytes
    }

    pub(super) fn bytes_per_second(&self) -> u64 {
        self.state.lock().options.bytes_per_second.max(1)
    }

    pub(super) fn listen(&self, host: IpAddr, wanted: SocketAddr) -> io::Result<(SocketAddr, Arc<Backlog>)> {
        let mut state = self.state.lock();
        if state.is_off(host) {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        if wanted.ip() != host && !wanted.ip().is_unspecified() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = if wanted.port() == 0 { state.port_of(host) } else { wanted.port() };
        let address = SocketAddr::new(host, port);
        if state.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let backlog = Arc::<Backlog>::default();
        state.listeners.insert(address, Arc::clone(&backlog));
        Ok((address, backlog))
    }

    pub(super) fn unlisten(&self, address: SocketAddr, backlog: &Arc<Backlog>) {
        let mut state = self.state.lock();
        if state.listeners.get(&address).is_some_and(|known| Arc::ptr_eq(known, backlog)) {
            state.listeners.remove(&address);
        }
    }

    /// What `to` answers to a try to connect; nothing when it does not hear it, or is not heard.
    pub(super) fn try_connect(self: &Arc<Self>, from: IpAddr, to: SocketAddr) -> Option<io::Result<SimStream>> {
        let mut state = self.state.lock();
        if state.is_off(from) {
            return Some(Err(io::ErrorKind::NetworkUnreachable.into()));
        }
        let ways = [(from, to.ip()), (to.ip(), from)];
        if state.is_off(to.ip()) || ways.iter().any(|way| state.blocked.contains(way)) {
            return None;
        }
        let Some(backlog) = state.listeners.get(&to).cloned() else {
            return Some(Err(io::ErrorKind::ConnectionRefused.into()));
        };
        let number = state.next_connection;
        state.next_connection += 1;
        let local = SocketAddr::new(from, state.port_of(from));
        let there = Arc::new(Pipe::new(Arc::clone(self), 2 * number, from, to.ip()));
        let back = Arc::new(Pipe::new(Arc::clone(self), 2 * number + 1, to.ip(), from));
        let ends =
            Ends { hosts: (from, to.ip()), there: Arc::downgrade(&there), back: Arc::downgrade(&back), lost: None };
        state.connections.retain(|_, ends| !ends.is_over());
        state.connections.insert(number, ends);
        drop(state);
        let accepted = SimStream::new(Arc::clone(&there), Arc::clone(&back), local);
        if backlog.put(accepted).is_err() {
            return None;
        }
        Some(Ok(SimStream::new(back, there, to)))
    }

    pub(super) fn open(&self, from: IpAddr, to: IpAddr) {
        if !self.state.lock().blocked.remove(&(from, to)) {
            return;
        }
        for ends in self.all() {
            for pipe in ends.pipes() {
                if pipe.goes(from, to) {
                    pipe.resume(Duration::from_millis(self.random.below(RESEND_MILLIS)));
                } else if pipe.goes(to, from) {
                    pipe.acknowledge();
                }
            }
        }
    }

    fn all(&self) -> Vec<Ends> {
        self.state.lock().connections.values().cloned().collect()
    }

    pub(super) fn each_between(&self, one: IpAddr, other: IpAddr, call: impl Fn(&Ends)) {
        for ends in self.all() {
            if ends.hosts == (one, other) || ends.hosts == (other, one) {
                call(&ends);
            }
        }
    }

    pub(super) fn gone(&self, host: IpAddr, silently: bool) {
        let concerned: Vec<Ends> = {
            let mut state = self.state.lock();
            state.hosts.entry(host).or_default().is_off = silently;
            state.listeners.retain(|address, _| address.ip() != host);
            let mut concerned = Vec::new();
            for ends in state.connections.values_mut() {
                if ends.hosts.0 == host || ends.hosts.1 == host {
                    if silently {
                        ends.lost = Some(host);
                    }
                    concerned.push(ends.clone());
                }
            }
            concerned
        };
        for ends in concerned {
            if silently { ends.stick() } else { ends.reset() }
        }
    }

    pub(super) fn back(&self, host: IpAddr) {
        let lost: Vec<Ends> = {
            let mut state = self.state.lock();
            state.hosts.entry(host).or_default().is_off = false;
            state.connections.values().filter(|ends| ends.lost == Some(host)).cloned().collect()
        };
        lost.iter().for_each(Ends::reset);
    }
}
