//! What of a stream's front may go, and what that frees: found by looks into the index, which apply cannot take.

use std::ops::ControlFlow;

use record::{BatchEntry, FileNumber, LogIndex, StreamId, StreamOffset, TimestampMs};
use shard::commands::StreamFront;
use shard::{FrontPlace, Located};

use crate::core::Core;
use crate::errors::FetchError;
use crate::replica::Replica;

/// Batches that are looked up at a time.
const PAGE: usize = 1_024;
/// Those at first: mostly the first of them stays.
const PAGE_FIRST: usize = 16;

/// Where a stream's records end that are old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// The first offset that stays.
    pub before: StreamOffset,
    /// Bytes of the batches before it.
    pub bytes: u64,
    /// The largest timestamp of the first batch that stays, which cannot go before it is old: none if nothing stays, or the batch has
    /// no time.
    pub next: Option<TimestampMs>,
}

impl Replica {
    /// How far the stream goes from its first record on in batches with nothing newer than `newest`: up to the first one that
    /// has something newer, as Kafka deletes from the front only. A batch without a time goes with those behind it.
    ///
    /// # Errors
    /// When the stream does not exist, or the index cannot be read.
    pub async fn expired(&self, stream: StreamId, newest: TimestampMs) -> Result<Expired, FetchError> {
        self.inner.core.expired(stream, newest).await
    }

    /// How far the stream goes from its first record on in batches of at most `bytes_max` together.
    ///
    /// # Errors
    /// As [`Self::expired`].
    pub async fn front_within(&self, stream: StreamId, bytes_max: u64) -> Result<Expired, FetchError> {
        self.inner.core.front_within(stream, bytes_max).await
    }

    /// Bytes of the batches from the one that holds `from` on, and where they end.
    ///
    /// # Errors
    /// As [`Self::expired`].
    pub async fn bytes_from(&self, stream: StreamId, from: StreamOffset) -> Result<(u64, StreamOffset), FetchError> {
        self.inner.core.bytes_from(stream, from).await
    }

    /// What to propose so that everything before `before` goes, and all that is free by that; `ended` as in
    /// [`StreamFront`].
    ///
    /// # Errors
    /// As [`Self::expired`]; when `before` is behind the stream's end.
    pub async fn front(&self, stream: StreamId, before: StreamOffset, ended: bool) -> Result<StreamFront, FetchError> {
        self.inner.core.front(stream, before, ended).await
    }
}

impl Core {
    async fn expired(&self, stream: StreamId, newest: TimestampMs) -> Result<Expired, FetchError> {
        let first = self.first_offset(stream)?;
        let (mut expired, mut bytes) = (Expired { before: first, bytes: 0, next: None }, 0);
        self.walk(stream, first, |batch| {
            bytes += batch.total_bytes();
            if batch.max_timestamp > newest {
                expired.next = Some(batch.max_timestamp);
                return ControlFlow::Break(());
            }
            if batch.max_timestamp.0 >= 0 {
                (expired.before, expired.bytes) = (batch.next_offset(), bytes);
            }
            ControlFlow::Continue(())
        })
        .await?;
        Ok(expired)
    }

    async fn front_within(&self, stream: StreamId, bytes_max: u64) -> Result<Expired, FetchError> {
        let first = self.first_offset(stream)?;
        let mut front = Expired { before: first, bytes: 0, next: None };
        self.walk(stream, first, |batch| {
            let bytes = front.bytes + batch.total_bytes();
            if bytes > bytes_max {
                return ControlFlow::Break(());
            }
            (front.before, front.bytes) = (batch.next_offset(), bytes);
            ControlFlow::Continue(())
        })
        .await?;
        Ok(front)
    }

    async fn bytes_from(&self, stream: StreamId, from: StreamOffset) -> Result<(u64, StreamOffset), FetchError> {
        let from = from.max(self.first_offset(stream)?);
        let (mut bytes, mut to) = (0, from);
        self.walk(stream, from, |batch| {
            (bytes, to) = (bytes + batch.total_bytes(), batch.next_offset());
            ControlFlow::Continue(())
        })
        .await?;
        Ok((bytes, to))
    }

    async fn front(&self, stream: StreamId, before: StreamOffset, ended: bool) -> Result<StreamFront, FetchError> {
        let _reader = self.here.enter();
        let (place, first_part, before) = {
            let state = self.state.read();
            let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
            let (first, next) = (view.first_offset(), view.next_offset());
            if before > next {
                return Err(FetchError::OffsetOutOfRange { offset: before, first, next });
            }
            let before = before.max(first);
            (view.front(before), view.oldest_part_file(), before)
        };
        let files = match place {
            FrontPlace::From(file) => file,
            FrontPlace::InFiles(newest) => {
                let found = self.index.file_of(newest, stream, before).await;
                found.map_err(|error| self.read_error(stream, before, error))?
            }
        };
        let part_files = match first_part {
            // Large batches are rare: only where some part may be free is it worth a look at all that stay.
            Some(first_part) if first_part < files => self.part_files_from(stream, before).await?,
            first_part => first_part.unwrap_or_default(),
        };
        Ok(StreamFront { stream, before, files, part_files, ended })
    }

    /// In no range before this one is an earlier part of a batch of the stream that reaches to `from` or beyond, or may yet come.
    pub(crate) async fn part_files_from(&self, stream: StreamId, from: StreamOffset) -> Result<FileNumber, FetchError> {
        let (any, parts_floor) = {
            let state = self.state.read();
            let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
            (view.oldest_part_file().is_some(), state.shard.parts_floor())
        };
        if !any {
            return Ok(FileNumber(0));
        }
        let oldest = self.oldest_part(stream, from).await?;
        let held = oldest.and_then(|oldest| self.state.read().shard.range_of(oldest));
        Ok(held.map_or(parts_floor, |held| held.min(parts_floor)))
    }

    /// The first entry of the log that holds an earlier part of a batch that reaches to `from` or beyond.
    async fn oldest_part(&self, stream: StreamId, from: StreamOffset) -> Result<Option<LogIndex>, FetchError> {
        let mut oldest = None;
        self.walk(stream, from, |batch| {
            oldest = batch.earlier_extents().iter().map(|extent| extent.log_index).chain(oldest).min();
            ControlFlow::Continue(())
        })
        .await?;
        Ok(oldest)
    }

    /// Shows a stream's batches from the one that holds `from` on, until `visit` has seen enough.
    pub(crate) async fn walk(
        &self,
        stream: StreamId,
        mut from: StreamOffset,
        mut visit: impl FnMut(&BatchEntry) -> ControlFlow<()>,
    ) -> Result<(), FetchError> {
        let mut count = PAGE_FIRST;
        loop {
            let batches = self.page(stream, from, count).await?;
            let Some(last) = batches.last() else { return Ok(()) };
            count = (2 * count).min(PAGE);
            from = last.next_offset();
            if batches.iter().try_for_each(&mut visit).is_break() {
                return Ok(());
            }
        }
    }

    fn first_offset(&self, stream: StreamId) -> Result<StreamOffset, FetchError> {
        let state = self.state.read();
        let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
        Ok(view.first_offset())
    }

    /// Some batches from the one that holds `from` on; none at the end.
    async fn page(
        &self,
        stream: StreamId,
        from: StreamOffset,
        count_max: usize,
    ) -> Result<Vec<BatchEntry>, FetchError> {
        tokio::task::coop::consume_budget().await;
        let _reader = self.here.enter();
        let newest = {
            let state = self.state.read();
            let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
            match view.locate(from) {
                Located::Memory(batches) => return Ok(batches.take(count_max).collect()),
                Located::File(newest) => newest,
                Located::End => return Ok(Vec::new()),
                Located::OutOfRange => {
                    let (first, next) = (view.first_offset(), view.next_offset());
                    return Err(FetchError::OffsetOutOfRange { offset: from, first, next });
                }
            }
        };
        let found = self.index.batches(newest, stream, from, count_max, u64::MAX).await;
        found.map_err(|error| self.read_error(stream, from, error))
    }
}
