//! A node of a cluster that is told to stop does so in seconds, whoever of the others is there, and whoever waits for it
//! is told something that makes clients try again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::cluster::{Cluster, Settings};
use tests::wire::requests::{PRODUCE, PRODUCE_VERSION, create_topic_replicated, produce_answer, produce_body};
use tests::wire::{Batch, Connection};

const PARTITIONS: i32 = 6;
/// Far below what the stop of a node may take that waits for its disk.
const STOP_MAX: Duration = Duration::from_secs(7);
/// Another node leads the partition.
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
/// This one did, and it may be written.
const REQUEST_TIMED_OUT: i16 = 7;

#[test]
fn the_last_of_three_stops_while_it_waits_for_the_others() -> Result<()> {
    let mut cluster = Cluster::start(3, Settings::default())?;
    let mut client = Connection::open(cluster.nodes[2].kafka())?;
    ensure!(create_topic_replicated(&mut client, "t", PARTITIONS, -1, &[])? == 0, "a topic");
    let mut writers = Vec::new();
    for _ in 0..PARTITIONS {
        writers.push(Connection::open(cluster.nodes[2].kafka())?);
    }
    for place in 0..2 {
        cluster.nodes[place].kill()?;
    }
    for (partition, writer) in (0..).zip(&mut writers) {
        let batch = Batch::of(vec![b"x".to_vec()]).build();
        writer.send(PRODUCE, PRODUCE_VERSION, &produce_body("t", partition, -1, 30_000, &batch))?;
    }
    let began = Instant::now();
    let status = cluster.nodes[2].stop()?;
    let took = began.elapsed();
    ensure!(status.success(), "{status}\n{}", cluster.log_tails());
    ensure!(took < STOP_MAX, "{took:?}\n{}", cluster.log_tails());
    for writer in &mut writers {
        let told = produce_answer(&writer.answer()?)?;
        ensure!(matches!(told.error, NOT_LEADER_OR_FOLLOWER | REQUEST_TIMED_OUT), "{told:?}");
    }
    Ok(())
}
