//! What operators do: nodes that come and go, shards and partitions that move.

use anyhow::{Context, Result};

use super::Run;
use crate::wire::{Connection, admin};

/// Partitions that one request moves.
const REASSIGNED: usize = 4;

impl Run<'_> {
    pub(super) fn wipe(&mut self) -> Result<()> {
        let place = self.pick(self.cluster.nodes.len());
        let id = self.cluster.id(place)?;
        self.tell(&format!("the disk of place {place}, node {id}, is replaced by an empty one"));
        let node = &mut self.cluster.nodes[place];
        node.kill()?;
        node.wipe()?;
        node.spawn()?;
        node.wait_ready()?;
        self.cluster.drain_and_remove(id, self.plan.settle_limit)?;
        self.cluster.wait_settled(self.plan.settle_limit)
    }

    pub(super) fn drain(&mut self) -> Result<()> {
        let place = self.pick(self.cluster.nodes.len());
        let id = self.cluster.id(place)?.to_string();
        self.tell(&format!("place {place}, node {id}, is drained, and takes part again"));
        self.cluster.operate(&["drain", &id])?;
        self.hold();
        self.cluster.operate(&["resume", &id])?;
        self.cluster.wait_settled(self.plan.settle_limit)
    }

    pub(super) fn move_shard(&mut self) -> Result<()> {
        let status = self.cluster.status()?;
        let shards: Vec<_> =
            status.shards.iter().filter(|shard| shard.id != "meta" && shard.wanted.len() > 1).collect();
        let drawn = self.pick(shards.len());
        let shard = shards.get(drawn).context("no shard can be moved")?;
        let mut voters: Vec<String> = shard.wanted.iter().map(ToString::to_string).collect();
        voters.rotate_left(1);
        self.tell(&format!("shard {} goes to {voters:?}", shard.id));
        self.cluster.operate(&["move", &shard.id, &voters.join(",")])?;
        self.cluster.wait_settled(self.plan.settle_limit)
    }

    /// A node that comes under load, gets copies, slots and partitions, and goes again with its disk.
    pub(super) fn grow(&mut self) -> Result<()> {
        let place = self.cluster.add()?;
        let id = self.cluster.id(place)?;
        self.tell(&format!("place {place}, node {id}, comes"));
        self.cluster.wait_settled(self.plan.settle_limit)?;
        self.reassign()?;
        self.tell(&format!("node {id} goes"));
        self.cluster.drain_and_remove(id, self.plan.settle_limit)?;
        self.cluster.assert_no_panics()?;
        self.cluster.forget_last()?;
        self.cluster.wait_settled(self.plan.settle_limit)
    }

    /// While nodes do not balance partitions by themselves, which they do again at the end, at once, as they are told to.
    pub(super) fn reassign(&mut self) -> Result<()> {
        self.cluster.operate(&["rebalance", "--stop"])?;
        self.reassign_some()?;
        self.hold();
        self.cluster.operate(&["rebalance"])?;
        self.cluster.wait_settled(self.plan.settle_limit)
    }

    /// Asks for some partitions to be where some shard is.
    fn reassign_some(&mut self) -> Result<()> {
        let status = self.cluster.status()?;
        let shards: Vec<_> = status.shards.iter().filter(|shard| shard.id != "meta").collect();
        let shard = *shards.get(self.pick(shards.len())).context("no shard of data")?;
        let replicas: Vec<i32> = shard.wanted.iter().map(|id| i32::try_from(*id)).collect::<Result<_, _>>()?;
        let count = usize::try_from(self.plan.load.partitions)?;
        let mut partitions: Vec<i32> =
            (0..REASSIGNED).map(|_| Ok(i32::try_from(self.pick(count))?)).collect::<Result<_>>()?;
        partitions.sort_unstable();
        partitions.dedup();
        let drawn = self.cluster.running();
        let place = *drawn.get(self.pick(drawn.len())).context("no node runs")?;
        let mut connection = Connection::open(self.cluster.nodes[place].kafka())?;
        let errors = admin::reassign(&mut connection, &self.plan.load.topic, &partitions, &replicas)?;
        self.tell(&format!("partitions {partitions:?} are to be at nodes {replicas:?}: errors {errors:?}"));
        Ok(())
    }
}
