//! What is left of a cluster goes on without the nodes that were lost, also when these come back with what they have.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::broker::rosettamq_binary;
use tests::cluster::{Cluster, SETTLE_LIMIT, Settings};
use tests::process;
use tests::wire::requests::{
    PRODUCE, PRODUCE_VERSION, create_topic_replicated, leaders, produce_answer, produce_body, read_all,
};
use tests::wire::{Batch, Connection};

const PARTITIONS: i32 = 6;
const PER_PARTITION: usize = 20;
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const LEADER_MAX: Duration = Duration::from_secs(60);

/// Goes on at one node until it has acknowledged the records.
fn write(cluster: &Cluster, place: usize) -> Result<()> {
    let deadline = Instant::now() + LEADER_MAX;
    let mut connection = Connection::open(cluster.nodes[place].kafka())?;
    for partition in 0..PARTITIONS {
        for number in 0..PER_PARTITION {
            let batch = Batch::of(vec![number.to_string().into_bytes()]).build();
            loop {
                let body = produce_body("t", partition, -1, 30_000, &batch);
                let told = produce_answer(&connection.call(PRODUCE, PRODUCE_VERSION, &body)?)?;
                if told.error == 0 {
                    break;
                }
                ensure!(Instant::now() < deadline, "{told:?}\n{}", cluster.log_tails());
                sleep(Duration::from_millis(50));
            }
        }
    }
    Ok(())
}

/// All that was acknowledged is there, whoever leads.
fn assert_all_there(cluster: &Cluster, place: usize) -> Result<()> {
    for partition in 0..PARTITIONS {
        let deadline = Instant::now() + LEADER_MAX;
        let found = loop {
            match read(cluster, place, partition) {
                Ok(found) => break found,
                // Leaders still go to the nodes where they are to be.
                Err(error) if Instant::now() >= deadline => return Err(error.context(cluster.log_tails())),
                Err(_) => sleep(Duration::from_millis(100)),
            }
        };
        let missing = (0..PER_PARTITION).find(|number| !found.contains(&number.to_string().into_bytes()));
        ensure!(missing.is_none(), "record {missing:?} of partition {partition}\n{}", cluster.log_tails());
    }
    Ok(())
}

fn read(cluster: &Cluster, place: usize, partition: i32) -> Result<BTreeSet<Vec<u8>>> {
    let leaders = leaders(&mut Connection::open(cluster.nodes[place].kafka())?, "t")?;
    let leader = leaders.get(&partition).with_context(|| format!("partition {partition} has no leader"))?;
    let records = read_all(&mut Connection::open(*leader)?, "t", partition, 0)?;
    Ok(records.into_iter().map(|record| record.value).collect())
}

/// The command on the directory of the node at place 2.
fn recover(cluster: &Cluster, lost: &[u64; 2], accepted: bool) -> Result<Command> {
    let mut recover = Command::new(rosettamq_binary()?);
    recover.args(["cluster", "recover", "--data-dir"]).arg(cluster.nodes[2].data());
    recover.args(["--without", &format!("{},{}", lost[0], lost[1])]);
    recover.args(accepted.then_some("--accept-loss-of-acknowledged-data"));
    Ok(recover)
}

#[test]
fn nodes_that_were_lost_end_when_they_come_back_and_join_when_they_are_emptied() -> Result<()> {
    let mut cluster = Cluster::start(3, Settings::default())?;
    let mut client = Connection::open(cluster.nodes[0].kafka())?;
    ensure!(create_topic_replicated(&mut client, "t", PARTITIONS, -1, &[])? == 0, "a topic");
    drop(client);
    let lost = [cluster.id(0)?, cluster.id(1)?];
    cluster.nodes[0].kill()?;
    cluster.nodes[2].stop()?;
    let refused = process::finish(&mut recover(&cluster, &lost, true)?, None, COMMAND_LIMIT)?;
    let said = format!("node {} at {} answers: what answers is not lost", lost[1], cluster.nodes[1].internal());
    ensure!(refused.status.code() == Some(1) && refused.stderr.contains(&said), "{refused:?}");
    let looked = process::finish(&mut recover(&cluster, &lost, false)?, None, COMMAND_LIMIT)?;
    ensure!(looked.status.success() && looked.text().contains(&said), "{looked:?}");
    cluster.nodes[1].kill()?;
    let recovered = process::finish(&mut recover(&cluster, &lost, true)?, None, COMMAND_LIMIT)?;
    ensure!(recovered.status.success(), "{recovered:?}");
    cluster.nodes[2].spawn()?;
    cluster.nodes[2].wait_ready()?;
    write(&cluster, 2)?;

    for place in 0..2 {
        cluster.nodes[place].spawn()?;
    }
    for (place, id) in lost.iter().enumerate() {
        let status = cluster.nodes[place].wait_end()?;
        ensure!(status.code() == Some(1), "{status}\n{}", cluster.log_tails());
        let log = cluster.nodes[place].log_tail();
        for part in [format!("the cluster has removed node {id} for good"), "empty its data directory".to_owned()] {
            ensure!(log.contains(&part), "{part}\n{log}");
        }
    }
    assert_all_there(&cluster, 2)?;

    for place in 0..2 {
        cluster.nodes[place].wipe()?;
        cluster.nodes[place].spawn()?;
        cluster.nodes[place].wait_ready()?;
    }
    cluster.wait_settled(SETTLE_LIMIT)?;
    for place in 0..2 {
        let id = cluster.id(place)?;
        ensure!(!lost.contains(&id), "node {id} is a new one");
    }
    assert_all_there(&cluster, 0)?;
    cluster.assert_healthy()
}
