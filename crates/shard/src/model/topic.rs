//! A topic: its name, its partitions, and for each partition the stream and the shards that hold it.

use std::collections::BTreeMap;

use record::{LeaderEpoch, ShardId, StreamId, StreamOffset, TopicId};
use smallvec::SmallVec;

use crate::codec::{DecodeError, Reader, Wire, wire_struct};

/// How far the work on several shards that makes or removes a topic has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicState {
    /// Its name is taken; not all of its streams exist yet.
    Creating,
    Live,
    /// Its name is free again; not all of its streams are gone yet.
    Deleting,
}

impl Wire for TopicState {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Creating => 0,
            Self::Live => 1,
            Self::Deleting => 2,
        });
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(Self::Creating),
            1 => Ok(Self::Live),
            2 => Ok(Self::Deleting),
            value => Err(DecodeError::Value { what: "a topic state", value: u64::from(value) }),
        }
    }
}

/// Whether readers leave the messages where they are or take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TopicMode {
    /// Kept by retention, read by offset.
    #[default]
    Log,
}

impl Wire for TopicMode {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Log => 0,
        });
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::take(input)? {
            0 => Ok(Self::Log),
            value => Err(DecodeError::Value { what: "a topic mode", value: u64::from(value) }),
        }
    }
}

/// From that offset on the stream is on that shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamHome {
    pub from_offset: StreamOffset,
    pub shard: ShardId,
}

wire_struct!(StreamHome { from_offset: StreamOffset, shard: ShardId });

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Placement {
    pub stream: StreamId,
    /// The first epoch of the stream.
    pub epoch_start: LeaderEpoch,
    /// Never empty; the last one is where the stream grows.
    pub history: SmallVec<[StreamHome; 1]>,
}

wire_struct!(Placement { stream: StreamId, epoch_start: LeaderEpoch, history: SmallVec<[StreamHome; 1]> });

impl Placement {
    /// The shard on which the stream grows.
    #[must_use]
    pub fn shard(&self) -> Option<ShardId> {
        self.history.last().map(|home| home.shard)
    }
}

/// A topic as the metadata group keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: String,
    pub mode: TopicMode,
    pub state: TopicState,
    /// Partitions from this one on are still being added: their streams may not exist yet.
    pub live_partitions: u32,
    pub partitions: Vec<Placement>,
    /// Only the keys that were set.
    pub configs: BTreeMap<String, String>,
    /// Counts the changes of `configs`.
    pub config_version: u64,
    /// Another one after every change of the topic, whatever it was; never one that any topic had before.
    pub revision: u64,
}

wire_struct!(Topic {
    id: TopicId,
    name: String,
    mode: TopicMode,
    state: TopicState,
    live_partitions: u32,
    partitions: Vec<Placement>,
    configs: BTreeMap<String, String>,
    config_version: u64,
    revision: u64,
});

impl Topic {
    /// The partitions that clients may see.
    #[must_use]
    pub fn live(&self) -> &[Placement] {
        let live = usize::try_from(self.live_partitions).unwrap_or(usize::MAX);
        &self.partitions[..live.min(self.partitions.len())]
    }

    /// Whether a command on several shards has not come to its end.
    #[must_use]
    pub fn unfinished(&self) -> bool {
        self.state != TopicState::Live || self.live().len() < self.partitions.len()
    }
}
