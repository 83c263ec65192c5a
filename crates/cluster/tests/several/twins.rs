//! Copies of the directory of a node that runs: two processes with one node's id, of which one must end.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use base::Env;
use base::time::{Duration, timeout};
use cluster::{Cluster, Config, StartError};
use futures_util::future::join_all;
use record::NodeId;

use crate::belonging::try_start;
use crate::nodes::is_settled;
use crate::support::{WAIT_MAX, config, free_addresses, start, stop, topic, until};

/// What of a directory can be copied while files come and go in it.
#[expect(clippy::disallowed_methods, reason = "an operator's `cp -r` of real files")]
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let copied = match entry.file_type()?.is_dir() {
            true => copy(&source, &target),
            false => fs::copy(&source, &target).map(drop),
        };
        match copied {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => copied?,
        }
    }
    Ok(())
}

/// A copy of the third node's directory under another name, for a process at an address of its own.
fn copied(dir: &Path, name: &str, addresses: &[SocketAddr]) -> Config {
    let to = dir.join(name);
    copy(&dir.join("2"), &to).expect("copied");
    Config { data_dir: to, listen: Some(addresses[3]), ..config(dir, 2, &addresses[..3]) }
}

/// Three nodes that have their copies of everything.
async fn three(dir: &Path, addresses: &[SocketAddr]) -> Vec<Cluster> {
    let nodes = join_all((0..3).map(|place| start(config(dir, place, &addresses[..3])))).await;
    until("three voters of every shard", || is_settled(&nodes, 6, 3)).await;
    nodes
}

fn is_at(node: &Cluster, id: NodeId, address: SocketAddr) -> bool {
    let metadata = node.metadata();
    let known = metadata.node(id).and_then(|record| record.addresses.first());
    known.is_some_and(|known| (&*known.host, known.port) == (&*address.ip().to_string(), address.port()))
}

fn tells(text: &str, node: NodeId) {
    for part in [&*format!("two processes run as node {node}: "), "another process runs as node ", "a copy"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_running_nodes_directory_ends_and_the_node_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(4);
    let mut nodes = three(dir.path(), &addresses).await;
    topic(&nodes[0], "before", 4).await;
    let third = nodes[2].node_id();
    let refused =
        timeout(WAIT_MAX, Cluster::start(Env::real(), copied(dir.path(), "copy", &addresses))).await.expect("in time");
    let refused = refused.expect_err("the node runs elsewhere");
    assert!(matches!(refused, StartError::Twin { .. }), "{refused}");
    tells(&refused.to_string(), third);
    assert!(refused.to_string().contains(&dir.path().join("copy").display().to_string()), "{refused}");
    for node in &nodes {
        assert_eq!(*node.failure().borrow(), None);
        assert!(is_at(node, third, addresses[2]), "the copy has taken the address over");
    }
    topic(&nodes[2], "meanwhile", 4).await;
    // It ends, and what it leaves may be used by whoever is the only one.
    let last = nodes.remove(2);
    last.shutdown().await;
    drop(last);
    let moved = try_start(copied(dir.path(), "moved", &addresses)).await.expect("nobody else runs as that node");
    until("the address that it has now", || nodes.iter().all(|node| is_at(node, third, addresses[3]))).await;
    until("a node that is live again", || nodes.iter().all(|node| node.is_live(third))).await;
    topic(&moved, "after", 4).await;
    nodes.push(moved);
    stop(&nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_of_a_node_that_run_one_ends_when_another_node_comes() {
    let dir = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(4);
    let mut nodes = three(dir.path(), &addresses).await;
    let third = nodes[2].node_id();
    let node = nodes.remove(2);
    stop(&nodes).await;
    drop(nodes);
    // Nobody is there who could say it.
    let twin = start(copied(dir.path(), "copy", &addresses)).await;
    let first = start(config(dir.path(), 0, &addresses[..3])).await;
    let reasons = || [&node, &twin].map(|process| process.failure().borrow().clone());
    until("the end of one of them", || reasons().iter().any(Option::is_some)).await;
    reasons().iter().flatten().for_each(|text| tells(text, third));
    base::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(reasons().iter().flatten().count(), 1, "the other one goes on: {:?}", reasons());
    stop(&[node, twin, first]).await;
}
