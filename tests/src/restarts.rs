//! A cluster whose nodes are restarted one after the other while clients work on it.
//!
//! Keeps true: the next restart begins when its time has come and the one before is over, for every node's view of the
//! cluster; one that does not succeed in its time is an error, and so is a panic or a node that ended by itself.

mod suites;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

pub use suites::{Suite, run};

use crate::cluster::{Cluster, SETTLE_LIMIT};

/// When nodes are restarted, and how.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// From the beginning of one restart to that of the next.
    pub every: Duration,
    /// Each so many-th is a `kill -9`; the others are SIGTERM.
    pub kill_every: usize,
}

/// One restart.
#[derive(Clone, Debug)]
pub struct Restart {
    pub place: usize,
    pub is_killed: bool,
    /// Since the first moment.
    pub at: Duration,
    pub stopped_in: Duration,
    /// From its start to its first answer.
    pub ready_in: Duration,
    /// From its first answer until every node sees the cluster as it should be.
    pub settled_in: Duration,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.is_killed { "kill -9" } else { "SIGTERM" };
        let (at, place) = (self.at.as_secs_f64(), self.place);
        let (stopped, ready, settled) = (self.stopped_in, self.ready_in, self.settled_in);
        write!(
            f,
            "{at:.1} s: {how} of place {place}, gone in {stopped:.1?}, back in {ready:.1?}, settled in {settled:.1?}"
        )
    }
}

/// Restarts under way, in a thread that has the cluster.
#[derive(Debug)]
pub struct Restarts {
    thread: JoinHandle<(Cluster, Vec<Restart>, Result<()>)>,
    enough: SyncSender<()>,
    count: Arc<AtomicUsize>,
}

impl Restarts {
    pub fn begin(cluster: Cluster, rhythm: Rhythm) -> Self {
        let (enough, told) = sync_channel(1);
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let thread = thread::spawn(move || {
            let (mut cluster, mut done) = (cluster, Vec::new());
            let result = work(&mut cluster, rhythm, &told, &mut done, &counted);
            (cluster, done, result)
        });
        Self { thread, enough, count }
    }

    /// Restarts that are over.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there will be more: one that did not succeed was the last.
    pub fn go_on(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Lets a restart that is under way come to its end, and stops the nodes; their logs stay in `keep` where something was
    /// wrong or is.
    pub fn finish(self, is_good: bool, keep: &Path) -> Result<Vec<Restart>> {
        let _ended_already = self.enough.try_send(());
        let (mut cluster, done, result) = self.thread.join().map_err(|_| anyhow!("the thread of restarts panicked"))?;
        let result = result.and_then(|()| cluster.assert_healthy());
        if result.is_err() || !is_good {
            cluster.save_logs(keep)?;
        }
        result.with_context(|| format!("logs are in {}", keep.display()))?;
        Ok(done)
    }
}

fn work(
    cluster: &mut Cluster,
    rhythm: Rhythm,
    enough: &Receiver<()>,
    done: &mut Vec<Restart>,
    count: &AtomicUsize,
) -> Result<()> {
    let began = Instant::now();
    let mut next = began + rhythm.every;
    while enough.recv_timeout(next.saturating_duration_since(Instant::now())) == Err(RecvTimeoutError::Timeout) {
        let place = done.len() % cluster.nodes.len();
        let is_killed = rhythm.kill_every > 0 && (done.len() + 1).is_multiple_of(rhythm.kill_every);
        let at = began.elapsed();
        let restart = restart(cluster, place, is_killed, at);
        done.push(restart.with_context(|| format!("the restart of place {place} at {at:.1?}, killed: {is_killed}"))?);
        count.store(done.len(), Ordering::Relaxed);
        next = (next + rhythm.every).max(Instant::now());
    }
    Ok(())
}

fn restart(cluster: &mut Cluster, place: usize, is_killed: bool, at: Duration) -> Result<Restart> {
    let node = &mut cluster.nodes[place];
    ensure!(node.is_running(), "it ended by itself\n{}", node.log_tail());
    let began = Instant::now();
    if is_killed {
        node.kill()?;
    } else {
        let status = node.stop()?;
        ensure!(status.success(), "it ended with {status}\n{}", node.log_tail());
    }
    let stopped_in = began.elapsed();
    let began = Instant::now();
    node.spawn()?;
    node.wait_ready()?;
    let ready_in = began.elapsed();
    let began = Instant::now();
    cluster.wait_settled(SETTLE_LIMIT)?;
    Ok(Restart { place, is_killed, at, stopped_in, ready_in, settled_in: began.elapsed() })
}
