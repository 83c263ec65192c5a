//! The first command of a new leader: the epoch of every stream of the shard rises by one. No stream is touched: the
//! shard counts, and a stream learns of it when it is appended to or asked.

use record::NodeId;

use super::stage_part::UploadId;
use crate::assertion::Broken;
use crate::codec::wire_struct;
use crate::effects::Effects;
use crate::outcome::Outcome;
use crate::shard::{Position, Shard};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderChange {
    pub leader: NodeId,
}

wire_struct!(LeaderChange { leader: NodeId });

impl LeaderChange {
    pub(crate) fn apply(self, shard: &mut Shard, at: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        // Once in a term, however often it is said.
        if shard.scalars.leader_term != Some(at.term) {
            shard.scalars.leader_term = Some(at.term);
            shard.scalars.leader = Some(self.leader);
            shard.scalars.leader_changes = shard.scalars.leader_changes.saturating_add(1);
            effects.leader_changed = true;
            // Only the proposer of the leader before could have sent the parts that are missing.
            let mut uploads: Vec<UploadId> = shard.uploads.iter().map(|(_, upload)| upload.id).collect();
            uploads.sort_unstable();
            for upload in uploads {
                shard.take_upload(upload, effects)?;
            }
        }
        Ok(Outcome::LeaderChange { changes: shard.scalars.leader_changes })
    }
}
