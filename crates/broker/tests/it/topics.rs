//! Topics: creating, finding, growing and deleting them, and what is refused in which words.

use broker::Config;
use broker::topics::{
    CreatePartitions, CreatePartitionsError, CreateTopic, CreateTopicError, DeleteTopicError, TopicSelector,
};
use record::TopicId;

use crate::harness::{Node, topic};

async fn refused(node: &Node, topic: CreateTopic) -> CreateTopicError {
    let mut answers = node.broker.topics().create(vec![topic], true).await;
    answers.remove(0).expect_err("it is refused")
}

#[tokio::test]
async fn a_topic_is_found_by_name_and_id_once_it_is_created_and_never_after_it_is_deleted() {
    let node = Node::start().await;
    assert!(node.broker.topics().resolve("a").is_none());
    let created = node.broker.topics().create(vec![topic("a", 3)], false).await;
    let id = created[0].as_ref().expect("it is created").id;
    assert_ne!(id, TopicId(0));
    let by_name = node.broker.topics().resolve("a").expect("by name");
    assert_eq!((by_name.id, by_name.partition_count()), (id, 3));
    assert_eq!(node.broker.topics().resolve_id(id).expect("by id").name.as_ref(), "a");
    assert!(node.broker.topics().partition("a", 3).is_none());
    assert!(node.broker.topics().partition("a", -1).is_none());
    let leader = by_name.partitions[0].leader();
    assert_eq!(leader.node, Some(node.broker.cluster().node_id()));
    assert!(leader.epoch >= 0);

    let deleted = node.broker.topics().delete(vec![TopicSelector::Id(id)]).await;
    assert_eq!(deleted[0].as_ref().expect("it is deleted").name.as_ref(), "a");
    assert!(node.broker.topics().resolve("a").is_none());
    assert!(node.broker.topics().resolve_id(id).is_none());
}

#[tokio::test]
async fn a_topic_made_anew_under_its_old_name_is_another_one() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let old = node.broker.topics().resolve("a").expect("it exists");
    node.broker.topics().delete(vec![TopicSelector::Name("a".to_owned())]).await;
    node.create("a", 2).await;
    let new = node.broker.topics().resolve("a").expect("it exists again");
    assert_ne!(old.id, new.id);
    assert_eq!(new.partition_count(), 2);
    assert!(node.broker.topics().resolve_id(old.id).is_none());
}

#[tokio::test]
async fn defaults_come_from_the_configuration() {
    let node = Node::with(Config { num_partitions: 4, ..Config::default() }).await;
    let created = node.broker.topics().create(vec![topic("a", -1)], true).await;
    let created = created[0].as_ref().expect("it would be created");
    assert_eq!((created.partitions, created.replication_factor), (4, 1));
    assert_eq!(created.configs.len(), 33);
    assert!(node.broker.topics().resolve("a").is_none(), "it was only validated");
}

#[tokio::test]
async fn bad_topics_are_refused_with_kafkas_reasons_and_spoil_no_other() {
    let node = Node::start().await;
    node.create("a.b", 1).await;
    let reason = |error: CreateTopicError| error.to_string();
    let cases = [
        (topic("a.b", 1), "Topic 'a.b' already exists."),
        (topic("a_b", 1), "Topic 'a_b' collides with existing topic: a.b"),
        (topic("", 1), "Topic name is invalid: the empty string is not allowed"),
        (topic("c", 0), "Number of partitions was set to an invalid non-positive value."),
        (topic("c", 10_001), "Excessively large number of partitions per request."),
        (
            CreateTopic { replication_factor: 0, ..topic("c", 1) },
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            CreateTopic { assignments: vec![(0, vec![7])], ..topic("c", -1) },
            "The manual partition assignment includes broker 7, but no such broker is registered.",
        ),
        (
            CreateTopic { configs: vec![("zzz".to_owned(), Some("1".to_owned()))], ..topic("c", 1) },
            "Unknown topic config name: zzz",
        ),
    ];
    for (topic, expected) in cases {
        assert_eq!(reason(refused(&node, topic).await), expected);
    }
    let two = refused(&node, CreateTopic { replication_factor: 2, ..topic("c", 1) }).await;
    assert!(matches!(two, CreateTopicError::InvalidReplicationFactor(_)));
    let shred = CreateTopic { configs: vec![("cleanup.policy".to_owned(), Some("shred".to_owned()))], ..topic("c", 1) };
    assert!(matches!(refused(&node, shred).await, CreateTopicError::InvalidConfig(_)));

    let answers = node.broker.topics().create(vec![topic("good", 1), topic("b d", 1), topic("good", 2)], false).await;
    assert!(answers[0].is_ok());
    assert!(matches!(answers[1], Err(CreateTopicError::InvalidTopic(_))));
    assert!(matches!(answers[2], Err(CreateTopicError::InvalidRequest(_))));
    assert_eq!(node.broker.topics().resolve("good").expect("it exists").partition_count(), 1);
}

#[tokio::test]
async fn a_manual_assignment_to_this_node_is_taken() {
    let node = Node::start().await;
    let own = i32::try_from(node.broker.cluster().node_id().0).expect("a small number");
    let assigned = |assignments: Vec<(i32, Vec<i32>)>| CreateTopic { assignments, ..topic("a", -1) };
    let gap = refused(&node, assigned(vec![(0, vec![own]), (2, vec![own])])).await;
    assert_eq!(gap.to_string(), "partitions should be a consecutive 0-based integer sequence");
    let twice = refused(&node, assigned(vec![(0, vec![own, own])])).await;
    let expected = format!("The manual partition assignment includes the broker {own} more than once.");
    assert_eq!(twice.to_string(), expected);
    let created = node.broker.topics().create(vec![assigned(vec![(1, vec![own]), (0, vec![own])])], false).await;
    assert_eq!(created[0].as_ref().expect("it is created").partitions, 2);
}

#[tokio::test]
async fn topics_are_created_automatically_unless_that_is_off() {
    let node = Node::start().await;
    let names = || vec!["auto".to_owned(), "b d".to_owned()];
    let answers = node.broker.topics().create_automatically(names()).await;
    assert!(answers[0].is_ok());
    assert!(matches!(answers[1], Err(CreateTopicError::InvalidTopic(_))));
    assert!(node.broker.topics().create_automatically(names()).await[0].is_ok(), "it exists already");
    assert!(node.broker.topics().resolve("auto").is_some());

    let off = Node::with(Config { auto_create_topics: false, ..Config::default() }).await;
    assert!(off.broker.topics().create_automatically(names()).await[0].is_ok());
    assert!(off.broker.topics().resolve("auto").is_none());
}

#[tokio::test]
async fn partitions_are_added_and_never_taken() {
    let node = Node::start().await;
    node.create("a", 2).await;
    let more = |total, assignments| CreatePartitions { name: "a".to_owned(), total, assignments };
    let cases = [
        (more(1, None), "The topic a currently has 2 partition(s); 1 would not be an increase."),
        (more(2, None), "Topic already has 2 partition(s)."),
        (
            more(5, Some(vec![vec![1]])),
            "Attempted to add 3 additional partition(s), but only 1 assignment(s) were specified.",
        ),
    ];
    for (request, expected) in cases {
        let answers = node.broker.topics().create_partitions(vec![request], false).await;
        assert_eq!(answers[0].as_ref().expect_err("it is refused").to_string(), expected);
    }
    let unknown = CreatePartitions { name: "nope".to_owned(), total: 3, assignments: None };
    let answers = node.broker.topics().create_partitions(vec![unknown, more(5, None)], false).await;
    assert!(matches!(answers[0], Err(CreatePartitionsError::UnknownTopicOrPartition(_))));
    assert_eq!(answers[1], Ok(()));
    assert_eq!(node.broker.topics().resolve("a").expect("it exists").partition_count(), 5);
    let partition = node.partition("a", 4);
    assert_eq!(node.produce(&partition, &[b"v"]).await.expect("it is appended").base_offset, 0);
}

#[tokio::test]
async fn deleting_answers_for_each_topic() {
    let node = Node::start().await;
    node.create("a", 1).await;
    let name = |name: &str| TopicSelector::Name(name.to_owned());
    let selectors = vec![name("nope"), TopicSelector::Id(TopicId(77)), name("a"), name("a")];
    let answers = node.broker.topics().delete(selectors).await;
    assert!(matches!(answers[0], Err(DeleteTopicError::UnknownTopicOrPartition(_))));
    assert!(matches!(answers[1], Err(DeleteTopicError::UnknownTopicId(_))));
    assert!(answers[2].is_ok());
    assert!(matches!(answers[3], Err(DeleteTopicError::InvalidRequest(_))));
}

#[tokio::test]
async fn thousands_of_topics_survive_a_restart() {
    let node = Node::start().await;
    for round in 0..8 {
        let topics = (0..500).map(|index| topic(&format!("t-{round}-{index}"), 1)).collect();
        assert!(node.broker.topics().create(topics, false).await.iter().all(Result::is_ok));
    }
    assert_eq!(node.broker.topics().all().len(), 4_000);
    let node = node.restart().await;
    let all = node.broker.topics().all();
    assert_eq!(all.len(), 4_000);
    assert!(all.is_sorted_by(|a, b| a.name < b.name));
    let partition = node.partition("t-7-499", 0);
    assert_eq!(node.produce(&partition, &[b"v"]).await.expect("it is appended").base_offset, 0);
}

#[tokio::test]
async fn a_flood_of_names_is_refused_in_no_more_time_than_it_is_long() {
    let node = Node::start().await;
    node.create("a.b.c.d.e.f.g.h.i", 1).await;
    let mut flood: Vec<_> = (0..20).map(|number| topic(&format!("x.{number}"), 1)).collect();
    flood.push(topic("a_b.c.d.e.f.g.h.i", 1));
    flood.push(topic("y", 9_990));
    flood.extend((0..20_000).map(|number| topic(&format!("{number}.b.c.d.e.f.g.h.i"), 1)));
    let answers = node.broker.topics().create(flood, true).await;
    assert!(answers[..20].iter().all(Result::is_ok));
    assert!(matches!(answers[20], Err(CreateTopicError::InvalidTopic(_))), "{:?}", answers[20]);
    assert!(answers[21..].iter().all(|answer| matches!(answer, Err(CreateTopicError::PolicyViolation(_)))));
}
