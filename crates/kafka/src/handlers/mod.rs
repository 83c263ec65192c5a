//! One file per request: what it asks of the broker and how the answer is said.
//!
//! A handler gets a decoded request and returns a response; decoding, encoding and order are done here and by the
//! connection. Produce is apart: it is submitted at once and answered later.

use bytes::Bytes;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, DescribeLogDirsRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest,
    ElectLeadersRequest, FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest,
    InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    OffsetForLeaderEpochRequest, SaslAuthenticateRequest, SaslHandshakeRequest, SyncGroupRequest,
    UnregisterBrokerRequest,
};
use kafka_protocol::protocol::Decodable;

use crate::context::Context;
use crate::frame::Hold;
use crate::handshake::{ApiKey, RequestHeader};
use crate::limits::DECODED_BYTES_MAX;
use crate::wire::fetch::FetchRequest;
use crate::wire::produce::ProduceRequest;
use crate::wire::read::Malformed;
use crate::wire::response::{EncodeError, Response, ResponseBuilder};
use crate::wire::{commit, guard, log_dirs, schema};

mod alter_partition_reassignments;
mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
pub(crate) mod produce;
mod room;
mod sasl_authenticate;
mod sasl_handshake;
mod sync_group;
mod topic_partition;
mod unregister_broker;

/// Why a request got no response. Both end the connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Walks the body, so that decoding it is safe; an upper bound for what it decodes to.
fn check(header: &RequestHeader, body: &Bytes, bytes_max: usize) -> Result<usize, Malformed> {
    let Some(fields) = schema::body(header.api.key) else { return Ok(0) };
    let flexible = header.api.is_flexible(header.version);
    guard::check(fields, body, header.body_at, header.version, flexible, bytes_max)
}

/// Decodes a body that [`check`] has passed, in the message crate's `version`.
fn decode<Q: Decodable>(header: &RequestHeader, body: &Bytes, version: i16) -> Result<Q, Malformed> {
    let mut rest = body.slice(header.body_at..);
    Q::decode(&mut rest, version).map_err(|error| Malformed::Body(error.to_string()))
}

/// Serves every request but Produce.
///
/// The request's memory is given back with its body: before the response is sent, and before a long wait.
pub(crate) async fn serve(
    context: &mut Context,
    header: &RequestHeader,
    body: Bytes,
    hold: Hold,
) -> Result<Response, ServeError> {
    let version = header.version;
    if header.api.key == ApiKey::ApiVersions && !header.api.serves(version) {
        return Ok(api_versions::unsupported(header)?);
    }
    let cost = check(header, &body, context.shared.memory.decoded_bytes_max())?;
    let decoded = context.shared.memory.acquire_decoded(cost).await;

    macro_rules! message {
        ($request:ty, $handler:ident) => {{
            let request = decode::<$request>(header, &body, version)?;
            let response = $handler::handle(context, request, version).await;
            Response::message(header, version, &response)?
        }};
    }

    Ok(match header.api.key {
        // The connection submits it itself, for its order.
        ApiKey::Produce => return Err(Malformed::Body("produce is not served here".to_owned()).into()),
        ApiKey::Fetch => fetch::handle(context, header, body, hold).await?,
        ApiKey::ListOffsets => {
            let crate_version = commit::list_offsets_crate_version(version);
            let request = decode::<ListOffsetsRequest>(header, &body, crate_version)?;
            let response = list_offsets::handle(context, request, version).await;
            Response::message(header, crate_version, &response)?
        }
        ApiKey::Metadata => {
            let request = decode::<MetadataRequest>(header, &body, version)?;
            if request.topics.is_none() && version < metadata::NULL_IS_ALL {
                return Err(Malformed::Null.into());
            }
            metadata::handle(context, header, request).await?
        }
        ApiKey::OffsetCommit if version == commit::BY_ID => {
            let request = commit::decode_offset_commit(&body, header.body_at)?;
            let response = offset_commit::handle(context, request, version).await;
            let mut builder = ResponseBuilder::new(header, 128);
            commit::encode_offset_commit(builder.head(), &response);
            builder.finish()?
        }
        ApiKey::OffsetCommit => message!(OffsetCommitRequest, offset_commit),
        ApiKey::OffsetFetch if version == commit::BY_ID => {
            let request = commit::decode_offset_fetch(&body, header.body_at)?;
            let response = offset_fetch::handle(context, request, version).await;
            let mut builder = ResponseBuilder::new(header, 128);
            commit::encode_offset_fetch(builder.head(), &response);
            builder.finish()?
        }
        ApiKey::OffsetFetch => {
            let request = decode::<OffsetFetchRequest>(header, &body, version)?;
            if request.topics.is_none() && version < offset_fetch::NULL_IS_ALL_SINCE {
                return Err(Malformed::Null.into());
            }
            let response = offset_fetch::handle(context, request, version).await;
            Response::message(header, version, &response)?
        }
        ApiKey::FindCoordinator => message!(FindCoordinatorRequest, find_coordinator),
        ApiKey::JoinGroup => {
            let request = decode::<JoinGroupRequest>(header, &body, version)?;
            let join = join_group::owned(context, request, version);
            drop((body, hold, decoded));
            let response = join_group::handle(context, join, version).await;
            Response::message(header, version, &response)?
        }
        ApiKey::Heartbeat => message!(HeartbeatRequest, heartbeat),
        ApiKey::LeaveGroup => message!(LeaveGroupRequest, leave_group),
        ApiKey::SyncGroup => {
            let sync = sync_group::owned(decode::<SyncGroupRequest>(header, &body, version)?, version);
            drop((body, hold, decoded));
            let response = sync_group::handle(context, sync, version).await;
            Response::message(header, version, &response)?
        }
        ApiKey::DescribeGroups => message!(DescribeGroupsRequest, describe_groups),
        ApiKey::ListGroups => message!(ListGroupsRequest, list_groups),
        ApiKey::SaslHandshake => message!(SaslHandshakeRequest, sasl_handshake),
        ApiKey::ApiVersions => message!(ApiVersionsRequest, api_versions),
        ApiKey::CreateTopics => message!(CreateTopicsRequest, create_topics),
        ApiKey::DeleteTopics => message!(DeleteTopicsRequest, delete_topics),
        ApiKey::DeleteRecords => message!(DeleteRecordsRequest, delete_records),
        ApiKey::InitProducerId => message!(InitProducerIdRequest, init_producer_id),
        ApiKey::OffsetForLeaderEpoch => message!(OffsetForLeaderEpochRequest, offset_for_leader_epoch),
        ApiKey::DescribeConfigs => message!(DescribeConfigsRequest, describe_configs),
        ApiKey::DescribeLogDirs => {
            let request = decode::<DescribeLogDirsRequest>(header, &body, log_dirs::crate_version(version))?;
            describe_log_dirs::handle(context, header, request).await?
        }
        ApiKey::SaslAuthenticate => message!(SaslAuthenticateRequest, sasl_authenticate),
        ApiKey::CreatePartitions => message!(CreatePartitionsRequest, create_partitions),
        ApiKey::DeleteGroups => message!(DeleteGroupsRequest, delete_groups),
        ApiKey::ElectLeaders => message!(ElectLeadersRequest, elect_leaders),
        ApiKey::IncrementalAlterConfigs => message!(IncrementalAlterConfigsRequest, incremental_alter_configs),
        ApiKey::AlterPartitionReassignments => {
            message!(AlterPartitionReassignmentsRequest, alter_partition_reassignments)
        }
        ApiKey::ListPartitionReassignments => message!(ListPartitionReassignmentsRequest, list_partition_reassignments),
        ApiKey::OffsetDelete => message!(OffsetDeleteRequest, offset_delete),
        ApiKey::DescribeQuorum => message!(DescribeQuorumRequest, describe_quorum),
        ApiKey::DescribeCluster => message!(DescribeClusterRequest, describe_cluster),
        ApiKey::UnregisterBroker => message!(UnregisterBrokerRequest, unregister_broker),
        ApiKey::DescribeTopicPartitions => message!(DescribeTopicPartitionsRequest, describe_topic_partitions),
    })
}

/// Decodes a request, header and body, the way a connection does; whether it is well-formed.
pub(crate) fn decode_any(bytes: &Bytes) -> bool {
    let Ok(header) = RequestHeader::parse(bytes) else { return false };
    decode_body(&header, bytes).is_ok()
}

fn decode_body(header: &RequestHeader, body: &Bytes) -> Result<(), Malformed> {
    let version = header.version;
    if !header.api.serves(version) {
        return Ok(());
    }
    let flexible = header.api.is_flexible(version);
    check(header, body, DECODED_BYTES_MAX)?;
    match header.api.key {
        ApiKey::Produce => ProduceRequest::decode(body, header.body_at, version, flexible, DECODED_BYTES_MAX).map(drop),
        ApiKey::Fetch => FetchRequest::decode(body, header.body_at, version, flexible, DECODED_BYTES_MAX).map(drop),
        ApiKey::ListOffsets => {
            decode::<ListOffsetsRequest>(header, body, commit::list_offsets_crate_version(version)).map(drop)
        }
        ApiKey::Metadata => decode::<MetadataRequest>(header, body, version).map(drop),
        ApiKey::OffsetCommit if version == commit::BY_ID => {
            commit::decode_offset_commit(body, header.body_at).map(drop)
        }
        ApiKey::OffsetCommit => decode::<OffsetCommitRequest>(header, body, version).map(drop),
        ApiKey::OffsetFetch if version == commit::BY_ID => commit::decode_offset_fetch(body, header.body_at).map(drop),
        ApiKey::OffsetFetch => decode::<OffsetFetchRequest>(header, body, version).map(drop),
        ApiKey::FindCoordinator => decode::<FindCoordinatorRequest>(header, body, version).map(drop),
        ApiKey::JoinGroup => decode::<JoinGroupRequest>(header, body, version).map(drop),
        ApiKey::Heartbeat => decode::<HeartbeatRequest>(header, body, version).map(drop),
        ApiKey::LeaveGroup => decode::<LeaveGroupRequest>(header, body, version).map(drop),
        ApiKey::SyncGroup => decode::<SyncGroupRequest>(header, body, version).map(drop),
        ApiKey::DescribeGroups => decode::<DescribeGroupsRequest>(header, body, version).map(drop),
        ApiKey::ListGroups => decode::<ListGroupsRequest>(header, body, version).map(drop),
        ApiKey::SaslHandshake => decode::<SaslHandshakeRequest>(header, body, version).map(drop),
        ApiKey::ApiVersions => decode::<ApiVersionsRequest>(header, body, version).map(drop),
        ApiKey::CreateTopics => decode::<CreateTopicsRequest>(header, body, version).map(drop),
        ApiKey::DeleteTopics => decode::<DeleteTopicsRequest>(header, body, version).map(drop),
        ApiKey::DeleteRecords => decode::<DeleteRecordsRequest>(header, body, version).map(drop),
        ApiKey::InitProducerId => decode::<InitProducerIdRequest>(header, body, version).map(drop),
        ApiKey::OffsetForLeaderEpoch => decode::<OffsetForLeaderEpochRequest>(header, body, version).map(drop),
        ApiKey::DescribeConfigs => decode::<DescribeConfigsRequest>(header, body, version).map(drop),
        ApiKey::DescribeLogDirs => {
            decode::<DescribeLogDirsRequest>(header, body, log_dirs::crate_version(version)).map(drop)
        }
        ApiKey::SaslAuthenticate => decode::<SaslAuthenticateRequest>(header, body, version).map(drop),
        ApiKey::CreatePartitions => decode::<CreatePartitionsRequest>(header, body, version).map(drop),
        ApiKey::DeleteGroups => decode::<DeleteGroupsRequest>(header, body, version).map(drop),
        ApiKey::ElectLeaders => decode::<ElectLeadersRequest>(header, body, version).map(drop),
        ApiKey::IncrementalAlterConfigs => decode::<IncrementalAlterConfigsRequest>(header, body, version).map(drop),
        ApiKey::AlterPartitionReassignments => {
            decode::<AlterPartitionReassignmentsRequest>(header, body, version).map(drop)
        }
        ApiKey::ListPartitionReassignments => {
            decode::<ListPartitionReassignmentsRequest>(header, body, version).map(drop)
        }
        ApiKey::OffsetDelete => decode::<OffsetDeleteRequest>(header, body, version).map(drop),
        ApiKey::DescribeQuorum => decode::<DescribeQuorumRequest>(header, body, version).map(drop),
        ApiKey::DescribeCluster => decode::<DescribeClusterRequest>(header, body, version).map(drop),
        ApiKey::UnregisterBroker => decode::<UnregisterBrokerRequest>(header, body, version).map(drop),
        ApiKey::DescribeTopicPartitions => decode::<DescribeTopicPartitionsRequest>(header, body, version).map(drop),
    }
}
