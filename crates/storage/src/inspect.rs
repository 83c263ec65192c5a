//! Looking into a commit log without changing anything, also beside a running broker.
//!
//! Every frame of every segment is read and checked. A segment that is recycled meanwhile is left
//! out, and the end of a log that is being written is wherever it was when it was reached.

use std::io;
use std::path::{Path, PathBuf};

use base::disk::{Disk, OpenOptions};
use record::ShardId;

use crate::commit_log::{
    Damage, FrameKind, Knowledge, LogState, Met, ScanEnd, SegmentFile, list, read_header, replay, scan,
};
use crate::data_dir::read_identity;
use crate::types::EntryMeta;

/// What a log directory holds.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// All segment files, in order.
    pub segments: Vec<SegmentReport>,
    /// Bounds and vote of every shard at the log's end.
    pub shards: Vec<(ShardId, LogState)>,
    pub damage: Vec<Damage>,
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
    let files = list(disk, dir, OpenOptions::read(), salt).await?;
    let mut report = Report::default();
    let mut known = Knowledge { synced: files.iter().map(SegmentFile::synced).max().unwrap_or_default(), life: 0 };
    let used = files.iter().rposition(SegmentFile::is_used).map_or(0, |last| last + 1);
    let mut ended = false;
    for (place, file) in files.iter().enumerate() {
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
        if let Some(header) = &file.header {
            known.life = header.life;
            report.shards.clone_from(&header.shards);
        } else {
            segment.state = SegmentState::Damaged;
            report.damage.push(Damage { file: file.path.clone(), position: 0, bytes: segment.bytes, indexes: None });
            report.segments.push(segment);
            continue;
        }
        let mut damage = Vec::new();
        let shards = &mut report.shards;
        let end = scan(file, &files[place + 1..used], salt, &mut known, &mut |met| match met {
            Met::Frame { offset, header, payload } => {
                replay(shards, header, payload);
                if let FrameKind::Entry(kind) = header.kind {
                    segment.entries += 1;
                    segment.payload_bytes += u64::from(header.payload_bytes);
                    let meta = EntryMeta { id: header.id, kind, payload_bytes: header.payload_bytes };
                    on_entry(&EntryReport { file: &file.path, position: u64::from(offset), shard: header.shard, meta });
                }
            }
            Met::Damage { offset, bytes, header } => {
                let entry = header.filter(|header| matches!(header.kind, FrameKind::Entry(_)));
                damage.push(Damage {
                    file: file.path.clone(),
                    position: u64::from(offset),
                    bytes: u64::from(bytes),
                    indexes: entry.map(|header| header.id.index..=header.id.index),
                });
            }
        })
        .await?;
        if read_header(&*file.file, file.sequence).await?.is_none() {
            // Recycled while it was read.
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
        report.segments.push(segment);
    }
    report.lives = known.life;
    Ok(report)
}
