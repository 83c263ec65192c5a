//! What tools ask of a cluster, answered by a node that is alone: quorum, elections, reassignments, directories.

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, DescribeClusterRequest, DescribeLogDirsRequest, DescribeQuorumRequest,
    ElectLeadersRequest, ListPartitionReassignmentsRequest, UnregisterBrokerRequest,
};

use crate::support::{Node, topic_name};

pub(crate) fn quorum_of(topic: &'static str, partitions: &[i32]) -> DescribeQuorumRequest {
    let partitions = partitions.iter().map(|index| PartitionData::default().with_partition_index(*index)).collect();
    let topic = TopicData::default().with_topic_name(topic_name(topic)).with_partitions(partitions);
    DescribeQuorumRequest::default().with_topics(vec![topic])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_alone_is_the_quorum() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let own = node_id(&node);
    let mut client = node.client().await;
    for version in 0..=2 {
        let response = client.call(version, &quorum_of("__cluster_metadata", &[0])).await;
        let partition = &response.topics[0].partitions[0];
        assert_eq!((response.error_code, partition.error_code, partition.leader_id.0), (0, 0, own));
        assert!(partition.leader_epoch > 0 && partition.high_watermark > 0);
        let voter = &partition.current_voters[..];
        assert_eq!(voter.iter().map(|voter| voter.replica_id.0).collect::<Vec<_>>(), [own]);
        assert!(voter[0].log_end_offset >= partition.high_watermark);
        assert_eq!(voter[0].last_caught_up_timestamp > 0, version >= 1);
        assert!(partition.observers.is_empty());
        let port = node.address.port();
        let listed: Vec<_> = response
            .nodes
            .iter()
            .map(|node| (node.node_id.0, node.listeners[0].host.as_str(), node.listeners[0].port))
            .collect();
        assert_eq!(listed, if version == 2 { vec![(own, "127.0.0.1", port)] } else { Vec::new() });
        // Kafka's tools end with an exception at any other.
        assert!(response.nodes.iter().all(|node| node.listeners[0].name.as_str() == "PLAIN"));
    }
    for strange in
        [quorum_of("t", &[0]), quorum_of("__cluster_metadata", &[1]), quorum_of("__cluster_metadata", &[0, 1])]
    {
        let response = client.call(2, &strange).await;
        assert!(response.topics[0].partitions.iter().all(|partition| partition.error_code == 3));
    }
    assert!(client.call(2, &DescribeQuorumRequest::default()).await.topics.is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_are_led_need_no_election() {
    let node = Node::start().await;
    node.topic("t", 2).await;
    let mut client = node.client().await;
    let asked = |topic: &str, partitions: &[i32]| {
        TopicPartitions::default().with_topic(topic_name(topic)).with_partitions(partitions.to_vec())
    };
    for version in 0..=2 {
        for election in if version == 0 { 0..=0 } else { 0..=1 } {
            let request = ElectLeadersRequest::default()
                .with_election_type(election)
                .with_timeout_ms(10_000)
                .with_topic_partitions(Some(vec![asked("t", &[0, 1, 2]), asked("absent", &[0])]));
            let response = client.call(version, &request).await;
            let codes: Vec<Vec<_>> = response
                .replica_election_results
                .iter()
                .map(|topic| topic.partition_result.iter().map(|partition| partition.error_code).collect())
                .collect();
            assert_eq!((response.error_code, codes), (0, vec![vec![84, 84, 3], vec![3]]));
            let texts = &response.replica_election_results[0].partition_result;
            assert_eq!(texts[0].error_message.as_deref(), Some("Leader election not needed for topic partition."));
            assert_eq!(texts[2].error_message.as_deref(), Some("No such partition as t-2"));
            let all = request.with_topic_partitions(None);
            assert!(client.call(version, &all).await.replica_election_results.is_empty());
        }
    }
    let strange = ElectLeadersRequest::default().with_election_type(2).with_topic_partitions(None);
    assert_eq!(client.call(2, &strange).await.error_code, 42);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_reassigned_only_to_where_it_is() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let own = node_id(&node);
    let mut client = node.client().await;
    type Case<'a> = (&'a str, i32, Option<Vec<i32>>, i16, &'a str);
    let cases: [Case<'_>; 7] = [
        ("t", 0, Some(vec![own]), 0, ""),
        ("t", 0, None, 85, "No partition reassignment is in progress."),
        ("t", 0, Some(Vec::new()), 39, "The manual partition assignment includes an empty replica list."),
        ("t", 0, Some(vec![own, own]), 39, "The manual partition assignment includes the broker"),
        ("t", 0, Some(vec![99]), 39, "The manual partition assignment includes broker 99, but no such broker"),
        ("t", 1, None, 3, "Unable to find partition t:1."),
        ("absent", 0, None, 3, "Unable to find a topic named absent."),
    ];
    for version in 0..=1 {
        for (topic, index, replicas, code, why) in &cases {
            let replicas = replicas.as_ref().map(|replicas| replicas.iter().map(|id| (*id).into()).collect());
            let partition = ReassignablePartition::default().with_partition_index(*index).with_replicas(replicas);
            let topic = ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
            let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
            let response = client.call(version, &request).await;
            let answer = &response.responses[0].partitions[0];
            assert_eq!(answer.error_code, *code, "{why}");
            assert!(answer.error_message.as_deref().unwrap_or_default().starts_with(why), "{:?}", answer.error_message);
        }
    }
    let all = ListPartitionReassignmentsRequest::default().with_topics(None);
    let response = client.call(0, &all).await;
    assert!(response.error_code == 0 && response.topics.is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_directory_has_the_partitions_of_this_node() {
    let node = Node::start().await;
    node.topic("a", 2).await;
    node.topic("b", 1).await;
    let mut client = node.client().await;
    let described = async |client: &mut crate::support::Client, version, topics| {
        let response = client.call(version, &DescribeLogDirsRequest::default().with_topics(topics)).await;
        let [dir] = <[_; 1]>::try_from(response.results).expect("one directory");
        assert_eq!((response.error_code, dir.error_code), (0, 0));
        assert!(dir.log_dir.ends_with("/log"), "{}", dir.log_dir);
        assert_eq!(dir.total_bytes > 0 && dir.usable_bytes > 0, version >= 4);
        let mut topics: Vec<(String, usize)> =
            dir.topics.iter().map(|topic| (topic.name.to_string(), topic.partitions.len())).collect();
        topics.sort();
        topics
    };
    let asked = |topic: &str, partitions: &[i32]| {
        DescribableLogDirTopic::default().with_topic(topic_name(topic)).with_partitions(partitions.to_vec())
    };
    for version in 1..=4 {
        assert_eq!(described(&mut client, version, None).await, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let some = vec![asked("a", &[1, 7]), asked("b", &[]), asked("absent", &[0])];
        assert_eq!(described(&mut client, version, Some(some)).await, [("a".to_owned(), 1)]);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_broker_that_is_registered_is_unregistered() {
    let node = Node::start().await;
    let mut client = node.client().await;
    for id in [99, -1] {
        let response = client.call(0, &UnregisterBrokerRequest::default().with_broker_id(id.into())).await;
        assert_eq!(response.error_code, 102);
        let text = format!("Broker ID {id} is not currently registered");
        assert_eq!(response.error_message.as_deref(), Some(&*text));
    }
    let own = UnregisterBrokerRequest::default().with_broker_id(node_id(&node).into());
    assert_eq!(client.call(0, &own).await.error_code, 42);
    let fenced = DescribeClusterRequest::default().with_endpoint_type(1).with_include_fenced_brokers(true);
    let response = client.call(2, &fenced).await;
    assert_eq!(
        response.brokers.iter().map(|broker| (broker.broker_id.0, broker.is_fenced)).collect::<Vec<_>>(),
        [(node_id(&node), false)]
    );
    node.stop().await;
}

fn node_id(node: &Node) -> i32 {
    i32::try_from(node.cluster.node_id().0).expect("a small number")
}
