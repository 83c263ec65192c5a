//! Slots as operators see them.

use std::fmt::Write as _;

use record::ShardId;
use shard::Shard;

use super::plan::left;

/// How many slots each shard has, what moves now, and how many are still to move.
pub(crate) fn describe(out: &mut String, metadata: &Shard, data: &[ShardId]) {
    let slots = metadata.slot_shards();
    let count = |shard: &ShardId| slots.iter().filter(|known| *known == shard).count();
    let counts: Vec<String> = data.iter().map(|shard| format!("{} on {shard}", count(shard))).collect();
    let _ = writeln!(out, "\nslots of groups: {}", counts.join(", "));
    for known in metadata.slot_moves() {
        let what = if known.switched { "have moved, and are dropped" } else { "move" };
        let _ = writeln!(out, "{} slots {what} from shard {} to shard {}", known.slots.len(), known.from, known.to);
    }
    let left = left(slots, data);
    if left > 0 {
        let _ = writeln!(out, "{left} slots are still to move");
    }
}
