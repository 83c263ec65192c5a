//! OffsetForLeaderEpoch: where an epoch ends, so that a reader notices what was truncated (KIP-320).

use broker::Barriers;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::context::Context;
use crate::errors::{Code, NONE, UNKNOWN_TOPIC_OR_PARTITION};

pub(super) async fn handle(
    context: &mut Context,
    request: OffsetForLeaderEpochRequest,
    _: i16,
) -> OffsetForLeaderEpochResponse {
    let mut barriers = Barriers::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            partitions.push(end(context, &mut barriers, &topic.topic, asked).await);
        }
        topics.push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions));
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

async fn end(
    context: &Context,
    barriers: &mut Barriers,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let answer = |code, epoch, end_offset| {
        EpochEndOffset::default()
            .with_error_code(code)
            .with_partition(asked.partition)
            .with_leader_epoch(epoch)
            .with_end_offset(end_offset)
    };
    let Some(partition) = context.broker().topics().partition(topic, asked.partition) else {
        return answer(UNKNOWN_TOPIC_OR_PARTITION, -1, -1);
    };
    let (asked_epoch, current) = (asked.leader_epoch, asked.current_leader_epoch);
    match context.broker().offset_for_leader_epoch(barriers, &partition, asked_epoch, current).await {
        Ok(end) => answer(NONE, end.epoch, end.end_offset),
        Err(error) => answer(error.code(), -1, -1),
    }
}
