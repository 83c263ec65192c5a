//! What the first start of a cluster's first node writes into the metadata, each when it is not there yet, and what a node
//! that is alone says at every start.

use std::fmt::Debug;

use record::ShardId;
use replica::Replica;
use shard::commands::{AssignSlots, CreateCluster, PutShards, RaiseFeatures, RegisterNode, SlotRange};
use shard::{NodeAddress, NodeRecord, Outcome, SLOTS, ShardRecord};

use crate::bootstrap::propose;
use crate::cluster::METADATA;
use crate::errors::StartError;
use crate::host::Host;

/// Writes into the metadata what a first start must, and announces this start. Gives the cluster's
/// id.
pub(crate) async fn found(host: &Host, metadata: &Replica, addresses: &[NodeAddress]) -> Result<u128, StartError> {
    let node = host.data_dir.identity().node_id;
    let known = metadata.state().cluster_id();
    let cluster_id = match known {
        Some(cluster_id) => cluster_id,
        None => {
            let command = CreateCluster { cluster_id: host.node.env.random.uuid() };
            match propose(metadata, command.into()).await? {
                Outcome::CreateCluster { cluster_id } => cluster_id,
                other => return Err(refused(&other)),
            }
        }
    };
    if metadata.state().shard_records().is_empty() {
        let count = u32::try_from(host.config.data_shards()).expect("at most 64 shards");
        let shards = (0..=count).map(|id| ShardRecord { id: ShardId(id), voters: vec![node] }).collect();
        propose(metadata, PutShards { shards }.into()).await?;
    }
    if metadata.state().slot_shard(0).is_none() {
        let shards: Vec<ShardId> =
            metadata.state().shard_records().iter().map(|record| record.id).filter(|id| *id != METADATA).collect();
        match propose(metadata, AssignSlots { ranges: slot_ranges(&shards) }.into()).await? {
            Outcome::AssignSlots(Ok(())) => {}
            other => return Err(refused(&other)),
        }
    }
    let before = metadata.state().node(node).map(|before| before.start_number);
    let record = NodeRecord {
        id: node,
        start_number: before.map_or(1, |before| before + 1),
        rack: host.config.rack.clone(),
        addresses: addresses.to_vec(),
    };
    match propose(metadata, RegisterNode { node: record }.into()).await? {
        Outcome::RegisterNode(Ok(())) => {}
        other => return Err(refused(&other)),
    }
    // Nobody else has to know it. Where others were taken in already, they are asked first, when this node runs.
    let level = host.config.features_known;
    if level > metadata.state().feature_level() {
        propose(metadata, RaiseFeatures { level, nodes: vec![node] }.into()).await?;
    }
    Ok(cluster_id)
}

fn refused(outcome: &impl Debug) -> StartError {
    StartError::Metadata { reason: format!("{outcome:?}") }
}

/// The slots, in runs of nearly equal length, over `shards`.
fn slot_ranges(shards: &[ShardId]) -> Vec<SlotRange> {
    let count = u16::try_from(shards.len()).expect("at most 64 shards");
    assert!((1..=SLOTS).contains(&count), "slots need shards");
    let start =
        |place: u16| u16::try_from(u32::from(SLOTS) * u32::from(place) / u32::from(count)).expect("at most 1,024");
    let range =
        |(place, shard): (u16, &ShardId)| SlotRange { first: start(place), last: start(place + 1) - 1, shard: *shard };
    (0..count).zip(shards).map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_ranges_cover_every_slot_once() {
        for count in 1..=64 {
            let shards: Vec<ShardId> = (1..=count).map(ShardId).collect();
            let ranges = slot_ranges(&shards);
            let mut next = 0;
            for (range, shard) in ranges.iter().zip(&shards) {
                assert_eq!((range.first, range.shard), (next, *shard));
                assert!(range.last >= range.first);
                next = range.last + 1;
            }
            assert_eq!(next, SLOTS);
        }
    }
}
