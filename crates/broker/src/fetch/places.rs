//! Where the partitions of a fetch are read: each on its shard, or, before the offset with which it came there, on the one
//! where it was.

use record::{ShardId, StreamOffset};
use replica::Replica;

use super::elsewhere::{Brought, Elsewhere};
use super::{FetchError, FetchPartition};
use crate::topics::Partition;

/// The partitions of a fetch, each with this node's copy of it as it was when the fetch came.
pub(super) struct Places<'a> {
    partitions: &'a [FetchPartition],
    copies: Vec<Copies>,
}

/// Where a partition is read.
#[derive(Debug)]
pub(super) struct Copies {
    /// This node's copy of the shard that the partition is on; none where it has none.
    replica: Option<Replica>,
    /// Where what is asked for is, if that is not there.
    earlier: Option<Earlier>,
}

/// Where a range is that a partition had on another shard.
#[derive(Debug)]
pub(super) enum Earlier {
    /// What is committed there is here, as far as it is asked for.
    Here(Replica),
    Elsewhere(ShardId),
    Brought(Brought),
}

impl Copies {
    fn of(request: &FetchPartition) -> Self {
        let partition = request.partition.partition();
        let earlier = partition.earlier_of(request.fetch_offset).map(|range| {
            let stream = partition.stream;
            let has = |replica: &Replica| {
                let state = replica.state();
                state.stream(stream).is_some_and(|view| view.next_offset().0 > request.fetch_offset)
            };
            match range.replica().filter(has) {
                Some(replica) => Earlier::Here(replica),
                None => Earlier::Elsewhere(range.shard()),
            }
        });
        Self { replica: partition.replica(), earlier }
    }

    pub(super) fn replica(&self) -> Option<&Replica> {
        self.replica.as_ref()
    }

    pub(super) fn earlier(&self) -> Option<&Earlier> {
        self.earlier.as_ref()
    }
}

impl<'a> Places<'a> {
    pub(super) fn new(partitions: &'a [FetchPartition]) -> Self {
        Self { partitions, copies: partitions.iter().map(Copies::of).collect() }
    }

    /// In the order of the request.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&'a FetchPartition, &Copies)> {
        self.partitions.iter().zip(&self.copies)
    }

    /// The ranges that this node answers for and has no copy of, by their place in the request.
    pub(super) fn elsewhere(&self) -> impl Iterator<Item = (usize, Elsewhere)> {
        self.iter().enumerate().filter_map(|(place, (request, copies))| {
            let Some(Earlier::Elsewhere(shard)) = copies.earlier else { return None };
            let partition = request.partition.partition();
            check_leader(partition, copies.replica()?).ok()?;
            let from = StreamOffset(request.fetch_offset);
            Some((place, Elsewhere { shard, stream: partition.stream, from, bytes_max: request.bytes_max }))
        })
    }

    /// What was brought of the range at a place.
    pub(super) fn give(&mut self, place: usize, brought: Brought) {
        self.copies[place].earlier = Some(Earlier::Brought(brought));
    }
}

/// Another leader's readers are sent there; while nobody leads, what was committed is still given out by who has it.
pub(crate) fn check_leader(partition: &Partition, replica: &Replica) -> Result<(), FetchError> {
    let leadership = *replica.leadership().borrow();
    // A copy that was taken away since the request came hears of no leader any more.
    if leadership.is_self || (leadership.leader.is_none() && partition.replica().is_some()) {
        return Ok(());
    }
    Err(FetchError::NotLeader)
}
