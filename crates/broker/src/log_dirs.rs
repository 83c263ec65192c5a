//! What this node holds on its disk.

use std::path::PathBuf;
use std::sync::Arc;

use base::task;
use replica::Replica;

use crate::Broker;
use crate::topics::{EarlierRange, Topic};

/// The directory of the commit log, which all partitions share.
#[derive(Debug, Clone)]
pub struct LogDir {
    pub path: PathBuf,
    /// Of the file system; none if it does not say.
    pub space: Option<Space>,
}

#[derive(Debug, Clone, Copy)]
pub struct Space {
    pub total_bytes: u64,
    pub usable_bytes: u64,
}

impl Broker {
    /// The one directory there is.
    pub async fn log_dir(&self) -> LogDir {
        let path = self.cluster().log_dir();
        let (disk, asked) = (Arc::clone(&self.environment().disk), path.clone());
        // Asking a file system may take long.
        let free = task::offload(async move { disk.free_bytes(&asked) }).await;
        let space = free.ok().map(|free| Space { total_bytes: free.total, usable_bytes: free.available });
        LogDir { path, space }
    }

    /// The partitions of a topic of which this node has a copy, or one of records that they have elsewhere, by index, and how
    /// many bytes their batches take here; of those in `wanted`, if some are named.
    pub async fn partitions_here(&self, topic: &Topic, wanted: Option<&[i32]>) -> Vec<(i32, u64)> {
        let mut found = Vec::new();
        for (index, partition) in (0..).zip(&topic.partitions) {
            let replicas = partition.earlier().iter().map(EarlierRange::replica).chain([partition.replica()]);
            let replicas: Vec<Replica> = replicas.flatten().collect();
            if replicas.is_empty() || wanted.is_some_and(|wanted| !wanted.contains(&index)) {
                continue;
            }
            let mut bytes = 0;
            for replica in replicas {
                // A copy that does not have it yet, or cannot tell, has nothing.
                bytes += self.sizes().of(self.cluster(), &replica, partition.stream).await.unwrap_or(0);
            }
            found.push((index, bytes));
        }
        found
    }
}
