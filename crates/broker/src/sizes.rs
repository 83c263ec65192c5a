//! How many bytes of batches a stream has on a copy of its shard: counted from the index, and from then on only what came
//! since.

use base::hash::FixedHashMap;
use cluster::Cluster;
use record::{ShardId, StreamId, StreamOffset};
use replica::{FetchError, Replica};
use shard::StreamView;
use tokio::sync::Mutex;

/// Fewer are never looked through for those that are gone.
const KEPT_MIN: usize = 1_024;

/// The bytes of a stream's batches from its first offset on.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) bytes: u64,
    /// Where what was counted ends.
    pub(crate) counted_to: StreamOffset,
}

impl Size {
    /// Takes in what came since.
    pub(crate) async fn count(&mut self, replica: &Replica, stream: StreamId) -> Result<(), FetchError> {
        let (more, counted_to) = replica.bytes_from(stream, self.counted_to).await?;
        (self.bytes, self.counted_to) = (self.bytes + more, counted_to);
        Ok(())
    }
}

/// Those of all streams that somebody asked for; one is counted at a time.
#[derive(Debug, Default)]
pub(crate) struct Sizes(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: FixedHashMap<(ShardId, StreamId), Known>,
    /// When there are so many, those of streams that are gone are forgotten.
    look_at: usize,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// Of the stream then: with another one all is counted anew.
    version: Version,
    size: Size,
}

/// What a stream was when it was counted: it has lost its front since, or was compacted, or only grew.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) first: StreamOffset,
    /// Of the keys of its compacted objects.
    compacted: u64,
}

impl Version {
    pub(crate) fn of(view: &StreamView<'_>) -> Self {
        let compacted = view.compacted().fold(0_u64, |all, one| all.rotate_left(7) ^ one.object.key.0);
        Self { first: view.first_offset(), compacted }
    }

    /// As it will be when its front is gone.
    pub(crate) const fn begun_at(self, first: StreamOffset) -> Self {
        Self { first, ..self }
    }
}

impl Sizes {
    /// Bytes of a stream on this copy.
    pub(crate) async fn of(&self, cluster: &Cluster, replica: &Replica, stream: StreamId) -> Result<u64, FetchError> {
        let mut inner = self.0.lock().await;
        let version = {
            let state = replica.state();
            Version::of(&state.stream(stream).ok_or(FetchError::UnknownStream(stream))?)
        };
        let key = (replica.shard_id(), stream);
        let known = inner.known.get(&key).filter(|known| known.version == version);
        let mut size = known.map_or(Size { bytes: 0, counted_to: version.first }, |known| known.size);
        size.count(replica, stream).await?;
        inner.known.insert(key, Known { version, size });
        if inner.known.len() > inner.look_at {
            let is_there = |shard, stream| {
                cluster.replica(shard).is_some_and(|replica: Replica| replica.state().stream(stream).is_some())
            };
            inner.known.retain(|(shard, stream), _| is_there(*shard, *stream));
            inner.look_at = 2 * inner.known.len() + KEPT_MIN;
        }
        Ok(size.bytes)
    }
}
