//! What a shard still takes when the disk is full, or those of so many voters that no majority could keep more.
//!
//! Data is refused. What frees room always passes, and what the shard or the node needs to go on: a start writes a few
//! entries, and must not be refused where it is needed to free room. Groups and their offsets pass,
//! too, out of the space that is kept free: consumers must be able to join and to commit, or nobody could read what
//! would make room. What they take of it is limited, so that it is never used up.
//!
//! A follower takes what others have until half of the reserve is used. From then on it goes by the same rules: it refuses the
//! first entry with data, and with it all that come behind, and counts like one that is away; where there are no data,
//! entries pass, so that a majority of full disks can still free room. The rest is for votes and the metadata.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use base::time::Duration;
use shard::{Command, EntryCommands};
use storage::{DiskState, Payload};
use tokio::sync::watch;

use crate::core::Core;
use crate::proposer::Item;

/// What was deleted has gone from a full disk so soon.
const CHECKPOINT_AGE_WHEN_FULL: Duration = Duration::from_secs(3);
/// An entry takes at least this of the log.
const ENTRY_BYTES_MIN: u64 = 512;

/// Whether the disk is full, here or elsewhere, and what is left for groups.
#[derive(Debug)]
pub(crate) struct FullDisk {
    full: AtomicBool,
    /// Too few of the voters have room.
    elsewhere: AtomicBool,
    bytes_left: AtomicU64,
    bytes_max: u64,
}

impl FullDisk {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            full: AtomicBool::new(false),
            elsewhere: AtomicBool::new(false),
            bytes_left: AtomicU64::new(bytes_max),
            bytes_max,
        }
    }

    /// Whether the disk is full here.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    pub(crate) fn refuses_data(&self) -> bool {
        self.is_full() || self.elsewhere.load(Ordering::Acquire)
    }

    /// Returns whether that is news.
    pub(crate) fn set(&self, full: bool) -> bool {
        let before = self.full.swap(full, Ordering::AcqRel);
        self.begin_anew();
        before != full
    }

    /// Too few of the voters have room, or enough. Returns whether that is news.
    pub(crate) fn set_elsewhere(&self, full: bool) -> bool {
        let before = self.elsewhere.swap(full, Ordering::AcqRel);
        self.begin_anew();
        before != full
    }

    fn begin_anew(&self) {
        if !self.refuses_data() {
            self.bytes_left.store(self.bytes_max, Ordering::Release);
        }
    }

    /// Whether all of `items` may be proposed now; takes what they need.
    pub(crate) fn admits(&self, items: &[Item]) -> bool {
        if !self.refuses_data() {
            return true;
        }
        let mut bytes = 0;
        for item in items {
            match need(&item.command) {
                Need::Nothing => {}
                Need::Room => return false,
                Need::Little => bytes += (item.bytes() as u64).max(ENTRY_BYTES_MIN),
            }
        }
        self.take(bytes)
    }

    /// Whether entries with these payloads, which others have, are taken over; takes what they need.
    pub(crate) fn takes_over<'a>(&self, state: DiskState, payloads: impl Iterator<Item = &'a Payload>) -> bool {
        if state < DiskState::Scarce {
            return true;
        }
        let mut bytes = 0;
        for payload in payloads {
            match need_of_entry(payload) {
                Need::Nothing => {}
                Need::Little if state == DiskState::Scarce => bytes += (payload.len() as u64).max(ENTRY_BYTES_MIN),
                Need::Little | Need::Room => return false,
            }
        }
        self.take(bytes)
    }

    fn take(&self, bytes: u64) -> bool {
        let take = |left: u64| left.checked_sub(bytes);
        self.bytes_left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }
}

impl Core {
    /// What was applied is in a checkpoint after this time: only then does the log let go of what was deleted, which is urgent
    /// when a disk is full.
    pub(crate) fn checkpoint_age_max(&self) -> Duration {
        let age_max = self.config.checkpoint_age_max;
        if self.full_disk.refuses_data() { age_max.min(CHECKPOINT_AGE_WHEN_FULL) } else { age_max }
    }
}

/// What the neediest of an entry's commands needs.
fn need_of_entry(payload: &Payload) -> Need {
    let bytes = payload.to_bytes();
    let Ok(mut commands) = EntryCommands::parse(&bytes) else { return Need::Room };
    let mut neediest = Need::Nothing;
    while let Ok(Some(placed)) = commands.next_command() {
        neediest = neediest.max(need(&placed.command));
    }
    neediest
}

/// What a command needs to be let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// It frees room, or the shard cannot go on without it.
    Nothing,
    /// It takes a little, and consumers cannot go on without it.
    Little,
    Room,
}

fn need(command: &Command) -> Need {
    match command {
        // It asks for a place; what comes behind it has left the shard where it was.
        Command::ReceiveStream(stream) if stream.producers.is_empty() && stream.open.is_none() => Need::Room,
        Command::DeleteStreams(_)
        | Command::DeleteRecords(_)
        | Command::SetLogStart(_)
        | Command::AbandonParts(_)
        | Command::Seal(_)
        | Command::PutObject(_)
        | Command::PutCompacted(_)
        | Command::LeaderChange(_)
        | Command::ExpireProducers(_)
        | Command::Tick(_)
        | Command::DeleteGroup(_)
        | Command::DeleteOffsets(_)
        | Command::DeleteTopics(_)
        | Command::CompleteDeletion(_)
        | Command::CompleteTopics(_)
        | Command::CompletePartitions(_)
        | Command::CreateCluster(_)
        | Command::PutShards(_)
        | Command::AssignSlots(_)
        | Command::RegisterNode(_)
        | Command::AdmitNode(_)
        | Command::AnnounceNode(_)
        | Command::SetStanding(_)
        | Command::OpenShards(_)
        | Command::CompleteShards(_)
        | Command::CloseSlots(_)
        | Command::CompleteSlots(_)
        | Command::DropSlots(_)
        | Command::CloseStream(_)
        | Command::ReceiveStream(_)
        | Command::CompleteMove(_)
        | Command::CancelMove(_)
        | Command::RaiseFeatures(_)
        | Command::SetCopies(_)
        | Command::SetRebalancing(_)
        | Command::AbandonTopics(_)
        | Command::SkipIds(_)
        | Command::Configure(_) => Need::Nothing,
        // Groups that are on their way have left the shard where they were.
        Command::PutGroup(_) | Command::CommitOffsets(_) | Command::ReceiveGroups(_) => Need::Little,
        // Nobody could write elsewhere without one either, and one has many.
        Command::AllocateProducerIds(_) => Need::Little,
        _ => Need::Room,
    }
}

/// Takes over what the log says of its disk, until the log is gone.
pub(crate) async fn follow(core: Arc<Core>, mut disk_state: watch::Receiver<DiskState>) {
    loop {
        let full = disk_state.borrow_and_update().is_full();
        if core.full_disk.set(full) {
            let shard = core.config.shard.0;
            if full {
                // What is held for members that pull may be what fills it.
                core.pins.let_go();
                core.maintenance.notify_one();
                tracing::warn!(
                    shard,
                    "the disk is full: appends are refused until there is room, groups go on for a while"
                );
            } else {
                tracing::info!(shard, "the disk has room again: appends are taken");
            }
        }
        if disk_state.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use record::TimestampMs;
    use shard::EntryBuilder;
    use shard::commands::{CommitOffsets, DeleteGroup, StagePart, UploadId};

    use super::*;
    use crate::pending::Pending;

    fn item(command: impl Into<Command>) -> Item {
        let (answer, _pending) = Pending::new();
        Item::without_body(command.into(), 1 << 20, answer).expect("small")
    }

    fn commit() -> Item {
        item(CommitOffsets { group_id: "g".to_owned(), check: None, offsets: Vec::new() })
    }

    #[test]
    fn groups_take_only_so_much_of_a_full_disk_until_there_is_room_again() {
        let disk = FullDisk::new(2 * ENTRY_BYTES_MIN);
        assert!((0..10).all(|_| disk.admits(&[commit()])), "there is room");
        assert!(disk.set(true));
        assert!(!disk.set(true), "no news");
        assert!(disk.admits(&[commit()]) && disk.admits(&[commit()]));
        assert!(!disk.admits(&[commit()]), "its part is used up");
        assert!(disk.admits(&[item(DeleteGroup { group_id: "g".to_owned() })]), "what frees room always passes");
        assert!(disk.set(false));
        assert!(disk.set(true));
        assert!(disk.admits(&[commit()]), "it begins anew");
    }

    fn entry(commands: &[Command]) -> Payload {
        let mut builder = EntryBuilder::new();
        for command in commands {
            let body = vec![0; command.body_bytes() as usize];
            builder.push(command, Some(Bytes::from(body)));
        }
        Payload::from(builder.finish(TimestampMs(0)))
    }

    #[test]
    fn what_others_have_is_taken_without_data_when_space_is_scarce() {
        let data: Command = StagePart { upload: UploadId(1), part: 0, body_bytes: 1 }.into();
        let commit = || entry(&[CommitOffsets { group_id: "g".to_owned(), check: None, offsets: Vec::new() }.into()]);
        let delete = || entry(&[DeleteGroup { group_id: "g".to_owned() }.into()]);
        let mixed = entry(&[DeleteGroup { group_id: "g".to_owned() }.into(), data.clone()]);
        let data = entry(&[data]);
        let disk = FullDisk::new(ENTRY_BYTES_MIN);
        disk.set(true);
        let takes = |state, entries: &[&Payload]| disk.takes_over(state, entries.iter().copied());
        assert!(takes(DiskState::Full, &[&data, &commit(), &delete(), &mixed]), "half of the reserve is there yet");
        for refused in [&data, &mixed] {
            assert!(!takes(DiskState::Scarce, &[&delete(), refused]));
        }
        assert!(!takes(DiskState::Exhausted, &[&commit()]));
        assert!(takes(DiskState::Scarce, &[&delete(), &commit()]));
        assert!(!takes(DiskState::Scarce, &[&commit()]), "its part is used up");
        assert!(takes(DiskState::Exhausted, &[&delete()]), "what frees room always passes");
        disk.set(false);
        disk.set(true);
        assert!(takes(DiskState::Scarce, &[&commit()]), "it begins anew");
    }
}
