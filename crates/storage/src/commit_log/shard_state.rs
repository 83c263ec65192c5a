//! What one shard knows of its log: bounds, the recent entries in memory, and where the others are.
//!
//! Two views meet here. Callers of the shard's log see everything that was queued; the writer moves
//! `runs` and `unwritten_from` behind, in the order of the queue. `generation` tells the writer's
//! report of an append that a later truncation has already taken back.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use record::{LogIndex, ShardId};

use super::footer::Slot;
use super::lost;
use super::runs::{Located, Runs};
use super::segment::Segment;
use super::{Damage, LogState};
use crate::types::{Entry, LogId, Payload, Vote};

/// Memory of an entry besides its payload.
const ENTRY_OVERHEAD_BYTES: usize = 160;

#[derive(Debug)]
pub(crate) struct ShardState {
    pub(crate) id: ShardId,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) state: LogState,
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    /// Entries from here on are not in a file yet.
    unwritten_from: u64,
    generation: u64,
    pub(crate) runs: Runs,
    /// The purge mark that no crash takes back.
    durable_purged: Option<LogId>,
    /// The vote that no crash takes back.
    durable_vote: Option<Vote>,
    /// Purged ranges that hold live data, sorted; unknown until someone says.
    live: Option<Vec<RangeInclusive<u64>>>,
    /// The committed mark moved since it was put into the log.
    committed_unsaved: bool,
    /// Damage that was found at start.
    damage: Vec<Damage>,
    /// Entries that were given up.
    lost: Vec<Damage>,
    /// A read has found damage.
    pub(crate) damaged_read: bool,
}

/// Where an entry is found.
pub(crate) enum Found {
    Memory(Entry),
    File(Located),
}

/// An append that was taken: what the writer tells back about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) generation: u64,
}

impl ShardState {
    pub(crate) fn new(id: ShardId) -> Self {
        Self { id, inner: Mutex::default() }
    }

    pub(crate) fn recovered(id: ShardId, state: LogState, runs: Runs) -> Self {
        let unwritten_from = state.last.map_or(0, |last| last.index.0 + 1);
        let (durable_purged, durable_vote) = (state.purged, state.vote);
        let inner = Inner { state, unwritten_from, runs, durable_purged, durable_vote, ..Inner::default() };
        Self { id, inner: Mutex::new(inner) }
    }

    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(crate) fn find(&self, index: LogIndex) -> Option<Found> {
        let inner = self.inner.lock();
        if let Some(entry) = inner.recent_entry(index) {
            return Some(Found::Memory(entry.clone()));
        }
        inner.locate(index).map(Found::File)
    }

    /// The writer wrote entries of `shard` into `segment`. Returns how many runs they began.
    pub(crate) fn written(&self, segment: &Arc<Segment>, entries: &[(LogId, Slot)], taken: Taken) {
        let mut inner = self.inner.lock();
        for (id, slot) in entries {
            inner.runs.push(segment, id.term, id.index, *slot);
        }
        if let Some((last, _)) = entries.last()
            && taken.generation == inner.generation
        {
            assert!(last.index.0 >= inner.unwritten_from, "entries are written once");
            inner.unwritten_from = last.index.0 + 1;
        }
    }

    /// Drops the oldest entries from memory that are in a file, until `enough`.
    pub(crate) fn evict(&self, memory: &AtomicUsize, enough: impl Fn(usize, usize) -> bool) {
        self.inner.lock().evict(memory, enough);
    }

    pub(crate) fn recent_bytes(&self) -> usize {
        self.inner.lock().recent_bytes
    }
}

impl Inner {
    pub(crate) fn generation(&self) -> Taken {
        Taken { generation: self.generation }
    }

    /// Index of the entry that an append must begin with; none when any may.
    pub(crate) fn next_index(&self) -> Option<u64> {
        self.state.last.map(|last| last.index.0 + 1)
    }

    /// Those of `entries` whose index is not in the log.
    pub(crate) fn without_known(&self, mut entries: Vec<Entry>) -> Vec<Entry> {
        entries.retain(|entry| self.next_index().is_none_or(|next| entry.id.index.0 >= next));
        entries
    }

    pub(crate) fn add_recent(&mut self, entries: &[Entry], memory: &AtomicUsize) {
        let mut added = 0;
        for entry in entries {
            added += counted_bytes(&entry.payload);
            self.recent.push_back(entry.clone());
            self.state.last = Some(entry.id);
        }
        self.recent_bytes += added;
        memory.fetch_add(added, Ordering::Relaxed);
    }

    /// Forgets the entries behind `before`, which nobody but the caller has seen.
    pub(crate) fn take_back(&mut self, before: Option<LogId>, memory: &AtomicUsize) {
        self.drop_recent_from(before.map_or(0, |last| last.index.0 + 1), memory);
        self.state.last = before;
    }

    fn drop_recent_from(&mut self, from: u64, memory: &AtomicUsize) {
        while self.recent.back().is_some_and(|entry| entry.id.index.0 >= from) {
            let bytes = self.recent.pop_back().map_or(0, |entry| counted_bytes(&entry.payload));
            self.recent_bytes -= bytes;
            memory.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn set_damage(&mut self, damage: Vec<Damage>) {
        self.damage = damage;
    }

    pub(crate) fn set_lost(&mut self, lost: Vec<Damage>) {
        self.lost = lost;
    }

    /// Entries that were given up: reads of them answer damage from now on.
    pub(crate) fn give_up(&mut self, lost: &[Damage]) {
        self.lost.extend_from_slice(lost);
        self.damage.extend_from_slice(lost);
    }

    /// The ranges of `wanted` that are neither in the log nor given up.
    pub(crate) fn lacking(&self, wanted: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let mut lacking = Vec::new();
        let mut next = *wanted.start();
        for (first, count) in self.runs.counts_from(next) {
            if first > *wanted.end() {
                break;
            }
            if first > next {
                lacking.push(next..=first - 1);
            }
            next = next.max(first + u64::from(count));
        }
        // What is in memory may not be written yet.
        if let Some(recent) = self.recent.front() {
            let (first, behind) = (recent.id.index.0, recent.id.index.0 + self.recent.len() as u64);
            if (first..behind).contains(&next) {
                next = behind;
            }
        }
        if next <= *wanted.end() {
            lacking.push(next..=*wanted.end());
        }
        lacking.into_iter().flat_map(|range| lost::without(range, &self.lost)).collect()
    }

    /// The first index from `from` on that is in a file or in memory.
    pub(crate) fn first_held(&self, from: u64) -> Option<u64> {
        let last = self.state.last?.index.0;
        let run = self.runs.counts_from(from).find(|(first, count)| first + u64::from(*count) > from);
        let recent = self.recent.front().map(|entry| entry.id.index.0.max(from));
        let held = run.map(|(first, _)| first.max(from)).into_iter().chain(recent).min()?;
        (held <= last).then_some(held)
    }

    /// The damage that took the entry `index`, as far as is known.
    pub(crate) fn damage_of(&self, index: LogIndex) -> Option<Damage> {
        let took = |damage: &&Damage| damage.indexes.as_ref().is_some_and(|indexes| indexes.contains(&index));
        self.damage.iter().find(took).cloned()
    }

    pub(crate) fn has_damage(&self) -> bool {
        !self.damage.is_empty()
    }

    pub(crate) fn has_damage_in(&self, range: &RangeInclusive<LogIndex>) -> bool {
        let overlaps = |hit: &RangeInclusive<LogIndex>| hit.start() <= range.end() && range.start() <= hit.end();
        self.damage.iter().filter_map(|damage| damage.indexes.as_ref()).any(overlaps)
    }

    pub(crate) fn recent_entry(&self, index: LogIndex) -> Option<&Entry> {
        let front = self.recent.front()?.id.index.0;
        let entry = self.recent.get(usize::try_from(index.0.checked_sub(front)?).ok()?)?;
        assert_eq!(entry.id.index, index, "recent entries are consecutive");
        Some(entry)
    }

    /// Where an entry that is in no memory stands in the files.
    pub(crate) fn locate(&self, index: LogIndex) -> Option<Located> {
        if self.state.last.is_none_or(|last| index > last.index) {
            return None;
        }
        self.runs.locate(index)
    }

    pub(crate) fn vote(&mut self, vote: Vote) {
        self.state.vote = Some(vote);
    }

    pub(crate) fn vote_is_durable(&mut self, vote: Vote) {
        // Those who wait for their votes may be told in any order.
        if self.durable_vote.is_none_or(|before| vote.may_follow(&before)) {
            self.durable_vote = Some(vote);
        }
    }

    pub(crate) fn durable_vote(&self) -> Option<Vote> {
        self.durable_vote
    }

    /// Forgets the entries behind `last`, for readers at once.
    pub(crate) fn truncate_after(&mut self, last: Option<LogId>, memory: &AtomicUsize) {
        let from = last.map_or(0, |last| last.index.0 + 1);
        self.drop_recent_from(from, memory);
        self.state.last = last;
        self.state.committed = self.state.committed.min(last);
        self.unwritten_from = self.unwritten_from.min(from);
        self.generation += 1;
    }

    pub(crate) fn purge(&mut self, through: LogId, memory: &AtomicUsize) {
        assert!(self.state.purged <= Some(through), "the purge mark only rises");
        self.state.purged = Some(through);
        if self.state.last.is_none_or(|last| last.index < through.index) {
            // The log starts anew behind the mark, as after a snapshot from elsewhere.
            self.forget_recent(memory);
            self.state.last = Some(through);
            self.unwritten_from = through.index.0 + 1;
            self.generation += 1;
        }
    }

    /// Forgets all entries and the purge mark, for readers at once; the vote stays.
    pub(crate) fn forget(&mut self, memory: &AtomicUsize) {
        self.forget_recent(memory);
        (self.state.last, self.state.committed, self.state.purged) = (None, None, None);
        // What comes next is not to be let go by what was said of former entries.
        self.durable_purged = None;
        self.live = None;
        self.damaged_read = false;
        self.unwritten_from = 0;
        self.generation += 1;
    }

    pub(crate) fn purge_is_durable(&mut self, through: LogId) {
        self.durable_purged = self.durable_purged.max(Some(through));
    }

    pub(crate) fn set_committed(&mut self, committed: LogId) {
        if Some(committed) <= self.state.last && Some(committed) > self.state.committed {
            self.state.committed = Some(committed);
            self.committed_unsaved = true;
        }
    }

    /// The committed mark, if the log does not have it yet.
    pub(crate) fn take_unsaved_committed(&mut self) -> Option<LogId> {
        std::mem::take(&mut self.committed_unsaved).then_some(self.state.committed).flatten()
    }

    pub(crate) fn set_live(&mut self, mut live: Vec<RangeInclusive<u64>>) {
        live.retain(|range| !range.is_empty());
        live.sort_unstable_by_key(|range| *range.start());
        self.live = Some(live);
    }

    /// Whether any entry of the range is wanted: not purged, or live.
    pub(crate) fn is_wanted(&self, range: &RangeInclusive<u64>) -> bool {
        let purged = self.durable_purged.is_some_and(|purged| *range.end() <= purged.index.0);
        let Some(live) = &self.live else { return true };
        if !purged {
            return true;
        }
        let behind = live.partition_point(|kept| kept.start() <= range.end());
        live[..behind].iter().rev().any(|kept| kept.end() >= range.start())
    }

    pub(crate) fn drop_dead_runs(&mut self) {
        let mut runs = std::mem::take(&mut self.runs);
        runs.drop_dead(|range| self.is_wanted(&range));
        self.runs = runs;
    }

    fn evict(&mut self, memory: &AtomicUsize, enough: impl Fn(usize, usize) -> bool) {
        while !enough(memory.load(Ordering::Relaxed), self.recent_bytes) {
            let Some(oldest) = self.recent.front().filter(|entry| entry.id.index.0 < self.unwritten_from) else {
                break;
            };
            let bytes = counted_bytes(&oldest.payload);
            self.recent.pop_front();
            self.recent_bytes -= bytes;
            memory.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn forget_recent(&mut self, memory: &AtomicUsize) {
        self.recent.clear();
        memory.fetch_sub(self.recent_bytes, Ordering::Relaxed);
        self.recent_bytes = 0;
    }

    /// The first and last index that are in no run although the log has them.
    pub(crate) fn holes(&self) -> Vec<RangeInclusive<LogIndex>> {
        let mut holes = Vec::new();
        let Some(last) = self.state.last else { return holes };
        let mut next = self
            .state
            .purged
            .map_or_else(|| self.runs.iter().next().map_or(0, |(first, _)| first), |purged| purged.index.0 + 1);
        for (first, run) in self.runs.iter() {
            if first > next {
                holes.push(LogIndex(next)..=LogIndex((first - 1).min(last.index.0)));
            }
            next = next.max(first + u64::from(run.count));
        }
        if next <= last.index.0 {
            holes.push(LogIndex(next)..=last.index);
        }
        holes
    }
}

/// What an entry counts for. Payloads are counted by their length; what their buffers keep alive is at
/// most twice that, by the rule for making a [`Payload`].
fn counted_bytes(payload: &Payload) -> usize {
    payload.len() + ENTRY_OVERHEAD_BYTES
}

/// Damage found at start, with the shard that it hit where that is known.
#[derive(Debug, Clone)]
pub(crate) struct ShardDamage {
    pub(crate) shard: Option<ShardId>,
    pub(crate) damage: Damage,
}
