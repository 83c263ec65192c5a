//! Streams that belong to no topic are removed by whoever leads their shard. A step of making a topic, or of moving a stream,
//! may come behind the last step of removing it when several nodes have a part in it: nothing else would find what it made.
//!
//! A stream is made after its topic is in the metadata, and its id is never given again. So one that was on its shard
//! before the metadata was read up to its leader, and is not in there although its id was given out, stays without a topic.
//! Streams are listed only of a shard that has another number of them than the metadata says: a million takes long, and
//! apply waits for it. One too many beside one that is still to be made is found when that one is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base::task::{JoinHandle, spawn};
use base::time::{Duration, now, sleep};
use record::{ShardId, StreamId, Term};
use replica::Replica;
use shard::commands::DeleteStreams;
use shard::{Intention, Shard, Topic};

use crate::cluster::METADATA;
use crate::node::Node;

/// Pause before the first look.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Pause between two looks.
const ROUND_PAUSE: Duration = Duration::from_secs(60);
/// How long a look waits for the metadata group.
const METADATA_WAIT_MAX: Duration = Duration::from_secs(10);
/// Streams that one command removes, so that no entry takes long to apply.
const STREAMS_PER_COMMAND: usize = 2_000;

/// At which version of the metadata, and with which shards, in which terms, with how many streams, none was found.
type Seen = (u64, BTreeMap<ShardId, (Term, usize)>);

/// Looks after the shards that this node leads, until the task is aborted.
pub(crate) fn keep_collecting(node: &Arc<Node>) -> JoinHandle<()> {
    let node = Arc::clone(node);
    spawn("streams without a topic", async move {
        let mut seen: Option<Seen> = None;
        let mut pause = FIRST_PAUSE;
        loop {
            sleep(std::mem::replace(&mut pause, ROUND_PAUSE)).await;
            let Some(metadata) = node.metadata() else { continue };
            let led = node.shards.replicas().into_iter().filter(Replica::is_leader);
            let led: Vec<Replica> = led.filter(|replica| replica.shard_id() != METADATA).collect();
            let streams = |replica: &Replica| {
                let (term, count) = (replica.leadership().borrow().term, replica.state().streams());
                (replica.shard_id(), (term, count))
            };
            let now_seen = (metadata.state().metadata_version(), led.iter().map(streams).collect());
            if led.is_empty() || seen.as_ref() == Some(&now_seen) {
                continue;
            }
            if collect(&node, &metadata, &led).await == Some(0) {
                seen = Some(now_seen);
            }
        }
    })
}

/// How many were found; none if the metadata could not be read.
async fn collect(node: &Node, metadata: &Replica, led: &[Replica]) -> Option<usize> {
    // Mostly nothing is too many, and no shard is held up to list what it has.
    let counts: Vec<usize> = led.iter().map(|replica| replica.state().streams()).collect();
    read_metadata(node).await?;
    let expected = homes(&metadata.state());
    let is_odd =
        |(replica, count): &(&Replica, usize)| expected.get(&replica.shard_id()).copied().unwrap_or(0) != *count;
    let odd: Vec<&Replica> = led.iter().zip(counts).filter(is_odd).map(|(replica, _)| replica).collect();
    if odd.is_empty() {
        return Some(0);
    }
    // In this order: what is here now was in the metadata before.
    let here: Vec<(&Replica, Vec<StreamId>)> =
        odd.into_iter().map(|replica| (replica, replica.state().stream_ids())).collect();
    read_metadata(node).await?;
    let (topics, next) = {
        let state = metadata.state();
        (topics(&state), state.next_stream())
    };
    let mut known: Vec<StreamId> =
        topics.iter().flat_map(|topic| &topic.partitions).map(|placement| placement.stream).collect();
    known.sort_unstable();
    let mut found = 0;
    for (replica, streams) in here {
        let mut orphans = orphans(streams, &known, next);
        {
            let state = metadata.state();
            orphans.retain(|stream| state.is_certain(*stream));
        }
        found += orphans.len();
        for streams in orphans.chunks(STREAMS_PER_COMMAND) {
            let (first, count) = (streams[0], streams.len());
            tracing::warn!(shard = replica.shard_id().0, ?first, count, "streams that belong to no topic are removed");
            if let Err(error) = replica.propose_step(DeleteStreams { streams: streams.to_vec() }.into()).await {
                tracing::info!(shard = replica.shard_id().0, %error, "streams without a topic are removed later");
            }
        }
    }
    Some(found)
}

/// Returns when this node's copy of the metadata has what was committed before the call.
async fn read_metadata(node: &Node) -> Option<()> {
    let deadline = now() + METADATA_WAIT_MAX;
    let index = node.barrier(METADATA, deadline).await?;
    node.applied(METADATA, index, deadline).await.then_some(())
}

/// How many streams each shard should have: of a partition one on every shard that it is or was on.
fn homes(metadata: &Shard) -> BTreeMap<ShardId, usize> {
    let mut homes: BTreeMap<ShardId, usize> = BTreeMap::new();
    for topic in metadata.topics() {
        for placement in &topic.partitions {
            let shards: BTreeSet<ShardId> = placement.history.iter().map(|home| home.shard).collect();
            shards.into_iter().for_each(|shard| *homes.entry(shard).or_default() += 1);
        }
    }
    homes
}

/// All topics, those included that are on their way in or out.
fn topics(metadata: &Shard) -> Vec<Arc<Topic>> {
    let unfinished = metadata.intentions(usize::MAX).into_iter().map(|intention| {
        let (Intention::Create(topic) | Intention::AddPartitions(topic) | Intention::Delete(topic)) = intention;
        topic
    });
    metadata.topics().map(Arc::clone).chain(unfinished).collect()
}

/// Those of `here` that are not among the `known` ones, which are in order. One whose id was not given out, as `next` is the
/// next that will be, is left alone: the metadata has lost what it knew of it, when a majority of it was given up. Numbers
/// are left out then, so that the same is asked of the metadata as well.
fn orphans(here: Vec<StreamId>, known: &[StreamId], next: StreamId) -> Vec<StreamId> {
    here.into_iter().filter(|stream| *stream < next && known.binary_search(stream).is_err()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_out_and_belongs_to_no_topic_goes() {
        let ids = |ids: &[u64]| ids.iter().copied().map(StreamId).collect::<Vec<_>>();
        assert_eq!(orphans(ids(&[1, 2, 3, 7, 9]), &ids(&[2, 3, 5]), StreamId(8)), ids(&[1, 7]));
        assert_eq!(orphans(ids(&[1, 2]), &ids(&[1, 2]), StreamId(3)), []);
        assert_eq!(orphans(vec![], &[], StreamId(1)), []);
    }
}
