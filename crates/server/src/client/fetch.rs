//! Reading partitions from their leaders: where offsets are, and the records from an offset on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest};
use record::{BATCH_OVERHEAD, BatchHeader, Record};

use super::cluster::{Cluster, Leader, pause, topic_name};
use super::{error_name, is_retriable};

/// Asks for the offset after the last record.
pub(super) const LATEST: i64 = -1;
/// Asks for the offset of the first record that is kept.
pub(super) const EARLIEST: i64 = -2;

/// The most bytes that one answer brings.
const FETCH_BYTES: i32 = 8 << 20;
const PARTITION_BYTES: i32 = 1 << 20;

/// The offsets at the given timestamps, or at [`LATEST`] or [`EARLIEST`], by partition.
pub(super) async fn list_offsets(
    cluster: &mut Cluster,
    topic: &str,
    leaders: &BTreeMap<i32, Leader>,
    timestamps: &BTreeMap<i32, i64>,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    let mut offsets = BTreeMap::new();
    let mut by_node: BTreeMap<i32, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (partition, timestamp) in timestamps {
        let leader = leaders.get(partition).with_context(|| no_partition(topic, *partition))?;
        let partition = ListOffsetsPartition::default().with_partition_index(*partition).with_timestamp(*timestamp);
        by_node.entry(leader.node).or_default().push(partition);
    }
    for (node, partitions) in by_node {
        let topics = vec![ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(partitions)];
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics);
        let deadline = cluster.deadline();
        loop {
            let response = cluster.call_node(node, &request, 6, Duration::ZERO).await?;
            let answers: Vec<_> = response.topics.into_iter().flat_map(|topic| topic.partitions).collect();
            match answers.iter().find(|answer| answer.error_code != 0) {
                None => {
                    offsets.extend(answers.iter().map(|answer| (answer.partition_index, answer.offset)));
                    break;
                }
                Some(answer) if is_retriable(answer.error_code) && !deadline.passed() => pause().await,
                Some(answer) => {
                    bail!("the offsets of {topic} {}: {}", answer.partition_index, error_name(answer.error_code))
                }
            }
        }
    }
    Ok(offsets)
}

pub(super) fn no_partition(topic: &str, partition: i32) -> String {
    format!("topic {topic} has no partition {partition}")
}

/// A position in one partition.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) leader: Leader,
    /// The offset of the next record to read.
    pub(super) offset: i64,
}

/// What one fetch brought for one partition, by its place in the list of readings.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) reading: usize,
    pub(super) records: Bytes,
    pub(super) high_watermark: i64,
    pub(super) error_code: i16,
}

/// Asks one node for all of its partitions among `readings`, waiting up to `wait` for the first byte.
pub(super) async fn fetch(
    cluster: &mut Cluster,
    node: i32,
    readings: &[Reading],
    first: usize,
    wait: Duration,
) -> anyhow::Result<Vec<Fetched>> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    // A full answer leaves the last partitions out: each round begins with another one.
    let order = (0..readings.len()).map(|at| (at + first) % readings.len().max(1));
    for reading in order.map(|at| &readings[at]).filter(|reading| reading.leader.node == node) {
        let partition = FetchPartition::default()
            .with_partition(reading.partition)
            .with_fetch_offset(reading.offset)
            .with_current_leader_epoch(-1)
            .with_partition_max_bytes(PARTITION_BYTES);
        match topics.last_mut().filter(|topic| topic.topic.0.as_str() == reading.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics
                .push(FetchTopic::default().with_topic(topic_name(&reading.topic)).with_partitions(vec![partition])),
        }
    }
    let request = FetchRequest::default()
        .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(FETCH_BYTES)
        .with_session_epoch(-1)
        .with_topics(topics);
    // From version 13 on topics go by id.
    let response = cluster.call_node(node, &request, 12, wait).await?;
    if response.error_code != 0 {
        bail!("node {node} refused to be read from: {}", error_name(response.error_code));
    }
    let mut fetched = Vec::new();
    for topic in response.responses {
        for partition in topic.partitions {
            let reading = readings
                .iter()
                .position(|reading| {
                    reading.topic == topic.topic.0.as_str() && reading.partition == partition.partition_index
                })
                .with_context(|| format!("node {node} sent a partition that was not asked for"))?;
            fetched.push(Fetched {
                reading,
                records: partition.records.unwrap_or_default(),
                high_watermark: partition.high_watermark,
                error_code: partition.error_code,
            });
        }
    }
    Ok(fetched)
}

/// Takes whole batches apart, calls `each` with the records from `offset` on, and returns the next offset.
///
/// The end of an answer may hold a part of a batch, which is left for the next fetch.
pub(super) fn for_each_record(
    mut bytes: Bytes,
    mut offset: i64,
    mut each: impl FnMut(&Record) -> anyhow::Result<bool>,
) -> anyhow::Result<i64> {
    while bytes.len() >= BATCH_OVERHEAD {
        let header = BatchHeader::parse(&bytes).context("the broker sent a batch that cannot be read")?;
        let size = header.total_bytes().context("the broker sent a batch of impossible length")?;
        if size < BATCH_OVERHEAD || size > bytes.len() {
            break;
        }
        let batch = bytes.split_to(size);
        let next = header.base_offset.0 + i64::from(header.last_offset_delta) + 1;
        if next <= offset {
            continue;
        }
        if !header.attributes.control() {
            for record in record::records(&batch, record::Limits::default())? {
                let record = record?;
                if record.offset.0 < offset {
                    continue;
                }
                offset = record.offset.0 + 1;
                if !each(&record)? {
                    return Ok(offset);
                }
            }
        }
        offset = next;
    }
    Ok(offset)
}
