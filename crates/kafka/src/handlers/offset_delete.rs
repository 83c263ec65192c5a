//! OffsetDelete: a group forgets what it committed.

use broker::groups::DeleteOffsetError;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use record::TopicId;

use crate::context::Context;
use crate::errors::{Code, NONE, UNKNOWN_TOPIC_OR_PARTITION};

pub(super) async fn handle(context: &mut Context, request: OffsetDeleteRequest, _: i16) -> OffsetDeleteResponse {
    let broker = context.broker();
    let found: Vec<_> = request.topics.iter().map(|topic| broker.topics().resolve(&topic.name)).collect();
    let keys: Vec<(TopicId, i32)> = request
        .topics
        .iter()
        .zip(&found)
        .filter_map(|(topic, found)| Some((topic, found.as_ref()?)))
        .flat_map(|(topic, found)| topic.partitions.iter().map(|partition| (found.id, partition.partition_index)))
        .collect();
    let deleted: Vec<Result<(), DeleteOffsetError>> =
        match broker.groups().delete_offsets(&request.group_id, &keys).await {
            Ok(deleted) => deleted,
            Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
        };
    let mut deleted = deleted.into_iter();
    let topics = request.topics.into_iter().zip(found).map(|(topic, found)| {
        let partitions = topic.partitions.iter().map(|partition| {
            let code = match found.as_ref().and_then(|_| deleted.next()) {
                Some(Ok(())) => NONE,
                Some(Err(error)) => error.code(),
                None => UNKNOWN_TOPIC_OR_PARTITION,
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
