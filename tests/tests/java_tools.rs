//! Kafka's own command-line tools, through the classes that its scripts start.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::broker::{Broker, Settings};
use tests::install::java::{self, Java};
use tests::{process, toolchain};

const LIMIT: Duration = Duration::from_secs(120);

/// The broker and the tools, or nothing where there is no JDK.
struct Bench {
    java: Java,
    broker: Broker,
}

impl Bench {
    fn new() -> Result<Option<Self>> {
        if !toolchain::require("Kafka's command-line tools", &["java", "javac", "mvn"])? {
            return Ok(None);
        }
        Ok(Some(Self { java: java::installed()?, broker: Settings::new()?.start()? }))
    }

    fn tool(&self, class: &str, arguments: &[&str]) -> Command {
        let mut command = self.java.command(class);
        command.args(["--bootstrap-server", &self.broker.bootstrap()]).args(arguments);
        command
    }

    fn run(&self, class: &str, arguments: &[&str]) -> Result<String> {
        Ok(process::run(&mut self.tool(class, arguments), LIMIT)?.text())
    }

    fn topics(&self, arguments: &[&str]) -> Result<String> {
        self.run("org.apache.kafka.tools.TopicCommand", arguments)
    }

    fn groups(&self, arguments: &[&str]) -> Result<String> {
        self.run("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", arguments)
    }

    fn configs(&self, arguments: &[&str]) -> Result<String> {
        self.run("kafka.admin.ConfigCommand", arguments)
    }

    fn console_produce(&self, topic: &str, lines: &str) -> Result<()> {
        let mut command = self.tool("org.apache.kafka.tools.ConsoleProducer", &["--topic", topic]);
        process::run_with_input(&mut command, lines.as_bytes().to_vec(), LIMIT)?;
        Ok(())
    }

    fn console_consume(&self, arguments: &[&str]) -> Result<String> {
        self.run("org.apache.kafka.tools.consumer.ConsoleConsumer", arguments)
    }
}

#[test]
fn kafka_topics() -> Result<()> {
    let Some(bench) = Bench::new()? else {
        return Ok(());
    };
    let created = bench.topics(&["--create", "--topic", "t", "--partitions", "3", "--config", "retention.ms=60000"])?;
    ensure!(created.contains("Created topic t."), "{created}");
    let listed = bench.topics(&["--list"])?;
    ensure!(listed.lines().any(|line| line == "t"), "{listed}");
    let described = bench.topics(&["--describe", "--topic", "t"])?;
    for expected in ["PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=60000", "Partition: 2"] {
        ensure!(described.contains(expected), "{expected} is not in {described}");
    }
    bench.topics(&["--alter", "--topic", "t", "--partitions", "5"])?;
    let grown = bench.topics(&["--describe", "--topic", "t"])?;
    ensure!(grown.contains("PartitionCount: 5"), "{grown}");
    bench.topics(&["--delete", "--topic", "t"])?;
    let listed = bench.topics(&["--list"])?;
    ensure!(!listed.lines().any(|line| line == "t"), "{listed}");
    Ok(())
}

#[test]
fn kafka_console_producer_consumer_and_consumer_groups() -> Result<()> {
    let Some(bench) = Bench::new()? else {
        return Ok(());
    };
    bench.topics(&["--create", "--topic", "t", "--partitions", "2"])?;
    bench.console_produce("t", "one\ntwo\nthree\n")?;
    let group = ["--topic", "t", "--group", "g", "--from-beginning", "--max-messages", "3", "--timeout-ms", "30000"];
    let consumed = bench.console_consume(&group)?;
    let mut lines: Vec<&str> = consumed.lines().collect();
    lines.sort_unstable();
    ensure!(lines == ["one", "three", "two"], "{consumed}");

    let described = bench.groups(&["--describe", "--group", "g"])?;
    let rows: Vec<Vec<&str>> =
        described.lines().filter(|line| line.starts_with("g ")).map(|line| line.split_whitespace().collect()).collect();
    let sum = |column: usize| -> i64 { rows.iter().filter_map(|row| row[column].parse::<i64>().ok()).sum() };
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG: a partition that nothing was read from may show "-".
    ensure!(sum(3) == 3 && sum(4) == 3 && sum(5) == 0, "{described}");
    ensure!(bench.groups(&["--list"])?.lines().any(|line| line == "g"), "the group is listed");
    let state = bench.groups(&["--describe", "--group", "g", "--state"])?;
    ensure!(state.contains("Empty"), "{state}");

    bench.console_produce("t", "four\n")?;
    let next = ["--topic", "t", "--group", "g", "--max-messages", "1", "--timeout-ms", "30000"];
    ensure!(bench.console_consume(&next)?.trim() == "four", "only what is new");

    let reset = ["--reset-offsets", "--group", "g", "--topic", "t", "--to-earliest", "--execute"];
    bench.groups(&reset)?;
    let again =
        bench.console_consume(&["--topic", "t", "--group", "g", "--max-messages", "4", "--timeout-ms", "30000"])?;
    ensure!(again.lines().count() == 4, "{again}");
    let deleted = bench.groups(&["--delete", "--group", "g"])?;
    ensure!(deleted.contains("successful"), "{deleted}");
    Ok(())
}

#[test]
fn kafka_configs() -> Result<()> {
    let Some(bench) = Bench::new()? else {
        return Ok(());
    };
    bench.topics(&["--create", "--topic", "t"])?;
    let topic = ["--entity-type", "topics", "--entity-name", "t"];
    let with = |more: &[&'static str]| [more, &topic[..]].concat();
    bench.configs(&with(&["--alter", "--add-config", "max.message.bytes=2000000"]))?;
    let described = bench.configs(&with(&["--describe"]))?;
    ensure!(described.contains("max.message.bytes=2000000"), "{described}");
    bench.configs(&with(&["--alter", "--delete-config", "max.message.bytes"]))?;
    let described = bench.configs(&with(&["--describe"]))?;
    ensure!(!described.contains("max.message.bytes"), "{described}");
    let all = bench.configs(&with(&["--describe", "--all"]))?;
    ensure!(all.contains("max.message.bytes=1048588"), "{all}");
    let broker = bench.configs(&["--describe", "--all", "--entity-type", "brokers", "--entity-name", "1"])?;
    ensure!(broker.contains("num.partitions=4"), "{broker}");
    Ok(())
}

#[test]
fn kafka_producer_perf_test_and_consumer_perf_test() -> Result<()> {
    let Some(bench) = Bench::new()? else {
        return Ok(());
    };
    let produce = ["--topic", "perf", "--num-records", "100000", "--record-size", "100", "--throughput", "-1"];
    let produced = bench.run(
        "org.apache.kafka.tools.ProducerPerformance",
        &[&produce[..], &["--command-property", "acks=all"]].concat(),
    )?;
    ensure!(produced.contains("100000 records sent"), "{produced}");
    let consume = ["--topic", "perf", "--num-records", "100000", "--timeout", "60000"];
    let consumed = bench.run("org.apache.kafka.tools.ConsumerPerformance", &consume)?;
    ensure!(consumed.contains("100000"), "{consumed}");
    Ok(())
}

#[test]
fn kafka_get_offsets_and_broker_api_versions() -> Result<()> {
    let Some(bench) = Bench::new()? else {
        return Ok(());
    };
    bench.topics(&["--create", "--topic", "t", "--partitions", "1"])?;
    bench.console_produce("t", "one\ntwo\n")?;
    let latest = bench.run("org.apache.kafka.tools.GetOffsetShell", &["--topic", "t"])?;
    ensure!(latest.contains("t:0:2"), "{latest}");
    let earliest = bench.run("org.apache.kafka.tools.GetOffsetShell", &["--topic", "t", "--time", "-2"])?;
    ensure!(earliest.contains("t:0:0"), "{earliest}");
    let versions = bench.run("org.apache.kafka.tools.BrokerApiVersionsCommand", &[])?;
    ensure!(versions.contains("Produce(0): 0 to 13"), "{versions}");
    ensure!(versions.contains("Fetch(1): 4 to 18"), "{versions}");
    Ok(())
}

#[test]
fn kafka_verifiable_clients() -> Result<()> {
    let Some(bench) = Bench::new()? else {
        return Ok(());
    };
    let produced = bench
        .run("org.apache.kafka.tools.VerifiableProducer", &["--topic", "v", "--max-messages", "500", "--acks", "-1"])?;
    ensure!(produced.contains("\"acked\":500"), "{produced}");
    let consumed = bench.run(
        "org.apache.kafka.tools.VerifiableConsumer",
        &["--topic", "v", "--group-id", "v", "--max-messages", "500", "--reset-policy", "earliest"],
    )?;
    ensure!(consumed.contains("offsets_committed"), "{consumed}");
    Ok(())
}
