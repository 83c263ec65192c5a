//! Stages one part of a batch that is too large for one entry. Nobody sees it until the append that brings the last
//! part; until then it can be abandoned.

use record::Extent;

use crate::assertion::Broken;
use crate::codec::{DecodeError, Reader, Wire, wire_struct};
use crate::effects::Effects;
use crate::outcome::{Outcome, StageError};
use crate::shard::{Position, Shard};
use crate::uploads::{BATCH_BYTES_MAX, PARTS_MAX, Upload};

/// Names a batch that arrives in parts; chosen by the leader's proposer, unique among those in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub u64);

impl Wire for UploadId {
    const BYTES_MIN: usize = 8;
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::take(input).map(Self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagePart {
    pub upload: UploadId,
    /// From 0; the parts of an upload come in order.
    pub part: u32,
    /// Bytes of the body that stands behind the command section.
    pub body_bytes: u32,
}

wire_struct!(StagePart { upload: UploadId, part: u32, body_bytes: u32 });

impl StagePart {
    pub(crate) fn apply(self, shard: &mut Shard, at: Position, _: &mut Effects) -> Result<Outcome, Broken> {
        Ok(Outcome::StagePart(self.stage(shard, at)))
    }

    fn stage(&self, shard: &mut Shard, at: Position) -> Result<(), StageError> {
        let uploads_max = shard.scalars.settings.uploads_max;
        let slot = shard.uploads.slot(&self.upload);
        let staged = slot.and_then(|slot| shard.uploads.at(slot));
        let expected = staged.map_or(0, |upload| u32::try_from(upload.extents.len()).unwrap_or(u32::MAX));
        if self.part != expected {
            return Err(StageError::OutOfOrder { expected, actual: self.part });
        }
        let bytes = staged.map_or(0, |upload| upload.bytes) + u64::from(self.body_bytes);
        // Parts without bytes would make a batch of parts without end.
        if bytes > BATCH_BYTES_MAX || self.body_bytes == 0 {
            return Err(StageError::TooLarge { bytes_max: BATCH_BYTES_MAX });
        }
        if expected >= PARTS_MAX {
            return Err(StageError::TooLarge { bytes_max: BATCH_BYTES_MAX });
        }
        let extent = Extent { log_index: at.index, position: at.body, bytes: self.body_bytes };
        match slot {
            Some(slot) => {
                if let Some(upload) = shard.uploads.change(slot) {
                    upload.extents.push(extent);
                    upload.bytes = bytes;
                }
            }
            None if shard.uploads.len() >= uploads_max as usize => {
                return Err(StageError::TooManyUploads { uploads_max });
            }
            None => {
                shard.uploads.insert(Upload { id: self.upload, extents: vec![extent], bytes, files: Vec::new() });
            }
        }
        Ok(())
    }
}
