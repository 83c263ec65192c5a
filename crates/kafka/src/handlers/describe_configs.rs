//! DescribeConfigs: every key of topics and brokers with value, source, type and documentation.

use broker::configs::{Entry, Resource, Source, Synonym, ValueKind};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use record::NodeId;

use super::room::{Room, without_repeats};
use super::topic_partition::text;
use crate::context::Context;
use crate::errors::{Code, INVALID_REQUEST};

pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// The first version with types and documentation.
const TYPES_SINCE: i16 = 3;

/// What a client asks for beyond values.
#[derive(Clone, Copy)]
struct Wanted {
    synonyms: bool,
    documentation: bool,
    types: bool,
}

pub(super) async fn handle(
    context: &mut Context,
    request: DescribeConfigsRequest,
    version: i16,
) -> DescribeConfigsResponse {
    let wanted = Wanted {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
        types: version >= TYPES_SINCE,
    };
    let mut resources = request.resources;
    without_repeats(&mut resources, |resource| {
        let name = &resource.resource_name;
        let number = if resource.resource_type == BROKER { name.parse::<u64>().ok() } else { None };
        format!("{} {}", resource.resource_type, number.map_or_else(|| name.to_string(), |number| number.to_string()))
    });
    let mut room = Room::of(context);
    let results = resources.into_iter().map(|resource| describe(context, resource, wanted, &mut room));
    DescribeConfigsResponse::default().with_results(results.collect())
}

/// About what one key of an answer takes, in memory and on the wire.
fn bytes(config: &DescribeConfigsResourceResult) -> usize {
    let text = |text: &Option<StrBytes>| text.as_ref().map_or(0, |text| text.len());
    let synonyms = config.synonyms.iter().map(|synonym| size_of::<DescribeConfigsSynonym>() + 2 * text(&synonym.value));
    size_of::<DescribeConfigsResourceResult>()
        + 2 * text(&config.value)
        + text(&config.documentation)
        + synonyms.sum::<usize>()
}

fn describe(
    context: &Context,
    asked: DescribeConfigsResource,
    wanted: Wanted,
    room: &mut Room,
) -> DescribeConfigsResult {
    let result = DescribeConfigsResult::default()
        .with_resource_type(asked.resource_type)
        .with_resource_name(asked.resource_name.clone())
        .with_error_message(Some(StrBytes::new()));
    if room.is_used_up() {
        let message = "Too many resources for one request.";
        return result.with_error_code(INVALID_REQUEST).with_error_message(Some(text(message)));
    }
    let resource = match asked.resource_type {
        TOPIC => Ok(Resource::Topic(asked.resource_name.to_string())),
        BROKER => broker_resource(context, &asked.resource_name, "1 or empty string"),
        // There are no such resources, and none of their keys is set.
        BROKER_LOGGER | CLIENT_METRICS | GROUP => return result,
        other => Err(format!("Unknown resource type {other}")),
    };
    let resource = match resource {
        Ok(resource) => resource,
        Err(message) => {
            return result.with_error_code(INVALID_REQUEST).with_error_message(Some(text(message)));
        }
    };
    // No names are all names, null or empty.
    let keys: Option<Vec<String>> = asked
        .configuration_keys
        .filter(|keys| !keys.is_empty())
        .map(|keys| keys.iter().map(ToString::to_string).collect());
    match context.broker().configs().describe(&resource, keys.as_deref()) {
        Ok(entries) => {
            let configs: Vec<_> = entries.into_iter().map(|entry| config(entry, wanted)).collect();
            room.take(configs.iter().map(bytes).sum());
            result.with_configs(configs)
        }
        Err(error) => result.with_error_code(error.code()).with_error_message(Some(text(error.to_string()))),
    }
}

/// The node a broker resource names; empty is the default of all nodes. `expected` says what is allowed beside it.
pub(super) fn broker_resource(context: &Context, name: &str, expected: &str) -> Result<Resource, String> {
    if name.is_empty() {
        return Ok(Resource::BrokerDefault);
    }
    let own = context.broker().cluster().node_id();
    match name.parse::<u64>() {
        Ok(id) if NodeId(id) == own => Ok(Resource::Broker(own)),
        Ok(id) => {
            let expected = expected.replacen('1', &own.to_string(), 1);
            Err(format!("Unexpected broker id, expected {expected}, but received {id}"))
        }
        Err(_) => Err(format!("Broker id must be an integer, but it is: {name}")),
    }
}

fn config(entry: Entry, wanted: Wanted) -> DescribeConfigsResourceResult {
    let result = DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(entry.name))
        .with_value(entry.value.map(text))
        .with_read_only(entry.read_only)
        .with_config_source(source_code(entry.source))
        .with_is_sensitive(entry.sensitive);
    let result =
        if wanted.synonyms { result.with_synonyms(entry.synonyms.into_iter().map(synonym).collect()) } else { result };
    let result = if wanted.types { result.with_config_type(kind_code(entry.kind)) } else { result };
    let documentation = (wanted.types && wanted.documentation).then(|| StrBytes::from_static_str(entry.documentation));
    result.with_documentation(documentation)
}

fn synonym(synonym: Synonym) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(StrBytes::from_static_str(synonym.name))
        .with_value(synonym.value.map(text))
        .with_source(source_code(synonym.source))
}

pub(super) const fn source_code(source: Source) -> i8 {
    match source {
        Source::DynamicTopic => 1,
        Source::DynamicBroker => 2,
        Source::DynamicDefaultBroker => 3,
        Source::StaticBroker => 4,
        Source::Default => 5,
    }
}

const fn kind_code(kind: ValueKind) -> i8 {
    match kind {
        ValueKind::Boolean => 1,
        ValueKind::String => 2,
        ValueKind::Int => 3,
        ValueKind::Short => 4,
        ValueKind::Long => 5,
        ValueKind::Double => 6,
        ValueKind::List => 7,
        ValueKind::Class => 8,
        ValueKind::Password => 9,
    }
}
