//! What a committed entry does on this node: the state machine changes, then those who wait are
//! told. No I/O happens here.

use std::sync::atomic::Ordering;

use record::LogIndex;
use shard::{Effects, Outcome};
use storage::{LogId, Payload};

use crate::core::{Applied, Core, Unsealed};
use crate::errors::OutOfService;
use crate::raft::types::StoredMembership;

impl Core {
    /// A leader's first entry changes nothing but the place in the log.
    pub(crate) fn apply_blank(&self, id: LogId) -> Result<Vec<Outcome>, OutOfService> {
        self.pass(&mut self.state.write(), id)?;
        Ok(Vec::new())
    }

    /// The members changed.
    pub(crate) fn apply_membership(
        &self,
        id: LogId,
        membership: StoredMembership,
    ) -> Result<Vec<Outcome>, OutOfService> {
        {
            let mut state = self.state.write();
            self.pass(&mut state, id)?;
            state.membership = membership;
            self.note_members(&state.membership);
        }
        Ok(Vec::new())
    }

    /// Applies the commands of one entry, of which only the head is read.
    pub(crate) fn apply_commands(&self, id: LogId, payload: &Payload) -> Result<Vec<Outcome>, OutOfService> {
        // The head is the front of the first buffer, as built, or all that was read of the entry.
        let head = payload.buffers().first().map_or(&[][..], |buffer| &buffer[..]);
        let (result, unsealed) = {
            let mut state = self.state.write();
            self.step(&mut state, id)?;
            let result = state.shard.apply(id.index, id.term, head);
            if let Ok(applied) = &result {
                // Under the same lock: a checkpoint covers no seal whose file is not durable.
                self.note_sealed(&applied.effects.sealed);
                // And counts nothing as here that is not.
                let dead = self.here.follow(id.index, &applied.effects.objects, &state.shard);
                self.note_dead(&dead);
            }
            let shard = &state.shard;
            (result, Unsealed { batches: shard.unsealed_batches(), streams: shard.unsealed_streams() })
        };
        match result {
            Ok(applied) => {
                self.progress.note(payload.len(), applied.outcomes.len(), unsealed);
                self.tell(id.index, &applied.effects);
                Ok(applied.outcomes)
            }
            Err(failed) => Err(self.assertion(id.index, failed.to_string())),
        }
    }

    fn pass(&self, state: &mut Applied, id: LogId) -> Result<(), OutOfService> {
        self.step(state, id)?;
        state.shard.advance(id.index, id.term).map_err(|failed| self.assertion(id.index, failed.to_string()))
    }

    /// Entries come one behind the other, each once.
    fn step(&self, state: &mut Applied, id: LogId) -> Result<(), OutOfService> {
        let follows = state.last.is_none_or(|last| last.term <= id.term && last.index.next() == id.index);
        if !follows {
            let what = format!("term {} comes behind {:?}", id.term, state.last);
            return Err(self.assertion(id.index, what));
        }
        state.last = Some(id);
        Ok(())
    }

    fn assertion(&self, index: LogIndex, what: String) -> OutOfService {
        self.fail(OutOfService::Assertion { shard: self.config.shard, index, what })
    }

    fn tell(&self, index: LogIndex, effects: &Effects) {
        let Effects {
            appended,
            created: _,
            deleted,
            closed,
            sealed,
            dead_files,
            objects,
            leader_changed,
            metadata_changed,
            slots_changed,
            groups,
        } = effects;
        self.waiters.grown(appended.iter().map(|growth| (growth.stream, growth.bytes)));
        self.waiters.wake(deleted.iter().chain(closed).copied());
        if *leader_changed {
            self.note_leader();
            self.waiters.wake_all();
        }
        if *metadata_changed || !groups.is_empty() {
            self.changed.send_modify(|count| *count += 1);
        }
        if *slots_changed {
            self.slots_changed.send_modify(|count| *count += 1);
        }
        let due = self.progress.is_seal_due(&self.config);
        if !sealed.is_empty() {
            tracing::debug!(shard = self.config.shard.0, index = index.0, "sealed a range of the log");
            self.progress.bytes_since_seal.store(0, Ordering::Relaxed);
        }
        if !dead_files.is_empty() {
            self.note_dead(dead_files);
        }
        if !objects.is_empty() || !sealed.is_empty() {
            self.objects_wanted.notify_one();
        }
        if due || !sealed.is_empty() || !dead_files.is_empty() || !objects.is_empty() || self.is_checkpoint_due() {
            self.maintenance.notify_one();
        }
    }
}
