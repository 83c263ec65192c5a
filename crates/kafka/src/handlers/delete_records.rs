//! DeleteRecords: a partition begins later.

use base::time::Duration;
use broker::topics::PartitionRef;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use crate::context::Context;
use crate::errors::{Code, NONE, UNKNOWN_TOPIC_OR_PARTITION};

/// Everything that there is.
const HIGH_WATERMARK: i64 = -1;
/// A majority needs some time, whatever a client that waits for nothing asks for.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// Told with every error.
const NO_LOW_WATERMARK: i64 = -1;

pub(super) async fn handle(context: &mut Context, request: DeleteRecordsRequest, _: i16) -> DeleteRecordsResponse {
    let wait_max = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).max(WAIT_MIN);
    let until = base::time::now() + wait_max;
    let mut known = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            let code = match find(context, &topic.name, asked) {
                Ok(deletion) => {
                    known.push(deletion);
                    NONE
                }
                Err(code) => code,
            };
            partitions.push(result.with_error_code(code).with_low_watermark(NO_LOW_WATERMARK));
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    let deleted = context.broker().delete_records(&known, until).await;
    let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for (result, deleted) in partitions.filter(|result| result.error_code == NONE).zip(deleted) {
        match deleted {
            Ok(low_watermark) => result.low_watermark = low_watermark,
            Err(error) => result.error_code = error.code(),
        }
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

fn find(context: &Context, topic: &str, asked: &DeleteRecordsPartition) -> Result<(PartitionRef, Option<i64>), i16> {
    let partition = context.broker().topics().partition(topic, asked.partition_index);
    let partition = partition.ok_or(UNKNOWN_TOPIC_OR_PARTITION)?;
    match asked.offset {
        HIGH_WATERMARK => Ok((partition, None)),
        // Whether it is one of the partition comes after whether anything may be deleted from it.
        offset => Ok((partition, Some(offset))),
    }
}
