//! One node's process and its data.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::broker::{answers, rosettamq_binary};
use crate::limited_disk::LimitedDisk;
use crate::mishaps::Mishaps;
use crate::process;

const START_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// What a node that must not run may take to find out.
const END_LIMIT: Duration = Duration::from_secs(60);
/// Lines of a log that are shown.
const TAIL_LINES: usize = 60;

/// How a node is started, each time.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) home: PathBuf,
    pub(super) wrapper: Vec<String>,
    pub(super) kafka: SocketAddr,
    pub(super) internal: SocketAddr,
    pub(super) join: Vec<SocketAddr>,
    pub(super) flags: Vec<String>,
    /// Another build than the one under test.
    pub(super) program: Option<PathBuf>,
    /// The library that gives it mishaps.
    pub(super) preload: Option<PathBuf>,
    /// Nothing is said of a cluster.
    pub(super) is_lone: bool,
}

/// A node that runs, was killed, is paused or was never started.
#[derive(Debug)]
pub struct Node {
    plan: Plan,
    disk: Option<LimitedDisk>,
    mishaps: Option<Mishaps>,
    child: Option<Child>,
    is_paused: bool,
}

impl Node {
    pub(super) fn new(plan: Plan, megabytes: Option<u32>) -> Result<Self> {
        fs::create_dir_all(&plan.home)?;
        let disk = match megabytes {
            Some(megabytes) => LimitedDisk::mount(megabytes)?,
            None => None,
        };
        let mishaps = match &plan.preload {
            Some(library) => Some(Mishaps::new(library, plan.home.join("mishaps"))?),
            None => None,
        };
        Ok(Self { plan, disk, mishaps, child: None, is_paused: false })
    }

    pub fn kafka(&self) -> SocketAddr {
        self.plan.kafka
    }

    pub fn internal(&self) -> SocketAddr {
        self.plan.internal
    }

    pub fn data(&self) -> PathBuf {
        self.disk.as_ref().map_or(self.plan.home.as_path(), LimitedDisk::path).join("data")
    }

    /// The small disk that its data is on, if it is on one.
    pub fn disk(&self) -> Option<&LimitedDisk> {
        self.disk.as_ref()
    }

    /// Its slow disk and its wrong clock, where it can have them.
    pub fn mishaps(&self) -> Option<&Mishaps> {
        self.mishaps.as_ref()
    }

    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_none()))
    }

    /// The next start is of the build under test, with the flags of a node of a cluster.
    pub fn upgrade(&mut self) {
        self.plan.program = None;
        self.plan.is_lone = false;
    }

    /// The next start says nothing of a cluster.
    pub(super) fn set_lone(&mut self) {
        self.plan.is_lone = true;
    }

    /// The next start is of another build.
    pub fn set_program(&mut self, program: PathBuf) {
        self.plan.program = Some(program);
    }

    /// Starts the process with the flags of the README.
    pub fn spawn(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("the node at {} runs already", self.plan.internal);
        }
        let join: Vec<String> = self.plan.join.iter().map(ToString::to_string).collect();
        let program = self.plan.program.clone().map_or_else(rosettamq_binary, Ok)?;
        let mishaps = self.mishaps.as_ref().map(Mishaps::wrapper).unwrap_or_default();
        let wrapper: Vec<&String> = self.plan.wrapper.iter().chain(&mishaps).collect();
        let mut command = match wrapper.split_first() {
            Some((wrapper, words)) => {
                let mut command = Command::new(wrapper);
                command.args(words).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("--data-dir").arg(self.data());
        command.args(["--kafka-listeners", &self.plan.kafka.to_string()]);
        if !self.plan.is_lone {
            command.args(["--cluster-listen", &self.plan.internal.to_string()]);
            command.args(["--cluster-join", &join.join(",")]);
        }
        command.args(&self.plan.flags);
        let log = File::options().create(true).append(true).open(self.log_path())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("starting a node")?);
        Ok(())
    }

    /// Waits until Kafka's port answers.
    pub fn wait_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        while !answers(self.plan.kafka) {
            if !self.is_running() {
                self.child = None;
                bail!("the node at {} ended instead of starting\n{}", self.plan.internal, self.log_tail());
            }
            if began.elapsed() > START_LIMIT {
                bail!("no answer of {} within {START_LIMIT:?}\n{}", self.plan.kafka, self.log_tail());
            }
            thread::sleep(process::POLL);
        }
        Ok(())
    }

    /// SIGKILL, and the process is gone when this returns.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        self.is_paused = false;
        Ok(())
    }

    /// SIGTERM, and its status when it has ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let mut child = self.child.take().context("the node does not run")?;
        if let Some(status) = process::wait(&mut child, STOP_LIMIT)? {
            return Ok(status);
        }
        child.kill()?;
        child.wait()?;
        bail!("SIGTERM did not end the node at {} within {STOP_LIMIT:?}\n{}", self.plan.internal, self.log_tail())
    }

    /// Its status when it has ended, which it is to do by itself.
    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the node does not run")?;
        if let Some(status) = process::wait(&mut child, END_LIMIT)? {
            return Ok(status);
        }
        child.kill()?;
        child.wait()?;
        bail!("the node at {} does not end by itself\n{}", self.plan.internal, self.log_tail())
    }

    /// SIGSTOP: it holds its connections and says nothing.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        self.is_paused = true;
        Ok(())
    }

    /// SIGCONT: it goes on, as if no time had passed.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)?;
        self.is_paused = false;
        Ok(())
    }

    /// Takes all that it stored from a node that does not run.
    pub fn wipe(&mut self) -> Result<()> {
        if self.is_running() {
            bail!("the node at {} runs", self.plan.internal);
        }
        fs::remove_dir_all(self.data()).context("emptying a data directory")
    }

    /// Ends it, and leaves nothing of it but what others hold.
    pub(super) fn erase(&mut self) -> Result<()> {
        self.kill()?;
        fs::remove_dir_all(&self.plan.home).context("erasing a node")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.as_ref().context("the node does not run")?.id();
        let pid = Pid::from_raw(i32::try_from(id)?).context("a process id is not zero")?;
        kill_process(pid, signal).context("sending a signal")
    }

    fn log_path(&self) -> PathBuf {
        self.plan.home.join("node.log")
    }

    /// All that it printed so far, over all starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _gone = self.kill();
    }
}
