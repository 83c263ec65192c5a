//! The requests that the load sends, and what their answers say.

use base::time::Duration;
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest, FetchResponse, InitProducerIdRequest,
    ListOffsetsRequest, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use record::{
    BatchBuilder, BatchHeader, Compression, Limits, ProducerEpoch, ProducerId, ProducerStamp, Sequence, TimestampMs,
    records,
};

use super::{CallError, Client, PARTITIONS_MAX, REQUEST_WAIT_MAX, Target, group_id, topic_of, topic_text};
use crate::machine::EPOCH_MS;

/// Young, so that a wrong clock that counted would delete everything.
pub(super) const TIME: TimestampMs = TimestampMs(EPOCH_MS);
/// What a fetch is answered with at most.
pub(super) const FETCH_BYTES_MAX: i32 = 64 << 10;
/// What a slow reader asks for, and how long it reads.
const SLOW_FETCH_BYTES_MAX: i32 = 512 << 10;
const SLOW_WAIT_MAX: Duration = Duration::from_secs(90);
/// How long the broker waits with the answer to a fetch.
const FETCH_WAIT_MS: i32 = 500;

/// One record as a reader sees it, its value in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub offset: i64,
    pub value: String,
}

pub(super) fn topic_name(topic: i32) -> TopicName {
    TopicName(StrBytes::from_string(topic_text(topic)))
}

/// The number that the topic itself has for a partition.
fn index_of(partition: i32) -> i32 {
    partition % PARTITIONS_MAX
}

/// A value in short: the writer, the number, and how long it is with the zeros before the number.
#[must_use]
pub fn in_short(value: &[u8]) -> String {
    let Some(writer) = value.iter().position(|byte| *byte == b'-') else {
        return String::from_utf8_lossy(value).into_owned();
    };
    let (writer, number) = value.split_at(writer);
    let number = String::from_utf8_lossy(without_zeros(&number[1..]));
    format!("{}-{number}/{}", String::from_utf8_lossy(writer), value.len())
}

/// Without the zeros in front, of which there may be thousands.
fn without_zeros(mut digits: &[u8]) -> &[u8] {
    const ZEROS: [u8; 64] = [b'0'; 64];
    while let Some(rest) = digits.strip_prefix(&ZEROS) {
        digits = rest;
    }
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

/// A batch, of an idempotent producer with that id and epoch if one is given.
#[must_use]
pub fn batch(producer: Option<(i64, i16)>, base_sequence: i32, values: &[String]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, epoch)) = producer {
        let (id, epoch, base_sequence) = (ProducerId(id), ProducerEpoch(epoch), Sequence(base_sequence));
        builder = builder.producer(ProducerStamp { id, epoch, base_sequence });
    }
    for value in values {
        builder.push(TIME, None, Some(value.as_bytes()), &[]).expect("small");
    }
    builder.build().expect("not empty")
}

/// The request that appends `records` to a partition, acknowledged by all.
#[must_use]
pub fn produce_request(partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(index_of(partition)).with_records(Some(records));
    let name = topic_name(topic_of(partition));
    let topic = TopicProduceData::default().with_name(name).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(4_000).with_topic_data(vec![topic])
}

impl Client {
    /// Makes a topic; the answer's code.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn create_topic(&mut self, topic: i32, partitions: i32) -> Result<i16, CallError> {
        let any_time = CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str("message.timestamp.after.max.ms"))
            .with_value(Some(StrBytes::from_string(i64::MAX.to_string())));
        let topic = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(-1)
            .with_configs(vec![any_time]);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(4_000);
        let response = self.call(Target::Any, 7, &request).await?;
        response.topics.first().map(|topic| topic.error_code).ok_or(CallError::Nobody)
    }

    /// Deletes a topic; the answer's code.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn delete_topic(&mut self, topic: i32) -> Result<i16, CallError> {
        let topic = DeleteTopicState::default().with_name(Some(topic_name(topic)));
        let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(4_000);
        let response = self.call(Target::Any, 6, &request).await?;
        response.responses.first().map(|topic| topic.error_code).ok_or(CallError::Nobody)
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
        appended(&response)
    }

    /// Appends several batches without waiting in between; the answers in order, up to the first that does not come.
    ///
    /// # Errors
    /// When nothing was sent, or an answer is none.
    pub async fn produce_all(
        &mut self,
        partition: i32,
        batches: impl Iterator<Item = Bytes>,
    ) -> Result<Vec<Result<i64, i16>>, CallError> {
        let requests: Vec<_> = batches.map(|records| produce_request(partition, records)).collect();
        let answers = self.call_all(Target::Partition(partition), 9, &requests).await?;
        answers.iter().map(appended).collect()
    }

    /// Records from `offset` on and the high watermark, or the code why not.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn fetch(&mut self, partition: i32, offset: i64) -> Result<Result<(Vec<Seen>, i64), i16>, CallError> {
        let request = fetch_request(partition, offset, FETCH_BYTES_MAX);
        let response = self.call(Target::Partition(partition), 12, &request).await?;
        fetched(response, offset)
    }

    /// As [`Self::fetch`], of much more, which is read slowly: after `first`, and with `pause` after each bit.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn fetch_slowly(
        &mut self,
        partition: i32,
        offset: i64,
        first: Duration,
        pause: Duration,
    ) -> Result<Result<(Vec<Seen>, i64), i16>, CallError> {
        let mut connection = self.dial(Target::Partition(partition)).await?;
        let request = fetch_request(partition, offset, SLOW_FETCH_BYTES_MAX);
        connection.send(&self.name, 12, &request, REQUEST_WAIT_MAX).await?;
        fetched(connection.receive_slowly::<FetchRequest>(12, first, pause, SLOW_WAIT_MAX).await?, offset)
    }

    /// The offset behind the last record, or the code why not.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn end_offset(&mut self, partition: i32) -> Result<Result<i64, i16>, CallError> {
        self.list_offset(partition, -1).await
    }

    /// Where a partition begins, or the code why not.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn first_offset(&mut self, partition: i32) -> Result<Result<i64, i16>, CallError> {
        self.list_offset(partition, -2).await
    }

    /// Deletes everything before an offset; where the partition begins then, or the code why not.
    ///
    /// # Errors
    /// When there is no answer: whether it is deleted is not known.
    pub async fn delete_records(&mut self, partition: i32, before: i64) -> Result<Result<i64, i16>, CallError> {
        let asked = DeleteRecordsPartition::default().with_partition_index(index_of(partition)).with_offset(before);
        let name = topic_name(topic_of(partition));
        let topic = DeleteRecordsTopic::default().with_name(name).with_partitions(vec![asked]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(4_000);
        let response = self.call(Target::Partition(partition), 2, &request).await?;
        let answer = response.topics.first().and_then(|topic| topic.partitions.first());
        let answer = answer.ok_or_else(|| CallError::Malformed("no partition in it".to_owned()))?;
        Ok(if answer.error_code == 0 { Ok(answer.low_watermark) } else { Err(answer.error_code) })
    }

    async fn list_offset(&mut self, partition: i32, timestamp: i64) -> Result<Result<i64, i16>, CallError> {
        let index = index_of(partition);
        let asked = ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp);
        let name = topic_name(topic_of(partition));
        let topic = ListOffsetsTopic::default().with_name(name).with_partitions(vec![asked]);
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
            .with_partition_index(index_of(partition))
            .with_committed_offset(offset)
            .with_committed_metadata(Some(StrBytes::default()));
        let name = topic_name(topic_of(partition));
        let topic = OffsetCommitRequestTopic::default().with_name(name).with_partitions(vec![committed]);
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
        let (name, index) = (topic_name(topic_of(partition)), index_of(partition));
        let topic = OffsetFetchRequestTopics::default().with_name(name).with_partition_indexes(vec![index]);
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

pub(super) fn fetch_request(partition: i32, offset: i64, bytes_max: i32) -> FetchRequest {
    let wish = FetchPartition::default()
        .with_partition(index_of(partition))
        .with_fetch_offset(offset)
        .with_partition_max_bytes(bytes_max);
    let topic = FetchTopic::default().with_topic(topic_name(topic_of(partition))).with_partitions(vec![wish]);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(FETCH_WAIT_MS)
        .with_min_bytes(1)
        .with_max_bytes(bytes_max)
        .with_topics(vec![topic])
}

fn fetched(response: FetchResponse, offset: i64) -> Result<Result<(Vec<Seen>, i64), i16>, CallError> {
    Ok(match answered(response)? {
        Ok((bytes, high_watermark)) => Ok((unpack(bytes, offset)?, high_watermark)),
        Err(code) => Err(code),
    })
}

/// The bytes and the high watermark of the one partition that was asked for, or the code why not.
pub(super) fn answered(mut response: FetchResponse) -> Result<Result<(Bytes, i64), i16>, CallError> {
    if response.error_code != 0 {
        return Ok(Err(response.error_code));
    }
    let answer = response.responses.pop().and_then(|mut topic| topic.partitions.pop());
    let answer = answer.ok_or_else(|| CallError::Malformed("no partition in it".to_owned()))?;
    if answer.error_code != 0 {
        return Ok(Err(answer.error_code));
    }
    Ok(Ok((answer.records.unwrap_or_default(), answer.high_watermark)))
}

fn appended(response: &ProduceResponse) -> Result<Result<i64, i16>, CallError> {
    let answer = response.responses.first().and_then(|topic| topic.partition_responses.first());
    let answer = answer.ok_or_else(|| CallError::Malformed("no partition in it".to_owned()))?;
    Ok(if answer.error_code == 0 { Ok(answer.base_offset) } else { Err(answer.error_code) })
}

/// The records of several batches from `offset` on.
fn unpack(bytes: Bytes, offset: i64) -> Result<Vec<Seen>, CallError> {
    let mut seen = Vec::new();
    for batch in batches(bytes)? {
        for record in records(&batch, Limits::default()).map_err(|error| malformed(&error))? {
            let record = record.map_err(|error| malformed(&error))?;
            let value = record.value.as_deref().unwrap_or_default();
            if record.offset.0 >= offset {
                seen.push(Seen { offset: record.offset.0, value: in_short(value) });
            }
        }
    }
    Ok(seen)
}

/// Batches one behind the other. One that is cut off at the end is left out.
pub(super) fn batches(mut rest: Bytes) -> Result<Vec<Bytes>, CallError> {
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let Ok(header) = BatchHeader::parse(&rest) else { break };
        let Some(total) = header.total_bytes().filter(|total| *total <= rest.len()) else { break };
        let batch = rest.split_to(total);
        // The checksum covers what lies behind it; base offset and leader epoch stand before it.
        let (stated, covered) = (&batch[17..21], &batch[21..]);
        if stated != record::crc32c(covered).to_be_bytes() {
            return Err(CallError::Damaged);
        }
        batches.push(batch);
    }
    Ok(batches)
}

pub(super) fn malformed(error: &dyn std::fmt::Display) -> CallError {
    CallError::Malformed(format!("a batch: {error}"))
}
