//! Looking into a commit log without changing anything, also beside a running broker.
//!
//! What is damage, what was torn and what is free to be written is told as the recovery at the next
//! start would tell it.
//!
//! Every frame of every segment is read and checked. A segment that is recycled meanwhile is left
//! out, and the end of a log that is being written is wherever it was when it was reached.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use base::disk::{Disk, OpenOptions};
use bytes::Bytes;
use record::{LogIndex, ShardId};

use crate::commit_log::{
    Damage, End, FrameKind, Knowledge, LogState, Met, ScanEnd, SegmentFile, SyncedFile, let_go, list, lost_end,
    missing_files, missing_segments, read_header, read_lost, replay, scan, segment_name,
};
use crate::data_dir::{covered, damaged_checkpoints, read_identity};
use crate::types::EntryMeta;

/// How often the folder is read when files come and go meanwhile.
const LISTINGS_MAX: u32 = 10;
/// How many files that the folder does not show are looked for by name.
const ABSENT_MAX: usize = 10_000;

/// What a log directory holds.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// All segment files, in order.
    pub segments: Vec<SegmentReport>,
    /// Bounds and vote of every shard at the log's end.
    pub shards: Vec<(ShardId, LogState)>,
    pub damage: Vec<Damage>,
    /// Entries that are gone and that the operator gave up.
    pub lost: BTreeMap<ShardId, Vec<Damage>>,
    /// The first byte behind the last good frame, where the next frame would begin.
    pub end: Option<(PathBuf, u64)>,
    /// Opened segments until now, counting restarts.
    pub lives: u32,
}

/// One segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReport {
    pub file: PathBuf,
    pub sequence: u32,
    pub bytes: u64,
    pub state: SegmentState,
    /// Entries that are whole, and their payload.
    pub entries: u64,
    pub payload_bytes: u64,
    /// Where its last good frame ends.
    pub data_end: u64,
}

/// What a segment file is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentState {
    /// Full and with a footer.
    Sealed,
    /// Full; its footer is not written yet, or damaged.
    Full,
    /// Being written.
    Open,
    /// Ready to be written, or left over from before a crash.
    Unused,
    Damaged,
}

/// One entry, as [`inspect`] meets it.
#[derive(Debug, Clone)]
pub struct EntryReport<'a> {
    pub file: &'a Path,
    /// Of the frame.
    pub position: u64,
    pub shard: ShardId,
    pub meta: EntryMeta,
}

/// Reads the log in `dir` (the `log` directory of a data directory). `on_entry` is called for every
/// entry that is whole, in the order of the log.
///
/// # Errors
/// When the directory or a file cannot be read.
pub async fn inspect(
    disk: &dyn Disk,
    dir: &Path,
    on_entry: &mut (dyn FnMut(&EntryReport<'_>) + Send),
) -> io::Result<Report> {
    // Frames behind a damaged header can be told only with the number that the node put into them.
    let identity = match dir.parent() {
        Some(data_dir) => read_identity(disk, data_dir).await.ok().flatten(),
        None => None,
    };
    let salt = identity.map_or(0, |identity| identity.salt());
    // Before the files are looked at: beside a running broker these speak of no more than the log holds then.
    let told = SyncedFile::read(disk, dir).await?;
    let covered = match dir.parent() {
        Some(data_dir) => covered(disk, data_dir).await?,
        None => Vec::new(),
    };
    let mut files = list_all(disk, dir, salt).await?;
    for file in &mut files {
        // A crash may take back a file's length; the recovery gives it back.
        file.capacity = file.capacity.max(file.header.as_ref().map_or(0, |header| header.capacity));
    }
    let mut report = Report::default();
    let synced = files.iter().map(SegmentFile::synced).fold(told, Ord::max);
    let mut known = Knowledge { synced, life: 0 };
    if let Some(data_dir) = dir.parent() {
        report.damage.extend(damaged_checkpoints(disk, data_dir).await?);
    }
    report.lost = read_lost(disk, dir).await?;
    // After the folder was listed: what goes is recorded first.
    if let Some(told) = let_go::read(disk, dir).await? {
        let present: Vec<u32> = files.iter().map(|file| file.sequence).collect();
        report.damage.extend(missing_files(dir, &let_go::missing(&present, &told), &report.lost));
    }
    let mut walked = None;
    let used = files.iter().rposition(SegmentFile::is_used).map_or(0, |last| last + 1);
    let mut ended = false;
    let mut unseen = Vec::new();
    for place in 0..files.len() {
        if files[place].header.is_none() && place < used {
            // Beside a running broker it may have been begun since the files were listed.
            let header = read_header(&*files[place].file, files[place].sequence).await?;
            files[place].header = header;
        }
        let file = &files[place];
        let mut segment = SegmentReport {
            file: file.path.clone(),
            sequence: file.sequence,
            bytes: u64::from(file.capacity),
            state: SegmentState::Unused,
            entries: 0,
            payload_bytes: 0,
            data_end: 0,
        };
        let stale = file.header.as_ref().is_some_and(|header| header.life < known.life);
        if place >= used || ended || stale || (file.header.is_none() && file.start() >= known.synced) {
            ended |= place < used;
            report.segments.push(segment);
            continue;
        }
        let mut damage = Vec::new();
        if let Some(header) = &file.header {
            known.life = header.life;
            unseen.extend(skipped(&report.shards, &header.shards));
            report.shards.clone_from(&header.shards);
        } else {
            // Only the header is lost: the frames behind it say what they are, and the states at the end of the
            // segment before are those that it had.
            let bytes = u64::from(file.first_frame());
            damage.push(Damage { file: file.path.clone(), position: 0, bytes, indexes: None });
        }
        let shards = &mut report.shards;
        let end = scan(file, &files[place + 1..used], salt, &mut known, &mut |met| match met {
            Met::Frame { offset, header, payload } => {
                let last = shards.iter().find(|(shard, _)| *shard == header.shard).and_then(|(_, state)| state.last);
                replay(shards, header, payload);
                if let FrameKind::Entry(kind) = header.kind {
                    if let Some(next) = last.map(|last| last.index.next()).filter(|next| *next < header.id.index) {
                        // Only damage takes entries out of the middle.
                        let indexes = Some(next..=LogIndex(header.id.index.0 - 1));
                        let position = u64::from(offset);
                        damage.push(Damage { file: file.path.clone(), position, bytes: 0, indexes });
                    }
                    segment.entries += 1;
                    segment.payload_bytes += u64::from(header.payload_bytes);
                    let meta = EntryMeta { id: header.id, kind, payload_bytes: header.payload_bytes };
                    on_entry(&EntryReport { file: &file.path, position: u64::from(offset), shard: header.shard, meta });
                }
            }
            Met::Damage { offset, bytes, header } => {
                let entry = header.filter(|header| matches!(header.kind, FrameKind::Entry(_)));
                if let Some(header) = &entry {
                    // The entry is lost and known to be: what follows it is no gap.
                    replay(shards, header, &Bytes::new());
                }
                damage.push(Damage {
                    file: file.path.clone(),
                    position: u64::from(offset),
                    bytes: u64::from(bytes),
                    indexes: entry.map(|header| header.id.index..=header.id.index),
                });
            }
        })
        .await?;
        let is_recycled = match &file.header {
            Some(_) => read_header(&*file.file, file.sequence).await?.is_none(),
            None => !disk.exists(&file.path),
        };
        if is_recycled {
            // While it was read.
            continue;
        }
        let (at, state) = match end {
            ScanEnd::Ended(at) if file.footer.is_some() => (at, SegmentState::Sealed),
            ScanEnd::Ended(at) => (at, SegmentState::Full),
            ScanEnd::Cut(at) => (at, SegmentState::Open),
        };
        ended = matches!(end, ScanEnd::Cut(_));
        segment.data_end = u64::from(at);
        segment.state = if damage.is_empty() { state } else { SegmentState::Damaged };
        report.damage.append(&mut damage);
        report.end = Some((file.path.clone(), u64::from(at)));
        walked = Some(End { sequence: file.sequence, file: file.path.clone(), position: u64::from(at) });
        report.segments.push(segment);
    }
    report.lives = known.life;
    report.damage.extend(missing_segments(dir, walked.as_ref(), told));
    for covered in &covered {
        let state = report.shards.iter().find(|(shard, _)| *shard == covered.shard).map(|(_, state)| *state);
        report.damage.extend(lost_end(dir, walked.as_ref(), state.unwrap_or_default(), covered));
    }
    for lost in unseen.iter().filter_map(|unseen| unseen.lost(&report.shards)) {
        let covers = |known: &Damage| {
            known.indexes.as_ref().is_some_and(|known| known.start() <= lost.start() && known.end() >= lost.end())
        };
        if !report.damage.iter().any(covers) {
            report.damage.push(Damage { file: dir.to_owned(), position: 0, bytes: 0, indexes: Some(lost) });
        }
    }
    Ok(report)
}

/// All segment files. A folder that is read while files come and go may leave out one that was there.
async fn list_all(disk: &dyn Disk, dir: &Path, salt: u64) -> io::Result<Vec<SegmentFile>> {
    let mut files = Vec::new();
    for _ in 0..LISTINGS_MAX {
        files = list(disk, dir, OpenOptions::read(), salt).await?;
        let numbers: Vec<u32> = files.iter().map(|file| file.sequence).collect();
        let absent = let_go::missing(&numbers, &let_go::read(disk, dir).await?.unwrap_or_default());
        if !absent.into_iter().flatten().take(ABSENT_MAX).any(|number| disk.exists(&dir.join(segment_name(number)))) {
            break;
        }
    }
    Ok(files)
}

/// Entries of a shard that lie before a segment by its header, and in none of the segments there are.
struct Unseen {
    shard: ShardId,
    /// The last entry that was met before.
    before: Option<LogIndex>,
    through: LogIndex,
}

/// What the states in a header have more than the states at the end of the segment before.
fn skipped(before: &[(ShardId, LogState)], header: &[(ShardId, LogState)]) -> Vec<Unseen> {
    let last_before = |shard| {
        let state = before.iter().find(|(other, _)| *other == shard);
        state.and_then(|(_, state)| state.last).map(|last| last.index)
    };
    let unseen = header.iter().filter_map(|(shard, state)| {
        let (before, through) = (last_before(*shard), state.last?.index);
        (before < Some(through)).then_some(Unseen { shard: *shard, before, through })
    });
    unseen.collect()
}

impl Unseen {
    /// What is missed of them: neither purged nor cut off by the log's end.
    fn lost(&self, at_end: &[(ShardId, LogState)]) -> Option<RangeInclusive<LogIndex>> {
        let (_, state) = at_end.iter().find(|(shard, _)| *shard == self.shard)?;
        let known = self.before.max(state.purged.map(|purged| purged.index))?;
        let last = self.through.min(state.last?.index);
        (known < last).then(|| known.next()..=last)
    }
}
