//! Which ranges of the log are old enough to become an object, and go together.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

use base::time::{Duration, Instant, now};
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
pub(crate) const STREAMS_PER_LOOK: u32 = 4_096;
/// How long what could not be built is passed over: twice as long each time.
const PASSED_OVER_MIN: Duration = Duration::from_secs(10);
const PASSED_OVER_MAX: Duration = Duration::from_secs(60 * 60);
/// Ranges grow so often to have all of a batch in them.
const GROWTHS_MAX: usize = 16;

/// What could not be built is left out for a time, and what lies behind it goes on.
#[derive(Debug, Default)]
pub(crate) struct PassedOver(BTreeMap<FileNumber, Failed>);

#[derive(Debug)]
struct Failed {
    last: FileNumber,
    until: Instant,
    tries: u32,
}

impl PassedOver {
    pub(crate) fn has(&self, file: FileNumber) -> bool {
        let (now, before) = (now(), self.0.range(..=file));
        before.rev().any(|(_, failed)| file <= failed.last && now < failed.until)
    }

    pub(crate) fn has_any(&self, first: FileNumber, last: FileNumber) -> bool {
        let now = now();
        self.0.iter().any(|(other, failed)| *other <= last && first <= failed.last && now < failed.until)
    }

    /// A run failed once more.
    pub(crate) fn note(&mut self, first: FileNumber, last: FileNumber) {
        // What was given up long ago may be built by now.
        self.0.retain(|_, failed| now() < failed.until + PASSED_OVER_MAX);
        let failed = self.0.entry(first).or_insert_with(|| Failed { last, until: now(), tries: 0 });
        failed.last = failed.last.max(last);
        failed.until = now() + (PASSED_OVER_MIN * 2_u32.pow(failed.tries.min(10))).min(PASSED_OVER_MAX);
        failed.tries += 1;
    }
}

impl Core {
    /// The oldest ranges that are old, if they are enough for an object, or so old that it does not matter; none that are
    /// `passed_over`.
    pub(crate) async fn choose(&self, passed_over: &mut PassedOver) -> io::Result<Option<Run>> {
        let hot = self.config.log_hot_bytes;
        let Some(hot_from) = self.log.newest_within(hot) else { return Ok(None) };
        let ranges = self.state.read().shard.sealed_ranges();
        let is_old = |range: &&RangeView| range.through < hot_from;
        if !ranges.first().is_some_and(|first| is_old(&first)) {
            return Ok(None);
        }
        let (mut run, bytes) = self.neighbours(ranges.iter().filter(is_old), passed_over).await?;
        // All of it may live.
        if bytes > self.room() {
            return Ok(None);
        }
        let too_old = self.log.newest_within(hot.saturating_mul(2));
        let is_too_old = run.first().is_some_and(|first| too_old.is_some_and(|from| first.through < from));
        let (Some(first), Some(last)) = (run.first().map(|range| range.file), run.last().map(|range| range.file))
        else {
            return Ok(None);
        };
        if bytes < self.config.object_bytes_min && !is_too_old {
            return Ok(None);
        }
        let with_parts = self.with_parts(&ranges, &mut run).await;
        if with_parts.is_err() {
            passed_over.note(first, last);
        }
        with_parts
    }

    /// The first of `ranges` that are one behind the other, durable and together not too much; how much that is.
    async fn neighbours(
        &self,
        ranges: impl Iterator<Item = &RangeView>,
        passed_over: &PassedOver,
    ) -> io::Result<(Vec<RangeView>, u64)> {
        let objects: Vec<FileNumber> = self.state.read().shard.objects().iter().map(|object| object.first).collect();
        let (mut run, mut bytes, mut batches) = (Vec::<RangeView>::new(), 0_u64, 0_u64);
        let bytes_max = self.object_bytes_max();
        for range in ranges {
            // An object lies between it and the one before.
            let is_parted = run.last().is_some_and(|before| {
                let next = objects.partition_point(|first| *first < before.file);
                objects.get(next).is_some_and(|first| *first < range.file)
            });
            let of_range = match self.index.batches_of_all(Source::File(range.file)).await {
                Ok(of_range) if !range.has_staged && !passed_over.has(range.file) => Some(of_range),
                Ok(_) => None,
                // It is not written yet, or it is damaged.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound) => None,
                Err(error) => return Err(error),
            };
            let Some(of_range) = of_range else {
                // What lies behind it goes on.
                if run.is_empty() {
                    continue;
                }
                break;
            };
            let of_log = self.log.bytes_within(&[range.from..=range.through]);
            let is_too_much = bytes + of_log > bytes_max || batches + of_range > BATCHES_MAX;
            if is_parted || run.len() == RANGES_MAX || (is_too_much && !run.is_empty()) {
                break;
            }
            (bytes, batches) = (bytes + of_log, batches + of_range);
            run.push(*range);
        }
        Ok((run, bytes))
    }

    /// Adds ranges until no batch behind has earlier parts in them; none if such a batch is in no range yet.
    pub(super) async fn with_parts(&self, ranges: &[RangeView], run: &mut Vec<RangeView>) -> io::Result<Option<Run>> {
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
                    let is_parted = {
                        let state = self.state.read();
                        let objects = state.shard.objects();
                        objects.iter().any(|object| object.first > last.file && object.first < reach)
                    };
                    let reaches = added.last().is_some_and(|last| last.file == reach);
                    if is_parted || !reaches || !added.iter().all(is_usable) {
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
