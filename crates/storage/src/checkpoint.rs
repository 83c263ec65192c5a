//! Checkpoints (signatures).
#![allow(unused_variables, clippy::todo, clippy::allow_attributes, clippy::allow_attributes_without_reason, clippy::unused_async)]

use std::io;
use std::path::Path;
use std::sync::Arc;

use base::disk::Disk;
use bytes::Bytes;

use crate::types::LogId;

/// The checkpoints of one shard: a base and deltas on it, newest chain only.
#[derive(Debug, Clone)]
pub struct CheckpointStore {}

/// What is stored, for deciding whether a base or a delta comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Up to which entry the chain goes.
    pub at: LogId,
    pub base_bytes: u64,
    pub delta_bytes: u64,
    pub deltas: u32,
}

impl CheckpointStore {
    /// Opens the checkpoints in `dir`, made when absent; half-written ones are removed.
    ///
    /// # Errors
    /// When files cannot be read.
    pub async fn open(disk: Arc<dyn Disk>, dir: &Path) -> io::Result<Self> {
        todo!()
    }

    pub fn chain(&self) -> Option<Chain> {
        todo!()
    }

    /// Starts a base that covers everything up to `at`.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub async fn write_base(&self, at: LogId) -> io::Result<CheckpointWriter> {
        todo!()
    }

    /// Starts a delta on the newest chain, which MUST exist.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub async fn write_delta(&self, at: LogId) -> io::Result<CheckpointWriter> {
        todo!()
    }

    /// The newest chain that is whole, base first.
    ///
    /// # Errors
    /// `InvalidData` when files are there and none can be used.
    pub async fn load(&self) -> io::Result<Option<Loaded>> {
        todo!()
    }
}

/// A checkpoint that is being written. Dropped before `finish`, it never was.
#[derive(Debug)]
pub struct CheckpointWriter {}

impl CheckpointWriter {
    /// # Errors
    /// When the file cannot be written.
    pub async fn chunk(&mut self, chunk: Bytes) -> io::Result<()> {
        todo!()
    }

    /// Makes it durable, then removes what it replaces. Returns its size in bytes.
    ///
    /// # Errors
    /// When it is not durable; the chain before it stands.
    pub async fn finish(self) -> io::Result<u64> {
        todo!()
    }
}

/// The chain of checkpoints to restore from.
#[derive(Debug)]
pub struct Loaded {
    pub at: LogId,
    /// Files that were damaged and passed over.
    pub damaged: Vec<std::path::PathBuf>,
}

impl Loaded {
    /// The next chunk, of the base first and then of each delta in order.
    ///
    /// # Errors
    /// `InvalidData` when the file changed since it was checked.
    pub async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        todo!()
    }
}
