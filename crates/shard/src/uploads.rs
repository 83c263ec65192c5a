//! Large batches in progress: where their parts lie, until the last one makes them one batch or they are abandoned.

use record::{Extent, FileNumber, LogIndex};

use crate::codec::{DecodeError, Reader, Wire, wire_struct};
use crate::commands::UploadId;
use crate::table::Record;

/// The largest batch that can be stored.
pub const BATCH_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Parts of one batch: enough for the largest one in parts of 64 KiB.
pub(crate) const PARTS_MAX: u32 = 2048;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upload {
    pub(crate) id: UploadId,
    pub(crate) extents: Vec<Extent>,
    /// Of all extents.
    pub(crate) bytes: u64,
    /// Sealed ranges that are kept because they hold parts.
    pub(crate) files: Vec<FileNumber>,
}

wire_struct!(Upload { id: UploadId, extents: Vec<Extent>, bytes: u64, files: Vec<FileNumber> });

impl Record for Upload {
    type Key = UploadId;
    const TABLE: u8 = 4;
    fn key(&self) -> UploadId {
        self.id
    }
}

impl Wire for Extent {
    const BYTES_MIN: usize = 16;
    fn put(&self, out: &mut Vec<u8>) {
        self.log_index.put(out);
        self.position.put(out);
        self.bytes.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { log_index: LogIndex::take(input)?, position: u32::take(input)?, bytes: u32::take(input)? })
    }
}
