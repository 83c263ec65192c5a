//! A network in memory that delays, holds back, cuts and swallows.
//!
//! A connection keeps what TCP keeps: bytes arrive in order and once, or the connection ends. How long
//! each piece takes is drawn anew, so that pieces of different connections overtake each other. While a
//! way is blocked nothing goes along it, and the bytes follow when it is open again, as they would be
//! sent again; a stuck connection never delivers another byte and says nothing. What a connection holds
//! is bounded, so that a reader who does not read, or cannot say that he has, stops the writer.

mod fabric;
mod pipe;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use self::fabric::{Backlog, Fabric};
use super::{Listener, Network, Stream};
use crate::time::{Duration, now, sleep};
use crate::trace;

pub use self::stream::{SimReadHalf, SimStream, SimWriteHalf};

/// How long the first try to connect is given; doubled with each further one.
const CONNECT_RETRY: Duration = Duration::from_secs(1);
/// A connection that nobody answers is given up.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(60);

/// What the network does besides delivering.
#[derive(Debug, Clone)]
pub struct SimNetworkOptions {
    /// A piece is under way for a time between these.
    pub latency: (Duration, Duration),
    /// Of one direction of a connection.
    pub bytes_per_second: u64,
    /// What one direction of a connection holds before its writer waits.
    pub buffer_bytes: usize,
}

impl Default for SimNetworkOptions {
    fn default() -> Self {
        Self {
            latency: (Duration::from_micros(200), Duration::from_millis(2)),
            bytes_per_second: 100 << 20,
            buffer_bytes: 256 << 10,
        }
    }
}

/// All of a simulated network: what connects its hosts, and what breaks between them. Clones share it.
#[derive(Debug, Clone)]
pub struct SimNetwork {
    fabric: Arc<Fabric>,
}

impl SimNetwork {
    #[must_use]
    pub fn new(seed: u64, options: SimNetworkOptions) -> Self {
        Self { fabric: Arc::new(Fabric::new(seed, options)) }
    }

    /// The network as one host sees it.
    #[must_use]
    pub fn host(&self, address: IpAddr) -> Arc<dyn Network> {
        self.fabric.state.lock().hosts.entry(address).or_default();
        Arc::new(Host { fabric: Arc::clone(&self.fabric), address })
    }

    /// Lets a host name resolve.
    pub fn name(&self, name: &str, address: IpAddr) {
        self.fabric.state.lock().names.insert(name.to_owned(), address);
    }

    pub fn set_options(&self, change: impl FnOnce(&mut SimNetworkOptions)) {
        change(&mut self.fabric.state.lock().options);
    }

    /// Lets nothing through from one host to another, until [`Self::open`]. The other direction is another way.
    pub fn block(&self, from: IpAddr, to: IpAddr) {
        self.fabric.state.lock().blocked.insert((from, to));
    }

    /// Opens a way again. What was held back follows within a second or so, as TCP sends it again.
    pub fn open(&self, from: IpAddr, to: IpAddr) {
        self.fabric.open(from, to);
    }

    /// Adds so much to the time that pieces from one host to another are under way.
    pub fn delay(&self, from: IpAddr, to: IpAddr, by: Duration) {
        self.fabric.state.lock().delays.insert((from, to), by);
    }

    /// Ends the connections between two hosts, which both see.
    pub fn reset(&self, one: IpAddr, other: IpAddr) {
        self.fabric.each_between(one, other, |connection| connection.reset());
    }

    /// Swallows what is and will be sent over the connections that two hosts have now. Neither is told.
    pub fn swallow(&self, one: IpAddr, other: IpAddr) {
        self.fabric.each_between(one, other, |connection| connection.stick());
    }

    /// The host's process is gone: its connections end, its ports are free.
    pub fn kill(&self, host: IpAddr) {
        self.fabric.gone(host, false);
    }

    /// The host is gone without a word: whoever is connected to it hears nothing until it is back.
    pub fn power_off(&self, host: IpAddr) {
        self.fabric.gone(host, true);
    }

    /// The host is back. What was connected to it before learns that now.
    pub fn power_on(&self, host: IpAddr) {
        self.fabric.back(host);
    }
}

/// One host's view.
struct Host {
    fabric: Arc<Fabric>,
    address: IpAddr,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.address)
    }
}

impl Network for Host {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (address, backlog) = self.fabric.listen(self.address, address)?;
            Ok(Box::new(SimListener { fabric: Arc::clone(&self.fabric), address, backlog }) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let deadline = now() + CONNECT_TIME_MAX;
            let mut retry = CONNECT_RETRY;
            loop {
                sleep(self.fabric.latency(self.address, address.ip())).await;
                if let Some(answer) = self.fabric.try_connect(self.address, address) {
                    sleep(self.fabric.latency(address.ip(), self.address)).await;
                    trace::event("connect", &[u64::from(address.port()), u64::from(answer.is_ok())]);
                    return answer.map(Stream::Sim);
                }
                if now() + retry > deadline {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                sleep(retry).await;
                retry *= 2;
            }
        })
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let known = self.fabric.state.lock().names.get(host).copied();
            let address = known.or_else(|| host.parse().ok());
            let address = address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))?;
            Ok(vec![SocketAddr::new(address, port)])
        })
    }
}

struct SimListener {
    fabric: Arc<Fabric>,
    address: SocketAddr,
    backlog: Arc<Backlog>,
}

impl fmt::Debug for SimListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimListener({})", self.address)
    }
}

impl Listener for SimListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        Box::pin(async move {
            let stream = poll_fn(|context| self.backlog.poll_take(context)).await;
            let peer = stream.peer_address();
            Ok((Stream::Sim(stream), peer))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.fabric.unlisten(self.address, &self.backlog);
    }
}
