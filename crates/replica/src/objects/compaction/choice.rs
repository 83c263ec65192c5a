//! Which stream is compacted next, and up to where: as Kafka's cleaner chooses a log.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use base::time::{Duration, Instant, now};
use record::{FileNumber, StreamId, StreamOffset, TimestampMs};

use crate::core::Core;
use crate::errors::FetchError;

/// How a stream is compacted, in the words of a topic's configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionPolicy {
    /// `min.cleanable.dirty.ratio`: compacted is what has a larger part of bytes behind what was compacted before.
    pub dirty_ratio_min: f64,
    /// `min.compaction.lag.ms`: younger records are left alone.
    pub lag_ms_min: i64,
    /// `max.compaction.lag.ms`: with older records behind what was compacted, the ratio does not matter.
    pub lag_ms_max: i64,
    /// `delete.retention.ms`: a record without a value stays so long after the first pass over it.
    pub delete_retention_ms: i64,
    /// `segment.bytes`: so much that is not sealed yet is.
    pub unsealed_bytes_max: u64,
    /// `segment.ms`: so old that it is sealed.
    pub unsealed_age_ms_max: i64,
    /// Records of the partition are on other shards, too, where earlier ones of the same keys may be: those without a value stay.
    pub keeps_deletes: bool,
}

/// What of a stream is sealed, old enough, and not compacted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dirt {
    /// From here
    pub(super) from: StreamOffset,
    /// to here.
    pub(super) to: StreamOffset,
    bytes: u64,
    /// The largest timestamp of its first batch.
    oldest: Option<TimestampMs>,
}

/// What looks at streams found out.
#[derive(Debug, Default)]
pub(crate) struct Dirts {
    dirt: BTreeMap<StreamId, Dirt>,
    /// Where what is not sealed begins, and since when that is so.
    unsealed: BTreeMap<StreamId, (StreamOffset, Instant)>,
    /// No seal is asked for before.
    seal_after: Option<Instant>,
}

/// Pause between two seals that are asked for.
const SEAL_PAUSE: Duration = Duration::from_secs(1);

/// A stream that is to be compacted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cleanable {
    pub(super) stream: StreamId,
    pub(super) policy: CompactionPolicy,
    pub(super) from: StreamOffset,
    pub(super) to: StreamOffset,
    /// As many a pass reads: what is not compacted twice, the rest once.
    pub(super) bytes: u64,
}

impl Core {
    /// Notes how streams are to be compacted, and no others.
    pub(crate) fn wish_compaction(&self, wishes: BTreeMap<StreamId, CompactionPolicy>) {
        let any = !wishes.is_empty();
        *self.compaction.lock() = wishes;
        if any {
            self.objects_wanted.notify_one();
        }
    }

    /// The stream with the largest part that is not compacted yet, of those where it is large or old enough. Some that have much
    /// or old data that is not sealed make the shard seal it.
    pub(super) async fn choose_cleanable(
        &self,
        dirts: &mut Dirts,
        left_alone: &BTreeMap<StreamId, Instant>,
    ) -> Option<Cleanable> {
        let mut wishes = self.compaction.lock().clone();
        dirts.dirt.retain(|stream, _| wishes.contains_key(stream));
        dirts.unsealed.retain(|stream, _| wishes.contains_key(stream));
        wishes.retain(|stream, _| !left_alone.contains_key(stream));
        let time = self.state.read().shard.time();
        let (mut chosen, mut seals): (Option<(f64, Cleanable)>, bool) = (None, false);
        for (stream, policy) in wishes {
            tokio::task::coop::consume_budget().await;
            seals |= self.wants_seal(stream, &policy, &mut dirts.unsealed);
            let dirt = match self.dirt(stream, &policy, time, dirts.dirt.get(&stream).copied()).await {
                Ok(dirt) => dirt,
                Err(FetchError::UnknownStream(_) | FetchError::OffsetOutOfRange { .. }) => continue,
                Err(error) => {
                    tracing::warn!(shard = self.config.shard.0, stream = stream.0, %error, "what is to be compacted cannot be looked up");
                    continue;
                }
            };
            dirts.dirt.insert(stream, dirt);
            let Some((ratio, bytes)) = self.due(stream, &policy, time, &dirt).await else { continue };
            if chosen.as_ref().is_none_or(|(most, _)| ratio > *most) {
                chosen = Some((ratio, Cleanable { stream, policy, from: dirt.from, to: dirt.to, bytes }));
            }
        }
        if seals && dirts.seal_after.is_none_or(|after| now() >= after) {
            dirts.seal_after = Some(now() + SEAL_PAUSE);
            self.seal_wanted.store(true, Ordering::Release);
            self.maintenance.notify_one();
        }
        chosen.map(|(_, cleanable)| cleanable)
    }

    /// What came since the last look is taken in.
    async fn dirt(
        &self,
        stream: StreamId,
        policy: &CompactionPolicy,
        now: TimestampMs,
        known: Option<Dirt>,
    ) -> Result<Dirt, FetchError> {
        let (from, sealed_to) = {
            let state = self.state.read();
            let view = state.shard.stream(stream).ok_or(FetchError::UnknownStream(stream))?;
            let cleaned_to = view.compacted().next_back().map_or(StreamOffset(0), |compacted| compacted.cleaned_to);
            (cleaned_to.max(view.first_offset()), view.first_in_memory().unwrap_or_else(|| view.next_offset()))
        };
        let mut dirt = known.filter(|known| known.from == from);
        let dirt = dirt.get_or_insert(Dirt { from, to: from, bytes: 0, oldest: None });
        if dirt.to >= sealed_to {
            return Ok(*dirt);
        }
        let newest = TimestampMs(now.0.saturating_sub(policy.lag_ms_min));
        self.walk(stream, dirt.to, |batch| {
            // Where any lag is asked for, nothing younger is touched, and nothing behind it.
            let is_young = policy.lag_ms_min > 0 && batch.max_timestamp > newest;
            if batch.next_offset() > sealed_to || is_young {
                return ControlFlow::Break(());
            }
            (dirt.to, dirt.bytes) = (batch.next_offset(), dirt.bytes + batch.total_bytes());
            dirt.oldest.get_or_insert(batch.max_timestamp);
            ControlFlow::Continue(())
        })
        .await?;
        Ok(*dirt)
    }

    /// How much of a stream is not compacted, if that is enough to do it now, and how many bytes a pass over it reads.
    async fn due(
        &self,
        stream: StreamId,
        policy: &CompactionPolicy,
        time: TimestampMs,
        dirt: &Dirt,
    ) -> Option<(f64, u64)> {
        if dirt.bytes == 0 {
            return None;
        }
        let objects: Vec<(FileNumber, u64)> = {
            let state = self.state.read();
            let compacted = state.shard.stream(stream)?.compacted();
            compacted.map(|compacted| (compacted.object.first, compacted.object.bytes)).collect()
        };
        let mut clean = 0;
        for (first, bytes) in objects {
            // Of its batches: a small one has more pages than these.
            let part = self.index.part_at(first, stream).await.ok().flatten();
            clean += part.and_then(|part| part.bytes()).unwrap_or(bytes);
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        let ratio = dirt.bytes as f64 / (clean + dirt.bytes) as f64;
        let is_old = dirt.oldest.is_some_and(|oldest| oldest.0.saturating_add(policy.lag_ms_max) < time.0);
        (is_old || ratio > policy.dirty_ratio_min).then_some((ratio, clean + 2 * dirt.bytes))
    }

    /// Whether what a stream has in memory would be in a segment of its own in Kafka that is not written to any more. Its age is
    /// counted from when a look first met it: timestamps say nothing of when records came.
    fn wants_seal(
        &self,
        stream: StreamId,
        policy: &CompactionPolicy,
        unsealed: &mut BTreeMap<StreamId, (StreamOffset, Instant)>,
    ) -> bool {
        let state = self.state.read();
        let first = state.shard.stream(stream).and_then(|view| Some((view, view.first_in_memory()?)));
        let Some((view, first)) = first.filter(|_| state.shard.sealing() == 0) else {
            unsealed.remove(&stream);
            return false;
        };
        let known = unsealed.entry(stream).or_insert_with(|| (first, now()));
        if known.0 != first {
            *known = (first, now());
        }
        let age_ms = i64::try_from((now() - known.1).as_millis()).unwrap_or(i64::MAX);
        let mut bytes = 0;
        age_ms >= policy.unsealed_age_ms_max.min(policy.lag_ms_max)
            || view.in_memory().any(|batch| {
                bytes += batch.total_bytes();
                bytes >= policy.unsealed_bytes_max
            })
    }
}
