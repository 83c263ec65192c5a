//! A broker in a temporary directory, and short words for what tests do with it.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::Poll;

use base::Env;
use base::time::Duration;
use broker::fetch::{FetchPartition, FetchRequest, FetchedPartition, Isolation};
use broker::produce::{ProduceError, Produced};
use broker::topics::{CreateTopic, PartitionRef};
use broker::{Broker, Config};
use bytes::Bytes;
use cluster::Cluster;
use record::{BatchBuilder, Compression, TimestampMs};

/// A node that can be stopped and started again on the same directory.
pub(crate) struct Node {
    directory: tempfile::TempDir,
    pub(crate) broker: Broker,
    config: Config,
    is_cold: bool,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(Config { group_initial_rebalance_delay_ms: 0, ..Config::default() }).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        Self::open(config, false).await
    }

    /// A node that keeps nothing of its log in memory, so that all is read from files.
    pub(crate) async fn cold() -> Self {
        Self::open(Config::default(), true).await
    }

    async fn open(config: Config, is_cold: bool) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let broker = open(&directory, config.clone(), is_cold).await;
        Self { directory, broker, config, is_cold }
    }

    /// Stops in order and starts again.
    pub(crate) async fn restart(self) -> Self {
        self.restart_after(|_| {}).await
    }

    /// Stops in order, lets `change` at the files of the log, and starts again.
    pub(crate) async fn restart_after(self, change: impl FnOnce(&Path)) -> Self {
        let Self { directory, broker, config, is_cold } = self;
        broker.shutdown().await;
        broker.cluster().shutdown().await;
        drop(broker);
        change(&directory.path().join("log"));
        let broker = open(&directory, config.clone(), is_cold).await;
        Self { directory, broker, config, is_cold }
    }

    pub(crate) async fn create(&self, name: &str, partitions: i32) {
        self.create_with(name, partitions, &[]).await;
    }

    pub(crate) async fn create_with(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))).collect();
        let topic = CreateTopic { configs, ..topic(name, partitions) };
        let created = self.broker.topics().create(vec![topic], false).await;
        created[0].as_ref().expect("the topic is created");
    }

    pub(crate) fn partition(&self, name: &str, index: i32) -> PartitionRef {
        self.broker.topics().partition(name, index).expect("the partition exists")
    }

    pub(crate) async fn produce(&self, partition: &PartitionRef, values: &[&[u8]]) -> Result<Produced, ProduceError> {
        self.broker.produce(partition, batch(values)).await
    }

    /// One look at one partition, without waiting.
    pub(crate) async fn look(&self, partition: &PartitionRef, offset: i64) -> FetchedPartition {
        let mut request = fetch(vec![from(partition, offset)]);
        request.wait_max = Duration::ZERO;
        self.broker.fetch(request).await.partitions.remove(0)
    }
}

async fn open(directory: &tempfile::TempDir, config: Config, is_cold: bool) -> Broker {
    let mut cluster = cluster::Config::new(directory.path().to_owned());
    cluster.shards = 2;
    cluster.segment_bytes = 4 << 20;
    cluster.reserve_bytes = 1 << 20;
    if is_cold {
        (cluster.log_memory_bytes, cluster.read_cache_bytes) = (1, 0);
    }
    let cluster = Box::pin(Cluster::start(Env::real(), cluster)).await.expect("the cluster starts");
    Broker::start(Env::real(), cluster, config)
}

pub(crate) fn topic(name: &str, partitions: i32) -> CreateTopic {
    CreateTopic {
        name: name.to_owned(),
        partitions,
        replication_factor: -1,
        assignments: Vec::new(),
        configs: Vec::new(),
    }
}

pub(crate) fn now_ms() -> i64 {
    Env::real().wall_clock.now_ms()
}

/// A batch with these values and the time now.
pub(crate) fn batch(values: &[&[u8]]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.push(TimestampMs(now_ms()), None, Some(value), &[]).expect("the record fits");
    }
    builder.build().expect("a batch with records")
}

pub(crate) fn from(partition: &PartitionRef, offset: i64) -> FetchPartition {
    FetchPartition {
        partition: partition.clone(),
        fetch_offset: offset,
        bytes_max: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
    }
}

/// A fetch that waits for one byte, in fact for ever.
pub(crate) fn fetch(partitions: Vec<FetchPartition>) -> FetchRequest {
    FetchRequest {
        partitions,
        bytes_min: 1,
        bytes_max: 50 << 20,
        wait_max: Duration::from_secs(600),
        isolation: Isolation::ReadUncommitted,
    }
}

/// Base offsets of what was found.
pub(crate) fn offsets(found: &FetchedPartition) -> Vec<i64> {
    found.batches.iter().map(|batch| batch.base_offset.0).collect()
}

/// The future has nothing to say although everyone else had time to work.
pub(crate) async fn assert_waits<F: Future>(mut future: Pin<&mut F>) {
    for _ in 0..100 {
        let polled = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await;
        assert!(polled, "it does not wait");
        base::task::yield_now().await;
    }
}
