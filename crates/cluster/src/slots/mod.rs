//! Slots go to shards that came later: decided and driven by whoever leads the metadata group, some slots at a time,
//! one move after the other.
//!
//! ```text
//! MoveSlots (0) -> ReceiveGroups (target: it is there) -> CloseSlots (source) -> ReceiveGroups .. (target, piece by
//! piece) -> CompleteSlots (0: the slots are the target's) -> DropSlots .. (source) -> CompleteSlots (0: it has ended)
//! ```
//! Every step may come again, from this node or another: what was interrupted is found in the metadata and gone on
//! with. From the close to the switch nobody coordinates the groups of the slots; members look for their coordinator
//! again until it is the target's leader, and find their group there as it was.

mod drive;
mod plan;
mod show;

pub(crate) use drive::{PIECE_BYTES_MAX, committed_of_gone, keep_moving_slots};
pub(crate) use show::describe;
