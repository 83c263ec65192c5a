//! The rows of the table, in its order.

mod cluster;
mod connections;
mod consume;
mod latency;
mod produce;
mod raft;
mod restart;
mod space;
mod start;
mod streams;
mod synchronous;
mod topics;
mod written;

use anyhow::{Result, bail};

use crate::peers::Plan;
use crate::report::Line;

/// One row, which may print several lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(&Plan) -> Result<Vec<Line>>,
}

pub(crate) const ALL: &[Row] = &[
    Row { name: "raft", what: "1 KiB appends through proposer, Raft and shard / the bare writer", run: raft::run },
    Row {
        name: "produce4",
        what: "1 KiB, 16 partitions, acks=all, four rdkafka_performance at once",
        run: produce::four,
    },
    Row { name: "produce1", what: "the same, one producer process", run: produce::one },
    Row { name: "produce100", what: "the same, 100-byte records", run: produce::small },
    Row { name: "bulk", what: "1 KiB from a producer that outruns librdkafka", run: produce::bulk },
    Row { name: "bulk16", what: "the same, each request to 16 partitions", run: produce::bulk_spread },
    Row { name: "bulk100", what: "100 bytes from a producer that outruns librdkafka", run: produce::bulk_small },
    Row { name: "sync256", what: "256 synchronous producers, 1 KiB", run: synchronous::many },
    Row { name: "sync1", what: "one synchronous producer, 1 KiB", run: synchronous::one },
    Row {
        name: "consume",
        what: "consume 1 KiB, first read after writing, from memory and from files",
        run: consume::run,
    },
    Row { name: "latency", what: "ack latency at 50,000 x 100 B/s from the due time", run: latency::run },
    Row { name: "written", what: "bytes written to the device per byte produced", run: written::run },
    Row { name: "start", what: "start to first answer; memory and processor when idle", run: start::run },
    Row { name: "idle", what: "10,000 idle connections", run: connections::idle },
    Row {
        name: "stopped",
        what: "1,000 clients that stop in the middle of a 100 MiB request",
        run: connections::stopped,
    },
    Row { name: "restart", what: "restart after kill -9 with 10 GB in 16 partitions", run: restart::run },
    Row { name: "topics", what: "100,000 single-partition topics", run: topics::run },
    Row { name: "cluster-produce", what: "three nodes: 1 KiB, three replicas, acks=all", run: cluster::produce::run },
    Row {
        name: "cluster-gap-kill",
        what: "three nodes: longest time without acks after kill -9 of a leader",
        run: cluster::gap::kill,
    },
    Row { name: "cluster-gap-stop", what: "three nodes: the same after SIGSTOP of a leader", run: cluster::gap::stop },
    Row { name: "cluster-steady", what: "three nodes: ten minutes with all cores full", run: cluster::steady::run },
    Row { name: "cluster-drain", what: "three nodes: the same gap when a node is drained", run: cluster::drain::run },
    Row { name: "cluster-idle", what: "three nodes that do nothing", run: cluster::idle::run },
    Row {
        name: "cluster-move",
        what: "four nodes: a replica moves while others produce 20 MB/s",
        run: cluster::moving::run,
    },
    Row {
        name: "space-written",
        what: "bytes written to the device per byte produced, expiring and kept",
        run: space::written::run,
    },
    Row {
        name: "space-read",
        what: "one of 16 interleaved partitions, nothing in memory, in the log and in objects",
        run: space::read::run,
    },
    Row {
        name: "space-pace",
        what: "produce at 100 MB/s for ten minutes, rewriting at work and not",
        run: space::pace::run,
    },
    Row {
        name: "space-compact",
        what: "key compaction of 10 GB with 1,000,000 keys, beside Kafka's cleaner",
        run: space::compact::run,
    },
    Row {
        name: "space-start",
        what: "start and memory with 100 GB of objects whose blocks are holes",
        run: space::start::run,
    },
    Row { name: "space-shared", what: "bytes written for 1 KiB that goes to 1,000 streams", run: space::shared::run },
    Row { name: "streams", what: "1,000,000 idle streams; pause of apply by a checkpoint", run: streams::run },
];

/// The rows named, in the table's order.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<Row>> {
    if names.iter().any(|name| name == "all") {
        return Ok(ALL.to_vec());
    }
    for name in names {
        if !ALL.iter().any(|row| row.name == name) {
            let known: Vec<&str> = ALL.iter().map(|row| row.name).collect();
            bail!("no row {name:?}; there are all, {}", known.join(", "));
        }
    }
    Ok(ALL.iter().filter(|row| names.iter().any(|name| name == row.name)).copied().collect())
}
