//! `rosettamq topic`: create, list, describe and delete.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{BrokerId, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest};

use super::cluster::{Cluster, UNKNOWN_TOPIC_OR_PARTITION, text, topic_name};
use super::fetch::{EARLIEST, LATEST, list_offsets};
use super::output::{Table, print};
use super::{error_name, error_text};
use crate::cli::TopicCommand;

const TOPIC_ALREADY_EXISTS: i16 = 36;
const RESOURCE_TOPIC: i8 = 2;
/// The source of a configuration that was set on the topic itself.
const SOURCE_TOPIC: i8 = 1;

pub(super) async fn run(cluster: &mut Cluster, command: TopicCommand) -> anyhow::Result<()> {
    match command {
        TopicCommand::Create { topics, partitions, configs, if_not_exists } => {
            create(cluster, &topics, partitions, &configs, if_not_exists).await
        }
        TopicCommand::List => list(cluster).await,
        TopicCommand::Describe { topics } => describe(cluster, &topics).await,
        TopicCommand::Delete { topics } => delete(cluster, &topics).await,
    }
}

async fn create(
    cluster: &mut Cluster,
    topics: &[String],
    partitions: Option<i32>,
    configs: &[String],
    if_not_exists: bool,
) -> anyhow::Result<()> {
    let configs = configs
        .iter()
        .map(|config| {
            let (key, value) = config.split_once('=').with_context(|| format!("{config:?} is not KEY=VALUE"))?;
            Ok(CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let topics = topics
        .iter()
        .map(|name| {
            CreatableTopic::default()
                .with_name(topic_name(name))
                .with_num_partitions(partitions.unwrap_or(-1))
                .with_replication_factor(-1)
                .with_configs(configs.clone())
        })
        .collect();
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(timeout_ms(cluster.timeout()));
    let mut faults = Faults::default();
    for topic in cluster.call(&request, 7).await?.topics {
        let exists = topic.error_code == TOPIC_ALREADY_EXISTS;
        if topic.error_code == 0 {
            print(&format!("{}\n", topic.name.0.as_str()))?;
        } else if !(exists && if_not_exists) {
            let why = error_text(topic.error_code, topic.error_message.as_ref());
            faults.add("topic", &topic.name.0, &why);
        }
    }
    faults.finish()
}

async fn list(cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut names: Vec<_> = all_topics(cluster).await?.iter().filter_map(name_of).collect();
    names.sort_unstable();
    print(&names.iter().fold(String::new(), |mut page, name| {
        let _ = writeln!(page, "{name}");
        page
    }))?;
    Ok(())
}

async fn all_topics(cluster: &mut Cluster) -> anyhow::Result<Vec<MetadataResponseTopic>> {
    Ok(cluster.metadata(None, false).await?.topics)
}

fn name_of(topic: &MetadataResponseTopic) -> Option<String> {
    topic.name.as_ref().map(|name| name.0.as_str().to_owned())
}

async fn describe(cluster: &mut Cluster, names: &[String]) -> anyhow::Result<()> {
    let mut topics =
        if names.is_empty() { all_topics(cluster).await? } else { cluster.metadata(Some(names), false).await?.topics };
    topics.sort_by_key(name_of);
    let mut faults = Faults::default();
    let mut first = true;
    for topic in topics {
        let name = name_of(&topic).unwrap_or_default();
        if topic.error_code != 0 {
            faults.add("topic", &name, &error_name(topic.error_code));
            continue;
        }
        let page = describe_one(cluster, &name, topic).await?;
        let gap = if std::mem::take(&mut first) { "" } else { "\n" };
        print(&format!("{gap}{page}"))?;
    }
    faults.finish()
}

async fn describe_one(cluster: &mut Cluster, name: &str, mut topic: MetadataResponseTopic) -> anyhow::Result<String> {
    let mut page = format!("{name}\n  id          {}\n", kafka_id(topic.topic_id.as_bytes()));
    let _ = writeln!(page, "  partitions  {}", topic.partitions.len());
    for (key, value) in own_configs(cluster, name).await? {
        let _ = writeln!(page, "  {key} = {value}");
    }
    let mut leaders = super::cluster::leaders(&topic);
    // Nobody can be asked of those that have none.
    leaders.retain(|_, leader| leader.node >= 0);
    let positions = |timestamp| leaders.keys().map(|partition| (*partition, timestamp)).collect();
    let first = list_offsets(cluster, name, &leaders, &positions(EARLIEST)).await?;
    // Without a majority the leader does not say: what else is known is shown all the same.
    let next = list_offsets(cluster, name, &leaders, &positions(LATEST)).await;
    if let Err(error) = &next {
        let _ = writeln!(page, "  unknown     {error:#}");
    }
    let next = next.unwrap_or_default();
    let mut table = Table::new(&["PARTITION", "LEADER", "REPLICAS", "IN SYNC", "FIRST OFFSET", "NEXT OFFSET"]);
    topic.partitions.sort_by_key(|partition| partition.partition_index);
    for partition in &topic.partitions {
        let index = partition.partition_index;
        let offset = |offsets: &std::collections::BTreeMap<i32, i64>| {
            offsets.get(&index).map_or_else(|| "?".to_owned(), ToString::to_string)
        };
        table.row(vec![
            index.to_string(),
            if partition.leader_id.0 < 0 { "none".to_owned() } else { partition.leader_id.0.to_string() },
            nodes(&partition.replica_nodes),
            nodes(&partition.isr_nodes),
            offset(&first),
            offset(&next),
        ]);
    }
    page.push_str(&table.render());
    Ok(page)
}

/// Configurations that were set on the topic.
async fn own_configs(cluster: &mut Cluster, name: &str) -> anyhow::Result<Vec<(String, String)>> {
    let resource = DescribeConfigsResource::default().with_resource_type(RESOURCE_TOPIC).with_resource_name(text(name));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let response = cluster.call(&request, 4).await?;
    let mut own = Vec::new();
    for result in response.results {
        ensure!(
            result.error_code == 0,
            "the configuration of topic {name}: {}",
            error_text(result.error_code, result.error_message.as_ref())
        );
        for config in result.configs {
            if config.config_source == SOURCE_TOPIC {
                let value = config.value.map(|value| value.as_str().to_owned()).unwrap_or_default();
                own.push((config.name.as_str().to_owned(), value));
            }
        }
    }
    Ok(own)
}

async fn delete(cluster: &mut Cluster, topics: &[String]) -> anyhow::Result<()> {
    let request = DeleteTopicsRequest::default()
        .with_topic_names(topics.iter().map(|name| topic_name(name)).collect())
        .with_timeout_ms(timeout_ms(cluster.timeout()));
    let mut faults = Faults::default();
    // Version 6 names topics by id; names are what the user gave.
    for response in cluster.call(&request, 5).await?.responses {
        let name = response.name.map(|name| name.0.as_str().to_owned()).unwrap_or_default();
        match response.error_code {
            0 => print(&format!("{name}\n"))?,
            UNKNOWN_TOPIC_OR_PARTITION => faults.add("topic", &name, "it does not exist"),
            code => faults.add("topic", &name, &error_text(code, response.error_message.as_ref())),
        }
    }
    faults.finish()
}

fn nodes(nodes: &[BrokerId]) -> String {
    nodes.iter().map(|node| node.0.to_string()).collect::<Vec<_>>().join(",")
}

fn timeout_ms(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

/// A topic id in the form that Kafka's tools print: base 64 for URLs, without padding.
fn kafka_id(id: &[u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(*id);
    (0..22)
        .map(|digit| {
            let shift = 122 - 6 * digit;
            let value = if shift >= 0 { bits >> shift } else { bits << -shift };
            char::from(DIGITS[(value & 63) as usize])
        })
        .collect()
}

/// What failed while the rest went on; reported together at the end.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<String>);

impl Faults {
    pub(super) fn add(&mut self, kind: &str, name: &str, why: &str) {
        self.0.push(format!("{kind} {name}: {why}"));
    }

    pub(super) fn finish(self) -> anyhow::Result<()> {
        if !self.0.is_empty() {
            bail!(self.0.join("\n"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_look_as_in_kafkas_tools() {
        assert_eq!(kafka_id(&[0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(kafka_id(&[0xff; 16]), "_____________________w");
    }
}
