//! Chains of checkpoints on real files.

use std::io::IoSlice;

use base::disk::RealDisk;
use record::{LogIndex, Term};

use super::file::{CHUNK_HEADER_BYTES, HEADER_BYTES};
use super::*;

fn at(index: u64) -> LogId {
    LogId { term: Term(2), index: LogIndex(index) }
}

async fn open(dir: &Path) -> CheckpointStore {
    CheckpointStore::open(Arc::new(RealDisk), dir).await.unwrap()
}

async fn write(mut writer: CheckpointWriter, chunks: &[&'static str]) -> u64 {
    for chunk in chunks {
        writer.chunk(Bytes::from_static(chunk.as_bytes())).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn load(store: &CheckpointStore) -> Option<(u64, Vec<Bytes>, usize)> {
    let mut loaded = store.load().await.unwrap()?;
    let mut chunks = Vec::new();
    while let Some(chunk) = loaded.next_chunk().await.unwrap() {
        chunks.push(chunk);
    }
    Some((loaded.at.index.0, chunks, loaded.damaged.len()))
}

fn names(dir: &Path) -> Vec<String> {
    RealDisk.read_dir(dir).unwrap().into_iter().map(|entry| entry.name).collect()
}

async fn flip(path: &Path, position: u64) {
    let file = RealDisk.open(path, OpenOptions::read_write()).unwrap();
    let byte = file.read_at(position, 1).await.unwrap()[0] ^ 1;
    file.write_at(position, &[IoSlice::new(&[byte])]).await.unwrap();
}

#[tokio::test]
async fn a_base_and_its_deltas_are_read_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    assert!(load(&store).await.is_none());
    let bytes = write(store.write_base(at(5)).await.unwrap(), &["a", "b"]).await;
    assert_eq!(bytes, (HEADER_BYTES + 3 * CHUNK_HEADER_BYTES + 2) as u64);
    write(store.write_delta(at(7)).await.unwrap(), &["c"]).await;
    write(store.write_delta(at(9)).await.unwrap(), &[]).await;
    for store in [store, open(dir.path()).await] {
        assert_eq!(load(&store).await, Some((9, vec!["a".into(), "b".into(), "c".into()], 0)));
        let chain = store.chain().unwrap();
        assert_eq!((chain.at, chain.deltas), (at(9), 2));
    }
}

#[tokio::test]
async fn a_new_base_replaces_everything_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    write(store.write_base(at(5)).await.unwrap(), &["a"]).await;
    write(store.write_delta(at(7)).await.unwrap(), &["c"]).await;
    write(store.write_base(at(9)).await.unwrap(), &["d"]).await;
    assert_eq!(names(dir.path()), ["000000000003.base"]);
    assert_eq!(load(&open(dir.path()).await).await, Some((9, vec!["d".into()], 0)));
}

#[tokio::test]
async fn an_unfinished_one_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    write(store.write_base(at(5)).await.unwrap(), &["a"]).await;
    let mut writer = store.write_delta(at(6)).await.unwrap();
    writer.chunk(Bytes::from_static(b"lost")).await.unwrap();
    drop(writer);
    RealDisk.open(&dir.path().join("000000000009.new"), OpenOptions::create_new()).unwrap();
    let store = open(dir.path()).await;
    assert_eq!(names(dir.path()), ["000000000001.base"]);
    assert_eq!(load(&store).await, Some((5, vec!["a".into()], 0)));
    write(store.write_delta(at(6)).await.unwrap(), &["b"]).await;
    assert_eq!(load(&store).await, Some((6, vec!["a".into(), "b".into()], 0)));
}

#[tokio::test]
async fn a_damaged_delta_ends_the_chain_and_a_damaged_base_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    write(store.write_base(at(5)).await.unwrap(), &["aaaa"]).await;
    write(store.write_delta(at(7)).await.unwrap(), &["bbbb"]).await;
    flip(&dir.path().join("000000000002.delta"), (HEADER_BYTES + CHUNK_HEADER_BYTES) as u64 + 1).await;
    let store = open(dir.path()).await;
    assert_eq!(load(&store).await, Some((5, vec!["aaaa".into()], 1)));
    write(store.write_delta(at(8)).await.unwrap(), &["cccc"]).await;
    assert_eq!(load(&open(dir.path()).await).await, Some((8, vec!["aaaa".into(), "cccc".into()], 0)));
    for position in [0, 20, HEADER_BYTES as u64 + 1, (HEADER_BYTES + CHUNK_HEADER_BYTES) as u64] {
        let path = dir.path().join("000000000001.base");
        flip(&path, position).await;
        let error = open(dir.path()).await.load().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        flip(&path, position).await;
    }
}

#[test]
fn the_layout_is_as_documented() {
    let header = FileHeader { number: 3, kind: Kind::Delta, parent: 2, at: at(9) };
    let bytes = header.encode();
    assert_eq!(bytes.len(), 56);
    assert_eq!(&bytes[..8], b"RMQCKPT\0");
    assert_eq!(&bytes[16..20], &2_u32.to_le_bytes());
    assert_eq!(&bytes[48..56], &9_u64.to_le_bytes());
    assert_eq!(FileHeader::decode(&bytes), Some(header));
}
