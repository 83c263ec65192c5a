//! Requests about a topic that is compacted.

use base::time::Duration;
use bytes::Bytes;
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::protocol::StrBytes;
use record::{
    BatchBuilder, BatchHeader, Compression, Limits, ProducerEpoch, ProducerId, ProducerStamp, Sequence, TimestampMs,
    records,
};

use super::requests::{FETCH_BYTES_MAX, TIME, answered, batches, fetch_request, malformed, topic_name};
use super::{CallError, Client, Target};

/// A record of a topic that is compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRecord {
    pub offset: i64,
    pub key: String,
    /// None in one that deletes its key.
    pub value: Option<String>,
}

/// A batch of records with keys.
#[must_use]
pub fn keyed_batch(producer: (i64, i16), base_sequence: i32, records: &[(String, Option<String>)]) -> Bytes {
    let compression = if base_sequence % 2 == 0 { Compression::None } else { Compression::Lz4 };
    let (id, epoch, base_sequence) = (ProducerId(producer.0), ProducerEpoch(producer.1), Sequence(base_sequence));
    let mut builder = BatchBuilder::new(compression).producer(ProducerStamp { id, epoch, base_sequence });
    for (key, value) in records {
        // Neither rising nor falling.
        let late = value.as_ref().map_or(0, |value| value.bytes().map(i64::from).sum::<i64>() % 1_000);
        let value = value.as_ref().map(String::as_bytes);
        builder.push(TimestampMs(TIME.0 + late), Some(key.as_bytes()), value, &[]).expect("small");
    }
    builder.build().expect("not empty")
}

impl Client {
    /// Makes a topic that is compacted, in which records without a value stay for `deletes_last`; the answer's code.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn create_compacted_topic(
        &mut self,
        topic: i32,
        partitions: i32,
        deletes_last: Duration,
    ) -> Result<i16, CallError> {
        let configs = [
            ("message.timestamp.after.max.ms", i64::MAX.to_string()),
            ("cleanup.policy", "compact".to_owned()),
            ("min.cleanable.dirty.ratio", "0.2".to_owned()),
            ("segment.ms", "3000".to_owned()),
            ("delete.retention.ms", deletes_last.as_millis().to_string()),
        ];
        let config = |(name, value): (&'static str, String)| {
            let name = StrBytes::from_static_str(name);
            CreatableTopicConfig::default().with_name(name).with_value(Some(StrBytes::from_string(value)))
        };
        let topic = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(-1)
            .with_configs(configs.into_iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(4_000);
        let response = self.call(Target::Any, 7, &request).await?;
        response.topics.first().map(|topic| topic.error_code).ok_or(CallError::Nobody)
    }

    /// What is left from `offset` on of a partition that is compacted, and where to go on behind it, or the code why not.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn fetch_keyed(
        &mut self,
        partition: i32,
        offset: i64,
    ) -> Result<Result<(Vec<KeyedRecord>, i64), i16>, CallError> {
        let request = fetch_request(partition, offset, FETCH_BYTES_MAX);
        let response = self.call(Target::Partition(partition), 12, &request).await?;
        let (bytes, _) = match answered(response)? {
            Ok(answered) => answered,
            Err(code) => return Ok(Err(code)),
        };
        let (mut left, mut next) = (Vec::new(), offset);
        for batch in batches(bytes)? {
            let header = BatchHeader::parse(&batch).map_err(|error| malformed(&error))?;
            next = header.base_offset.0 + i64::from(header.last_offset_delta) + 1;
            for record in records(&batch, Limits::default()).map_err(|error| malformed(&error))? {
                let record = record.map_err(|error| malformed(&error))?;
                let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
                let key = record.key.map(text).unwrap_or_default();
                if record.offset.0 >= offset {
                    left.push(KeyedRecord { offset: record.offset.0, key, value: record.value.map(text) });
                }
            }
        }
        Ok(Ok((left, next)))
    }
}
