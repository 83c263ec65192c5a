//! One client program: told what to do on its standard input, read line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::clients::Client;
use crate::process;

const END_LIMIT: Duration = Duration::from_secs(30);

/// How the participants of a client are called.
pub(super) fn name(client: Client) -> &'static str {
    match client {
        Client::Java => "java",
        Client::PythonConfluent => "librdkafka",
        Client::PythonKafka => "kafka-python",
        Client::NodeKafkajs => "kafkajs",
        Client::GoFranz => "franz",
        Client::GoSarama => "sarama",
    }
}

#[derive(Debug)]
pub(super) struct Program {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
    acked: Arc<AtomicU64>,
    log: PathBuf,
}

impl Program {
    pub(super) fn start(name: &'static str, mut command: Command, log: &Path) -> Result<Self> {
        let errors = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).process_group(0);
        let mut child = command.spawn().with_context(|| format!("starting the client {name}"))?;
        let input = child.stdin.take().context("its standard input")?;
        let output = child.stdout.take().context("its standard output")?;
        let acked = Arc::new(AtomicU64::new(0));
        let (to, answers) = sync_channel(16);
        let count = Arc::clone(&acked);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                match line.strip_prefix("acked ").and_then(|count| count.trim().parse().ok()) {
                    Some(acked) => count.store(acked, Ordering::Relaxed),
                    None if to.send(line).is_err() => return,
                    None => {}
                }
            }
        });
        Ok(Self { name, child, input, answers, acked, log: log.to_path_buf() })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    pub(super) fn assert_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the client {} ended with {status}\n{}", self.name, self.log()),
        }
    }

    /// The last lines of what it said of itself.
    pub(super) fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
    }

    pub(super) fn say(&mut self, line: &str) -> Result<()> {
        writeln!(self.input, "{line}")
            .with_context(|| format!("the client {} does not listen\n{}", self.name, self.log()))
    }

    /// Waits for one of these lines.
    pub(super) fn answer(&mut self, expected: &[&str], limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if expected.contains(&line.as_str()) => return Ok(line),
                Ok(_other) => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the client {} said none of {expected:?} within {limit:?}\n{}", self.name, self.log())
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the client {} is gone\n{}", self.name, self.log()),
            }
        }
    }

    pub(super) fn wait_end(&mut self) -> Result<()> {
        if process::wait(&mut self.child, END_LIMIT)?.is_none() {
            bail!("the client {} does not end\n{}", self.name, self.log());
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        process::kill_group(&self.child);
        let _ended = self.child.wait();
    }
}
