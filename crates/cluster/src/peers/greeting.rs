//! Opening one connection to another node: who calls, what the other one says to that, and whether it is the one that
//! was called.

use std::io;

use base::Env;
use base::net::{ReadHalf, WriteHalf};
use base::time::{Duration, timeout};
use record::NodeId;
use replica::Lane;

use super::handshake::{Hello, Purpose, Refusal, VERSIONS, Welcome, common_version};
use super::link::Link;
use super::lives::Lives;

/// The kind of the error when the cluster has removed this node.
pub(super) const REMOVED: io::ErrorKind = io::ErrorKind::PermissionDenied;
/// The kind of the error when the other one says that another process runs as this node.
pub(super) const TWIN: io::ErrorKind = io::ErrorKind::AlreadyExists;
/// How long connecting and the handshake may take.
const DIAL_TIME_MAX: Duration = Duration::from_secs(2);

/// Who this node is to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Me {
    pub(crate) cluster: u128,
    pub(crate) node: NodeId,
    /// Another one for every start of the process.
    pub(crate) life: u64,
    /// The level of features that it knows.
    pub(crate) features: u32,
}

impl Me {
    pub(super) fn hello(self, lane: Lane, purpose: Purpose, wanted: NodeId) -> Hello {
        let Self { cluster, node, life, features } = self;
        Hello { versions: VERSIONS, lane, purpose, features, cluster, node, life, wanted }
    }

    /// To whoever answers.
    pub(super) fn guest_hello(self) -> Hello {
        self.hello(Lane::Control, Purpose::Guest, NodeId(0))
    }
}

/// Why there is no connection.
pub(super) enum DialError {
    /// No node has answered.
    Unreached(io::Error),
    /// One has, and it is no way to the one that was wanted.
    Refused(io::Error),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        Self::Unreached(error)
    }
}

impl From<DialError> for io::Error {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Unreached(error) | DialError::Refused(error) => error,
        }
    }
}

/// Opens the connection that `hello` wants: to the process that stands for the other node, if it is wanted as a node.
pub(super) async fn dial(
    env: &Env,
    (host, port): (&str, u16),
    hello: Hello,
    lives: &Lives,
) -> Result<(Link, Welcome), DialError> {
    let (read, write, welcome) = greet(env, (host, port), &hello).await?;
    if let Some((refusal, text)) = &welcome.refusal {
        let text = format!("{host}:{port} refuses this node: {text}");
        let kind = match refusal {
            Refusal::Removed => REMOVED,
            Refusal::Twin => TWIN,
            _ => io::ErrorKind::ConnectionRefused,
        };
        return Err(DialError::Refused(io::Error::new(kind, text)));
    }
    let is_wanted = (welcome.cluster, welcome.node) == (hello.cluster, hello.wanted);
    let is_known = hello.purpose == Purpose::Guest || is_wanted;
    if !is_known || common_version(VERSIONS, (welcome.version, welcome.version)).is_none() {
        let text = format!("{host}:{port} answers as another node than the one that was called");
        return Err(DialError::Refused(io::Error::new(io::ErrorKind::InvalidData, text)));
    }
    if hello.purpose == Purpose::Guest {
        return Ok((Link::start(read, write, None), welcome));
    }
    let (node, place) = (welcome.node, format!("{host}:{port}"));
    let presence = lives.enter(node, welcome.life, &place).await.map_err(|other| {
        let text = format!(
            "at {place} is another process than the one at {} that is connected as node {node}: one of them runs on a copy \
             of the other one's data directory",
            other.place
        );
        DialError::Refused(io::Error::new(io::ErrorKind::InvalidData, text))
    })?;
    Ok((Link::start(read, write, Some(presence)), welcome))
}

/// Connects and says who calls; with what the other one says to that.
pub(super) async fn greet(
    env: &Env,
    (host, port): (&str, u16),
    hello: &Hello,
) -> io::Result<(ReadHalf, WriteHalf, Welcome)> {
    let dialing = async {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        let addresses = env.network.resolve(host, port).await?;
        // One that swallows everything leaves the others their time.
        let share = DIAL_TIME_MAX / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        for address in addresses {
            let connected = timeout(share, env.network.connect(address)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    let (mut read, mut write) = stream.into_split();
                    hello.send(&mut write).await?;
                    let welcome = Welcome::receive(&mut read).await.map_err(|error| no_welcome(host, port, error))?;
                    return Ok((read, write, welcome));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    match timeout(DIAL_TIME_MAX, dialing).await {
        Ok(dialed) => dialed,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{host}:{port} does not answer"))),
    }
}

/// What listens at an address does not speak as nodes do.
fn no_welcome(host: &str, port: u16, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
            let text = format!("{host}:{port} is no port for nodes, which cluster.listen names: {error}");
            io::Error::new(error.kind(), text)
        }
        _ => error,
    }
}
