//! What a leader has taken and cannot learn the fate of: its client is told so, and not that it was refused, and what it
//! sends again is there once.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::cluster::{Cluster, Settings};
use tests::wire::requests::{
    PRODUCE, PRODUCE_VERSION, Produced, create_topic_replicated, produce_answer, produce_body,
};
use tests::wire::{Batch, Connection};

const PRODUCER: i64 = 1_000;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const REQUEST_TIMED_OUT: i16 = 7;
/// A leader that hears from nobody gives up what it took after a second.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const LEADER_MAX: Duration = Duration::from_secs(30);

fn send(connection: &mut Connection, sequence: i32) -> Result<()> {
    let batch = Batch::of(vec![sequence.to_string().into_bytes()]).produced_by(PRODUCER, 0, sequence).build();
    connection.send(PRODUCE, PRODUCE_VERSION, &produce_body("t", 0, -1, 30_000, &batch))
}

/// Sends the batch to one node after the other until one takes it; which, and what it said.
fn produce(cluster: &Cluster, sequence: i32) -> Result<(usize, Produced)> {
    let deadline = Instant::now() + LEADER_MAX;
    loop {
        for (place, node) in cluster.nodes.iter().enumerate() {
            let mut connection = Connection::open(node.kafka())?;
            send(&mut connection, sequence)?;
            let told = produce_answer(&connection.answer()?)?;
            if told.error == 0 {
                return Ok((place, told));
            }
            let may_be_asked_again = matches!(told.error, NOT_LEADER_OR_FOLLOWER | REQUEST_TIMED_OUT);
            ensure!(may_be_asked_again && Instant::now() < deadline, "{told:?}\n{}", cluster.log_tails());
        }
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_batch_of_unknown_fate_is_not_called_refused_and_is_there_once() -> Result<()> {
    let mut cluster = Cluster::start(3, Settings::default())?;
    let mut client = Connection::open(cluster.nodes[0].kafka())?;
    ensure!(create_topic_replicated(&mut client, "t", 1, -1, &[])? == 0, "a topic");
    let mut next = 0;
    for round in 0..3 {
        let (leader, told) = produce(&cluster, next)?;
        ensure!(told.base_offset == i64::from(next), "round {round}: {told:?}");
        let mut writer = Connection::open(cluster.nodes[leader].kafka())?;
        let others: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
        for place in &others {
            cluster.nodes[*place].pause()?;
        }
        writer.set_limit(ANSWER_MAX)?;
        send(&mut writer, next + 1)?;
        let taken = produce_answer(&writer.answer()?)?;
        send(&mut writer, next + 2)?;
        let refused = produce_answer(&writer.answer()?)?;
        for place in &others {
            cluster.nodes[*place].resume()?;
        }
        ensure!(taken.error == REQUEST_TIMED_OUT, "round {round}: {taken:?}\n{}", cluster.log_tails());
        ensure!(refused.error == NOT_LEADER_OR_FOLLOWER, "round {round}: {refused:?}\n{}", cluster.log_tails());
        for sequence in next + 1..next + 3 {
            let (_, told) = produce(&cluster, sequence)?;
            ensure!(told.base_offset == i64::from(sequence), "round {round}: {told:?}\n{}", cluster.log_tails());
        }
        next += 3;
    }
    cluster.assert_healthy()
}
