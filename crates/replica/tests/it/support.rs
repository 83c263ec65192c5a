//! A node of one shard, for tests: its commit log and its replica, on whatever disk.

use std::path::Path;
use std::sync::Arc;

use base::Env;
use bytes::Bytes;
use record::{BatchBuilder, BatchSummary, Compression, NodeId, ShardId, StreamId, StreamOffset, TimestampMs, validate};
use replica::{
    Alone, Config, Fetched, Founding, InstallParts, Pace, Parts, ProposeError, Replica, StartError, Transport,
};
use shard::commands::{CreateStreams, NewStream};
use shard::{AppendError, Appended, Outcome};
use smallvec::smallvec;
use storage::checkpoint::CheckpointStore;
use storage::index_file::IndexStore;
use storage::object::{DiskStore, Objects};
use storage::{CommitLog, InstallMarker, Options, Recovered};

pub(crate) const SHARD: ShardId = ShardId(1);

pub(crate) struct Node {
    pub(crate) log: CommitLog,
    pub(crate) replica: Replica,
}

/// What a replica is started on.
pub(crate) struct Files {
    pub(crate) log: CommitLog,
    checkpoints: CheckpointStore,
    pub(crate) index: IndexStore,
    marker: InstallMarker,
}

impl Files {
    pub(crate) async fn open(env: &Env, dir: &Path, options: Options) -> Result<Self, String> {
        let (files, recovered) = Self::open_damaged(env, dir, options).await?;
        for shard in recovered {
            assert!(shard.damage.is_empty(), "{:?}", shard.damage);
        }
        Ok(files)
    }

    async fn open_damaged(env: &Env, dir: &Path, options: Options) -> Result<(Self, Vec<Recovered>), String> {
        let (log, recovered) = CommitLog::open(Arc::clone(&env.disk), &dir.join("log"), options)
            .await
            .map_err(|error| format!("{error:?}"))?;
        let checkpoints = CheckpointStore::open(Arc::clone(&env.disk), &dir.join("checkpoints"))
            .await
            .map_err(|error| error.to_string())?;
        let store = Arc::new(DiskStore::new(Arc::clone(&env.disk), dir.to_owned()));
        let objects =
            Objects::open(store, "objects".into(), SHARD, 1 << 20).await.map_err(|error| error.to_string())?;
        let index = IndexStore::open(Arc::clone(&env.disk), &dir.join("index"), 1 << 20, objects)
            .await
            .map_err(|error| error.to_string())?;
        let marker = InstallMarker::new(Arc::clone(&env.disk), &dir.join("INSTALLING"));
        Ok((Self { log, checkpoints, index, marker }, recovered))
    }

    pub(crate) fn install_parts(&self) -> InstallParts {
        InstallParts {
            log: self.log.shard(SHARD),
            checkpoints: self.checkpoints.clone(),
            index: self.index.clone(),
            marker: self.marker.clone(),
        }
    }

    pub(crate) async fn start(&self, env: &Env, config: Config) -> Result<Replica, StartError> {
        self.start_member(env, config, Arc::new(Alone), Founding::Alone).await
    }

    pub(crate) async fn start_member(
        &self,
        env: &Env,
        config: Config,
        transport: Arc<dyn Transport>,
        founding: Founding,
    ) -> Result<Replica, StartError> {
        let parts = Parts {
            log: self.log.shard(SHARD),
            disk_state: self.log.disk_state(),
            checkpoints: self.checkpoints.clone(),
            index: self.index.clone(),
            pace: Arc::new(Pace::new(None, 1 << 20).scrubbing(256 << 20, base::time::Duration::from_secs(1))),
            transport,
            founding,
        };
        Box::pin(Replica::start(env.clone(), config, parts)).await
    }
}

pub(crate) fn options() -> Options {
    Options {
        segment_bytes: 4 << 20,
        memory_bytes: 1 << 20,
        reserve_bytes: 0,
        ready_segments: 1,
        fill_bytes_per_second: 0,
        ..Options::default()
    }
}

pub(crate) fn config() -> Config {
    Config::new(NodeId(1), SHARD)
}

impl Node {
    pub(crate) async fn start(env: &Env, dir: &Path, options: Options, config: Config) -> Self {
        Self::try_start(env, dir, options, config).await.expect("the node starts")
    }

    pub(crate) async fn try_start(env: &Env, dir: &Path, options: Options, config: Config) -> Result<Self, String> {
        let files = Files::open(env, dir, options).await?;
        let replica = files.start(env, config).await.map_err(|error| format!("{error:?}"))?;
        Ok(Self { log: files.log, replica })
    }

    /// Starts whatever the log says of damage; errors as an operator sees them.
    pub(crate) async fn start_damaged(env: &Env, dir: &Path, options: Options, config: Config) -> Result<Self, String> {
        let (files, _) = Files::open_damaged(env, dir, options).await?;
        match files.start(env, config).await {
            Ok(replica) => Ok(Self { log: files.log, replica }),
            Err(error) => {
                files.log.close().await;
                Err(error.to_string())
            }
        }
    }

    pub(crate) async fn stop(self) {
        self.replica.shutdown().await;
        self.log.close().await;
    }

    pub(crate) async fn create_streams(&self, count: u64) {
        self.create_streams_of(&(1..=count).collect::<Vec<_>>()).await;
    }

    pub(crate) async fn create_streams_of(&self, ids: &[u64]) {
        let stream = |id: &u64| NewStream {
            id: StreamId(*id),
            epoch_start: record::LeaderEpoch(0),
            first_offset: StreamOffset(0),
        };
        let streams = ids.iter().map(stream).collect();
        let outcome = self.replica.propose(CreateStreams { streams }.into()).await.expect("proposed");
        let Outcome::CreateStreams(results) = outcome else { panic!("another outcome") };
        assert!(results.iter().all(Result::is_ok));
    }

    pub(crate) async fn append(&self, stream: u64, batch: &Batch) -> Result<Appended, AppendFailure> {
        append(&self.replica, stream, batch).await
    }

    /// Every batch of the stream, read in fetches of `bytes_max`.
    pub(crate) async fn read_all(&self, stream: u64, bytes_max: usize) -> Vec<(i64, Bytes)> {
        let read = self.read_left(stream, bytes_max).await;
        let mut next = 0;
        for (base_offset, bytes) in &read {
            assert_eq!(*base_offset, next, "offsets are dense");
            next += i64::from(record::BatchHeader::parse(bytes).expect("a batch").record_count);
        }
        read
    }

    /// Every batch that is left of the stream.
    pub(crate) async fn read_left(&self, stream: u64, bytes_max: usize) -> Vec<(i64, Bytes)> {
        let mut from = StreamOffset(0);
        let mut read = Vec::new();
        loop {
            let fetched = self.replica.fetch(StreamId(stream), from, bytes_max, true).await.expect("fetched");
            let Fetched { batches, next_offset, .. } = fetched;
            if from == next_offset {
                assert!(batches.is_empty());
                return read;
            }
            assert!(!batches.is_empty(), "at least one batch is given");
            for batch in batches {
                assert!(batch.base_offset >= from, "offsets rise");
                from = StreamOffset(batch.base_offset.0 + i64::from(batch.record_count));
                let mut bytes = Vec::new();
                for chunk in batch.chunks {
                    bytes.extend_from_slice(&chunk.into_bytes().await.expect("read"));
                }
                assert_eq!(bytes.len(), batch.bytes as usize);
                read.push((batch.base_offset.0, Bytes::from(bytes)));
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AppendFailure {
    Propose(ProposeError),
    Refused(AppendError),
}

pub(crate) async fn append(replica: &Replica, stream: u64, batch: &Batch) -> Result<Appended, AppendFailure> {
    let outcome = replica
        .append(smallvec![StreamId(stream)], batch.summary, batch.bytes.clone())
        .await
        .map_err(AppendFailure::Propose)?;
    let Outcome::Append(results) = outcome else { panic!("another outcome") };
    results[0].clone().map_err(AppendFailure::Refused)
}

/// A checked batch.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) summary: BatchSummary,
    pub(crate) bytes: Bytes,
}

/// A batch of `records` records that carry `text` and together about `bytes` bytes.
pub(crate) fn batch(text: &str, records: usize, bytes: usize, time: i64) -> Batch {
    batch_of(None, text, records, bytes, time)
}

/// The same with a key.
pub(crate) fn batch_of(key: Option<&[u8]>, text: &str, records: usize, bytes: usize, time: i64) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    for number in 0..records {
        let mut value = format!("{text}/{number}/").into_bytes();
        value.resize(value.len().max(bytes / records), b'.');
        let number = i64::try_from(number).expect("few");
        builder.push(TimestampMs(time + number), key, Some(&value), &[]).expect("fits");
    }
    let bytes = builder.build().expect("a batch");
    let summary = validate(&bytes).expect("valid");
    Batch { summary, bytes }
}

/// The text of the first record of a batch made by [`batch`].
pub(crate) fn text(bytes: &Bytes) -> String {
    let mut records = record::records(bytes, record::Limits::default()).expect("a batch");
    let first = records.next().expect("a record").expect("readable");
    let value = first.value.expect("a value");
    let text = String::from_utf8_lossy(&value).into_owned();
    text.split('/').next().expect("a text").to_owned()
}
