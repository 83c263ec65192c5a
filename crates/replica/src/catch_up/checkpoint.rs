//! The checkpoint on its way here: a donor's chain becomes one base, after it was restored once to
//! see that it is a state that this version knows.

use bytes::{Buf, Bytes, BytesMut};
use record::ShardId;
use shard::{Restore, Shard};
use storage::LogId;
use storage::checkpoint::{CHUNK_BYTES_MAX, CheckpointWriter};

use super::install::InstallError;
use crate::checkpoint::{POSITION, STATE, decode_position};

/// Takes the bytes of a donor's chain.
pub(super) struct CheckpointIntake {
    writer: CheckpointWriter,
    restore: Restore,
    at: LogId,
    /// The last place in the log that a chunk named.
    position: Option<LogId>,
    left: BytesMut,
}

fn bad(text: impl Into<String>) -> InstallError {
    InstallError::Answer(text.into())
}

impl CheckpointIntake {
    pub(super) fn new(shard: ShardId, writer: CheckpointWriter, at: LogId) -> Self {
        Self { writer, restore: Restore::new(shard), at, position: None, left: BytesMut::new() }
    }

    pub(super) async fn take(&mut self, bytes: &Bytes) -> Result<(), InstallError> {
        self.left.extend_from_slice(bytes);
        while let Some(head) = self.left.first_chunk::<4>() {
            let length = u32::from_le_bytes(*head) as usize;
            if length > CHUNK_BYTES_MAX {
                return Err(bad(format!("a chunk of {length} bytes")));
            }
            if self.left.len() < 4 + length {
                break;
            }
            self.left.advance(4);
            let chunk = self.left.split_to(length).freeze();
            self.check(&chunk)?;
            self.writer.chunk(chunk).await.map_err(InstallError::Files)?;
        }
        Ok(())
    }

    fn check(&mut self, chunk: &[u8]) -> Result<(), InstallError> {
        match chunk.first() {
            Some(&POSITION) => self.position = Some(decode_position(chunk).map_err(bad)?.0),
            Some(&STATE) => self.restore.chunk(&chunk[1..]).map_err(|error| bad(error.to_string()))?,
            _ => return Err(bad("a chunk of unknown kind")),
        }
        Ok(())
    }

    /// The writer, before the checkpoint has its name, and the state.
    pub(super) fn finish(self) -> Result<(CheckpointWriter, Shard), InstallError> {
        if !self.left.is_empty() {
            return Err(bad("the checkpoint ends within a chunk"));
        }
        if self.position != Some(self.at) {
            return Err(bad("the checkpoint is of another entry"));
        }
        let shard = self.restore.finish().map_err(|error| bad(error.to_string()))?;
        Ok((self.writer, shard))
    }
}
