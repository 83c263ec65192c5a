//! Groups whose slots go to new shards as the cluster grows: their members see NOT_COORDINATOR and then the same group
//! at another node, and nothing that they committed goes back.

use std::net::SocketAddr;

use base::time::{Duration, now, sleep};
use base::{Env, task};
use bytes::Bytes;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    DescribeGroupsRequest, FindCoordinatorRequest, ListGroupsRequest, OffsetFetchRequest, OffsetFetchResponse,
};
use record::ShardId;
use tokio::sync::watch;

use crate::groups::{heartbeat, join, sync};
use crate::offsets::commit;
use crate::several::{Nodes, free_addresses, is_even, until};
use crate::support::{Client, Node, PATIENCE, Place, text};

const GROUPS: usize = 12;
const SHARE: Bytes = Bytes::from_static(b"share");

/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR: look for it again.
const AGAIN: [i16; 3] = [14, 15, 16];

/// The one member of a group, as a client that keeps to the protocol.
struct Consumer {
    env: Env,
    nodes: Vec<SocketAddr>,
    group: String,
    member: String,
    generation: i32,
    client: Option<Client>,
    /// What it committed last.
    committed: i64,
    sent_away: usize,
}

impl Consumer {
    async fn join(node: &Node, nodes: &[SocketAddr], group: String) -> Self {
        let mut client = node.client().await;
        let request = |member: &str| join(&group, member, b"wishes").with_session_timeout_ms(60_000);
        let first = client.call(5, &request("")).await;
        let joined = client.call(5, &request(&first.member_id)).await;
        assert_eq!(joined.error_code, 0);
        let (generation, member) = (joined.generation_id, joined.member_id.to_string());
        let synced = client.call(5, &sync(&group, generation, &member, &[(&member, SHARE)])).await;
        assert_eq!(synced.error_code, 0);
        let (env, nodes) = (node.env.clone(), nodes.to_vec());
        Self { env, nodes, group, member, generation, client: Some(client), committed: 0, sent_away: 0 }
    }

    /// The connection to the coordinator, looked for anew if need be.
    async fn coordinator(&mut self) -> &mut Client {
        let deadline = now() + 3 * PATIENCE;
        loop {
            if self.client.is_some() {
                break;
            }
            assert!(now() < deadline, "nobody coordinates {}", self.group);
            sleep(Duration::from_millis(10)).await;
            for node in self.nodes.clone() {
                let Some(mut client) = Client::try_connect(&self.env, node).await else { continue };
                let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&self.group)]);
                let Some(mut found) = client.try_call(4, &request).await else { continue };
                let found = found.coordinators.remove(0);
                if found.error_code == 0 {
                    let address = format!("{}:{}", found.host, found.port).parse().expect("an address");
                    self.client = Client::try_connect(&self.env, address).await;
                    break;
                }
                assert!(AGAIN.contains(&found.error_code), "{}", found.error_code);
            }
        }
        self.client.as_mut().expect("found")
    }

    /// Whether the answer is one; else the coordinator is looked for.
    fn is_answered(&mut self, what: &str, code: Option<i16>) -> bool {
        if code == Some(0) {
            return true;
        }
        assert!(code.is_none_or(|code| AGAIN.contains(&code)), "{what} of {}: {code:?}", self.group);
        self.client = None;
        self.sent_away += 1;
        false
    }

    async fn round(&mut self) {
        let request = heartbeat(&self.group, self.generation, &self.member);
        let answer = self.coordinator().await.try_call(4, &request).await;
        if !self.is_answered("heartbeat", answer.map(|answer| answer.error_code)) {
            return;
        }
        let next = self.committed + 1;
        let request = commit(&self.group, "t", &[(0, next, None)])
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(text(&self.member));
        let answer = self.coordinator().await.try_call(8, &request).await;
        if self.is_answered("commit", answer.map(|answer| answer.topics[0].partitions[0].error_code)) {
            self.committed = next;
        }
        let group = OffsetFetchRequestGroup::default().with_group_id(text(&self.group).into()).with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![group]);
        let answer: Option<OffsetFetchResponse> = self.coordinator().await.try_call(8, &request).await;
        let Some(answer) = answer.map(|mut answer| answer.groups.remove(0)) else {
            self.is_answered("offsets", None);
            return;
        };
        if self.is_answered("offsets", Some(answer.error_code)) && self.committed > 0 {
            let found = answer.topics[0].partitions[0].committed_offset;
            assert!((self.committed..=next).contains(&found), "{found} of {} after {}", self.group, self.committed);
            self.committed = found;
        }
    }

    /// The member is in the generation that it joined, with the share that it had, and the group is listed.
    async fn finish(mut self) {
        let deadline = now() + PATIENCE;
        loop {
            assert!(now() < deadline, "{} is not served", self.group);
            let request = sync(&self.group, self.generation, &self.member, &[]);
            let synced = self.coordinator().await.try_call(5, &request).await;
            let code = synced.as_ref().map(|synced| synced.error_code);
            if self.is_answered("sync", code) {
                assert_eq!(synced.expect("answered").assignment, SHARE);
                break;
            }
        }
        let group = self.group.clone();
        let client = self.coordinator().await;
        let request = DescribeGroupsRequest::default().with_groups(vec![text(&group).into()]);
        let described = client.call(5, &request).await.groups.remove(0);
        assert_eq!((described.error_code, &*described.group_state, described.members.len()), (0, "Stable", 1));
        let listed = client.call(4, &ListGroupsRequest::default()).await;
        assert!(listed.groups.iter().any(|known| *known.group_id == *group));
    }
}

/// One node, with groups that have members, and two more that come.
async fn grown(first: Node, addresses: &[SocketAddr]) -> Nodes {
    let mut nodes = vec![first];
    for (place, listen) in addresses.iter().enumerate().skip(1) {
        let place = Place { listen: *listen, all: addresses[..1].to_vec(), rack: format!("rack {place}") };
        nodes.push(Node::start_with(move |setup| setup.place = Some(place)).await);
    }
    Nodes(nodes)
}

async fn grows(stops_one: bool) {
    let addresses = free_addresses(3).await;
    let place = Place { listen: addresses[0], all: Vec::new(), rack: "rack 0".to_owned() };
    let first = Node::start_with(move |setup| setup.place = Some(place)).await;
    first.topic("t", 1).await;
    let groups: Vec<String> = (0..GROUPS).map(|number| format!("g{number}")).collect();
    let before: Vec<ShardId> = groups.iter().map(|group| first.cluster.slot_shard(group)).collect();
    let known = [first.address];
    let mut consumers = Vec::new();
    for group in &groups {
        consumers.push(Consumer::join(&first, &known, group.clone()).await);
    }
    let mut nodes = grown(first, &addresses).await;
    let all: Vec<SocketAddr> = nodes.0.iter().map(|node| node.address).collect();
    let (stop, stopped) = watch::channel(false);
    let running: Vec<_> = consumers
        .into_iter()
        .map(|mut consumer| {
            consumer.nodes.clone_from(&all);
            let stopped = stopped.clone();
            task::spawn("consumer", async move {
                while !*stopped.borrow() {
                    consumer.round().await;
                    sleep(Duration::from_millis(5)).await;
                }
                consumer
            })
        })
        .collect();
    if stops_one {
        let moves = |nodes: &Nodes| nodes.0[0].cluster.metadata().slot_moves().first().map(|known| (*known).clone());
        until("a move of slots", || moves(&nodes).is_some_and(|known| !known.switched)).await;
        // Whoever leads the metadata drives the moves.
        let leader = nodes.0[0].cluster.leader(cluster::METADATA).expect("it is led");
        let place = nodes.0.iter().position(|node| node.cluster.node_id() == leader).expect("one of them");
        nodes.0.remove(place).stop().await;
    }
    until("slots on all shards", || is_even(&nodes.0[0], 6)).await;
    let moved =
        groups.iter().zip(&before).filter(|(group, shard)| nodes.0[0].cluster.slot_shard(group) != **shard).count();
    assert!(moved > 0, "some groups are on other shards by now");
    stop.send_replace(true);
    let mut sent_away = 0;
    for consumer in running {
        let consumer = consumer.await.expect("it does not fail");
        assert!(consumer.committed > 0);
        sent_away += consumer.sent_away;
        consumer.finish().await;
    }
    assert!(sent_away > 0, "members of {moved} groups were told to look for their coordinator");
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_follow_their_group_to_the_shards_of_new_nodes() {
    grows(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_follow_their_group_when_the_node_that_moves_it_fails() {
    grows(true).await;
}
