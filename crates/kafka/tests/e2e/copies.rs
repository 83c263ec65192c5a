//! Which copies clients are told of: those that have what is committed, and no others. What they ask for of copies is met,
//! or refused.

use cluster::METADATA;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::{
    CreateTopicsRequest, DescribeTopicPartitionsRequest, IncrementalAlterConfigsRequest,
    ListPartitionReassignmentsRequest, describe_topic_partitions_request::TopicRequest,
};
use record::{NodeId, ShardId};
use shard::commands::{AdmitNode, PutShards};
use shard::{NodeAddress, Outcome, ShardRecord};

use crate::several::{Nodes, create, described, latest, until};
use crate::support::{Client, Node, batch, produce_request, stamped, text, topic_name};

/// Replicas, those in sync and those that are away.
fn copies(partition: &MetadataResponsePartition) -> [Vec<i32>; 3] {
    let ids = |nodes: &[kafka_protocol::messages::BrokerId]| nodes.iter().map(|node| node.0).collect();
    [ids(&partition.replica_nodes), ids(&partition.isr_nodes), ids(&partition.offline_replicas)]
}

/// The same as DescribeTopicPartitions says.
async fn described_copies(client: &mut Client, topic: &str) -> [Vec<i32>; 3] {
    let asked = TopicRequest::default().with_name(topic_name(topic));
    let request = DescribeTopicPartitionsRequest::default().with_topics(vec![asked]).with_response_partition_limit(10);
    let partition = client.call(0, &request).await.topics.remove(0).partitions.remove(0);
    let ids = |nodes: &[kafka_protocol::messages::BrokerId]| nodes.iter().map(|node| node.0).collect();
    [ids(&partition.replica_nodes), ids(&partition.isr_nodes), ids(&partition.offline_replicas)]
}

/// Wants a shard on the two nodes and on a third one that never comes, as one that is given its copy for hours.
async fn want_three(nodes: &Nodes, shard: ShardId, voters: Vec<NodeId>) {
    let address = NodeAddress { listener: "internal".to_owned(), host: "127.0.0.1".to_owned(), port: 1 };
    let admit = AdmitNode { birth: 77, rack: None, addresses: vec![address] };
    let put = PutShards { shards: vec![ShardRecord { id: shard, voters: voters.clone() }] };
    // One behind the other, so that nothing is decided between them.
    let cluster = &nodes.0[0].cluster;
    let (admit, put) = (cluster.propose(METADATA, admit.into()), cluster.propose(METADATA, put.into()));
    assert_eq!(admit.await, Ok(Outcome::AdmitNode(Ok(NodeId(3)))));
    put.await.expect("decided");
    until("all know", || nodes.0.iter().all(|node| node.cluster.voters(shard) == voters)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_only_wanted_is_a_replica_and_not_in_sync() {
    let nodes = Nodes::start_two().await;
    let mut clients = [nodes.0[0].client().await, nodes.0[1].client().await];
    assert_eq!(create(&mut clients[0], "t", -1).await.0, 0);
    let shard = nodes.shard_of("t");
    let leader = i32::try_from(nodes.0[nodes.leader(shard)].cluster.node_id().0).expect("small");
    for client in &mut clients {
        let alone = [vec![leader], vec![leader], vec![]];
        assert_eq!(copies(&described(client, "t").await.partitions[0]), alone);
        assert_eq!(described_copies(client, "t").await, alone);
    }
    // The shard is to be on three, one of which does not come: the one that is there goes on alone.
    let other = 3 - leader;
    let all = vec![leader, other, 3];
    let wanted = all.iter().map(|id| NodeId(u64::try_from(*id).expect("an id"))).collect();
    want_three(&nodes, shard, wanted).await;
    let follows = |shard: ShardId| {
        nodes.0.iter().all(|node| {
            let holders = node.cluster.holders();
            holders.get(&shard).is_some_and(|holders| !holders.learners.is_empty() && holders.voters.len() == 1)
        })
    };
    until("the second follows", || follows(shard)).await;
    let place = nodes.leader(shard);
    assert_eq!(clients[place].produce("t", 0, batch(&[b"a"])).await.error_code, 0);
    for client in &mut clients {
        let expected = [all.clone(), vec![leader], vec![all[2]]];
        assert_eq!(copies(&described(client, "t").await.partitions[0]), expected);
        assert_eq!(described_copies(client, "t").await, expected);
        let listed = client.call(0, &ListPartitionReassignmentsRequest::default().with_topics(None)).await;
        let moving = &listed.topics[0].partitions[0];
        let adding: Vec<i32> = moving.adding_replicas.iter().map(|node| node.0).collect();
        assert_eq!((adding, moving.removing_replicas.len()), (all[1..].to_vec(), 0));
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_to_go_is_in_sync_until_it_goes() {
    let nodes = Nodes::start_some(4).await;
    let mut client = nodes.0[0].client().await;
    assert_eq!(create(&mut client, "t", 3).await, (0, 3));
    let shard = nodes.shard_of("t");
    let view = nodes.0[0].broker.nodes();
    let before = view.copies(shard).expect("it is there").clone();
    assert_eq!((before.in_sync.len(), &before.replicas), (3, &before.wanted));
    nodes.0[0].cluster.operate(&["rebalance".to_owned(), "--stop".to_owned()]).await.expect("stopped");
    let to = (1..=4).map(NodeId).find(|id| !before.wanted.contains(id)).expect("one of four");
    let wanted = vec![before.wanted[0], before.wanted[1], to];
    let put = PutShards { shards: vec![ShardRecord { id: shard, voters: wanted.clone() }] };
    nodes.0[0].cluster.decide(put.into()).await.expect("decided");
    // Whatever is looked at on the way: three are in sync, and all of them are replicas.
    until("it has moved", || {
        nodes.0.iter().all(|node| {
            let view = node.broker.nodes();
            let now = view.copies(shard).expect("it is there");
            assert!(now.in_sync.len() >= 3 && now.in_sync.iter().all(|id| now.replicas.contains(id)), "{now:?}");
            now.wanted == wanted && now.replicas == wanted && now.in_sync == wanted
        })
    })
    .await;
    nodes.stop().await;
}

/// Creates a topic of one partition; the code.
async fn create_with(client: &mut Client, name: &str, min_in_sync: &str) -> i16 {
    let config =
        CreatableTopicConfig::default().with_name(text("min.insync.replicas")).with_value(Some(text(min_in_sync)));
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(1)
        .with_replication_factor(-1)
        .with_configs(vec![config]);
    let mut created = client.call(7, &CreateTopicsRequest::default().with_topics(vec![topic])).await.topics.remove(0);
    if created.error_code != 0 {
        let why = created.error_message.take().expect("a reason");
        assert!(why.contains("no batch could ever be acknowledged"), "{why}");
    }
    created.error_code
}

async fn set_min_in_sync(client: &mut Client, topic: &str, value: &str) -> i16 {
    let config = AlterableConfig::default().with_name(text("min.insync.replicas")).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    client.call(1, &request).await.responses.remove(0).error_code
}

/// Sends a batch of an idempotent producer; the code.
async fn produce(client: &mut Client, acks: i16, topic: &str, sequence: i32) -> i16 {
    let request = produce_request(acks, topic, 0, Some(stamped(7, 0, sequence, &[b"a"])));
    client.call(9, &request).await.responses[0].partition_responses[0].error_code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_too_few_copies_would_have_is_refused_and_not_appended() {
    let node = Node::start().await;
    let mut client = node.client().await;
    assert_eq!(create_with(&mut client, "t", "2").await, 0, "other nodes may come");
    assert_eq!(produce(&mut client, -1, "t", 0).await, 19);
    assert_eq!(latest(&mut client, "t").await, (0, 0));
    // Who waits for one copy only is served, as in Kafka.
    assert_eq!(produce(&mut client, 1, "t", 0).await, 0);
    assert_eq!(produce(&mut client, -1, "t", 1).await, 19);
    assert_eq!(set_min_in_sync(&mut client, "t", "3").await, 40);
    assert_eq!(create_with(&mut client, "never", "3").await, 40);
    assert_eq!(set_min_in_sync(&mut client, "t", "1").await, 0);
    assert_eq!(produce(&mut client, -1, "t", 1).await, 0);
    assert_eq!(latest(&mut client, "t").await, (0, 2));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_acknowledged_where_a_majority_is_as_many_as_are_asked_for() {
    let mut nodes = Nodes::start().await;
    let mut client = nodes.0[0].client().await;
    assert_eq!(create_with(&mut client, "t", "2").await, 0);
    let place = nodes.leader(nodes.shard_of("t"));
    let mut client = nodes.0[place].client().await;
    assert_eq!(produce(&mut client, -1, "t", 0).await, 0);
    // One that is away does not count here: what is acknowledged is on two all the same.
    let away = nodes.0.remove((place + 1) % 3);
    away.stop().await;
    let place = nodes.leader(nodes.shard_of("t"));
    let mut client = nodes.0[place].client().await;
    assert_eq!(produce(&mut client, -1, "t", 1).await, 0);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_factor_that_partitions_would_not_have_is_refused() {
    let nodes = Nodes::start_two().await;
    let mut client = nodes.0[0].client().await;
    assert_eq!(create(&mut client, "two", 2).await.0, 38);
    assert_eq!(create(&mut client, "three", 3).await.0, 38);
    assert_eq!(create(&mut client, "one", 1).await, (0, 1));
    nodes.stop().await;
}

/// How many replicas a topic's partition has, as every node says, when that is the same for all.
async fn replicas(nodes: &Nodes, topic: &str) -> Option<usize> {
    let mut counts = Vec::new();
    for node in &nodes.0 {
        let partition = described(&mut node.client().await, topic).await.partitions.remove(0);
        counts.push((partition.replica_nodes.len(), partition.isr_nodes.len()));
    }
    counts.dedup();
    match counts[..] {
        [(replicas, in_sync)] if replicas == in_sync => Some(replicas),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_have_as_many_copies_as_are_asked_for_and_serve_meanwhile() {
    let nodes = Nodes::start_some(5).await;
    let operate = |words: &'static str| {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let cluster = nodes.0[2].cluster.clone();
        async move { cluster.operate(&words).await }
    };
    let mut client = nodes.0[0].client().await;
    assert_eq!(create_with(&mut client, "t", "2").await, 0);
    assert!(operate("copies").await.expect("told").starts_with("every data shard is to have 3 copies"));
    for wrong in ["copies 2", "copies 0", "copies -1", "copies x"] {
        assert!(operate(wrong).await.expect_err("refused").contains("no number of copies"));
    }
    assert!(
        operate("copies 1")
            .await
            .expect_err("refused")
            .contains("min.insync.replicas of topic \"t\" is greater than 1")
    );
    let mut sequence = 0;
    for (words, count, in_sync_max) in [("copies 5", 5, 3), ("copies 1", 1, 1), ("copies 3", 3, 2)] {
        assert_eq!(set_min_in_sync(&mut client, "t", "1").await, 0);
        operate(words).await.expect("taken");
        for _ in 0..1_000 {
            let leader = nodes.0[0].cluster.leader(nodes.shard_of("t"));
            let leads = |node: &&Node| Some(node.cluster.node_id()) == leader;
            if let Some(node) = nodes.0.iter().find(leads) {
                // Whoever is sent elsewhere goes there.
                let code = produce(&mut node.client().await, -1, "t", sequence).await;
                assert!(matches!(code, 0 | 6 | 7), "{code}");
                sequence += i32::from(code == 0);
            }
            if replicas(&nodes, "t").await == Some(count) {
                break;
            }
            base::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(replicas(&nodes, "t").await, Some(count), "{words}");
        assert_eq!(set_min_in_sync(&mut client, "t", &(in_sync_max + 1).to_string()).await, 40);
        assert_eq!(set_min_in_sync(&mut client, "t", &in_sync_max.to_string()).await, 0);
        until("every shard has them", || {
            let view = nodes.0[0].broker.nodes();
            view.shards().filter(|(shard, _)| *shard != METADATA).all(|(_, copies)| {
                copies.voters.len() == count && copies.wanted.len() == count && copies.replicas.len() == count
            })
        })
        .await;
        let topic = format!("t{count}");
        assert_eq!(create(&mut client, &topic, -1).await, (0, i16::try_from(count).expect("small")));
        assert_eq!(create(&mut client, "more", i16::try_from(count + 1).expect("small")).await.0, 38);
    }
    let mut client = nodes.0[nodes.leader(nodes.shard_of("t"))].client().await;
    assert_eq!(latest(&mut client, "t").await, (0, i64::from(sequence)));
    nodes.stop().await;
}
