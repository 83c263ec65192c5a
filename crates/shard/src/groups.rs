//! The groups whose slots are on this shard, and their committed offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::{DecodeError, Reader, Wire, wire_struct};
use crate::model::{CommittedOffset, GroupRecord, GroupVersion, OffsetKey};
use crate::table::{Record, Table};
use crate::tenures::SlotTenure;

/// A group that has a record, offsets or both.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: Arc<str>,
    /// Names the group in the table of offsets; never reused.
    pub(crate) number: u64,
    pub(crate) version: GroupVersion,
    pub(crate) record: Option<Arc<GroupRecord>>,
    /// Derived: the slots of its offsets.
    pub(crate) offsets: BTreeMap<OffsetKey, u32>,
}

impl Wire for Arc<str> {
    const BYTES_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.len()).expect("a name is far shorter than 4 GiB");
        length.put(out);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        String::take(input).map(Self::from)
    }
}

impl Wire for Group {
    const BYTES_MIN: usize = 21;
    fn put(&self, out: &mut Vec<u8>) {
        self.id.put(out);
        self.number.put(out);
        self.version.put(out);
        self.record.is_some().put(out);
        if let Some(record) = &self.record {
            record.put(out);
        }
    }
    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: Wire::take(input)?,
            number: Wire::take(input)?,
            version: Wire::take(input)?,
            record: <Option<GroupRecord> as Wire>::take(input)?.map(Arc::new),
            offsets: BTreeMap::new(),
        })
    }
}

impl Record for Group {
    type Key = Arc<str>;
    const TABLE: u8 = 5;
    fn key(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }
}

#[derive(Debug)]
pub(crate) struct StoredOffset {
    pub(crate) group: u64,
    pub(crate) committed: CommittedOffset,
}

wire_struct!(StoredOffset { group: u64, committed: CommittedOffset });

impl Record for StoredOffset {
    type Key = (u64, OffsetKey);
    const TABLE: u8 = 6;
    fn key(&self) -> Self::Key {
        (self.group, self.committed.key())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) table: Table<Group>,
    pub(crate) offsets: Table<StoredOffset>,
    /// Of slots that ever came here or left.
    pub(crate) tenures: Table<SlotTenure>,
}

impl Groups {
    pub(crate) fn get(&self, group_id: &str) -> Option<&Group> {
        self.table.get(&Arc::from(group_id))
    }

    pub(crate) fn slot(&self, group_id: &str) -> Option<u32> {
        self.table.slot(&Arc::from(group_id))
    }

    /// The slot of the group, which is made if there is none.
    pub(crate) fn slot_or_insert(&mut self, group_id: &str, next_number: &mut u64) -> u32 {
        if let Some(slot) = self.slot(group_id) {
            return slot;
        }
        let number = *next_number;
        *next_number += 1;
        self.table.insert(Group {
            id: Arc::from(group_id),
            number,
            version: GroupVersion(0),
            record: None,
            offsets: BTreeMap::new(),
        })
    }

    /// Stores a position of the group in that slot.
    pub(crate) fn commit(&mut self, slot: u32, committed: CommittedOffset) {
        let key = committed.key();
        let Some(group) = self.table.derived_mut(slot) else { return };
        let stored = StoredOffset { group: group.number, committed };
        match group.offsets.get(&key) {
            Some(offset) => {
                if let Some(old) = self.offsets.change(*offset) {
                    *old = stored;
                }
            }
            None => {
                let offset = self.offsets.insert(stored);
                group.offsets.insert(key, offset);
            }
        }
    }

    /// Removes the positions of the group in that slot for which `which` holds, and the group itself if nothing is
    /// left of it.
    pub(crate) fn remove_offsets(&mut self, slot: u32, which: impl Fn(&OffsetKey) -> bool) -> u32 {
        let Some(group) = self.table.derived_mut(slot) else { return 0 };
        let number = group.number;
        let mut removed = Vec::new();
        group.offsets.retain(|key, _| {
            let remove = which(key);
            if remove {
                removed.push(*key);
            }
            !remove
        });
        let gone = group.record.is_none() && group.offsets.is_empty();
        let id = Arc::clone(&group.id);
        for key in &removed {
            self.offsets.remove(&(number, *key));
        }
        if gone {
            self.table.remove(&id);
        }
        u32::try_from(removed.len()).unwrap_or(u32::MAX)
    }

    /// After a restore: finds the offsets of each group; those of a group that is not there are an error.
    pub(crate) fn relink(&mut self) -> Result<(), DecodeError> {
        let numbers: BTreeMap<u64, u32> = self.table.iter().map(|(slot, group)| (group.number, slot)).collect();
        for (slot, stored) in self.offsets.iter() {
            let group = numbers.get(&stored.group).and_then(|group| self.table.derived_mut(*group));
            let group = group.ok_or(DecodeError::Value { what: "the group of an offset", value: stored.group })?;
            group.offsets.insert(stored.committed.key(), slot);
        }
        Ok(())
    }
}
