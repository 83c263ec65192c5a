//! The registry of client connections: who is connected, and whether one more may be.

use std::net::SocketAddr;
use std::sync::Arc;

/// What is known about one connection. Protocols fill in the client's software when it says so.
#[derive(Debug, Clone)]
pub struct Connection {
    pub id: u64,
    pub peer: SocketAddr,
    /// Name of the listener that accepted it.
    pub listener: Arc<str>,
    pub protocol: &'static str,
    pub client_id: Option<String>,
    pub software_name: Option<String>,
    pub software_version: Option<String>,
}

/// All connections of this node.
#[derive(Debug, Default)]
pub struct Connections {}

/// An open connection's place in the registry; it is given back on drop.
#[derive(Debug)]
pub struct Registration {}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are {max} connections already")]
pub struct TooManyConnections {
    pub max: u32,
}

impl Connections {
    /// Takes a place, or refuses at the limit.
    pub fn register(
        self: &Arc<Self>,
        listener: &Arc<str>,
        protocol: &'static str,
        peer: SocketAddr,
    ) -> Result<Registration, TooManyConnections> {
        let _ = (listener, protocol, peer);
        todo!()
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        todo!()
    }

    /// All, by id.
    pub fn list(&self) -> Vec<Connection> {
        todo!()
    }
}

impl Registration {
    pub fn id(&self) -> u64 {
        todo!()
    }

    /// Remembers what the client says about itself.
    pub fn describe(&self, client_id: Option<&str>, software: Option<(&str, &str)>) {
        let _ = (client_id, software);
        todo!()
    }
}
