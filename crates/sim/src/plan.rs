//! What a seed decides before anything runs.

use base::planted::Planted;
use base::random::{Random, SeededRandom};
use base::time::Duration;

/// The sizes and times of one run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub shards: usize,
    pub partitions: i32,
    pub writers: usize,
    pub readers: usize,
    pub committers: usize,
    pub slow_readers: usize,
    /// A writer rests up to so long between two batches.
    pub writer_pause: Duration,
    /// How long faults happen.
    pub faulty: Duration,
    /// How long the cluster may take to converge when they have ended.
    pub converge_max: Duration,
    pub segment_bytes: u64,
    /// Segments in which nothing lives are kept to be used again up to so many.
    pub ready_segments: usize,
    /// How long shards may differ in their numbers of streams.
    pub balance_wait: Duration,
    /// What a shard keeps of its log for members that were away: who was away for longer is installed.
    pub log_keep_bytes: u64,
    /// What stays in the log as it is; what is older is put into objects.
    pub log_hot_bytes: u64,
    pub checkpoint_age_max: Duration,
    pub catch_up_bytes_per_second: Option<u64>,
    /// The records go to a topic after the other, each for about so long: then it is read and deleted, and what
    /// held it is used again.
    pub topic_lasts: Option<Duration>,
    /// Whether records are deleted from the front of partitions.
    pub deletes: bool,
    /// Whether there is a topic that is compacted.
    pub keyed: bool,
    /// What the keys of a partition that is compacted may take.
    pub compaction_memory_bytes: u64,
    /// One batch in so many is too large to be copied on its way to a reader.
    pub large_one_in: u64,
    /// What a direction of a connection holds: with little of it, what is read slowly is still in the file meanwhile.
    pub socket_bytes: usize,
    pub disk_latency_max: Duration,
    pub disk_bytes: u64,
    pub faults: bool,
    pub planted: Option<Planted>,
}

/// The same of a run in which no topic is deleted.
const LARGE_ONE_IN_OF_KEPT: u64 = 30;

/// What every run has; seeds vary around it.
#[derive(Debug, Clone)]
pub struct Sizes {
    pub faulty: Duration,
    pub faults: bool,
    pub planted: Option<Planted>,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { faulty: Duration::from_secs(300), faults: true, planted: None }
    }
}

impl Plan {
    #[must_use]
    pub fn new(seed: u64, sizes: &Sizes) -> Self {
        let random = fork(seed, "plan");
        let below = |bound: u64| usize::try_from(random.below(bound)).expect("small");
        let sizes_of = fork(seed, "sizes");
        let segment_bytes = *pick(&sizes_of, &[128 << 10, 128 << 10, 256 << 10]);
        let log_keep_bytes = *pick(&sizes_of, &[256 << 10, 512 << 10, 1 << 30]);
        let checkpoint_age_max = between(&sizes_of, Duration::from_secs(1), Duration::from_secs(12));
        let catch_up_bytes_per_second = *pick(&sizes_of, &[None, Some(1 << 20)]);
        let topic_lasts =
            (!chance(&sizes_of, 4)).then(|| between(&sizes_of, Duration::from_secs(15), Duration::from_secs(40)));
        let large_one_in: u64 = *pick(&sizes_of, &[8, 30, 120]);
        Self {
            seed,
            nodes: [3, 3, 3, 4, 5][below(5)],
            shards: 1 + below(3),
            partitions: 2 + i32::try_from(random.below(4)).expect("small"),
            writers: 5 + below(4),
            readers: 2 + below(2),
            committers: 2,
            slow_readers: 5,
            writer_pause: Duration::from_millis(60 + random.below(60)),
            faulty: sizes.faulty,
            // A shard that is brought back at 1 MiB a second, and then others one after the other, takes its time.
            converge_max: Duration::from_secs(240),
            segment_bytes,
            ready_segments: *pick(&fork(seed, "ready"), &[1, 16, 16]),
            balance_wait: *pick(&fork(seed, "balance"), &[Duration::from_secs(3), Duration::from_secs(600)]),
            log_keep_bytes,
            log_hot_bytes: *pick(&fork(seed, "hot"), &[0, 0, 2 << 20, 4 << 30]),
            checkpoint_age_max,
            catch_up_bytes_per_second,
            topic_lasts,
            deletes: !chance(&fork(seed, "deletes"), 3),
            keyed: !chance(&fork(seed, "keyed"), 3),
            compaction_memory_bytes: *pick(&fork(seed, "keys"), &[256, 32 << 10, 128 << 20]),
            // What nobody deletes must not fill the disks.
            large_one_in: if topic_lasts.is_some() { large_one_in } else { large_one_in.max(LARGE_ONE_IN_OF_KEPT) },
            socket_bytes: *pick(&fork(seed, "sockets"), &[16 << 10, 16 << 10, 256 << 10]),
            disk_latency_max: Duration::from_micros(500 + random.below(4_000)),
            disk_bytes: 256 << 20,
            faults: sizes.faults,
            planted: sizes.planted,
        }
    }
}

/// A stream of random numbers of its own for whoever `name` is.
#[must_use]
pub fn fork(seed: u64, name: &str) -> SeededRandom {
    let random = SeededRandom::new(seed ^ base::trace::hash_of(name.as_bytes()));
    SeededRandom::new(random.next_u64())
}

/// True once in `one_in` times.
pub fn chance(random: &dyn Random, one_in: u64) -> bool {
    random.below(one_in) == 0
}

/// A time below `most`.
pub fn up_to(random: &dyn Random, most: Duration) -> Duration {
    Duration::from_micros(random.below(u64::try_from(most.as_micros()).unwrap_or(u64::MAX).max(1)))
}

/// A time between two.
pub fn between(random: &dyn Random, least: Duration, most: Duration) -> Duration {
    least + up_to(random, most.saturating_sub(least))
}

/// One of `choices`, which are not empty.
pub fn pick<'a, T>(random: &dyn Random, choices: &'a [T]) -> &'a T {
    &choices[usize::try_from(random.below(choices.len() as u64)).expect("an index")]
}
