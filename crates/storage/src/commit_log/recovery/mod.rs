//! Finding the log again after a stop of any kind.
//!
//! What was durable is found or reported as damage; what was not durable may be cut; nothing of a
//! file's former life comes back. Nothing is answered before all that was found is durable.

mod files;
mod frames;
mod scan;
mod state;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use base::disk::{Disk, OpenOptions, read_exact_at};
use record::{LogIndex, ShardId};

pub(crate) use files::{SegmentFile, list, read_header};
pub(crate) use scan::{Knowledge, Met, ScanEnd, scan};
pub(crate) use state::replay;

use super::footer::{Footer, Slot, footer_bytes};
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use super::group::Group;
use super::position::{Position, align_up};
use super::runs::{Run, Runs, Slots};
use super::segment::{Filling, Segment};
use super::segment_header::SegmentHeader;
use super::shard_state::ShardDamage;
use super::staging::BLOCK_BYTES;
use super::writer::{CLOSING_BYTES, Resume, make_segment};
use super::{Damage, LogState, OpenError, Options};

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

/// Recovers the log in `dir`. Blocks: to be called through `offload`.
pub(crate) async fn recover(disk: Arc<dyn Disk>, dir: &Path, options: &Options) -> Result<Recovery, OpenError> {
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
    let mut found = Finder::new(options.salt);
    let used = found.walk(&files).await.map_err(failed("read", dir))?;
    found.go_on(&*disk, dir, options, files, used).await.map_err(failed("write", dir))
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
            run_count: 0,
            slot_count: 0,
        }
    }

    async fn walk(&mut self, files: &[SegmentFile]) -> io::Result<Used> {
        self.known.synced = files.iter().map(SegmentFile::synced).max().unwrap_or_default();
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
                self.states = header.shards.iter().copied().collect();
                self.cut_runs();
            } else if file.start() >= self.known.synced {
                return Ok(Used { count: place, end });
            } else {
                let bytes = u64::from(file.first_frame());
                let damage = Damage { file: file.path.clone(), position: 0, bytes, indexes: None };
                tracing::error!("{damage}");
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
        self.damage.push(ShardDamage { shard: header.map(|header| header.shard), damage });
    }

    /// Forgets places of entries that a header says are not in the log.
    fn cut_runs(&mut self) {
        for (shard, runs) in &mut self.runs {
            let last = self.states.get(shard).and_then(|state| state.last);
            runs.truncate_from(last.map_or(0, |last| last.index.0 + 1));
        }
    }

    /// Makes all that was found durable and opens the log for writing behind it.
    async fn go_on(
        mut self,
        disk: &dyn Disk,
        dir: &Path,
        options: &Options,
        mut files: Vec<SegmentFile>,
        used: Used,
    ) -> io::Result<Recovery> {
        let life = self.life_max + 1;
        self.cut_runs();
        let mut unused = files.split_off(used.count);
        for file in &unused {
            if let Some(header) = &file.header {
                let zeros = vec![0; header.header_bytes() as usize];
                file.file.write_at(0, &[IoSlice::new(&zeros)]).await?;
                file.file.sync_data().await?;
            }
        }
        for sequence in &self.walked {
            self.segments[sequence].file.sync_data().await?;
        }
        let sizes_match = |file: &SegmentFile| u64::from(file.capacity) == options.segment_bytes;
        for file in unused.extract_if(.., |file| !sizes_match(file)) {
            disk.remove(&file.path)?;
        }
        let mut next_sequence = files.iter().chain(&unused).map(|file| file.sequence + 1).max().unwrap_or(1);
        let mut ready: VecDeque<Arc<Segment>> = unused
            .into_iter()
            .map(|file| Arc::new(Segment::new(file.sequence, file.path, file.file, file.capacity, options.salt, true)))
            .collect();

        let mut end = used.end;
        if let Some(ScanEnd::Cut(at)) = end {
            let last = self
                .segments
                .last_key_value()
                .map(|(_, segment)| Arc::clone(segment))
                .expect("a cut lies in a segment");
            if !self.has_room(&last, at) {
                self.write_frame(&last, at, FrameKind::End, life).await?;
                last.set_end(at + FRAME_HEADER_BYTES, life);
                end = Some(ScanEnd::Ended(at + FRAME_HEADER_BYTES));
            }
        }
        let (segment, at) = match end {
            Some(ScanEnd::Cut(at)) => {
                let segment = self
                    .segments
                    .last_key_value()
                    .map(|(_, segment)| Arc::clone(segment))
                    .expect("a cut lies in a segment");
                self.write_frame(&segment, at, FrameKind::Life, life).await?;
                (segment, at + FRAME_HEADER_BYTES)
            }
            Some(ScanEnd::Ended(_)) | None => {
                let segment = if let Some(segment) = ready.pop_front() {
                    segment
                } else {
                    next_sequence += 1;
                    Arc::new(make_segment(disk, dir, options, next_sequence - 1)?)
                };
                (self.run_count, self.slot_count) = (0, 0);
                let at = self.write_header(&segment, life).await?;
                self.segments.insert(segment.sequence, Arc::clone(&segment));
                (segment, at)
            }
        };
        while ready.len() > options.ready_segments {
            let extra = ready.pop_back().expect("longer than something");
            disk.remove(&extra.path)?;
        }
        disk.sync_dir(dir)?;
        let reserved_to = align_up(at, BLOCK_BYTES);
        *segment.filling.lock().await = Filling { reserved_to, filled_to: reserved_to };
        let synced = segment.position(at);
        let before = block_before(&segment, at).await?;
        let resume =
            Resume { segment, at, before, states: self.states.clone(), runs: self.run_count, slots: self.slot_count };
        let shards = self.states.keys().chain(self.runs.keys()).copied().collect::<std::collections::BTreeSet<_>>();
        let shards = shards
            .into_iter()
            .map(|shard| {
                let state = self.states.get(&shard).copied().unwrap_or_default();
                (shard, (state, self.runs.remove(&shard).unwrap_or_default()))
            })
            .collect();
        Ok(Recovery {
            life,
            segments: self.segments,
            ready,
            next_sequence,
            shards,
            damage: self.damage,
            resume,
            synced,
        })
    }

    fn has_room(&self, segment: &Segment, at: u32) -> bool {
        let end = align_up(at + FRAME_HEADER_BYTES + CLOSING_BYTES, BLOCK_BYTES);
        u64::from(end) + u64::from(footer_bytes(self.run_count + 1, self.slot_count + 1)) <= u64::from(segment.capacity)
    }

    async fn write_frame(&self, segment: &Segment, at: u32, kind: FrameKind, life: u32) -> io::Result<()> {
        let mut group = Group::new(at, &block_before(segment, at).await?);
        group.frame(segment.sequence, segment.salt, FrameHeader::bare(kind, life, segment.position(at)), &[]);
        let (position, blocks) = group.staging.blocks();
        segment.file.write_at(u64::from(position), &[IoSlice::new(blocks)]).await?;
        segment.file.sync_data().await
    }

    async fn write_header(&self, segment: &Segment, life: u32) -> io::Result<u32> {
        let header = SegmentHeader {
            sequence: segment.sequence,
            life,
            capacity: segment.capacity,
            synced: segment.position(0),
            salt: segment.salt,
            shards: self.states.iter().map(|(shard, state)| (*shard, *state)).collect(),
        };
        segment.file.write_at(0, &[IoSlice::new(&header.encode())]).await?;
        segment.file.sync_data().await?;
        Ok(header.header_bytes())
    }
}

/// What the file has in the block of `at`, before it.
async fn block_before(segment: &Segment, at: u32) -> io::Result<Vec<u8>> {
    let len = at % BLOCK_BYTES;
    Ok(read_exact_at(&*segment.file, u64::from(at - len), len as usize).await?.to_vec())
}
