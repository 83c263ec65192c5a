//! What can go wrong with a commit log.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use record::{LogIndex, ShardId};

use super::Damage;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot {operation} {path}")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("a segment of {bytes} bytes is not possible; allowed are multiples of 4096 from 64 KiB to 1 GiB")]
    SegmentBytes { bytes: u64 },
    #[error(
        "{damage}: which entries and votes were lost with it cannot be told, so nothing may be built on this log; \
         bring the file back as it was, or make an empty file {accept} and start again to go on without what is lost; \
         a node of several is replaced by a new one instead"
    )]
    Damaged { damage: Damage, accept: PathBuf },
    #[error(
        "shard {shard}: {damage}: the log ends there, and {checkpoint} was made of more; bring the file back as it was, \
         or make an empty file {accept} and start again to go on without what is lost; a node of several is replaced by a new \
         one instead"
    )]
    EndLost { shard: ShardId, damage: Damage, checkpoint: PathBuf, accept: PathBuf },
}

/// Why an append was not taken. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the disk is full")]
    DiskFull,
    #[error("more is queued than is written in time")]
    Busy,
    #[error("an entry of {bytes} bytes does not fit a segment")]
    TooLarge { bytes: usize },
    #[error("the commit log failed")]
    Failed,
    #[error("the commit log is closed")]
    Closed,
}

/// A write or sync failed: the log takes nothing any more, and the node must stop.
#[derive(Debug, Clone)]
pub struct Failure {
    pub operation: &'static str,
    pub path: PathBuf,
    pub error: Arc<io::Error>,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, path, error } = self;
        write!(
            formatter,
            "cannot {operation} {}: {error}; what was not acknowledged may be lost, so the node stops: check the disk, then start it again",
            path.display()
        )
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "damage in {} at {}", self.file.display(), self.position)?;
        if self.bytes > 0 {
            write!(formatter, ", {} bytes", self.bytes)?;
        }
        if let Some(indexes) = &self.indexes {
            write!(formatter, ", entries {} to {}", indexes.start(), indexes.end())?;
        }
        Ok(())
    }
}

/// An entry that is damaged: the cause inside an `InvalidData` error.
#[derive(Debug, Clone, thiserror::Error)]
#[error("entry {index} of shard {shard} is damaged: {damage}")]
pub struct DamagedEntry {
    pub shard: ShardId,
    pub index: LogIndex,
    pub damage: Damage,
}
