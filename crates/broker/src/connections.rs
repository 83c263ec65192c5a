//! The registry of client connections: who is connected, and whether one more may be.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// The longest text that is kept of what a client says about itself.
const TEXT_BYTES_MAX: usize = 256;

/// What is known about one connection. Protocols fill in the client's software when it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug)]
pub struct Connections {
    max: u32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next_id: u64,
    by_id: BTreeMap<u64, Connection>,
}

/// An open connection's place in the registry; it is given back on drop.
#[derive(Debug)]
pub struct Registration {
    connections: Arc<Connections>,
    id: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there are {max} connections already")]
pub struct TooManyConnections {
    pub max: u32,
}

impl Connections {
    pub(crate) fn new(max: u32) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::new(Open::default()) })
    }

    /// Takes a place, or refuses at the limit.
    pub fn register(
        self: &Arc<Self>,
        listener: &Arc<str>,
        protocol: &'static str,
        peer: SocketAddr,
    ) -> Result<Registration, TooManyConnections> {
        let mut open = self.open.lock();
        if open.by_id.len() >= self.max as usize {
            return Err(TooManyConnections { max: self.max });
        }
        let id = open.next_id;
        open.next_id += 1;
        let connection = Connection {
            id,
            peer,
            listener: Arc::clone(listener),
            protocol,
            client_id: None,
            software_name: None,
            software_version: None,
        };
        let before = open.by_id.insert(id, connection);
        assert!(before.is_none(), "a connection's number is its own");
        Ok(Registration { connections: Arc::clone(self), id })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.lock().by_id.len()
    }

    /// All, by id.
    pub fn list(&self) -> Vec<Connection> {
        self.open.lock().by_id.values().cloned().collect()
    }
}

impl Registration {
    /// Rises with every connection, never used twice.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Remembers what the client says about itself; long texts are cut.
    pub fn describe(&self, client_id: Option<&str>, software: Option<(&str, &str)>) {
        let mut open = self.connections.open.lock();
        let Some(connection) = open.by_id.get_mut(&self.id) else { return };
        if let Some(client_id) = client_id {
            connection.client_id = Some(cut(client_id));
        }
        if let Some((name, version)) = software {
            connection.software_name = Some(cut(name));
            connection.software_version = Some(cut(version));
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let removed = self.connections.open.lock().by_id.remove(&self.id);
        assert!(removed.is_some(), "a registration is given back once");
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SocketAddr {
        "127.0.0.1:1".parse().expect("an address")
    }

    #[test]
    fn a_connection_too_many_is_refused_until_one_is_closed() {
        let connections = Connections::new(2);
        let listener: Arc<str> = "plain".into();
        let one = connections.register(&listener, "kafka", peer()).expect("there is room");
        let _two = connections.register(&listener, "kafka", peer()).expect("there is room");
        let refused = connections.register(&listener, "kafka", peer());
        assert_eq!(refused.map(|r| r.id()), Err(TooManyConnections { max: 2 }));
        drop(one);
        let three = connections.register(&listener, "kafka", peer()).expect("there is room again");
        assert_eq!(three.id(), 2);
        assert_eq!(connections.count(), 2);
    }

    #[test]
    fn what_a_client_says_about_itself_is_kept_and_cut() {
        let connections = Connections::new(1);
        let one = connections.register(&"plain".into(), "kafka", peer()).expect("there is room");
        one.describe(Some(&"ä".repeat(1_000)), Some(("librdkafka", "2.0")));
        let listed = connections.list();
        assert_eq!(listed[0].client_id.as_deref().map(str::len), Some(256));
        assert_eq!(listed[0].software_name.as_deref(), Some("librdkafka"));
    }
}
