//! What streams and batches cost in memory, counted by the allocator. A test program of its own, because the counter
//! counts everything that the process allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use record::{
    BatchSummary, Compression, LeaderEpoch, LogIndex, NodeId, ShardId, StreamId, StreamOffset, Term, TimestampMs,
    TimestampType,
};
use shard::commands::{Append, CreateStreams, LeaderChange, NewStream, Seal};
use shard::{Command, EntryBuilder, Restore, Shard};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe to implement; this one only counts what the system's gives")]
// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const STREAMS: u64 = 1_000_000;

struct Log {
    shard: Shard,
    index: u64,
}

impl Log {
    fn apply(&mut self, commands: impl IntoIterator<Item = Command>) {
        let mut entry = EntryBuilder::new();
        for command in commands {
            entry.push(&command, [Bytes::from(vec![0; command.body_bytes() as usize])]);
        }
        self.index += 1;
        let entry = entry.finish(TimestampMs(0));
        self.shard.apply(LogIndex(self.index), Term(self.index), &entry[0]).expect("no assertion fails");
    }
}

fn append(stream: u64) -> Command {
    let batch = BatchSummary {
        bytes: 1,
        record_count: 1,
        compression: Compression::None,
        timestamp_type: TimestampType::CreateTime,
        base_timestamp: TimestampMs(0),
        max_timestamp: TimestampMs(0),
        max_timestamp_correction: None,
        producer: None,
        transactional: false,
        control: false,
    };
    Append::new([StreamId(stream)].into_iter().collect(), batch).into()
}

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn a_million_idle_streams_and_a_million_batches() {
    let before = live();
    let mut log = Log { shard: Shard::new(ShardId(1)), index: 0 };
    for from in (0..STREAMS).step_by(10_000) {
        let new = |id| NewStream { id: StreamId(id), epoch_start: LeaderEpoch(0), first_offset: StreamOffset(0) };
        log.apply([CreateStreams { streams: (from..from + 10_000).map(new).collect() }.into()]);
    }
    let created = live() - before;

    // A base touches every stream once, in bounded steps, and leaves nothing behind.
    let mut chunks = Vec::new();
    log.shard.begin_capture(true).unwrap();
    while let Some(chunk) = log.shard.capture_some(200) {
        assert!(chunk.len() < 300 * 1024, "a step is bounded by bytes, too");
        chunks.push(chunk);
    }
    assert_eq!(log.shard.changed_records(), 0);
    assert!(chunks.iter().map(Vec::len).sum::<usize>() < 120 * 1_000_000);

    // An election touches no stream.
    log.apply([LeaderChange { leader: NodeId(1) }.into()]);
    assert_eq!(log.shard.stream(StreamId(17)).unwrap().epoch(), LeaderEpoch(1));
    assert_eq!(log.shard.changed_records(), 0);

    // Every stream was used once and is sealed: idle again.
    for from in (0..STREAMS).step_by(10_000) {
        log.apply((from..from + 10_000).map(append));
    }
    let through = LogIndex(log.index);
    log.apply([Seal { through }.into()]);
    for file in log.shard.live_files() {
        log.shard.sealed_durable(file);
    }
    let chunks_bytes: usize = chunks.iter().map(Vec::capacity).sum();
    let used = live() - before - chunks_bytes;

    // Batches of some busy streams, not sealed yet.
    let idle = live();
    for _ in 0..100 {
        log.apply((0..10_000).map(|number| append(number % 16)));
    }
    let batches = live() - idle;
    assert_eq!(log.shard.unsealed_batches(), 1_000_000);

    let mut restore = Restore::new(ShardId(1));
    for chunk in chunks {
        restore.chunk(&chunk).unwrap();
    }
    assert_eq!(restore.finish().unwrap().streams() as u64, STREAMS);

    let per_stream = |bytes: usize| bytes / 1_000_000;
    assert!(per_stream(created) <= 250, "{} bytes a new stream", per_stream(created));
    assert!(per_stream(used) <= 300, "{} bytes an idle stream", per_stream(used));
    assert!(per_stream(batches) <= 40, "{} bytes a batch", per_stream(batches));
}
