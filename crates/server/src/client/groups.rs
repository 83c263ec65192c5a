//! `rosettamq group`: list, describe and delete.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::{Buf as _, Bytes};
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, DeleteGroupsRequest, DescribeGroupsRequest, GroupId, ListGroupsRequest,
    OffsetFetchRequest,
};
use kafka_protocol::protocol::Decodable as _;

use super::cluster::{Cluster, leaders, text};
use super::fetch::{LATEST, list_offsets};
use super::output::{Table, print};
use super::topics::Faults;
use super::{error_name, error_text};
use crate::cli::GroupCommand;

pub(super) async fn run(cluster: &mut Cluster, command: GroupCommand) -> anyhow::Result<()> {
    match command {
        GroupCommand::List => list(cluster).await,
        GroupCommand::Describe { groups } => describe(cluster, &groups).await,
        GroupCommand::Delete { groups } => delete(cluster, &groups).await,
    }
}

async fn list(cluster: &mut Cluster) -> anyhow::Result<()> {
    let nodes: Vec<_> = cluster.metadata(Some(&[]), false).await?.brokers;
    let mut groups = BTreeMap::new();
    for node in nodes {
        let response = cluster.call_node(node.node_id.0, &ListGroupsRequest::default(), 5, Duration::ZERO).await?;
        ensure!(response.error_code == 0, "node {}: {}", node.node_id.0, error_name(response.error_code));
        for group in response.groups {
            groups.insert(group.group_id.0.to_string(), group);
        }
    }
    let mut table = Table::new(&["GROUP", "STATE", "PROTOCOL"]);
    for (id, group) in groups {
        table.row(vec![id, group.group_state.to_string(), group.protocol_type.to_string()]);
    }
    print(&table.render())?;
    Ok(())
}

async fn describe(cluster: &mut Cluster, groups: &[String]) -> anyhow::Result<()> {
    let mut faults = Faults::default();
    for (at, id) in groups.iter().enumerate() {
        let coordinator = cluster.coordinator(id).await?;
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(id))]);
        let response = cluster.call_node(coordinator, &request, 6, Duration::ZERO).await?;
        let group = response.groups.into_iter().next().context("the broker described no group")?;
        if group.error_code != 0 {
            faults.add("group", id, &error_text(group.error_code, group.error_message.as_ref()));
            continue;
        }
        if group.group_state.as_str() == "Dead" {
            faults.add("group", id, "it does not exist");
            continue;
        }
        let page = describe_one(cluster, coordinator, id, &group).await?;
        let gap = if at == 0 { "" } else { "\n" };
        print(&format!("{gap}{page}"))?;
    }
    faults.finish()
}

async fn describe_one(
    cluster: &mut Cluster,
    coordinator: i32,
    id: &str,
    group: &DescribedGroup,
) -> anyhow::Result<String> {
    let mut page = format!(
        "{id}\n  state     {}\n  protocol  {} {}\n  members   {}\n",
        group.group_state.as_str(),
        group.protocol_type.as_str(),
        group.protocol_data.as_str(),
        group.members.len()
    );
    let owners = owners(group);
    let committed = committed_offsets(cluster, coordinator, id, None).await?;
    let mut topics: Vec<_> = committed.keys().chain(owners.keys()).map(|(topic, _)| topic.clone()).collect();
    topics.sort_unstable();
    topics.dedup();
    let mut table = Table::new(&["TOPIC", "PARTITION", "COMMITTED", "NEXT OFFSET", "BEHIND", "MEMBER", "HOST"]);
    for name in topics {
        // A topic may be gone while its offsets are kept.
        let topic = cluster.topics(std::slice::from_ref(&name), false).await.ok();
        let leaders = topic.iter().flatten().map(leaders).next().unwrap_or_default();
        let wanted = leaders.keys().map(|partition| (*partition, LATEST)).collect();
        let ends = list_offsets(cluster, &name, &leaders, &wanted).await.unwrap_or_default();
        let keys = committed.keys().chain(owners.keys()).filter(|(topic, _)| *topic == name);
        let partitions: std::collections::BTreeSet<i32> = keys.map(|(_, partition)| *partition).collect();
        for partition in partitions {
            let key = (name.clone(), partition);
            let offset = committed.get(&key).copied();
            let end = ends.get(&partition).copied();
            let behind = offset.zip(end).map(|(offset, end)| (end - offset).max(0));
            let (member, host) = owners.get(&key).cloned().unwrap_or_else(|| ("-".into(), "-".into()));
            table.row(vec![
                name.clone(),
                partition.to_string(),
                or_dash(offset),
                or_dash(end),
                or_dash(behind),
                member,
                host,
            ]);
        }
    }
    page.push_str(&table.render());
    Ok(page)
}

fn or_dash(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// Member and host by topic and partition.
fn owners(group: &DescribedGroup) -> BTreeMap<(String, i32), (String, String)> {
    let mut owners = BTreeMap::new();
    for member in &group.members {
        let name = (member.member_id.to_string(), member.client_host.to_string());
        for partition in parse_assignment(&member.member_assignment).unwrap_or_default() {
            owners.insert(partition, name.clone());
        }
    }
    owners
}

/// What a consumer was assigned; empty bytes are no partitions.
pub(super) fn parse_assignment(bytes: &Bytes) -> anyhow::Result<Vec<(String, i32)>> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    ensure!(bytes.len() >= 2, "the assignment has no version");
    let mut bytes = bytes.clone();
    // Later versions only add fields at the end.
    let version = bytes.get_i16().clamp(0, 3);
    let assignment = ConsumerProtocolAssignment::decode(&mut bytes, version)?;
    let mut partitions = Vec::new();
    for topic in assignment.assigned_partitions {
        for partition in topic.partitions {
            partitions.push((topic.topic.0.to_string(), partition));
        }
    }
    Ok(partitions)
}

/// Committed offsets of a group; of the named topics' partitions, or all.
pub(super) async fn committed_offsets(
    cluster: &mut Cluster,
    coordinator: i32,
    group: &str,
    partitions: Option<&[(String, i32)]>,
) -> anyhow::Result<BTreeMap<(String, i32), i64>> {
    use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;

    let topics = partitions.map(|partitions| {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in partitions {
            topics.entry(topic).or_default().push(*partition);
        }
        topics
            .into_iter()
            .map(|(topic, partitions)| {
                OffsetFetchRequestTopic::default()
                    .with_name(super::cluster::topic_name(topic))
                    .with_partition_indexes(partitions)
            })
            .collect()
    });
    let request = OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(topics);
    // From version 8 on a request names several groups.
    let response = cluster.call_node(coordinator, &request, 7, Duration::ZERO).await?;
    ensure!(response.error_code == 0, "the offsets of group {group}: {}", error_name(response.error_code));
    let mut offsets = BTreeMap::new();
    for topic in response.topics {
        for partition in topic.partitions {
            ensure!(
                partition.error_code == 0,
                "the offset of group {group} in {} {}: {}",
                topic.name.0.as_str(),
                partition.partition_index,
                error_name(partition.error_code)
            );
            if partition.committed_offset >= 0 {
                let key = (topic.name.0.to_string(), partition.partition_index);
                offsets.insert(key, partition.committed_offset);
            }
        }
    }
    Ok(offsets)
}

async fn delete(cluster: &mut Cluster, groups: &[String]) -> anyhow::Result<()> {
    let mut faults = Faults::default();
    for id in groups {
        let coordinator = cluster.coordinator(id).await?;
        let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(id))]);
        let response = cluster.call_node(coordinator, &request, 2, Duration::ZERO).await?;
        for result in response.results {
            match result.error_code {
                0 => print(&format!("{id}\n"))?,
                code => faults.add("group", id, &error_name(code)),
            }
        }
    }
    faults.finish()
}
