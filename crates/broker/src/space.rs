//! What takes space on this node: what each partition has there, alive and dead, and what belongs to no topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::hash::FixedHashMap;
use base::task;
use cluster::METADATA;
use record::{ShardId, StreamId};
use replica::{Replica, ShardSpace};
pub use replica::{Taken, Work, WorkKind};

use crate::Broker;
use crate::topics::{EarlierRange, Topic};

/// All that was counted on this node.
#[derive(Debug)]
pub struct NodeSpace {
    shards: BTreeMap<ShardId, ShardSpace>,
    pub rest: Rest,
}

/// Bytes that belong to no topic.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// Batches of topics that are deleted: in the log.
    pub deleted_in_log: u64,
    /// And in objects.
    pub deleted_in_objects: u64,
    /// Of the log's files what no batch takes that is known: commands, what died before it was indexed, segments that are to be
    /// used again.
    pub log: u64,
    /// Of the objects' files what no batch takes: their indexes, and rounding.
    pub objects: u64,
    /// Index files of the log.
    pub indexes: u64,
    pub checkpoints: u64,
    /// Index files and objects that could not be read, and are not counted.
    pub unread: u64,
}

/// Long work that is under way on this node.
#[derive(Debug, Clone)]
pub struct RunningWork {
    pub work: Work,
    /// The one that it is for, if it is for one, and that is known.
    pub partition: Option<(Arc<str>, i32)>,
}

impl NodeSpace {
    /// What a partition has on this node, on its shard and where it was before.
    pub fn of(&self, topic: &Topic, index: i32) -> Taken {
        let partition = usize::try_from(index).ok().and_then(|index| topic.partitions.get(index));
        let mut taken = Taken::default();
        if let Some(partition) = partition {
            for shard in partition.earlier().iter().map(EarlierRange::shard).chain([partition.shard()]) {
                let counted = self.shards.get(&shard).and_then(|space| space.streams.get(&partition.stream));
                taken.add(&counted.copied().unwrap_or_default());
            }
        }
        taken
    }
}

impl Broker {
    /// Counts what takes space on this node: reads the indexes of all that lies here. One count is under way at a time.
    pub async fn space(&self) -> NodeSpace {
        let _turn = self.counting().lock().await;
        let mut shards = BTreeMap::new();
        for replica in self.all_replicas() {
            shards.insert(replica.shard_id(), replica.space().await);
        }
        let log_bytes = self.log_files_bytes().await;
        let rest = rest(&shards, log_bytes, &self.partitions_by_stream());
        NodeSpace { shards, rest }
    }

    /// The long work that is under way on this node, by shard.
    pub fn running_work(&self) -> Vec<RunningWork> {
        let work: Vec<Work> = self.all_replicas().iter().flat_map(Replica::long_work).collect();
        let is_of_one = work.iter().any(|work| work.stream.is_some());
        let known = if is_of_one { self.partitions_by_stream() } else { FixedHashMap::default() };
        let partition = |work: &Work| work.stream.and_then(|stream| known.get(&(work.shard, stream)).cloned());
        work.into_iter().map(|work| RunningWork { partition: partition(&work), work }).collect()
    }

    fn all_replicas(&self) -> Vec<Replica> {
        self.cluster().replica(METADATA).into_iter().chain(self.cluster().replicas()).collect()
    }

    /// Which partition a stream of a shard is of.
    fn partitions_by_stream(&self) -> FixedHashMap<(ShardId, StreamId), (Arc<str>, i32)> {
        let mut known = FixedHashMap::default();
        for topic in self.topics().all() {
            for (index, partition) in (0..).zip(&topic.partitions) {
                for shard in partition.earlier().iter().map(EarlierRange::shard).chain([partition.shard()]) {
                    known.insert((shard, partition.stream), (Arc::clone(&topic.name), index));
                }
            }
        }
        known
    }

    async fn log_files_bytes(&self) -> u64 {
        let (disk, path) = (Arc::clone(&self.environment().disk), self.cluster().log_dir());
        let files = task::offload(async move { disk.read_dir(&path) }).await;
        files.map_or(0, |files| files.iter().map(|file| file.len).sum())
    }
}

fn rest(
    shards: &BTreeMap<ShardId, ShardSpace>,
    log_bytes: u64,
    known: &FixedHashMap<(ShardId, StreamId), (Arc<str>, i32)>,
) -> Rest {
    let (mut rest, mut all, mut objects_bytes) = (Rest::default(), Taken::default(), 0_u64);
    for (shard, space) in shards {
        for (stream, taken) in &space.streams {
            all.add(taken);
            if !known.contains_key(&(*shard, *stream)) {
                rest.deleted_in_log += taken.in_log();
                rest.deleted_in_objects += taken.in_objects();
            }
        }
        objects_bytes += space.objects_bytes;
        rest.indexes += space.index_bytes;
        rest.checkpoints += space.checkpoint_bytes;
        rest.unread += space.unread;
    }
    // Bodies that several streams share are counted for each.
    rest.log = log_bytes.saturating_sub(all.in_log());
    rest.objects = objects_bytes.saturating_sub(all.in_objects());
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_topic_names_is_the_rest() {
        let taken = |live_in_log, dead_in_objects| Taken { live_in_log, dead_in_objects, ..Taken::default() };
        let mut space = ShardSpace { objects_bytes: 100, index_bytes: 7, checkpoint_bytes: 5, ..ShardSpace::default() };
        space.streams.insert(StreamId(1), taken(300, 20));
        space.streams.insert(StreamId(2), taken(40, 30));
        let mut known = FixedHashMap::default();
        known.insert((ShardId(1), StreamId(1)), (Arc::from("t"), 0));
        // The same stream on a shard where the topic has nothing.
        known.insert((ShardId(2), StreamId(2)), (Arc::from("t"), 1));
        let shards = [(ShardId(1), space)].into();
        let expected = Rest {
            deleted_in_log: 40,
            deleted_in_objects: 30,
            log: 1_000 - 340,
            objects: 50,
            indexes: 7,
            checkpoints: 5,
            unread: 0,
        };
        assert_eq!(rest(&shards, 1_000, &known), expected);
        assert_eq!(rest(&shards, 10, &known).log, 0);
    }
}
