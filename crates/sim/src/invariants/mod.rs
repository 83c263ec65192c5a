//! What must hold, whatever happens. One file each; each knows only what clients were told, or what
//! replicas say of themselves.

mod acked_is_there;
mod commits_stay;
mod gone_stays_gone;
mod newest_of_key;
mod no_damage;
mod no_gap;
mod one_leader;
mod one_order;
mod reads_are_current;
mod same_state;
mod votes_stay;

use record::{LogIndex, NodeId, ShardId, Term};

use self::acked_is_there::AckedIsThere;
use self::commits_stay::CommitsStay;
use self::gone_stays_gone::GoneStaysGone;
use self::newest_of_key::NewestOfKey;
use self::one_leader::OneLeader;
use self::one_order::OneOrder;
use self::reads_are_current::ReadsAreCurrent;
use self::same_state::SameState;
pub use self::votes_stay::Vote;
use self::votes_stay::VotesStay;
use crate::client::{KeyedRecord, Seen};

/// An invariant that does not hold, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
}

fn violation(invariant: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { invariant, what })
}

/// All of them.
#[derive(Debug, Default)]
pub struct Invariants {
    acked_is_there: AckedIsThere,
    one_order: OneOrder,
    reads_are_current: ReadsAreCurrent,
    commits_stay: CommitsStay,
    gone_stays_gone: GoneStaysGone,
    newest_of_key: NewestOfKey,
    one_leader: OneLeader,
    same_state: SameState,
    votes_stay: VotesStay,
}

impl Invariants {
    /// A writer was told that `values` stand from `base_offset` on.
    ///
    /// # Errors
    /// When that contradicts what was seen.
    pub fn acked(&mut self, partition: i32, base_offset: i64, values: &[String]) -> Result<(), Violation> {
        for (offset, value) in (base_offset..).zip(values) {
            let seen = Seen { offset, value: value.clone() };
            self.one_order.see(partition, &seen)?;
            self.acked_is_there.acked(partition, seen);
        }
        let count = i64::try_from(values.len()).expect("few");
        self.reads_are_current.appended(partition, base_offset + count);
        Ok(())
    }

    /// A reader was given a record.
    ///
    /// # Errors
    /// When it contradicts what was seen.
    pub fn read(&mut self, partition: i32, seen: &Seen) -> Result<(), Violation> {
        self.one_order.see(partition, seen)
    }

    /// What a question for the end of a partition, or for a committed offset, must at least be answered
    /// with, if it is asked now.
    #[must_use]
    pub fn end_now(&self, partition: i32) -> i64 {
        self.reads_are_current.end(partition)
    }

    /// A question for the end, asked when [`Self::end_now`] gave `least`, was answered.
    ///
    /// # Errors
    /// When the answer is older than the question.
    pub fn end_read(&self, partition: i32, least: i64, end: i64) -> Result<(), Violation> {
        self.reads_are_current.read(partition, least, end)
    }

    /// Somebody asks to delete everything before an offset.
    pub fn deleting(&mut self, partition: i32, before: i64) {
        self.gone_stays_gone.asking(partition, before);
    }

    /// He was told that it is done.
    pub fn deleted(&mut self, partition: i32, before: i64) {
        self.gone_stays_gone.told(partition, before);
    }

    /// Before this offset anything of a partition may be gone.
    #[must_use]
    pub fn gone_before(&self, partition: i32) -> i64 {
        self.gone_stays_gone.asked_before(partition)
    }

    /// What is about to be deleted: all that a partition holds from one offset to the other.
    ///
    /// # Errors
    /// When something is missing, there twice, or out of order.
    pub fn about_to_go(&mut self, partition: i32, from: i64, before: i64, records: &[Seen]) -> Result<(), Violation> {
        for seen in records {
            self.one_order.see(partition, seen)?;
        }
        no_gap::check(partition, from, records)?;
        self.acked_is_there.check(partition, from..before, records)
    }

    /// Records with keys are sent to a partition that is compacted.
    pub fn keyed_sent(&mut self, partition: i32, records: &[(String, Option<String>)]) {
        self.newest_of_key.sent(partition, records);
    }

    /// Their writer was told that they stand from `base_offset` on.
    ///
    /// # Errors
    /// When that contradicts what was seen.
    pub fn keyed_acked(
        &mut self,
        partition: i32,
        base_offset: i64,
        records: &[(String, Option<String>)],
    ) -> Result<(), Violation> {
        self.newest_of_key.acked(partition, base_offset, records)
    }

    /// Whether anything was sent to a partition that is compacted.
    #[must_use]
    pub fn any_keyed(&self, partition: i32) -> bool {
        self.newest_of_key.has(partition)
    }

    /// All that is left of it before `end`.
    ///
    /// # Errors
    /// When the newest of a key is gone, or something is there that should not be.
    pub fn keyed_left(
        &mut self,
        partition: i32,
        end: i64,
        left: &[KeyedRecord],
        in_the_end: bool,
    ) -> Result<(), Violation> {
        self.newest_of_key.left(partition, end, left, in_the_end)
    }

    /// Somebody commits an offset.
    pub fn committing(&mut self, group: &str, partition: i32, offset: i64) {
        self.commits_stay.committing(group, partition, offset);
    }

    /// He was told that it is committed.
    pub fn committed(&mut self, group: &str, partition: i32, offset: i64) {
        self.commits_stay.committed(group, partition, offset);
    }

    /// He was not told whether it is.
    pub fn commit_unanswered(&mut self, group: &str, partition: i32, offset: i64) {
        self.commits_stay.unanswered(group, partition, offset);
    }

    /// What a question for a committed offset must at least be answered with, if it is asked now.
    #[must_use]
    pub fn commit_now(&self, group: &str, partition: i32) -> i64 {
        self.commits_stay.least(group, partition)
    }

    /// A question for a committed offset, asked when [`Self::commit_now`] gave `least`, was answered.
    ///
    /// # Errors
    /// When the commit went back, or was never made.
    pub fn commit_read(&mut self, group: &str, partition: i32, least: i64, offset: i64) -> Result<(), Violation> {
        self.commits_stay.read(group, partition, least, offset)
    }

    /// A node leads a shard and serves.
    ///
    /// # Errors
    /// When another one did in that term.
    pub fn leads(&mut self, shard: ShardId, term: Term, node: NodeId) -> Result<(), Violation> {
        self.one_leader.leads(shard, term, node)
    }

    /// How many elections were seen.
    #[must_use]
    pub fn elections(&self) -> u64 {
        self.one_leader.terms()
    }

    /// What a node says for whom it voted last in a shard.
    ///
    /// # Errors
    /// When it had voted in a later term, or for another node in that term.
    pub fn voted(&mut self, shard: ShardId, node: NodeId, vote: Vote) -> Result<(), Violation> {
        self.votes_stay.voted(shard, node, vote)
    }

    /// The digest of a replica's state.
    ///
    /// # Errors
    /// When another replica had another state at that entry.
    pub fn state(&mut self, shard: ShardId, applied: LogIndex, digest: u64, node: NodeId) -> Result<(), Violation> {
        self.same_state.is(shard, applied, digest, node)
    }

    /// How many states were compared with another replica's.
    #[must_use]
    pub fn states_compared(&self) -> u64 {
        self.same_state.compared()
    }

    /// A process ended by itself and said why, while bits of some disk were flipped or not.
    ///
    /// # Errors
    /// When it found damage that nothing did.
    pub fn ended(&self, host: &str, why: &str, is_damaged: bool) -> Result<(), Violation> {
        no_damage::ended(host, why, is_damaged)
    }

    /// All that a partition holds, from its first offset on.
    ///
    /// # Errors
    /// When something is missing, there twice, out of order, or gone and there again.
    pub fn all_of(&mut self, partition: i32, first: i64, records: &[Seen], in_the_end: bool) -> Result<(), Violation> {
        self.gone_stays_gone.begins(partition, first, in_the_end)?;
        for seen in records {
            self.one_order.see(partition, seen)?;
        }
        no_gap::check(partition, first, records)?;
        self.one_order.check_writers(partition, records)?;
        self.acked_is_there.check(partition, first..i64::MAX, records)
    }
}

/// The writer of a value and its number.
fn parse(value: &str) -> Option<(&str, u64)> {
    let (writer, number) = value.split_once('-')?;
    let number = number.split_once('/').map_or(number, |(number, _)| number);
    Some((writer, number.parse().ok()?))
}
