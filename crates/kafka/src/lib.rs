//! The Kafka protocol: bytes on a socket to operations of the broker, and their results to bytes.
//!
//! In reading order: [`handshake`] says what is spoken, `frame` takes requests out of a socket, `connection` orders
//! them, `handlers` has one file per request, `session` keeps fetch sessions, `wire` encodes and decodes, `errors` gives
//! every error of the broker its code, [`listener`] accepts connections.
//!
//! What is kept true: responses of a connection leave in the order of its requests; no bytes a client sends make this
//! crate panic or hold memory without bound; payload is neither copied on its way in (one read) nor on its way out.
//!
//! Absent: semantics. What a topic, an offset or a group is, the broker knows.

mod connection;
mod context;
mod damages;
mod endpoints;
mod errors;
mod frame;
mod handlers;
pub mod handshake;
pub mod limits;
pub mod listener;
mod session;
mod wire;

pub use frame::RequestMemory;
pub use limits::Limits;
pub use listener::{Advertised, Listener, ListenerConfig, Service};
pub use session::cache::Sessions;

/// Decodes `bytes` as a request, header and body, as a connection would, and throws the result away. For fuzzing.
#[doc(hidden)]
pub fn decode_any(bytes: &bytes::Bytes) -> bool {
    handlers::decode_any(bytes)
}
