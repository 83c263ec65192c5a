//! The commit log on real files and on the simulated disk.

mod crash;
mod damage;
mod real;
mod space;
mod witnesses;

use std::path::Path;
use std::sync::Arc;

use base::disk::{Disk, RealDisk};
use bytes::Bytes;
use record::{LogIndex, NodeId, ShardId, Term};
use tokio::sync::oneshot;

use super::*;
use crate::types::{Entry, EntryKind, LogId, Payload, Vote};

fn id(term: u64, index: u64) -> LogId {
    LogId { term: Term(term), index: LogIndex(index) }
}

fn vote(term: u64) -> Vote {
    Vote { term: Term(term), node_id: NodeId(1), committed: true }
}

/// An entry whose payload says which entry it is.
fn entry(term: u64, index: u64, len: usize) -> Entry {
    Entry { id: id(term, index), kind: EntryKind::Commands, payload: payload(term, index, len) }
}

fn payload(term: u64, index: u64, len: usize) -> Payload {
    let seed = term.wrapping_mul(31).wrapping_add(index);
    let bytes: Vec<u8> = (0..len as u64).map(|at| u8::try_from((seed * 7 + at * 13) % 251).unwrap()).collect();
    let (head, tail) = bytes.split_at(len / 3);
    vec![Bytes::copy_from_slice(head), Bytes::copy_from_slice(tail)].into()
}

fn small() -> Options {
    Options { segment_bytes: 256 << 10, memory_bytes: 0, reserve_bytes: 0, ..Options::default() }
}

async fn open(dir: &Path, options: Options) -> (CommitLog, Vec<Recovered>) {
    CommitLog::open(Arc::new(RealDisk) as Arc<dyn Disk>, dir, options).await.unwrap()
}

/// Appends and waits until durable.
async fn append(log: &ShardLog, entries: Vec<Entry>) {
    let (sender, durable) = oneshot::channel();
    log.append_each(entries, Box::new(move |result| drop(sender.send(result)))).unwrap();
    durable.await.unwrap().unwrap();
}

async fn check_entry(log: &ShardLog, term: u64, index: u64, len: usize) {
    let read = log.entries(LogIndex(index)..LogIndex(index + 1), 1 << 20).await.unwrap();
    assert_eq!(read, [entry(term, index, len)], "entry {index} of shard {}", log.shard());
    let meta = log.meta(LogIndex(index)).await.unwrap().unwrap();
    assert_eq!((meta.id, meta.payload_bytes as usize), (id(term, index), len));
    if len > 10 {
        let end = u32::try_from(len).unwrap() - 1;
        let chunk = log.read(LogIndex(index), 1..end).await.unwrap();
        assert_eq!(chunk.into_bytes().await.unwrap(), payload(term, index, len).slice(1..len - 1).to_bytes());
    }
}

/// Waits for something that a thread of the log will do.
async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if done() {
            return;
        }
        base::time::sleep(base::time::Duration::from_millis(5)).await;
    }
    panic!("{what} never came");
}

const SHARD: ShardId = ShardId(1);
