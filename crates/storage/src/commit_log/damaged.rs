//! What a shard's log lacks of what it should have, and what becomes of that.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use record::LogIndex;

use super::Damage;
use super::lost;
use super::position::segment_name;
use super::recovery::ACCEPT_LOSS;
use super::segment::Segment;
use super::shard_log::ShardLog;
use super::shard_state::Inner;

impl ShardLog {
    /// Whether something of `range` is known to be damaged, given up, or was taken away with its file.
    #[must_use]
    pub fn is_damaged(&self, range: &RangeInclusive<LogIndex>) -> bool {
        self.state.lock().has_damage_in(range) || !self.taken_away(range.clone()).is_empty()
    }

    /// What of `wanted` is neither in the log nor given up, as damage of the file that is to blame.
    #[must_use]
    pub fn lacking(&self, wanted: RangeInclusive<LogIndex>) -> Vec<Damage> {
        let mut inner = self.state.lock();
        let lacking = inner.lacking(wanted.start().0..=wanted.end().0);
        lacking.into_iter().map(|range| self.blame(&mut inner, range)).collect()
    }

    /// What of `wanted` lay in segments that somebody took away, and was not given up. What is lacking
    /// elsewhere was let go when it was not wanted, or is damage that the start told of.
    #[must_use]
    pub fn taken_away(&self, wanted: RangeInclusive<LogIndex>) -> Vec<Damage> {
        if self.shared.missing.is_empty() {
            return Vec::new();
        }
        let mut inner = self.state.lock();
        let lacking = inner.lacking(wanted.start().0..=wanted.end().0);
        let mut taken = Vec::new();
        for range in lacking {
            let (before, behind) = inner.runs.around(*range.start());
            if self.missing_between(before, behind).is_some() {
                taken.push(self.blame(&mut inner, range));
            }
        }
        taken
    }

    /// What of `wanted` is not in the log any more, by damage or with a file that was taken away, and was not given up.
    #[must_use]
    pub fn damage_within(&self, wanted: RangeInclusive<LogIndex>) -> Vec<Damage> {
        let mut inner = self.state.lock();
        // Nearly always: a start asks for all that lives.
        if self.shared.missing.is_empty() && !inner.has_damage() {
            return Vec::new();
        }
        let mut damaged = Vec::new();
        for range in inner.lacking(wanted.start().0..=wanted.end().0) {
            let (before, behind) = inner.runs.around(*range.start());
            let indexes = LogIndex(*range.start())..=LogIndex(*range.end());
            if inner.has_damage_in(&indexes) || self.missing_between(before, behind).is_some() {
                damaged.push(self.blame(&mut inner, range));
            }
        }
        damaged
    }

    /// Whether a read has found damage that no start had found.
    #[must_use]
    pub fn has_damaged_read(&self) -> bool {
        self.state.lock().damaged_read
    }

    /// The first segment between two that is not there and was not let go.
    fn missing_between(&self, before: Option<&Arc<Segment>>, behind: Option<&Arc<Segment>>) -> Option<u32> {
        let from = before.map_or(0, |before| before.sequence + 1);
        let through = behind.map_or(u32::MAX, |behind| behind.sequence - 1);
        let of = |range: &RangeInclusive<u32>| {
            let first = from.max(*range.start());
            (first <= through.min(*range.end())).then_some(first)
        };
        self.shared.missing.iter().find_map(of)
    }

    fn blame(&self, inner: &mut Inner, range: RangeInclusive<u64>) -> Damage {
        let indexes = Some(LogIndex(*range.start())..=LogIndex(*range.end()));
        if let Some(known) = inner.damage_of(LogIndex(*range.start())) {
            return Damage { indexes, ..known };
        }
        let (before, behind) = inner.runs.around(*range.start());
        let dir = &self.shared.dir;
        if let Some(missing) = self.missing_between(before, behind) {
            return Damage { file: dir.join(segment_name(missing)), position: 0, bytes: 0, indexes };
        }
        if behind.is_none() && before.is_none_or(|before| before.sequence >= self.shared.opened_at.sequence) {
            // It lay behind what was found to be the end, and this life went on from there.
            let end = self.shared.opened_at;
            return Damage {
                file: dir.join(segment_name(end.sequence)),
                position: end.offset.into(),
                bytes: 0,
                indexes,
            };
        }
        // Nothing is said of a file that is not there: it lies next to those that hold the neighbours.
        let segments = self.shared.segments.lock();
        let next = before.map(|before| before.sequence + 1);
        let previous = behind.map(|behind| behind.sequence - 1);
        let missing = next.into_iter().chain(previous).find(|sequence| !segments.contains_key(sequence));
        let file = missing.map_or_else(|| dir.clone(), |sequence| dir.join(segment_name(sequence)));
        Damage { file, position: 0, bytes: 0, indexes }
    }

    /// Whether the operator accepts what this start finds to be lost.
    #[must_use]
    pub fn accepts_loss(&self) -> bool {
        self.shared.accepts_loss
    }

    /// The file with which the operator does.
    #[must_use]
    pub fn accept_file(&self) -> PathBuf {
        self.shared.dir.join(ACCEPT_LOSS)
    }

    /// Gives entries up, durably: they are lacking no more, and reads of them answer damage at every
    /// start to come.
    ///
    /// # Errors
    /// When the list of losses cannot be written.
    pub async fn give_up(&self, lost: Vec<Damage>) -> io::Result<()> {
        let (shared, shard) = (Arc::clone(&self.shared), self.state.id);
        self.state.lock().give_up(&lost);
        base::task::offload(async move {
            let mut losses = shared.lost.lock().await;
            losses.entry(shard).or_default().extend(lost);
            lost::write(&*shared.disk, &shared.dir, &losses).await
        })
        .await
    }
}
