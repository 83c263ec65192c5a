//! Another node at the listener of one that is alone.

use std::collections::BTreeMap;
use std::path::Path;

use base::Env;
use base::time::{Duration, sleep, timeout};
use record::LogIndex;
use replica::{Lane, ProposeError};
use shard::commands::{AllocateProducerIds, RegisterNode, SetStanding};
use shard::{Command, FEATURE_LEVEL, NodeAddress, NodeRecord, Outcome};

use super::*;
use crate::belonging::told_soon;
use crate::forward::Forward;
use crate::peers::Peers;
use crate::{Cluster, Config, INTERNAL_LISTENER, METADATA};

const OTHER: NodeId = NodeId(2);

/// A node that listens, and has heard of another.
async fn start(dir: &Path) -> Cluster {
    let listen = Some(([127, 0, 0, 1], 0).into());
    let config =
        Config { listen, shards: 1, segment_bytes: 4 << 20, reserve_bytes: 0, ..Config::new(dir.join("data")) };
    let cluster = Cluster::start(Env::real(), config).await.expect("started");
    let node = NodeRecord { id: OTHER, start_number: 1, rack: None, addresses: vec![] };
    cluster.propose(METADATA, RegisterNode { node }.into()).await.expect("registered");
    cluster
}

/// The ways of the other node, which belongs to `cluster` or not.
fn other(node: &Cluster, cluster: u128) -> Peers {
    let peers = Peers::new(Env::real(), Me { cluster, node: OTHER, life: 7, features: FEATURE_LEVEL });
    let port = node.listening().expect("it listens").port();
    let address = NodeAddress { listener: INTERNAL_LISTENER.to_owned(), host: "127.0.0.1".to_owned(), port };
    peers.set_addresses(BTreeMap::from([(node.node_id(), address)]));
    peers
}

fn ids() -> Command {
    AllocateProducerIds { count: 10 }.into()
}

#[tokio::test]
async fn a_proposal_of_another_node_is_proposed_here() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    let peers = other(&node, node.cluster_id());
    let mut firsts = Vec::new();
    // The first opens the connection, the others find it open.
    for _ in 0..3 {
        let outcome = peers.propose(node.node_id(), METADATA, ids()).await.expect("an outcome");
        let Outcome::AllocateProducerIds(Ok(block)) = outcome else { panic!("{outcome:?}") };
        firsts.push(block.first.0);
    }
    assert_eq!(firsts, [0, 10, 20]);
    let nowhere = peers.propose(node.node_id(), ShardId(99), ids()).await;
    assert_eq!(nowhere, Err(ProposeError::NotLeader { leader: None }), "it was refused before it was proposed");
    let nobody = peers.propose(NodeId(9), METADATA, ids()).await;
    assert_eq!(nobody, Err(ProposeError::NotLeader { leader: None }));
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_of_another_cluster_and_a_guest_change_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    let applied = |node: &Cluster| node.replica(METADATA).map(|replica| replica.applied());
    let before: Option<LogIndex> = applied(&node);
    let stranger = other(&node, node.cluster_id() ^ 1);
    let refused = stranger.propose(node.node_id(), METADATA, ids()).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: None }));
    let port = node.listening().expect("it listens").port();
    let (guest, _) = stranger.dial_as_guest("127.0.0.1", port).await.expect("let in");
    for subject in [Subject::Proposal, Subject::Group] {
        let body = Payload::from(proposal::encode(&ids()));
        let refusal = guest.call(subject, METADATA, body.clone()).expect("sent").await.expect_err("refused");
        assert_eq!(refusal.to_string(), FOR_MEMBERS);
        let requests = futures_util::stream::iter([body]).boxed();
        let mut answers = guest.stream(subject, METADATA, requests).expect("opened");
        let refusal = answers.next().await.expect("an answer").expect_err("refused");
        assert_eq!(refusal.to_string(), FOR_MEMBERS);
    }
    assert_eq!(applied(&node), before);
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_that_was_let_in_and_is_removed_since_is_answered_nothing_any_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    let peers = other(&node, node.cluster_id());
    let link = peers.link(node.node_id(), Lane::Control).await.expect("let in");
    assert!(!told_soon(&peers).await);
    let gone = SetStanding { node: OTHER, standing: Standing::Removed };
    node.propose(METADATA, gone.into()).await.expect("removed");
    for subject in [Subject::Group, Subject::Proposal, Subject::Node, Subject::Pull] {
        let body = Payload::from(Request::Barrier.encode());
        let refusal = link.call(subject, METADATA, body).expect("sent").await.expect_err("refused");
        assert_eq!(refusal.to_string(), FOR_NO_REMOVED_NODE);
    }
    let requests = futures_util::stream::iter([Payload::default()]).boxed();
    let mut answers = link.stream(Subject::Group, METADATA, requests).expect("opened");
    let refusal = answers.next().await.expect("an answer").expect_err("refused");
    assert_eq!(refusal.to_string(), FOR_NO_REMOVED_NODE);
    peers.call_anew(node.node_id());
    assert!(told_soon(&peers).await, "it is told when it connects anew");
    node.shutdown().await;
}

#[tokio::test]
async fn who_was_recovered_without_others_refuses_them_and_takes_nobody_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    node.inner.node.peers.set_lost([OTHER].into());
    let peers = other(&node, node.cluster_id());
    let refused = peers.link(node.node_id(), Lane::Bulk).await.expect_err("it is lost");
    assert!(refused.to_string().contains("has removed node 2 for good"), "{refused}");
    let join = |birth| {
        let address = NodeAddress { listener: INTERNAL_LISTENER.to_owned(), host: "h".to_owned(), port: 1 };
        join_cluster(&node.inner.node, Join { birth, rack: None, addresses: vec![address] })
    };
    let refused = join(1).await.expect_err("not yet");
    assert!(refused.contains("has to remove the lost nodes"), "{refused}");
    node.inner.node.peers.set_lost([].into());
    join(1).await.expect("taken in");
    node.shutdown().await;
}

#[tokio::test]
async fn the_end_of_the_node_ends_its_connections() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    let link = other(&node, node.cluster_id()).link(node.node_id(), Lane::Control).await.expect("a connection");
    node.shutdown().await;
    let closed = async {
        while !link.is_closed() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), closed).await.expect("it is closed");
}

#[tokio::test]
async fn a_lone_node_raises_the_level_and_takes_nobody_in_who_knows_less() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path()).await;
    assert_eq!(node.feature_level(), FEATURE_LEVEL, "nobody else has to know");
    let port = node.listening().expect("it listens").port();
    let addresses = vec![NodeAddress { listener: INTERNAL_LISTENER.to_owned(), host: "h".to_owned(), port: 1 }];
    let request = |birth| Request::Join(Join { birth, rack: None, addresses: addresses.clone() }).encode();
    let ask = |features: u32| {
        let peers = Peers::new(Env::real(), Me { cluster: 0, node: NodeId(0), life: 8, features });
        let body = Payload::from(request(u128::from(features)));
        async move {
            let (guest, _) = peers.dial_as_guest("127.0.0.1", port).await.expect("let in");
            guest.call(Subject::Node, METADATA, body).expect("sent").await
        }
    };
    let refused = ask(FEATURE_LEVEL - 1).await.expect_err("refused").to_string();
    assert!(refused.contains(&format!("level {FEATURE_LEVEL}, the node's program knows level")), "{refused}");
    assert_eq!(node.metadata().nodes().len(), 2, "nothing was changed");
    ask(FEATURE_LEVEL).await.expect("taken in");
    assert_eq!(node.metadata().nodes().len(), 3);
    node.shutdown().await;
}
