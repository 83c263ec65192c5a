//! Three members of one group, each with files of its own, over real sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use base::Env;
use base::task::JoinHandle;
use base::time::{Duration, now, sleep, timeout};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::BoxStream;
use record::{BatchBuilder, Compression, LeaderEpoch, NodeId, ShardId, StreamId, StreamOffset, TimestampMs, validate};
use replica::{Config, Founding, Pace, Parts, Replica};
use shard::commands::{CreateStreams, NewStream};
use shard::{NodeAddress, Outcome};
use smallvec::smallvec;
use storage::checkpoint::CheckpointStore;
use storage::index_file::IndexStore;
use storage::object::{DiskStore, Objects};
use storage::{CommitLog, Options, Payload};

use super::*;

const SHARD: ShardId = ShardId(5);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Hands what comes to the one replica.
struct One(Replica);

impl Service for One {
    fn call(&self, from: Caller, _: Subject, _: ShardId, body: Bytes) -> BoxFuture<'static, Result<Payload, String>> {
        let replica = self.0.clone();
        async move {
            replica
                .answer(from.node.expect("a member"), body)
                .await
                .map(Payload::from)
                .map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn stream(
        &self,
        from: Caller,
        _: Subject,
        _: ShardId,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, String>>, String>> {
        let replica = self.0.clone();
        let answers = async move { replica.answer_appends(from.node.expect("a member"), requests).await };
        async move { Ok(answers.await.map(|answer| answer.map_err(|error| error.to_string())).boxed()) }.boxed()
    }
}

struct Known(Me, Lives);

impl Gate for Known {
    fn me(&self) -> Me {
        self.0
    }

    fn knows(&self, _: NodeId) -> Acquaintance {
        Acquaintance::Member
    }

    fn feature_level(&self) -> u32 {
        1
    }

    fn lives(&self) -> Lives {
        self.1.clone()
    }

    fn let_in(&self, _: NodeId, _: u32) {}

    fn hung_up(&self, _: NodeId) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

struct Node {
    peers: Peers,
    log: CommitLog,
    replica: Replica,
    serving: JoinHandle<()>,
}

impl Node {
    async fn start(dir: &Path, number: u64, listener: Listener, addresses: BTreeMap<NodeId, NodeAddress>) -> Self {
        let env = Env::real();
        let dir = dir.join(number.to_string());
        let options = Options { segment_bytes: 4 << 20, reserve_bytes: 0, memory_bytes: 1 << 20, ..Options::default() };
        let (log, _) = CommitLog::open(Arc::clone(&env.disk), &dir.join("log"), options).await.expect("a log");
        let me = Me { cluster: 1, node: NodeId(number), life: number, features: 1 };
        let peers = Peers::new(env.clone(), me);
        peers.set_addresses(addresses);
        let store = Arc::new(DiskStore::new(Arc::clone(&env.disk), dir.clone()));
        let objects = Objects::open(store, "objects".into(), SHARD, 1 << 20).await.expect("a folder");
        let parts = Parts {
            log: log.shard(SHARD),
            disk_state: log.disk_state(),
            checkpoints: CheckpointStore::open(Arc::clone(&env.disk), &dir.join("checkpoints"))
                .await
                .expect("a folder"),
            index: IndexStore::open(Arc::clone(&env.disk), &dir.join("index"), 1 << 20, objects)
                .await
                .expect("a folder"),
            pace: Arc::new(Pace::new(None, 1 << 20)),
            transport: Arc::new(peers.clone()),
            founding: if number == 1 { Founding::Alone } else { Founding::Invited },
        };
        let started = Box::pin(Replica::start(env, Config::new(NodeId(number), SHARD), parts)).await;
        let replica = started.expect("started");
        let serving = listener.serve(Arc::new(Known(me, Lives::default())), Arc::new(One(replica.clone())));
        Self { peers, log, replica, serving }
    }

    async fn stop(self) {
        self.serving.abort();
        self.peers.close();
        self.replica.shutdown().await;
        self.log.close().await;
    }
}

async fn nodes(dir: &Path) -> Vec<Node> {
    let mut listeners = Vec::new();
    let mut addresses = BTreeMap::new();
    for number in 1..=3 {
        let listener = Listener::bind(&Env::real(), ([127, 0, 0, 1], 0).into()).await.expect("a port");
        let port = listener.local_address().expect("an address").port();
        let address = NodeAddress { listener: "internal".to_owned(), host: "127.0.0.1".to_owned(), port };
        addresses.insert(NodeId(number), address);
        listeners.push((number, listener));
    }
    let mut nodes = Vec::new();
    for (number, listener) in listeners {
        nodes.push(Node::start(dir, number, listener, addresses.clone()).await);
    }
    let first = &nodes[0].replica;
    first.add_learner(NodeId(2)).await.expect("a learner");
    first.add_learner(NodeId(3)).await.expect("a learner");
    first.change_voters(&BTreeSet::from([1, 2, 3].map(NodeId))).await.expect("voters");
    nodes
}

/// Appends records of `bytes` until `count` are there; gives the offset of the last.
async fn append(replica: &Replica, count: usize, bytes: usize) -> i64 {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(TimestampMs(0), None, Some(&vec![7; bytes]), &[]).expect("fits");
    let batch = builder.build().expect("a batch");
    let summary = validate(&batch).expect("valid");
    let pending: Vec<_> = (0..count).map(|_| replica.append(smallvec![StreamId(1)], summary, batch.clone())).collect();
    let mut last = -1;
    for pending in pending {
        let Outcome::Append(results) = pending.await.expect("appended") else { panic!("another outcome") };
        last = results[0].as_ref().expect("taken").base_offset.0;
    }
    last
}

async fn reach(replica: &Replica, next: i64) {
    let reached = async {
        loop {
            let there = replica.state().stream(StreamId(1)).map(|stream| stream.next_offset());
            if there == Some(StreamOffset(next)) {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(WAIT_MAX, reached).await.expect("the member catches up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_on_three_nodes_have_what_one_acknowledged_whoever_leads() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut nodes = nodes(dir.path()).await;
    let stream = NewStream { id: StreamId(1), epoch_start: LeaderEpoch(0), first_offset: StreamOffset(0) };
    nodes[0].replica.propose(CreateStreams { streams: vec![stream] }.into()).await.expect("a stream");
    // Small ones, many under way; large ones, of which memory holds few.
    assert_eq!(append(&nodes[0].replica, 2_000, 100).await, 1_999);
    assert_eq!(append(&nodes[0].replica, 40, 900_000).await, 2_039);
    for node in &nodes {
        reach(&node.replica, 2_040).await;
    }
    let gone = nodes.remove(0);
    let stopped = now();
    gone.stop().await;
    let leader = loop {
        if let Some(node) = nodes.iter().find(|node| node.replica.is_leader()) {
            break node.replica.clone();
        }
        assert!(stopped.elapsed() < WAIT_MAX, "nobody leads");
        sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(append(&leader, 100, 1_000).await, 2_139);
    for node in &nodes {
        reach(&node.replica, 2_140).await;
    }
    for node in nodes {
        node.stop().await;
    }
}
