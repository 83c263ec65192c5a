//! A replica that is brought to a node by pulling from members: it has the same state and serves the
//! same records, whatever happens in between.

mod crashes;
mod donors;
mod installs;
mod interrupted;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::Env;
use base::time::{Duration, sleep, timeout};
use bytes::Bytes;
use record::{LogIndex, NodeId, StreamId};
use replica::{Config, Founding, InstallError, InstallProgress, Replica, install};
use shard::commands::{DeleteStreams, Seal};
use storage::{Covered, Options};

use crate::support::{Batch, Files, Node, SHARD, append, batch, options};
use crate::switchboard::Switchboard;
pub(crate) use donors::Direct;

pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) fn id(number: u64) -> NodeId {
    NodeId(number)
}

pub(crate) fn log_options() -> Options {
    Options { segment_bytes: 1 << 20, memory_bytes: 256 << 10, ..options() }
}

/// Settings under which little is kept and much is sealed.
pub(crate) fn settings(node: u64) -> Config {
    let mut settings = Config::new(id(node), SHARD);
    settings.seal_batches = 40;
    settings.entry_bytes_max = 300 << 10;
    settings.checkpoint_deltas_max = 3;
    settings.log_keep_bytes = 0;
    settings
}

/// Nodes of one group, each with files of its own.
pub(crate) struct Cluster {
    pub(crate) env: Env,
    pub(crate) dir: PathBuf,
    pub(crate) board: Switchboard,
}

impl Cluster {
    pub(crate) fn new(env: Env, dir: &Path) -> Self {
        Self { env, dir: dir.to_owned(), board: Switchboard::default() }
    }

    pub(crate) fn path(&self, node: u64) -> PathBuf {
        self.dir.join(node.to_string())
    }

    pub(crate) async fn files(&self, node: u64) -> Result<Files, String> {
        let mut options = log_options();
        // As a node does it: a log that ends before its checkpoint would be refused.
        let furthest = storage::checkpoint::furthest(&*self.env.disk, &self.path(node).join("checkpoints")).await;
        let furthest = furthest.map_err(|error| error.to_string())?;
        options.covered.extend(furthest.map(|(at, file)| Covered { shard: SHARD, at, file }));
        Files::open(&self.env, &self.path(node), options).await
    }

    pub(crate) async fn start(&self, node: u64) -> Node {
        self.try_start(node).await.expect("started")
    }

    pub(crate) async fn try_start(&self, node: u64) -> Result<Node, String> {
        let files = self.files(node).await?;
        self.start_on(node, files).await
    }

    pub(crate) async fn start_on(&self, node: u64, files: Files) -> Result<Node, String> {
        self.start_with(node, files, settings(node)).await
    }

    pub(crate) async fn start_with(&self, node: u64, files: Files, settings: Config) -> Result<Node, String> {
        let founding = if node == 1 { Founding::Alone } else { Founding::Invited };
        let transport = self.board.of(id(node));
        let started = files.start_member(&self.env, settings, transport, founding).await;
        let replica = started.map_err(|error| format!("{error:?}"))?;
        self.board.plug(id(node), replica.clone());
        Ok(Node { log: files.log, replica })
    }

    pub(crate) async fn stop(&self, number: u64, node: Node) {
        self.board.unplug(id(number));
        node.stop().await;
    }

    /// Installs on `node` from `donor` and starts it.
    pub(crate) async fn install(&self, node: u64, donor: &Replica) -> Node {
        let files = self.files(node).await.expect("files");
        pull(&files, node, &Direct::new(donor)).await.expect("installed");
        self.start_on(node, files).await.expect("started")
    }
}

pub(crate) async fn pull(files: &Files, node: u64, donor: &Direct) -> Result<(), InstallError> {
    install(&settings(node), &files.install_parts(), donor, &InstallProgress::default(), None).await
}

pub(crate) async fn reach(replica: &Replica, index: LogIndex) {
    let reached = async {
        while replica.applied() < index {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(WAIT_MAX, reached).await.expect("the member catches up");
}

pub(crate) async fn delete(replica: &Replica, streams: &[u64]) {
    let streams = streams.iter().copied().map(StreamId).collect();
    replica.propose(DeleteStreams { streams }.into()).await.expect("deleted");
}

pub(crate) async fn seal(replica: &Replica) {
    replica.propose(Seal { through: LogIndex(u64::MAX) }.into()).await.expect("sealed");
}

pub(crate) fn some_batch(number: usize) -> Batch {
    batch(&format!("t{number}"), 1 + number % 3, 500 + number * 37 % 6_000, i64::try_from(number).expect("few"))
}

/// Data that is sealed, data that is deleted, a batch in parts, and some that is not sealed. Streams 1, 2 and 4 live,
/// and more than a segment died.
pub(crate) async fn fill(node: &Node) {
    node.create_streams(4).await;
    let replica = &node.replica;
    for number in 0..60 {
        append(replica, 1 + (number % 2) as u64, &some_batch(number)).await.expect("appended");
    }
    seal(replica).await;
    for number in 0..12 {
        append(replica, 3, &batch(&format!("dead{number}"), 1, 250 << 10, 0)).await.expect("appended");
    }
    seal(replica).await;
    delete(replica, &[3]).await;
    append(replica, 4, &batch("large", 1, 1 << 20, 0)).await.expect("appended");
    for number in 60..90 {
        append(replica, 1 + (number % 2) as u64, &some_batch(number)).await.expect("appended");
    }
    seal(replica).await;
    for number in 90..110 {
        append(replica, 1 + (number % 2) as u64, &some_batch(number)).await.expect("appended");
    }
    replica.checkpoint().await;
}

/// The same state, and the same records of the streams that are in it.
pub(crate) async fn assert_same(left: &Node, right: &Node) {
    let furthest = left.replica.applied().max(right.replica.applied());
    reach(&left.replica, furthest).await;
    reach(&right.replica, furthest).await;
    assert_eq!(left.replica.digest(), right.replica.digest());
    let streams = left.replica.state().stream_ids();
    for stream in streams {
        assert_eq!(read(left, stream).await, read(right, stream).await, "stream {}", stream.0);
    }
}

pub(crate) async fn read(node: &Node, stream: StreamId) -> Vec<(i64, Bytes)> {
    node.read_all(stream.0, 1 << 20).await
}

/// Returns when the log was asked to let go of everything up to `index`.
pub(crate) async fn purged(replica: &Replica, index: LogIndex) {
    let purged = async {
        while replica.purged_index() < index {
            replica.checkpoint().await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(WAIT_MAX, purged).await.expect("the log is purged");
}

pub(crate) fn real() -> (tempfile::TempDir, Cluster) {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::new(Env::real(), dir.path());
    (dir, cluster)
}

pub(crate) fn env_of(disk: &base::disk::SimDisk, random: u64) -> Env {
    Env { disk: Arc::new(disk.clone()), random: Arc::new(base::random::SeededRandom::new(random)), ..Env::real() }
}
