//! The leader epochs of partitions whose shard has no copy on this node.
//!
//! A stream's epoch is the count of its shard's leader changes and a number that stays the same while it grows there. The
//! leader tells the count to all nodes with its status. The number is asked for once, and known from then on: clients that
//! are told of no epoch by one node after another told them of one do not believe the first (KIP-320).

use std::collections::BTreeMap;

use base::time::Duration;
use futures_util::future::join_all;
use record::{NodeId, ShardId, StreamId};
use shard::codec::decode;

use crate::cluster::Cluster;
use crate::messages::Request;

/// Streams in one request; an answer stays far below what a frame may have.
const STREAMS_ASKED_MAX: usize = 65_536;
/// How long an answer is waited for: without one clients are told of a leader without its epoch.
const WAIT_MAX: Duration = Duration::from_millis(500);

impl Cluster {
    /// Asks for what this node needs to tell the epochs of these streams, of those whose leader it hears of. Takes half a
    /// second at most.
    pub async fn learn_epochs(&self, wanted: BTreeMap<ShardId, Vec<StreamId>>) {
        let node = &self.inner.node;
        let others_lead = |shard: ShardId| {
            let leader = node.leader(shard).filter(|leader| *leader != node.id());
            leader.filter(|leader| node.statuses.is_live(*leader))
        };
        let led = wanted.iter().filter_map(|(shard, streams)| Some((*shard, streams, others_lead(*shard)?)));
        let asked = led.flat_map(|(shard, streams, leader)| {
            streams.chunks(STREAMS_ASKED_MAX).map(move |streams| self.ask_for_epochs(leader, shard, streams))
        });
        join_all(asked).await;
    }

    async fn ask_for_epochs(&self, leader: NodeId, shard: ShardId, streams: &[StreamId]) {
        let node = &self.inner.node;
        let request = Request::EpochShifts(streams.to_vec());
        let answer = match node.ask(leader, shard, &request, WAIT_MAX).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(shard = shard.0, leader = leader.0, %error, "the epochs of partitions are not known");
                return;
            }
        };
        match decode::<Vec<Option<i64>>>(&answer) {
            Ok(shifts) if shifts.len() == streams.len() => {
                let known = streams.iter().zip(shifts).filter_map(|(stream, shift)| Some((*stream, shift?)));
                node.shards.handle(shard).learn_epochs(known);
            }
            Ok(_) => tracing::warn!(leader = leader.0, "epochs of other streams than were asked for"),
            Err(error) => tracing::warn!(leader = leader.0, %error, "epochs that cannot be read"),
        }
    }
}
