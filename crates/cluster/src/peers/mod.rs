//! Connections between nodes.
//!
//! What holds here:
//! - a node opens two connections to each node that it has something to ask, for all shards
//!   together: one for votes, heartbeats and control, one for entries and forwarded commands, so that
//!   these never delay a heartbeat;
//! - before anything else both sides say which cluster, node and versions they are of; who is
//!   refused is told why, and nothing of it has changed any state;
//! - no two processes are let in as one node at the same time;
//! - what waits to be sent, and what was sent and has no answer, is bounded in bytes.
//!
//! Absent: what requests mean.

mod accept;
mod dial;
mod forward;
mod frame;
mod greeting;
mod handshake;
mod handshakes;
mod link;
mod listener;
mod lives;
mod member;
mod refusals;
mod twin;
mod window;

pub(crate) use accept::{Caller, Service};
pub(crate) use dial::Peers;
pub(crate) use frame::Subject;
pub(crate) use greeting::Me;
pub(crate) use handshake::too_old;
pub(crate) use listener::{Acquaintance, Gate, Listener};
pub(crate) use lives::Lives;

/// Reads whatever bytes as what another node may send, from the handshake to a proposal.
#[cfg(feature = "fuzzing")]
pub fn fuzz_peer_messages(input: &[u8]) {
    handshake::fuzz_handshakes(input);
    frame::fuzz_frames(input);
    let bytes = bytes::Bytes::copy_from_slice(input);
    let _ = crate::proposal::decode(&bytes);
    let _ = crate::proposal::decode_answer(bytes.clone());
    crate::reads::fuzz_reads(&bytes);
}

#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod tests;
