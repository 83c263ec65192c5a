//! kcat: a million lines there and back, groups, and what it shows.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::served::Served;
use crate::workload::make_topic;
use crate::{install, process};

const LIMIT: Duration = Duration::from_secs(180);

/// kcat against what is served, with topics and groups under a prefix.
#[derive(Clone, Debug)]
pub struct Kcat {
    program: PathBuf,
    served: Served,
    prefix: String,
}

impl Kcat {
    /// Nothing where kcat is not to be had.
    pub fn new(served: Served, prefix: &str) -> Result<Option<Self>> {
        let program = install::kcat::installed()?;
        Ok(program.map(|program| Self { program, served, prefix: prefix.to_owned() }))
    }

    /// All checks, with nothing done to the broker between their steps; what failed.
    pub fn check_all(&self) -> Vec<String> {
        type Check = fn(&Kcat) -> Result<()>;
        let checks: [(&str, Check); 5] = [
            ("a_million_lines", |kcat| kcat.a_million_lines(|| Ok(()))),
            ("every_compression", Self::every_compression),
            ("what_is_shown", Self::what_is_shown),
            ("metadata", Self::metadata),
            ("a_group", |kcat| kcat.a_group(|| Ok(()))),
        ];
        let mut failed = Vec::new();
        for (name, check) in checks {
            if let Err(error) = check(self) {
                failed.push(format!("kcat, {name}: {error:#}"));
            }
        }
        failed
    }

    /// A million lines come back as they went, whatever happens in between.
    pub fn a_million_lines(&self, between: impl FnOnce() -> Result<()>) -> Result<()> {
        let topic = self.topic("million")?;
        let lines = numbers(1_000_000);
        self.produce(&["-t", &topic, "-z", "lz4"], lines.clone())?;
        between()?;
        ensure!(self.consume(&["-t", &topic])? == lines, "what came back differs");
        Ok(())
    }

    pub fn every_compression(&self) -> Result<()> {
        let lines = numbers(20_000);
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let topic = self.topic(&format!("codec-{codec}"))?;
            self.produce(&["-t", &topic, "-z", codec], lines.clone())?;
            ensure!(self.consume(&["-t", &topic])? == lines, "{codec}: what came back differs");
        }
        Ok(())
    }

    /// Keys, headers, timestamps and offsets.
    pub fn what_is_shown(&self) -> Result<()> {
        let topic = self.topic("shown")?;
        self.produce(&["-t", &topic, "-K", ":", "-H", "name=header"], b"key:value\nother:again\n".to_vec())?;
        let shown = self.consume(&["-t", &topic, "-f", "%p %o %k %s %h\\n"])?;
        ensure!(
            shown == b"0 0 key value name=header\n0 1 other again name=header\n",
            "{}",
            String::from_utf8_lossy(&shown)
        );
        // From an offset, the last ones, and by time.
        ensure!(self.consume(&["-t", &topic, "-o", "1"])? == b"again\n");
        ensure!(self.consume(&["-t", &topic, "-o", "-1"])? == b"again\n");
        ensure!(self.consume(&["-t", &topic, "-o", "s@1000"])? == b"value\nagain\n");
        let mut query = self.command("-Q");
        query.args(["-t", &format!("{topic}:0:-1")]);
        ensure!(process::run(&mut query, LIMIT)?.text().contains("offset 2"), "the latest offset");
        Ok(())
    }

    /// Brokers and topics are listed, also one that was made by writing to it.
    pub fn metadata(&self) -> Result<()> {
        let topic = format!("{}-listed", self.prefix);
        self.produce(&["-t", &topic], b"x\n".to_vec())?;
        let text = process::run(&mut self.command("-L"), LIMIT)?.text();
        let listed = self.served.bootstrap.split(',').filter(|address| text.contains(&format!("at {address}")));
        // A node that is away just then is not there for clients.
        ensure!(listed.count() + usize::from(self.served.restarts) >= self.served.nodes, "{text}");
        ensure!(text.contains(&format!("topic \"{topic}\" with 4 partitions")), "{text}");
        Ok(())
    }

    /// A group goes on where it stopped, whatever happens in between.
    pub fn a_group(&self, between: impl FnOnce() -> Result<()>) -> Result<()> {
        let (topic, group) = (self.topic("grouped")?, format!("{}-group", self.prefix));
        self.produce(&["-t", &topic], b"one\ntwo\n".to_vec())?;
        let read = || -> Result<Vec<u8>> {
            let mut command = self.command("-q");
            command.args(["-e", "-X", "auto.offset.reset=earliest", "-G", &group, &topic]);
            Ok(process::run(&mut command, LIMIT)?.stdout)
        };
        ensure!(read()? == b"one\ntwo\n", "the first two");
        self.produce(&["-t", &topic], b"three\n".to_vec())?;
        between()?;
        ensure!(read()? == b"three\n", "only what is new");
        Ok(())
    }

    /// A topic of one partition, so that the order is that of the input.
    fn topic(&self, name: &str) -> Result<String> {
        let topic = format!("{}-{name}", self.prefix);
        make_topic(&self.served.bootstrap, &topic, 1)?;
        Ok(topic)
    }

    fn command(&self, mode: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args([mode, "-b", &self.served.bootstrap]);
        command
    }

    fn produce(&self, arguments: &[&str], input: Vec<u8>) -> Result<()> {
        let mut command = self.command("-P");
        if self.served.restarts {
            // Without it a batch that is sent again after a connection broke is there twice.
            command.args(["-X", "enable.idempotence=true"]);
        }
        process::run_with_input(command.args(arguments), input, LIMIT)?;
        Ok(())
    }

    fn consume(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = self.command("-C");
        Ok(process::run(command.args(["-e", "-q"]).args(arguments), LIMIT)?.stdout)
    }
}

fn numbers(last: u32) -> Vec<u8> {
    let mut lines = String::new();
    for number in 1..=last {
        lines += &format!("{number}\n");
    }
    lines.into_bytes()
}
