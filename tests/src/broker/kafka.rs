//! A real Kafka as one combined KRaft node on the loopback interface.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::{Settings, free_port, write_file};
use crate::{install, places, process};

/// The command that runs the broker; formats its folder at the first start.
pub(super) fn command(settings: &Settings, home: &Path, port: u16) -> Result<Command> {
    let java = install::java::installed()?;
    let file = home.join("server.properties");
    if !file.exists() {
        write_file(&file, &properties(settings, home, port)?)?;
        let mut format = java.command("kafka.tools.StorageTool");
        format.args(["format", "--cluster-id", "cmVmZXJlbmNlLWthZmthMQ", "--standalone", "--config"]).arg(&file);
        process::run(&mut format, Duration::from_secs(60))?;
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

fn properties(settings: &Settings, home: &Path, port: u16) -> Result<String> {
    let controller = free_port()?;
    let mut listeners = vec![format!("PLAINTEXT://127.0.0.1:{port}"), format!("CONTROLLER://127.0.0.1:{controller}")];
    let mut advertised = listeners.clone();
    let mut protocols = vec!["PLAINTEXT:PLAINTEXT".to_owned(), "CONTROLLER:PLAINTEXT".to_owned()];
    for extra in &settings.listeners {
        let name = extra.name.to_uppercase();
        listeners.push(format!("{name}://{}", extra.address));
        advertised.push(format!("{name}://{}", extra.advertised));
        protocols.push(format!("{name}:PLAINTEXT"));
    }
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("listeners={}", listeners.join(",")),
        format!("advertised.listeners={}", advertised.join(",")),
        "controller.listener.names=CONTROLLER".to_owned(),
        "inter.broker.listener.name=PLAINTEXT".to_owned(),
        format!("listener.security.protocol.map={}", protocols.join(",")),
        format!("controller.quorum.bootstrap.servers=127.0.0.1:{controller}"),
        format!("log.dirs={}", home.join("data").display()),
        format!("num.partitions={}", settings.partitions),
        format!("group.initial.rebalance.delay.ms={}", settings.group_initial_rebalance_delay_ms),
        "offsets.topic.replication.factor=1".to_owned(),
        "transaction.state.log.replication.factor=1".to_owned(),
        "transaction.state.log.min.isr=1".to_owned(),
        "share.coordinator.state.topic.replication.factor=1".to_owned(),
        "share.coordinator.state.topic.min.isr=1".to_owned(),
    ];
    if let Some(idle) = settings.connections_idle_ms {
        lines.push(format!("connections.max.idle.ms={idle}"));
    }
    if let Some(max) = settings.connections_max {
        lines.push(format!("max.connections={max}"));
    }
    if let Some(bytes) = settings.segment_bytes {
        lines.push(format!("log.segment.bytes={bytes}"));
    }
    if settings.flush_every_message {
        lines.push("log.flush.interval.messages=1".to_owned());
    }
    lines.extend(settings.properties.iter().map(|(key, value)| format!("{key}={value}")));
    Ok(lines.join("\n") + "\n")
}
