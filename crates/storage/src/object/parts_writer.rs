//! Bytes on their way into an object of a store, in parts.

use std::io;

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};

use super::errors::io_error;

/// Parts of this size are written at a time; a bucket wants 5 MiB at least.
const PART_BYTES: usize = 8 << 20;

/// An object that is written from front to end. Dropped before its end it leaves nothing.
#[derive(Debug)]
pub(super) struct PartsWriter {
    upload: Box<dyn MultipartUpload>,
    /// What was not handed on yet.
    part: Vec<u8>,
    /// Where the next byte goes.
    at: u64,
}

impl PartsWriter {
    pub(super) async fn begin(store: &dyn ObjectStore, location: &Path) -> io::Result<Self> {
        let upload = store.put_multipart(location).await.map_err(io_error)?;
        Ok(Self { upload, part: Vec::with_capacity(PART_BYTES), at: 0 })
    }

    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    pub(super) async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.part.extend_from_slice(bytes);
        if self.part.len() < PART_BYTES {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART_BYTES));
        self.upload.put_part(PutPayload::from(part)).await.map_err(io_error)
    }

    /// The object is durable and has its name when this returns; how many bytes it has.
    pub(super) async fn finish(mut self) -> io::Result<u64> {
        self.upload.put_part(PutPayload::from(self.part)).await.map_err(io_error)?;
        self.upload.complete().await.map_err(io_error)?;
        Ok(self.at)
    }
}
