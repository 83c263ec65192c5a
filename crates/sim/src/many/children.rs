//! Seeds, each in a process of its own, several at once, and none for longer than it may take.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Wish;

/// Pause between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(20);
/// What is told of a process that said nothing but why it ended.
const ERROR_LINES: usize = 3;

/// The processes of the seeds that are to run.
pub(super) struct Children<'a, W> {
    wish: &'a Wish,
    waiting: W,
    running: Vec<Running>,
}

struct Running {
    seed: u64,
    child: Child,
    started: Instant,
}

impl<'a, W: Iterator<Item = u64>> Children<'a, W> {
    /// Runs the seeds of `waiting`, in their order.
    pub(super) fn new(wish: &'a Wish, waiting: W) -> Self {
        Self { wish, waiting, running: Vec::new() }
    }

    /// A seed that has ended, and its line; none when all have.
    pub(super) fn next(&mut self) -> Result<Option<(u64, String)>> {
        loop {
            while self.running.len() < self.wish.jobs.max(1)
                && let Some(seed) = self.waiting.next()
            {
                self.running.push(Running::start(seed, self.wish)?);
            }
            if self.running.is_empty() {
                return Ok(None);
            }
            for place in 0..self.running.len() {
                if let Some(line) = self.running[place].line(self.wish.limit)? {
                    return Ok(Some((self.running.remove(place).seed, line)));
                }
            }
            pause();
        }
    }
}

impl Running {
    fn start(seed: u64, wish: &Wish) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").arg(seed.to_string()).arg("--seconds").arg(wish.seconds.to_string());
        if wish.calm {
            command.arg("--calm");
        }
        if let Some(fault) = &wish.plant {
            command.arg("--plant").arg(fault);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().context("a seed's process cannot be started")?;
        Ok(Self { seed, child, started: real_now() })
    }

    /// What it said, if it has ended. One that takes longer than `limit` is ended, and has failed.
    fn line(&mut self, limit: Duration) -> Result<Option<String>> {
        let seed = self.seed;
        let Some(status) = self.child.try_wait()? else {
            if real_now() - self.started <= limit {
                return Ok(None);
            }
            self.child.kill()?;
            self.child.wait()?;
            return Ok(Some(format!("seed {seed} FAILED it takes more than {limit:?}")));
        };
        let line = text_of(self.child.stdout.take())?;
        let line = line.trim();
        if !line.is_empty() {
            return Ok(Some(line.to_owned()));
        }
        let error = text_of(self.child.stderr.take())?;
        let error: Vec<&str> = error.lines().take(ERROR_LINES).collect();
        Ok(Some(format!("seed {seed} FAILED {status}: {}", error.join(" "))))
    }
}

/// Those that still run say nothing more.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process that has ended left in a pipe: a line, or why it panicked, which a pipe holds.
fn text_of(pipe: Option<impl std::io::Read>) -> Result<String> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[expect(clippy::disallowed_methods, reason = "processes take real time")]
fn real_now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "processes take real time")]
fn pause() {
    std::thread::sleep(PAUSE);
}
