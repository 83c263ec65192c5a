//! DescribeLogDirs: the one directory of this node, and the partitions of which it has copies.

use std::sync::Arc;

use broker::topics::Topic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::room::{Room, without_repeats};
use super::topic_partition::{text, topic_name};
use crate::context::Context;
use crate::errors::INVALID_REQUEST;
use crate::handshake::RequestHeader;
use crate::wire::response::{EncodeError, Response, ResponseBuilder};
use crate::wire::{log_dirs, space_tags};

/// Of a partition's tagged fields, with the map that they are in.
const TAGS_BYTES: usize = 640;

pub(super) async fn handle(
    context: &mut Context,
    header: &RequestHeader,
    request: DescribeLogDirsRequest,
) -> Result<Response, EncodeError> {
    // What takes long is for who asks for it.
    let counts = request.unknown_tagged_fields.contains_key(&space_tags::SPACE);
    let space = if counts { Some(context.broker().space().await) } else { None };
    let wanted = wanted(context, request);
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut response = DescribeLogDirsResponse::default();
    let mut room = Room::of(context);
    let mut topics = Vec::with_capacity(wanted.len());
    for (topic, indexes) in wanted {
        let here = context.broker().partitions_here(&topic, indexes.as_deref()).await;
        if here.is_empty() {
            continue;
        }
        let tags = if space.is_some() { TAGS_BYTES } else { 0 };
        room.take(here.len() * (size_of::<DescribeLogDirsPartition>() + tags) + topic.name.len());
        if room.is_used_up() {
            response.error_code = INVALID_REQUEST;
            topics.clear();
            break;
        }
        let partitions = here.into_iter().map(|(index, size)| {
            let partition =
                DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(bytes(size));
            match &space {
                Some(space) => {
                    partition.with_unknown_tagged_field(space_tags::SPACE, space_tags::taken(&space.of(&topic, index)))
                }
                None => partition,
            }
        });
        let described = DescribeLogDirsTopic::default().with_name(topic_name(&topic.name));
        topics.push(described.with_partitions(partitions.collect()));
    }
    let dir = context.broker().log_dir().await;
    let path: String = dir.path.to_string_lossy().chars().take(4_096).collect();
    let (total, usable) = dir.space.map_or((-1, -1), |space| (bytes(space.total_bytes), bytes(space.usable_bytes)));
    let dir = DescribeLogDirsResult::default().with_log_dir(text(path)).with_topics(topics);
    let mut dir = dir.with_total_bytes(total).with_usable_bytes(usable);
    if let Some(space) = space {
        let work = context.broker().running_work();
        dir.unknown_tagged_fields.insert(space_tags::SPACE, space_tags::rest(&space.rest));
        dir.unknown_tagged_fields.insert(space_tags::WORK, space_tags::work(&work));
    }
    response.results = vec![dir];
    let mut builder = ResponseBuilder::new(header, 256);
    log_dirs::encode(builder.head(), header.version, header.api.is_flexible(header.version), &response);
    builder.finish()
}

/// The topics that are asked for and exist, each with the partitions that are; no list of topics is all of them.
fn wanted(context: &Context, request: DescribeLogDirsRequest) -> Vec<(Arc<Topic>, Option<Vec<i32>>)> {
    let topics = context.broker().topics();
    let Some(mut asked) = request.topics else {
        return topics.all().into_iter().map(|topic| (topic, None)).collect();
    };
    without_repeats(&mut asked, |topic| topic.topic.to_string());
    let found = asked.into_iter().filter_map(|asked| Some((topics.resolve(&asked.topic)?, Some(asked.partitions))));
    found.collect()
}
