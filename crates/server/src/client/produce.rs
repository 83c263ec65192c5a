//! `rosettamq produce`: each line of standard input becomes a record, stored exactly once and in order per partition.
//!
//! A batch is sent again with the same sequence numbers until it is acknowledged, so that a lost answer makes no
//! duplicate. Lines are gathered while a request is on its way; when the input pauses, what there is is sent at once.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use base::random::{OsRandom, Random as _};
use base::time::{RealWallClock, WallClock as _};
use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProducerId};
use record::{BatchBuilder, Compression, ProducerEpoch, ProducerStamp, Sequence, TimestampMs};

use super::cluster::{Cluster, Leader, leaders, pause, topic_name};
use super::fetch::no_partition;
use super::lines::{Lines, read_lines};
use super::progress::Progress;
use super::{error_text, is_retriable, partitioner};
use crate::cli::{CompressionArg, ProduceArgs};

/// Below Kafka's default limit of a batch, 1,048,588 bytes. A line that is longer makes a batch of its own.
const BATCH_BYTES: usize = 1_000_000;
/// Records of one request, over all its partitions.
const REQUEST_BYTES: usize = 8 << 20;
const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;

pub(super) async fn run(args: ProduceArgs) -> anyhow::Result<()> {
    let mut producer = Producer::start(&args).await?;
    let mut blocks = read_lines()?;
    let mut progress = Progress::start(args.quiet);
    while let Some(block) = blocks.recv().await {
        for line in Lines(block?) {
            producer.add(&line, &mut progress).await?;
        }
        if blocks.is_empty() {
            producer.flush(&mut progress).await?;
        }
    }
    producer.flush(&mut progress).await?;
    progress.finish(&args.topic);
    Ok(())
}

struct Producer {
    cluster: Cluster,
    topic: String,
    leaders: BTreeMap<i32, Leader>,
    id: record::ProducerId,
    epoch: ProducerEpoch,
    sequences: BTreeMap<i32, i32>,
    /// Batches that still grow.
    open: BTreeMap<i32, BatchBuilder>,
    /// Batches to be sent with the next request, one a partition at most.
    full: BTreeMap<i32, Batch>,
    full_bytes: usize,
    /// Where records without a key go, until a batch is full or the input pauses.
    sticky: i32,
    line: LineFormat,
    compression: Compression,
}

struct Batch {
    bytes: Bytes,
    records: u64,
}

struct LineFormat {
    key_separator: Option<Vec<u8>>,
    null_marker: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    partition: Option<i32>,
}

impl Producer {
    async fn start(args: &ProduceArgs) -> anyhow::Result<Self> {
        ensure!(args.key_separator.as_deref() != Some(""), "the key separator is empty");
        let headers = args
            .headers
            .iter()
            .map(|header| {
                let (key, value) =
                    header.split_once('=').with_context(|| format!("header {header:?} is not KEY=VALUE"))?;
                Ok((key.as_bytes().to_vec(), value.as_bytes().to_vec()))
            })
            .collect::<anyhow::Result<_>>()?;
        let mut cluster = Cluster::connect(&args.connect).await?;
        let topics = cluster.topics(std::slice::from_ref(&args.topic), true).await?;
        let leaders = topics.first().map(leaders).unwrap_or_default();
        ensure!(!leaders.is_empty(), "topic {} has no partitions", args.topic);
        if let Some(partition) = args.partition {
            ensure!(leaders.contains_key(&partition), no_partition(&args.topic, partition));
        }
        let (id, epoch) = producer_id(&mut cluster).await?;
        // Short inputs of several runs go to different partitions.
        let sticky = i32::try_from(OsRandom.below(leaders.len() as u64))?;
        Ok(Self {
            cluster,
            topic: args.topic.clone(),
            leaders,
            id,
            epoch,
            sequences: BTreeMap::new(),
            open: BTreeMap::new(),
            full: BTreeMap::new(),
            full_bytes: 0,
            sticky,
            line: LineFormat {
                key_separator: args.key_separator.clone().map(String::into_bytes),
                null_marker: args.null_marker.clone().map(String::into_bytes),
                headers,
                partition: args.partition,
            },
            compression: match args.compression {
                CompressionArg::None => Compression::None,
                CompressionArg::Gzip => Compression::Gzip,
                CompressionArg::Snappy => Compression::Snappy,
                CompressionArg::Lz4 => Compression::Lz4,
                CompressionArg::Zstd => Compression::Zstd,
            },
        })
    }

    /// Adds a line to its partition's batch, sending what is full.
    async fn add(&mut self, line: &[u8], progress: &mut Progress) -> anyhow::Result<()> {
        let (key, value) = self.line.split(line);
        let partitions = u32::try_from(self.leaders.len()).unwrap_or(u32::MAX);
        let partition = match (self.line.partition, key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partitioner::of_key(key, partitions),
            (None, None) => self.sticky,
        };
        // Lengths, deltas and the headers' own lengths: 64 bytes are more than they take for any line of use.
        let header_bytes = self.line.headers.iter().map(|(key, value)| key.len() + value.len() + 10).sum::<usize>();
        let bytes = line.len() + header_bytes + 64;
        let grown = self.open.get(&partition).map_or(0, BatchBuilder::bytes);
        if grown > 0 && grown + bytes > BATCH_BYTES {
            self.close(partition, progress).await?;
            if key.is_none() && self.line.partition.is_none() {
                self.next_partition();
                return Box::pin(self.add(line, progress)).await;
            }
        }
        let now = TimestampMs(RealWallClock.now_ms());
        let headers: Vec<_> =
            self.line.headers.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice()))).collect();
        let compression = self.compression;
        let batch = self.open.entry(partition).or_insert_with(|| BatchBuilder::new(compression));
        batch.push(now, key, value, &headers)?;
        Ok(())
    }

    fn next_partition(&mut self) {
        let partitions = i32::try_from(self.leaders.len()).unwrap_or(i32::MAX);
        self.sticky = (self.sticky + 1) % partitions.max(1);
    }

    /// Ends a partition's batch; sends first what is in its way.
    async fn close(&mut self, partition: i32, progress: &mut Progress) -> anyhow::Result<()> {
        if self.full.contains_key(&partition) || self.full_bytes >= REQUEST_BYTES {
            self.send(progress).await?;
        }
        let Some(builder) = self.open.remove(&partition) else {
            return Ok(());
        };
        let sequence = self.sequences.entry(partition).or_insert(0);
        let stamp = ProducerStamp { id: self.id, epoch: self.epoch, base_sequence: Sequence(*sequence) };
        let count = i32::try_from(builder.len()).context("a batch holds at most 2^31 records")?;
        // Sequence numbers go from 2^31 - 1 to 0.
        *sequence = sequence.wrapping_add(count) & i32::MAX;
        let records = u64::from(count.unsigned_abs());
        let bytes = builder.producer(stamp).build()?;
        self.full_bytes += bytes.len();
        self.full.insert(partition, Batch { bytes, records });
        Ok(())
    }

    async fn flush(&mut self, progress: &mut Progress) -> anyhow::Result<()> {
        self.next_partition();
        while let Some((partition, _)) = self.open.first_key_value() {
            let partition = *partition;
            self.close(partition, progress).await?;
        }
        self.send(progress).await
    }

    /// Sends the full batches and returns when all are acknowledged.
    async fn send(&mut self, progress: &mut Progress) -> anyhow::Result<()> {
        let deadline = self.cluster.deadline();
        let mut first = true;
        while !self.full.is_empty() {
            if !std::mem::take(&mut first) {
                pause().await;
                let topics = self.cluster.topics(std::slice::from_ref(&self.topic), false).await?;
                self.leaders = topics.first().map(leaders).unwrap_or_default();
            }
            let mut last_error = None;
            for (node, partitions) in self.by_leader() {
                if let Err(error) = self.send_to(node, &partitions, progress).await? {
                    last_error = Some(error);
                }
            }
            if let Some(error) = last_error
                && deadline.passed()
            {
                let records: u64 = self.full.values().map(|batch| batch.records).sum();
                bail!("gave up; {records} records are not acknowledged: {error:#}");
            }
        }
        self.full_bytes = 0;
        Ok(())
    }

    fn by_leader(&self) -> BTreeMap<i32, Vec<i32>> {
        let mut nodes: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in self.full.keys() {
            if let Some(leader) = self.leaders.get(partition) {
                nodes.entry(leader.node).or_default().push(*partition);
            }
        }
        nodes
    }

    /// One request. The outer error is final; the inner one may go away when the batches are sent again.
    async fn send_to(
        &mut self,
        node: i32,
        partitions: &[i32],
        progress: &mut Progress,
    ) -> anyhow::Result<anyhow::Result<()>> {
        let data = partitions
            .iter()
            .map(|partition| {
                PartitionProduceData::default()
                    .with_index(*partition)
                    .with_records(Some(self.full[partition].bytes.clone()))
            })
            .collect();
        let topic = TopicProduceData::default().with_name(topic_name(&self.topic)).with_partition_data(data);
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(-1)
            .with_timeout_ms(i32::try_from(self.cluster.timeout().as_millis()).unwrap_or(i32::MAX))
            .with_topic_data(vec![topic]);
        // From version 13 on topics go by id.
        let response = match self.cluster.call_node(node, &request, 12, std::time::Duration::ZERO).await {
            Ok(response) => response,
            Err(error) => return Ok(Err(error)),
        };
        let mut result = Ok(());
        for answer in response.responses.into_iter().flat_map(|topic| topic.partition_responses) {
            match answer.error_code {
                0 | DUPLICATE_SEQUENCE_NUMBER => {
                    if let Some(batch) = self.full.remove(&answer.index) {
                        progress.add(batch.records, batch.bytes.len() as u64);
                    }
                }
                code => {
                    let why = error_text(code, answer.error_message.as_ref());
                    let error = anyhow::anyhow!("partition {} of topic {}: {why}", answer.index, self.topic);
                    if !is_retriable(code) {
                        return Err(error);
                    }
                    result = Err(error);
                }
            }
        }
        Ok(result)
    }
}

impl LineFormat {
    fn split<'a>(&self, line: &'a [u8]) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
        let (key, value) = match &self.key_separator {
            Some(separator) => match line.windows(separator.len()).position(|at| at == &separator[..]) {
                Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
                None => (None, line),
            },
            None => (None, line),
        };
        let is_null = self.null_marker.as_deref() == Some(value);
        (key, (!is_null).then_some(value))
    }
}

async fn producer_id(cluster: &mut Cluster) -> anyhow::Result<(record::ProducerId, ProducerEpoch)> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let deadline = cluster.deadline();
    loop {
        let response = cluster.call(&request, 5).await?;
        if response.error_code == 0 {
            let id = record::ProducerId(response.producer_id.0);
            return Ok((id, ProducerEpoch(response.producer_epoch)));
        }
        ensure!(
            is_retriable(response.error_code) && !deadline.passed(),
            "no producer id: {}",
            super::error_name(response.error_code)
        );
        pause().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_split(line: &str, key: Option<&str>, value: Option<&str>) {
        let format = LineFormat {
            key_separator: Some(b"::".to_vec()),
            null_marker: Some(b"NULL".to_vec()),
            headers: Vec::new(),
            partition: None,
        };
        let expected = (key.map(str::as_bytes), value.map(str::as_bytes));
        assert_eq!(format.split(line.as_bytes()), expected, "{line:?}");
    }

    #[test]
    fn keys_stand_before_the_first_separator() {
        check_split("k::v", Some("k"), Some("v"));
        check_split("k::v::w", Some("k"), Some("v::w"));
        check_split("::v", Some(""), Some("v"));
        check_split("v", None, Some("v"));
        check_split("k::NULL", Some("k"), None);
        check_split("NULL", None, None);
        check_split("k:", None, Some("k:"));
    }
}
