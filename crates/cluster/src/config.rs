//! What a node is told at its start.

use std::net::SocketAddr;
use std::path::PathBuf;

use base::time::Duration;
use shard::NodeAddress;

/// The settings of this node's part of the cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything lies.
    pub data_dir: PathBuf,
    /// Where other nodes connect; nowhere when absent.
    pub listen: Option<SocketAddr>,
    /// Host and port that other nodes are told; the bound address when absent.
    pub advertised: Option<(String, u16)>,
    /// Where a node without data looks for a cluster: hosts and ports. Empty founds one.
    pub join: Vec<(String, u16)>,
    /// How fast this node pulls what it lacks, over all of a shard; unlimited when absent.
    pub catch_up_bytes_per_second: Option<u64>,
    /// Where the node stands: replicas of a shard spread over racks.
    pub rack: Option<String>,
    /// Where clients reach this node, by listener.
    pub addresses: Vec<NodeAddress>,
    /// The level of features that the node says it knows. Tests lower it; a node that runs knows what its program does.
    #[doc(hidden)]
    pub features_known: u32,
    /// Data shards made at the first start; 0 takes the number of cores. Later starts keep what
    /// there is.
    pub shards: usize,
    /// Bytes of a segment file of the commit log.
    pub segment_bytes: u64,
    /// How long shards may differ in their numbers of streams, when none came, before streams move.
    pub balance_wait: Duration,
    /// Segment files in which nothing lives are kept to be used again up to so many.
    pub ready_segments: usize,
    /// Free space that is never used for data.
    pub reserve_bytes: u64,
    /// What the log's tail may hold in memory.
    pub log_memory_bytes: usize,
    /// What readers behind the tail may hold in memory.
    pub read_cache_bytes: usize,
    /// What may wait for its entry on this node, divided over its shards.
    pub queue_bytes_max: usize,
    /// What a shard keeps of its log behind its checkpoint for members that were away, at most.
    pub log_keep_bytes: u64,
    /// The newest so many bytes of the node's log stay as they are; what lives of older ones is put into objects.
    pub log_hot_bytes: u64,
    /// Old ranges of a shard's log with fewer bytes wait for others.
    pub object_bytes_min: u64,
    /// How fast objects are written, over all shards; unlimited when absent.
    pub object_bytes_per_second: Option<u64>,
    /// What the keys of a stream that is compacted may take; one is at a time.
    pub compaction_memory_bytes: u64,
    /// How fast what lies here is read again and again to find damage, over all shards; not at all if none.
    pub scrub_bytes_per_second: Option<u64>,
    /// Each shard is read so at most once in this time.
    pub scrub_interval: Duration,
    /// What was applied is in a checkpoint after this time, however little it is.
    pub checkpoint_age_max: Duration,
    /// How many pairs of an idempotent producer and a stream it writes to a shard remembers.
    pub producers_per_shard_max: u32,
    /// How long a producer is remembered after its last batch.
    pub producer_expiration_ms: i64,
}

/// The most data shards that a node makes: beyond it the shared log loses batching.
pub const SHARDS_MAX: usize = 64;

impl Config {
    /// The defaults, with everything in `data_dir`.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            listen: None,
            advertised: None,
            join: Vec::new(),
            catch_up_bytes_per_second: None,
            rack: None,
            addresses: Vec::new(),
            features_known: shard::FEATURE_LEVEL,
            shards: 0,
            segment_bytes: 256 << 20,
            balance_wait: Duration::from_secs(600),
            ready_segments: 1,
            reserve_bytes: 1 << 30,
            log_memory_bytes: 64 << 20,
            read_cache_bytes: 32 << 20,
            queue_bytes_max: 64 << 20,
            log_keep_bytes: 1 << 30,
            log_hot_bytes: 4 << 30,
            object_bytes_min: 256 << 20,
            object_bytes_per_second: None,
            compaction_memory_bytes: 128 << 20,
            scrub_bytes_per_second: None,
            scrub_interval: Duration::from_secs(7 * 24 * 60 * 60),
            checkpoint_age_max: Duration::from_secs(30),
            producers_per_shard_max: 100_000,
            producer_expiration_ms: 24 * 60 * 60 * 1_000,
        }
    }

    /// How many data shards a first start makes.
    pub(crate) fn data_shards(&self) -> usize {
        let wanted = if self.shards == 0 {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        } else {
            self.shards
        };
        wanted.clamp(1, SHARDS_MAX)
    }
}
