//! Two nodes on real sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Env;
use base::task::JoinHandle;
use base::time::{Duration, now, sleep, timeout};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use record::{NodeId, ShardId};
use replica::{Lane, ProposeError, Transport};
use shard::NodeAddress;
use shard::commands::AllocateProducerIds;
use storage::Payload;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::frame::Subject;
use super::*;
use crate::forward::Forward;

mod twins;

const WAIT_MAX: Duration = Duration::from_secs(20);
const SHARD: ShardId = ShardId(7);
/// Everything is refused there, after it was done.
const REFUSED: ShardId = ShardId(8);

/// Answers with what came, and remembers it.
#[derive(Default)]
struct Echo {
    calls: Mutex<Vec<Bytes>>,
    streamed: AtomicU64,
}

impl Service for Echo {
    fn call(&self, _: Caller, _: Subject, shard: ShardId, body: Bytes) -> BoxFuture<'static, Result<Payload, String>> {
        self.calls.lock().push(body.clone());
        let answer = match &body[..] {
            _ if shard == REFUSED => Err("the answer is too large".to_owned()),
            b"refuse" => Err("no".to_owned()),
            _ => Ok(Payload::from_iter([Bytes::from(shard.to_string()), body])),
        };
        std::future::ready(answer).boxed()
    }

    fn stream(
        &self,
        _: Caller,
        _: Subject,
        _: ShardId,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, String>>, String>> {
        self.streamed.fetch_add(1, Ordering::Relaxed);
        let answers = requests.map(|body| match &body[..] {
            b"refuse" => Err("no more".to_owned()),
            body => Ok(Bytes::from(body.len().to_string())),
        });
        std::future::ready(Ok(answers.boxed())).boxed()
    }
}

/// Lets nodes in that know features of the level.
struct Open {
    me: Me,
    level: u32,
    /// How often it was asked who it is: once by each that calls.
    asked: AtomicU64,
    lives: Lives,
}

impl Open {
    fn new(me: Me, level: u32) -> Self {
        Self { me, level, asked: AtomicU64::new(0), lives: Lives::default() }
    }
}

impl Gate for Open {
    fn me(&self) -> Me {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.me
    }

    fn knows(&self, node: NodeId) -> Acquaintance {
        match node.0 {
            0..100 => Acquaintance::Member,
            100..200 => Acquaintance::Unknown,
            _ => Acquaintance::Removed,
        }
    }

    fn feature_level(&self) -> u32 {
        self.level
    }

    fn lives(&self) -> Lives {
        self.lives.clone()
    }

    fn let_in(&self, _: NodeId, _: u32) {}

    fn hung_up(&self, _: NodeId) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

fn me(cluster: u128, node: u64) -> Me {
    Me { cluster, node: NodeId(node), life: node, features: 2 }
}

/// A node that serves.
struct Node {
    port: u16,
    echo: Arc<Echo>,
    serving: JoinHandle<()>,
}

impl Node {
    async fn start(me: Me) -> Self {
        Self::start_at(me, 1).await
    }

    async fn start_at(me: Me, level: u32) -> Self {
        let listener = Listener::bind(&Env::real(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let port = listener.local_address().unwrap().port();
        let echo = Arc::new(Echo::default());
        let serving = listener.serve(Arc::new(Open::new(me, level)), Arc::clone(&echo) as Arc<dyn Service>);
        Self { port, echo, serving }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn peers(me: Me, others: &[(u64, u16)]) -> Peers {
    let peers = Peers::new(Env::real(), me);
    let address = |(node, port): &(u64, u16)| {
        let address = NodeAddress { listener: "internal".to_owned(), host: "127.0.0.1".to_owned(), port: *port };
        (NodeId(*node), address)
    };
    peers.set_addresses(others.iter().map(address).collect::<BTreeMap<_, _>>());
    peers
}

fn text(text: impl Into<String>) -> Payload {
    Payload::from(Bytes::from(text.into()))
}

#[tokio::test]
async fn calls_arrive_in_the_order_in_which_they_were_made() {
    let node = Node::start(me(1, 2)).await;
    let link = peers(me(1, 1), &[(2, node.port)]).link(NodeId(2), Lane::Bulk).await.unwrap();
    let calls: Vec<_> =
        (0..500).map(|number| link.call(Subject::Group, SHARD, text(format!("{number}"))).unwrap()).collect();
    for (number, answer) in calls.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap(), format!("7{number}"));
    }
    let came: Vec<Bytes> = (0..500).map(|number| Bytes::from(number.to_string())).collect();
    assert_eq!(*node.echo.calls.lock(), came);
    let refused = link.call(Subject::Group, SHARD, text("refuse")).unwrap().await.unwrap_err();
    assert_eq!(refused.to_string(), "no");
}

#[tokio::test]
async fn what_became_of_a_proposal_is_not_known_when_its_answer_is_refused() {
    let node = Node::start(me(1, 2)).await;
    let peers = peers(me(1, 1), &[(2, node.port)]);
    let proposed = peers.propose(NodeId(2), REFUSED, AllocateProducerIds { count: 1 }.into()).await;
    assert_eq!(proposed.unwrap_err(), ProposeError::Unknown);
    assert_eq!(node.echo.calls.lock().len(), 1);
}

#[tokio::test]
async fn a_stream_of_more_than_its_window_is_answered_in_order() {
    let node = Node::start(me(1, 2)).await;
    let peers = peers(me(1, 1), &[(2, node.port)]);
    let mut member = peers.peer(SHARD, NodeId(2), Lane::Bulk);
    // Larger than window and queue together, in frames as large as they may be and in small ones.
    let sizes: Vec<usize> = (0..400_usize).map(|n| if n % 20 == 0 { 4 << 20 } else { 1 + n * 7 }).collect();
    let body = Bytes::from(vec![1; 4 << 20]);
    let requests: Vec<Payload> = sizes.iter().map(|size| Payload::from(body.slice(..*size))).collect();
    let answers = member.stream(stream::iter(requests).boxed()).await.unwrap();
    let answers: Vec<Bytes> = timeout(WAIT_MAX, answers.map(Result::unwrap).collect()).await.unwrap();
    let expected: Vec<Bytes> = sizes.iter().map(|size| Bytes::from(size.to_string())).collect();
    assert_eq!(answers, expected);
}

#[tokio::test]
async fn a_stream_ends_at_a_refusal_and_the_connection_goes_on() {
    let node = Node::start(me(1, 2)).await;
    let peers = peers(me(1, 1), &[(2, node.port)]);
    // More than a connection has streams: none is left behind.
    for round in 0..2_000 {
        let mut member = peers.peer(SHARD, NodeId(2), Lane::Bulk);
        let requests = stream::iter(["a", "refuse", "b"].map(text)).chain(stream::pending());
        let mut answers = member.stream(requests.boxed()).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), "1");
        assert_eq!(answers.next().await.unwrap().unwrap_err().to_string(), "no more");
        drop(answers);
        let again = member.call(text(format!("{round}")), WAIT_MAX).await.unwrap();
        assert_eq!(again, format!("7{round}"));
    }
    assert_eq!(node.echo.streamed.load(Ordering::Relaxed), 2_000);
}

#[tokio::test]
async fn a_node_is_told_why_it_is_refused() {
    let node = Node::start(me(1, 2)).await;
    for (from, wanted, told) in [
        (me(9, 1), 2, "another cluster's data directory"),
        (me(1, 2), 2, "copies of one data directory"),
        (me(1, 1), 3, "here is node 2, not node 3"),
        (me(1, 100), 2, "it never joined"),
    ] {
        let error = peers(from, &[(wanted, node.port)]).link(NodeId(wanted), Lane::Control).await.unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
    assert!(node.echo.calls.lock().is_empty());
    let nobody = peers(me(1, 0), &[(2, node.port)]).link(NodeId(2), Lane::Control).await.unwrap_err();
    assert!(nobody.to_string().contains("no node has the id 0"), "{nobody}");
    // A guest needs no cluster, only the node's answer.
    let (_, welcome) = peers(me(0, 0), &[]).dial_as_guest("127.0.0.1", node.port).await.unwrap();
    assert_eq!((welcome.cluster, welcome.node), (1, NodeId(2)));
}

#[tokio::test]
async fn a_removed_node_is_told_so_whomever_it_calls_and_as_what() {
    let node = Node::start_at(me(1, 2), 9).await;
    for wanted in [2, 3] {
        let peers = peers(me(1, 200), &[(wanted, node.port)]);
        let error = peers.link(NodeId(wanted), Lane::Control).await.unwrap_err();
        assert!(error.to_string().contains("removed node 200 for good"), "{error}");
        assert!(*peers.removed().borrow());
    }
    let guest = peers(me(1, 200), &[]);
    guest.who_is_at("127.0.0.1", node.port).await.unwrap();
    assert!(*guest.removed().borrow());
    let guest = peers(me(1, 200), &[]);
    guest.dial_as_guest("127.0.0.1", node.port).await.unwrap_err();
    assert!(*guest.removed().borrow());
    // That node of another cluster was removed by nobody.
    let other = peers(me(9, 200), &[(2, node.port)]);
    other.link(NodeId(2), Lane::Control).await.unwrap_err();
    assert!(!*other.removed().borrow());
}

#[tokio::test]
async fn who_is_lost_is_not_called() {
    let node = Node::start(me(1, 2)).await;
    let peers = peers(me(1, 1), &[]);
    peers.set_lost([NodeId(2)].into());
    let address = NodeAddress { listener: "internal".to_owned(), host: "127.0.0.1".to_owned(), port: node.port };
    peers.set_addresses([(NodeId(2), address)].into());
    assert!(peers.known().is_empty());
    peers.link(NodeId(2), Lane::Control).await.unwrap_err();
}

#[tokio::test]
async fn who_is_refused_calls_less_and_less_often_and_at_once_where_something_has_changed() {
    let listener = Listener::bind(&Env::real(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_address().unwrap().port();
    let gate = Arc::new(Open::new(me(1, 5), 1));
    let serving = listener.serve(Arc::clone(&gate) as Arc<dyn Gate>, Arc::new(Echo::default()));
    // Node 4 is gone, and node 5 has its address.
    let peers = peers(me(1, 1), &[(4, port)]);
    let until = now() + Duration::from_secs(2);
    while now() < until {
        for lane in [Lane::Control, Lane::Bulk] {
            let error = peers.link(NodeId(4), lane).await.unwrap_err();
            assert!(error.to_string().contains("here is node 5, not node 4"), "{error}");
        }
        sleep(Duration::from_millis(5)).await;
    }
    let calls = gate.asked.load(Ordering::Relaxed);
    assert!((3..=7).contains(&calls), "{calls}");
    // It is let in by the other one: that may be one that restarts, which is called again at once.
    peers.let_in(NodeId(4), 2);
    assert!(peers.link(NodeId(4), Lane::Control).await.is_err());
    assert_eq!(gate.asked.load(Ordering::Relaxed), calls + 1);
    let node = Node::start(me(1, 4)).await;
    let address = NodeAddress { listener: "internal".to_owned(), host: "127.0.0.1".to_owned(), port: node.port };
    peers.set_addresses([(NodeId(4), address)].into());
    peers.link(NodeId(4), Lane::Control).await.unwrap();
    serving.abort();
}

#[tokio::test]
async fn a_node_that_knows_less_than_the_cluster_uses_is_refused_by_whoever_is_asked() {
    let node = Node::start_at(me(1, 2), 2).await;
    let old = Me { features: 1, ..me(1, 1) };
    let refused = peers(old, &[(2, node.port)]).link(NodeId(2), Lane::Control).await.unwrap_err();
    assert!(refused.to_string().contains("level 2, the node's program knows level 1"), "{refused}");
    let of_another_cluster = Me { features: 1, ..me(9, 1) };
    let refused = peers(of_another_cluster, &[]).dial_as_guest("127.0.0.1", node.port).await.unwrap_err();
    assert!(refused.to_string().contains("level 2"), "it would give up its own cluster: {refused}");
    let operator = Me { features: 1, ..me(0, 0) };
    assert!(peers(operator, &[]).dial_as_guest("127.0.0.1", node.port).await.is_ok());
    assert!(node.echo.calls.lock().is_empty());
    let new = peers(me(1, 1), &[(2, node.port)]);
    assert!(new.link(NodeId(2), Lane::Control).await.is_ok());
    assert_eq!(new.features_of(NodeId(2)), Some(2));

    let old = Node::start(Me { features: 1, ..me(1, 3) }).await;
    let new = peers(me(1, 1), &[(3, old.port)]);
    let link = new.link(NodeId(3), Lane::Control).await.unwrap();
    assert_eq!(new.features_of(NodeId(3)), Some(1));
    new.set_feature_level(2);
    assert!(link.is_closed(), "it cannot take part any more");
    let refused = new.link(NodeId(3), Lane::Control).await.unwrap_err();
    assert!(refused.to_string().contains("node 3 at 127.0.0.1"), "{refused}");
}

#[tokio::test]
async fn who_is_silent_keeps_nobody_out() {
    let node = Node::start(me(1, 2)).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(Env::real().network.connect(([127, 0, 0, 1], node.port).into()).await.unwrap());
    }
    let link = peers(me(1, 1), &[(2, node.port)]).link(NodeId(2), Lane::Control).await.unwrap();
    assert!(link.call(Subject::Group, SHARD, text("x")).unwrap().await.is_ok());
    drop(silent);
}

#[tokio::test]
async fn whatever_comes_that_is_no_node_is_closed() {
    let node = Node::start(me(1, 2)).await;
    let hello_and_garbage = {
        let (left, right) = base::net::Stream::pair(1 << 16);
        let ((_r, mut write), (mut read, _w)) = (left.into_split(), right.into_split());
        let Me { cluster, node, life, .. } = me(1, 1);
        let hello = handshake::Hello {
            versions: (1, 1),
            lane: Lane::Bulk,
            purpose: handshake::Purpose::Member,
            features: 1,
            cluster,
            node,
            life,
            wanted: NodeId(2),
        };
        hello.send(&mut write).await.unwrap();
        write.write_all(&[0xff; 64]).await.unwrap();
        drop((write, _r));
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).await.unwrap();
        bytes
    };
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 200], &hello_and_garbage] {
        let stream = Env::real().network.connect(([127, 0, 0, 1], node.port).into()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        write.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // Closed, with the welcome before it where the hello was one.
        let closed = timeout(WAIT_MAX, read.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "still open");
    }
    // Others are served as before.
    let link = peers(me(1, 1), &[(2, node.port)]).link(NodeId(2), Lane::Bulk).await.unwrap();
    assert!(link.call(Subject::Group, SHARD, text("x")).unwrap().await.is_ok());
}

#[tokio::test]
async fn a_node_that_falls_silent_is_given_up_and_reached_again() {
    let listener = Env::real().network.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_address().unwrap().port();
    let silent = base::task::spawn("silent node", async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = stream.into_split();
        handshake::Hello::receive(&mut read).await.unwrap();
        let Me { cluster, node, life, .. } = me(1, 2);
        let welcome = handshake::Welcome { refusal: None, version: 1, features: 1, cluster, node, life };
        welcome.send(&mut write).await.unwrap();
        // It is there, reads nothing and says nothing.
        let _held = (read, write);
        std::future::pending::<()>().await;
    });
    let peers = peers(me(1, 1), &[(2, port)]);
    let link = peers.link(NodeId(2), Lane::Bulk).await.unwrap();
    let began = now();
    let answer = link.call(Subject::Group, SHARD, text("x")).unwrap();
    let error = timeout(WAIT_MAX, answer).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("silent"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(link.is_closed());
    silent.abort();
    let node = Node::start(me(1, 2)).await;
    let address = NodeAddress { listener: "internal".to_owned(), host: "127.0.0.1".to_owned(), port: node.port };
    peers.set_addresses(BTreeMap::from([(NodeId(2), address)]));
    assert!(peers.link(NodeId(2), Lane::Bulk).await.is_ok());
}
