//! The versions that the message crate lacks: OffsetCommit 10 and OffsetFetch 10 (topics by id, KIP-848), and
//! ListOffsets 11, whose bytes are those of version 10. They read and write the crate's own structures.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::produce::Text;
use super::read::{Malformed, Reader};
use super::write::Write;

/// The version that this module speaks.
pub(crate) const BY_ID: i16 = 10;

/// The version in which the message crate reads and writes what is `version` on the wire.
pub(crate) const fn list_offsets_crate_version(version: i16) -> i16 {
    if version == 11 { 10 } else { version }
}

fn text(reader: &mut Reader<'_>, frame: &Bytes) -> Result<StrBytes, Malformed> {
    StrBytes::from_utf8(Text::read(reader, frame, true)?.into_bytes()).map_err(|_| Malformed::NotUtf8)
}

fn nullable_text(reader: &mut Reader<'_>) -> Result<Option<StrBytes>, Malformed> {
    Ok(reader.nullable_text(true)?.map(|text| StrBytes::from_string(text.to_owned())))
}

/// The body was walked by [`super::guard`]: its counts are backed by bytes and its cost is bounded.
pub(crate) fn decode_offset_commit(frame: &Bytes, at: usize) -> Result<OffsetCommitRequest, Malformed> {
    let reader = &mut Reader::starting_at(frame, at);
    let mut request = OffsetCommitRequest::default()
        .with_group_id(text(reader, frame)?.into())
        .with_generation_id_or_member_epoch(reader.i32()?)
        .with_member_id(text(reader, frame)?)
        .with_group_instance_id(nullable_text(reader)?);
    for _ in 0..reader.count(true, 18)? {
        let mut topic = OffsetCommitRequestTopic::default().with_topic_id(Uuid::from_u128(reader.u128()?));
        for _ in 0..reader.count(true, 18)? {
            topic.partitions.push(
                OffsetCommitRequestPartition::default()
                    .with_partition_index(reader.i32()?)
                    .with_committed_offset(reader.i64()?)
                    .with_committed_leader_epoch(reader.i32()?)
                    .with_committed_metadata(nullable_text(reader)?),
            );
            reader.skip_tags()?;
        }
        reader.skip_tags()?;
        request.topics.push(topic);
    }
    reader.skip_tags()?;
    Ok(request)
}

/// The body was walked by [`super::guard`]: its counts are backed by bytes and its cost is bounded.
pub(crate) fn decode_offset_fetch(frame: &Bytes, at: usize) -> Result<OffsetFetchRequest, Malformed> {
    let reader = &mut Reader::starting_at(frame, at);
    let mut request = OffsetFetchRequest::default();
    for _ in 0..reader.count(true, 5)? {
        let mut group = OffsetFetchRequestGroup::default()
            .with_group_id(text(reader, frame)?.into())
            .with_member_id(nullable_text(reader)?)
            .with_member_epoch(reader.i32()?)
            .with_topics(None);
        if let Some(count) = reader.nullable_count(true, 18)? {
            let mut topics = Vec::with_capacity(count);
            for _ in 0..count {
                let id = Uuid::from_u128(reader.u128()?);
                let count = reader.count(true, 4)?;
                let partitions = (0..count).map(|_| reader.i32()).collect::<Result<_, _>>()?;
                reader.skip_tags()?;
                topics.push(OffsetFetchRequestTopics::default().with_topic_id(id).with_partition_indexes(partitions));
            }
            group.topics = Some(topics);
        }
        reader.skip_tags()?;
        request.groups.push(group);
    }
    request.require_stable = reader.i8()? != 0;
    reader.skip_tags()?;
    Ok(request)
}

pub(crate) fn encode_offset_commit(into: &mut BytesMut, response: &OffsetCommitResponse) {
    into.put_i32(response.throttle_time_ms);
    into.count(true, response.topics.len());
    for topic in &response.topics {
        into.put_u128(topic.topic_id.as_u128());
        into.count(true, topic.partitions.len());
        for partition in &topic.partitions {
            into.put_i32(partition.partition_index);
            into.put_i16(partition.error_code);
            into.no_tags(true);
        }
        into.no_tags(true);
    }
    into.no_tags(true);
}

pub(crate) fn encode_offset_fetch(into: &mut BytesMut, response: &OffsetFetchResponse) {
    into.put_i32(response.throttle_time_ms);
    into.count(true, response.groups.len());
    for group in &response.groups {
        into.text(true, &group.group_id);
        into.count(true, group.topics.len());
        for topic in &group.topics {
            into.put_u128(topic.topic_id.as_u128());
            into.count(true, topic.partitions.len());
            for partition in &topic.partitions {
                into.put_i32(partition.partition_index);
                into.put_i64(partition.committed_offset);
                into.put_i32(partition.committed_leader_epoch);
                into.nullable_text(true, partition.metadata.as_deref());
                into.put_i16(partition.error_code);
                into.no_tags(true);
            }
            into.no_tags(true);
        }
        into.put_i16(group.error_code);
        into.no_tags(true);
    }
    into.no_tags(true);
}
