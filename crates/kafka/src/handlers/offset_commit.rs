//! OffsetCommit: offsets of a group, by topic name, by topic id in version 10.

use broker::groups::{CommitOffsets, CommitOffsetsError, MemberIdentity, OffsetToCommit};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::topic_partition::find;
use crate::context::Context;
use crate::errors::{Code, NONE, UNKNOWN_MEMBER_ID, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION, commit_code};
use crate::wire::commit::BY_ID;

pub(super) async fn handle(context: &mut Context, request: OffsetCommitRequest, version: i16) -> OffsetCommitResponse {
    let mut offsets = Vec::new();
    let found: Vec<_> =
        request.topics.iter().map(|topic| find(context.broker(), &topic.name, topic.topic_id)).collect();
    for (topic, found) in request.topics.iter().zip(&found) {
        let Some(found) = found else { continue };
        offsets.extend(topic.partitions.iter().map(|partition| OffsetToCommit {
            topic: found.id,
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.as_ref().map(ToString::to_string).unwrap_or_default(),
        }));
    }
    // With no topic known there is nothing to ask the group, and nothing of it to say.
    let count = offsets.len();
    let codes: Vec<i16> = if offsets.is_empty() {
        Vec::new()
    } else {
        let commit = CommitOffsets {
            group_id: request.group_id.to_string(),
            member: MemberIdentity {
                member_id: request.member_id.to_string(),
                instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
            },
            generation: request.generation_id_or_member_epoch,
            offsets,
        };
        match context.broker().groups().commit(commit).await {
            Ok(results) => results.iter().map(|result| result.as_ref().err().map_or(NONE, Code::code)).collect(),
            // A group that only has offsets is there, and has no members.
            Err(CommitOffsetsError::GroupIdNotFound) if has_offsets(context, &request.group_id).await => {
                vec![UNKNOWN_MEMBER_ID; count]
            }
            Err(error) => vec![commit_code(&error, version); count],
        }
    };
    let mut codes = codes.into_iter();
    let unknown = if version >= BY_ID { UNKNOWN_TOPIC_ID } else { UNKNOWN_TOPIC_OR_PARTITION };
    let topics = request.topics.into_iter().zip(found).map(|(topic, found)| {
        let partitions = topic.partitions.iter().map(|partition| {
            let code = if found.is_some() { codes.next().unwrap_or(unknown) } else { unknown };
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

async fn has_offsets(context: &Context, group_id: &str) -> bool {
    context.broker().groups().fetch_offsets(group_id, None).await.is_ok_and(|offsets| !offsets.is_empty())
}
