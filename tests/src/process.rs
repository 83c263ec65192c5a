//! Running other programs: bounded in time, with their output kept for the message when they fail.
//!
//! Keeps true: a program past its time is killed with all that it started, and its output is in the error.

use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// How often a condition that nothing announces is looked at again.
pub const POLL: Duration = Duration::from_millis(10);

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub elapsed: Duration,
}

impl Finished {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The end of both outputs, for a message.
    pub fn tail(&self) -> String {
        let mut tail = String::new();
        for (name, text) in [("stdout", self.text().as_str()), ("stderr", self.stderr.as_str())] {
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(40);
            for line in lines.get(from..).unwrap_or_default() {
                let _infallible = writeln!(tail, "{name}: {line}");
            }
        }
        tail
    }
}

/// Runs to the end, or kills after `limit`; a status other than success is an error that holds the output.
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished> {
    let finished = finish(command, None, limit)?;
    if !finished.status.success() {
        bail!("{} ended with {}\n{}", shown(command), finished.status, finished.tail());
    }
    Ok(finished)
}

/// As [`run`], with `input` written to its standard input.
pub fn run_with_input(command: &mut Command, input: Vec<u8>, limit: Duration) -> Result<Finished> {
    let finished = finish(command, Some(input), limit)?;
    if !finished.status.success() {
        bail!("{} ended with {}\n{}", shown(command), finished.status, finished.tail());
    }
    Ok(finished)
}

/// As [`run`], but any status is an answer.
pub fn finish(command: &mut Command, input: Option<Vec<u8>>, limit: Duration) -> Result<Finished> {
    let started = Instant::now();
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("starting {}", shown(command)))?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // A program that ends without reading everything breaks the pipe: its status tells.
        thread::spawn(move || drop(std::io::Write::write_all(&mut pipe, &input)));
    }
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let Some(status) = wait(&mut child, limit)? else {
        kill_group(&child);
        child.wait()?;
        let finished = Finished {
            status: ExitStatus::default(),
            stdout: stdout.join().unwrap_or_default(),
            stderr: String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned(),
            elapsed: started.elapsed(),
        };
        bail!("{} did not end within {limit:?}\n{}", shown(command), finished.tail());
    };
    Ok(Finished {
        status,
        stdout: stdout.join().unwrap_or_default(),
        stderr: String::from_utf8_lossy(&stderr.join().unwrap_or_default()).into_owned(),
        elapsed: started.elapsed(),
    })
}

/// Waits for the end; `None` when `limit` passed first.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Looks at `condition` until it holds; an error that names `what` when `limit` passes first.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !condition()? {
        if Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}");
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Kills a child that was started in a process group of its own, and all that it started.
pub fn kill_group(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Gone already is as good as killed.
        let _gone = kill_process_group(pid, Signal::KILL);
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _closed = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn shown(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        let _infallible = write!(shown, " {}", argument.to_string_lossy());
    }
    shown
}
