//! What this node holds on its disk.

use std::path::PathBuf;
use std::sync::Arc;

use base::task;

use crate::Broker;
use crate::topics::{Partition, Topic};

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

    /// The partitions of a topic of which this node has a copy, or one of records that they have elsewhere, by index.
    pub fn partitions_here(&self, topic: &Topic) -> Vec<i32> {
        let is_here = |partition: &Partition| {
            partition.replica().is_some() || partition.earlier().iter().any(|range| range.replica().is_some())
        };
        let here = (0..).zip(&topic.partitions).filter(|(_, partition)| is_here(partition));
        here.map(|(index, _)| index).collect()
    }
}
