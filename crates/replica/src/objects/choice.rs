//! Which ranges of the log are old enough to become an object, and go together.

use std::io;
use std::ops::ControlFlow;

use record::{FileNumber, LogIndex, StreamId};
use shard::{FrontPlace, RangeView};
use storage::index_file::Source;

use super::build::Run;
use crate::core::Core;
use crate::errors::FetchError;

/// Ranges of one object.
const RANGES_MAX: usize = 256;
/// Batches of one object: what is kept of each while it is built is about 64 bytes.
const BATCHES_MAX: u64 = 1 << 20;
/// Streams that are looked at under one hold of the state's lock.
const STREAMS_PER_LOOK: u32 = 4_096;
/// Ranges grow so often to have all of a batch in them.
const GROWTHS_MAX: usize = 16;

impl Core {
    /// The oldest ranges that are old, if they are enough for an object, or so old that it does not matter.
    pub(crate) async fn choose(&self) -> io::Result<Option<Run>> {
        let hot = self.config.log_hot_bytes;
        let applied = self.applied_index();
        let Some(hot_from) = self.log.kept_within(applied, hot) else { return Ok(None) };
        let ranges = self.state.read().shard.sealed_ranges();
        let is_old = |range: &&RangeView| range.through < hot_from;
        if !ranges.first().is_some_and(|first| is_old(&first)) {
            return Ok(None);
        }
        let mut run = self.neighbours(ranges.iter().filter(is_old)).await?;
        let bytes: u64 = run.iter().map(|range| range.bytes).sum();
        let too_old = self.log.kept_within(applied, hot.saturating_mul(2));
        let is_too_old = run.first().is_some_and(|first| too_old.is_some_and(|from| first.through < from));
        if run.is_empty() || (bytes < self.config.object_bytes_min && !is_too_old) {
            return Ok(None);
        }
        self.with_parts(&ranges, &mut run).await
    }

    /// The first of `ranges` that are one behind the other, durable and together not too much.
    async fn neighbours(&self, ranges: impl Iterator<Item = &RangeView>) -> io::Result<Vec<RangeView>> {
        let objects: Vec<FileNumber> = self.state.read().shard.objects().iter().map(|object| object.first).collect();
        let (mut run, mut bytes, mut batches) = (Vec::<RangeView>::new(), 0, 0);
        for range in ranges {
            // An object lies between it and the one before.
            let is_parted = run.last().is_some_and(|before| {
                let next = objects.partition_point(|first| *first < before.file);
                objects.get(next).is_some_and(|first| *first < range.file)
            });
            if is_parted || range.has_staged || !self.index.contains(range.file) || run.len() == RANGES_MAX {
                break;
            }
            bytes += range.bytes;
            batches += self.index.batches_of_all(Source::File(range.file)).await?;
            if !run.is_empty() && (bytes > self.config.object_bytes_max || batches > BATCHES_MAX) {
                break;
            }
            run.push(*range);
        }
        Ok(run)
    }

    /// Adds ranges until no batch behind has earlier parts in them; none if such a batch is in no range yet.
    async fn with_parts(&self, ranges: &[RangeView], run: &mut Vec<RangeView>) -> io::Result<Option<Run>> {
        for _ in 0..GROWTHS_MAX {
            let (Some(first), Some(last)) = (run.first().copied(), run.last().copied()) else { return Ok(None) };
            let parts = self.streams_with_parts(first.file, last.file);
            let log = first.from..=last.through;
            let mut reach = Some(last.file);
            for stream in &parts {
                match self.reach(*stream, last.file, |index| log.contains(&index)).await {
                    Ok(file) => reach = reach.zip(file).map(|(one, other)| one.max(other)),
                    // It is gone, and its parts with it.
                    Err(FetchError::UnknownStream(_)) => {}
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
            match reach {
                None => return Ok(None),
                Some(reach) if reach == last.file => {
                    let sources = run.iter().map(|range| Source::File(range.file)).collect();
                    return Ok(Some(Run { first: first.file, last: last.file, sources, replaces: Vec::new(), parts }));
                }
                Some(reach) => {
                    let added: Vec<RangeView> =
                        ranges.iter().filter(|range| range.file > last.file && range.file <= reach).copied().collect();
                    let is_usable = |range: &RangeView| !range.has_staged && self.index.contains(range.file);
                    if added.last().is_none_or(|last| last.file != reach) || !added.iter().all(is_usable) {
                        return Ok(None);
                    }
                    run.extend(added);
                }
            }
        }
        Ok(None)
    }

    pub(crate) fn streams_with_parts(&self, first: FileNumber, last: FileNumber) -> Vec<StreamId> {
        let (mut streams, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            let page = self.state.read().shard.part_streams(first, last, from, STREAMS_PER_LOOK);
            streams.extend(page.streams);
            next = page.next;
        }
        streams
    }

    /// The last file with a batch of the stream that has an earlier part in the ranges up to `last`, or that file itself; none
    /// when such a batch is in no file yet.
    async fn reach(
        &self,
        stream: StreamId,
        last: FileNumber,
        is_inside: impl Fn(LogIndex) -> bool,
    ) -> Result<Option<FileNumber>, FetchError> {
        let (newest, first_offset) = {
            let state = self.state.read();
            let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
            (view.files().before(FileNumber(last.0.saturating_add(1))), view.first_offset())
        };
        let from = match newest {
            Some(file) => {
                let part = self.index.part_of(file, stream).await?;
                part.map_or(first_offset, |part| part.next_offset()).max(first_offset)
            }
            None => first_offset,
        };
        let mut farthest = None;
        self.walk(stream, from, |batch| {
            if batch.earlier_extents().iter().any(|extent| is_inside(extent.log_index)) {
                farthest = Some(batch.base_offset);
            }
            ControlFlow::Continue(())
        })
        .await?;
        let Some(offset) = farthest else { return Ok(Some(last)) };
        let place = {
            let state = self.state.read();
            state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?.front(offset)
        };
        match place {
            FrontPlace::InFiles(newest) => Ok(Some(self.index.file_of(newest, stream, offset).await?)),
            FrontPlace::From(_) => Ok(None),
        }
    }
}
