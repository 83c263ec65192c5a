//! The requests that the load sends, and what their answers say.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, OffsetCommitRequest,
    OffsetFetchRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use record::{
    BatchBuilder, BatchHeader, Compression, Limits, ProducerEpoch, ProducerId, ProducerStamp, Sequence, TimestampMs,
    records,
};

use super::{CallError, Client, TOPIC, Target, group_id};

/// Far enough back that no clock that jumps finds it too late.
const TIME: TimestampMs = TimestampMs(1_577_836_800_000);
/// What a fetch is answered with at most.
const FETCH_BYTES_MAX: i32 = 64 << 10;
/// How long the broker waits with the answer to a fetch.
const FETCH_WAIT_MS: i32 = 500;

/// One record as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub offset: i64,
    pub value: String,
}

pub(super) fn topic_name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

/// A batch of an idempotent producer.
#[must_use]
pub fn batch(producer: (i64, i16), base_sequence: i32, values: &[String]) -> Bytes {
    let stamp = ProducerStamp {
        id: ProducerId(producer.0),
        epoch: ProducerEpoch(producer.1),
        base_sequence: Sequence(base_sequence),
    };
    let mut builder = BatchBuilder::new(Compression::None).producer(stamp);
    for value in values {
        builder.push(TIME, None, Some(value.as_bytes()), &[]).expect("small");
    }
    builder.build().expect("not empty")
}

/// The request that appends `records` to a partition, acknowledged by all.
#[must_use]
pub fn produce_request(partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name()).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(4_000).with_topic_data(vec![topic])
}

impl Client {
    /// Makes the topic; the answer's code.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn create_topic(&mut self, partitions: i32) -> Result<i16, CallError> {
        let topic = CreatableTopic::default()
            .with_name(topic_name())
            .with_num_partitions(partitions)
            .with_replication_factor(-1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(4_000);
        let response = self.call(Target::Any, 7, &request).await?;
        response.topics.first().map(|topic| topic.error_code).ok_or(CallError::Nobody)
    }

    /// The id and epoch of a new idempotent producer, or the code why not.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn producer_id(&mut self) -> Result<Result<(i64, i16), i16>, CallError> {
        let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
        let response = self.call(Target::Any, 4, &request).await?;
        Ok(match response.error_code {
            0 => Ok((response.producer_id.0, response.producer_epoch)),
            code => Err(code),
        })
    }

    /// Appends; the offset of the first record, or the code why not.
    ///
    /// # Errors
    /// When there is no answer: whether it was appended is not known.
    pub async fn produce(&mut self, partition: i32, records: Bytes) -> Result<Result<i64, i16>, CallError> {
        let response = self.call(Target::Partition(partition), 9, &produce_request(partition, records)).await?;
        let answer = response.responses.first().and_then(|topic| topic.partition_responses.first());
        let answer = answer.ok_or_else(|| CallError::Malformed("no partition in it".to_owned()))?;
        Ok(if answer.error_code == 0 { Ok(answer.base_offset) } else { Err(answer.error_code) })
    }

    /// Records from `offset` on and the high watermark, or the code why not.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn fetch(&mut self, partition: i32, offset: i64) -> Result<Result<(Vec<Seen>, i64), i16>, CallError> {
        let wish = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(FETCH_BYTES_MAX);
        let topic = FetchTopic::default().with_topic(topic_name()).with_partitions(vec![wish]);
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(FETCH_WAIT_MS)
            .with_min_bytes(1)
            .with_max_bytes(FETCH_BYTES_MAX)
            .with_topics(vec![topic]);
        let mut response = self.call(Target::Partition(partition), 12, &request).await?;
        if response.error_code != 0 {
            return Ok(Err(response.error_code));
        }
        let answer = response.responses.pop().and_then(|mut topic| topic.partitions.pop());
        let answer = answer.ok_or_else(|| CallError::Malformed("no partition in it".to_owned()))?;
        if answer.error_code != 0 {
            return Ok(Err(answer.error_code));
        }
        let seen = unpack(answer.records.unwrap_or_default(), offset)?;
        Ok(Ok((seen, answer.high_watermark)))
    }

    /// The offset behind the last record, or the code why not.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn end_offset(&mut self, partition: i32) -> Result<Result<i64, i16>, CallError> {
        let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(topic_name()).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let response = self.call(Target::Partition(partition), 7, &request).await?;
        let answer = response.topics.first().and_then(|topic| topic.partitions.first());
        let answer = answer.ok_or_else(|| CallError::Malformed("no partition in it".to_owned()))?;
        Ok(if answer.error_code == 0 { Ok(answer.offset) } else { Err(answer.error_code) })
    }

    /// Commits an offset of a group without members; the answer's code.
    ///
    /// # Errors
    /// When there is no answer: whether it was committed is not known.
    pub async fn commit(&mut self, group: &str, partition: i32, offset: i64) -> Result<i16, CallError> {
        let committed = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(StrBytes::default()));
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name()).with_partitions(vec![committed]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let target = self.coordinator(group).await?;
        let response = self.call(target, 8, &request).await?;
        let answer = response.topics.first().and_then(|topic| topic.partitions.first());
        answer.map(|answer| answer.error_code).ok_or_else(|| CallError::Malformed("no partition in it".to_owned()))
    }

    /// The committed offset of a group, -1 for none, or the code why not.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn committed(&mut self, group: &str, partition: i32) -> Result<Result<i64, i16>, CallError> {
        let topic = OffsetFetchRequestTopics::default().with_name(topic_name()).with_partition_indexes(vec![partition]);
        let asked = OffsetFetchRequestGroup::default().with_group_id(group_id(group)).with_topics(Some(vec![topic]));
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        let target = self.coordinator(group).await?;
        let response = self.call(target, 8, &request).await?;
        let malformed = || CallError::Malformed("no partition in it".to_owned());
        let found = response.groups.first().ok_or_else(malformed)?;
        if found.error_code != 0 {
            return Ok(Err(found.error_code));
        }
        let answer = found.topics.first().and_then(|topic| topic.partitions.first()).ok_or_else(malformed)?;
        Ok(if answer.error_code == 0 { Ok(answer.committed_offset) } else { Err(answer.error_code) })
    }
}

/// The records of several batches from `offset` on. A batch that is cut off at the end is left out.
fn unpack(bytes: Bytes, offset: i64) -> Result<Vec<Seen>, CallError> {
    let mut rest = bytes;
    let mut seen = Vec::new();
    let malformed = |error: &dyn std::fmt::Display| CallError::Malformed(format!("a batch: {error}"));
    while !rest.is_empty() {
        let Ok(header) = BatchHeader::parse(&rest) else { break };
        let Some(total) = header.total_bytes().filter(|total| *total <= rest.len()) else { break };
        let batch = rest.split_to(total);
        // The checksum covers what lies behind it; base offset and leader epoch stand before it.
        let (stated, covered) = (&batch[17..21], &batch[21..]);
        if stated != record::crc32c(covered).to_be_bytes() {
            return Err(malformed(&"its checksum is wrong"));
        }
        for record in records(&batch, Limits::default()).map_err(|error| malformed(&error))? {
            let record = record.map_err(|error| malformed(&error))?;
            let value = record.value.as_deref().unwrap_or_default();
            if record.offset.0 >= offset {
                seen.push(Seen { offset: record.offset.0, value: String::from_utf8_lossy(value).into_owned() });
            }
        }
    }
    Ok(seen)
}
