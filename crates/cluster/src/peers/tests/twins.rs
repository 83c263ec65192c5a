//! Two processes of one node.

use super::*;

/// A node that serves, and knows the same processes as its own calls do.
async fn serve_with(peers: &Peers) -> (u16, JoinHandle<()>) {
    let listener = Listener::bind(&Env::real(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_address().unwrap().port();
    let gate = Open { lives: peers.lives(), ..Open::new(peers.me(), 1) };
    (port, listener.serve(Arc::new(gate), Arc::new(Echo::default())))
}

/// Another process that runs as the same node.
fn other_life(me: Me) -> Me {
    Me { life: me.life + 1_000, ..me }
}

#[tokio::test]
async fn a_second_process_of_a_node_is_refused_while_the_first_is_connected() {
    let node = Node::start(me(1, 2)).await;
    let first = peers(me(1, 1), &[(2, node.port)]);
    let second = peers(other_life(me(1, 1)), &[(2, node.port)]);
    first.link(NodeId(2), Lane::Control).await.unwrap();
    for lane in [Lane::Control, Lane::Bulk] {
        let error = second.link(NodeId(2), lane).await.unwrap_err();
        assert!(error.to_string().contains("another process runs as node 1, and is connected"), "{error}");
    }
    assert!(second.is_doubted());
    // The same process may have as many as it wants, and others nothing to do with it.
    let bulk = first.link(NodeId(2), Lane::Bulk).await.unwrap();
    first.call_anew(NodeId(2));
    let control = first.link(NodeId(2), Lane::Control).await.unwrap();
    peers(me(1, 3), &[(2, node.port)]).link(NodeId(2), Lane::Control).await.unwrap();
    assert!(second.dial_as_guest("127.0.0.1", node.port).await.is_ok(), "who asks for nothing may ask");
    drop(bulk);
    assert!(control.call(Subject::Group, SHARD, text("x")).unwrap().await.is_ok());
    // It dies, and the next one begins at once.
    let begun = now();
    first.close();
    let third = peers(other_life(other_life(me(1, 1))), &[(2, node.port)]);
    third.link(NodeId(2), Lane::Control).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(!third.is_doubted());
}

#[tokio::test]
async fn who_is_refused_for_another_process_for_long_knows_it() {
    let node = Node::start(me(1, 2)).await;
    let first = peers(me(1, 1), &[(2, node.port)]);
    let link = first.link(NodeId(2), Lane::Control).await.unwrap();
    let second = peers(other_life(me(1, 1)), &[(2, node.port)]);
    let (begun, certain) = (now(), second.twin());
    while certain.borrow().is_none() {
        assert!(begun.elapsed() < WAIT_MAX, "it is told");
        second.link(NodeId(2), Lane::Control).await.unwrap_err();
        sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(certain.borrow().as_ref().is_some_and(|said| said.contains("another process runs as node 1")));
    assert!(!link.is_closed() && first.twin().borrow().is_none());
}

#[tokio::test]
async fn the_next_process_of_a_node_without_power_is_let_in_when_the_first_is_silent() {
    let node = Node::start(me(1, 2)).await;
    let stream = Env::real().network.connect(([127, 0, 0, 1], node.port).into()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let hello = me(1, 1).hello(Lane::Control, handshake::Purpose::Member, NodeId(2));
    hello.send(&mut write).await.unwrap();
    assert_eq!(handshake::Welcome::receive(&mut read).await.unwrap().refusal, None);
    let begun = now();
    let second = peers(other_life(me(1, 1)), &[(2, node.port)]);
    while let Err(error) = second.link(NodeId(2), Lane::Control).await {
        assert!(error.to_string().contains("another process"), "{error}");
        assert!(begun.elapsed() < WAIT_MAX, "it is let in");
        sleep(Duration::from_millis(10)).await;
    }
    assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert!(second.twin().borrow().is_none());
    // The first one has power again: nothing is taken of it.
    write.write_all(&frame::Frame::ping().header()).await.unwrap();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), read.read_to_end(&mut rest)).await.expect("closed").unwrap();
    let first = peers(me(1, 1), &[(2, node.port)]);
    first.link(NodeId(2), Lane::Control).await.unwrap_err();
}

#[tokio::test]
async fn who_calls_a_node_and_finds_another_process_than_the_one_that_is_connected_does_not_take_it() {
    let copy = Node::start(other_life(me(1, 1))).await;
    let ours = peers(me(1, 2), &[(1, copy.port)]);
    let (port, serving) = serve_with(&ours).await;
    let first = peers(me(1, 1), &[(2, port)]);
    first.link(NodeId(2), Lane::Control).await.unwrap();
    let error = ours.link(NodeId(1), Lane::Control).await.unwrap_err();
    let place = format!("at 127.0.0.1:{} is another process", copy.port);
    assert!(error.to_string().contains(&place) && error.to_string().contains("a copy"), "{error}");
    assert!(!ours.is_doubted(), "it is the other one that is two");
    first.close();
    let begun = now();
    while ours.link(NodeId(1), Lane::Control).await.is_err() {
        assert!(begun.elapsed() < WAIT_MAX, "it is alone");
        sleep(Duration::from_millis(10)).await;
    }
    // And now the other one way around.
    let again = peers(me(1, 1), &[(2, port)]);
    assert!(again.link(NodeId(2), Lane::Control).await.is_err());
    // Found at the same address, it is the same process.
    ours.link(NodeId(1), Lane::Bulk).await.unwrap();
    serving.abort();
}
