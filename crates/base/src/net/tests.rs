//! Streams over loopback and in memory.

use std::path::Path;

use tokio::io::AsyncReadExt;

use super::*;
use crate::disk::{Disk, OpenOptions, RealDisk};

async fn connected() -> (Stream, Stream) {
    let listener = RealNetwork.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_address().unwrap();
    let (client, server) = tokio::join!(RealNetwork.connect(address), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

async fn file_of(dir: &Path, bytes: &[u8]) -> Arc<dyn File> {
    let file = RealDisk.open(&dir.join("file"), OpenOptions::create_new()).unwrap();
    file.write_at(0, &[IoSlice::new(bytes)]).await.unwrap();
    file
}

async fn check_send_file(client: Stream, mut server: Stream) {
    let dir = tempfile::tempdir().unwrap();
    let expected: Vec<u8> = (0..5_000_000_u32).map(|index| u8::try_from(index % 253).unwrap()).collect();
    let file = file_of(dir.path(), &expected).await;
    let sending = crate::task::spawn("test", async move {
        let (_read, mut write) = client.into_split();
        write.write_vectored_all(&mut [IoSlice::new(b""), IoSlice::new(b"head"), IoSlice::new(b"er")]).await?;
        write.send_file(&file, 7, 4_000_000).await
    });
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    sending.await.unwrap().unwrap();
    assert_eq!(&got[..6], b"header");
    assert!(got[6..] == expected[7..4_000_007]);
}

#[tokio::test]
async fn a_file_goes_out_by_sendfile() {
    let (client, server) = connected().await;
    check_send_file(client, server).await;
}

#[tokio::test]
async fn a_file_goes_out_by_copying() {
    let (client, server) = Stream::pair(10_000);
    check_send_file(client, server).await;
}

#[tokio::test]
async fn a_file_that_ends_too_early_is_an_error() {
    let (mut client, _server) = connected().await;
    let dir = tempfile::tempdir().unwrap();
    let file = file_of(dir.path(), b"short").await;
    let error = client.send_file(&file, 0, 6).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn names_resolve() {
    let addresses = RealNetwork.resolve("127.0.0.1", 9092).await.unwrap();
    assert_eq!(addresses, ["127.0.0.1:9092".parse().unwrap()]);
}
