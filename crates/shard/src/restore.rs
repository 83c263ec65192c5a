//! Building a shard from checkpoints: a base and the deltas behind it, in order. What comes out is compared with the
//! digest that stands in the last of them, so that a state that is not the one written is never served.

use record::{BatchEntry, LogIndex, ShardId, StreamId};

use crate::capture::{BATCHES, END, FORMAT, HEADER, Header, PUT, REMOVE};
use crate::codec::{DecodeError, Reader, Wire, decode};
use crate::features::FEATURE_LEVEL;
use crate::shard::Shard;
use crate::table::{Record, Table};
use crate::tables::each_table;

/// Why checkpoints do not make a shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("a checkpoint cannot be decoded")]
    Decode(#[from] DecodeError),
    #[error("the checkpoint is of shard {actual}, not of {expected}")]
    WrongShard { expected: ShardId, actual: ShardId },
    #[error("checkpoints are missing: one builds on {previous:?} but the state is at {applied:?}")]
    Gap { previous: Option<LogIndex>, applied: Option<LogIndex> },
    #[error("the checkpoint is of a cluster that uses features of level {level}, this program knows level {known}")]
    Features { level: u32, known: u32 },
    #[error("a later version of the program wrote the checkpoint: this one knows no {what} of number {number}")]
    Later { what: &'static str, number: u8 },
    #[error("a checkpoint ends before its end")]
    Incomplete,
    #[error("the restored state has the digest {actual:#018x}, the checkpoint says {expected:#018x}")]
    Digest { expected: u64, actual: u64 },
}

impl RestoreError {
    /// Whether the checkpoint is good, for a later program than this.
    #[must_use]
    pub const fn is_later(&self) -> bool {
        matches!(self, Self::Features { .. } | Self::Later { .. })
    }
}

/// Takes the chunks of checkpoints, in order.
#[derive(Debug)]
pub struct Restore {
    shard: Shard,
    /// Items of the checkpoint at hand, if one was begun and has not ended.
    open: Option<u64>,
    digest: Option<u64>,
}

fn restore_item<R: Record>(table: &mut Table<R>, kind: u8, payload: &[u8]) -> Result<(), DecodeError> {
    if kind == REMOVE {
        table.remove(&decode::<R::Key>(payload)?);
    } else {
        table.put(decode::<R>(payload)?);
    }
    Ok(())
}

impl Restore {
    #[must_use]
    pub fn new(shard: ShardId) -> Self {
        Self { shard: Shard::new(shard), open: None, digest: None }
    }

    /// Takes the next chunk.
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<(), RestoreError> {
        let mut input = Reader::new(chunk);
        while input.remaining() > 0 {
            let [kind, table] = input.array()?;
            let length = u32::take(&mut input)?;
            let payload = input.slice(usize::try_from(length).map_err(|_| DecodeError::Short)?)?;
            self.item(kind, table, payload)?;
        }
        Ok(())
    }

    fn item(&mut self, kind: u8, table: u8, payload: &[u8]) -> Result<(), RestoreError> {
        if kind == HEADER {
            // Behind the format anything may be different.
            return match payload.first() {
                Some(&FORMAT) => self.header(decode(payload)?),
                Some(&number) => Err(RestoreError::Later { what: "format", number }),
                None => Err(DecodeError::Short.into()),
            };
        }
        let items = self.open.as_mut().ok_or(RestoreError::Incomplete)?;
        match kind {
            END => {
                let expected: u64 = decode(payload)?;
                if *items != expected {
                    return Err(RestoreError::Incomplete);
                }
                self.open = None;
                return Ok(());
            }
            BATCHES => {
                *items += 1;
                self.batches(payload)?;
            }
            PUT if table == 1 => {
                *items += 1;
                self.stream(payload)?;
            }
            PUT | REMOVE => {
                *items += 1;
                let mut known = false;
                let done = each_table!(self.shard, records => {
                    if number_of(records) == table {
                        known = true;
                        restore_item(records, kind, payload)
                    } else {
                        Ok(())
                    }
                });
                done.into_iter().collect::<Result<(), DecodeError>>()?;
                if !known {
                    self.check_features()?;
                    return Err(RestoreError::Later { what: "table", number: table });
                }
            }
            kind => {
                self.check_features()?;
                return Err(RestoreError::Later { what: "item", number: kind });
            }
        }
        Ok(())
    }

    /// What cannot be read may be of a later program: then that is what is wrong.
    fn check_features(&self) -> Result<(), RestoreError> {
        let level = self.shard.feature_level();
        if level > FEATURE_LEVEL { Err(RestoreError::Features { level, known: FEATURE_LEVEL }) } else { Ok(()) }
    }

    fn header(&mut self, header: Header) -> Result<(), RestoreError> {
        if header.shard != self.shard.id {
            return Err(RestoreError::WrongShard { expected: self.shard.id, actual: header.shard });
        }
        if self.open.is_some() {
            return Err(RestoreError::Incomplete);
        }
        let applied = self.shard.scalars.applied;
        let fits =
            if header.base { self.digest.is_none() } else { self.digest.is_some() && header.previous == applied };
        if !fits {
            return Err(RestoreError::Gap { previous: header.previous, applied });
        }
        self.open = Some(0);
        self.digest = Some(header.digest);
        self.shard.scalars = header.scalars;
        Ok(())
    }

    /// A stream's record, beside the batches that came before.
    fn stream(&mut self, payload: &[u8]) -> Result<(), DecodeError> {
        let mut stream: crate::stream::Stream = decode(payload)?;
        let streams = &mut self.shard.streams;
        if let Some(slot) = streams.slot(&stream.id)
            && let Some(old) = streams.derived_mut(slot)
        {
            stream.batches = old.batches.take();
        }
        streams.put(stream);
        Ok(())
    }

    fn batches(&mut self, payload: &[u8]) -> Result<(), DecodeError> {
        let mut input = Reader::new(payload);
        let id = StreamId::take(&mut input)?;
        let batches = Vec::<BatchEntry>::take(&mut input)?;
        input.finish()?;
        let unknown = || DecodeError::Value { what: "the stream of batches", value: id.0 };
        let slot = self.shard.streams.slot(&id).ok_or_else(unknown)?;
        let stream = self.shard.streams.derived_mut(slot).ok_or_else(unknown)?;
        let list = stream.batches.get_or_insert_default();
        // What this checkpoint sealed, the one before still had in memory.
        if let Some(through) = self.shard.scalars.sealed_through
            && list.first_index() <= Some(through)
        {
            list.split_through(through);
        }
        for batch in batches {
            if list.next_offset().is_some_and(|next| next != batch.base_offset) {
                let offset = batch.base_offset.0.cast_unsigned();
                return Err(DecodeError::Value { what: "the offset of a batch behind the one before", value: offset });
            }
            list.push(&batch).map_err(|_| DecodeError::Value { what: "a batch's place", value: batch.log_index.0 })?;
        }
        Ok(())
    }

    /// The shard as of the last checkpoint.
    pub fn finish(self) -> Result<Shard, RestoreError> {
        let (None, Some(expected)) = (self.open, self.digest) else { return Err(RestoreError::Incomplete) };
        let mut shard = self.shard;
        shard.drop_sealed_batches()?;
        shard.producers.relink(&mut shard.streams)?;
        shard.relink_transfers()?;
        shard.groups.relink()?;
        shard.metadata.relink();
        shard.objects.relink()?;
        shard.compacted.relink()?;
        let actual = shard.digest();
        if actual != expected {
            return Err(RestoreError::Digest { expected, actual });
        }
        each_table!(shard, table => table.settle());
        shard.captured_at = shard.scalars.applied;
        shard.base_needed = false;
        Ok(shard)
    }
}

const fn number_of<R: Record>(_: &Table<R>) -> u8 {
    R::TABLE
}

impl Shard {
    fn relink_transfers(&mut self) -> Result<(), DecodeError> {
        for (_, transfer) in self.transfers.iter() {
            let unknown = || DecodeError::Value { what: "the stream of a transfer", value: transfer.stream.0 };
            let slot = self.streams.slot(&transfer.stream).ok_or_else(unknown)?;
            let stream = self.streams.derived_mut(slot).ok_or_else(unknown)?;
            stream.standing = transfer.standing();
        }
        Ok(())
    }

    /// What later checkpoints sealed, earlier ones had in memory.
    fn drop_sealed_batches(&mut self) -> Result<(), DecodeError> {
        let slots: Vec<u32> =
            self.streams.iter().filter(|(_, stream)| stream.batches.is_some()).map(|(slot, _)| slot).collect();
        for slot in slots {
            let Some(stream) = self.streams.derived_mut(slot) else { continue };
            let Some(mut list) = stream.batches.take() else { continue };
            if let Some(through) = self.scalars.sealed_through {
                list.split_through(through);
            }
            if let Some(end) = list.next_offset() {
                if end != stream.next_offset {
                    return Err(DecodeError::Value { what: "the end of a stream's batches", value: stream.id.0 });
                }
                self.unsealed_batches += list.len();
                self.unsealed_bytes += list.bytes();
                self.unsealed_slots.push(slot);
                stream.batches = Some(list);
            }
        }
        Ok(())
    }
}
