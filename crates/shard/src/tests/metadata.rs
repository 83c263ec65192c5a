//! The metadata group: topics from creation to the end, configuration, nodes, slots.

use std::collections::BTreeMap;

use record::{NodeId, Partition, ProducerId, ShardId, StreamId, TopicId};

use super::harness::Node;
use crate::commands::{
    AbandonTopics, AddPartitions, AllocateProducerIds, AlterConfigs, AssignSlots, CompleteDeletion, CompletePartitions,
    CompleteTopics, ConfigAlteration, CreateCluster, CreateTopics, DeleteTopics, NewTopic, PutShards, RegisterNode,
    SlotRange,
};
use crate::{
    AbandonTopicError, AddPartitionsError, AlterConfigError, AssignSlotsError, ConfigResource, CreateTopicError,
    Intention, NodeAddress, NodeRecord, Outcome, ProducerIdBlock, RegisterNodeError, ShardRecord, TopicState,
    UnknownTopic,
};

fn new_topic(id: u128, name: &str, shards: &[u32]) -> NewTopic {
    NewTopic {
        id: TopicId(id),
        name: name.to_owned(),
        partitions: shards.iter().copied().map(ShardId).collect(),
        configs: BTreeMap::new(),
    }
}

fn create(node: &mut Node, topics: Vec<NewTopic>) -> Vec<Result<TopicId, CreateTopicError>> {
    match node.one(CreateTopics { topics }) {
        Outcome::CreateTopics(results) => results,
        other => panic!("{other:?}"),
    }
}

fn kinds(node: &Node) -> Vec<(&'static str, u128)> {
    let kind = |intention: &Intention| match intention {
        Intention::Create(topic) => ("create", topic.id.0),
        Intention::AddPartitions(topic) => ("add", topic.id.0),
        Intention::Delete(topic) => ("delete", topic.id.0),
    };
    node.shard.intentions(10).iter().map(kind).collect()
}

#[test]
fn only_a_topic_that_is_being_made_is_abandoned() {
    let mut node = Node::default();
    create(&mut node, vec![new_topic(7, "made", &[1]), new_topic(8, "whole", &[1])]);
    node.one(CompleteTopics { topics: vec![TopicId(8)] });
    assert_eq!(
        node.one(AbandonTopics { topics: [7, 8, 9, 7].map(TopicId).to_vec() }),
        Outcome::AbandonTopics(vec![
            Ok(()),
            Err(AbandonTopicError::Complete),
            Err(AbandonTopicError::UnknownTopic),
            Err(AbandonTopicError::UnknownTopic),
        ])
    );
    assert_eq!(kinds(&node), [("delete", 7)]);
    assert_eq!(node.one(CompleteTopics { topics: vec![TopicId(7)] }), Outcome::CompleteTopics { completed: 0 });
    assert_eq!(node.shard.topic_by_name("whole").map(|topic| topic.state), Some(TopicState::Live));
}

#[test]
fn a_topic_from_creation_to_the_end() {
    let mut node = Node::default();
    assert_eq!(create(&mut node, vec![new_topic(7, "t", &[1, 2])]), [Ok(TopicId(7))]);
    assert_eq!(kinds(&node), [("create", 7)]);
    let topic = node.shard.topic_by_name("t").unwrap();
    assert_eq!((topic.state, topic.live().len(), topic.partitions.len()), (TopicState::Creating, 0, 2));
    assert_eq!(topic.partitions[1].stream, StreamId(2));
    assert_eq!(topic.partitions[1].shard(), Some(ShardId(2)));
    let revision = topic.revision;

    let complete = CompleteTopics { topics: vec![TopicId(7), TopicId(8)] };
    assert_eq!(node.one(complete.clone()), Outcome::CompleteTopics { completed: 1 });
    assert_eq!(node.one(complete), Outcome::CompleteTopics { completed: 0 }, "a step may come again");
    let topic = node.shard.topic(TopicId(7)).unwrap();
    assert!(topic.state == TopicState::Live && topic.live().len() == 2 && topic.revision > revision);
    assert_eq!(kinds(&node), []);

    assert_eq!(
        node.one(DeleteTopics { topics: vec![TopicId(7), TopicId(7), TopicId(9)] }),
        Outcome::DeleteTopics(vec![Ok(()), Err(UnknownTopic), Err(UnknownTopic)])
    );
    assert_eq!(kinds(&node), [("delete", 7)]);
    assert!(node.shard.topic_by_name("t").is_none(), "the name is free at once");
    assert_eq!(create(&mut node, vec![new_topic(8, "t", &[1])]), [Ok(TopicId(8))]);
    assert_eq!(
        node.one(CompleteDeletion { topics: vec![TopicId(7), TopicId(8)] }),
        Outcome::CompleteDeletion { completed: 1 }
    );
    assert_eq!(node.shard.topic_by_name("t").unwrap().id, TopicId(8));
    assert_eq!(node.shard.topic_by_name("t").unwrap().partitions[0].stream, StreamId(3), "stream ids are not reused");
    assert_eq!(kinds(&node), [("create", 8)]);
    assert_eq!(node.shard.topics().count(), 1);
}

#[test]
fn names_and_ids_are_taken_once() {
    let mut node = Node::default();
    let topics = vec![
        new_topic(1, "a", &[1]),
        new_topic(2, "a", &[1]),
        new_topic(1, "b", &[1]),
        new_topic(0, "b", &[1]),
        new_topic(3, "b", &[]),
    ];
    assert_eq!(
        create(&mut node, topics),
        [
            Ok(TopicId(1)),
            Err(CreateTopicError::Exists),
            Err(CreateTopicError::IdTaken),
            Err(CreateTopicError::IdTaken),
            Err(CreateTopicError::NoPartitions),
        ]
    );
}

#[test]
fn partitions_are_seen_when_their_streams_exist() {
    let mut node = Node::default();
    create(&mut node, vec![new_topic(1, "a", &[1])]);
    let add = |node: &mut Node, current| {
        let command = AddPartitions { topic: TopicId(1), current, added: vec![ShardId(2), ShardId(3)] };
        match node.one(command) {
            Outcome::AddPartitions(result) => result,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(add(&mut node, 1), Err(AddPartitionsError::InProgress));
    node.one(CompleteTopics { topics: vec![TopicId(1)] });
    assert_eq!(add(&mut node, 2), Err(AddPartitionsError::CountChanged { current: 1 }));
    assert_eq!(add(&mut node, 1), Ok(()));
    assert_eq!(add(&mut node, 1), Err(AddPartitionsError::InProgress));
    assert_eq!(kinds(&node), [("add", 1)]);
    assert_eq!(node.shard.topic(TopicId(1)).unwrap().live().len(), 1);
    let complete = CompletePartitions { topic: TopicId(1), total: 99 };
    assert_eq!(node.one(complete), Outcome::CompletePartitions(Ok(())));
    assert_eq!(node.shard.topic(TopicId(1)).unwrap().live().len(), 3);
    assert_eq!(kinds(&node), []);
    assert_eq!(
        node.one(CompletePartitions { topic: TopicId(5), total: 1 }),
        Outcome::CompletePartitions(Err(UnknownTopic))
    );
}

#[test]
fn configs_change_over_the_version_that_was_seen() {
    let mut node = Node::default();
    create(&mut node, vec![new_topic(1, "a", &[1])]);
    let alter = |node: &mut Node, resource, expected_version, set: &[(&str, &str)], remove: &[&str]| {
        let alteration = ConfigAlteration {
            resource,
            expected_version,
            set: set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            remove: remove.iter().map(|key| (*key).to_owned()).collect(),
        };
        match node.one(AlterConfigs { alterations: vec![alteration] }) {
            Outcome::AlterConfigs(mut results) => results.remove(0),
            other => panic!("{other:?}"),
        }
    };
    for resource in
        [ConfigResource::Topic(TopicId(1)), ConfigResource::Broker(None), ConfigResource::Broker(Some(NodeId(1)))]
    {
        assert_eq!(node.shard.configs(&resource), (0, BTreeMap::new()));
        assert_eq!(alter(&mut node, resource.clone(), Some(0), &[("k", "1"), ("l", "2")], &[]), Ok(1));
        let conflict = AlterConfigError::Conflict { current: 1 };
        assert_eq!(alter(&mut node, resource.clone(), Some(0), &[("k", "9")], &[]), Err(conflict));
        assert_eq!(alter(&mut node, resource.clone(), None, &[("k", "3")], &["l", "m"]), Ok(2));
        let expected = BTreeMap::from([("k".to_owned(), "3".to_owned())]);
        assert_eq!(node.shard.configs(&resource), (2, expected));
    }
    let unknown = ConfigResource::Topic(TopicId(2));
    assert_eq!(alter(&mut node, unknown, None, &[], &[]), Err(AlterConfigError::UnknownTopic));
}

#[test]
fn producer_ids_are_never_given_twice() {
    let mut node = Node::default();
    for (count, first, given) in [(1000, 0, 1000), (0, 1000, 1), (5, 1001, 5)] {
        let block = ProducerIdBlock { first: ProducerId(first), count: given };
        assert_eq!(node.one(AllocateProducerIds { count }), Outcome::AllocateProducerIds(Ok(block)));
    }
}

#[test]
fn a_node_of_a_former_life_is_refused() {
    let mut node = Node::default();
    let register = |node: &mut Node, start_number, port| {
        let addresses = vec![NodeAddress { listener: "kafka".to_owned(), host: "h".to_owned(), port }];
        let record = NodeRecord { id: NodeId(4), start_number, rack: None, addresses };
        match node.one(RegisterNode { node: record }) {
            Outcome::RegisterNode(result) => result,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(register(&mut node, 2, 1), Ok(()));
    assert_eq!(register(&mut node, 1, 2), Err(RegisterNodeError::Stale { current: 2 }));
    let version = node.shard.metadata_version();
    assert_eq!(register(&mut node, 2, 1), Ok(()));
    assert_eq!(node.shard.metadata_version(), version, "nothing changed");
    assert_eq!(register(&mut node, 2, 3), Ok(()));
    assert_eq!(node.shard.node(NodeId(4)).unwrap().addresses[0].port, 3);
}

#[test]
fn slots_are_assigned_all_or_none() {
    let mut node = Node::default();
    let range = |first, last, shard| SlotRange { first, last, shard: ShardId(shard) };
    let assign = |node: &mut Node, ranges| match node.one(AssignSlots { ranges }) {
        Outcome::AssignSlots(result) => result,
        other => panic!("{other:?}"),
    };
    assert_eq!(assign(&mut node, vec![range(0, 1023, 1)]), Err(AssignSlotsError::UnknownShard));
    node.one(PutShards { shards: [1, 2].map(|id| ShardRecord { id: ShardId(id), voters: vec![NodeId(1)] }).to_vec() });
    assert_eq!(node.shard.shard_records().len(), 2);
    assert_eq!(assign(&mut node, vec![range(0, 5, 1), range(6, 1024, 1)]), Err(AssignSlotsError::OutOfRange));
    assert_eq!(node.shard.slot_shard(0), None);
    assert_eq!(assign(&mut node, vec![range(0, 511, 1), range(512, 1023, 2)]), Ok(()));
    assert_eq!((node.shard.slot_shard(511), node.shard.slot_shard(1023)), (Some(ShardId(1)), Some(ShardId(2))));
    assert_eq!(node.shard.slot_shard(1024), None);
}

#[test]
fn the_cluster_id_is_given_once() {
    let mut node = Node::default();
    assert_eq!(node.one(CreateCluster { cluster_id: 5 }), Outcome::CreateCluster { cluster_id: 5 });
    assert_eq!(node.one(CreateCluster { cluster_id: 6 }), Outcome::CreateCluster { cluster_id: 5 });
    assert_eq!(node.shard.cluster_id(), Some(5));
    assert_eq!(node.shard.offset("g", TopicId(1), Partition(0)), None);
}
