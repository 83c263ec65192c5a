//! Ids for idempotent producers, in blocks from the metadata group, never handed out twice.

use record::{ProducerEpoch, ProducerId};

use crate::Broker;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitProducerError {
    #[error("no block of producer ids could be allocated yet")]
    Unavailable,
}

impl Broker {
    /// A fresh id with epoch 0, or, for a producer that asks for a new epoch of its id (KIP-360), that id with
    /// the next epoch; a fresh id when its epochs are used up.
    pub async fn init_producer(
        &self,
        current: Option<ProducerIdentity>,
    ) -> Result<ProducerIdentity, InitProducerError> {
        let _ = current;
        todo!()
    }
}
