//! Ids for idempotent producers, in blocks from the metadata group, never handed out twice.

use cluster::Cluster;
use record::{ProducerEpoch, ProducerId};
use tokio::sync::Mutex;

use crate::Broker;

/// Ids that a node takes at once. Those left at a stop are never used.
const BLOCK_IDS: u32 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitProducerError {
    /// May be repeated.
    #[error("no block of producer ids can be had now: {0}")]
    Unavailable(String),
}

/// The rest of the block that is being handed out.
#[derive(Debug)]
pub(crate) struct ProducerIds {
    cluster: Cluster,
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster, block: Mutex::new(0..0) }
    }

    async fn next(&self) -> Result<ProducerId, InitProducerError> {
        // Whoever finds the block used up fetches the next one for all who wait.
        let mut block = self.block.lock().await;
        if block.is_empty() {
            let fresh = self.cluster.allocate_producer_ids(BLOCK_IDS).await;
            let fresh = fresh.map_err(|error| InitProducerError::Unavailable(error.to_string()))?;
            assert!(fresh.count > 0 && fresh.first.0 >= block.end, "blocks of ids rise");
            *block = fresh.first.0..fresh.first.0.saturating_add(i64::from(fresh.count));
        }
        let id = block.start;
        block.start += 1;
        Ok(ProducerId(id))
    }
}

impl Broker {
    /// A fresh id with epoch 0, whatever the producer had before: as in Kafka, a producer without transactions that
    /// lost its place begins anew, so that nobody can fence another producer by naming its id.
    pub async fn init_producer(&self) -> Result<ProducerIdentity, InitProducerError> {
        let id = self.producer_ids().next().await?;
        Ok(ProducerIdentity { id, epoch: ProducerEpoch(0) })
    }
}
