//! Making a log that was found ready to be written again.
//!
//! Nothing of what lies behind its end can come back, and all that was found is durable before
//! anything is answered.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use base::disk::{Disk, read_exact_at};

use super::files::SegmentFile;
use super::scan::ScanEnd;
use super::{Finder, Recovery, Used};
use crate::commit_log::Options;
use crate::commit_log::footer::footer_bytes;
use crate::commit_log::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::commit_log::group::Group;
use crate::commit_log::position::align_up;
use crate::commit_log::segment::{Filling, Segment};
use crate::commit_log::segment_header::SegmentHeader;
use crate::commit_log::staging::BLOCK_BYTES;
use crate::commit_log::writer::{CLOSING_BYTES, Resume, make_segment};
use crate::passing::remove_file;

impl Finder {
    /// Makes all that was found durable and opens the log for writing behind it.
    pub(super) async fn go_on(
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
        let mut removed = false;
        for file in unused.extract_if(.., |file| !sizes_match(file)) {
            remove_file(disk, &file.path)?;
            removed = true;
        }
        if removed {
            // Before a header behind them says that all before it is durable: one that came back would
            // count as damage.
            disk.sync_dir(dir)?;
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
            // Nothing is added behind damage: the next segment's header says what stands in spite of it.
            let is_damaged = self.damage.iter().any(|found| found.damage.file == last.path);
            if is_damaged || !self.has_room(&last, at) {
                self.write_frame(&last, at, FrameKind::End, life).await?;
                if !is_damaged {
                    last.set_end(at + FRAME_HEADER_BYTES, life);
                }
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
                    let made = make_segment(disk, dir, options, next_sequence - 1);
                    // Of all that a start writes only this takes room.
                    let named = |error: io::Error| {
                        io::Error::new(error.kind(), format!("the log needs another segment to go on: {error}"))
                    };
                    Arc::new(made.map_err(named)?)
                };
                (self.run_count, self.slot_count) = (0, 0);
                let at = self.write_header(&segment, life).await?;
                self.segments.insert(segment.sequence, Arc::clone(&segment));
                (segment, at)
            }
        };
        while ready.len() > options.ready_segments {
            let extra = ready.pop_back().expect("longer than something");
            remove_file(disk, &extra.path)?;
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
