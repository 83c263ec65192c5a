//! What a frame changes in the state of its shard.

use record::{NodeId, ShardId};

use crate::commit_log::LogState;
use crate::commit_log::frame::{FrameHeader, FrameKind};
use crate::types::Vote;
use crate::wire::FieldReader;

/// Applies a frame that was written to the state of its shard.
pub(super) fn apply(state: &mut LogState, header: &FrameHeader, payload: &[u8]) {
    match header.kind {
        FrameKind::Entry(_) => state.last = Some(header.id),
        FrameKind::Vote => {
            let mut fields = FieldReader::new(payload);
            if let (Some(node_id), Some(committed)) = (fields.u64(), fields.u64()) {
                state.vote = Some(Vote { term: header.id.term, node_id: NodeId(node_id), committed: committed != 0 });
            }
        }
        FrameKind::Truncate => {
            state.last = Some(header.id);
            state.committed = state.committed.min(state.last);
        }
        FrameKind::Clear => (state.last, state.committed, state.purged) = (None, None, None),
        FrameKind::Purge => {
            state.purged = state.purged.max(Some(header.id));
            if state.last.is_none_or(|last| last.index < header.id.index) {
                state.last = Some(header.id);
            }
        }
        FrameKind::Committed => state.committed = Some(header.id).filter(|committed| Some(*committed) <= state.last),
        FrameKind::Mark | FrameKind::End | FrameKind::Life => {}
    }
}

/// Applies a frame to the state of its shard among those of all shards.
pub(crate) fn replay(states: &mut Vec<(ShardId, LogState)>, header: &FrameHeader, payload: &[u8]) {
    if matches!(header.kind, FrameKind::Mark | FrameKind::End | FrameKind::Life) {
        return;
    }
    let place = match states.binary_search_by_key(&header.shard, |(shard, _)| *shard) {
        Ok(place) => place,
        Err(place) => {
            states.insert(place, (header.shard, LogState::default()));
            place
        }
    };
    apply(&mut states[place].1, header, payload);
}
