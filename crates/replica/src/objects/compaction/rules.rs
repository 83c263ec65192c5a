//! Which records of a batch stay, and what is left of it.

use std::io;

use base::planted::{Planted, is_planted};
use bytes::Bytes;
use record::{BatchEntry, BatchHeader, Compacted, Limits, StreamId, StreamOffset, TimestampMs, compacted, emptied};

use super::map::check;
use super::{Keys, Rules};

/// A batch as it is put.
pub(super) struct Put {
    pub(super) batch: BatchEntry,
    pub(super) body: Bytes,
    /// No record stays of it; it is put where only its offsets or its producer are wanted.
    pub(super) is_empty: bool,
}

/// What is left of some batches.
pub(super) struct Left {
    pub(super) puts: Vec<Put>,
    pub(super) counts: Counts,
}

/// Of records.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) dropped: u64,
    pub(super) records: u64,
}

impl Counts {
    pub(super) const fn add(&mut self, other: Self) {
        self.dropped += other.dropped;
        self.records += other.records;
    }
}

impl Rules {
    pub(super) fn apply(&self, stream: StreamId, bodies: Vec<(BatchEntry, Bytes)>) -> io::Result<Left> {
        let mut left = Left { puts: Vec::with_capacity(bodies.len()), counts: Counts::default() };
        for (batch, body) in bodies {
            check(&batch, &body)?;
            let header = BatchHeader::parse(&body).map_err(io::Error::other)?;
            let (deletes_stay, is_empty) = (self.deletes_stay(&header), header.record_count == 0);
            if self.copies {
                left.puts.push(Put { batch, body, is_empty: false });
                continue;
            }
            let mut counts = Counts::default();
            let compacted = compacted(&body, Limits::default(), self.horizon, |record| {
                let offset = StreamOffset(batch.base_offset.0 + i64::from(record.delta));
                let stays = self.stays(offset, record.key, record.has_value, deletes_stay);
                counts.add(Counts { dropped: u64::from(!stays), records: 1 });
                stays
            });
            let put = match compacted {
                // One without records was left by a pass before.
                Ok(Compacted::Whole) => Put { batch, body, is_empty },
                Ok(Compacted::Changed { batch: body, max_timestamp }) => {
                    Put { batch: rewritten(&batch, &body, max_timestamp), body, is_empty: false }
                }
                Ok(Compacted::Nothing) => {
                    let body = emptied(&body).map_err(io::Error::other)?;
                    Put { batch: rewritten(&batch, &body, batch.max_timestamp), body, is_empty: true }
                }
                Err(error) => {
                    // It is stored and read as it was sent, and what is in it only its readers can say.
                    let offset = batch.base_offset.0;
                    tracing::debug!(stream = stream.0, offset, %error, "a batch stays whole: its records cannot be read");
                    counts = Counts::default();
                    Put { batch, body, is_empty: false }
                }
            };
            left.counts.add(counts);
            left.puts.push(put);
        }
        Ok(left)
    }

    /// As Kafka's `Cleaner.shouldRetainRecord`.
    fn stays(&self, offset: StreamOffset, key: Option<&[u8]>, has_value: bool, deletes_stay: bool) -> bool {
        if is_planted(Planted::DeleteDroppedEarly) && !has_value {
            return false;
        }
        if offset >= self.map_to {
            return true;
        }
        let Some(key) = key else { return false };
        self.keys.newest(key).is_none_or(|newest| offset >= newest) && (has_value || deletes_stay)
    }

    fn deletes_stay(&self, header: &BatchHeader) -> bool {
        self.keeps_deletes || header.delete_horizon().is_none_or(|horizon| self.now < horizon)
    }
}

fn rewritten(batch: &BatchEntry, body: &Bytes, max_timestamp: TimestampMs) -> BatchEntry {
    BatchEntry {
        bytes: u32::try_from(body.len()).expect("a batch is bounded"),
        max_timestamp,
        earlier: None,
        ..batch.clone()
    }
}

impl Rules {
    /// Everything stays as it is.
    pub(super) fn copy() -> Self {
        Self {
            map_to: StreamOffset(0),
            keys: Keys::with_room(0, (0, 0)),
            now: TimestampMs(0),
            horizon: TimestampMs(0),
            keeps_deletes: true,
            copies: true,
        }
    }
}
