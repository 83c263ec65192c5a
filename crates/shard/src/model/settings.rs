//! The bounds of a shard's own state. They are state themselves, because they decide what `apply` does.

use crate::codec::wire_struct;

/// Changed by [`Configure`](crate::commands::Configure) only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pairs of stream and producer that are remembered.
    pub producers_max: u32,
    /// A producer that was silent for so long, by the shard's time, is forgotten.
    pub producer_expiry_ms: i64,
    /// When `producers_max` is reached, the producer that was silent longest is forgotten early, if it was silent for
    /// at least this long; a batch of a new producer is refused otherwise. Longer than clients retry a batch.
    pub producer_idle_ms_min: i64,
    pub streams_max: u32,
    /// Batches whose index was not sealed yet.
    pub unsealed_batches_max: u32,
    /// Large batches whose last part has not arrived.
    pub uploads_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            producers_max: 100_000,
            producer_expiry_ms: 24 * 60 * 60 * 1000,
            producer_idle_ms_min: 10 * 60 * 1000,
            streams_max: 4_000_000,
            unsealed_batches_max: 4_000_000,
            uploads_max: 4_096,
        }
    }
}

wire_struct!(Settings {
    producers_max: u32,
    producer_expiry_ms: i64,
    producer_idle_ms_min: i64,
    streams_max: u32,
    unsealed_batches_max: u32,
    uploads_max: u32,
});
