//! The nodes of a cluster: their ids, and how they stand.

use record::{NodeId, ShardId, StreamId, StreamOffset, TopicId};

use super::harness::{Node, put_object};
use crate::commands::{
    AbandonTopics, AdmitNode, AllocateProducerIds, AnnounceNode, COPIES, CompleteShards, DeleteOffsets, DeleteRecords,
    NewShard, OpenShards, PutShards, RaiseFeatures, RegisterNode, SetCopies, SetLogStart, SetRebalancing, SetStanding,
    SkipIds, Tick,
};
use crate::{
    AdmitNodeError, AnnounceNodeError, Command, NodeRecord, Outcome, RaiseFeaturesError, SetCopiesError,
    SetStandingError, ShardRecord, Standing,
};

fn admit(node: &mut Node, birth: u128) -> Result<NodeId, AdmitNodeError> {
    match node.one(AdmitNode { birth, rack: None, addresses: Vec::new() }) {
        Outcome::AdmitNode(result) => result,
        other => panic!("{other:?}"),
    }
}

fn stand(node: &mut Node, id: u64, standing: Standing) -> Result<(), SetStandingError> {
    match node.one(SetStanding { node: NodeId(id), standing }) {
        Outcome::SetStanding(result) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_birth_gets_one_id_that_is_never_given_again() {
    let mut node = Node::default();
    let founder = NodeRecord { id: NodeId(1), start_number: 1, rack: None, addresses: Vec::new() };
    node.one(RegisterNode { node: founder.clone() });
    assert_eq!(admit(&mut node, 7), Ok(NodeId(2)));
    assert_eq!(admit(&mut node, 8), Ok(NodeId(3)));
    assert_eq!(admit(&mut node, 7), Ok(NodeId(2)), "asked again after a crash");
    assert_eq!(stand(&mut node, 3, Standing::Draining), Ok(()));
    assert_eq!(admit(&mut node, 8), Ok(NodeId(3)));
    assert_eq!(stand(&mut node, 3, Standing::Removed), Ok(()));
    assert_eq!(stand(&mut node, 3, Standing::Member), Err(SetStandingError::UnknownNode), "nothing brings it back");
    assert_eq!(admit(&mut node, 8), Err(AdmitNodeError::Removed));
    assert_eq!(admit(&mut node, 9), Ok(NodeId(4)), "the id of a removed node is not given again");
    assert_eq!(stand(&mut node, 1, Standing::Removed), Ok(()));
    assert_eq!(admit(&mut node, 0), Ok(NodeId(5)), "the founder has no birth");
    let announce = |node: &mut Node, id: u64, start_number: u64| {
        let record = NodeRecord { id: NodeId(id), start_number, ..founder.clone() };
        match node.one(AnnounceNode { node: record }) {
            Outcome::AnnounceNode(result) => result,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(announce(&mut node, 3, 1), Err(AnnounceNodeError::Unknown));
    assert_eq!(announce(&mut node, 2, 2), Ok(()));
    assert_eq!(announce(&mut node, 2, 1), Err(AnnounceNodeError::Stale { current: 2 }));
}

#[test]
fn a_node_with_replicas_is_not_removed() {
    let mut node = Node::default();
    assert_eq!(admit(&mut node, 1), Ok(NodeId(1)));
    let voters = |voters: &[u64]| PutShards {
        shards: vec![ShardRecord { id: ShardId(0), voters: voters.iter().copied().map(NodeId).collect() }],
    };
    node.one(voters(&[1, 2]));
    assert_eq!(stand(&mut node, 1, Standing::Removed), Err(SetStandingError::HasReplicas));
    node.one(voters(&[2]));
    assert_eq!(stand(&mut node, 1, Standing::Removed), Ok(()));
    assert_eq!(stand(&mut node, 1, Standing::Removed), Ok(()), "again");
}

#[test]
fn a_shard_is_founded_by_one_node_once() {
    let mut node = Node::default();
    let open = |node: &mut Node, id: u32, founder: u64| {
        let shards = vec![NewShard { id: ShardId(id), founder: NodeId(founder) }];
        match node.one(OpenShards { shards }) {
            Outcome::OpenShards { opened } => opened,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(open(&mut node, 5, 2), 1);
    assert_eq!(open(&mut node, 5, 3), 0, "it is there");
    assert_eq!(node.shard.founder(ShardId(5)), Some(NodeId(2)));
    assert_eq!(node.shard.shard_record(ShardId(5)).unwrap().voters, [NodeId(2)]);
    for expected in [1, 0] {
        let completed = node.one(CompleteShards { shards: vec![ShardId(5)] });
        assert_eq!(completed, Outcome::CompleteShards { completed: expected });
        assert_eq!(node.shard.founder(ShardId(5)), None);
    }
    assert_eq!(open(&mut node, 5, 3), 0, "nobody founds it again");
}

fn raise(node: &mut Node, level: u32, nodes: &[u64]) -> Result<u32, RaiseFeaturesError> {
    match node.one(RaiseFeatures { level, nodes: nodes.iter().copied().map(NodeId).collect() }) {
        Outcome::RaiseFeatures(result) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_level_of_features_rises_when_every_node_that_is_not_removed_knows_it() {
    let mut node = Node::default();
    assert_eq!(admit(&mut node, 1), Ok(NodeId(1)));
    assert_eq!(admit(&mut node, 2), Ok(NodeId(2)));
    assert_eq!(node.shard.feature_level(), 1, "of every cluster that never raised it");
    assert_eq!(raise(&mut node, 2, &[1]), Err(RaiseFeaturesError::Unheard { node: NodeId(2) }));
    assert_eq!(stand(&mut node, 2, Standing::Draining), Ok(()));
    assert_eq!(raise(&mut node, 2, &[1]), Err(RaiseFeaturesError::Unheard { node: NodeId(2) }), "it may come back");
    assert_eq!(stand(&mut node, 2, Standing::Removed), Ok(()));
    assert_eq!(raise(&mut node, 2, &[1]), Ok(2));
    assert_eq!(raise(&mut node, 1, &[1]), Ok(2), "never lowered");
    assert_eq!(admit(&mut node, 3), Ok(NodeId(3)));
    assert_eq!(raise(&mut node, 3, &[1]), Err(RaiseFeaturesError::Unheard { node: NodeId(3) }), "taken in meanwhile");
    assert_eq!(node.shard.feature_level(), 2);
}

#[test]
fn a_level_that_was_never_raised_does_not_show_in_the_digest() {
    let (mut left, mut right) = (Node::default(), Node::default());
    for node in [&mut left, &mut right] {
        node.one(RegisterNode {
            node: NodeRecord { id: NodeId(1), start_number: 1, rack: None, addresses: Vec::new() },
        });
    }
    assert_eq!(raise(&mut left, 1, &[1]), Ok(1));
    assert_eq!(raise(&mut right, 2, &[]), Err(RaiseFeaturesError::Unheard { node: NodeId(1) }));
    assert_eq!(left.shard.digest(), right.shard.digest());
    assert_eq!(raise(&mut right, 2, &[1]), Ok(2));
    assert_ne!(left.shard.digest(), right.shard.digest());
}

#[test]
fn data_shards_have_three_copies_until_an_odd_number_is_asked_for() {
    let (mut node, mut other) = (Node::default(), Node::default());
    assert_eq!(node.shard.copies(), 3);
    for copies in [0, 2, 4, 6, 7] {
        assert_eq!(node.one(SetCopies { copies }), Outcome::SetCopies(Err(SetCopiesError::Number)));
        assert_eq!(other.one(SetCopies { copies: 3 }), Outcome::SetCopies(Ok(())));
    }
    assert_eq!(node.shard.digest(), other.shard.digest(), "what is so already does not show");
    for copies in COPIES {
        assert_eq!(node.one(SetCopies { copies }), Outcome::SetCopies(Ok(())));
        assert_eq!(node.shard.copies(), copies);
        other.one(SetCopies { copies: 3 });
    }
    assert_ne!(node.shard.digest(), other.shard.digest());
}

#[test]
fn numbers_that_may_have_been_given_out_are_left_out() {
    let mut node = Node::default();
    assert_eq!(admit(&mut node, 1), Ok(NodeId(1)));
    let before = node.shard.metadata_version();
    let block = |node: &mut Node| match node.one(AllocateProducerIds { count: 10 }) {
        Outcome::AllocateProducerIds(Ok(block)) => block.first.0,
        other => panic!("{other:?}"),
    };
    assert_eq!(block(&mut node), 0);
    let skip = SkipIds { ids: 1_000, nodes: 50, epochs: 7, removed: vec![NodeId(1), NodeId(4)] };
    assert!(node.shard.is_certain(StreamId(1)));
    assert_eq!(node.one(skip), Outcome::SkipIds);
    let next = node.shard.next_stream();
    assert!(!node.shard.is_certain(StreamId(next.0 - 1)) && node.shard.is_certain(next), "who knows whose that is");
    assert_eq!(block(&mut node), 1_010);
    assert!(node.shard.metadata_version() >= before + 1_000);
    assert_eq!(node.shard.feature_level(), 3, "who knows less cannot read it");
    assert_eq!(
        node.shard.standing(NodeId(1)),
        Some(Standing::Member),
        "a node that is known is removed by its own command"
    );
    assert_eq!(node.shard.standing(NodeId(4)), Some(Standing::Removed));
    assert_eq!(admit(&mut node, 2), Ok(NodeId(52)), "behind all that may have been taken in");
    let digest = node.shard.digest();
    let nothing = SkipIds { ids: 0, nodes: 0, epochs: 0, removed: vec![] };
    let mut other = Node::default();
    other.one(nothing);
    assert_eq!(other.shard.feature_level(), 1);
    assert_ne!(other.shard.digest(), digest);
}

#[test]
fn commands_say_which_level_they_need() {
    let level = |command: Command| command.feature_level();
    assert_eq!(level(CompleteShards { shards: vec![] }.into()), 1);
    assert_eq!(level(RaiseFeatures { level: 2, nodes: vec![] }.into()), 1, "it raises it");
    assert_eq!(level(SetRebalancing { on: true }.into()), 2);
    assert_eq!(level(SetCopies { copies: 3 }.into()), 3);
    assert_eq!(level(AbandonTopics { topics: vec![] }.into()), 3);
    assert_eq!(level(Tick {}.into()), 1);
    assert_eq!(level(DeleteRecords { fronts: vec![] }.into()), 4);
    assert_eq!(level(SetLogStart { topic: TopicId(1), partition: 0, before: StreamOffset(0) }.into()), 4);
    assert_eq!(level(put_object(1, 1).into()), 5);
    assert_eq!(level(DeleteOffsets::Topics { topics: vec![] }.into()), 1);
}
