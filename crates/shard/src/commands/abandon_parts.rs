//! Drops the staged parts of batches whose last part will not come.

use super::stage_part::UploadId;
use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbandonParts {
    pub uploads: Vec<UploadId>,
}

wire_struct!(AbandonParts { uploads: Vec<UploadId> });

impl AbandonParts {
    pub(crate) fn apply(self, shard: &mut Shard, _: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        let mut abandoned = 0;
        for upload in self.uploads {
            abandoned += u32::from(shard.take_upload(upload, effects)?.is_some());
        }
        Ok(Outcome::AbandonParts { abandoned })
    }
}
