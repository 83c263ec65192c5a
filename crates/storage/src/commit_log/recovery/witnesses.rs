//! What does not lie in the log and tells how far it was durable: the file of the synced position,
//! and the checkpoints of the shards.

use std::path::{Path, PathBuf};

use record::{LogIndex, ShardId};

use super::scan::ScanEnd;
use super::{Finder, Used};
use crate::commit_log::lost::Losses;
use crate::commit_log::lost::let_go::Numbers;
use crate::commit_log::position::{Position, segment_name};
use crate::commit_log::{Covered, Damage, LogState, OpenError};

/// More need not be told one by one.
const MISSING_FILES_TOLD: usize = 100;

/// Where the walk over the segments ended.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) sequence: u32,
    pub(crate) file: PathBuf,
    pub(crate) position: u64,
}

/// What is missing behind `end` when the log was durable up to `synced`. A place before it within
/// a segment that was walked was told by the walk.
pub(crate) fn missing_segments(dir: &Path, end: Option<&End>, synced: Position) -> Option<Damage> {
    if synced.sequence <= end.map_or(0, |end| end.sequence) {
        return None;
    }
    let file = dir.join(segment_name(synced.sequence));
    Some(Damage { file, position: 0, bytes: u64::from(synced.offset), indexes: None })
}

/// The files of segments that somebody took away, but for those that were given up.
pub(crate) fn missing_files(dir: &Path, missing: &Numbers, lost: &Losses) -> Vec<Damage> {
    let paths = missing.iter().cloned().flatten().map(|sequence| dir.join(segment_name(sequence)));
    let given_up = |path: &PathBuf| lost.values().flatten().any(|damage| damage.file == *path);
    paths
        .filter(|path| !given_up(path))
        .take(MISSING_FILES_TOLD)
        .map(|file| Damage { file, position: 0, bytes: 0, indexes: None })
        .collect()
}

/// What a shard has lost at its end when `covered` is right.
pub(crate) fn lost_end(dir: &Path, end: Option<&End>, state: LogState, covered: &Covered) -> Option<Damage> {
    let last = state.last.map(|last| last.index);
    if last >= Some(covered.at.index) {
        return None;
    }
    let (file, position) = end.map_or_else(|| (dir.to_owned(), 0), |end| (end.file.clone(), end.position));
    let indexes = Some(last.map_or(LogIndex(0), LogIndex::next)..=covered.at.index);
    Some(Damage { file, position, bytes: 0, indexes })
}

impl Finder {
    pub(super) fn end(&self, used: &Used) -> Option<End> {
        let (sequence, segment) = self.segments.last_key_value()?;
        let position = match used.end? {
            ScanEnd::Ended(at) | ScanEnd::Cut(at) => u64::from(at),
        };
        Some(End { sequence: *sequence, file: segment.path.clone(), position })
    }

    /// Refuses a log that ends before what a checkpoint covers. A loss that was accepted is damage
    /// like any other, and the log goes on in another segment. `refusal` names the file that accepts.
    pub(super) fn check_covered(
        &mut self,
        dir: &Path,
        used: &Used,
        covered: &[Covered],
        refusal: Option<&Path>,
    ) -> Result<(), OpenError> {
        let end = self.end(used);
        for covered in covered {
            let state = self.states.get(&covered.shard).copied().unwrap_or_default();
            let Some(damage) = lost_end(dir, end.as_ref(), state, covered) else { continue };
            if let Some(accept) = refusal {
                let Covered { shard, file, .. } = covered.clone();
                return Err(OpenError::EndLost { shard, damage, checkpoint: file, accept: accept.to_owned() });
            }
            self.give_up(covered.shard, damage);
        }
        Ok(())
    }

    fn give_up(&mut self, shard: ShardId, damage: Damage) {
        tracing::error!(shard = shard.0, "{damage}: given up, as {} says", super::ACCEPT_LOSS);
        self.states.entry(shard).or_default();
        self.damage.push(super::ShardDamage { shard: Some(shard), damage });
    }
}
