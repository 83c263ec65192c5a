//! Any bytes on the port: the connection ends, and everyone else goes on.

use base::random::{Random, SeededRandom};
use base::time::{Duration, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Node, PATIENCE, batch};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_end_only_their_own_connection() {
    let node = Node::start().await;
    node.topic("t", 1).await;
    let random = SeededRandom::new(11);
    for _ in 0..100 {
        let mut client = node.client().await;
        let mut bytes = vec![0; usize::try_from(random.next_u64() % 3_000).expect("small")];
        random.fill(&mut bytes);
        let _ = client.stream.write_all(&bytes).await;
        let _ = client.stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await.expect("ends");
    }
    assert_eq!(node.client().await.produce("t", 0, batch(&[b"x"])).await.error_code, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bodies_behind_good_headers_are_answered_or_end_the_connection() {
    let node = Node::start().await;
    let random = SeededRandom::new(12);
    for api in kafka::handshake::APIS {
        for version in api.min..=api.max {
            for _ in 0..4 {
                let mut client = node.client().await;
                let mut request = client.header(api.code, version, api.is_flexible(version)).to_vec();
                let at = request.len();
                request.resize(at + usize::try_from(random.next_u64() % 200).expect("small"), 0);
                random.fill(&mut request[at..]);
                // Few counts are plausible; small bytes make some.
                for byte in &mut request[at..] {
                    if random.next_u64().is_multiple_of(2) {
                        *byte &= 3;
                    }
                }
                client.send_raw(&request).await;
                let mut some = [0; 4];
                // A long poll that random bytes ask for is not waited for.
                let _ = timeout(Duration::from_millis(100), client.stream.read_exact(&mut some)).await;
            }
        }
    }
    let mut client = node.client().await;
    assert!(client.metadata(Some(&[]), false).await.cluster_id.is_some());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_out_of_bounds_end_the_connection() {
    let node = Node::start_with(|setup| setup.limits.request_bytes_max = 1_000).await;
    for size in [-1, i32::MIN, 1_001, i32::MAX] {
        let mut client = node.client().await;
        client.stream.write_all(&size.to_be_bytes()).await.expect("is open");
        assert!(client.is_closed().await, "{size}");
    }
    node.stop().await;
}
