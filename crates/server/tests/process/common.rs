//! The binary under test: commands that end, and a broker that runs until it is told to stop.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::Mutex;

/// What a command that ended said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The binary, with nothing of the environment that could configure it.
pub(crate) fn rosettamq(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rosettamq"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROSETTAMQ_") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

pub(crate) fn run(arguments: &[&str]) -> Ended {
    rosettamq(arguments).stdin(Stdio::null()).output().unwrap().into()
}

/// A broker on a free port.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    stderr: BufReader<ChildStderr>,
    pub(crate) address: String,
}

impl Broker {
    /// Starts with `data_dir` and returns when the broker says that it is ready.
    pub(crate) fn start(data_dir: &Path, flags: &[&str]) -> Self {
        let mut command = rosettamq(flags);
        command.arg("--data-dir").arg(data_dir);
        command.args(["--kafka-listeners", "127.0.0.1:0", "--segment-bytes", "4MiB", "--shards", "2"]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut address, mut log) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the broker ended: {log}");
            log.push_str(&line);
            if let Some((_, rest)) = line.split_once(" address=") {
                address = rest.split_whitespace().next().unwrap().to_owned();
            }
            if line.contains(" ready") {
                break;
            }
        }
        assert!(!address.is_empty(), "no address in {log}");
        Self { child, stderr, address }
    }

    /// A client command on this broker.
    pub(crate) fn client(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = rosettamq(arguments);
        command.args(["--bootstrap", &self.address]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // A command that needs no input may end before it is all written.
                let _ = stdin.write_all(input.as_bytes());
            });
            child.wait_with_output().unwrap().into()
        })
    }

    /// Like [`Self::client`], for a command that must succeed; returns its standard output.
    pub(crate) fn ok(&self, arguments: &[&str], input: &str) -> String {
        let ended = self.client(arguments, input);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        ended.stdout
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Reads the log up to a line with `text`.
    pub(crate) fn until(mut self, text: &str) -> Self {
        let mut log = String::new();
        while !log.contains(text) {
            assert!(self.stderr.read_line(&mut log).unwrap() > 0, "the broker ended: {log}");
        }
        self
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end, and returns its code and the rest of the log.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        while self.stderr.read_line(&mut log).unwrap() > 0 {}
        (self.child.wait().unwrap().code(), log)
    }

    pub(crate) fn stop(self) -> String {
        self.signal(rustix::process::Signal::TERM);
        let (code, log) = self.wait();
        assert_eq!(code, Some(0), "{log}");
        log
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that goes on until it is interrupted.
#[derive(Debug)]
pub(crate) struct Follower {
    child: Child,
    stdout: Mutex<BufReader<ChildStdout>>,
}

impl Follower {
    pub(crate) fn start(broker: &Broker, arguments: &[&str]) -> Self {
        let mut command = rosettamq(arguments);
        command.args(["--bootstrap", &broker.address]).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Mutex::new(BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdout }
    }

    /// Waits for that many lines.
    pub(crate) fn lines(&self, count: usize) -> Vec<String> {
        let mut stdout = self.stdout.lock().unwrap();
        let lines = stdout.by_ref().lines().take(count);
        lines.map(Result::unwrap).collect()
    }

    /// Nobody reads what it prints any more, and then something happens; returns the code and standard error.
    pub(crate) fn unread(self, happens: impl FnOnce()) -> (Option<i32>, String) {
        drop(self.stdout);
        happens();
        let ended: Ended = self.child.wait_with_output().unwrap().into();
        (ended.code, ended.stderr)
    }

    /// Ends by a signal; returns the code and standard error.
    pub(crate) fn end_by(self, signal: rustix::process::Signal) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
        let ended: Ended = self.child.wait_with_output().unwrap().into();
        (ended.code, ended.stderr)
    }
}
