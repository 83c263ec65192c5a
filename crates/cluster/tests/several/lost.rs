//! What is left of three nodes goes on alone, and the two that were lost come back with what they have.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use base::Env;
use cluster::{Cluster, Config, METADATA, RecoverError, StartError, recover};
use record::NodeId;
use shard::commands::AllocateProducerIds;
use shard::{Outcome, Standing};
use storage::data_dir::{DataDir, DataDirError, LostNodes};

use crate::belonging::{is_told_of_its_removal, try_start};
use crate::nodes::is_settled;
use crate::support::{config, data_shards, free_addresses, operate, start, stop, topic, until};

/// Where the nodes are, and those of the first two places, which are lost.
struct Three {
    dir: tempfile::TempDir,
    addresses: Vec<SocketAddr>,
    lost: BTreeSet<NodeId>,
}

impl Three {
    fn config(&self, place: usize) -> Config {
        config(self.dir.path(), place, &self.addresses)
    }

    fn lost_nodes_file(&self) -> std::path::PathBuf {
        self.dir.path().join("2").join("LOST-NODES")
    }

    /// Three nodes that had a topic and have all stopped.
    async fn stopped() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let addresses = free_addresses(3);
        let starts = (0..3).map(|place| start(config(dir.path(), place, &addresses)));
        let nodes = futures_util::future::join_all(starts).await;
        until("three voters of every shard", || is_settled(&nodes, 6, 3)).await;
        topic(&nodes[0], "kept", 4).await;
        nodes[0].settled().await;
        let lost = nodes[..2].iter().map(Cluster::node_id).collect();
        stop(&nodes).await;
        Self { dir, addresses, lost }
    }

    async fn recover(&self, accepted: bool) -> Result<String, RecoverError> {
        recover(Env::real(), self.config(2), &self.lost, accepted).await
    }

    /// Starts the lost ones together: one alone would wait for its cluster.
    async fn start_lost(&self) -> [Cluster; 2] {
        tokio::join!(start(self.config(0)), start(self.config(1))).into()
    }
}

#[expect(clippy::disallowed_methods, reason = "somebody else than the node does it")]
fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("written");
}

#[expect(clippy::disallowed_methods, reason = "somebody else than the node does it")]
fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("it is there")
}

#[expect(clippy::disallowed_methods, reason = "somebody else than the node does it")]
fn make_dir(path: &Path) {
    fs::create_dir(path).expect("made");
}

#[expect(clippy::disallowed_methods, reason = "somebody else than the node does it")]
fn remove_dir(path: &Path) {
    fs::remove_dir_all(path).expect("removed");
}

async fn until_removed(node: &Cluster, three: &Three) {
    let is_removed = |id: &NodeId| node.metadata().standing(*id) == Some(Standing::Removed);
    until("the lost nodes are removed", || three.lost.iter().all(is_removed)).await;
    until("the file is gone", || !three.lost_nodes_file().exists()).await;
}

/// They run, hear of it and end.
async fn are_told(nodes: [Cluster; 2]) {
    for node in &nodes {
        until("the lost node is told", || node.failure().borrow().is_some()).await;
        let reason = node.failure().borrow().clone().unwrap_or_default();
        assert!(reason.contains("for good; empty its data directory"), "{reason}");
    }
    stop(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_nodes_that_come_back_together_end_and_come_in_as_new_ones() {
    let three = Three::stopped().await;
    three.recover(true).await.expect("recovered");
    let alone = start(three.config(2)).await;
    assert!(alone.metadata().topic_by_name("kept").is_some());
    until_removed(&alone, &three).await;
    topic(&alone, "new", 4).await;
    for _ in 0..2 {
        tokio::join!(is_told_of_its_removal(three.config(0)), is_told_of_its_removal(three.config(1)));
    }
    let leadership = *alone.replica(METADATA).expect("here").leadership().borrow();
    assert!(leadership.is_self, "nobody has disturbed it");
    remove_dir(&three.config(0).data_dir);
    let new = start(three.config(0)).await;
    // What the lost nodes may have given out meanwhile, that nobody here knows of, is not given again.
    assert_eq!(new.node_id(), NodeId(104));
    match alone.propose(METADATA, AllocateProducerIds { count: 1 }.into()).await {
        Ok(Outcome::AllocateProducerIds(Ok(block))) => assert!(block.first.0 >= 1 << 40),
        other => panic!("{other:?}"),
    }
    let kept = alone.metadata().topic_by_name("kept").expect("kept").partitions[0].clone();
    let shard = kept.shard().expect("it is somewhere");
    let epoch = alone.replica(shard).and_then(|replica| Some(replica.state().stream(kept.stream)?.epoch()));
    assert!(epoch.is_some_and(|epoch| epoch.0 >= 1_000), "{epoch:?}");
    assert!(new.metadata().topic_by_name("new").is_some() && new.metadata().topic_by_name("kept").is_some());
    // The new one tells it, too, also where another one is looked for.
    alone.shutdown().await;
    drop(alone);
    is_told_of_its_removal(three.config(1)).await;
    new.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_nodes_that_are_there_first_change_nothing_and_end() {
    let three = Three::stopped().await;
    three.recover(true).await.expect("recovered");
    // By the file, then by the metadata alone.
    for round in 0..2 {
        let lost = three.start_lost().await;
        let name = format!("of the lost, {round}");
        topic(&lost[0], &name, 4).await;
        let alone = start(three.config(2)).await;
        are_told(lost).await;
        until_removed(&alone, &three).await;
        assert!(alone.metadata().topic_by_name("kept").is_some());
        assert!(alone.metadata().topic_by_name(&name).is_none(), "nothing of theirs is taken");
        topic(&alone, &format!("own, {round}"), 4).await;
        alone.shutdown().await;
    }
    let alone = start(three.config(2)).await;
    assert!(["kept", "own, 0", "own, 1"].iter().all(|name| alone.metadata().topic_by_name(name).is_some()));
    alone.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_that_only_lost_nodes_had_are_not_founded_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(4);
    let config_of = |place: usize| config(dir.path(), place, &addresses);
    let nodes = futures_util::future::join_all((0..4).map(|place| start(config_of(place)))).await;
    until("three voters of every shard", || is_settled(&nodes, 8, 3)).await;
    topic(&nodes[0], "on all shards", 8).await;
    // Nothing is to come here while the others stop.
    operate(&nodes[0], &["rebalance", "--stop"]).await.expect("stopped");
    until("it is told to all", || nodes.iter().all(|node| !node.metadata().rebalances())).await;
    let lacks =
        |node: &Cluster| data_shards(node).into_iter().find(|shard| !node.voters(*shard).contains(&node.node_id()));
    let (place, shard) =
        nodes.iter().enumerate().find_map(|(place, node)| Some((place, lacks(node)?))).expect("8 on 3 of 4");
    until("nothing of it is here", || nodes[place].replica(shard).is_none()).await;
    let lost = nodes.iter().map(Cluster::node_id).filter(|id| *id != nodes[place].node_id()).collect();
    stop(&nodes).await;
    drop(nodes);
    recover(Env::real(), config_of(place), &lost, true).await.expect("recovered");
    for _ in 0..2 {
        let alone = start(config_of(place)).await;
        let removed = |id: &NodeId| alone.metadata().standing(*id) == Some(Standing::Removed);
        until("the lost nodes are removed", || lost.iter().all(removed)).await;
        until("the file is gone", || !config_of(place).data_dir.join("LOST-NODES").exists()).await;
        let leaders = || data_shards(&alone).into_iter().filter(|shard| alone.leader(*shard).is_some()).count();
        until("what is here is led", || leaders() > 0).await;
        assert_eq!(alone.voters(shard), [alone.node_id()], "it is waited for here");
        assert!(alone.replica(shard).is_none() && alone.leader(shard).is_none());
        alone.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_that_was_interrupted_is_gone_on_with_before_anything_starts() {
    let three = Three::stopped().await;
    let new_file = three.lost_nodes_file().with_extension("new");
    make_dir(&new_file);
    three.recover(true).await.expect_err("who is lost cannot be written down");
    let shown = three.recover(false).await.expect("shown");
    assert_eq!(shown.matches("has no majority").count(), 7, "no log was changed before: {shown}");
    remove_dir(&new_file);
    // Interrupted before the first log, and behind the last.
    for shards in [7, 0] {
        let data_dir = DataDir::open(&Env::real(), &three.config(2).data_dir).await.expect("opened");
        data_dir.note_lost(&LostNodes { nodes: three.lost.clone(), done: false }).await.expect("written");
        drop(data_dir);
        let refused = try_start(three.config(2)).await.expect_err("refused");
        assert!(matches!(refused, StartError::RecoveryInterrupted { .. }), "{refused}");
        let shown = three.recover(false).await.expect("shown");
        assert_eq!(shown.matches("has no majority").count(), shards, "{shown}");
        assert!(shown.contains("was interrupted here"), "{shown}");
        three.recover(true).await.expect("ended");
    }
    let whole = read(&three.lost_nodes_file());
    for bytes in [&whole[..whole.len() - 3], b"garbage", b"", &[0xff; 100_000]] {
        write(&three.lost_nodes_file(), bytes);
        let refused = try_start(three.config(2)).await.expect_err("refused");
        assert!(matches!(refused, StartError::DataDir(DataDirError::LostNodes { .. })), "{refused}");
        assert!(refused.to_string().contains("LOST-NODES is damaged"), "{refused}");
        three.recover(true).await.expect_err("it is damaged");
    }
    write(&three.lost_nodes_file(), &whole);
    let alone = start(three.config(2)).await;
    until_removed(&alone, &three).await;
    alone.shutdown().await;
}
