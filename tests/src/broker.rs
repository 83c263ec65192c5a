//! One broker as a process: ours, or a real Kafka from Maven as the reference for the same test.
//!
//! Keeps true: `start` returns when the port answers ApiVersions; a broker ends with its value; its log is shown
//! when the test that owns it panics. `TEST_PEER=kafka` runs a test against Kafka instead of ours.

mod kafka;
mod rosettamq;

pub use rosettamq::binary as rosettamq_binary;

use std::env;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process;
use crate::served::Served;

/// The longest start that is waited for: real Kafka takes 12 s after a kill.
const START_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Which program is the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Rosettamq,
    Kafka,
}

impl Peer {
    /// Ours, unless `TEST_PEER` names another.
    pub fn from_environment() -> Result<Self> {
        match env::var("TEST_PEER").as_deref() {
            Err(_) | Ok("" | "rosettamq") => Ok(Self::Rosettamq),
            Ok("kafka") => Ok(Self::Kafka),
            Ok(other) => bail!("TEST_PEER is {other:?}; allowed: rosettamq, kafka"),
        }
    }
}

/// What a test asks of its broker, in terms that both peers understand.
#[derive(Clone, Debug)]
pub struct Settings {
    pub peer: Peer,
    /// Partitions of a topic that names no count.
    pub partitions: u32,
    pub group_initial_rebalance_delay_ms: u32,
    pub connections_idle_ms: Option<u64>,
    pub connections_max: Option<u32>,
    /// Size of the log's files.
    pub segment_bytes: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// Free space below which writes are refused. Ours only.
    pub disk_reserve_bytes: Option<u64>,
    /// Where the data lies; a temporary folder by default.
    pub data_dir: Option<PathBuf>,
    /// Further listeners by name, each with its address on the loopback interface and what it advertises.
    pub listeners: Vec<ExtraListener>,
    /// An ack of Kafka means fsynced. Ours always does.
    pub flush_every_message: bool,
    /// Anything else, in the peer's own words.
    pub properties: Vec<(String, String)>,
    /// A program in front of the broker's, such as a tracer.
    pub wrapper: Vec<String>,
    /// Another build of ours than the one under test.
    pub program: Option<PathBuf>,
}

/// A listener beside the first one.
#[derive(Clone, Debug)]
pub struct ExtraListener {
    pub name: String,
    pub address: String,
    pub advertised: String,
}

impl Settings {
    /// The peer that the environment names, four partitions, no delay of the first rebalance.
    pub fn new() -> Result<Self> {
        Ok(Self::of(Peer::from_environment()?))
    }

    pub fn of(peer: Peer) -> Self {
        Self {
            peer,
            partitions: 4,
            group_initial_rebalance_delay_ms: 0,
            connections_idle_ms: None,
            connections_max: None,
            segment_bytes: None,
            memory_bytes: None,
            disk_reserve_bytes: None,
            data_dir: None,
            listeners: Vec::new(),
            flush_every_message: false,
            properties: Vec::new(),
            wrapper: Vec::new(),
            program: None,
        }
    }

    pub fn start(self) -> Result<Broker> {
        Broker::start(self)
    }
}

/// A running, killed or stopped broker with its data.
#[derive(Debug)]
pub struct Broker {
    settings: Settings,
    port: u16,
    home: PathBuf,
    /// Removes everything at the end, unless the test named a folder.
    _temporary: Option<TempDir>,
    child: Option<Child>,
    starts: u32,
    started_in: Duration,
}

impl Broker {
    pub fn start(settings: Settings) -> Result<Self> {
        let (home, temporary) = match &settings.data_dir {
            Some(dir) => (dir.clone(), None),
            None => {
                // For a look at the data of a test that failed, `TEST_KEEP` leaves every folder.
                let is_kept = env::var_os("TEST_KEEP").is_some();
                let dir = tempfile::Builder::new().prefix("broker-").disable_cleanup(is_kept).tempdir()?;
                (dir.path().to_path_buf(), Some(dir))
            }
        };
        fs::create_dir_all(&home)?;
        let port = free_port()?;
        let mut broker =
            Self { settings, port, home, _temporary: temporary, child: None, starts: 0, started_in: Duration::ZERO };
        broker.restart()?;
        Ok(broker)
    }

    pub fn peer(&self) -> Peer {
        self.settings.peer
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What clients are told of it.
    pub fn served(&self) -> Served {
        Served::by_one(self.bootstrap())
    }

    /// The broker's own data folder.
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// From spawning the process to its first answer.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Changes what the next start will use.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("the broker does not run")?.id())
    }

    pub fn is_running(&mut self) -> Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Starts again on the same data and port.
    pub fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        self.wait_ready()
    }

    /// Starts the process and does not wait for an answer.
    pub fn spawn(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("the broker runs already");
        }
        let command = match self.settings.peer {
            Peer::Rosettamq => rosettamq::command(&self.settings, &self.home, self.port)?,
            Peer::Kafka => kafka::command(&self.settings, &self.home, self.port)?,
        };
        let mut command = wrapped(&self.settings.wrapper, command);
        self.starts += 1;
        let log = File::options().create(true).append(true).open(self.log_path())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().with_context(|| format!("starting {:?}", self.settings.peer))?);
        Ok(())
    }

    /// Waits until the port answers, or fails with the broker's log when the process ends first.
    pub fn wait_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if answers(self.address()) {
                self.started_in = started.elapsed();
                return Ok(());
            }
            if !self.is_running()? {
                self.child = None;
                bail!("the broker ended instead of starting\n{}", self.log_tail());
            }
            if started.elapsed() > START_LIMIT {
                bail!("no answer within {START_LIMIT:?}\n{}", self.log_tail());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// SIGKILL, and the process is gone when this returns.
    pub fn kill(&mut self) -> Result<()> {
        // A wrapper that is killed would leave the broker behind.
        let behind = if self.settings.wrapper.is_empty() { None } else { self.process_of_broker().ok() };
        if let Some(behind) = behind {
            let _gone = kill_process(behind, Signal::KILL);
        }
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and its status when it has ended.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let pid = self.process_of_broker()?;
        let mut child = self.child.take().context("the broker does not run")?;
        kill_process(pid, Signal::TERM)?;
        if let Some(status) = process::wait(&mut child, STOP_LIMIT)? {
            return Ok(status);
        }
        child.kill()?;
        child.wait()?;
        bail!("SIGTERM did not end the broker within {STOP_LIMIT:?}\n{}", self.log_tail())
    }

    /// The process that is the broker, also behind a wrapper that keeps signals to itself.
    fn process_of_broker(&self) -> Result<Pid> {
        let mut id = self.pid()?;
        if !self.settings.wrapper.is_empty() {
            let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            id = children.split_whitespace().next().context("the wrapper runs nothing")?.parse()?;
        }
        Pid::from_raw(i32::try_from(id)?).context("a process id is not zero")
    }

    /// Waits for the process to end by itself.
    pub fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the broker does not run")?;
        if let Some(status) = process::wait(&mut child, limit)? {
            return Ok(status);
        }
        self.child = Some(child);
        bail!("the broker still runs after {limit:?}\n{}", self.log_tail())
    }

    fn log_path(&self) -> PathBuf {
        self.home.join("broker.log")
    }

    /// All that the broker printed so far, over all starts.
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(self.log_path()) {
            let _closed = file.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(60);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// The broker is still there and no line of its log tells of a panic.
    pub fn assert_healthy(&mut self) -> Result<()> {
        if !self.is_running()? {
            bail!("the broker is gone\n{}", self.log_tail());
        }
        if !answers(self.address()) {
            bail!("the broker does not answer\n{}", self.log_tail());
        }
        let log = self.log();
        if let Some(line) = log.lines().find(|line| line.contains("panicked at") || line.contains("panic:")) {
            bail!("the broker's log tells of a panic: {line}\n{}", self.log_tail());
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if thread::panicking() {
            let _closed = writeln!(std::io::stderr(), "--- the broker's log\n{}\n---", self.log_tail());
        }
        let _gone = self.kill();
    }
}

/// Ports that no connection gets as its own: those begin at 32768 (`net.ipv4.ip_local_port_range`).
const PORTS: Range<u16> = 12_000..32_000;

/// A port that nothing listens on now, that no connection takes, and that was not given by this process before. It is
/// asked, not listened on: a program that another thread starts at that moment would inherit the listener, and hold it
/// for as long as it takes to begin.
pub fn free_port() -> Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // Processes that run together mostly begin at some distance.
    let first = std::process::id().wrapping_mul(97) % count;
    for _ in 0..count {
        let at = (first + GIVEN.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(at)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let asked = TcpStream::connect_timeout(&address, Duration::from_secs(1));
        if asked.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free")
}

/// Whether ApiVersions version 0 is answered.
pub fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<[u8; 8]> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        // Length 10, key 18, version 0, correlation id 1, no client id.
        stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff])?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.ends_with(&[0, 0, 0, 1]))
}

fn wrapped(wrapper: &[String], command: Command) -> Command {
    let Some((program, arguments)) = wrapper.split_first() else {
        return command;
    };
    let mut outer = Command::new(program);
    outer.args(arguments).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            outer.env(key, value);
        }
    }
    outer
}

/// Writes a file only when it would change, so that its time tells.
fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
