//! What a stop in the middle of a pull or a removal leaves of a shard goes once its group is without this node.

use std::path::Path;

use base::Env;
use base::disk::DirEntry;
use record::{LogIndex, ShardId};
use storage::data_dir::DataDir;
use storage::{CommitLog, InstallMarker, InstallStage, Installing, Options};

use crate::nodes::is_settled;
use crate::support::{config, data_shards, free_addresses, operate, start, stop, topic, until, until_status};

/// Files of a shard besides the marker.
fn files(dir: &Path) -> usize {
    let Ok(entries) = Env::real().disk.read_dir(dir) else { return 0 };
    let of = |entry: DirEntry| {
        if entry.is_dir { files(&dir.join(&entry.name)) } else { usize::from(entry.name != "INSTALLING") }
    };
    entries.into_iter().map(of).sum()
}

/// What a stopped node's log holds of a shard.
async fn has_log(dir: &Path, shard: ShardId) -> bool {
    let env = Env::real();
    let data_dir = DataDir::open(&env, dir).await.expect("opened");
    let salt = data_dir.identity().salt();
    let options = Options { segment_bytes: 4 << 20, reserve_bytes: 0, salt, ..Options::default() };
    let (log, _) = CommitLog::open(env.disk, &data_dir.log_dir(), options).await.expect("opened");
    let state = log.shard(shard).log_state();
    log.close().await;
    state.last.is_some() || state.purged.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_of_a_shard_that_is_elsewhere_is_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(4);
    let started = (0..4).map(|place| start(config(dir.path(), place, &addresses)));
    let mut nodes = futures_util::future::join_all(started).await;
    until("three voters of every shard", || is_settled(&nodes, 8, 3)).await;
    topic(&nodes[0], "t", 8).await;
    operate(&nodes[0], &["rebalance", "--stop"]).await.expect("stopped");
    let last = nodes.pop().expect("a fourth");
    let me = last.node_id();
    let shard = data_shards(&last).into_iter().find(|shard| last.voters(*shard).contains(&me)).expect("it has some");
    last.replica(shard).expect("here").checkpoint().await;
    last.shutdown().await;
    drop(last);
    let own = dir.path().join("3");
    let of_shard = own.join("shards").join(shard.to_string());
    assert!(files(&of_shard) > 0 && has_log(&own, shard).await);
    let marker = InstallMarker::new(Env::real().disk, &of_shard.join("INSTALLING"));
    let pulling = Installing { stage: InstallStage::Pull, keep: None, reach: LogIndex(1) };
    marker.write(pulling).await.expect("written");

    let others: Vec<String> = nodes.iter().map(|node| node.node_id().to_string()).collect();
    let line = |status: &str| {
        let of = |line: &&str| line.split_whitespace().next() == Some(&shard.to_string());
        status.lines().skip_while(|line| !line.starts_with("SHARD")).find(of).map(str::to_owned)
    };
    until_status(&nodes[0], |status| line(status).is_some_and(|line| !line.contains("no leader"))).await;
    operate(&nodes[0], &["move", &shard.to_string(), &others.join(",")]).await.expect("begun");
    until_status(&nodes[0], |status| line(status).is_some_and(|line| line.ends_with("settled"))).await;
    let last = start(config(dir.path(), 3, &addresses)).await;
    until("its files are gone", || files(&of_shard) == 0).await;
    assert!(last.replica(shard).is_none() && !last.replicas().is_empty());
    nodes.push(last);
    stop(&nodes).await;
    drop(nodes);
    assert!(!has_log(&own, shard).await, "it would stay for good");
}
