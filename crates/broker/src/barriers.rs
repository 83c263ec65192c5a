//! The proofs of one request that this node leads what it answers for.

use std::collections::BTreeMap;

use record::ShardId;
use replica::{ProposeError, Replica};

/// Of each shard that a request asks about it is found out once whether this node leads it and has all that was
/// committed before. It MUST be made after the request came.
#[derive(Debug, Default)]
pub struct Barriers {
    passed: BTreeMap<ShardId, Result<(), ProposeError>>,
}

impl Barriers {
    pub(crate) async fn pass(&mut self, replica: &Replica) -> Result<(), ProposeError> {
        let shard = replica.shard_id();
        if let Some(known) = self.passed.get(&shard) {
            return known.clone();
        }
        let passed = replica.read_barrier().await;
        self.passed.insert(shard, passed.clone());
        passed
    }
}
