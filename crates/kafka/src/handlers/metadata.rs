//! Metadata: nodes, topics and partitions, as seen through the listener that was asked.
//!
//! The response is written straight from the broker's own topics: with many of them it is the largest answer there is.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker::nodes::Copies;
use broker::topics::{Topic, Topics};
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use record::NodeId;
use uuid::Uuid;

use super::topic_partition::{CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS, find, operations};
use crate::context::{Context, node_id};
use crate::endpoints::Endpoints;
use crate::errors::{
    INVALID_REQUEST, INVALID_TOPIC_EXCEPTION, NONE, REPLICA_NOT_AVAILABLE, UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION,
};
use crate::handshake::RequestHeader;
use crate::wire::response::{EncodeError, Response, ResponseBuilder};
use crate::wire::write::Write;

/// The first version in which a null list, and no longer an empty one, means all topics.
pub(super) const NULL_IS_ALL: i16 = 1;
/// The first version whose clients say whether topics may be created; before, they may.
const CREATION_SINCE: i16 = 4;
/// The first version whose answer has leader epochs.
const EPOCHS_SINCE: i16 = 7;
/// The first version that finds topics by id.
const BY_ID: i16 = 12;
/// The first version whose clients know that a node may lack the listener.
const LISTENERS_SINCE: i16 = 6;
/// Of a shard that the metadata does not know.
static NO_COPIES: Copies =
    Copies { wanted: Vec::new(), replicas: Vec::new(), voters: Vec::new(), in_sync: Vec::new(), offline: Vec::new() };

/// What is said of one topic.
enum Answer {
    Found(Arc<Topic>),
    Refused { code: i16, name: Option<String>, id: Uuid },
}

pub(super) async fn handle(
    context: &Context,
    header: &RequestHeader,
    request: MetadataRequest,
) -> Result<Response, EncodeError> {
    let version = header.version;
    let asked = request.topics.filter(|topics| version >= NULL_IS_ALL || !topics.is_empty());
    let may_create = version < CREATION_SINCE || request.allow_auto_topic_creation;
    let Some(asked) = asked else {
        let answers: Vec<Answer> = context.broker().topics().all().into_iter().map(Answer::Found).collect();
        learn_epochs(context, version, &answers).await;
        return write(
            context,
            header,
            &answers,
            request_operations(&request.include_cluster_authorized_operations, version),
            request.include_topic_authorized_operations,
        );
    };
    if version < BY_ID && asked.iter().any(|topic| topic.name.is_none() || !topic.topic_id.is_nil()) {
        return refuse(header, &asked);
    }
    let answers = resolve(context, asked, may_create);
    learn_epochs(context, version, &answers).await;
    write(
        context,
        header,
        &answers,
        request_operations(&request.include_cluster_authorized_operations, version),
        request.include_topic_authorized_operations,
    )
}

/// Clients of versions that know of leader epochs are told one of every partition, wherever its copies are.
async fn learn_epochs(context: &Context, version: i16, answers: &[Answer]) {
    if version < EPOCHS_SINCE {
        return;
    }
    let found = answers.iter().filter_map(|answer| match answer {
        Answer::Found(topic) => Some(&**topic),
        Answer::Refused { .. } => None,
    });
    context.broker().topics().learn_epochs(found).await;
}

/// Whether the cluster's operations are asked for, in the versions that can.
const fn request_operations(asked: &bool, version: i16) -> bool {
    *asked && version >= 8 && version <= 10
}

/// Each topic once, in the order of the request; those that may be created are on their way after this.
fn resolve(context: &Context, asked: Vec<MetadataRequestTopic>, may_create: bool) -> Vec<Answer> {
    let mut seen = BTreeSet::new();
    let mut missing = Vec::new();
    let mut answers = Vec::with_capacity(asked.len());
    for topic in &asked {
        let name = topic.name.as_deref();
        // An id outweighs a name.
        let key = if topic.topic_id.is_nil() { name.map(|name| &**name) } else { None };
        if !seen.insert((key, topic.topic_id)) {
            continue;
        }
        let Some(name) = key else {
            answers.push(match find(context.broker(), "", topic.topic_id) {
                Some(found) if !topic.topic_id.is_nil() => Answer::Found(found),
                _ => Answer::Refused { code: UNKNOWN_TOPIC_ID, name: None, id: topic.topic_id },
            });
            continue;
        };
        answers.push(match context.broker().topics().resolve(name) {
            Some(found) => Answer::Found(found),
            None => {
                let code = if Topics::check_name(name).is_err() {
                    INVALID_TOPIC_EXCEPTION
                } else {
                    missing.push(name.to_owned());
                    UNKNOWN_TOPIC_OR_PARTITION
                };
                Answer::Refused { code, name: Some(name.to_owned()), id: Uuid::nil() }
            }
        });
    }
    if may_create && !missing.is_empty() {
        create(context, missing);
    }
    answers
}

/// Creates topics behind the answer, which says that they are not known: clients ask again until they are.
fn create(context: &Context, names: Vec<String>) {
    if !context.broker().config().auto_create_topics {
        return;
    }
    // Beyond the limit nothing is created; the client that asks again may have more luck.
    let Ok(permit) = Arc::clone(&context.shared.auto_creations).try_acquire_owned() else { return };
    let broker = context.broker().clone();
    base::task::spawn("create asked topics", async move {
        for result in broker.topics().create_automatically(names).await {
            if let Err(error) = result {
                tracing::warn!(%error, "a topic that was asked for could not be created");
            }
        }
        drop(permit);
    });
}

/// Kafka's answer to a null name in a version that cannot look for ids.
fn refuse(header: &RequestHeader, asked: &[MetadataRequestTopic]) -> Result<Response, EncodeError> {
    let answers: Vec<Answer> = asked
        .iter()
        .map(|topic| Answer::Refused {
            code: INVALID_REQUEST,
            name: Some(topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default()),
            id: topic.topic_id,
        })
        .collect();
    let mut builder = ResponseBuilder::new(header, 128);
    let (version, flexible) = (header.version, header.api.is_flexible(header.version));
    let body = builder.head();
    body.put_i32(0);
    body.count(flexible, 0);
    body.nullable_text(flexible, None);
    body.put_i32(-1);
    body.count(flexible, answers.len());
    for answer in &answers {
        write_answer(body, version, flexible, OPERATIONS_NOT_ASKED, answer, |_, _| {});
    }
    end(body, version, flexible, OPERATIONS_NOT_ASKED);
    builder.finish()
}

fn write(
    context: &Context,
    header: &RequestHeader,
    answers: &[Answer],
    cluster_operations: bool,
    topic_operations: bool,
) -> Result<Response, EncodeError> {
    let (version, flexible) = (header.version, header.api.is_flexible(header.version));
    let shared = &context.shared;
    let partitions: usize = answers
        .iter()
        .map(|answer| match answer {
            Answer::Found(topic) => topic.partitions.len(),
            Answer::Refused { .. } => 0,
        })
        .sum();
    let mut builder = ResponseBuilder::new(header, 128 + 64 * answers.len() + 48 * partitions);
    let body = builder.head();
    if version >= 3 {
        body.put_i32(0);
    }
    let endpoints = shared.endpoints();
    body.count(flexible, endpoints.all().len());
    for endpoint in endpoints.all() {
        body.put_i32(endpoint.id);
        body.text(flexible, &endpoint.host);
        body.put_i32(endpoint.port);
        if version >= 1 {
            body.nullable_text(flexible, endpoint.rack.as_deref());
        }
        body.no_tags(flexible);
    }
    if version >= 2 {
        body.text(flexible, &shared.cluster_id);
    }
    if version >= 1 {
        body.put_i32(shared.controller_id(&endpoints));
    }
    body.count(flexible, answers.len());
    let topic_operations = operations(topic_operations, TOPIC_OPERATIONS);
    for answer in answers {
        write_answer(body, version, flexible, topic_operations, answer, |body, topic| {
            write_partitions(&endpoints, body, version, flexible, topic);
        });
    }
    end(body, version, flexible, operations(cluster_operations, CLUSTER_OPERATIONS));
    builder.finish()
}

fn end(body: &mut BytesMut, version: i16, flexible: bool, cluster_operations: i32) {
    if (8..=10).contains(&version) {
        body.put_i32(cluster_operations);
    }
    if version >= 13 {
        body.put_i16(NONE);
    }
    body.no_tags(flexible);
}

fn write_answer(
    body: &mut BytesMut,
    version: i16,
    flexible: bool,
    operations: i32,
    answer: &Answer,
    write_partitions: impl FnOnce(&mut BytesMut, &Arc<Topic>),
) {
    let (code, name, id) = match answer {
        Answer::Found(topic) => (NONE, Some(&*topic.name), topic.id.0),
        Answer::Refused { code, name, id } => (*code, name.as_deref(), id.as_u128()),
    };
    body.put_i16(code);
    body.nullable_text(flexible, name);
    if version >= 10 {
        body.put_u128(id);
    }
    if version >= 1 {
        body.put_u8(0); // no topic is internal
    }
    match answer {
        Answer::Found(topic) => {
            body.count(flexible, topic.partitions.len());
            write_partitions(body, topic);
        }
        Answer::Refused { .. } => body.count(flexible, 0),
    }
    if version >= 8 {
        // Of a topic that cannot be found by id nothing is said.
        body.put_i32(if name.is_some() { operations } else { OPERATIONS_NOT_ASKED });
    }
    body.no_tags(flexible);
}

fn write_partitions(endpoints: &Endpoints, body: &mut BytesMut, version: i16, flexible: bool, topic: &Topic) {
    for (index, partition) in (0..).zip(&topic.partitions) {
        let leader = partition.leader();
        let copies = endpoints.view().copies(partition.shard()).unwrap_or(&NO_COPIES);
        // The oldest clients are told of live nodes only, and that there are others.
        let all = version >= 1;
        let (code, leader_id) = match endpoints.leader(leader, version >= LISTENERS_SINCE) {
            Ok(leader) if all || copies.offline.is_empty() => (NONE, leader),
            Ok(leader) => (REPLICA_NOT_AVAILABLE, leader),
            Err(code) => (code, -1),
        };
        body.put_i16(code);
        body.put_i32(index);
        body.put_i32(leader_id);
        if version >= EPOCHS_SINCE {
            body.put_i32(leader.epoch);
        }
        write_nodes(body, flexible, copies.replicas.iter().filter(|node| all || !copies.offline.contains(node)));
        write_nodes(body, flexible, copies.in_sync.iter());
        if version >= 5 {
            write_nodes(body, flexible, copies.offline.iter());
        }
        body.no_tags(flexible);
    }
}

fn write_nodes<'a>(body: &mut BytesMut, flexible: bool, nodes: impl Iterator<Item = &'a NodeId> + Clone) {
    body.count(flexible, nodes.clone().count());
    nodes.for_each(|node| body.put_i32(node_id(*node)));
}
