//! DeleteRecords: a partition begins later.

use base::time::{Duration, timeout};
use broker::Barriers;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use crate::context::Context;
use crate::errors::{Code, NONE, OFFSET_OUT_OF_RANGE, REQUEST_TIMED_OUT, UNKNOWN_TOPIC_OR_PARTITION};

/// Everything that there is.
const HIGH_WATERMARK: i64 = -1;
/// A majority needs some time, whatever a client that waits for nothing asks for.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// Told with every error.
const NO_LOW_WATERMARK: i64 = -1;

pub(super) async fn handle(context: &mut Context, request: DeleteRecordsRequest, _: i16) -> DeleteRecordsResponse {
    let mut barriers = Barriers::default();
    let wait_max = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).max(WAIT_MIN);
    let until = base::time::now() + wait_max;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let left = until.saturating_duration_since(base::time::now());
            let deleted = timeout(left, delete(context, &mut barriers, &topic.name, asked)).await;
            let (code, low_watermark) = match deleted.unwrap_or(Err(REQUEST_TIMED_OUT)) {
                Ok(low_watermark) => (NONE, low_watermark),
                Err(code) => (code, NO_LOW_WATERMARK),
            };
            let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            partitions.push(result.with_error_code(code).with_low_watermark(low_watermark));
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn delete(
    context: &Context,
    barriers: &mut Barriers,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> Result<i64, i16> {
    let partition = context.broker().topics().partition(topic, asked.partition_index);
    let partition = partition.ok_or(UNKNOWN_TOPIC_OR_PARTITION)?;
    let before = match asked.offset {
        HIGH_WATERMARK => None,
        offset if offset < 0 => return Err(OFFSET_OUT_OF_RANGE),
        offset => Some(offset),
    };
    let deleted = context.broker().delete_records(barriers, &partition, before).await;
    deleted.map_err(|error| error.code())
}
