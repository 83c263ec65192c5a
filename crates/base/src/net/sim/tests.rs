//! What a simulated connection keeps, and what it may do.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::random::{Random, SeededRandom};
use crate::task::spawn;
use crate::time::timeout;

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

async fn connected(network: &SimNetwork) -> (Stream, Stream) {
    let (one, other) = (network.host(ONE), network.host(OTHER));
    let listener = other.listen(SocketAddr::new(OTHER, 9)).await.unwrap();
    let (client, server) = tokio::join!(one.connect(SocketAddr::new(OTHER, 9)), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

fn network() -> SimNetwork {
    SimNetwork::new(7, SimNetworkOptions::default())
}

async fn is_silent(stream: &mut Stream) -> bool {
    timeout(Duration::from_secs(100), stream.read_u8()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_in_order_and_once_and_then_the_end() {
    let (mut client, mut server) = connected(&network()).await;
    let random = SeededRandom::new(3);
    let sent: Vec<u8> = (0..1_000_000).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
    let expected = sent.clone();
    drop(spawn("writer", async move { client.write_all(&sent).await }));
    let mut read = Vec::new();
    server.read_to_end(&mut read).await.unwrap();
    assert!(read == expected);
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_for_a_reader_who_does_not_read() {
    let (mut client, _server) = connected(&network()).await;
    let written = timeout(Duration::from_secs(100), client.write_all(&vec![0; 1 << 20])).await;
    assert!(written.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_blocked_way_holds_back_and_the_other_goes_on() {
    let network = network();
    let (mut client, mut server) = connected(&network).await;
    network.block(ONE, OTHER);
    client.write_all(b"a").await.unwrap();
    server.write_all(b"b").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'b');
    assert!(is_silent(&mut server).await);
    network.open(ONE, OTHER);
    assert_eq!(server.read_u8().await.unwrap(), b'a');
}

#[tokio::test(start_paused = true)]
async fn a_swallowed_connection_is_silent_and_a_new_one_is_not() {
    let network = network();
    let (mut client, mut server) = connected(&network).await;
    network.swallow(OTHER, ONE);
    client.write_all(b"a").await.unwrap();
    assert!(is_silent(&mut server).await);
    let (mut client, mut server) = connected(&network).await;
    client.write_all(b"a").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'a');
}

#[tokio::test(start_paused = true)]
async fn a_host_without_power_is_silent_until_it_is_back() {
    let network = network();
    let (mut client, _server) = connected(&network).await;
    network.power_off(OTHER);
    assert!(is_silent(&mut client).await);
    let again = network.host(ONE).connect(SocketAddr::new(OTHER, 9)).await;
    assert_eq!(again.unwrap_err().kind(), io::ErrorKind::TimedOut);
    network.power_on(OTHER);
    assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let refused = network.host(ONE).connect(SocketAddr::new(OTHER, 9)).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_both_sides() {
    let network = network();
    let (mut client, mut server) = connected(&network).await;
    network.reset(ONE, OTHER);
    assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(server.write_all(b"a").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn names_resolve_and_ports_are_taken_once() {
    let network = network();
    network.name("other", OTHER);
    let host = network.host(OTHER);
    assert_eq!(host.resolve("other", 9).await.unwrap(), [SocketAddr::new(OTHER, 9)]);
    assert!(host.resolve("nobody", 9).await.is_err());
    let listener = host.listen(SocketAddr::new(OTHER, 9)).await.unwrap();
    assert_eq!(host.listen(SocketAddr::new(OTHER, 9)).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(listener);
    host.listen(SocketAddr::new(OTHER, 9)).await.unwrap();
}
