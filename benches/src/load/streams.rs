//! The state of a shard that holds very many idle streams: its memory, and how long a checkpoint keeps `apply` out.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use record::{LeaderEpoch, LogIndex, ShardId, StreamId, StreamOffset, Term, TimestampMs};
use serde_json::{Value, json};
use shard::commands::{CreateStreams, NewStream};
use shard::{EntryBuilder, Shard};

use crate::measure::Usage;

/// Streams that one entry creates.
const BATCH: u64 = 1000;
/// Records of one step of a capture, as the replica takes them.
const STEP: usize = 512;

#[derive(Args, Clone, Debug)]
pub(crate) struct StreamsLoad {
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) streams: u64,
}

impl StreamsLoad {
    pub(crate) fn run(&self) -> Result<Value> {
        let pid = std::process::id();
        let before = Usage::memory(pid)?;
        let mut state = Shard::new(ShardId(1));
        let mut index = 0;
        let started = Instant::now();
        for first in (0..self.streams).step_by(usize::try_from(BATCH)?) {
            apply(&mut state, &mut index, first, (first + BATCH).min(self.streams))?;
        }
        let created = started.elapsed();
        let memory = Usage::memory(pid)?.saturating_sub(before);
        let base = capture(&mut state, true, &mut index, self.streams)?;
        let delta = capture(&mut state, false, &mut index, self.streams + 100 * BATCH)?;
        let while_captured = Usage::memory_peak(pid)?.saturating_sub(before);
        Ok(json!({
            "streams": self.streams, "memory_mb": memory as f64 / 1e6, "bytes_each": memory / self.streams,
            "peak_mb": while_captured as f64 / 1e6, "created_s": created.as_secs_f64(),
            "base_pause_ms": base.pause.as_secs_f64() * 1e3, "base_mb": base.bytes as f64 / 1e6,
            "delta_pause_ms": delta.pause.as_secs_f64() * 1e3, "delta_mb": delta.bytes as f64 / 1e6,
        }))
    }
}

struct Captured {
    /// The longest time that the capture kept everything else out.
    pause: Duration,
    bytes: usize,
}

/// A whole capture, with entries applied between its steps.
fn capture(state: &mut Shard, base: bool, index: &mut u64, first: u64) -> Result<Captured> {
    let begin = Instant::now();
    state.begin_capture(base).map_err(|running| anyhow::anyhow!("{running:?}"))?;
    let mut captured = Captured { pause: begin.elapsed(), bytes: 0 };
    for step in 0.. {
        let begin = Instant::now();
        let chunk = state.capture_some(STEP);
        captured.pause = captured.pause.max(begin.elapsed());
        let Some(chunk) = chunk else { return Ok(captured) };
        captured.bytes += chunk.len();
        // Some of what is captured changes meanwhile.
        if step < 50 {
            apply(state, index, first + step * BATCH, first + (step + 1) * BATCH)?;
        }
    }
    Ok(captured)
}

fn apply(state: &mut Shard, index: &mut u64, from: u64, to: u64) -> Result<()> {
    let new = |id: u64| NewStream { id: StreamId(id + 1), epoch_start: LeaderEpoch(0), first_offset: StreamOffset(0) };
    let mut entry = EntryBuilder::new();
    entry.push(&CreateStreams { streams: (from..to).map(new).collect() }.into(), []);
    *index += 1;
    let head = entry.finish(TimestampMs(1_700_000_000_000)).into_iter().next().context("an entry has a head")?;
    let applied = state.apply(LogIndex(*index), Term(1), &head)?;
    ensure!(applied.outcomes.len() == 1, "{} outcomes", applied.outcomes.len());
    Ok(())
}
