//! Kafka's nodes: brokers and controllers at once, as its documentation has them for three.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::{install, places, process};

use super::{Node, REPLICAS};
use crate::peers::Side;

const CLUSTER: &str = "cmVmZXJlbmNlLWthZmthMQ";

/// The command that runs a node; formats its folder at the first start.
pub(super) fn command(nodes: &[Node], place: usize, side: Side) -> Result<Command> {
    let java = install::java::installed()?;
    let node = &nodes[place];
    let file = node.home.join("server.properties");
    if !file.exists() {
        fs::write(&file, properties(nodes, place, side)).context("writing the node's properties")?;
        // Every voter's directory is named, so that each can be formatted apart from the others.
        let voters: Vec<String> = (0..nodes.len())
            .map(|at| format!("{}@127.0.0.1:{}:cmVmZXJlbmNlLWRpci0{}MQ", at + 1, nodes[at].inner_port, at + 1))
            .collect();
        let mut format = java.command("kafka.tools.StorageTool");
        format.args(["format", "--cluster-id", CLUSTER, "--initial-controllers", &voters.join(","), "--config"]);
        process::run(format.arg(&file), Duration::from_secs(60))?;
    }
    let mut command = Command::new("java");
    // The options of Kafka's own start script, without JMX and the log of the collector.
    command.args(["-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]);
    command.args(["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]);
    command.arg("-Djava.awt.headless=true");
    let log4j = places::client_sources().join("java/log4j2-broker.properties");
    command.arg(format!("-Dlog4j2.configurationFile={}", log4j.display()));
    command.arg("-cp").arg(java.classpath()).arg("kafka.Kafka").arg(file);
    Ok(command)
}

fn properties(nodes: &[Node], place: usize, side: Side) -> String {
    let node = &nodes[place];
    let controllers: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.inner_port)).collect();
    let listeners = format!("PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{}", node.port, node.inner_port);
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        format!("node.id={}", place + 1),
        format!("listeners={listeners}"),
        format!("advertised.listeners={listeners}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        "inter.broker.listener.name=PLAINTEXT".to_owned(),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
        format!("controller.quorum.bootstrap.servers={}", controllers.join(",")),
        format!("log.dirs={}", node.home.join("data").display()),
        format!("default.replication.factor={REPLICAS}"),
        "min.insync.replicas=2".to_owned(),
        format!("offsets.topic.replication.factor={REPLICAS}"),
        format!("transaction.state.log.replication.factor={REPLICAS}"),
        "transaction.state.log.min.isr=2".to_owned(),
        format!("share.coordinator.state.topic.replication.factor={REPLICAS}"),
        "share.coordinator.state.topic.min.isr=2".to_owned(),
    ];
    if side == Side::KafkaFlushing {
        lines.push("log.flush.interval.messages=1".to_owned());
    }
    lines.join("\n") + "\n"
}

/// Gives every partition's leadership back to its first replica, which otherwise takes minutes.
pub(super) fn elect_preferred(servers: &str) -> Result<()> {
    let java = install::java::installed()?;
    let mut elect = java.command("org.apache.kafka.tools.LeaderElectionCommand");
    elect.args(["--bootstrap-server", servers, "--election-type", "preferred", "--all-topic-partitions"]);
    // Those that lead already are reported as errors.
    process::finish(&mut elect, None, Duration::from_secs(60))?;
    Ok(())
}
