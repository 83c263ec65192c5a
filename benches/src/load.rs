//! Clients that outrun a broker: requests are built once, few threads, no work on what comes back beyond what is
//! measured. They speak the plain encodings of Kafka's protocol, so that the same bytes go to every broker.
//!
//! Each runs in a process of its own (`benches load ...`) and prints one JSON object, so that its processor time is
//! told apart from the broker's and from that of the bench itself.

mod burn;
mod engine;
mod fetch;
mod gap;
mod hinted;
mod idle;
mod keyed;
mod open_loop;
mod produce;
mod replicated;
mod request;
mod socket;
mod streams;
mod topology;

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;

pub(crate) use burn::BurnLoad;
pub(crate) use fetch::FetchLoad;
pub(crate) use gap::GapLoad;
pub(crate) use idle::{IdleLoad, StoppedLoad};
pub(crate) use keyed::KeyedLoad;
pub(crate) use open_loop::OpenLoopLoad;
pub(crate) use produce::ProduceLoad;
pub(crate) use replicated::ReplicatedLoad;
pub(crate) use streams::StreamsLoad;
pub(crate) use topology::{Topology, ensure_replicated};

/// One load and its parameters.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Load {
    /// Connections with a number of Produce requests in flight each, as fast as acks come.
    Produce(ProduceLoad),
    /// Records at a fixed rate; latency from the time each was due.
    OpenLoop(OpenLoopLoad),
    /// Records with keys, each of which is written several times.
    Keyed(KeyedLoad),
    /// Reads partitions from their beginning as fast as they come.
    Fetch(FetchLoad),
    /// Connections that do nothing, held until standard input ends.
    Idle(IdleLoad),
    /// Connections that stop in the middle of a large request, held until standard input ends.
    Stopped(StoppedLoad),
    /// Produce to every partition's leader in a cluster, following leaders when they change.
    Replicated(ReplicatedLoad),
    /// Records at a fixed rate to every partition's leader; the longest time between two acks of a partition.
    Gap(GapLoad),
    /// No broker: threads that keep cores busy.
    Burn(BurnLoad),
    /// No broker: the state of a shard with very many streams.
    Streams(StreamsLoad),
}

impl Load {
    pub(crate) fn run(&self) -> Result<Value> {
        match self {
            Self::Produce(load) => load.run(),
            Self::OpenLoop(load) => load.run(),
            Self::Keyed(load) => load.run(),
            Self::Fetch(load) => load.run(),
            Self::Idle(load) => load.run(),
            Self::Stopped(load) => load.run(),
            Self::Replicated(load) => load.run(),
            Self::Gap(load) => load.run(),
            Self::Burn(load) => load.run(),
            Self::Streams(load) => load.run(),
        }
    }
}
