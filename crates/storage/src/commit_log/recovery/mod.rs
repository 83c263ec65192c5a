//! Finding the log again after a stop of any kind.
//!
//! What was durable is found or reported as damage; what was not durable may be cut; nothing of a
//! file's former life comes back. Nothing is answered before all that was found is durable.

mod files;
mod frames;
mod resume;
mod scan;
mod state;
mod witnesses;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use base::disk::{Disk, OpenOptions};
use record::{LogIndex, ShardId};

pub(crate) use files::{SegmentFile, list, read_header};
pub(crate) use scan::{Knowledge, Met, ScanEnd, scan};
pub(crate) use state::replay;
pub(crate) use witnesses::{End, lost_end, missing_files, missing_segments};

use super::footer::{Footer, Slot};
use super::frame::{FrameHeader, FrameKind};
use super::lost::let_go::{self, Numbers};
use super::lost::{self, Losses};
use super::position::Position;
use super::runs::{Run, Runs, Slots};
use super::segment::Segment;
use super::shard_state::ShardDamage;
use super::synced_file::SyncedFile;
use super::writer::Resume;
use super::{Damage, LogState, OpenError, Options};
use crate::passing::is_full;

/// The file in the log's directory with which an operator accepts a loss that cannot be told. It
/// holds for one start.
pub(crate) const ACCEPT_LOSS: &str = "ACCEPT-LOSS";

/// A log as it was found, ready to go on.
pub(crate) struct Recovery {
    pub(crate) life: u32,
    pub(crate) segments: BTreeMap<u32, Arc<Segment>>,
    pub(crate) ready: VecDeque<Arc<Segment>>,
    pub(crate) next_sequence: u32,
    pub(crate) shards: BTreeMap<ShardId, (LogState, Runs)>,
    pub(crate) damage: Vec<ShardDamage>,
    pub(crate) resume: Resume,
    pub(crate) synced: Position,
}

/// A recovered log with what lies beside its segments.
pub(crate) struct Recovered {
    pub(crate) log: Recovery,
    pub(crate) synced_file: SyncedFile,
    pub(crate) lost: Losses,
    /// Numbers of segments that were let go, and of those that are missing although they were not.
    pub(crate) let_go: Numbers,
    pub(crate) missing: Numbers,
    /// The operator accepts what is lost, for this start.
    pub(crate) accepts_loss: bool,
}

/// Recovers the log in `dir`. Blocks: to be called through `offload`.
pub(crate) async fn recover(disk: Arc<dyn Disk>, dir: &Path, options: &Options) -> Result<Recovered, OpenError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { operation, path, source }
    };
    disk.create_dir_all(dir).map_err(failed("make", dir))?;
    let mut files = list(&*disk, dir, OpenOptions::read_write(), options.salt).await.map_err(failed("read", dir))?;
    for file in &mut files {
        // A crash may take back a file's length and leave its first bytes.
        let wanted = file.header.as_ref().map_or(0, |header| header.capacity);
        if file.capacity < wanted {
            file.file.allocate(0, u64::from(wanted)).map_err(failed("extend", &file.path))?;
            file.capacity = wanted;
        }
    }
    let lost = lost::read(&*disk, dir).await.map_err(failed("read", dir))?;
    let mut found = Finder::new(options.salt);
    found.known.synced = SyncedFile::read(&*disk, dir).await.map_err(failed("read", dir))?;
    let used = found.walk(&files).await.map_err(failed("read", dir))?;
    if let Some(damage) = missing_segments(dir, found.end(&used).as_ref(), found.known.synced) {
        found.untold.get_or_insert_with(|| damage.clone());
        found.damage.push(ShardDamage { shard: None, damage });
    }
    let present: Vec<u32> = files.iter().map(|file| file.sequence).collect();
    let told = let_go::read(&*disk, dir).await.map_err(failed("read", dir))?;
    let missing = told.as_ref().map_or_else(Numbers::new, |told| let_go::missing(&present, told));
    for damage in missing_files(dir, &missing, &lost) {
        found.damage.push(ShardDamage { shard: None, damage });
    }
    let accept = dir.join(ACCEPT_LOSS);
    let is_accepted = disk.exists(&accept);
    if let Some(damage) = found.untold.take() {
        // Nothing was written yet: the next start finds the same.
        if !is_accepted {
            return Err(OpenError::Damaged { damage, accept });
        }
        tracing::error!("{damage}: what was lost with it is given up, as {ACCEPT_LOSS} says");
    }
    found.check_covered(dir, &used, &options.covered, (!is_accepted).then_some(&*accept))?;
    let mut let_go = let_go::without(&let_go::absent(&present, present.iter().max().copied().unwrap_or(0)), &missing);
    // Files of which nothing is in the log may go, too.
    let_go::add(&mut let_go, may_go(&files[used.count..], options));
    let list = dir.join(let_go::NAME);
    if told.as_ref() != Some(&let_go) {
        let_go::record(&*disk, dir, &let_go).await.map_err(failed("write", &list))?;
    }
    let log = found.go_on(&*disk, dir, options, files, used).await.map_err(failed("write", dir))?;
    let now: Vec<u32> = log.segments.keys().copied().chain(log.ready.iter().map(|ready| ready.sequence)).collect();
    let before = std::mem::replace(
        &mut let_go,
        let_go::without(&let_go::absent(&now, log.next_sequence.saturating_sub(1)), &missing),
    );
    if let_go != before {
        let_go::record(&*disk, dir, &let_go).await.map_err(failed("write", &list))?;
    }
    let mut synced_file = SyncedFile::new(Arc::clone(&disk), dir);
    match synced_file.record(log.synced).await {
        // What it says is true, if not the latest.
        Err(error) if is_full(&error) => tracing::warn!(%error, "the synced position is not recorded"),
        recorded => recorded.map_err(failed("write", &synced_file.path))?,
    }
    if is_accepted {
        disk.remove(&accept).and_then(|()| disk.sync_dir(dir)).map_err(failed("remove", &accept))?;
    }
    Ok(Recovered { log, synced_file, lost, let_go, missing, accepts_loss: is_accepted })
}

/// Those of the `unused` files that the log may have no use for.
fn may_go(unused: &[SegmentFile], options: &Options) -> Vec<u32> {
    let fits = |file: &&SegmentFile| u64::from(file.capacity) == options.segment_bytes;
    let others = unused.iter().filter(|file| !fits(file));
    unused.iter().filter(fits).skip(options.ready_segments).chain(others).map(|file| file.sequence).collect()
}

/// Where the walk over all segments ended.
struct Used {
    /// Files from this one on are not part of the log.
    count: usize,
    end: Option<ScanEnd>,
}

struct Finder {
    salt: u64,
    known: Knowledge,
    life_max: u32,
    states: BTreeMap<ShardId, LogState>,
    runs: BTreeMap<ShardId, Runs>,
    segments: BTreeMap<u32, Arc<Segment>>,
    /// Files that were walked: to be made durable.
    walked: Vec<u32>,
    damage: Vec<ShardDamage>,
    /// The first damage of which nothing behind it tells what it took: entries at a shard's end, or
    /// votes. A header that counts tells, because it has the state of every shard.
    untold: Option<Damage>,
    /// Runs and slots of the segment walked last.
    run_count: u32,
    slot_count: u32,
}

impl Finder {
    fn new(salt: u64) -> Self {
        Self {
            salt,
            known: Knowledge { synced: Position::default(), life: 0 },
            life_max: 0,
            states: BTreeMap::new(),
            runs: BTreeMap::new(),
            segments: BTreeMap::new(),
            walked: Vec::new(),
            damage: Vec::new(),
            untold: None,
            run_count: 0,
            slot_count: 0,
        }
    }

    async fn walk(&mut self, files: &[SegmentFile]) -> io::Result<Used> {
        let synced = files.iter().map(SegmentFile::synced).max().unwrap_or_default();
        self.known.synced = self.known.synced.max(synced);
        self.life_max =
            files.iter().filter_map(|file| file.header.as_ref()).map(|header| header.life).max().unwrap_or(0);
        let used = files.iter().rposition(SegmentFile::is_used).map_or(0, |last| last + 1);
        let mut end = None;
        for (place, file) in files[..used].iter().enumerate() {
            if let Some(header) = &file.header {
                if header.life < self.known.life {
                    // Left over from before a cut.
                    return Ok(Used { count: place, end });
                }
                self.known.life = header.life;
                self.untold = None;
                self.states = header.shards.iter().copied().collect();
                self.cut_runs();
            } else if file.start() >= self.known.synced {
                return Ok(Used { count: place, end });
            } else {
                let bytes = u64::from(file.first_frame());
                let damage = Damage { file: file.path.clone(), position: 0, bytes, indexes: None };
                tracing::error!("{damage}");
                // The states at the end of the segment before are those that the header had.
                let before = place.checked_sub(1).map_or(0, |before| files[before].sequence);
                if before + 1 != file.sequence {
                    self.untold.get_or_insert_with(|| damage.clone());
                }
                self.damage.push(ShardDamage { shard: None, damage });
            }
            // A footer says where entries stand, not what the shards' states are at its end: only the
            // next file's header does. Without one that counts, the frames are walked.
            let next = files[..used].get(place + 1).and_then(|next| next.header.as_ref());
            let states_follow = next.is_some_and(|next| next.life >= self.known.life);
            match &file.footer {
                Some(footer) if states_follow => self.add_sealed(file, footer),
                _ => {
                    let scanned = self.add_scanned(file, &files[place + 1..used]).await?;
                    end = Some(scanned);
                    if matches!(scanned, ScanEnd::Cut(_)) {
                        return Ok(Used { count: place + 1, end });
                    }
                }
            }
        }
        Ok(Used { count: used, end })
    }

    fn add_sealed(&mut self, file: &SegmentFile, footer: &Footer) {
        let salt = file.salt(self.salt);
        let segment =
            Segment::new(file.sequence, file.path.clone(), Arc::clone(&file.file), file.capacity, salt, false);
        segment.set_end(footer.data_end, 0);
        segment.set_sealed();
        let segment = Arc::new(segment);
        for info in &footer.runs {
            let slots = Slots::File { slots_at: footer.slots_at, first_slot: info.first_slot };
            let run = Run { segment: Arc::clone(&segment), term: info.term, count: info.count, slots };
            self.runs.entry(info.shard).or_default().insert(info.first, run);
        }
        self.segments.insert(file.sequence, segment);
    }

    async fn add_scanned(&mut self, file: &SegmentFile, later: &[SegmentFile]) -> io::Result<ScanEnd> {
        let salt = file.salt(self.salt);
        let segment = Segment::new(file.sequence, file.path.clone(), Arc::clone(&file.file), file.capacity, salt, true);
        let segment = Arc::new(segment);
        (self.run_count, self.slot_count) = (0, 0);
        let mut known = self.known;
        let damaged_before = self.damage.len();
        let end = scan(file, later, self.salt, &mut known, &mut |met| match met {
            Met::Frame { offset, header, payload } => self.replay(file, &segment, offset, header, payload),
            Met::Damage { offset, bytes, header } => self.damaged(file, offset, bytes, header),
        })
        .await?;
        self.known = known;
        self.life_max = self.life_max.max(known.life);
        // A damaged segment is never sealed: it is walked and reported again at every start.
        if let (ScanEnd::Ended(at), true) = (end, damaged_before == self.damage.len()) {
            segment.set_end(at, known.life);
        }
        self.segments.insert(file.sequence, segment);
        self.walked.push(file.sequence);
        Ok(end)
    }

    fn replay(
        &mut self,
        file: &SegmentFile,
        segment: &Arc<Segment>,
        offset: u32,
        header: &FrameHeader,
        payload: &[u8],
    ) {
        if matches!(header.kind, FrameKind::Mark | FrameKind::End | FrameKind::Life) {
            return;
        }
        let state = self.states.entry(header.shard).or_default();
        let runs = self.runs.entry(header.shard).or_default();
        match header.kind {
            FrameKind::Entry(kind) => {
                let next = state.last.map_or(header.id.index.0, |last| last.index.0 + 1);
                if header.id.index.0 > next {
                    // Only damage takes entries out of the middle.
                    let indexes = Some(LogIndex(next)..=LogIndex(header.id.index.0 - 1));
                    let damage = Damage { file: file.path.clone(), position: u64::from(offset), bytes: 0, indexes };
                    self.damage.push(ShardDamage { shard: Some(header.shard), damage });
                }
                let slot = Slot::new(offset, header.payload_bytes, kind);
                if runs.push(segment, header.id.term, header.id.index, slot) {
                    self.run_count += 1;
                }
                self.slot_count += 1;
            }
            FrameKind::Truncate => runs.truncate_from(header.id.index.0 + 1),
            FrameKind::Clear => runs.truncate_from(0),
            _ => {}
        }
        state::apply(state, header, payload);
    }

    fn damaged(&mut self, file: &SegmentFile, offset: u32, bytes: u32, header: Option<FrameHeader>) {
        let entry = header.filter(|header| matches!(header.kind, FrameKind::Entry(_)));
        let indexes = entry.map(|header| header.id.index..=header.id.index);
        if let Some(header) = entry {
            // The entry is lost and known to be: what follows it is no gap.
            self.states.entry(header.shard).or_default().last = Some(header.id);
            self.runs.entry(header.shard).or_default().truncate_from(header.id.index.0);
        }
        let (position, bytes) = (u64::from(offset), u64::from(bytes));
        let damage = Damage { file: file.path.clone(), position, bytes, indexes };
        tracing::error!("{damage}");
        if entry.is_none() {
            self.untold.get_or_insert_with(|| damage.clone());
        }
        self.damage.push(ShardDamage { shard: header.map(|header| header.shard), damage });
    }

    /// Forgets places of entries that a header says are not in the log.
    fn cut_runs(&mut self) {
        for (shard, runs) in &mut self.runs {
            let last = self.states.get(shard).and_then(|state| state.last);
            runs.truncate_from(last.map_or(0, |last| last.index.0 + 1));
        }
    }
}
