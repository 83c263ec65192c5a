//! A log on a disk that loses, tears and reorders whatever was not synced.
//!
//! The oracle is the list of all operations in the order of the queue. After a crash the log must
//! stand exactly as after some prefix of that list which holds at least everything that was
//! acknowledged: nothing lost, nothing out of order, nothing of before a truncation or of a file's
//! former life; and no damage may be reported.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::disk::{OpenOptions, SimDisk, SimDiskOptions};
use base::random::{Random, SeededRandom};
use base::time::Duration;

use super::*;

const SHARDS: u32 = 3;

/// One step of a shard's history. An append of several entries is several steps.
#[derive(Debug, Clone)]
enum Step {
    Entry { id: LogId, payload: Payload },
    Vote(Vote),
    Truncate(Option<LogId>),
    Purge(LogId),
}

/// What a shard's log should hold.
#[derive(Debug, Clone, Default)]
struct Model {
    entries: BTreeMap<u64, (LogId, Payload)>,
    purged: Option<LogId>,
    vote: Option<Vote>,
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Entry { id, payload } => {
                self.entries.insert(id.index.0, (*id, payload.clone()));
            }
            Step::Vote(vote) => self.vote = Some(*vote),
            Step::Truncate(last) => {
                let from = last.map_or(0, |last| last.index.0 + 1);
                drop(self.entries.split_off(&from));
            }
            Step::Purge(through) => self.purged = Some(*through),
        }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, (id, _))| *id).max(self.purged)
    }
}

type Models = BTreeMap<u32, Model>;

/// One run of a seed: its disk, its history and what was acknowledged of it.
struct World {
    random: Arc<SeededRandom>,
    disk: SimDisk,
    dir: PathBuf,
    options: Options,
    /// The state at the start of this life, and the steps since then.
    start: Models,
    steps: Vec<(u32, Step)>,
    /// The state with every step so far.
    now: Models,
    /// How many steps are durable for sure.
    acknowledged: Arc<AtomicUsize>,
    /// Purged entries that are still wanted, per shard.
    live: BTreeMap<u32, Vec<u64>>,
    payloads: u64,
}

impl World {
    fn new(seed: u64, ignore_sync: bool) -> Self {
        let random = Arc::new(SeededRandom::new(seed));
        let latency_max = Duration::from_micros(random.below(3) * 400);
        let options = SimDiskOptions { latency_max, ignore_sync, ..SimDiskOptions::default() };
        let disk = SimDisk::new(random.next_u64(), options);
        let options = Options {
            segment_bytes: 64 << 10,
            memory_bytes: usize::try_from(random.below(3)).unwrap() * 20_000,
            reserve_bytes: 0,
            ready_segments: usize::try_from(random.below(3)).unwrap(),
            fill_bytes_per_second: random.below(2) * (64 << 20),
            salt: random.next_u64(),
            ..Options::default()
        };
        Self {
            random,
            disk,
            dir: PathBuf::from("/data/log"),
            options,
            start: Models::new(),
            steps: Vec::new(),
            now: Models::new(),
            acknowledged: Arc::default(),
            live: BTreeMap::new(),
            payloads: 0,
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn step(&mut self, shard: u32, step: Step) {
        self.now.entry(shard).or_default().apply(&step);
        self.steps.push((shard, step));
    }

    /// Runs one life: opens the log, checks it, works on it. Ends by crash, or by closing.
    fn life(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _simulated = base::task::simulate();
        let time = Duration::from_micros(200 + self.below(40_000));
        let closed = runtime.block_on(async {
            let (log, recovered) =
                CommitLog::open(Arc::new(self.disk.clone()), &self.dir, self.options.clone()).await.unwrap();
            self.check(&log, &recovered).await;
            let clean = self.below(4) == 0;
            let _crashed = base::time::timeout(time, self.work(&log)).await;
            if clean {
                log.close().await;
                assert!(log.failure().borrow().is_none());
            }
            clean
        });
        drop(runtime);
        if closed {
            self.acknowledged.store(self.steps.len(), Ordering::Relaxed);
        }
        self.disk.crash();
    }

    /// Finds the prefix of the history that the log stands at, and goes on from there.
    async fn check(&mut self, log: &CommitLog, recovered: &[Recovered]) {
        for shard in recovered {
            assert_eq!(shard.damage, [], "a crash is no damage");
        }
        let found: BTreeMap<u32, LogState> = recovered.iter().map(|shard| (shard.shard.0, shard.log_state)).collect();
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let mut models = self.start.clone();
        self.steps[..acknowledged].iter().for_each(|(shard, step)| models.entry(*shard).or_default().apply(step));
        let mut rest = self.steps[acknowledged..].iter();
        loop {
            if stands_at(log, &found, &models).await {
                break;
            }
            let (shard, step) =
                rest.next().expect("the log stands at no prefix of its history that holds all that was acknowledged");
            models.entry(*shard).or_default().apply(step);
        }
        for (shard, live) in &self.live {
            for index in live {
                let (id, payload) = &models[shard].entries[index];
                let read = log.shard(ShardId(*shard)).entries(id.index..id.index.next(), 0).await.unwrap();
                assert_eq!(read[0].payload, *payload, "live entry {index} of shard {shard}");
            }
        }
        self.now.clone_from(&models);
        self.start = models;
        self.steps.clear();
        self.acknowledged = Arc::default();
    }

    /// Works until it is stopped.
    async fn work(&mut self, log: &CommitLog) {
        loop {
            let shard = u32::try_from(self.below(u64::from(SHARDS))).unwrap();
            let shard_log = log.shard(ShardId(shard));
            let model = self.now.get(&shard).cloned().unwrap_or_default();
            let acknowledged = Arc::clone(&self.acknowledged);
            let mut control = None;
            match self.below(20) {
                0 => {
                    let term = model.vote.map_or(1, |vote| vote.term.0 + self.below(2));
                    let vote = Vote { committed: true, ..vote(term) };
                    control = Some(Step::Vote(vote));
                }
                1 => {
                    let indexes: Vec<_> =
                        model.entries.values().map(|(id, _)| *id).filter(|id| Some(*id) > model.purged).collect();
                    if let Some(at) = indexes.len().checked_sub(1) {
                        let keep = indexes[usize::try_from(self.below(at as u64 + 1)).unwrap()];
                        control = Some(Step::Truncate(Some(keep)));
                    } else if model.purged.is_none() {
                        control = Some(Step::Truncate(None));
                    }
                }
                2 | 3 => {
                    let unpurged: Vec<_> =
                        model.entries.values().map(|(id, _)| *id).filter(|id| Some(*id) > model.purged).collect();
                    if let Some(at) = unpurged.len().checked_sub(1) {
                        control = Some(Step::Purge(unpurged[usize::try_from(self.below(at as u64 + 1)).unwrap()]));
                    }
                }
                4 => self.keep(&shard_log, &model),
                5 => base::time::sleep(Duration::from_micros(self.below(150_000))).await,
                _ => self.append(&shard_log, &model),
            }
            if let Some(step) = control {
                self.step(shard, step.clone());
                let count = self.steps.len();
                match step {
                    Step::Vote(vote) => shard_log.save_vote(vote).await.unwrap(),
                    Step::Truncate(last) => shard_log.truncate_after(last).await.unwrap(),
                    Step::Purge(through) => shard_log.purge(through).await.unwrap(),
                    Step::Entry { .. } => unreachable!("appended elsewhere"),
                }
                acknowledged.fetch_max(count, Ordering::Relaxed);
            }
            if self.below(8) == 0 {
                base::time::sleep(Duration::from_micros(self.below(3_000))).await;
            }
            if let Some(model) = self.now.get(&shard)
                && let Some((index, (_, payload))) = model.entries.last_key_value()
            {
                let entries = shard_log.entries(LogIndex(*index)..LogIndex(index + 1), 0).await.unwrap();
                assert!(entries.is_empty() || entries[0].payload == *payload, "what is appended is readable at once");
                assert!(!entries.is_empty() || model.purged.is_some_and(|purged| purged.index.0 >= *index));
            }
        }
    }

    fn append(&mut self, log: &ShardLog, model: &Model) {
        let count = 1 + self.below(5);
        let last = model.last();
        let term = last.map_or(1, |last| last.term.0) + u64::from(self.below(10) == 0);
        let first = last.map_or(0, |last| last.index.0 + 1);
        let mut entries = Vec::new();
        for index in first..first + count {
            self.payloads += 1;
            let len = match self.below(10) {
                0 => 20_000,
                1..4 => 3_000,
                _ => 100,
            };
            let len = usize::try_from(self.below(len)).unwrap();
            let entry = Entry { payload: payload(self.payloads, index, len), ..entry(term, index, 0) };
            self.step(log.shard().0, Step::Entry { id: entry.id, payload: entry.payload.clone() });
            entries.push(entry);
        }
        let (acknowledged, count) = (Arc::clone(&self.acknowledged), self.steps.len());
        let done = Box::new(move |result: io::Result<()>| {
            result.unwrap();
            acknowledged.fetch_max(count, Ordering::Relaxed);
        });
        if self.below(2) == 0 { log.append(entries, done) } else { log.append_each(entries, done) }.unwrap();
    }

    /// Lets go of some of the purged entries.
    fn keep(&mut self, log: &ShardLog, model: &Model) {
        let purged = model.purged.map_or(0, |purged| purged.index.0 + 1);
        let known = self.live.get(&log.shard().0).cloned();
        // What was let go before is not wanted again.
        let candidates = known.unwrap_or_else(|| model.entries.range(..purged).map(|(index, _)| *index).collect());
        let live: Vec<u64> =
            candidates.into_iter().filter(|index| index % 50 != 0 && self.below(2) == 0 && self.below(3) > 0).collect();
        log.keep(live.iter().map(|index| LogIndex(*index)..=LogIndex(*index)).collect());
        self.live.insert(log.shard().0, live);
    }
}

/// Whether the log holds exactly what the models say.
async fn stands_at(log: &CommitLog, found: &BTreeMap<u32, LogState>, models: &Models) -> bool {
    for (shard, model) in models {
        let state = found.get(shard).copied().unwrap_or_default();
        if (state.last, state.purged, state.vote) != (model.last(), model.purged, model.vote) {
            return false;
        }
        let first = model.purged.map_or(0, |purged| purged.index.0 + 1);
        for (index, (id, payload)) in model.entries.range(first..) {
            let read = log.shard(ShardId(*shard)).entries(LogIndex(*index)..LogIndex(index + 1), 0).await;
            if read.unwrap_or_default().first().is_none_or(|entry| entry.id != *id || entry.payload != *payload) {
                return false;
            }
        }
    }
    found.iter().all(|(shard, state)| models.contains_key(shard) || *state == LogState::default())
}

fn run(seed: u64, ignore_sync: bool) {
    let mut world = World::new(seed, ignore_sync);
    for _ in 0..4 {
        world.life();
    }
}

fn run_many(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed, false))) {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            panic!("seed {seed}: {}", text.unwrap_or_default());
        }
    }
}

#[test]
fn no_acknowledged_step_is_lost_in_seeds_0_to_299() {
    run_many(0..300);
}

#[test]
fn no_acknowledged_step_is_lost_in_seeds_300_to_599() {
    run_many(300..600);
}

#[test]
fn no_acknowledged_step_is_lost_in_seeds_600_to_899() {
    run_many(600..900);
}

#[test]
fn no_acknowledged_step_is_lost_in_seeds_900_to_1199() {
    run_many(900..1_200);
}

/// Two headers can be unsynced at once, and the later one reach the disk alone: then the segment
/// before them, synced and with a footer, is the last of the log.
#[test]
fn a_sealed_segment_keeps_all_when_the_next_header_is_lost_and_a_later_one_is_not() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _simulated = base::task::simulate();
    runtime.block_on(async {
        let dir = Path::new("/data/log");
        let file = |sequence| dir.join(segment_name(sequence));
        let options = Options { segment_bytes: 64 << 10, fill_bytes_per_second: 0, salt: 7, ..small() };
        let disk = SimDisk::new(1, SimDiskOptions::default());
        let (log, _) = CommitLog::open(Arc::new(disk.clone()), dir, options.clone()).await.unwrap();
        log.shard(SHARD).save_vote(vote(1)).await.unwrap();
        for index in 0..30 {
            append(&log.shard(SHARD), vec![entry(1, index, 1_000)]).await;
        }
        disk.set_options(|options| options.latency_max = Duration::from_millis(10));
        let rest = (30..130).map(|index| entry(1, index, 1_000)).collect();
        log.shard(SHARD).append(rest, Box::new(drop)).unwrap();
        let is_begun = |path: &Path| disk.exists(path) && disk.contents(path)[..8] != [0; 8];
        while !is_begun(&file(3)) {
            base::time::sleep(Duration::from_micros(50)).await;
        }
        let (mut second, third) = (disk.contents(&file(2)), disk.contents(&file(3)));
        second[..4_096].fill(0);
        let has_footer = || {
            let first = disk.contents(&file(1));
            footer::Trailer::decode(&first[first.len() - 64..], 1, 64 << 10).is_some()
        };
        eventually("the footer", has_footer).await;

        let after = SimDisk::new(2, SimDiskOptions::default());
        after.create_dir_all(dir).unwrap();
        for (sequence, bytes) in [(1, disk.contents(&file(1))), (2, second), (3, third)] {
            let file = after.open(&file(sequence), OpenOptions::create_new()).unwrap();
            file.write_at(0, &[io::IoSlice::new(&bytes)]).await.unwrap();
        }
        let (log, recovered) = CommitLog::open(Arc::new(after), dir, options).await.unwrap();
        assert_eq!(recovered[0].damage, [], "a crash is no damage");
        assert_eq!(recovered[0].log_state.vote, Some(vote(1)));
        let last = recovered[0].log_state.last.unwrap().index.0;
        assert!((30..70).contains(&last), "the first segment's entries and no others: {last}");
        for index in 0..=last {
            check_entry(&log.shard(SHARD), 1, index, 1_000).await;
        }
    });
}

#[test]
fn without_syncs_the_same_test_fails() {
    let failed = (0..20).filter(|seed| catch_unwind(AssertUnwindSafe(|| run(*seed, true))).is_err()).count();
    assert!(failed > 10, "only {failed} of 20 seeds saw that nothing was synced");
}
