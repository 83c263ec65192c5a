//! Nodes that are started with a directory that they must not have: removed ones, and those of another cluster than the
//! one that is configured.

use std::net::SocketAddr;
use std::path::Path;

use base::Env;
use base::time::{Duration, now, sleep, timeout};
use cluster::{Cluster, Config, StartError};
use storage::data_dir::DataDirError;

use crate::support::{WAIT_MAX, config, free_addresses, joining, operate, start, stop, until, until_status};

/// Longer than anything that a start waits for on this machine, and much shorter than for ever.
const START_WAIT_MAX: Duration = Duration::from_secs(60);

/// Starts a node, also where what is left of a refused start has still to end: a process would be gone.
pub(crate) async fn try_start(config: Config) -> Result<Cluster, StartError> {
    let starting = async {
        loop {
            match Cluster::start(Env::real(), config.clone()).await {
                Err(StartError::DataDir(DataDirError::InUse { .. }) | StartError::Listen { .. }) => {
                    sleep(Duration::from_millis(20)).await;
                }
                started => return started,
            }
        }
    };
    timeout(START_WAIT_MAX, starting).await.expect("no start waits for ever")
}

/// Nodes 1 and 2; the second one has joined the first.
async fn pair(dir: &Path, addresses: &[SocketAddr]) -> [Cluster; 2] {
    let first = start(joining(dir, 0, addresses)).await;
    let second = start(joining(dir, 1, addresses)).await;
    until_status(&first, |status| status.matches("settled").count() == 5).await;
    [first, second]
}

/// The node does not stay, whether its own copy of the metadata knows why or the others have to say it.
pub(crate) async fn is_told_of_its_removal(config: Config) {
    let path = config.data_dir.clone();
    let text = match try_start(config).await {
        Err(refused) => {
            assert!(matches!(refused, StartError::Removed { .. }), "{refused}");
            assert!(refused.to_string().contains(&path.display().to_string()), "{refused}");
            refused.to_string()
        }
        Ok(node) => {
            until("the reason to stop", || node.failure().borrow().is_some()).await;
            let reason = node.failure().borrow().clone().unwrap_or_default();
            node.shutdown().await;
            reason
        }
    };
    assert!(text.contains("the cluster has removed node ") && text.contains(" for good; "), "{text}");
    assert!(text.contains("empty its data directory"), "{text}");
}

async fn remove(node: &Cluster, id: &str) {
    let deadline = now() + WAIT_MAX;
    while let Err(error) = operate(node, &["remove", id]).await {
        assert!(now() < deadline, "{error}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_that_is_started_again_says_so_and_ends() {
    for hears_of_it in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        let addresses = free_addresses(2);
        let [first, second] = pair(dir.path(), &addresses).await;
        operate(&first, &["drain", "2"]).await.expect("begun");
        // By what the others count on: it may keep a copy for longer that nobody asks for.
        let is_empty = |line: &str| line.starts_with("2 ") && line.ends_with(" 0       0");
        until_status(&first, |status| status.lines().any(is_empty) && status.matches("settled").count() == 5).await;
        if hears_of_it {
            remove(&first, "2").await;
            until("the removed node is told", || second.failure().borrow().is_some()).await;
        }
        second.shutdown().await;
        drop(second);
        if !hears_of_it {
            remove(&first, "2").await;
        }
        for _ in 0..2 {
            is_told_of_its_removal(joining(dir.path(), 1, &addresses)).await;
        }
        first.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_several_that_is_configured_to_join_another_cluster_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(4);
    let [first, second] = pair(dir.path(), &addresses).await;
    let other = start(Config { join: Vec::new(), ..config(dir.path(), 2, &addresses) }).await;
    let own = second.cluster_id();
    second.shutdown().await;
    drop(second);
    let of = |address: &SocketAddr| (address.ip().to_string(), address.port());
    let wrong = || Config { join: vec![of(&addresses[3]), of(&addresses[2])], ..joining(dir.path(), 1, &addresses) };
    let clear = |refused: StartError| {
        let text = refused.to_string();
        assert!(matches!(refused, StartError::OtherCluster { .. }), "{text}");
        for part in [format!("{own:032x}"), format!("{:032x}", other.cluster_id()), addresses[2].to_string()] {
            assert!(text.contains(&part), "{text}");
        }
        assert!(text.contains(&dir.path().join("1").display().to_string()), "{text}");
    };
    // Whether its own cluster is there or not.
    clear(try_start(wrong()).await.expect_err("refused"));
    first.shutdown().await;
    drop(first);
    clear(try_start(wrong()).await.expect_err("refused"));
    // What does not answer is in nobody's way.
    other.shutdown().await;
    drop(other);
    let (first, second) = tokio::join!(start(joining(dir.path(), 0, &addresses)), try_start(wrong()));
    let second = second.expect("started");
    assert_eq!(second.cluster_id(), own);
    stop(&[first, second]).await;
}
