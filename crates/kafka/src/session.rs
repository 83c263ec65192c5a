//! Fetch sessions (KIP-227): a reader names its partitions once and from then on only what changed, and is answered
//! only what changed.
//!
//! What is kept true: the number of sessions and of partitions in all of them together is bounded; who finds no place
//! is answered session id 0 and goes on with full requests. A session's own lock is only ever contended by clients
//! that use one session on two connections; the cache's lock is taken when sessions come and go.

pub(crate) mod cache;
mod state;

pub(crate) use cache::{SessionHandle, Sessions};
pub(crate) use state::{Change, Session};

/// The epoch of a request that opens a session.
pub(crate) const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that wants no session, or closes the one it names.
pub(crate) const FINAL_EPOCH: i32 = -1;

/// The epoch after `epoch`: never 0 again.
pub(crate) const fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests;
