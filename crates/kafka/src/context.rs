//! What a handler knows: the broker, the listener that was asked, and who asks.

use std::net::SocketAddr;
use std::sync::Arc;

use broker::Broker;
use broker::connections::Registration;
use bytes::Bytes;
use record::NodeId;
use tokio::sync::Semaphore;

use crate::damages::Damages;
use crate::endpoints::{Endpoints, Made};
use crate::frame::RequestMemory;
use crate::limits::Limits;
use crate::session::{SessionHandle, Sessions};
use crate::wire::produce::NodeEndpoint;

/// Topics being created because someone asked for them, at the same time.
const AUTO_CREATIONS_MAX: usize = 16;

/// What all connections of one listener share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) broker: Broker,
    pub(crate) listener: Arc<str>,
    /// What clients of this listener are told to dial.
    pub(crate) advertised: NodeEndpoint,
    endpoints: Made,
    pub(crate) cluster_id: String,
    pub(crate) limits: Limits,
    pub(crate) memory: RequestMemory,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) auto_creations: Arc<Semaphore>,
    pub(crate) damages: Damages,
}

impl Shared {
    pub(crate) fn new(
        broker: Broker,
        listener: Arc<str>,
        (host, port): (String, u16),
        limits: Limits,
        memory: RequestMemory,
        sessions: Arc<Sessions>,
    ) -> Self {
        let advertised = NodeEndpoint { id: node_id(broker.cluster().node_id()), host, port: port.into(), rack: None };
        let cluster_id = cluster_id_text(broker.cluster().cluster_id());
        let auto_creations = Arc::new(Semaphore::new(AUTO_CREATIONS_MAX));
        Self {
            broker,
            listener,
            advertised,
            endpoints: Made::default(),
            cluster_id,
            limits,
            memory,
            sessions,
            auto_creations,
            damages: Damages::default(),
        }
    }

    /// The nodes that clients of this listener can be sent to, as of now.
    pub(crate) fn endpoints(&self) -> Arc<Endpoints> {
        self.endpoints.of(self.broker.nodes(), &self.listener, &self.advertised)
    }

    /// Who leads the metadata, as far as clients can reach it; else this node: each forwards what only a leader can do.
    pub(crate) fn controller_id(&self, endpoints: &Endpoints) -> i32 {
        let leader = self.broker.controller().and_then(|node| endpoints.find(node));
        leader.map_or(self.advertised.id, |endpoint| endpoint.id)
    }
}

/// A node's id as clients know it.
pub(crate) fn node_id(node: NodeId) -> i32 {
    i32::try_from(node.0).expect("node ids are given out from 1 and stay below 2^31")
}

/// 128 bits the way Kafka writes them: base64 with the URL alphabet, without padding.
fn cluster_id_text(id: u128) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 128 bits and four zero bits make 22 times six.
    (0..22)
        .map(|digit| {
            let shift = 122 - 6 * digit;
            let six = if shift >= 0 { id >> shift } else { id << 4 };
            char::from(ALPHABET[(six & 63) as usize])
        })
        .collect()
}

/// One connection's side of every request on it.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    /// "/" and the peer's address, as Kafka names members' hosts.
    pub(crate) client_host: String,
    /// The client id of the request being served, in a buffer of its own.
    pub(crate) client_id: Option<Bytes>,
    pub(crate) registration: Registration,
    /// The client id that the registry has.
    described: Option<Bytes>,
    /// The fetch session that this connection used last.
    pub(crate) session: Option<SessionHandle>,
}

impl Context {
    pub(crate) fn new(shared: Arc<Shared>, peer: SocketAddr, registration: Registration) -> Self {
        Self {
            shared,
            client_host: format!("/{}", peer.ip()),
            client_id: None,
            registration,
            described: None,
            session: None,
        }
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.shared.broker
    }

    /// The client id as text; what is not UTF-8 is replaced.
    pub(crate) fn client_id_text(&self) -> String {
        self.client_id.as_deref().map(|id| String::from_utf8_lossy(id).into_owned()).unwrap_or_default()
    }

    /// Remembers who asks, and tells the registry when that is new.
    pub(crate) fn set_client_id(&mut self, client_id: Option<&[u8]>) {
        if client_id != self.described.as_deref() {
            self.described = client_id.map(Bytes::copy_from_slice);
            let text = client_id.map(String::from_utf8_lossy);
            self.registration.describe(text.as_deref(), None);
        }
        // A slice would keep the whole request until the next one comes.
        self.client_id = self.described.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_read_as_kafka_writes_them() {
        // java: new Uuid(...).toString() of the same 16 bytes.
        assert_eq!(cluster_id_text(0), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(cluster_id_text(1), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(cluster_id_text(u128::MAX), "_____________________w");
        let peers_kafka_0001 = u128::from_be_bytes(*b"peers-kafka-0001");
        assert_eq!(cluster_id_text(peers_kafka_0001), "cGVlcnMta2Fma2EtMDAwMQ");
    }
}
