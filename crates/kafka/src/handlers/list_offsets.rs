//! ListOffsets: where partitions begin and end, by position and by time.

use std::collections::BTreeSet;

use broker::Barriers;
use broker::fetch::Isolation;
use broker::offsets::OffsetSpec;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use record::TimestampMs;

use crate::context::Context;
use crate::errors::{Code, INVALID_REQUEST, UNKNOWN_TOPIC_OR_PARTITION, UNSUPPORTED_VERSION};

/// The first version that says the leader's epoch.
const EPOCH_SINCE: i16 = 4;

pub(super) async fn handle(context: &mut Context, request: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let isolation = if request.isolation_level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    let repeated = repeated(&request.topics);
    let mut barriers = Barriers::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let answer = if repeated.contains(&(&*topic.name, asked.partition_index)) {
                refused(asked.partition_index, INVALID_REQUEST)
            } else {
                list(context, &mut barriers, &topic.name, asked, (isolation, version)).await
            };
            partitions.push(answer);
        }
        // What is asked twice is refused once.
        partitions.dedup_by(|next, before| next.error_code == INVALID_REQUEST && *next == *before);
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

async fn list(
    context: &Context,
    barriers: &mut Barriers,
    topic: &str,
    asked: &ListOffsetsPartition,
    (isolation, version): (Isolation, i16),
) -> ListOffsetsPartitionResponse {
    let index = asked.partition_index;
    let Some(spec) = spec(asked.timestamp, version) else {
        return refused(index, UNSUPPORTED_VERSION);
    };
    let Some(partition) = context.broker().topics().partition(topic, index) else {
        return refused(index, UNKNOWN_TOPIC_OR_PARTITION);
    };
    match context.broker().list_offset(barriers, &partition, spec, isolation, asked.current_leader_epoch).await {
        Ok(listed) => ListOffsetsPartitionResponse::default()
            .with_partition_index(index)
            .with_timestamp(listed.timestamp)
            .with_offset(listed.offset)
            .with_leader_epoch(if version >= EPOCH_SINCE { listed.leader_epoch } else { -1 }),
        Err(error) => refused(index, error.code()),
    }
}

/// What a timestamp stands for; each special one since its version.
fn spec(timestamp: i64, version: i16) -> Option<OffsetSpec> {
    match timestamp {
        -1 => Some(OffsetSpec::Latest),
        -2 => Some(OffsetSpec::Earliest),
        -3 if version >= 7 => Some(OffsetSpec::MaxTimestamp),
        -4 if version >= 8 => Some(OffsetSpec::EarliestLocal),
        -5 if version >= 9 => Some(OffsetSpec::LatestTiered),
        -6 if version >= 11 => Some(OffsetSpec::EarliestPendingUpload),
        0.. => Some(OffsetSpec::Timestamp(TimestampMs(timestamp))),
        _ => None,
    }
}

/// The partitions that are asked more than once: their answers could not be told apart.
fn repeated(topics: &[ListOffsetsTopic]) -> BTreeSet<(&str, i32)> {
    let mut seen = BTreeSet::new();
    topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (&**topic.name, partition.partition_index)))
        .filter(|asked| !seen.insert(*asked))
        .collect()
}

fn refused(index: i32, code: i16) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(code)
        .with_timestamp(-1)
        .with_offset(-1)
        .with_leader_epoch(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_special_timestamp_since_its_version() {
        for (timestamp, since) in [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11)] {
            for version in 1..=11 {
                assert_eq!(spec(timestamp, version).is_some(), version >= since, "{timestamp} in {version}");
            }
        }
        assert_eq!(spec(-7, 11), None);
        assert_eq!(spec(5, 1), Some(OffsetSpec::Timestamp(TimestampMs(5))));
    }
}
