//! The state of one shard, and the boundary at which entries are applied to it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use record::{FileNumber, LogIndex, NodeId, ShardId, Term, TimestampMs};

use crate::assertion::{AssertionFailed, Broken, ensure};
use crate::capture::Capture;
use crate::codec::wire_struct;
use crate::command::{Command, dispatch};
use crate::compacted::Compacted;
use crate::digest::mix;
use crate::effects::{Applied, Effects};
use crate::entry::EntryCommands;
use crate::features::FEATURE_LEVEL;
use crate::groups::Groups;
use crate::metadata::Metadata;
use crate::model::{Settings, Transfer};
use crate::objects::Objects;
use crate::outcome::Outcome;
use crate::producers::Producers;
use crate::ranges::SealedRange;
use crate::sealing::SealedIndex;
use crate::stream::Stream;
use crate::table::Table;
use crate::uploads::Upload;

/// The state that is no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalars {
    /// The last entry that was applied.
    pub(crate) applied: Option<LogIndex>,
    pub(crate) applied_term: Term,
    /// The shard's time: never goes back.
    pub(crate) time: TimestampMs,
    pub(crate) settings: Settings,
    pub(crate) leader: Option<NodeId>,
    /// The term in which the leader last changed.
    pub(crate) leader_term: Option<Term>,
    pub(crate) leader_changes: u32,
    /// The last entry that appended something.
    pub(crate) last_append: Option<LogIndex>,
    /// Everything up to here is in index files.
    pub(crate) sealed_through: Option<LogIndex>,
    pub(crate) next_file: FileNumber,
    /// Counts the uses of producers.
    pub(crate) producer_uses: u64,
    /// Over everything that was ever appended.
    pub(crate) append_chain: u64,
    pub(crate) next_group_number: u64,
    pub(crate) next_group_version: u64,
    pub(crate) cluster_id: Option<u128>,
    pub(crate) next_stream: u64,
    pub(crate) next_producer: i64,
    /// Counts the changes of the metadata group's own state.
    pub(crate) metadata_version: u64,
    /// The shard of each slot; empty before the first assignment.
    pub(crate) slots: Vec<ShardId>,
}

wire_struct!(Scalars {
    applied: Option<LogIndex>,
    applied_term: Term,
    time: TimestampMs,
    settings: Settings,
    leader: Option<NodeId>,
    leader_term: Option<Term>,
    leader_changes: u32,
    last_append: Option<LogIndex>,
    sealed_through: Option<LogIndex>,
    next_file: FileNumber,
    producer_uses: u64,
    append_chain: u64,
    next_group_number: u64,
    next_group_version: u64,
    cluster_id: Option<u128>,
    next_stream: u64,
    next_producer: i64,
    metadata_version: u64,
    slots: Vec<ShardId>,
});

impl Default for Scalars {
    fn default() -> Self {
        Self {
            applied: None,
            applied_term: Term(0),
            time: TimestampMs(0),
            settings: Settings::default(),
            leader: None,
            leader_term: None,
            leader_changes: 0,
            last_append: None,
            sealed_through: None,
            next_file: FileNumber(1),
            producer_uses: 0,
            append_chain: 0,
            next_group_number: 1,
            next_group_version: 1,
            cluster_id: None,
            next_stream: 1,
            next_producer: 0,
            metadata_version: 0,
            slots: Vec::new(),
        }
    }
}

/// Where a command stands in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) index: LogIndex,
    pub(crate) term: Term,
    /// Of the command's body in the entry's payload.
    pub(crate) body: u32,
}

/// The state machine of one shard. Pure: what `apply` does follows from the state and the entry alone.
#[derive(Debug)]
pub struct Shard {
    pub(crate) id: ShardId,
    pub(crate) scalars: Scalars,
    pub(crate) streams: Table<Stream>,
    pub(crate) producers: Producers,
    pub(crate) ranges: Table<SealedRange>,
    pub(crate) objects: Objects,
    pub(crate) compacted: Compacted,
    pub(crate) uploads: Table<Upload>,
    pub(crate) transfers: Table<Transfer>,
    pub(crate) groups: Groups,
    pub(crate) metadata: Metadata,
    /// Derived: slots of streams that have batches in memory; a slot may stand here twice or for nothing.
    pub(crate) unsealed_slots: Vec<u32>,
    /// Derived: batches in memory that are not sealed.
    pub(crate) unsealed_batches: usize,
    /// Derived: bytes of the last extents of those batches.
    pub(crate) unsealed_bytes: u64,
    /// Local: sealed ranges whose files are not durable on this node yet, the oldest first, and whether they are.
    pub(crate) sealing: VecDeque<(Arc<SealedIndex>, bool)>,
    /// Local: the checkpoint that is being captured.
    pub(crate) capture: Option<Capture>,
    /// Local: there is no checkpoint that a delta could build on.
    pub(crate) base_needed: bool,
    /// Local: the state that the last capture that came to its end shows.
    pub(crate) captured_at: Option<LogIndex>,
    /// Local: why nothing is applied any more.
    pub(crate) failed: Option<AssertionFailed>,
}

impl Shard {
    /// The shard before its first entry.
    #[must_use]
    pub fn new(id: ShardId) -> Self {
        Self {
            id,
            scalars: Scalars::default(),
            streams: Table::default(),
            producers: Producers::default(),
            ranges: Table::default(),
            objects: Objects::default(),
            compacted: Compacted::default(),
            uploads: Table::default(),
            transfers: Table::default(),
            groups: Groups::default(),
            metadata: Metadata::default(),
            unsealed_slots: Vec::new(),
            unsealed_batches: 0,
            unsealed_bytes: 0,
            sealing: VecDeque::new(),
            capture: None,
            base_needed: true,
            captured_at: None,
            failed: None,
        }
    }

    /// Applies an entry of commands: `head` is the front of its payload, at least header and command section. Entries
    /// come in the order of the log.
    ///
    /// An error takes the shard out of service: its state cannot be trusted, and every later call fails the same way.
    pub fn apply(&mut self, index: LogIndex, term: Term, head: &[u8]) -> Result<Applied, AssertionFailed> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let mut at = String::new();
        let result = catch_unwind(AssertUnwindSafe(|| self.apply_entry(index, term, head, &mut at)));
        let mut broken = match result {
            Ok(Ok(applied)) => return Ok(applied),
            Ok(Err(broken)) => broken,
            Err(panic) => Broken { what: panic_text(panic.as_ref()) },
        };
        // A later program's log; only the metadata group knows.
        let level = self.feature_level();
        if level > FEATURE_LEVEL {
            let _ =
                write!(broken.what, "; the cluster uses features of level {level}, this program knows {FEATURE_LEVEL}");
        }
        let failed = AssertionFailed { index, command: at, what: broken.what };
        self.failed = Some(failed.clone());
        Err(failed)
    }

    /// Passes an entry that holds no commands.
    pub fn advance(&mut self, index: LogIndex, term: Term) -> Result<(), AssertionFailed> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.step(index, term).map_err(|broken| {
            let failed = AssertionFailed { index, command: "none".to_owned(), what: broken.what };
            self.failed = Some(failed.clone());
            failed
        })
    }

    fn step(&mut self, index: LogIndex, term: Term) -> Result<(), Broken> {
        let scalars = &mut self.scalars;
        ensure!(scalars.applied < Some(index), "entry {index} comes behind {:?}", scalars.applied);
        ensure!(scalars.applied_term <= term, "term {term} comes behind {}", scalars.applied_term);
        scalars.applied = Some(index);
        scalars.applied_term = term;
        Ok(())
    }

    fn apply_entry(&mut self, index: LogIndex, term: Term, head: &[u8], at: &mut String) -> Result<Applied, Broken> {
        self.step(index, term)?;
        let undecodable = |error| Broken { what: format!("the entry cannot be decoded: {error}") };
        let mut commands = EntryCommands::parse(head).map_err(undecodable)?;
        let header = commands.header();
        self.scalars.time = self.scalars.time.max(header.time);
        let mut applied = Applied::default();
        // A command takes more bytes than an outcome's place in this list is worth, so the count is not trusted.
        applied.outcomes.reserve((header.commands as usize).min(head.len() / crate::command::COMMAND_OVERHEAD));
        while let Some(placed) = commands.next_command().map_err(undecodable)? {
            let position = Position { index, term, body: placed.position };
            let (number, name) = (applied.outcomes.len(), placed.command.name());
            // Known before the command runs, for whatever may go wrong in it; costs nothing while nothing does.
            let mut named = Named { at, number, name, done: false };
            let outcome = self.apply_command(placed.command, position, &mut applied.effects)?;
            named.done = true;
            applied.outcomes.push(outcome);
        }
        Ok(applied)
    }

    fn apply_command(&mut self, command: Command, at: Position, effects: &mut Effects) -> Result<Outcome, Broken> {
        dispatch!(command, inner => inner.apply(self, at, effects))
    }

    /// Notes a change of the metadata group's own state; the number is its revision.
    pub(crate) fn metadata_change(&mut self, effects: &mut Effects) -> u64 {
        effects.metadata_changed = true;
        self.scalars.metadata_version += 1;
        self.scalars.metadata_version
    }

    /// Takes one more element into the digest of everything appended.
    pub(crate) fn chain(&mut self, element: u64) {
        self.scalars.append_chain = mix(self.scalars.append_chain ^ element).wrapping_add(element);
    }
}

/// Writes down which command was running if it did not come to its end, by error or by panic.
struct Named<'a> {
    at: &'a mut String,
    number: usize,
    name: &'static str,
    done: bool,
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if !self.done {
            *self.at = format!("{} ({})", self.number, self.name);
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a text"))
}
