//! A member of a consumer group: joins, learns its partitions, keeps its place, commits, leaves.
//!
//! The classic protocol with range assignment, which every broker and every other client understands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{bail, ensure};
use base::time::{Instant, now};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, GroupId, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, StrBytes};

use super::cluster::{Cluster, pause, text, topic_name};
use super::error_name;
use super::groups::parse_assignment;

const SESSION_TIMEOUT: Duration = Duration::from_secs(45);
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;

#[derive(Debug)]
pub(super) struct Membership {
    group: String,
    topics: Vec<String>,
    coordinator: i32,
    member: StrBytes,
    generation: i32,
    heartbeat_at: Instant,
}

/// Whether the partitions are still this member's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Stable,
    MustRejoin,
}

impl Membership {
    pub(super) async fn new(cluster: &mut Cluster, group: &str, topics: &[String]) -> anyhow::Result<Self> {
        Ok(Self {
            group: group.to_owned(),
            topics: topics.to_vec(),
            coordinator: cluster.coordinator(group).await?,
            member: StrBytes::new(),
            generation: -1,
            heartbeat_at: now(),
        })
    }

    pub(super) const fn coordinator(&self) -> i32 {
        self.coordinator
    }

    /// Joins, or joins again, and returns the partitions that are now this member's.
    pub(super) async fn join(&mut self, cluster: &mut Cluster) -> anyhow::Result<Vec<(String, i32)>> {
        let deadline = cluster.deadline();
        loop {
            let code = match self.attempt(cluster).await? {
                Ok(assigned) => {
                    self.heartbeat_at = now() + HEARTBEAT_INTERVAL;
                    return Ok(assigned);
                }
                Err(code) => code,
            };
            match code {
                // The member id was just given.
                MEMBER_ID_REQUIRED => continue,
                UNKNOWN_MEMBER_ID | ILLEGAL_GENERATION => self.member = StrBytes::new(),
                REBALANCE_IN_PROGRESS => {}
                COORDINATOR_LOAD_IN_PROGRESS | COORDINATOR_NOT_AVAILABLE | NOT_COORDINATOR if !deadline.passed() => {
                    self.coordinator = cluster.coordinator(&self.group).await?;
                }
                code => bail!("cannot join group {}: {}", self.group, error_name(code)),
            }
            pause().await;
        }
    }

    async fn attempt(&mut self, cluster: &mut Cluster) -> anyhow::Result<Result<Vec<(String, i32)>, i16>> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("range"))
            .with_metadata(subscription(&self.topics)?);
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_session_timeout_ms(milliseconds(SESSION_TIMEOUT))
            .with_rebalance_timeout_ms(milliseconds(REBALANCE_TIMEOUT))
            .with_member_id(self.member.clone())
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        let joined = cluster.call_node(self.coordinator, &request, 9, REBALANCE_TIMEOUT).await?;
        if joined.error_code != 0 {
            if joined.error_code == MEMBER_ID_REQUIRED {
                self.member = joined.member_id;
            }
            return Ok(Err(joined.error_code));
        }
        self.member = joined.member_id.clone();
        self.generation = joined.generation_id;
        let assignments = if joined.leader == joined.member_id && !joined.skip_assignment {
            self.assign(cluster, &joined).await?
        } else {
            Vec::new()
        };
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.generation)
            .with_member_id(self.member.clone())
            .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
            .with_protocol_name(joined.protocol_name)
            .with_assignments(assignments);
        let synced = cluster.call_node(self.coordinator, &request, 5, REBALANCE_TIMEOUT).await?;
        if synced.error_code != 0 {
            return Ok(Err(synced.error_code));
        }
        parse_assignment(&synced.assignment).map(Ok)
    }

    /// As leader of the group, divides the partitions of all that members subscribed to.
    async fn assign(
        &self,
        cluster: &mut Cluster,
        joined: &JoinGroupResponse,
    ) -> anyhow::Result<Vec<SyncGroupRequestAssignment>> {
        let mut subscribers: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for member in &joined.members {
            for topic in subscribed_topics(member)? {
                subscribers.entry(topic).or_default().insert(member.member_id.as_str());
            }
        }
        let names: Vec<_> = subscribers.keys().cloned().collect();
        let mut partitions = BTreeMap::new();
        for topic in cluster.metadata(Some(&names), false).await?.topics {
            let name = topic.name.map(|name| name.0.to_string()).unwrap_or_default();
            partitions.insert(name, topic.partitions.len());
        }
        let assigned = range(&subscribers, &partitions);
        joined
            .members
            .iter()
            .map(|member| {
                let own = assigned.get(member.member_id.as_str()).cloned().unwrap_or_default();
                Ok(SyncGroupRequestAssignment::default()
                    .with_member_id(member.member_id.clone())
                    .with_assignment(encode_assignment(own)?))
            })
            .collect()
    }

    /// Tells the coordinator that this member lives, when it is time to.
    pub(super) async fn heartbeat(&mut self, cluster: &mut Cluster) -> anyhow::Result<Standing> {
        if now() < self.heartbeat_at {
            return Ok(Standing::Stable);
        }
        self.heartbeat_at = now() + HEARTBEAT_INTERVAL;
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id(self.generation)
            .with_member_id(self.member.clone());
        let response = cluster.call_node(self.coordinator, &request, 4, Duration::ZERO).await?;
        self.standing(response.error_code)
    }

    fn standing(&self, code: i16) -> anyhow::Result<Standing> {
        match code {
            0 => Ok(Standing::Stable),
            COORDINATOR_LOAD_IN_PROGRESS
            | COORDINATOR_NOT_AVAILABLE
            | NOT_COORDINATOR
            | ILLEGAL_GENERATION
            | UNKNOWN_MEMBER_ID
            | REBALANCE_IN_PROGRESS => Ok(Standing::MustRejoin),
            code => bail!("group {}: {}", self.group, error_name(code)),
        }
    }

    /// Commits the offsets of the next records to read.
    pub(super) async fn commit(
        &mut self,
        cluster: &mut Cluster,
        offsets: &BTreeMap<(String, i32), i64>,
    ) -> anyhow::Result<Standing> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(StrBytes::new()));
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics
            .into_iter()
            .map(|(topic, partitions)| {
                OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
            })
            .collect();
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.member.clone())
            .with_topics(topics);
        let response = cluster.call_node(self.coordinator, &request, 9, Duration::ZERO).await?;
        let codes = response.topics.iter().flat_map(|topic| &topic.partitions);
        let code = codes.map(|partition| partition.error_code).find(|code| *code != 0);
        self.standing(code.unwrap_or(0))
    }

    /// Gives the partitions to the others at once instead of after the session timeout.
    pub(super) async fn leave(&mut self, cluster: &mut Cluster) -> anyhow::Result<()> {
        if self.member.is_empty() {
            return Ok(());
        }
        let member = MemberIdentity::default().with_member_id(self.member.clone());
        let request = LeaveGroupRequest::default().with_group_id(GroupId(text(&self.group))).with_members(vec![member]);
        let response = cluster.call_node(self.coordinator, &request, 5, Duration::ZERO).await?;
        ensure!(response.error_code == 0, "cannot leave group {}: {}", self.group, error_name(response.error_code));
        Ok(())
    }
}

fn subscription(topics: &[String]) -> anyhow::Result<Bytes> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    ConsumerProtocolSubscription::default()
        .with_topics(topics.iter().map(|topic| text(topic)).collect())
        .encode(&mut bytes, 1)?;
    Ok(bytes.freeze())
}

fn subscribed_topics(member: &JoinGroupResponseMember) -> anyhow::Result<Vec<String>> {
    let mut bytes = member.metadata.clone();
    ensure!(bytes.len() >= 2, "member {} sent no subscription", member.member_id.as_str());
    let version = bytes.get_i16().clamp(0, 3);
    let subscription = ConsumerProtocolSubscription::decode(&mut bytes, version)?;
    Ok(subscription.topics.iter().map(ToString::to_string).collect())
}

fn encode_assignment(partitions: Vec<(String, Vec<i32>)>) -> anyhow::Result<Bytes> {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    let partitions = partitions
        .into_iter()
        .map(|(topic, partitions)| TopicPartition::default().with_topic(topic_name(&topic)).with_partitions(partitions))
        .collect();
    ConsumerProtocolAssignment::default().with_assigned_partitions(partitions).encode(&mut bytes, 0)?;
    Ok(bytes.freeze())
}

/// Every subscriber of a topic gets a run of its partitions; the first ones get one more where it does not divide.
fn range<'a>(
    subscribers: &BTreeMap<String, BTreeSet<&'a str>>,
    partitions: &BTreeMap<String, usize>,
) -> BTreeMap<&'a str, Vec<(String, Vec<i32>)>> {
    let mut assigned: BTreeMap<&str, Vec<(String, Vec<i32>)>> = BTreeMap::new();
    for (topic, members) in subscribers {
        let count = partitions.get(topic).copied().unwrap_or(0);
        let (each, more) = (count / members.len(), count % members.len());
        let mut next = 0;
        for (at, member) in members.iter().enumerate() {
            let end = next + each + usize::from(at < more);
            let run: Vec<i32> = (next..end).filter_map(|partition| i32::try_from(partition).ok()).collect();
            next = end;
            if !run.is_empty() {
                assigned.entry(member).or_default().push((topic.clone(), run));
            }
        }
    }
    assigned
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_divided_in_runs() {
        let subscribers = BTreeMap::from([
            ("t".to_owned(), BTreeSet::from(["a", "b"])),
            ("u".to_owned(), BTreeSet::from(["b"])),
            ("gone".to_owned(), BTreeSet::from(["a"])),
        ]);
        let partitions = BTreeMap::from([("t".to_owned(), 3), ("u".to_owned(), 1)]);
        let assigned = range(&subscribers, &partitions);
        assert_eq!(assigned["a"], vec![("t".to_owned(), vec![0, 1])]);
        assert_eq!(assigned["b"], vec![("t".to_owned(), vec![2]), ("u".to_owned(), vec![0])]);
    }

    #[test]
    fn an_assignment_survives_its_encoding() {
        let bytes = encode_assignment(vec![("t".to_owned(), vec![0, 2])]).unwrap();
        let expected = vec![("t".to_owned(), 0), ("t".to_owned(), 2)];
        assert_eq!(parse_assignment(&bytes).unwrap(), expected);
        assert_eq!(parse_assignment(&Bytes::new()).unwrap(), vec![]);
        assert!(parse_assignment(&Bytes::from_static(b"\0")).is_err());
    }
}
