//! A process that has no descriptor left: files that are to be made wait, and nothing stops.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::Env;
use base::disk::{DirEntry, DirLock, Disk, File, Free, OpenOptions, SimDisk, SimDiskOptions};
use base::random::SeededRandom;
use base::time::{Duration, sleep, timeout};
use record::{LogIndex, StreamId};
use shard::Outcome;
use shard::commands::{DeleteStreams, Seal};

use crate::support::{Node, batch, config, options};

/// Opens nothing when it is told so.
#[derive(Debug)]
struct Exhausted {
    disk: SimDisk,
    exhausted: AtomicBool,
}

impl Exhausted {
    fn check(&self) -> io::Result<()> {
        // EMFILE
        if self.exhausted.load(Ordering::Relaxed) { Err(io::Error::from_raw_os_error(24)) } else { Ok(()) }
    }
}

impl Disk for Exhausted {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn File>> {
        self.check()?;
        self.disk.open(path, options)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.check()?;
        self.disk.read_dir(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.check()?;
        self.disk.sync_dir(path)
    }

    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<Free> {
        self.disk.free_bytes(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        self.check()?;
        self.disk.lock(path)
    }
}

#[tokio::test(start_paused = true)]
async fn without_descriptors_files_wait_and_the_node_goes_on() {
    let _simulated = base::task::simulate();
    let disk = SimDisk::new(1, SimDiskOptions::default());
    let limited = Arc::new(Exhausted { disk: disk.clone(), exhausted: AtomicBool::new(false) });
    let env =
        Env { disk: Arc::clone(&limited) as Arc<dyn Disk>, random: Arc::new(SeededRandom::new(1)), ..Env::real() };
    let node = Node::start(&env, Path::new("/node"), options(), config()).await;
    node.create_streams(2).await;
    let large = batch("x", 1, 500_000, 0);
    for number in 0..30 {
        node.append(1, &large).await.expect("appended");
        if number % 10 == 0 {
            node.append(2, &batch("kept", 1, 100, 0)).await.expect("appended");
        }
    }
    node.replica.checkpoint().await;
    let files = |dir: &str| disk.read_dir(Path::new(dir)).expect("a folder").len();
    let (indexes, segments) = (files("/node/index"), files("/node/log"));

    limited.exhausted.store(true, Ordering::Relaxed);
    let sealed = node.replica.propose(Seal { through: LogIndex(u64::MAX) }.into()).await;
    assert!(matches!(sealed, Ok(Outcome::Seal { sealed: Some(_) })), "{sealed:?}");
    let deleted = node.replica.propose(DeleteStreams { streams: vec![StreamId(1)] }.into()).await;
    assert_eq!(deleted, Ok(Outcome::DeleteStreams { deleted: 1 }));
    let checkpoint = timeout(Duration::from_secs(90), node.replica.checkpoint()).await;
    sleep(Duration::from_secs(90)).await;
    // More than what is left of the segment, and of the one that is ready.
    let waiting = futures_util::future::join_all((0..20).map(|_| node.append(2, &large)));
    let mut waiting = Box::pin(waiting);
    let early = timeout(Duration::from_secs(90), &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
    let healthy = || node.log.failure().borrow().is_none() && node.replica.failure().borrow().is_none();
    assert!(healthy(), "{:?} {:?}", node.log.failure().borrow(), node.replica.failure().borrow());
    assert_eq!(files("/node/index"), indexes, "no file is made");

    limited.exhausted.store(false, Ordering::Relaxed);
    drop(checkpoint);
    assert!(waiting.as_mut().await.iter().all(Result::is_ok));
    drop(waiting);
    node.replica.checkpoint().await;
    sleep(Duration::from_secs(90)).await;
    assert!(healthy());
    assert!(files("/node/index") > indexes, "the index is written");
    assert!(files("/node/log") < segments + 5, "segments went");
    node.stop().await;
}
