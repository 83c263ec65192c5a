//! Kafka's own command-line tools, through the classes that its scripts start.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::install::java::{self, Java};
use crate::served::Served;
use crate::{process, toolchain};

const LIMIT: Duration = Duration::from_secs(120);

/// The tools against what is served, with topics and groups under a prefix.
#[derive(Clone, Debug)]
pub struct JavaTools {
    java: Java,
    served: Served,
    prefix: String,
}

impl JavaTools {
    /// Nothing where there is no JDK.
    pub fn new(served: Served, prefix: &str) -> Result<Option<Self>> {
        if !toolchain::require("Kafka's command-line tools", &["java", "javac", "mvn"])? {
            return Ok(None);
        }
        Ok(Some(Self { java: java::installed()?, served, prefix: prefix.to_owned() }))
    }

    /// All checks; what failed.
    pub fn check_all(&self) -> Vec<String> {
        type Check = fn(&JavaTools) -> Result<()>;
        let checks: [(&str, Check); 9] = [
            ("topics", Self::topics),
            ("console_and_groups", Self::console_and_groups),
            ("configs", Self::configs),
            ("perf_tests", Self::perf_tests),
            ("offsets_and_versions", Self::offsets_and_versions),
            ("delete_records", Self::delete_records),
            ("log_dirs", Self::log_dirs),
            ("verifiable_clients", Self::verifiable_clients),
            ("metadata_quorum", Self::metadata_quorum),
        ];
        let mut failed = Vec::new();
        for (name, check) in checks {
            if let Err(error) = check(self) {
                failed.push(format!("Kafka's tools, {name}: {error:#}"));
            }
        }
        failed
    }

    /// kafka-topics
    pub fn topics(&self) -> Result<()> {
        let t = &self.name("topics");
        let create = ["--create", "--topic", t, "--partitions", "3", "--config", "retention.ms=60000"];
        let created = self.topic_command(&create)?;
        ensure!(created.contains(&format!("Created topic {t}.")), "{created}");
        let listed = self.topic_command(&["--list"])?;
        ensure!(listed.lines().any(|line| line == t), "{listed}");
        let described = self.topic_command(&["--describe", "--topic", t])?;
        let copies = format!("ReplicationFactor: {}", self.served.copies());
        for expected in ["PartitionCount: 3", &copies, "retention.ms=60000", "Partition: 2"] {
            ensure!(described.contains(expected), "{expected} is not in {described}");
        }
        self.topic_command(&["--alter", "--topic", t, "--partitions", "5"])?;
        let grown = self.topic_command(&["--describe", "--topic", t])?;
        ensure!(grown.contains("PartitionCount: 5"), "{grown}");
        self.topic_command(&["--delete", "--topic", t])?;
        let listed = self.topic_command(&["--list"])?;
        ensure!(!listed.lines().any(|line| line == t), "{listed}");
        Ok(())
    }

    /// kafka-console-producer, kafka-console-consumer and kafka-consumer-groups
    pub fn console_and_groups(&self) -> Result<()> {
        let (t, g) = (&self.name("console"), &self.name("console-group"));
        self.topic_command(&["--create", "--topic", t, "--partitions", "2"])?;
        self.console_produce(t, "one\ntwo\nthree\n")?;
        let group = ["--topic", t, "--group", g, "--from-beginning", "--max-messages", "3", "--timeout-ms", "30000"];
        let consumed = self.console_consume(&group)?;
        let mut lines: Vec<&str> = consumed.lines().collect();
        lines.sort_unstable();
        ensure!(lines == ["one", "three", "two"], "{consumed}");

        let described = self.groups(&["--describe", "--group", g])?;
        let row = |line: &&str| line.split_whitespace().next() == Some(g);
        let rows: Vec<Vec<&str>> =
            described.lines().filter(row).map(|line| line.split_whitespace().collect()).collect();
        let sum = |column: usize| -> i64 { rows.iter().filter_map(|row| row[column].parse::<i64>().ok()).sum() };
        // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG: a partition that nothing was read from may show "-".
        ensure!(sum(3) == 3 && sum(4) == 3 && sum(5) == 0, "{described}");
        ensure!(self.groups(&["--list"])?.lines().any(|line| line == g), "the group is listed");
        let state = self.groups(&["--describe", "--group", g, "--state"])?;
        ensure!(state.contains("Empty"), "{state}");

        self.console_produce(t, "four\n")?;
        let next = ["--topic", t, "--group", g, "--max-messages", "1", "--timeout-ms", "30000"];
        ensure!(self.console_consume(&next)?.trim() == "four", "only what is new");

        let reset = ["--reset-offsets", "--group", g, "--topic", t, "--to-earliest", "--execute"];
        self.groups(&reset)?;
        let all = ["--topic", t, "--group", g, "--max-messages", "4", "--timeout-ms", "30000"];
        let again = self.console_consume(&all)?;
        ensure!(again.lines().count() == 4, "{again}");
        let deleted = self.groups(&["--delete", "--group", g])?;
        ensure!(deleted.contains("successful"), "{deleted}");
        Ok(())
    }

    /// kafka-configs
    pub fn configs(&self) -> Result<()> {
        let t = &self.name("configs");
        self.topic_command(&["--create", "--topic", t])?;
        let topic = ["--entity-type", "topics", "--entity-name", t];
        let with = |more: &[&'static str]| self.run("kafka.admin.ConfigCommand", &[more, &topic[..]].concat());
        with(&["--alter", "--add-config", "max.message.bytes=2000000"])?;
        let described = with(&["--describe"])?;
        ensure!(described.contains("max.message.bytes=2000000"), "{described}");
        with(&["--alter", "--delete-config", "max.message.bytes"])?;
        let described = with(&["--describe"])?;
        ensure!(!described.contains("max.message.bytes"), "{described}");
        let all = with(&["--describe", "--all"])?;
        ensure!(all.contains("max.message.bytes=1048588"), "{all}");
        let of_space = "cleanup.policy=[compact,delete],retention.ms=86400000,retention.bytes=1048576,segment.ms=600000,segment.bytes=1048576,delete.retention.ms=1000,min.cleanable.dirty.ratio=0.1";
        with(&["--alter", "--add-config", of_space])?;
        let described = with(&["--describe"])?;
        let of_space = of_space.replace("[compact,delete]", "compact;delete");
        for wanted in of_space.split(',').map(|wanted| wanted.replace(';', ",")) {
            ensure!(described.contains(&wanted), "{wanted} is not in {described}");
        }
        for (refused, why) in [
            ("retention.ms=-2", "Invalid value -2 for configuration retention.ms"),
            ("cleanup.policy=squash", "Invalid value squash for configuration cleanup.policy"),
            ("min.compaction.lag.ms=10,max.compaction.lag.ms=5", "min.compaction.lag.ms"),
        ] {
            let arguments = [&["--alter", "--add-config", refused], &topic[..]].concat();
            let text = self.refusal("kafka.admin.ConfigCommand", &arguments)?;
            ensure!(text.contains("InvalidConfigurationException") && text.contains(why), "{refused}: {text}");
        }
        let broker = ["--describe", "--all", "--entity-type", "brokers", "--entity-name", "1"];
        let broker = self.run("kafka.admin.ConfigCommand", &broker)?;
        ensure!(broker.contains("num.partitions=4"), "{broker}");
        Ok(())
    }

    /// kafka-producer-perf-test and kafka-consumer-perf-test
    pub fn perf_tests(&self) -> Result<()> {
        let t = &self.name("perf");
        let produce = ["--topic", t, "--num-records", "100000", "--record-size", "100", "--throughput", "-1"];
        let produce = [&produce[..], &["--command-property", "acks=all"]].concat();
        let produced = self.run("org.apache.kafka.tools.ProducerPerformance", &produce)?;
        ensure!(produced.contains("100000 records sent"), "{produced}");
        let consume = ["--topic", t, "--num-records", "100000", "--timeout", "60000"];
        let consumed = self.run("org.apache.kafka.tools.ConsumerPerformance", &consume)?;
        ensure!(consumed.contains("100000"), "{consumed}");
        Ok(())
    }

    /// kafka-get-offsets and kafka-broker-api-versions
    pub fn offsets_and_versions(&self) -> Result<()> {
        let t = &self.name("offsets");
        self.topic_command(&["--create", "--topic", t, "--partitions", "1"])?;
        self.console_produce(t, "one\ntwo\n")?;
        let latest = self.run("org.apache.kafka.tools.GetOffsetShell", &["--topic", t])?;
        ensure!(latest.contains(&format!("{t}:0:2")), "{latest}");
        let earliest = self.run("org.apache.kafka.tools.GetOffsetShell", &["--topic", t, "--time", "-2"])?;
        ensure!(earliest.contains(&format!("{t}:0:0")), "{earliest}");
        let versions = self.run("org.apache.kafka.tools.BrokerApiVersionsCommand", &[])?;
        ensure!(versions.contains("Produce(0): 0 to 13"), "{versions}");
        ensure!(versions.contains("Fetch(1): 4 to 18"), "{versions}");
        Ok(())
    }

    /// kafka-delete-records
    pub fn delete_records(&self) -> Result<()> {
        let t = &self.name("delete-records");
        self.topic_command(&["--create", "--topic", t, "--partitions", "1"])?;
        self.console_produce(t, "one\ntwo\nthree\n")?;
        let asked = |offset: i64| {
            let partition = format!(r#"{{"topic":"{t}","partition":0,"offset":{offset}}}"#);
            format!(r#"{{"version":1,"partitions":[{partition}]}}"#)
        };
        let file = tempfile::NamedTempFile::new()?;
        let path = file.path().to_str().context("a path in UTF-8")?;
        for (offset, first) in [(2, 2), (-1, 3)] {
            std::fs::write(path, asked(offset))?;
            let arguments = ["--offset-json-file", path];
            let deleted = self.run("org.apache.kafka.tools.DeleteRecordsCommand", &arguments)?;
            ensure!(deleted.contains(&format!("low_watermark: {first}")), "{deleted}");
            let earliest = self.run("org.apache.kafka.tools.GetOffsetShell", &["--topic", t, "--time", "-2"])?;
            ensure!(earliest.contains(&format!("{t}:0:{first}")), "{earliest}");
        }
        std::fs::write(path, asked(9))?;
        let refused = self.run("org.apache.kafka.tools.DeleteRecordsCommand", &["--offset-json-file", path])?;
        ensure!(refused.contains("OffsetOutOfRangeException"), "{refused}");
        Ok(())
    }

    /// kafka-log-dirs
    pub fn log_dirs(&self) -> Result<()> {
        let t = &self.name("log-dirs");
        self.topic_command(&["--create", "--topic", t, "--partitions", "2"])?;
        self.console_produce(t, &"as many bytes as this line has at least\n".repeat(100))?;
        let described = self.run("org.apache.kafka.tools.LogDirsCommand", &["--describe", "--topic-list", t])?;
        let json = described.lines().find(|line| line.starts_with('{')).context("a line of JSON")?;
        let answer: serde_json::Value = serde_json::from_str(json)?;
        let mut sizes = Vec::new();
        for broker in answer["brokers"].as_array().context("brokers")? {
            for dir in broker["logDirs"].as_array().context("directories")? {
                ensure!(dir["error"].is_null() && dir["logDir"].is_string(), "{json}");
                let partitions = dir["partitions"].as_array().context("partitions")?.iter();
                sizes.extend(partitions.map(|partition| (partition["partition"].clone(), partition["size"].as_u64())));
            }
        }
        for partition in ["-0", "-1"] {
            let of = |(name, _): &&(serde_json::Value, Option<u64>)| *name == format!("{t}{partition}");
            ensure!(sizes.iter().any(|size| of(&size)), "{partition} is not in {json}");
        }
        // The lines may be compressed, and lie on three nodes.
        ensure!(sizes.iter().filter_map(|(_, size)| *size).sum::<u64>() >= 100, "{json}");
        Ok(())
    }

    /// kafka-verifiable-producer and kafka-verifiable-consumer
    pub fn verifiable_clients(&self) -> Result<()> {
        let t = &self.name("verifiable");
        let produce = ["--topic", t, "--max-messages", "500", "--acks", "-1"];
        let produced = self.run("org.apache.kafka.tools.VerifiableProducer", &produce)?;
        ensure!(produced.contains("\"acked\":500"), "{produced}");
        let consume = ["--topic", t, "--group-id", t, "--max-messages", "500", "--reset-policy", "earliest"];
        let consumed = self.run("org.apache.kafka.tools.VerifiableConsumer", &consume)?;
        ensure!(consumed.contains("offsets_committed"), "{consumed}");
        Ok(())
    }

    /// kafka-metadata-quorum
    pub fn metadata_quorum(&self) -> Result<()> {
        let describe = |how| self.run("org.apache.kafka.tools.MetadataQuorumCommand", &["describe", how]);
        let status = describe("--status")?;
        let value = |name: &str| {
            let row = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            row.map(str::trim).with_context(|| format!("{name} is not in {status}"))
        };
        ensure!(value("LeaderId")?.parse::<u64>()? > 0, "{status}");
        ensure!(value("HighWatermark")?.parse::<u64>()? > 0, "{status}");
        // With a node that is away it may be much.
        ensure!(self.served.restarts || (0..10_000).contains(&value("MaxFollowerLag")?.parse::<i64>()?), "{status}");
        value("CurrentVoters")?;
        let replication = describe("--replication")?;
        // NodeId DirectoryId LogEndOffset Lag LastFetchTimestamp LastCaughtUpTimestamp Status
        let rows: Vec<Vec<&str>> = replication
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|row| row.len() == 7 && row[0].parse::<u64>().is_ok())
            .collect();
        ensure!(rows.iter().filter(|row| row[6] == "Leader").count() == 1, "{replication}");
        let is_known = |row: &Vec<&str>| row[2].parse::<u64>().is_ok() && row[3].parse::<u64>().is_ok();
        ensure!(self.served.restarts || rows.iter().all(is_known), "{replication}");
        ensure!(rows.len() == self.served.nodes, "{replication}");
        Ok(())
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn tool(&self, class: &str, arguments: &[&str]) -> Command {
        let mut command = self.java.command(class);
        command.args(["--bootstrap-server", &self.served.bootstrap]).args(arguments);
        command
    }

    fn run(&self, class: &str, arguments: &[&str]) -> Result<String> {
        Ok(process::run(&mut self.tool(class, arguments), LIMIT)?.text())
    }

    /// What a tool says that must fail.
    fn refusal(&self, class: &str, arguments: &[&str]) -> Result<String> {
        match process::run(&mut self.tool(class, arguments), LIMIT) {
            Ok(output) => bail!("{arguments:?} passed: {}", output.text()),
            Err(error) => Ok(format!("{error:#}")),
        }
    }

    fn topic_command(&self, arguments: &[&str]) -> Result<String> {
        self.run("org.apache.kafka.tools.TopicCommand", arguments)
    }

    fn groups(&self, arguments: &[&str]) -> Result<String> {
        self.run("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", arguments)
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
